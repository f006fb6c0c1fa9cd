//! The ledger beside a plain list of units, one entry each, on random traces: the list says what must be.
#![allow(clippy::expect_used)]

use proptest::prelude::*;

use super::*;
use crate::visit::VisitorId;

#[derive(Clone, Debug)]
enum Step {
    Begin { pass: u64, visitor: Option<u64>, units: u32, max: Option<u32>, may_take: bool },
    End(usize, Outcome),
    Resolve(usize, Option<u32>),
    Elsewhere(u64),
    Ask(u64),
    Restock(i64),
    Reserve(u64),
    Leave(u64),
    Clock { seconds: u32, gone: Option<u64> },
    Restart,
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => (0u32..3).prop_map(Outcome::Sold),
        2 => Just(Outcome::NotSold),
        1 => Just(Outcome::NotSent),
        1 => Just(Outcome::Lost),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let max = prop_oneof![Just(None), (1u32..4).prop_map(Some)];
    let begin = (0u64..6, prop::option::of(0u64..4), 1u32..3, max, prop::bool::weighted(0.9));
    prop_oneof![
        8 => begin.prop_map(|(pass, visitor, units, max, may_take)| Step::Begin { pass, visitor, units, max, may_take }),
        8 => (any::<usize>(), outcome()).prop_map(|(n, o)| Step::End(n, o)),
        1 => (any::<usize>(), prop::option::of(0u32..3)).prop_map(|(n, s)| Step::Resolve(n, s)),
        1 => (1u64..3).prop_map(Step::Elsewhere),
        1 => (1u64..3).prop_map(Step::Ask),
        1 => (-3i64..4).prop_map(Step::Restock),
        3 => (0u64..6).prop_map(Step::Reserve),
        1 => (0u64..6).prop_map(Step::Leave),
        3 => (0u32..8, prop::option::of(0u64..6)).prop_map(|(seconds, gone)| Step::Clock { seconds, gone }),
        1 => Just(Step::Restart),
    ]
}

/// One unit of the list.
#[derive(Clone, Copy, Debug, PartialEq)]
enum One {
    Free,
    Of(HoldId, Unit),
    Sold,
}

/// The list, and what is known of holds: pass, visitor, end.
#[derive(Clone, Default)]
struct List {
    units: Vec<One>,
    holds: BTreeMap<HoldId, (u64, Option<u64>, u32)>,
    bought: Vec<(u64, Option<u64>, u32)>,
    /// For whom a unit is set aside, until when.
    reserved: BTreeMap<u64, u32>,
    /// Sold by others, or more than was asked for, when there was no unit for it.
    over: u64,
    /// Facts from outside came: what is committed may be more than the stock.
    forced: bool,
}

impl List {
    fn count(&self, what: impl Fn(&One) -> bool) -> u64 {
        self.units.iter().filter(|u| what(u)).count() as u64
    }

    /// A unit is set aside for this one, and not in a hold.
    fn waits(&self, pass: u64) -> bool {
        let has_hold = |(id, h): (&HoldId, &(u64, Option<u64>, u32))| h.0 == pass && self.unit_of(*id).is_some();
        self.reserved.contains_key(&pass) && !self.holds.iter().any(has_hold)
    }

    /// Free units that are set aside for nobody.
    fn spare(&self) -> u64 {
        let aside = self.reserved.keys().filter(|p| self.waits(**p)).count() as u64;
        self.count(|u| *u == One::Free).saturating_sub(aside)
    }

    fn unit_of(&self, id: HoldId) -> Option<Unit> {
        self.units.iter().find_map(|u| match u {
            One::Of(i, unit) if *i == id => Some(*unit),
            _ => None,
        })
    }

    fn of_pass(&self, pass: u64) -> Option<(HoldId, Unit)> {
        let open = |id: &HoldId| self.unit_of(*id).filter(|u| *u != Unit::Uncertain).map(|u| (*id, u));
        self.holds.iter().filter(|(_, h)| h.0 == pass).find_map(|(id, _)| open(id))
    }

    fn put(&mut self, id: HoldId, to: One) {
        for u in self.units.iter_mut().filter(|u| matches!(u, One::Of(i, _) if *i == id)) {
            *u = to;
        }
    }

    fn take(&mut self, n: u32, to: One) {
        for _ in 0..n {
            match self.units.iter_mut().find(|u| **u == One::Free) {
                Some(u) => *u = to,
                None => self.over += 1,
            }
        }
        self.repay();
    }

    fn sell(&mut self, id: HoldId, n: u32) {
        let size = self.count(|u| matches!(u, One::Of(i, _) if *i == id)) as u32;
        let (pass, visitor, _) = self.holds[&id];
        self.put(id, One::Free);
        self.reserved.remove(&pass);
        self.bought.push((pass, visitor, n));
        self.forced |= n > size;
        self.take(n, One::Sold);
    }

    /// What was sold beyond the stock takes free units, else those of the last hold that is not at the shop.
    fn repay(&mut self) {
        while self.over > 0 {
            if let Some(u) = self.units.iter_mut().find(|u| **u == One::Free) {
                (*u, self.over) = (One::Sold, self.over - 1);
                continue;
            }
            let held = self.units.iter().filter_map(|u| match u {
                One::Of(id, Unit::Held) => Some(*id),
                _ => None,
            });
            let Some(last) = held.max() else { return };
            self.put(last, One::Free);
        }
    }

    fn units_of(&self, is: impl Fn(u64, Option<u64>) -> bool) -> u64 {
        let open = |id: HoldId| self.holds.get(&id).is_some_and(|h| is(h.0, h.1));
        let held = self.count(|u| matches!(u, One::Of(id, _) if open(*id)));
        held + self.bought.iter().filter(|b| is(b.0, b.1)).map(|b| u64::from(b.2)).sum::<u64>()
    }
}

struct World {
    ledger: Ledger,
    /// Replayed from the log of the other.
    shadow: Ledger,
    list: List,
    now_s: u32,
    ids: Vec<HoldId>,
    freed_early: Vec<HoldId>,
}

const KEEP_S: u32 = 10;
const STOCK: u64 = 5;

impl World {
    fn new() -> Self {
        let mut ledger = Ledger::new(Some(STOCK), 1);
        ledger.take_changes();
        let list = List { units: vec![One::Free; STOCK as usize], ..List::default() };
        World { ledger, shadow: Ledger::new(Some(STOCK), 1), list, now_s: 1, ids: vec![], freed_early: vec![] }
    }

    fn some(&self, n: usize) -> Option<HoldId> {
        (!self.ids.is_empty()).then(|| self.ids[n % self.ids.len()])
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Begin { pass, visitor, units, max, may_take } => self.begin(pass, visitor, units, max, may_take)?,
            Step::End(n, outcome) => self.end(n, outcome),
            Step::Resolve(n, sold) => {
                let Some(id) = self.some(n) else { return Ok(()) };
                let is = self.list.unit_of(id);
                prop_assert_eq!(self.ledger.resolve(id, sold), is.is_some());
                match (is, sold.filter(|n| *n > 0)) {
                    (None, _) => {}
                    (Some(_), Some(n)) => self.list.sell(id, n),
                    (Some(unit), None) => {
                        self.list.put(id, One::Free);
                        self.freed_early.extend((unit == Unit::InFlight).then_some(id));
                    }
                }
            }
            Step::Elsewhere(n) => {
                self.ledger.elsewhere(n);
                self.list.forced = true;
                self.list.take(n as u32, One::Sold);
            }
            Step::Ask(n) => {
                let free = self.list.spare();
                prop_assert_eq!(self.ledger.ask(n), if n <= free { Ok(()) } else { Err(free) });
                if n <= free {
                    self.list.take(n as u32, One::Sold);
                }
            }
            Step::Restock(by) => {
                let free = self.list.spare();
                let may = by >= 0 || by.unsigned_abs() <= free;
                prop_assert_eq!(self.ledger.restock(by), if may { Ok(()) } else { Err(free) });
                for _ in 0..if may { by.unsigned_abs() } else { 0 } {
                    match self.list.units.iter().position(|u| *u == One::Free) {
                        Some(i) if by < 0 => drop(self.list.units.remove(i)),
                        _ => self.list.units.push(One::Free),
                    }
                }
            }
            Step::Reserve(pass) => {
                self.ledger.reserve(Holder::Seat(pass), self.now_s + KEEP_S);
                if self.list.units_of(|p, _| p == pass) == 0 {
                    self.list.reserved.insert(pass, self.now_s + KEEP_S);
                }
            }
            Step::Leave(pass) => {
                self.list.reserved.remove(&pass);
                self.ledger.leave(Holder::Seat(pass));
                if let Some((id, Unit::Held)) = self.list.of_pass(pass) {
                    self.list.put(id, One::Free);
                }
            }
            Step::Clock { seconds, gone } => {
                self.now_s += seconds;
                self.ledger.expire(self.now_s, |h| gone.is_some_and(|g| h == Holder::Seat(g)));
                let over: Vec<HoldId> =
                    self.list.holds.iter().filter(|(_, h)| h.2 <= self.now_s || Some(h.0) == gone).map(|(id, _)| *id).collect();
                for id in over {
                    if self.list.unit_of(id) == Some(Unit::Held) {
                        self.list.put(id, One::Free);
                    }
                }
                self.list.reserved.retain(|pass, until_s| *until_s > self.now_s && Some(*pass) != gone);
            }
            Step::Restart => self.restart(),
        }
        self.list.repay();
        self.compare()
    }

    fn begin(
        &mut self,
        pass: u64,
        visitor: Option<u64>,
        units: u32,
        max: Option<u32>,
        may_take: bool,
    ) -> Result<(), TestCaseError> {
        let buyer = Buyer { holder: Holder::Seat(pass), visitor: visitor.map(VisitorId) };
        let want = Want { units, per_visitor_max: max, may_take, expires_s: self.now_s + KEEP_S };
        let got = self.ledger.begin(buyer, want, self.now_s);
        let mut expected = None;
        match self.list.of_pass(pass) {
            Some((_, Unit::InFlight)) => expected = Some(Err(Denied::InFlight)),
            Some((id, _)) if self.list.holds[&id].2 > self.now_s => {
                self.list.put(id, One::Of(id, Unit::InFlight));
                expected = Some(Ok(id));
            }
            Some((id, _)) => {
                self.list.put(id, One::Free);
                self.list.repay();
            }
            None => {}
        }
        let free = self.list.count(|u| *u == One::Free);
        let open = self.list.count(|u| matches!(u, One::Of(_, Unit::Held | Unit::InFlight)));
        let mine = self.list.units_of(|p, _| p == pass).max(self.list.units_of(|_, v| v.is_some() && v == visitor));
        let expected = expected.unwrap_or_else(|| match () {
            () if free == 0 && open == 0 => Err(Denied::SoldOut),
            () if !may_take => Err(Denied::NoHold),
            () if max.is_some_and(|m| mine + u64::from(units) > u64::from(m)) => Err(Denied::VisitorLimit),
            () if free.min(self.list.spare() + u64::from(self.list.waits(pass))) < u64::from(units) => {
                Err(Denied::AllHeld { retry_after_s: 1 })
            }
            () => Ok(HoldId(self.ids.len() as u64)),
        });
        match (got, expected) {
            (Err(Denied::AllHeld { retry_after_s }), Err(Denied::AllHeld { .. })) => {
                prop_assert!((1..=15).contains(&retry_after_s))
            }
            (got, expected) => prop_assert_eq!(got, expected),
        }
        if got == Err(Denied::VisitorLimit) {
            self.list.reserved.remove(&pass);
        }
        if let Ok(id) = got
            && !self.ids.contains(&id)
        {
            self.ids.push(id);
            self.list.holds.insert(id, (pass, visitor, self.now_s + KEEP_S));
            self.list.take(units, One::Of(id, Unit::InFlight));
        }
        Ok(())
    }

    fn end(&mut self, n: usize, outcome: Outcome) {
        let Some(id) = self.some(n) else { return };
        self.ledger.end(id, outcome, self.now_s);
        if let Some(i) = self.freed_early.iter().position(|f| *f == id) {
            self.freed_early.remove(i);
            if let Outcome::Sold(n) = outcome {
                self.list.forced |= n > 0;
                self.list.take(n, One::Sold);
            }
            return;
        }
        if self.list.unit_of(id) != Some(Unit::InFlight) {
            return;
        }
        match outcome {
            Outcome::Sold(n) if n > 0 => self.list.sell(id, n),
            Outcome::Lost => self.list.put(id, One::Of(id, Unit::Uncertain)),
            _ if self.list.holds[&id].2 <= self.now_s => self.list.put(id, One::Free),
            _ => self.list.put(id, One::Of(id, Unit::Held)),
        }
    }

    /// The process dies: what is left is the log. Requests on their way are never heard of again.
    fn restart(&mut self) {
        self.ledger.take_changes().iter().for_each(|c| self.shadow.apply(c));
        self.ledger = self.shadow.clone();
        self.ledger.take_changes();
        self.ledger.recover();
        self.freed_early.clear();
        self.list.reserved.clear();
        for u in &mut self.list.units {
            if let One::Of(id, Unit::InFlight) = *u {
                *u = One::Of(id, Unit::Uncertain);
            }
        }
    }

    fn compare(&mut self) -> Result<(), TestCaseError> {
        let (u, list) = (self.ledger.units(), &self.list);
        let of = |unit: Unit| list.count(|u| matches!(u, One::Of(_, is) if *is == unit));
        let sold = list.count(|u| *u == One::Sold) + list.over;
        prop_assert_eq!((u.stock, u.free), (Some(list.units.len() as u64), Some(list.count(|u| *u == One::Free))));
        prop_assert_eq!(u.reserved, u.free.unwrap_or(0) - list.spare());
        prop_assert_eq!((u.held, u.in_flight, u.uncertain), (of(Unit::Held), of(Unit::InFlight), of(Unit::Uncertain)));
        prop_assert_eq!((u.sold, u.over), (sold, list.over));
        let committed = u.sold + u.held + u.in_flight + u.uncertain;
        prop_assert!(list.forced || committed <= list.units.len() as u64, "{u:?}");
        prop_assert_eq!(self.ledger.is_gone(), u.free == Some(0) && u.held + u.in_flight == 0);
        self.ledger.take_changes().iter().for_each(|c| self.shadow.apply(c));
        let kept = Units { reserved: 0, ..self.ledger.units() };
        prop_assert_eq!(self.shadow.units(), kept, "the log is the ledger's memory");
        Ok(())
    }
}

proptest! {
    #[test]
    fn the_ledger_does_what_a_plain_list_would(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step)?;
        }
    }
}

#[cfg(feature = "sabotage")]
#[test]
fn the_list_sees_bugs() {
    use proptest::test_runner::{Config, TestRunner};

    use crate::sabotage::{Bug, in_this_thread};

    for bug in [Bug::StockNotChecked, Bug::HoldSentTwice, Bug::LostAnswerFrees, Bug::InFlightExpires, Bug::ReservedForNobody] {
        let config = Config { max_shrink_iters: 0, failure_persistence: None, ..Config::with_cases(256) };
        in_this_thread(Some(bug));
        let result = TestRunner::new(config).run(&prop::collection::vec(step(), 50..200), |steps| {
            let mut world = World::new();
            steps.iter().try_for_each(|s| world.take(s))
        });
        in_this_thread(None);
        assert!(result.is_err(), "{bug:?} goes unseen");
    }
}
