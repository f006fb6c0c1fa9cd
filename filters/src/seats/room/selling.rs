//! The stock of a room's sales: units for requests, what the shop sold, seats that give theirs back.

use std::sync::{Arc, atomic::Ordering};

use super::{Room, Stage, Waiting};
use crate::{
    route::Needs,
    rule::{
        pass::token_for,
        sale_window::{Phase, Sale},
    },
    seats::{
        hold::Held,
        ledger::{Buyer, Holder},
        line::{Claimed, Terms},
        pace::SOLD_OUT_POLL_S,
        seat::SeatRef,
        stock::Stock,
        token::{Kind, Token},
    },
    time::Now,
    verdict::{Reason, Verdict},
    visit::{Visit, VisitorId},
};

impl Room {
    /// The shop reported units sold by a request that held none.
    pub fn sold(&self, units: u32, now: Now) {
        if let Some((_, stock)) = self.current_sale(now) {
            stock.with(|l| l.elsewhere(u64::from(units)));
        }
    }

    /// The units of one of its sales.
    pub fn stock(&self, sale: &str) -> Option<&Arc<Stock>> {
        self.sales.iter().find(|(s, _)| *s.name == *sale).map(|(_, stock)| stock)
    }

    /// Its sales.
    pub fn sales(&self) -> impl Iterator<Item = &Sale> {
        self.sales.iter().map(|(s, _)| s)
    }

    /// A unit of a sale for a visit of this holder that is about to be sent to the shop.
    pub fn hold(&self, visit: &Visit<'_>, holder: Holder, needs: &Needs, now: Now) -> Result<Held, (Verdict, Reason)> {
        let Some(sale) = self.sales.iter().find(|(s, _)| *s.name == *needs.hold) else {
            return Err((Verdict::Refuse { retry_after_s: None }, Reason::NoHold));
        };
        // The shop's own name for somebody says more than our cookie.
        let buyer = Buyer { holder, visitor: visit.identity.map(VisitorId).or(visit.visitor) };
        Held::take(sale, buyer, needs, visit.method, (now, self.clock_s(now)), || self.nothing_left(&sale.1))
    }

    /// A tick of the line: where a place is worth a unit, no more seats than units that nobody has reserved, and each with one.
    pub(super) fn give_out(&self, now: Now, now_s: u32, terms: Terms) -> Vec<Claimed> {
        let s = &self.state;
        let tick = |terms| s.line.tick(now_s, now, terms, &s.seats, &s.bucket);
        let Some((sale, stock)) = self.reserving(now) else {
            s.all_reserved.store(false, Ordering::Release);
            return tick(terms);
        };
        // Under one lock: a unit that a checkout takes meanwhile would be promised twice.
        stock.with(|ledger| {
            let answers = tick(Terms { units: ledger.spare_lots(), ..terms });
            let until_s = now_s.saturating_add(sale.reserve_s);
            answers.iter().filter_map(|c| c.seat).for_each(|seat| ledger.reserve(Holder::seat(seat), until_s));
            s.all_reserved.store(ledger.spare_lots() == 0, Ordering::Release);
            answers
        })
    }

    /// After a restart: people who came in lately have a unit again. Once a sale's ledger was read back.
    pub fn reserve_again(&self, now: Now) {
        let Some((sale, stock)) = self.reserving(now) else { return };
        let (now_s, age_max_s) = (self.clock_s(now), self.settings.seats.pass_age_max.secs_ceil() as u32);
        let until = |ends_s: u32| ends_s.saturating_sub(age_max_s).saturating_add(sale.reserve_s);
        let claimed = self.state.seats.claimed(now_s).into_iter().map(|(seat, ends_s)| (seat, until(ends_s)));
        stock.with(|l| claimed.filter(|(_, s)| *s > now_s).for_each(|(seat, s)| l.reserve(Holder::seat(seat), s)));
    }

    /// The sale that is on, where each seat comes with a unit.
    pub(super) fn reserving(&self, now: Now) -> Option<&(Sale, Arc<Stock>)> {
        self.current_sale(now).filter(|(sale, _)| sale.reserve_s > 0 && sale.stock.is_some())
    }

    /// Revokes a seat at once; a unit it held is free again.
    pub fn revoke(&self, seat: SeatRef) -> bool {
        let released = self.state.seats.release(seat);
        if released {
            self.unit_back(seat);
        }
        released
    }

    /// A seat is given back: a unit it held is free again.
    pub(super) fn unit_back(&self, seat: SeatRef) {
        self.sales.iter().for_each(|(_, stock)| stock.with(|l| l.leave(Holder::seat(seat))));
    }

    /// Holds run out, and what passes come to is measured anew.
    pub(super) fn stock_second(&self, now: Now) {
        let seats = &self.state.seats;
        let now_s = self.clock_s(now);
        let gone = |h: Holder| matches!(h, Holder::Seat(bits) if !seats.is_live(SeatRef::from_bits(bits), now_s));
        self.sales.iter().for_each(|(_, stock)| stock.with(|l| l.expire(now_s, gone)));
        if let Some((sale, stock)) = self.current_sale(now).filter(|(s, _)| s.phase(now) == Phase::Open)
            && sale.stock.is_some()
        {
            let given = self.state.line.counts().1 + self.state.walk_ins.load(Ordering::Acquire);
            stock.foresee(given, seats.live().into());
        }
    }

    pub(in crate::seats) fn current_sale(&self, now: Now) -> Option<&(Sale, Arc<Stock>)> {
        self.sales.iter().find(|(s, _)| matches!(s.phase(now), Phase::Prequeue | Phase::Open))
    }

    pub(super) fn sold_out(&self, now: Now) -> bool {
        self.gone(now).is_some()
    }

    /// The stock of the sale that is on, when nothing of it is left.
    pub(super) fn gone(&self, now: Now) -> Option<&Stock> {
        self.current_sale(now).and_then(gone_of)
    }

    /// What somebody without a place is told: none are given while nothing is left.
    pub(super) fn nothing_left(&self, stock: &Stock) -> Waiting {
        self.without_place(sold_out_stage(stock), SOLD_OUT_POLL_S)
    }

    /// The sale of the visit's ticket where that sale was called off, and the ticket: whoever waited or entered is to be told.
    pub fn called_off<'v>(&self, visit: &Visit<'v>, now: Now) -> Option<(&Sale, &'v Token)> {
        self.sales().filter(|s| s.cancelled).find_map(|sale| {
            let ticket = token_for(visit, Kind::Ticket, self.name(), self.epoch(), Some(&sale.name), now)?;
            (*ticket.sale == *sale.name && !self.is_elsewhere(ticket, visit, now)).then_some((sale, ticket))
        })
    }
}

/// The stock of a sale of which nothing is left.
pub(super) fn gone_of((sale, stock): &(Sale, Arc<Stock>)) -> Option<&Stock> {
    (sale.stock.is_some() && stock.is_gone()).then_some(stock)
}

/// What those who ask are told of it.
pub(super) fn sold_out_stage(stock: &Stock) -> Stage {
    Stage::SoldOut { undecided: stock.is_undecided() }
}
