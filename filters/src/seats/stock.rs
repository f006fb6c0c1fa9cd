//! The units of a sale, shared by all visits: the [`Ledger`] behind a lock that only a checkout takes, and what everybody
//! else asks, in atomics.
//!
//! Taking a unit is serial by nature: all holds of a sale come out of one number, and their order in the log must be the
//! order they happened in. A visit that only looks never waits; neither does a checkout once everything is gone.

use super::{
    chance::Outlook,
    ledger::{Buyer, Denied, HoldId, Ledger, Outcome, Units, Want},
    sync::{AtomicU64, Mutex, MutexGuard, Ordering},
};

/// The units of a sale.
#[derive(Debug)]
pub struct Stock {
    ledger: Mutex<Ledger>,
    /// `free << 32 | held and in flight`, both cut to 32 bits, or [`GONE`], or [`UNDECIDED`]: read by every waiting visit.
    seen: AtomicU64,
    /// Units the sale has now; `u64::MAX` when not limited.
    all: AtomicU64,
    /// [`Outlook::to_bits`].
    outlook: [AtomicU64; 2],
    /// Passes that had been given before the sale; `u64::MAX` until it opens.
    given_before: AtomicU64,
}

/// Everything is sold.
const GONE: u64 = 0;
/// Nothing can be taken or given back, and of some units nobody knows. More units than a sale may have.
const UNDECIDED: u64 = u64::MAX;

impl Stock {
    /// A sale with that many units (`None`: not limited); `lot` is the least a hold takes.
    pub fn new(units: Option<u64>, lot: u32) -> Self {
        let ledger = Ledger::new(units, lot);
        let (seen, all) = (AtomicU64::new(seen(&ledger)), AtomicU64::new(units.unwrap_or(u64::MAX)));
        Stock {
            ledger: Mutex::new(ledger),
            seen,
            all,
            outlook: Outlook::default().to_bits().map(AtomicU64::new),
            given_before: AtomicU64::new(u64::MAX),
        }
    }

    /// Nothing is left, and nobody who shops can give anything back.
    pub fn is_gone(&self) -> bool {
        matches!(self.seen.load(Ordering::Acquire), GONE | UNDECIDED)
    }

    /// It is gone, but not all of it is surely sold.
    pub fn is_undecided(&self) -> bool {
        self.seen.load(Ordering::Acquire) == UNDECIDED
    }

    /// Units that can be taken, as far as 32 bits tell.
    pub fn free(&self) -> u32 {
        match self.seen.load(Ordering::Acquire) {
            UNDECIDED => 0,
            seen => (seen >> 32) as u32,
        }
    }

    /// Units the sale has, those that came back on sale included; `None`: not limited.
    pub fn all(&self) -> Option<u64> {
        Some(self.all.load(Ordering::Acquire)).filter(|n| *n != u64::MAX)
    }

    /// A unit for a request that is about to be sent; in flight from now on.
    pub fn begin(&self, buyer: Buyer, want: Want, now_s: u32) -> Result<HoldId, Denied> {
        if self.is_gone() {
            return Err(Denied::SoldOut);
        }
        self.with(|l| l.begin(buyer, want, now_s))
    }

    /// What became of it.
    pub fn end(&self, id: HoldId, outcome: Outcome, now_s: u32) {
        self.with(|l| l.end(id, outcome, now_s));
    }

    /// Units by state.
    pub fn units(&self) -> Units {
        self.lock().units()
    }

    /// Anything else; what it changes is seen by everybody when it returns.
    pub fn with<T>(&self, act: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledger = self.lock();
        let out = act(&mut ledger);
        // Under the lock: what is seen never goes back to an older state.
        self.seen.store(seen(&ledger), Ordering::Release);
        self.all.store(ledger.units().stock.unwrap_or(u64::MAX), Ordering::Release);
        out
    }

    /// What people ahead will probably take, as of the last [`Stock::foresee`].
    pub fn outlook(&self) -> Outlook {
        Outlook::from_bits([0, 1].map(|i| self.outlook[i].load(Ordering::Relaxed)))
    }

    /// Measures anew what passes come to: `given` were given so far, `live` are live. Once a second while the sale is on.
    pub fn foresee(&self, given: u64, live: u64) {
        if self.given_before.load(Ordering::Relaxed) == u64::MAX {
            self.given_before.store(given, Ordering::Relaxed);
        }
        let given = given.saturating_sub(self.given_before.load(Ordering::Relaxed));
        let outlook = {
            let ledger = self.lock();
            Outlook::measure(&ledger.conversion(), &ledger.units(), given, live)
        };
        for (word, bits) in self.outlook.iter().zip(outlook.to_bits()) {
            word.store(bits, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn seen(ledger: &Ledger) -> u64 {
    if ledger.is_gone() {
        return if ledger.units().uncertain > 0 { UNDECIDED } else { GONE };
    }
    let cut = |n: u64| n.min(u64::from(u32::MAX));
    // Fewer free than a hold takes, and nothing open, is gone; so this is never 0.
    cut(ledger.free()) << 32 | cut(ledger.open())
}

#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod tests {
    use super::{
        super::ledger::{Change, Holder},
        *,
    };
    use crate::visit::VisitorId;

    const WANT: Want = Want { units: 1, per_visitor_max: None, may_take: true, expires_s: 100 };

    fn buyer(n: u64) -> Buyer {
        Buyer { holder: Holder::Seat(n), visitor: Some(VisitorId(n)) }
    }

    #[test]
    fn what_was_sent_comes_back_only_when_somebody_knows() {
        let stock = Stock::new(Some(2), 1);
        let a = stock.begin(buyer(1), WANT, 1).expect("two are free");
        assert_eq!(stock.begin(buyer(1), WANT, 1), Err(Denied::InFlight), "a double submit");
        let b = stock.begin(buyer(2), WANT, 1).expect("one is free");
        assert_eq!(stock.begin(buyer(3), WANT, 99), Err(Denied::AllHeld { retry_after_s: 1 }));
        assert!(!stock.is_gone(), "two people may still give up");
        stock.with(|l| l.expire(1_000, |_| true));
        assert_eq!(stock.units().in_flight, 2, "no clock frees what is at the shop");
        stock.end(a, Outcome::Lost, 1_000);
        stock.end(b, Outcome::Sold(1), 1_000);
        assert!(stock.is_gone() && stock.is_undecided() && stock.free() == 0, "one is sold, of one nobody knows");
        assert_eq!(stock.begin(buyer(3), WANT, 1_000), Err(Denied::SoldOut));
        assert!(stock.with(|l| l.resolve(a, None)) && !stock.with(|l| l.resolve(a, None)));
        assert!(stock.begin(buyer(3), WANT, 1_000).is_ok(), "an operator says that it was not sold");
    }

    #[test]
    fn a_hold_is_kept_for_the_next_try_and_ends() {
        let stock = Stock::new(Some(1), 1);
        let id = stock.begin(buyer(1), WANT, 1).expect("free");
        stock.end(id, Outcome::NotSold, 50);
        assert_eq!(stock.units().held, 1, "a card was declined: the unit is still this buyer's");
        assert_eq!(stock.begin(buyer(1), Want { may_take: false, ..WANT }, 60), Ok(id), "any method may go on");
        stock.end(id, Outcome::NotSent, 70);
        stock.with(|l| l.expire(99, |_| false));
        assert_eq!(stock.units().held, 1);
        stock.with(|l| l.expire(100, |_| false));
        assert_eq!(stock.units().free, Some(1));
        assert_eq!(stock.begin(buyer(1), Want { may_take: false, ..WANT }, 101), Err(Denied::NoHold));
    }

    #[test]
    fn one_visitor_buys_so_many_whatever_cookie_is_dropped() {
        let stock = Stock::new(Some(10), 1);
        let want = Want { per_visitor_max: Some(1), ..WANT };
        let id = stock.begin(buyer(1), want, 1).expect("free");
        stock.end(id, Outcome::Sold(1), 1);
        let same_visitor = Buyer { holder: Holder::Seat(9), ..buyer(1) };
        let same_pass = Buyer { visitor: Some(VisitorId(9)), ..buyer(1) };
        for again in [buyer(1), same_visitor, same_pass] {
            assert_eq!(stock.begin(again, want, 2), Err(Denied::VisitorLimit), "{again:?}");
        }
        let lost = stock.begin(buyer(2), want, 1).expect("another");
        stock.end(lost, Outcome::Lost, 1);
        assert_eq!(stock.begin(buyer(2), want, 2), Err(Denied::VisitorLimit), "it may have been bought");
        assert!(stock.with(|l| l.resolve(lost, None)));
        assert!(stock.begin(buyer(2), want, 2).is_ok());
    }

    #[test]
    fn other_channels_ask_first_or_take_what_is_held() {
        let stock = Stock::new(Some(3), 1);
        let held = stock.begin(buyer(1), WANT, 1).expect("free");
        stock.end(held, Outcome::NotSold, 1);
        let at_shop = stock.begin(buyer(2), WANT, 1).expect("free");
        assert_eq!(stock.with(|l| l.ask(2)), Err(1), "one is free");
        assert_eq!(stock.with(|l| l.ask(1)), Ok(()));
        stock.with(|l| l.elsewhere(1));
        let u = stock.units();
        assert_eq!((u.held, u.in_flight, u.sold, u.over), (0, 1, 2, 0), "the hold made room");
        stock.with(|l| l.elsewhere(1));
        assert_eq!(stock.units().over, 1, "what happened is told, even when it is too much");
        stock.end(at_shop, Outcome::NotSold, 2);
        assert!(stock.units().over == 0 && stock.is_gone(), "the unit that came back pays for it");
        assert_eq!(stock.with(|l| l.restock(5)), Ok(()));
        assert_eq!((stock.free(), stock.with(|l| l.restock(-6))), (5, Err(5)));
    }

    #[test]
    fn an_operator_who_frees_too_early_is_put_right_by_the_shop() {
        let stock = Stock::new(Some(2), 1);
        let id = stock.begin(buyer(1), WANT, 1).expect("free");
        assert!(stock.with(|l| l.resolve(id, None)));
        stock.end(id, Outcome::Sold(1), 2);
        assert_eq!((stock.units().sold, stock.units().free), (1, Some(1)));
        let told = stock.begin(buyer(2), WANT, 1).expect("free");
        assert!(stock.with(|l| l.resolve(told, Some(1))));
        stock.end(told, Outcome::Sold(1), 2);
        assert_eq!(stock.units().sold, 2, "the shop said it twice, by two ways");
    }

    #[test]
    fn a_reload_moves_the_stock_by_the_difference_and_there_and_back_is_nothing() {
        let stock = Stock::new(Some(10), 1);
        stock.with(|l| l.ask(8)).expect("free");
        assert_eq!(stock.with(|l| l.restock(5)), Ok(()));
        stock.with(|l| l.rewrite(Some(12), 1));
        assert_eq!(stock.units().stock, Some(17), "10 + 5 of an operator + 2 of the policy");
        stock.with(|l| l.rewrite(Some(1), 1));
        assert_eq!((stock.units().stock, stock.units().over, stock.is_gone()), (Some(6), 2, true));
        stock.with(|l| l.rewrite(Some(12), 1));
        assert_eq!((stock.units().stock, stock.units().free), (Some(17), Some(9)), "as if nobody had written 1");
        assert_eq!(stock.with(|l| l.restock(-9)), Ok(()));
        for written in [2, 3, 12] {
            stock.with(|l| l.rewrite(Some(written), 1));
            assert!(stock.is_gone(), "{written}");
        }
        assert_eq!(stock.units().stock, Some(8), "more could not be taken away, so no more came back");
        stock.with(|l| l.rewrite(None, 1));
        assert!(!stock.is_gone() && stock.free() == u32::MAX);
    }

    #[test]
    fn a_log_is_the_ledgers_memory() {
        let mut one = Ledger::new(Some(3), 1);
        assert!(one.take_changes().is_empty());
        let a = one.begin(buyer(1), WANT, 1).expect("free");
        let b = one.begin(buyer(2), WANT, 1).expect("free");
        one.end(a, Outcome::Sold(1), 2);
        let log: Vec<Change> = one.take_changes();
        let mut two = Ledger::new(Some(3), 1);
        log.iter().for_each(|c| two.apply(c));
        assert_eq!(one.units(), two.units());
        two.recover();
        assert_eq!((two.units().uncertain, two.hold(b).is_some()), (1, true), "what was at the shop, nobody knows");
        assert_ne!(two.begin(buyer(3), WANT, 1), Ok(b), "numbers are not given twice");
    }
}
