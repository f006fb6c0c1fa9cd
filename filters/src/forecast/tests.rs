//! The forecaster against series whose nature is known.

use super::*;

/// Uniform in [0, 1).
fn draw(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 11) as f64 / (1u64 << 53) as f64
}

/// Roughly normal, mean 0, deviation 1.
fn normal(state: &mut u64) -> f64 {
    (0..12).map(|_| draw(state)).sum::<f64>() - 6.0
}

struct Run {
    /// Mean absolute error of what was used, by horizon, over that of "as it is now".
    relative: Vec<f64>,
    on: Vec<f64>,
    covered_99: Vec<f64>,
    last: Vec<Forecast>,
}

/// Feeds a series and judges its last two thirds.
fn run(step_s: u32, horizons: &[usize], series: &[Option<f64>], net: impl Fn(usize) -> Vec<NetSays>) -> Run {
    let mut f = Forecaster::new(step_s, horizons);
    let mut made: Vec<Vec<Forecast>> = Vec::new();
    for (t, y) in series.iter().enumerate() {
        assert!(f.observe(t as u64 * u64::from(step_s), *y));
        let said = f.forecast(&net(t));
        for s in &said {
            let sound = s.quantiles.iter().all(|q| q.is_finite() && *q >= 0.0);
            assert!(sound && s.quantiles.windows(2).all(|w| w[0] <= w[1]), "{s:?}");
        }
        made.push(said);
    }
    let judge = |k: usize, h: usize| {
        let (mut used, mut naive, mut on, mut covered, mut n) = (0.0, 0.0, 0.0, 0.0, 0.0f64);
        for t in series.len() / 3..series.len() {
            let (Some(y), Some(s)) = (series[t], made[t - h].get(k)) else { continue };
            used += (y - s.point()).abs();
            naive += (y - s.naive).abs();
            on += f64::from(u8::from(s.on));
            covered += f64::from(u8::from(y <= s.quantiles[Q99]));
            n += 1.0;
        }
        (used / naive.max(1e-9), on / n.max(1.0), covered / n.max(1.0))
    };
    let judged: Vec<_> = horizons.iter().enumerate().map(|(k, h)| judge(k, *h)).collect();
    Run {
        relative: judged.iter().map(|j| j.0).collect(),
        on: judged.iter().map(|j| j.1).collect(),
        covered_99: judged.iter().map(|j| j.2).collect(),
        last: made.pop().unwrap_or_default(),
    }
}

fn silent(_: usize) -> Vec<NetSays> {
    Vec::new()
}

#[test]
fn noise_around_a_level_is_forecast_better_than_by_the_last_value() {
    let mut s = 1;
    let series: Vec<_> = (0..4_000).map(|_| Some((100.0 + 10.0 * normal(&mut s)).max(0.0))).collect();
    let r = run(60, &[1, 5], &series, silent);
    // The last value is off by √2 deviations, the level by one.
    assert!(r.relative.iter().all(|v| *v < 0.76), "{:?}", r.relative);
    assert!(r.on.iter().all(|v| *v > 0.9), "{:?}", r.on);
    assert!(r.covered_99.iter().all(|v| (v - 0.99).abs() < 0.006), "{:?}", r.covered_99);
}

#[test]
fn where_nothing_can_be_known_it_is_off() {
    for seed in 1..6 {
        let (mut s, mut y) = (seed, 5_000.0);
        let series: Vec<_> = (0..6_000)
            .map(|_| {
                y = f64::max(y + 40.0 * normal(&mut s), 0.0);
                Some(y)
            })
            .collect();
        let r = run(60, &[1, 10], &series, silent);
        assert!(r.relative.iter().all(|v| *v <= 1.003), "a random walk is its own best forecast: {:?}", r.relative);
    }
}

#[test]
fn the_day_is_learnt() {
    let mut s = 3;
    let shape = |t: usize| 200.0 + 150.0 * (t as f64 / 144.0 * std::f64::consts::TAU).sin();
    let series: Vec<_> = (0..3_000).map(|t| Some((shape(t) + 3.0 * normal(&mut s)).max(0.0))).collect();
    let r = run(600, &[1, 6], &series, silent);
    assert!(r.relative[1] < 0.2, "an hour ahead the day is known: {:?}", r.relative);
}

#[test]
fn a_good_net_wins_and_rubbish_from_a_net_changes_nothing() {
    let mut s = 5;
    let series: Vec<_> = (0..3_000).map(|_| Some(if draw(&mut s) < 0.5 { 50.0 } else { 500.0 })).collect();
    let knows = |t: usize| {
        let median = series.get(t + 1).copied().flatten().unwrap_or(50.0);
        vec![NetSays { horizon: 1, median }]
    };
    let without = run(60, &[1], &series, silent);
    let with = run(60, &[1], &series, knows);
    assert!(with.relative[0] < 0.3 * without.relative[0], "{:?} {:?}", with.relative, without.relative);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let r = run(60, &[1], &series, |_| vec![NetSays { horizon: 1, median: bad }]);
        assert_eq!(r.relative, without.relative, "{bad}");
    }
    let zeros = run(60, &[1], &series, |_| vec![NetSays { horizon: 1, median: 0.0 }]);
    assert!(zeros.relative[0] < 1.03 * without.relative[0], "{:?} {:?}", zeros.relative, without.relative);
}

#[test]
fn a_new_net_starts_afresh() {
    let mut f = Forecaster::new(60, &[1]);
    let feed = |f: &mut Forecaster, from: u64, off: f64| {
        for t in from..from + 600 {
            let y = |t: u64| 100.0 + draw(&mut (t ^ 0x5bd1_e995)) * 200.0;
            f.observe(t * 60, Some(y(t)));
            f.forecast(&[NetSays { horizon: 1, median: y(t + 1) + off }]);
        }
    };
    let net = |f: &Forecaster| f.weights(1).unwrap()[EXPERTS.len()];
    feed(&mut f, 0, 0.0);
    assert!(net(&f) > 0.3, "{}", net(&f));
    f.forget_net();
    assert!(net(&f) < 0.15);
    assert!((f.weights(1).unwrap().iter().sum::<f64>() - 1.0).abs() < 1e-3);
    feed(&mut f, 600, 5_000.0);
    assert!(net(&f) < 0.01, "{}", net(&f));
}

#[test]
fn gaps_steps_of_the_clock_and_rubbish_are_survived() {
    let mut f = Forecaster::new(1, &[1, 10, 60]);
    let mut s = 9;
    let mut at = 1_000_000u64;
    for i in 0..20_000u64 {
        let jump = match i % 997 {
            0 => 4_000_000,
            1..=3 => 3,
            _ => 1,
        };
        at += jump;
        let count = match i % 101 {
            0 => None,
            1 => Some(f64::NAN),
            2 => Some(-5.0),
            3 => Some(1e300),
            _ => Some((draw(&mut s) * 50.0).floor()),
        };
        assert!(f.observe(at, count));
        assert!(!f.observe(at, Some(1.0)), "the same second twice");
        assert!(!f.observe(at - 1_000, Some(1.0)), "a clock that went back");
        let said = f.forecast(&[]);
        assert_eq!(said.is_empty(), count.is_none_or(|c| !(0.0..=1e12).contains(&c)), "silent while nothing is counted");
        assert!(said.iter().flat_map(|s| s.quantiles).all(|q| q.is_finite() && q >= 0.0));
        assert!(f.forecast(&[]).is_empty(), "one forecast a step");
    }
    for (_, standing) in f.standings() {
        assert!(standing.mae.is_finite() && standing.mae_naive.is_finite());
    }
}

#[test]
fn constant_series_and_the_first_steps_are_calm() {
    for level in [0.0, 1.0, 1e9] {
        let series: Vec<_> = (0..500).map(|_| Some(level)).collect();
        let r = run(60, &[1, 10], &series, silent);
        assert!(r.last.iter().all(|f| (f.point() - level).abs() <= 1e-6 * level), "{:?}", r.last);
    }
    let mut f = Forecaster::new(60, &[10, 0, 1, 10]);
    assert!(f.forecast(&[]).is_empty(), "nothing was counted yet");
    f.observe(0, Some(7.0));
    let said = f.forecast(&[]);
    assert_eq!(said.iter().map(|s| (s.horizon, s.point(), s.on)).collect::<Vec<_>>(), [(1, 7.0, false), (10, 7.0, false)]);
}

#[test]
fn the_same_counts_give_the_same_forecasts() {
    let series: Vec<_> = (0..800u64).map(|i| Some(((i * i * 31) % 97) as f64)).collect();
    let (a, b) = (run(60, &[1, 5], &series, silent), run(60, &[1, 5], &series, silent));
    assert_eq!(a.last, b.last);
}

#[test]
fn two_steps_ahead_is_compared_with_what_came_two_steps_later() {
    // Every other step is 10, the rest 0: two steps ahead "as it is now" is never wrong, one step ahead always.
    let mut f = Forecaster::new(60, &[1, 2]);
    for t in 0..400u64 {
        f.observe(t * 60, Some(if t % 2 == 0 { 10.0 } else { 0.0 }));
        f.forecast(&[]);
        // A step that nobody told about must not shift what is compared.
        if t == 200 {
            f.observe(t * 60 + 60, None);
        }
    }
    let naive: Vec<f64> = f.standings().iter().map(|(_, s)| s.mae_naive).collect();
    assert!((naive[0] - 10.0).abs() < 1e-9 && naive[1].abs() < 1e-9, "{naive:?}");
}
