//! What many visitors do together, in fixed memory: count-min sketches by network, subnet, fingerprint, identity and path. They
//! see programs that use every address once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{
    facts::{Method, Referer, Target, VisitFacts},
    table::mix,
};

/// Epochs of what is quick (a burst) and of what is slow (habits). A count covers the running epoch and the fading rest of the
/// one before.
const QUICK_NS: u64 = 10_000_000_000;
const SLOW_NS: u64 = 600_000_000_000;
const ROWS: usize = 2;
const WIDTH: usize = 8192;

/// Counts of one group over the last one to two epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Group {
    /// Visits.
    pub(super) visits: f32,
    /// Visitors that were not known before.
    pub(super) fresh: f32,
    /// Visits for assets.
    pub(super) assets: f32,
    /// Visits that came from no page.
    pub(super) unreferred: f32,
}

/// The groups a visit belongs to. Those named after an epoch are counted over it, all others over the slow one, without the
/// refreshes we asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Around {
    pub(super) network_quick: Group,
    pub(super) fingerprint_quick: Group,
    pub(super) fingerprint: Group,
    pub(super) identity: Group,
    /// Pages of all that call themselves so, and of those among them whose headers come in this order.
    pub(super) claimed: Group,
    pub(super) ordered: Group,
    /// Of the neighbours alone once the visitor's own part is taken out.
    pub(super) subnet: Group,
    pub(super) path: Group,
    pub(super) site: Group,
}

pub(super) struct Crowd {
    networks_quick: Sketch,
    fingerprints_quick: Sketch,
    fingerprints: Sketch,
    identities: Sketch,
    claims: Sketch,
    orders: Sketch,
    subnets: Sketch,
    paths: Sketch,
    site: Cell,
}

impl Crowd {
    pub(super) fn new() -> Self {
        Crowd {
            networks_quick: Sketch::new(),
            fingerprints_quick: Sketch::new(),
            fingerprints: Sketch::new(),
            identities: Sketch::new(),
            claims: Sketch::new(),
            orders: Sketch::new(),
            subnets: Sketch::new(),
            paths: Sketch::new(),
            site: Cell::default(),
        }
    }

    /// Counts a visit and tells what its groups look like with it. `order` is that of the headers of the visitor's last page.
    pub(super) fn observe(&self, f: &VisitFacts, order: u64, fresh: bool, now_ns: u64) -> Around {
        let (quick, slow) = (Instant::of(now_ns, QUICK_NS), Instant::of(now_ns, SLOW_NS));
        let all = Marks::of(&VisitFacts { waiting: false, ..*f }, fresh);
        let marks = Marks::of(f, fresh);
        // Who orders has seen the page: forms would make every popular page look alike.
        let path = if f.method == Method::Change { 0 } else { u64::from(f.path) << 1 | 1 };
        let page = if f.shows_order() { marks } else { Marks::default() };
        let claim = if order == 0 { 0 } else { f.headers.identity };
        let ordered = if claim == 0 { 0 } else { (mix(claim) ^ order).max(1) };
        Around {
            network_quick: self.networks_quick.observe(f.network, all, quick),
            fingerprint_quick: self.fingerprints_quick.observe(f.fingerprint, all, quick),
            fingerprint: self.fingerprints.observe(f.fingerprint, marks, slow),
            identity: self.identities.observe(if f.fingerprint == 0 { 0 } else { f.headers.identity }, marks, slow),
            claimed: self.claims.observe(claim, page, slow),
            ordered: self.orders.observe(ordered, page, slow),
            subnet: self.subnets.observe(f.subnet, marks, slow),
            path: self.paths.observe(path, marks, slow),
            site: self.site.observe(marks, slow),
        }
    }

    pub(super) const BYTES: usize = 8 * ROWS * WIDTH * size_of::<Cell>() + size_of::<Cell>();
}

#[derive(Clone, Copy)]
struct Instant {
    epoch: u64,
    /// Weight of the epoch before, 1 down to 0.
    fade: f32,
}

impl Instant {
    fn of(now_ns: u64, epoch_ns: u64) -> Self {
        Instant { epoch: now_ns / epoch_ns, fade: 1.0 - (now_ns % epoch_ns) as f32 / epoch_ns as f32 }
    }
}

/// What a visit adds to its groups; nothing to only look.
#[derive(Clone, Copy, Default)]
struct Marks {
    visits: u64,
    fresh: u64,
    assets: u64,
    unreferred: u64,
}

impl Marks {
    fn of(f: &VisitFacts, fresh: bool) -> Self {
        if f.waiting {
            return Marks::default();
        }
        let (asset, unreferred) = (f.target == Target::Asset, f.headers.referer == Referer::None);
        Marks { visits: 1, fresh: fresh.into(), assets: asset.into(), unreferred: unreferred.into() }
    }
}

struct Sketch(Box<[Cell]>);

impl Sketch {
    fn new() -> Self {
        Sketch((0..ROWS * WIDTH).map(|_| Cell::default()).collect())
    }

    /// Key 0 is "unknown": no group, nothing counted.
    fn observe(&self, key: u64, marks: Marks, at: Instant) -> Group {
        if key == 0 {
            return Group::default();
        }
        let (a, b) = (mix(key), mix(key ^ 0x9e37_79b9_7f4a_7c15));
        let one = self.0[a as usize % WIDTH].observe(marks, at);
        let two = self.0[WIDTH + b as usize % WIDTH].observe(marks, at);
        // The row that collided less; its counts belong together.
        if one.visits <= two.visits { one } else { two }
    }
}

/// Four counters, half a line of memory.
#[derive(Default)]
#[repr(align(32))]
struct Cell {
    visits: Count,
    fresh: Count,
    assets: Count,
    unreferred: Count,
}

impl Cell {
    fn observe(&self, marks: Marks, at: Instant) -> Group {
        let visits = self.visits.add(marks.visits, at);
        // A full count of visits stands still; parts of it that went on would become more than the whole.
        let marks = if visits >= MASK as f32 { Marks::default() } else { marks };
        Group {
            visits,
            fresh: self.fresh.add(marks.fresh, at),
            assets: self.assets.add(marks.assets, at),
            unreferred: self.unreferred.add(marks.unreferred, at),
        }
    }
}

/// 16 bits of epoch, 24 of the count before, 24 of the running count: rotation needs no sweep.
#[derive(Default)]
struct Count(AtomicU64);

const MASK: u64 = (1 << 24) - 1;

impl Count {
    fn add(&self, n: u64, at: Instant) -> f32 {
        let old = self.0.load(Relaxed);
        let mut new = counted(old, n, at);
        // Without an increment nothing must be stored: reading is enough.
        if n > 0 {
            let mut old = old;
            while let Err(seen) = self.0.compare_exchange_weak(old, new, Relaxed, Relaxed) {
                old = seen;
                new = counted(old, n, at);
            }
        }
        value(new, at)
    }
}

fn counted(word: u64, n: u64, at: Instant) -> u64 {
    let epoch = at.epoch & 0xffff;
    let (was, before, running) = (word >> 48, word >> 24 & MASK, word & MASK);
    let (epoch, before, running) = match epoch.wrapping_sub(was) & 0xffff {
        0 => (epoch, before, running),
        1 => (epoch, running, 0),
        // A straggler of the epoch before counts into the running one.
        0xffff => (was, before, running),
        _ => (epoch, 0, 0),
    };
    epoch << 48 | before << 24 | (running + n).min(MASK)
}

fn value(word: u64, at: Instant) -> f32 {
    (word & MASK) as f32 + (word >> 24 & MASK) as f32 * at.fade
}

/// One visitor's own part in the slow counts of its groups.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Own([u64; 3]);

impl Own {
    /// Counts a visit as [`Crowd::observe`] does.
    pub(super) fn observe(&mut self, f: &VisitFacts, now_ns: u64) {
        let at = Instant::of(now_ns, SLOW_NS);
        let marks = Marks::of(f, false);
        for (word, n) in self.0.iter_mut().zip([marks.visits, marks.assets, marks.unreferred]) {
            *word = counted(*word, n, at);
        }
    }

    /// What a group does without this visitor.
    pub(super) fn neighbours(&self, group: Group, now_ns: u64) -> Group {
        let [visits, assets, unreferred] = self.0.map(|word| value(word, Instant::of(now_ns, SLOW_NS)));
        Group {
            visits: (group.visits - visits).max(0.0),
            fresh: group.fresh,
            assets: (group.assets - assets).max(0.0),
            unreferred: (group.unreferred - unreferred).max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn visit(network: u64, fingerprint: u64) -> VisitFacts {
        VisitFacts { network, subnet: network, fingerprint, ..VisitFacts::default() }
    }

    #[test]
    fn groups_are_counted_apart_and_fade() {
        let c = Crowd::new();
        for i in 0..1000 {
            c.observe(&visit(1 + i % 10, 77), 0, true, 5 * S);
        }
        let asset = VisitFacts { target: Target::Asset, ..visit(3, 77) };
        let a = c.observe(&asset, 0, false, 5 * S);
        assert_eq!(a.network_quick, Group { visits: 101.0, fresh: 100.0, assets: 1.0, unreferred: 0.0 });
        assert_eq!((a.fingerprint_quick.visits, a.fingerprint.visits), (1001.0, 1001.0));
        let half = c.observe(&visit(3, 78), 0, false, 15 * S);
        assert!((half.network_quick.visits - (1.0 + 101.0 * 0.5)).abs() < 0.01, "{half:?}");
        assert_eq!((half.fingerprint.visits, half.subnet.visits, half.site.visits), (1.0, 102.0, 1002.0));
        let later = c.observe(&visit(3, 77), 0, false, 60 * S);
        assert_eq!((later.network_quick.visits, later.subnet.visits), (1.0, 103.0), "habits are remembered longer");
        let much_later = c.observe(&visit(3, 77), 0, false, 1500 * S);
        assert_eq!(much_later.subnet.visits, 1.0);
    }

    #[test]
    fn unknown_groups_count_nothing_and_refreshes_we_asked_for_are_no_habit() {
        let c = Crowd::new();
        assert_eq!(c.observe(&visit(0, 0), 0, true, S).network_quick, Group::default());
        assert_eq!(c.observe(&visit(0, 0), 0, true, S).site.visits, 2.0);
        let refresh = c.observe(&VisitFacts { waiting: true, ..visit(5, 6) }, 0, false, S);
        assert_eq!((refresh.network_quick.visits, refresh.subnet.visits, refresh.site.visits), (1.0, 0.0, 2.0));
    }

    #[test]
    fn pages_and_where_people_came_from_are_told_apart() {
        let c = Crowd::new();
        let from = |path, referer| {
            let headers = super::super::HeaderFacts { referer, ..super::super::HeaderFacts::default() };
            c.observe(&VisitFacts { path, headers, ..visit(1, 1) }, 0, true, S)
        };
        from(7, Referer::Same);
        from(7, Referer::None);
        from(8, Referer::None);
        let seen = from(7, Referer::Unknown);
        assert_eq!((seen.path.visits, seen.path.unreferred, seen.site.unreferred), (3.0, 1.0, 2.0));
    }

    #[test]
    fn neighbours_are_the_others_at_any_time() {
        let c = Crowd::new();
        let (mut own, asset) = (Own::default(), VisitFacts { target: Target::Asset, ..visit(9, 1) });
        for i in 0..60 {
            let now = i * 31 * S;
            own.observe(&asset, now);
            let mine = own.neighbours(c.observe(&asset, 0, false, now).subnet, now);
            assert!(mine.visits < 1e-3 && mine.assets < 1e-3, "{mine:?} after {i} alone");
        }
        let now = 60 * 31 * S;
        c.observe(&visit(9, 2), 0, true, now);
        own.observe(&asset, now);
        let others = own.neighbours(c.observe(&asset, 0, false, now).subnet, now);
        assert!((others.visits - 1.0).abs() < 1e-3 && others.assets < 1e-3, "{others:?}");
    }

    #[test]
    fn a_full_count_keeps_its_shares() {
        let (cell, at) = (Cell::default(), Instant::of(S, SLOW_NS));
        let many = Marks { visits: MASK / 2, fresh: 0, assets: MASK / 8, unreferred: 0 };
        (0..50).for_each(|_| {
            cell.observe(many, at);
        });
        let group = cell.observe(many, at);
        assert!(group.visits <= MASK as f32 && group.assets <= group.visits / 3.0, "{group:?}");
    }

    #[test]
    fn threads_lose_no_count() {
        let c = Crowd::new();
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| (0..5000).for_each(|_| assert!(c.observe(&visit(5, 6), 0, false, S).site.visits > 0.0)));
            }
        });
        assert_eq!(c.observe(&visit(5, 6), 0, false, S).network_quick.visits, 20_001.0);
    }
}
