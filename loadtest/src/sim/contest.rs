//! Ways to size admission against each other, in virtual time: real series of arrivals, shops with troubles of their own.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tidegate_filters::{Rate, plan::Admission, units::Span};

use super::{Lie, ShopModel, Upheaval, World, run};
use crate::{
    checkers::judge,
    crowd::{Scenario, Wave},
};

/// Length of a sale, seconds.
const LASTS_S: u64 = 240;
/// Steps of a series that become one sale.
const STEPS: usize = 48;
/// A small shop: ten times slower than the demo's, so that a sale of minutes is a matter of thousands of requests.
const SLOWER: u64 = 10;
/// People a second it can serve: of four connections, four pages of 0.15 s and a checkout of 0.3 s.
const SERVES_PER_S: f64 = 4.0 / (4.0 * 0.15 + 0.3);

/// What is wrong with a shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// Behind its capacity it falls off: every request that waits makes the others much slower.
    Cliff,
    /// It gets slower and stays so.
    Drift,
    /// It gets slower and slower until somebody starts it again.
    Leak,
    /// It is down for some seconds, and cold after that.
    Restart,
    /// It answers quickly when it has too much to do, with errors.
    Lies,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Trouble; 6] = [Trouble::None, Trouble::Cliff, Trouble::Drift, Trouble::Leak, Trouble::Restart, Trouble::Lies];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Trouble::None => "none",
            Trouble::Cliff => "cliff",
            Trouble::Drift => "drift",
            Trouble::Leak => "slow leak",
            Trouble::Restart => "restart",
            Trouble::Lies => "quick errors",
        }
    }

    fn shop(self) -> ShopModel {
        let base = ShopModel::default();
        let slow = ShopModel { work_ms: base.work_ms * SLOWER, checkout_ms: base.checkout_ms * SLOWER, stock: 100_000, ..base };
        match self {
            Trouble::Cliff => ShopModel { thrash: 0.2, ..slow },
            Trouble::Lies => ShopModel { pool_wait_ms: 100, waiting_max: 4, ..slow },
            _ => slow,
        }
    }

    fn upheavals(self, rng: &mut ChaCha8Rng) -> Vec<(u64, Upheaval)> {
        let at_ms = rng.random_range(60..120) * 1_000;
        let slower = |step: u64, times: f64| (at_ms + step * 5_000, Upheaval::ShopSlower(times));
        match self {
            Trouble::None | Trouble::Cliff | Trouble::Lies => Vec::new(),
            Trouble::Drift => (0..6).map(|i| slower(i, 1.0 + 0.1 * i as f64)).collect(),
            Trouble::Leak => {
                let mut all: Vec<_> = (0..10).map(|i| slower(i, 1.0 + 0.2 * i as f64)).collect();
                all.push((at_ms + 50_000, Upheaval::ShopDown(true)));
                all.push((at_ms + 53_000, Upheaval::ShopDown(false)));
                all.push((at_ms + 53_000, Upheaval::ShopSlower(1.0)));
                all
            }
            Trouble::Restart => vec![
                (at_ms, Upheaval::ShopDown(true)),
                (at_ms + 5_000, Upheaval::ShopDown(false)),
                (at_ms + 5_000, Upheaval::ShopSlower(2.0)),
                (at_ms + 15_000, Upheaval::ShopSlower(1.0)),
            ],
        }
    }
}

/// How the room of a contestant is sized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `admission: measured`.
    Measured,
    /// `admission: forecast`.
    Forecast,
    /// `admission: forecast`, which is lied to.
    Lied(Lie),
    /// As many passes as the shop without its trouble serves.
    Fixed,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 7] = [
        Mode::Measured,
        Mode::Forecast,
        Mode::Fixed,
        Mode::Lied(Lie::Noise),
        Mode::Lied(Lie::Zeros),
        Mode::Lied(Lie::Tenfold),
        Mode::Lied(Lie::Nan),
    ];

    /// By its name.
    pub fn named(name: &str) -> Option<Mode> {
        Mode::ALL.into_iter().find(|m| m.name() == name)
    }

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Measured => "measured",
            Mode::Forecast => "forecast",
            Mode::Fixed => "fixed",
            Mode::Lied(Lie::Noise) => "forecast of noise",
            Mode::Lied(Lie::Zeros) => "forecast of zeros",
            Mode::Lied(Lie::Tenfold) => "forecast tenfold",
            Mode::Lied(Lie::Nan) => "forecast of NaN",
            Mode::Lied(Lie::None) => "forecast, not lied to",
        }
    }

    fn admission(self) -> Admission {
        match self {
            Mode::Measured => Admission::Measured,
            Mode::Fixed => Admission::Fixed(Rate { events: (SERVES_PER_S * 60.0) as u32, per_ms: 60_000 }),
            Mode::Forecast | Mode::Lied(_) => Admission::Forecast,
        }
    }
}

/// What came of one sale.
#[derive(Clone, Debug, PartialEq)]
pub struct Heat {
    /// What was wrong with the shop.
    pub trouble: Trouble,
    /// Orders of each mode, in the order that was asked for.
    pub orders: Vec<u32>,
    /// 99th percentile of the time at the shop, milliseconds, likewise.
    pub shop_p99_ms: Vec<f64>,
    /// Promises that were broken, of all modes, in words.
    pub broken: Vec<String>,
}

/// One sale on a window of a series, in each of the modes. The same seed is the same sale; `None` when the series has too few
/// known steps in a row.
pub fn heat(counts: &[Option<f64>], seed: u64, modes: &[Mode]) -> Option<Heat> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x7469_6465);
    let trouble = Trouble::ALL[(seed % Trouble::ALL.len() as u64) as usize];
    let window = window(counts, &mut rng)?;
    let times = [1.0, 2.0, 4.0][rng.random_range(0..3)];
    let upheavals = trouble.upheavals(&mut rng);
    let mut heat = Heat { trouble, orders: Vec::new(), shop_p99_ms: Vec::new(), broken: Vec::new() };
    for mode in modes {
        let mut world = World::drop(&scenario(&window, times)?, trouble.shop());
        world.policy.sales.clear();
        world.policy.routes.iter_mut().for_each(|r| r.needs = None);
        world.policy.rooms.iter_mut().for_each(|r| r.admission = mode.admission());
        world.upheavals.clone_from(&upheavals);
        if let Mode::Lied(lie) = mode {
            world.lie = *lie;
        }
        let outcome = run(&world, seed);
        heat.orders.push(outcome.sold);
        heat.shop_p99_ms.push(p99_ms(outcome.stays.iter().map(|s| s.took_us).collect()));
        heat.broken.extend(judge(&outcome.log).iter().map(|v| format!("seed {seed}, {}: {v}", mode.name())));
    }
    Some(heat)
}

/// Some steps in a row that are all known and not all zero.
fn window(counts: &[Option<f64>], rng: &mut ChaCha8Rng) -> Option<Vec<f64>> {
    let last = counts.len().checked_sub(STEPS)?;
    let whole = |at: usize| -> Option<Vec<f64>> { counts[at..at + STEPS].iter().copied().collect() };
    let good = |w: &Vec<f64>| w.iter().sum::<f64>() > 0.0;
    (0..100).find_map(|_| whole(rng.random_range(0..=last)).filter(good))
}

/// People who come as the window says, so many times what the shop serves.
fn scenario(window: &[f64], times: f64) -> Option<Scenario> {
    let mut scenario = Scenario::builtin("drop-day")?;
    let step_ms = LASTS_S * 900 / window.len() as u64;
    let wave = |(i, n): (usize, &f64)| {
        let from = i as u64 * step_ms;
        (*n > 0.0).then(|| Wave { share: *n, from: Span(from), to: Span(from + step_ms) })
    };
    scenario.people.arrivals = window.iter().enumerate().filter_map(wave).collect();
    scenario.people.count = (times * SERVES_PER_S * LASTS_S as f64) as u32;
    scenario.people.browse_only_percent = 0;
    scenario.bots.clear();
    scenario.freezes_at = None;
    (scenario.opens_at, scenario.ends_at) = (Span::secs(1), Span::secs(LASTS_S));
    Some(scenario)
}

/// 99th percentile of times at the shop, milliseconds; 0 without any.
pub fn p99_ms(mut times_us: Vec<u32>) -> f64 {
    times_us.sort_unstable();
    times_us.get(times_us.len() * 99 / 100).map_or(0.0, |us| f64::from(*us) / 1_000.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A day with a wave, and a gap in it.
    fn wave() -> Vec<Option<f64>> {
        (0..400).map(|i| (i != 200).then(|| 20.0 + 15.0 * (f64::from(i) / 9.0).sin())).collect()
    }

    #[test]
    fn a_forecast_sells_what_measuring_sells_whatever_the_shop_does_and_whoever_lies() {
        let heats: Vec<Heat> =
            (0..(crate::sim::tests::seeds() / 25).max(12)).map(|seed| heat(&wave(), seed, &Mode::ALL).unwrap()).collect();
        assert!(heats.iter().all(|h| h.broken.is_empty()), "{heats:?}");
        let all = |mode: usize| heats.iter().map(|h| u64::from(h.orders[mode])).sum::<u64>();
        let measured = all(0);
        assert!(measured > 100 * heats.len() as u64, "{measured}");
        for (i, mode) in Mode::ALL.into_iter().enumerate().filter(|(_, m)| *m != Mode::Fixed) {
            println!("{}: {} orders, {measured} measured", mode.name(), all(i));
            assert!(all(i) as f64 >= 0.99 * measured as f64, "{}: {} of {measured}", mode.name(), all(i));
        }
    }

    #[test]
    fn the_same_seed_is_the_same_heat_and_a_series_of_gaps_is_none() {
        let measured = |counts: &[Option<f64>], seed| heat(counts, seed, &[Mode::Measured]);
        assert_eq!(measured(&wave(), 4), measured(&wave(), 4));
        assert_ne!(measured(&wave(), 4), measured(&wave(), 10));
        assert_eq!(measured(&[None; 400], 1), None);
        assert_eq!(measured(&[Some(1.0); 10], 1), None);
    }
}
