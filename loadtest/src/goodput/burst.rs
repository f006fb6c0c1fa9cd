//! How many may come at once after a pause: sized for arrivals as they really scatter, as if they were Poisson, or by what the
//! shop drains. In simulation: the rules differ by a few people a second, which a live run of a minute cannot tell apart.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Gamma};
use serde::Serialize;
use tidegate_filters::units::Span;

use super::load::shoppers;
use crate::{
    crowd::{Scenario, Wave},
    sim::{BurstRule, Habits, ShopModel, World, contest::p99_ms, run},
};

/// Variance over mean of the arrivals of a second.
const DISPERSION: f64 = 13.0;
/// People a second: two thirds of what the paper shop takes.
const PER_S: f64 = 28.0;
/// Length of a simulated day, seconds.
const SECONDS: u64 = 600;
/// Days.
const DAYS: u64 = 4;

/// One rule.
#[derive(Clone, Debug, Serialize)]
pub struct BurstRow {
    /// Which.
    pub rule: BurstRule,
    /// People who came.
    pub people: u64,
    /// People told to wait.
    pub waits: u64,
    /// Of these, while a connection of the shop was free.
    pub needless: u64,
    /// 99th percentile of the time at the shop, milliseconds.
    pub shop_p99_ms: f64,
    /// Largest dispersion of what came: to see that it is what it should be.
    pub dispersion: f64,
}

impl BurstRow {
    /// Needless waits for each who came.
    pub fn needless_share(&self) -> f64 {
        self.needless as f64 / self.people.max(1) as f64
    }
}

/// Every rule on the same days.
pub fn burst_sizes(seed: u64) -> Vec<BurstRow> {
    BurstRule::ALL.into_iter().map(|rule| row(rule, seed, DAYS)).collect()
}

fn row(rule: BurstRule, seed: u64, days: u64) -> BurstRow {
    let (mut people, mut waits, mut needless, mut times, mut dispersion) = (0, 0, 0, Vec::new(), 0.0);
    for day in 0..days {
        let scenario = day_of(seed.wrapping_mul(1_000).wrapping_add(day));
        let Some(mut world) = world(&scenario) else { continue };
        (world.burst, world.habits) = (rule, Habits::default());
        let outcome = run(&world, day);
        people += outcome.visitors as u64;
        waits += outcome.waits.1;
        needless += outcome.waits.0;
        times.extend(outcome.stays.iter().map(|s| s.took_us));
        dispersion += dispersion_of(&scenario, day) / days as f64;
    }
    BurstRow { rule, people, waits, needless, shop_p99_ms: p99_ms(times), dispersion }
}

/// Each second has a rate of its own, from a gamma distribution: counts are negative binomial then, with the variance
/// `m + m² / k`, so `k = m / (D − 1)`.
fn day_of(seed: u64) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let k = PER_S / (DISPERSION - 1.0);
    let mut rate = || Gamma::new(k, 1.0 / k).map_or(1.0, |g| g.sample(&mut rng)).max(1e-6);
    let wave = |s: u64, share: f64| Wave { share, from: Span(s * 1_000), to: Span(s * 1_000 + 999) };
    let arrivals = (0..SECONDS).map(|s| wave(s, rate())).collect();
    shoppers("dispersed".into(), Span::secs(SECONDS + 20), PER_S * SECONDS as f64, arrivals)
}

/// Variance over mean of the people of a second.
fn dispersion_of(scenario: &Scenario, seed: u64) -> f64 {
    let mut counts = vec![0.0_f64; SECONDS as usize];
    for v in crate::crowd::Crowd::new(scenario, seed).visitors {
        if let Some(n) = counts.get_mut((v.arrives_ms() / 1_000) as usize) {
            *n += 1.0;
        }
    }
    let mean = counts.iter().sum::<f64>() / counts.len() as f64;
    counts.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / counts.len() as f64 / mean.max(1e-9)
}

fn world(scenario: &Scenario) -> Option<World> {
    let policy = "version: 1
listen: [ { address: 127.0.0.1:8080 } ]
shop: { upstreams: [ { address: 127.0.0.1:3000 } ] }
routes:
  - { name: assets, match: { prefix: /static/ }, filters: none }
  - { name: shop, match: { prefix: / } }
filters: [ { waiting_room: { room: shop, routes: [shop] } } ]
rooms: [ { name: shop, admission: forecast, seats: { max: 10000, pass_idle: 15s }, claim_window: 20s } ]
";
    let loaded = tidegate_config::parse(policy, "dispersed.yaml").ok()?;
    Some(World::new(scenario, loaded.policy.pipeline_settings(), ShopModel { stock: 1_000_000, ..ShopModel::default() }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn arrivals_scatter_as_they_should() {
        let found: f64 = (0..20).map(|seed| dispersion_of(&day_of(seed), seed) / 20.0).sum();
        assert!((found / DISPERSION - 1.0).abs() < 0.15, "{found}");
    }

    #[test]
    fn every_rule_sees_the_same_people_and_the_rules_differ() {
        assert!(world(&day_of(1)).is_some());
        let rows: Vec<BurstRow> = [BurstRule::Poisson, BurstRule::Drain].into_iter().map(|r| row(r, 1, 1)).collect();
        assert_eq!(rows[0].people, rows[1].people);
        assert!(rows.iter().all(|r| r.shop_p99_ms > 15.0 && r.needless <= r.waits), "{rows:?}");
        assert!(rows[0].waits != rows[1].waits, "another burst, other waits: {rows:?}");
    }
}
