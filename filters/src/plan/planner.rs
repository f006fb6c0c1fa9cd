//! The planner: capacity, promised load and the policy become a plan for each room, every second.

use super::{
    Admission, Plan,
    capacity::{Capacity, ShopWindow},
    load::LoadModel,
};
use crate::{pipeline::PipelineSettings, seats::room::RoomStats, seats::settings::RoomSettings};

/// Share of the capacity that is planned with; the rest absorbs what arrives unevenly.
const HEADROOM: f64 = 0.9;
/// Horizons the refill must hold at, seconds.
const HORIZONS_S: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1200.0];
/// A burst may not take the shop longer than this to drain, seconds.
const BURST_DRAIN_S: f64 = 0.5;
/// Refill of a measured room whose capacity was never seen binding: as good as open; the in-flight limit protects the shop.
const REFILL_MAX: f64 = 10_000.0;

/// What is in force for the next second.
#[derive(Clone, Debug, PartialEq)]
pub struct Plans {
    /// Requests in flight at the shop.
    pub in_flight_limit: u32,
    /// Cost units a second the shop can take.
    pub capacity_per_s: f64,
    /// By room index.
    pub rooms: Vec<Plan>,
}

/// State of the planner; outlives a reload through [`Planner::retune`].
#[derive(Clone, Debug)]
pub struct Planner {
    rooms: Vec<RoomSettings>,
    capacity: Capacity,
    load: LoadModel,
    /// Passes given so far, by the last step's numbers.
    passes: u64,
}

impl Planner {
    /// Knows only the policy.
    pub fn new(settings: &PipelineSettings) -> Self {
        Planner {
            rooms: settings.rooms.clone(),
            capacity: Capacity::new(&settings.capacity, &settings.in_flight),
            load: LoadModel::default(),
            passes: 0,
        }
    }

    /// New settings, same knowledge of rooms' load; the capacity is learnt anew when its bounds changed.
    pub fn retune(&mut self, settings: &PipelineSettings, bounds_changed: bool) {
        self.rooms = settings.rooms.clone();
        if bounds_changed {
            self.capacity = Capacity::new(&settings.capacity, &settings.in_flight);
        }
    }

    /// The plans before anything was measured.
    pub fn first(&self) -> Plans {
        self.plans(&[], 0.0)
    }

    /// Learns from a second and plans the next. `stats` by room index.
    pub fn step(&mut self, window: &ShopWindow, stats: &[RoomStats]) -> Plans {
        let rates = self.capacity.observe(window);
        let passes: u64 = stats.iter().map(|s| s.seated + s.walk_ins).sum();
        let given = passes.saturating_sub(self.passes) as f64;
        self.passes = passes;
        let live: u32 = stats.iter().map(|s| s.seats_live).sum();
        self.load.observe(rates.inside, live, given, window.span_ms as f64 / 1000.0);
        self.plans(stats, (rates.all - rates.inside).max(0.0))
    }

    fn plans(&self, stats: &[RoomStats], exempt_per_s: f64) -> Plans {
        let total = self.refill(exempt_per_s);
        // Rooms share the shop by how many wait in each.
        let weight = |i: usize| stats.get(i).map_or(1.0, |s| s.waiting as f64 + 1.0);
        let all: f64 = (0..self.rooms.len()).map(weight).sum();
        let plan = |(i, room): (usize, &RoomSettings)| match room.admission {
            Admission::Fixed(rate) => fixed(room, rate.as_per_s(), self.capacity.per_s() > 0.0),
            Admission::Measured => self.measured(room, total * weight(i) / all, exempt_per_s),
        };
        Plans {
            in_flight_limit: self.capacity.limit(),
            capacity_per_s: self.capacity.per_s(),
            rooms: self.rooms.iter().enumerate().map(plan).collect(),
        }
    }

    /// `r = max(0, min over h of (headroom·C − L(h)) / K(h))` passes a second: at a steady r the load in h seconds is
    /// L(h) + r·K(h).
    fn refill(&self, exempt_per_s: f64) -> f64 {
        let budget = HEADROOM * self.capacity.per_s();
        let at = |h: f64| (budget - self.load.promised(h) - exempt_per_s) / self.load.cost(h).max(1e-6);
        HORIZONS_S.into_iter().map(at).fold(REFILL_MAX, f64::min).max(0.0)
    }

    fn measured(&self, room: &RoomSettings, refill: f64, exempt_per_s: f64) -> Plan {
        let c = self.capacity.per_s();
        let drained = HEADROOM * c * BURST_DRAIN_S / self.load.cost(1.0).max(1.0);
        let source = match (c > 0.0, self.capacity.is_measured()) {
            (false, _) => "the shop is down: nobody is let in".to_owned(),
            (_, true) => format!("the shop takes {c:.0}/s (measured)"),
            (_, false) => format!("the shop takes {c:.0}/s (the policy's ceiling; its limit was not reached yet)"),
        };
        let reason = format!(
            "refill {refill:.2}/s: {source}, {:.0}/s are promised to people inside, {exempt_per_s:.0}/s go to others, \
             a pass costs {:.0} requests over its life, headroom {:.0} %",
            self.load.inside_per_s(),
            self.load.life(),
            100.0 * (1.0 - HEADROOM),
        );
        Plan { refill_per_s: refill, burst: drained.max(1.0), seats: room.seats.max, armed: c <= 0.0, reason }
    }
}

fn fixed(room: &RoomSettings, rate: f64, healthy: bool) -> Plan {
    let (refill_per_s, reason) = match healthy {
        true => (rate, format!("refill {rate:.2}/s: fixed by the policy")),
        false => (0.0, "the shop is down: nobody is let in".to_owned()),
    };
    Plan { refill_per_s, burst: rate.max(1.0), seats: room.seats.max, armed: !healthy, reason }
}
