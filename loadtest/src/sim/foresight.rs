//! The forecast in the simulated gate, and what becomes of it when it lies.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use tidegate_filters::{
    Now, PipelineSettings,
    plan::{Outlook, Planner, Plans, ShopWindow, Tide, tide::Ahead},
    seats::room::RoomStats,
};

use super::rng;

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

/// The planner, its forecasters and their liar.
#[derive(Debug)]
pub(super) struct Foresight {
    pub(super) planner: Planner,
    tide: Tide,
    lie: Lie,
    rng: ChaCha8Rng,
}

impl Foresight {
    pub(super) fn new(settings: &PipelineSettings, lie: Lie, seed: u64) -> Self {
        Foresight { planner: Planner::new(settings), tide: Tide::default(), lie, rng: rng(seed, 9) }
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
        self.planner.plan(stats, at_s, Some(&told))
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
            exempt: outlook.exempt.map(&mut lie),
        }
    }
}
