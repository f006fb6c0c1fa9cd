//! The forecast in the simulated gate, and what becomes of it when it lies.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use tidegate_filters::{
    Now,
    plan::{Outlook, Planner, Plans, ShopWindow, Tide, tide::Ahead},
    seats::room::RoomStats,
};

use super::{rng, world::World};

/// What is told to the planner instead of the forecast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    /// Nothing else: the forecast itself.
    #[default]
    None,
    /// Numbers that have nothing to do with it.
    Noise,
    /// Nobody will come.
    Zeros,
    /// Ten times as many will come.
    Tenfold,
    /// No numbers.
    Nan,
}

impl Lie {
    /// All of them.
    pub const ALL: [Lie; 4] = [Lie::Noise, Lie::Zeros, Lie::Tenfold, Lie::Nan];
}

/// How large the burst of a room is: as planned, or by another rule, to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BurstRule {
    /// What the shop drains within its budget of time: as planned.
    #[default]
    Drain,
    /// 99 in 100 ticks fit, if arrivals were independent.
    Poisson,
    /// 99 in 100 ticks fit, by the forecast's own quantile.
    Q99,
}

impl BurstRule {
    /// All of them.
    pub const ALL: [BurstRule; 3] = [BurstRule::Drain, BurstRule::Poisson, BurstRule::Q99];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            BurstRule::Drain => "drain-limited (shipped)",
            BurstRule::Poisson => "Poisson-sized",
            BurstRule::Q99 => "q99-sized",
        }
    }

    /// For the next tick of a tenth of a second, from what is expected of the next second.
    fn sized(self, next: Option<&Ahead>) -> Option<f64> {
        let next = next?;
        let tick = next.middle / 10.0;
        match self {
            BurstRule::Drain => None,
            BurstRule::Poisson => Some(tick + 2.326 * tick.sqrt()),
            BurstRule::Q99 => Some(tick + (next.q99 - next.middle) / 10f64.sqrt()),
        }
    }
}

/// The planner, its forecasters and their liar.
#[derive(Debug)]
pub(super) struct Foresight {
    pub(super) planner: Planner,
    tide: Tide,
    lie: Lie,
    burst: BurstRule,
    rng: ChaCha8Rng,
}

impl Foresight {
    pub(super) fn new(world: &World, seed: u64) -> Self {
        Foresight {
            planner: Planner::new(&world.policy),
            tide: Tide::default(),
            lie: world.lie,
            burst: world.burst,
            rng: rng(seed, 9),
        }
    }

    /// A second, as the gate's planner does it.
    pub(super) fn plan(&mut self, now: Now, window: &ShopWindow, stats: &[RoomStats]) -> Plans {
        let seen = self.planner.observe(window, stats);
        if !self.planner.wants_forecast() {
            return self.planner.plan(stats, 0, None);
        }
        let at_s = now.wall_ms / 1_000;
        self.tide.second(at_s, Some(seen.arrivals), Some(seen.exempt_per_s));
        let outlook = self.tide.outlook(&[]);
        let told = self.lied(outlook);
        let mut plans = self.planner.plan(stats, at_s, Some(&told));
        if let Some(burst) = self.burst.sized(told.arrivals.first()) {
            plans.rooms.iter_mut().for_each(|p| p.burst = burst.max(1.0));
        }
        plans
    }

    fn lied(&mut self, outlook: Outlook) -> Outlook {
        let mut lie = |a: Ahead| {
            let times = match self.lie {
                Lie::None => return a,
                Lie::Noise => self.rng.random_range(0.0..4.0),
                Lie::Zeros => 0.0,
                Lie::Tenfold => 10.0,
                Lie::Nan => f64::NAN,
            };
            // Whoever lies also says that it is right.
            Ahead { middle: a.middle * times, q90: a.q90 * times, q95: a.q95 * times, q99: a.q99 * times, on: true, ..a }
        };
        Outlook {
            at_s: outlook.at_s,
            arrivals: outlook.arrivals.into_iter().map(&mut lie).collect(),
            exempt: outlook.exempt.into_iter().map(&mut lie).collect(),
        }
    }
}
