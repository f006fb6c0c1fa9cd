//! Every method on the same series, steps and horizons: rolling origin, split by time, the last part judged.

use serde::Serialize;
use tidegate_filters::forecast::{Band, EXPERTS, Forecast, Forecaster, History, MEDIAN, NetSays, Q, RLS_SHOWN};

use super::{
    data::Series,
    score::{Pair, Score, Yardstick, score},
};

/// Share of the series that is judged: the last.
pub const TEST_SHARE: f64 = 0.3;
/// Horizons looked at, seconds, where steps allow.
const HORIZONS_S: [u32; 8] = [1, 2, 5, 10, 30, 60, 300, 600];
/// Steps of the curves that are shown.
const SHOWN: usize = 240;
/// Dots kept for a scatter plot.
const DOTS: usize = 6_000;

/// Names of the methods, in the order of the table.
pub mod method {
    /// As it is now.
    pub const LAST: &str = "last value";
    /// As it was a day ago.
    pub const SEASONAL: &str = "seasonal naive";
    /// Exponential smoothing.
    pub const EWMA: &str = "EWMA";
    /// Damped trend.
    pub const HOLT: &str = "damped Holt";
    /// Recursive least squares.
    pub const RLS: &str = "online RLS";
    /// The trained net alone, with its own quantiles.
    pub const NET: &str = "net";
    /// All experts combined, whether earned or not.
    pub const COMBINED: &str = "combination";
    /// What the gate uses: the combination while it beats the last value.
    pub const USED: &str = "used by the gate";
}

/// What a net says about a moment: horizons in steps and quantiles.
pub type Says = Vec<(usize, [f64; Q])>;
/// A net, as evaluation sees it.
pub type AskNet<'n> = &'n mut dyn FnMut(&History) -> Option<Says>;

/// Curves of one horizon around the largest jump of the test.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// Seconds ahead.
    pub horizon_s: u64,
    /// Index of the first step shown.
    pub from: usize,
    /// What came.
    pub actual: Vec<Option<f64>>,
    /// What was forecast for that step: low, middle, 0.95, 0.99.
    pub forecast: Vec<Option<[f64; 4]>>,
    /// Actual and forecast over the whole test, thinned.
    pub dots: Vec<(f64, f64)>,
}

/// All figures of one series.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// By horizon, then method.
    pub scores: Vec<Score>,
    /// By horizon.
    pub curves: Vec<Curve>,
    /// Share of the test in which the forecast was on, by horizon.
    pub on: Vec<(u64, f64)>,
}

/// Horizons for a length of step, in steps.
pub fn horizons(step_s: u32) -> Vec<usize> {
    let fits = |h: &u32| *h >= step_s && h.is_multiple_of(step_s);
    let found: Vec<usize> = HORIZONS_S.into_iter().filter(fits).map(|h| (h / step_s) as usize).collect();
    if found.is_empty() { vec![1, 2] } else { found }
}

/// Runs all methods over a series. `net` is asked at each step. `done` hears the share that is done, for a progress bar.
pub fn evaluate(series: &Series, horizons: &[usize], mut net: Option<AskNet<'_>>, done: &mut dyn FnMut(f64)) -> Evaluation {
    let n = series.len();
    let mut f = Forecaster::new(series.step_s, horizons);
    let mut made: Vec<Vec<Forecast>> = Vec::with_capacity(n);
    let mut net_made: Vec<Says> = Vec::with_capacity(n);
    for (t, count) in series.counts.iter().enumerate() {
        f.observe(series.at_s(t), *count);
        let says = net.as_mut().and_then(|net| net(f.history())).unwrap_or_default();
        let medians: Vec<NetSays> = says.iter().map(|(h, q)| NetSays { horizon: *h, median: q[MEDIAN] }).collect();
        made.push(f.forecast(&medians));
        net_made.push(says);
        if t % 1_000 == 0 {
            done(t as f64 / n as f64);
        }
    }
    let mut out = Evaluation { scores: Vec::new(), curves: Vec::new(), on: Vec::new() };
    for (k, h) in horizons.iter().enumerate() {
        judge(series, k, *h, &made, &net_made, &mut out);
    }
    out
}

fn judge(series: &Series, k: usize, h: usize, made: &[Vec<Forecast>], net_made: &[Says], out: &mut Evaluation) {
    let n = series.len();
    let first = (n as f64 * (1.0 - TEST_SHARE)).round() as usize;
    let horizon_s = h as u64 * u64::from(series.step_s);
    let made_for = |t: usize| made.get(t.checked_sub(h)?)?.get(k);
    let judged: Vec<usize> = (first.max(h)..n).filter(|t| series.counts[*t].is_some() && made_for(*t).is_some()).collect();
    let pairs_of = |say: &mut dyn FnMut(usize, &Forecast) -> Option<[f64; Q]>| -> Vec<Pair> {
        let pair = |t: &usize| {
            let (y, f) = (series.counts[*t]?, made_for(*t)?);
            let quantiles = say(*t, f)?;
            Some(Pair { y, from: f.naive, quantiles, point: quantiles[MEDIAN] })
        };
        judged.iter().filter_map(pair).collect()
    };
    let used = pairs_of(&mut |_, f| Some(f.quantiles));
    let moves: Vec<f64> = series.counts[..first].windows(2).filter_map(|w| Some((w[1]? - w[0]?).abs())).collect();
    let yard = Yardstick::of(&used, moves.iter().sum::<f64>() / moves.len().max(1) as f64);
    let mut add = |name: &str, pairs: &[Pair]| out.scores.push(score(&series.name, horizon_s, name, pairs, &yard));
    let banded = |scaled: bool, point: &dyn Fn(usize, &Forecast) -> Option<f64>| {
        let quantiles = band(series, k, h, made, scaled, point);
        pairs_of(&mut |t, _| quantiles[t - h])
    };
    add(method::LAST, &banded(false, &|_, f| Some(f.naive)));
    if let Some(day) = series.day().filter(|d| *d > h) {
        add(
            method::SEASONAL,
            &banded(false, &|t, f| Some((t + h).checked_sub(day).and_then(|i| series.counts[i]).unwrap_or(f.naive))),
        );
    }
    for (name, expert) in [(method::EWMA, 2), (method::HOLT, 3), (method::RLS, RLS_SHOWN)] {
        add(name, &banded(true, &|_, f| Some(f.said[expert].unwrap_or(f.naive))));
    }
    let net = pairs_of(&mut |t, _| net_made[t - h].iter().find(|s| s.0 == h).map(|s| s.1));
    if !net.is_empty() {
        add(method::NET, &net);
    }
    add(method::COMBINED, &pairs_of(&mut |_, f| Some(f.combined_quantiles)));
    add(method::USED, &used);
    let on = judged.iter().filter(|t| made_for(**t).is_some_and(|f| f.on)).count();
    out.on.push((horizon_s, on as f64 / judged.len().max(1) as f64));
    out.curves.push(curve(series, &judged, &used, horizon_s, &made_for));
}

/// A method that has only a point gets its quantiles by the same adaptive conformal method, from all its errors so far.
fn band(
    series: &Series,
    k: usize,
    h: usize,
    made: &[Vec<Forecast>],
    scaled: bool,
    point: &dyn Fn(usize, &Forecast) -> Option<f64>,
) -> Vec<Option<[f64; Q]>> {
    let mut band = Band::default();
    let mut said: Vec<Option<([f64; Q], f64, f64)>> = Vec::with_capacity(made.len());
    for (t, f) in made.iter().enumerate() {
        if let (Some(y), Some((q, p, s))) = (series.counts[t], t.checked_sub(h).and_then(|i| said[i])) {
            band.learn(p, s, &q, y);
        }
        said.push(f.get(k).and_then(|f| {
            let p = point(t, f)?;
            let scale = if scaled { band.scale(p) } else { 1.0 };
            let mut q = band.around(p, scale);
            q[MEDIAN] = p;
            Some((q, p, scale))
        }));
    }
    said.into_iter().map(|s| s.map(|s| s.0)).collect()
}

fn curve<'m>(
    series: &Series,
    judged: &[usize],
    used: &[Pair],
    horizon_s: u64,
    made_for: &dyn Fn(usize) -> Option<&'m Forecast>,
) -> Curve {
    let jump = |p: &Pair| p.y - p.from;
    let worst = used.iter().enumerate().max_by(|a, b| jump(a.1).total_cmp(&jump(b.1))).map_or(0, |(i, _)| judged[i]);
    let from = worst.saturating_sub(SHOWN / 2).max(judged.first().copied().unwrap_or(0));
    let to = (from + SHOWN).min(series.len());
    let every = used.len().div_ceil(DOTS).max(1);
    Curve {
        horizon_s,
        from,
        actual: series.counts[from..to].to_vec(),
        forecast: (from..to)
            .map(|t| made_for(t).map(|f| [f.quantiles[0], f.quantiles[1], f.quantiles[3], f.quantiles[4]]))
            .collect(),
        dots: used.iter().step_by(every).map(|p| (p.y, p.point)).collect(),
    }
}

/// Names of all experts that are combined, for the table's legend.
pub fn experts() -> &'static [&'static str] {
    &EXPERTS
}
