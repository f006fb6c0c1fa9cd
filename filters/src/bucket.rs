//! A token bucket whose rate can change while it runs, without minting or losing tokens.
//!
//! Exact integer arithmetic: tokens in millionths, the remainder of each refill is carried to the next. Refilled and
//! re-rated by one caller (the room's tick); taken from by many.

use std::sync::{PoisonError, TryLockError};

use crate::{
    sabotage::{self, Bug},
    seats::sync::{AtomicU64, Mutex, MutexGuard, Ordering},
    time::Now,
};

const TOKEN: u64 = 1_000_000;

/// Tokens that are worth one new pass each.
#[derive(Debug)]
pub struct Bucket {
    /// Millionths of a token.
    level: AtomicU64,
    /// Millionths of a token.
    burst: AtomicU64,
    refill: Mutex<Refill>,
}

#[derive(Debug)]
struct Refill {
    /// Millionths of a token a second.
    rate: u64,
    last_ns: u64,
    /// Billionths of a millionth, carried.
    remainder: u64,
    minted: u64,
}

impl Bucket {
    /// Starts empty, at rate 0: the first plan opens it.
    pub fn new(now: Now) -> Self {
        let refill = Refill { rate: 0, last_ns: now.mono_ns, remainder: 0, minted: 0 };
        Bucket { level: AtomicU64::new(0), burst: AtomicU64::new(TOKEN), refill: Mutex::new(refill) }
    }

    /// Refills up to now at the old rate, then sets the new one. What a lower burst has no room for is lost: a bucket that
    /// filled before the shop was measured must not be emptied into it.
    pub fn set_rate(&self, per_s: f64, burst: f64, now: Now) {
        let mut r = self.lock();
        self.accrue(&mut r, now);
        let millionths = |x: f64, min: f64| (x.clamp(min, 1e9) * TOKEN as f64) as u64;
        // NaN clamps to NaN and casts to 0: closed, never open by accident.
        r.rate = millionths(per_s, 0.0);
        let burst = millionths(burst, 1.0);
        self.burst.store(burst, Ordering::Release);
        if !sabotage::is(Bug::BurstOutlivesPlan) {
            self.level.fetch_min(burst, Ordering::AcqRel);
        }
    }

    /// Fills it to the burst: a room that opens for the first time starts as if it had been idle.
    pub fn fill(&self) {
        let mut r = self.lock();
        let add = self.burst.load(Ordering::Acquire).saturating_sub(self.level.load(Ordering::Acquire));
        self.level.fetch_add(add, Ordering::AcqRel);
        r.minted += add;
    }

    /// Millionths of a token there now.
    pub fn level(&self) -> u64 {
        self.level.load(Ordering::Acquire)
    }

    /// Sets the level a restart found, at most the burst; with nothing minted before.
    pub fn set_level(&self, level: u64) {
        let mut r = self.lock();
        let level = level.min(self.burst.load(Ordering::Acquire));
        self.level.store(level, Ordering::Release);
        r.minted = level;
    }

    /// Adds what has accrued since the last call. Call before taking: what accrues while the bucket is full is lost only
    /// if it is known to be full. Never waits: somebody else who is at it is enough.
    pub fn refill(&self, now: Now) {
        match self.refill.try_lock() {
            Ok(mut r) => self.accrue(&mut r, now),
            Err(TryLockError::Poisoned(r)) => self.accrue(&mut r.into_inner(), now),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Refill> {
        self.refill.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accrue(&self, r: &mut Refill, now: Now) {
        let elapsed = now.mono_ns.saturating_sub(r.last_ns);
        r.last_ns = r.last_ns.max(now.mono_ns);
        let rate = if sabotage::is(Bug::BucketMintsTwice) { 2 * r.rate } else { r.rate };
        let accrued = u128::from(elapsed) * u128::from(rate) + u128::from(r.remainder);
        r.remainder = (accrued % 1_000_000_000) as u64;
        let add = u64::try_from(accrued / 1_000_000_000).unwrap_or(u64::MAX);
        let level = self.level.load(Ordering::Acquire);
        // Takers only lower the level in the meantime, so this never passes the burst.
        let add = add.min(self.burst.load(Ordering::Acquire).saturating_sub(level));
        self.level.fetch_add(add, Ordering::AcqRel);
        r.minted += add;
    }

    /// Takes one token.
    pub fn take(&self) -> bool {
        self.level.fetch_update(Ordering::AcqRel, Ordering::Acquire, |l| l.checked_sub(TOKEN)).is_ok()
    }

    /// Gives back a token that bought nothing; lost when the bucket filled up in the meantime.
    pub fn put_back(&self) {
        let burst = self.burst.load(Ordering::Acquire);
        let more = |level: u64| Some((level + TOKEN).min(burst.max(level)));
        let _ = self.level.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
    }

    /// Tokens a second.
    pub fn rate_per_s(&self) -> f64 {
        self.lock().rate as f64 / TOKEN as f64
    }

    /// Whole tokens there now.
    pub fn available(&self) -> u64 {
        self.level.load(Ordering::Acquire) / TOKEN
    }

    /// Tokens minted since the start: an upper bound of all passes ever given.
    pub fn minted(&self) -> f64 {
        self.lock().minted as f64 / TOKEN as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Now {
        Now::at(0, ms)
    }

    #[test]
    fn odd_steps_lose_nothing() {
        let b = Bucket::new(at(0));
        b.set_rate(1.0 / 3.0, 5000.0, at(0));
        for i in 1..=3_000_000u64 {
            b.refill(Now { mono_ns: i * 1_000_003, wall_ms: 0 });
        }
        // 3,000.009 s · 0.333333 tokens a second = 1,000.002.
        assert_eq!(b.available(), 1000);
        assert!((b.minted() - 1000.002).abs() < 1e-4, "{}", b.minted());
    }

    #[test]
    fn re_rating_neither_mints_nor_loses() {
        let b = Bucket::new(at(0));
        b.set_rate(10.0, 100.0, at(0));
        for i in 1..=100u64 {
            // Changing the rate a hundred times a second must not round anything away.
            b.set_rate(10.0 + (i % 2) as f64 * 10.0, 100.0, at(i * 10));
        }
        assert_eq!(b.available(), 15, "half a second at 10, half at 20");
        b.set_rate(0.0, 12.0, at(1000));
        assert_eq!(b.available(), 12, "what the lower burst has no room for is lost");
        b.set_rate(f64::NAN, f64::NAN, at(2000));
        b.refill(at(1_000_000));
        assert_eq!(b.available(), 0, "NaN is closed");
    }

    proptest! {
        #[test]
        fn taken_never_exceeds_refill_plus_burst(steps in prop::collection::vec((0u64..500, 0u32..200, 1u32..50, 0u32..80), 1..60)) {
            let b = Bucket::new(at(0));
            // The most that may be there: the strictest form of "refill plus burst in every window".
            let (mut now, mut allowed, mut burst_now, mut rate) = (0u64, 0.0f64, 1.0f64, 0.0f64);
            for (dt, r, burst, wants) in steps {
                now += dt;
                allowed = (allowed + rate * dt as f64 / 1000.0).min(burst_now).min(f64::from(burst));
                (rate, burst_now) = (f64::from(r), f64::from(burst));
                b.set_rate(rate, burst_now, at(now));
                allowed -= (0..wants).filter(|_| b.take()).count() as f64;
                prop_assert!(allowed > -1e-3, "{allowed}");
            }
        }
    }
}
