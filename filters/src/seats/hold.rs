//! A unit in the hand of one request, from the decision to what the shop made of it.

use std::sync::Arc;

use super::{
    ledger::{Buyer, Denied, HoldId, Holder, Outcome, Want},
    pace::clock_s,
    stock::Stock,
};
use crate::{
    route::Needs,
    rule::sale_window::{Phase, Sale},
    time::Now,
    verdict::{Reason, Verdict},
    visit::Visit,
};

/// A unit of a sale that a request may sell. In flight: [`Held::end`] must be told what became of it.
#[derive(Clone, Debug)]
pub struct Held {
    stock: Arc<Stock>,
    /// Its number in the sale.
    pub id: HoldId,
}

impl Held {
    /// Takes the holder's unit, or a new one, as the route says.
    pub(super) fn take(
        sale: &Sale,
        stock: &Arc<Stock>,
        visit: &Visit<'_>,
        holder: Holder,
        needs: &Needs,
        now: Now,
    ) -> Result<Held, (Verdict, Reason)> {
        match sale.phase(now) {
            Phase::Open => {}
            Phase::Closed => return Err((Verdict::Refuse { retry_after_s: None }, Reason::SaleClosed)),
            Phase::Before | Phase::Prequeue => {
                let opens_in_s = (sale.opens_ms - now.wall_ms).div_ceil(1000);
                let retry_after_s = Some(u32::try_from(opens_in_s).unwrap_or(u32::MAX).max(1));
                return Err((Verdict::Refuse { retry_after_s }, Reason::SaleNotOpen));
            }
        }
        let want = Want {
            units: needs.units,
            per_visitor_max: sale.per_visitor_max,
            may_take: needs.take_on.iter().any(|m| m == visit.method),
            expires_s: clock_s(now).saturating_add(needs.expires.secs_ceil() as u32),
        };
        let buyer = Buyer { holder, visitor: visit.visitor };
        let id = stock.begin(buyer, want, clock_s(now)).map_err(opinion)?;
        Ok(Held { stock: stock.clone(), id })
    }

    /// What became of the request. Counts once.
    pub fn end(&self, outcome: Outcome, now: Now) {
        self.stock.end(self.id, outcome, clock_s(now));
    }
}

fn opinion(denied: Denied) -> (Verdict, Reason) {
    let refuse = |retry_after_s| Verdict::Refuse { retry_after_s };
    match denied {
        Denied::SoldOut => (Verdict::SoldOut, Reason::StockGone),
        Denied::AllHeld { retry_after_s } => (refuse(Some(retry_after_s)), Reason::AllHeld),
        Denied::InFlight => (refuse(None), Reason::HoldInFlight),
        Denied::NoHold => (refuse(None), Reason::NoHold),
        Denied::VisitorLimit => (refuse(None), Reason::VisitorLimit),
    }
}
