//! The units of one sale, as a plain machine of one thread: free → held → in flight → sold | free again | uncertain.
//!
//! `sold + held + in flight + uncertain ≤ stock` after every step, whatever the shop does: a unit that was sent to the shop
//! comes back only when the shop itself says that it was not sold, or an operator does. Everything that happens is a
//! [`Change`]; the same changes in the same order give the same ledger, so a log of them is its memory.

pub mod records;
mod reserve;
#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};

pub use self::words::*;
use self::{records::Dirty, reserve::Reserved};
use crate::sabotage::{self, Bug};

/// Units bought, and units that may yet be.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    open: u32,
    sold: u32,
}

/// The units of a sale.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    stock: Option<u64>,
    /// The policy's number, as far as the stock could follow it: a reload moves the stock by the difference to it.
    written: Option<u64>,
    /// The least units a hold takes: with fewer free nothing can be sold.
    lot: u32,
    next: u64,
    holds: BTreeMap<HoldId, Hold>,
    /// Holds that are held or in flight, by holder.
    current: BTreeMap<Holder, HoldId>,
    people: BTreeMap<Holder, Tally>,
    /// Of the free units.
    reserved: Reserved,
    held: u64,
    in_flight: u64,
    uncertain: u64,
    sold: u64,
    /// Freed by an operator while the request was still on its way.
    freed_early: BTreeSet<HoldId>,
    conversion: Conversion,
    buyers_inside: BTreeSet<Holder>,
    /// Since the last [`Ledger::take_changes`], when somebody wants them.
    changes: Option<Vec<Change>>,
    /// What differs from the last [`Ledger::take_dirty`], when somebody keeps it.
    dirty: Option<Dirty>,
}

impl Ledger {
    /// A sale with that many units; `lot` is the least a hold takes.
    pub fn new(stock: Option<u64>, lot: u32) -> Self {
        Ledger { stock, written: stock, lot: lot.max(1), ..Ledger::default() }
    }

    /// A unit for a request that is about to be sent: the buyer's own hold, or a new one. In flight from now on.
    pub fn begin(&mut self, buyer: Buyer, want: Want, now_s: u32) -> Result<HoldId, Denied> {
        if let Some(id) = self.current.get(&buyer.holder).copied() {
            let expired = self.holds.get(&id).is_none_or(|h| h.expires_s <= now_s);
            match self.holds.get(&id).map(|h| h.unit) {
                Some(Unit::InFlight) if !sabotage::is(Bug::HoldSentTwice) => return Err(Denied::InFlight),
                Some(Unit::Held | Unit::InFlight) if !expired => {
                    self.step(Change::Sent(id));
                    return Ok(id);
                }
                Some(Unit::Held) => self.step(Change::Freed(id)),
                _ => {}
            }
        }
        let units = want.units.max(1);
        if self.is_gone() {
            return Err(Denied::SoldOut);
        }
        if !want.may_take {
            return Err(Denied::NoHold);
        }
        if want.per_visitor_max.is_some_and(|max| self.units_of(&buyer) + units > max) {
            // What was set aside for another purchase is for somebody else.
            self.reserved.remove(buyer.holder);
            return Err(Denied::VisitorLimit);
        }
        if self.free_for(buyer.holder) < u64::from(units) && !sabotage::is(Bug::StockNotChecked) {
            return Err(Denied::AllHeld { retry_after_s: self.soonest(now_s) });
        }
        let id = HoldId(self.next);
        let expires_s = want.expires_s.min(now_s.saturating_add(HOLD_S_MAX));
        self.step(Change::Taken(id, Hold { buyer, units, unit: Unit::Held, since_s: now_s, expires_s }));
        self.step(Change::Sent(id));
        Ok(id)
    }

    /// What became of the request of a hold. Counts once; what comes later for the same request is known already.
    pub fn end(&mut self, id: HoldId, outcome: Outcome, now_s: u32) {
        if self.freed_early.remove(&id) {
            // An operator freed it while it was on its way, and was wrong.
            if let Outcome::Sold(n) = outcome {
                self.elsewhere(n.into());
            }
            return;
        }
        let Some(hold) = self.holds.get(&id).filter(|h| h.unit == Unit::InFlight).copied() else { return };
        match outcome {
            Outcome::Sold(n) if n > 0 => {
                self.step(Change::Sold(id, n));
                self.make_room();
            }
            Outcome::Lost if !sabotage::is(Bug::LostAnswerFrees) => self.step(Change::Lost(id)),
            _ => {
                self.step(Change::Back(id));
                if hold.expires_s <= now_s {
                    self.step(Change::Freed(id));
                }
                self.make_room();
            }
        }
    }

    /// Somebody who knows says what became of a hold: `Some(units)` sold, or not sold. `false`: there is no such hold.
    pub fn resolve(&mut self, id: HoldId, sold: Option<u32>) -> bool {
        let Some(hold) = self.holds.get(&id).copied() else { return false };
        match sold.filter(|n| *n > 0) {
            Some(n) => {
                self.step(Change::Sold(id, n));
                self.make_room();
            }
            None => {
                if hold.unit == Unit::InFlight {
                    self.freed_early.insert(id);
                }
                self.step(Change::Freed(id));
            }
        }
        true
    }

    /// Units sold without a hold, a fact: holds that are not at the shop are taken back to make room for it.
    pub fn elsewhere(&mut self, units: u64) {
        self.step(Change::Elsewhere(units));
        self.make_room();
    }

    /// Another channel asks before it sells: all units or none. `Err`: so many are free and nobody's.
    pub fn ask(&mut self, units: u64) -> Result<(), u64> {
        if self.spare() < units {
            return Err(self.spare());
        }
        self.step(Change::Elsewhere(units));
        Ok(())
    }

    /// Sets a lot aside for somebody who came in, until then: others cannot take it. Not for who has taken something already.
    pub fn reserve(&mut self, holder: Holder, until_s: u32) {
        if !self.people.contains_key(&holder) {
            self.reserved.set(holder, until_s);
        }
    }

    /// One for whom units are set aside has longer.
    pub fn reserve_longer(&mut self, holder: Holder, until_s: u32) {
        self.reserved.longer(holder, until_s);
    }

    /// Free units that nobody has reserved; `u64::MAX` when not limited.
    pub fn spare(&self) -> u64 {
        self.left_by(self.reserved.waiting())
    }

    /// More units, or fewer: only free ones that nobody has reserved can go. `Err`: so many are there.
    pub fn restock(&mut self, by: i64) -> Result<(), u64> {
        let Some(stock) = self.stock else { return Err(u64::MAX) };
        let new = match u64::try_from(by) {
            Ok(more) => stock.saturating_add(more).min(UNITS_MAX),
            Err(_) if self.spare() < by.unsigned_abs() => return Err(self.spare()),
            Err(_) => stock - by.unsigned_abs(),
        };
        self.step(Change::Stock(Some(new)));
        Ok(())
    }

    /// The policy's number changed: the stock moves by the difference, so that a number that is taken back leaves no trace. With
    /// fewer units than are committed none is free, holds not at the shop are taken back, and the rest is over.
    pub fn rewrite(&mut self, written: Option<u64>, lot: u32) {
        self.lot = lot.max(1);
        if written == self.written {
            return;
        }
        let (new, reached) = match (written, self.written, self.stock) {
            (Some(new), Some(old), Some(stock)) => {
                let moved = (stock + new).saturating_sub(old);
                // Where there was less to take away than was asked for, no more is given back later.
                (Some(moved), Some(old + moved - stock))
            }
            _ => (written, written),
        };
        self.written = reached;
        self.step(Change::Stock(new));
        self.make_room();
    }

    /// Frees holds that ran out, or whose holder is gone. Once a second.
    pub fn expire(&mut self, now_s: u32, gone: impl Fn(Holder) -> bool) {
        let over = |(holder, id): (&Holder, &HoldId)| {
            let hold = self.holds.get(id)?;
            let late = hold.expires_s <= now_s || gone(*holder);
            (late && (hold.unit == Unit::Held || sabotage::is(Bug::InFlightExpires))).then_some(*id)
        };
        let over: Vec<HoldId> = self.current.iter().filter_map(over).collect();
        over.into_iter().for_each(|id| self.step(Change::Freed(id)));
        self.buyers_inside.retain(|h| !gone(*h));
        self.reserved.expire(now_s, gone);
    }

    /// The holder goes: a hold that is not at the shop is free again, and nothing is set aside any more.
    pub fn leave(&mut self, holder: Holder) {
        self.reserved.remove(holder);
        let id = self.current.get(&holder).copied();
        if let Some(id) = id.filter(|id| self.holds.get(id).is_some_and(|h| h.unit == Unit::Held)) {
            self.step(Change::Freed(id));
        }
    }

    /// After a restart: what was at the shop then, nobody knows.
    pub fn recover(&mut self) {
        let at_shop: Vec<HoldId> = self.holds.iter().filter(|(_, h)| h.unit == Unit::InFlight).map(|(id, _)| *id).collect();
        at_shop.into_iter().for_each(|id| self.step(Change::Lost(id)));
    }

    /// Changes since the last call, in order; from the first call on they are kept.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.changes.replace(Vec::new()).unwrap_or_default()
    }

    /// Does what a change says. Changes that do not fit the state do nothing.
    pub fn apply(&mut self, change: &Change) {
        match *change {
            Change::Taken(id, hold) => self.taken(id, hold),
            Change::Sent(id) => self.move_to(id, Unit::InFlight),
            Change::Back(id) => self.move_to(id, Unit::Held),
            Change::Lost(id) => {
                self.move_to(id, Unit::Uncertain);
                self.forget_current(id);
            }
            Change::Freed(id) => {
                if let Some(hold) = self.remove(id) {
                    self.tally(&hold.buyer, |t| t.open -= hold.units);
                    self.conversion.holds_freed += 1;
                    self.reserved.holds(hold.buyer.holder, self.people.contains_key(&hold.buyer.holder));
                }
            }
            Change::Sold(id, n) => {
                if let Some(hold) = self.remove(id) {
                    self.reserved.remove(hold.buyer.holder);
                    self.sold += u64::from(n);
                    self.bought(&hold, n);
                }
            }
            Change::Elsewhere(n) => self.sold += n,
            Change::Stock(units) => self.stock = units,
        }
    }

    /// Units by state.
    pub fn units(&self) -> Units {
        let over = self.stock.map_or(0, |stock| self.committed().saturating_sub(stock));
        Units {
            stock: self.stock,
            free: self.stock.map(|_| self.free()),
            reserved: self.stock.map_or(0, |_| self.free() - self.spare()),
            held: self.held,
            in_flight: self.in_flight,
            uncertain: self.uncertain,
            sold: self.sold,
            over,
        }
    }

    /// A hold.
    pub fn hold(&self, id: HoldId) -> Option<&Hold> {
        self.holds.get(&id)
    }

    /// Holds nobody knows the end of, oldest first.
    pub fn uncertain(&self) -> impl Iterator<Item = (HoldId, &Hold)> {
        self.holds.iter().filter(|(_, h)| h.unit == Unit::Uncertain).map(|(id, h)| (*id, h))
    }

    /// How passes turned out.
    pub fn conversion(&self) -> Conversion {
        Conversion { buyers_inside: self.buyers_inside.len() as u64, ..self.conversion }
    }

    /// Units that can be taken; `u64::MAX` when not limited.
    pub fn free(&self) -> u64 {
        self.stock.map_or(u64::MAX, |stock| stock.saturating_sub(self.committed()))
    }

    /// Nothing can be taken, and nobody who shops can give anything back: only an operator can change it.
    pub fn is_gone(&self) -> bool {
        self.free() < u64::from(self.lot) && self.held + self.in_flight == 0
    }

    /// Units that are held or at the shop.
    pub fn open(&self) -> u64 {
        self.held + self.in_flight
    }

    /// People for whom there is a lot that nobody has reserved.
    pub fn spare_lots(&self) -> u32 {
        u32::try_from(self.spare() / u64::from(self.lot.max(1))).unwrap_or(u32::MAX)
    }

    /// Free units that this one may take: its own lot, and what is set aside for nobody. Where units went elsewhere and there are
    /// fewer than were set aside, those for whom they were take them in the order they come.
    fn free_for(&self, holder: Holder) -> u64 {
        let own = if self.reserved.is_for(holder) { u64::from(self.lot) } else { 0 };
        self.free().min(self.spare().saturating_add(own))
    }

    /// Free units when as many people take a lot each.
    fn left_by(&self, people: u64) -> u64 {
        let free = self.free();
        if free == u64::MAX || sabotage::is(Bug::ReservedForNobody) {
            free
        } else {
            free.saturating_sub(people * u64::from(self.lot))
        }
    }

    fn committed(&self) -> u64 {
        self.sold + self.held + self.in_flight + self.uncertain
    }

    fn step(&mut self, change: Change) {
        self.apply(&change);
        self.changes.iter_mut().for_each(|log| log.push(change));
        self.dirty.iter_mut().for_each(|d| d.changed = true);
    }

    fn taken(&mut self, id: HoldId, hold: Hold) {
        self.next = self.next.max(id.0 + 1);
        self.mark(id);
        self.holds.insert(id, hold);
        self.reserved.holds(hold.buyer.holder, true);
        self.current.insert(hold.buyer.holder, id);
        self.tally(&hold.buyer, |t| t.open += hold.units);
        self.held += u64::from(hold.units);
    }

    fn move_to(&mut self, id: HoldId, to: Unit) {
        self.mark(id);
        let Some(hold) = self.holds.get_mut(&id) else { return };
        let (from, units) = (std::mem::replace(&mut hold.unit, to), u64::from(hold.units));
        *self.count(from) -= units;
        *self.count(to) += units;
    }

    fn remove(&mut self, id: HoldId) -> Option<Hold> {
        let hold = self.holds.remove(&id)?;
        self.mark(id);
        *self.count(hold.unit) -= u64::from(hold.units);
        if self.current.get(&hold.buyer.holder) == Some(&id) {
            self.current.remove(&hold.buyer.holder);
        }
        Some(hold)
    }

    /// The holder may begin anew while its units are uncertain: they stay counted.
    fn forget_current(&mut self, id: HoldId) {
        if let Some(holder) = self.holds.get(&id).map(|h| h.buyer.holder)
            && self.current.get(&holder) == Some(&id)
        {
            self.current.remove(&holder);
        }
    }

    fn bought(&mut self, hold: &Hold, n: u32) {
        let first = self.people.get(&hold.buyer.holder).is_none_or(|t| t.sold == 0);
        if first {
            self.conversion.buyers += 1;
            self.buyers_inside.insert(hold.buyer.holder);
        }
        self.conversion.holds_sold += 1;
        if let Some(dirty) = &mut self.dirty {
            dirty.people.extend(names(&hold.buyer).into_iter().flatten());
        }
        self.tally(&hold.buyer, |t| (t.open, t.sold) = (t.open - hold.units, t.sold.saturating_add(n)));
    }

    /// For the pass and for the visitor.
    fn tally(&mut self, buyer: &Buyer, change: impl Fn(&mut Tally)) {
        for key in names(buyer).into_iter().flatten() {
            let tally = self.people.entry(key).or_default();
            change(tally);
            if (tally.open, tally.sold) == (0, 0) {
                self.people.remove(&key);
            }
        }
    }

    fn units_of(&self, buyer: &Buyer) -> u32 {
        let of = |key| self.people.get(&key).map_or(0, |t| t.open.saturating_add(t.sold));
        names(buyer).into_iter().flatten().map(of).max().unwrap_or(0)
    }

    /// Takes holds back, the last one first, until nothing more than the stock is committed.
    fn make_room(&mut self) {
        while self.stock.is_some_and(|stock| self.committed() > stock) {
            let last = self.holds.iter().rev().find(|(_, h)| h.unit == Unit::Held).map(|(id, _)| *id);
            let Some(id) = last else { return };
            self.step(Change::Freed(id));
        }
    }

    /// Seconds until one of some holds or reservations runs out: 1 to 15, since most come back long before.
    fn soonest(&self, now_s: u32) -> u32 {
        let holds = self.current.values().take(64).filter_map(|id| self.holds.get(id));
        let ends = holds.map(|h| h.expires_s).chain(self.reserved.soonest());
        ends.map(|s| s.saturating_sub(now_s)).min().unwrap_or(15).clamp(1, 15)
    }

    fn count(&mut self, unit: Unit) -> &mut u64 {
        match unit {
            Unit::Held => &mut self.held,
            Unit::InFlight => &mut self.in_flight,
            Unit::Uncertain => &mut self.uncertain,
        }
    }
}

fn names(buyer: &Buyer) -> [Option<Holder>; 2] {
    let visitor = buyer.visitor.map(Holder::Visitor).filter(|v| *v != buyer.holder);
    [Some(buyer.holder), visitor]
}
