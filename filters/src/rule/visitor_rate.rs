//! `visitor_rate`: a quota per visitor or per network, GCRA (`governor`) over a bounded table of ours.
//!
//! One 64-bit word a key: 20 bits of tag, 44 bits of TAT (theoretical arrival time) in microseconds, so a check is a
//! function of (old word, now) and one compare-and-swap. A key is evicted only when its TAT is past, that is when its
//! bucket is full again: eviction never hands out a fresh bucket. When all [`WAYS`] slots of a set are busy, further keys
//! of that set share its overflow bucket. Two keys of one set share a bucket by chance once in 2^20 / `WAYS`; the hash is
//! keyed, so nobody can aim for it.

use std::{
    cell::Cell,
    hash::Hasher as _,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota as GovernorQuota, RateLimiter, clock::Clock, middleware::StateInformationMiddleware, nanos::Nanos, state::StateStore,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::{
    time::Now,
    units::Rate,
    verdict::{Quota, Reason, Verdict},
    visit::Visit,
};

/// Slots a set; a set is one cache line with its overflow word and padding.
pub const WAYS: usize = 7;
/// Bytes a key the table may hold: a 64-byte set for 7 keys, sized for a load of one half.
pub const BYTES_A_KEY: usize = 64 * 2 / WAYS;
/// Most keys a policy may ask for: 16 M keys are 290 MiB.
pub const KEYS_MAX: u32 = 16_000_000;
/// Longest time a bucket may take to fill, seconds: TATs then stay far inside 44 bits of microseconds (203 days).
pub const FILL_S_MAX: u64 = 7 * 86_400;

/// `visitor_rate: { name: per-visitor, key: visitor, rate: 10/s, burst: 30 }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VisitorRateSettings {
    /// Names the quota in headers and metrics; state is carried over a reload by it.
    pub name: String,
    /// What is counted.
    pub key: RateKey,
    /// How fast a used-up quota comes back.
    pub rate: Rate,
    /// How many may come at once.
    pub burst: u32,
    /// Keys kept apart at the same time; more share buckets.
    #[serde(default = "keys_max")]
    pub keys_max: u32,
    /// Prefix of one IPv6 subscriber.
    #[serde(default = "ipv6_prefix")]
    pub ipv6_prefix: u8,
    /// What a visit without the key gets: one bucket for all of them, or a refusal.
    #[serde(default)]
    pub on_missing_key: OnMissingKey,
    /// Decide and record, but do not enforce.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

fn keys_max() -> u32 {
    1_000_000
}

fn ipv6_prefix() -> u8 {
    64
}

/// What a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateKey {
    /// The visitor: signed cookie, else network and fingerprint.
    Visitor,
    /// The network: IPv4 address, IPv6 prefix.
    Network,
}

/// What a visit without the key gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMissingKey {
    /// All such visits share one bucket.
    #[default]
    Shared,
    /// Such visits are refused.
    Refuse,
}

/// The compiled filter.
pub struct VisitorRate {
    settings: VisitorRateSettings,
    limiter: RateLimiter<u64, SharedTable, CallerTime, StateInformationMiddleware>,
    table: Arc<Table>,
    hash_key: (u64, u64),
}

impl std::fmt::Debug for VisitorRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VisitorRate({:?})", self.settings)
    }
}

impl VisitorRate {
    /// An empty table of `keys_max`; `hash_key` is random and secret.
    pub fn new(settings: &VisitorRateSettings, hash_key: (u64, u64)) -> Self {
        Self::over(settings, Arc::new(Table::new(settings.keys_max)), hash_key)
    }

    /// The same quota names keep their used-up buckets across a reload, also when rate or burst changed.
    pub fn carry_over(&mut self, old: &VisitorRate) {
        let same = |s: &VisitorRateSettings| (s.name.clone(), s.key, s.keys_max, s.ipv6_prefix);
        if same(&self.settings) == same(&old.settings) {
            *self = Self::over(&self.settings, old.table.clone(), old.hash_key);
        }
    }

    fn over(settings: &VisitorRateSettings, table: Arc<Table>, hash_key: (u64, u64)) -> Self {
        let burst = NonZeroU32::new(settings.burst).unwrap_or(NonZeroU32::MIN);
        let per_event_ns = (u64::from(settings.rate.per_ms) * 1_000_000) / u64::from(settings.rate.events.max(1));
        let quota = GovernorQuota::with_period(Duration::from_nanos(per_event_ns.max(1)));
        let quota = quota.unwrap_or(GovernorQuota::per_second(burst)).allow_burst(burst);
        // A limiter's stored times are relative to its start: always build it at 0 so that a table outlives its limiter.
        NOW_NS.set(0);
        let limiter = RateLimiter::new(quota, SharedTable(table.clone()), CallerTime);
        VisitorRate { settings: settings.clone(), limiter, table, hash_key }
    }

    /// Its settings.
    pub fn settings(&self) -> &VisitorRateSettings {
        &self.settings
    }

    /// Spends one visit of the key's quota. `Err` carries the refusal. Both carry the quota for the headers.
    pub fn check(&self, visit: &Visit<'_>, filter: u8, now: Now) -> Result<Quota, (Verdict, Reason, Quota)> {
        let mut h = SipHasher13::new_with_keys(self.hash_key.0, self.hash_key.1);
        match (self.settings.key, visit.visitor, visit.network) {
            (RateKey::Visitor, Some(v), _) => h.write_u64(v.0),
            (RateKey::Network, _, Some(n)) => match n.key(self.settings.ipv6_prefix) {
                std::net::IpAddr::V4(a) => h.write_u32(a.into()),
                std::net::IpAddr::V6(a) => h.write_u128(a.into()),
            },
            _ if self.settings.on_missing_key == OnMissingKey::Refuse => {
                let none = Quota { filter, remaining: 0, wait_ms: 0 };
                return Err((Verdict::Refuse { retry_after_s: None }, Reason::KeyMissing, none));
            }
            _ => h.write_u8(0),
        }
        // governor has no entry that takes the time: it asks its clock, and ours reads this cell.
        NOW_NS.set(now.mono_ns);
        match self.limiter.check_key(&h.finish()) {
            Ok(state) => Ok(Quota { filter, remaining: state.remaining_burst_capacity(), wait_ms: 0 }),
            Err(not_until) => {
                let wait_ms = not_until.wait_time_from(now.mono_ns.into()).as_millis() as u64 + 1;
                let quota = Quota { filter, remaining: 0, wait_ms };
                Err((Verdict::Throttle(quota), Reason::RateExceeded, quota))
            }
        }
    }
}

thread_local! { static NOW_NS: Cell<u64> = const { Cell::new(0) }; }

/// The instant the caller set.
#[derive(Clone, Copy, Debug)]
struct CallerTime;

impl Clock for CallerTime {
    type Instant = Nanos;
    fn now(&self) -> Nanos {
        NOW_NS.get().into()
    }
}

const TAT_BITS: u32 = 44;
const TAT_MASK: u64 = (1 << TAT_BITS) - 1;

#[repr(align(64))]
#[derive(Default)]
struct Set {
    slots: [AtomicU64; WAYS],
    overflow: AtomicU64,
}

struct Table {
    sets: Box<[Set]>,
}

impl Table {
    fn new(keys_max: u32) -> Self {
        let sets = (keys_max.clamp(1, KEYS_MAX) as usize * 2).div_ceil(WAYS);
        Table { sets: (0..sets).map(|_| Set::default()).collect() }
    }

    fn measure<T, F, E>(&self, key: u64, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let now_us = NOW_NS.get() / 1_000;
        // High half of the hash picks the set, low bits are the tag: independent of each other.
        let set = &self.sets[((key >> 32) as usize * self.sets.len()) >> 32];
        let tag = key & ((1 << (64 - TAT_BITS)) - 1);
        loop {
            let words: [u64; WAYS] = std::array::from_fn(|i| set.slots[i].load(Ordering::Acquire));
            let live = |w: &u64| w & TAT_MASK > now_us;
            let mine = words.iter().position(|w| live(w) && w >> TAT_BITS == tag);
            let (slot, old, tag) = match mine.or_else(|| words.iter().position(|w| !live(w))) {
                Some(i) => (&set.slots[i], words[i], tag),
                None => (&set.overflow, set.overflow.load(Ordering::Acquire), 0),
            };
            let tat = old & TAT_MASK;
            let (answer, new) = f((tat > now_us).then(|| Nanos::from(tat * 1_000)))?;
            // Rounded up: the table may be a microsecond stricter, never laxer.
            let new = tag << TAT_BITS | (new.as_u64().div_ceil(1_000) & TAT_MASK);
            if slot.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Ok(answer);
            }
        }
    }
}

struct SharedTable(Arc<Table>);

impl StateStore for SharedTable {
    type Key = u64;
    fn measure_and_replace<T, F, E>(&self, key: &u64, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure(*key, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::visit::{Network, VisitorId, Wants};

    fn settings(events: u32, burst: u32, keys_max: u32) -> VisitorRateSettings {
        VisitorRateSettings {
            name: "v".into(),
            key: RateKey::Visitor,
            rate: Rate::per_s(events),
            burst,
            keys_max,
            ipv6_prefix: 64,
            on_missing_key: OnMissingKey::Shared,
            shadow: false,
        }
    }

    fn visit(visitor: Option<u64>) -> Visit<'static> {
        Visit {
            method: "GET",
            host: "h",
            path: "/",
            route: Some(0),
            network: Some(Network::new([192, 0, 2, 1].into())),
            visitor: visitor.map(VisitorId),
            wants: Wants::Html,
            ..Visit::default()
        }
    }

    fn passes(f: &VisitorRate, key: u64, ms: u64, n: usize) -> usize {
        (0..n).filter(|_| f.check(&visit(Some(key)), 0, Now::at(0, ms)).is_ok()).count()
    }

    #[test]
    fn burst_then_rate_and_headers_that_are_true() {
        let f = VisitorRate::new(&settings(10, 30, 1000), (1, 2));
        let t = 3_600_000;
        let first = f.check(&visit(Some(7)), 3, Now::at(0, t)).expect("first");
        assert_eq!(first, Quota { filter: 3, remaining: 29, wait_ms: 0 });
        assert_eq!(passes(&f, 7, t, 100), 29);
        let Err((Verdict::Throttle(q), Reason::RateExceeded, _)) = f.check(&visit(Some(7)), 3, Now::at(0, t)) else { panic!() };
        assert_eq!(passes(&f, 7, t + q.wait_ms - 2, 1), 0);
        assert_eq!(passes(&f, 7, t + q.wait_ms, 1), 1, "Retry-After is enough");
        assert_eq!(passes(&f, 8, t, 100), 30, "another visitor has a bucket of its own");
    }

    #[test]
    fn a_reload_after_an_hour_keeps_used_up_buckets() {
        let t = 3_600_000;
        let old = VisitorRate::new(&settings(1, 5, 1000), (1, 2));
        assert_eq!(passes(&old, 7, t, 10), 5);
        let mut new = VisitorRate::new(&settings(2, 5, 1000), (3, 4));
        new.carry_over(&old);
        assert_eq!(passes(&new, 7, t, 10), 0, "5 s are owed at the old rate");
        assert_eq!(passes(&new, 7, t + 3000, 10), 1, "2 s still are; the new bucket is 2.5 s deep, a visit costs 0.5");
        assert_eq!(passes(&new, 9, t, 10), 5);
    }

    #[test]
    fn eviction_never_hands_out_a_fresh_bucket() {
        // Two sets of seven slots and far more busy keys: what does not fit shares, nobody gets more than a bucket.
        let f = VisitorRate::new(&settings(1, 3, 4), (1, 2));
        assert_eq!(passes(&f, 1, 1000, 10), 3);
        for stranger in 100..10_000 {
            passes(&f, stranger, 1001, 1);
        }
        assert_eq!(passes(&f, 1, 1002, 10), 0, "a flood of keys does not wash a used-up bucket out");
    }

    #[test]
    fn without_a_key() {
        let shared = VisitorRate::new(&settings(1, 3, 100), (1, 2));
        let check = |f: &VisitorRate| f.check(&visit(None), 0, Now::at(0, 1)).map_err(|e| e.1);
        assert_eq!((0..5).filter(|_| check(&shared).is_ok()).count(), 3);
        let refuse =
            VisitorRate::new(&VisitorRateSettings { on_missing_key: OnMissingKey::Refuse, ..settings(1, 3, 100) }, (1, 2));
        assert_eq!(check(&refuse), Err(Reason::KeyMissing));
    }

    proptest! {
        #[test]
        fn never_more_than_rate_and_burst(rate in 1u32..50, burst in 1u32..50, gaps in prop::collection::vec(0u64..3000, 1..200)) {
            let f = VisitorRate::new(&settings(rate, burst, 100), (1, 2));
            let (mut now, mut passed) = (10_000u64, 0usize);
            for gap in &gaps {
                now += gap;
                passed += passes(&f, 5, now, 3);
            }
            let allowed = f64::from(burst) + f64::from(rate) * (now - 10_000) as f64 / 1000.0;
            prop_assert!(passed as f64 <= allowed + 1e-6, "{passed} > {allowed}");
        }
    }
}
