//! A unit in the hand of one request, from the decision to what the shop made of it.

use std::sync::Arc;

use super::{
    answer::Waiting,
    ledger::{Buyer, Denied, HoldId, Outcome, Want},
    pace::clock_s,
    stock::Stock,
};
use crate::{
    route::Needs,
    rule::sale_window::{Phase, Sale},
    time::Now,
    verdict::{Reason, Verdict},
};

/// A unit of a sale that a request may sell. In flight: [`Held::end`] must be told what became of it.
#[derive(Clone, Debug)]
pub struct Held {
    stock: Arc<Stock>,
    /// Its number in the sale.
    pub id: HoldId,
    /// The room's clock is that far ahead of the process's.
    base_s: u32,
}

impl Held {
    /// Takes the holder's unit, or a new one, as the route says.
    pub(super) fn take(
        (sale, stock): &(Sale, Arc<Stock>),
        buyer: Buyer,
        needs: &Needs,
        method: &str,
        (now, now_s): (Now, u32),
        sold_out: impl Fn() -> Waiting,
    ) -> Result<Held, (Verdict, Reason)> {
        match sale.phase(now) {
            Phase::Open => {}
            Phase::Closed => return Err((Verdict::Refuse { retry_after_s: None }, sale.over())),
            Phase::Before | Phase::Prequeue => {
                let opens_in_s = (sale.opens_ms - now.wall_ms).div_ceil(1000);
                let retry_after_s = Some(u32::try_from(opens_in_s).unwrap_or(u32::MAX).max(1));
                return Err((Verdict::Refuse { retry_after_s }, Reason::SaleNotOpen));
            }
        }
        let want = Want {
            units: needs.units,
            per_visitor_max: sale.per_visitor_max,
            may_take: needs.take_on.iter().any(|m| m == method),
            expires_s: now_s.saturating_add(needs.expires.secs_ceil() as u32),
        };
        let id = stock.begin(buyer, want, now_s).map_err(|denied| opinion(denied, sold_out))?;
        Ok(Held { stock: stock.clone(), id, base_s: now_s.saturating_sub(clock_s(now)) })
    }

    /// The units it is one of.
    pub fn stock(&self) -> &Arc<Stock> {
        &self.stock
    }

    /// What became of the request. Counts once.
    pub fn end(&self, outcome: Outcome, now: Now) {
        self.stock.end(self.id, outcome, clock_s(now).saturating_add(self.base_s));
    }
}

fn opinion(denied: Denied, sold_out: impl Fn() -> Waiting) -> (Verdict, Reason) {
    let refuse = |retry_after_s| Verdict::Refuse { retry_after_s };
    match denied {
        Denied::SoldOut => (Verdict::SoldOut(Box::new(sold_out())), Reason::StockGone),
        Denied::AllHeld { retry_after_s } => (refuse(Some(retry_after_s)), Reason::AllHeld),
        Denied::InFlight => (refuse(None), Reason::HoldInFlight),
        Denied::NoHold => (refuse(None), Reason::NoHold),
        Denied::VisitorLimit => (refuse(None), Reason::VisitorLimit),
    }
}
