//! What a series is like: gaps, outliers, how the day and the week shape it, how bursty it is.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    Report,
    series::{Gap, Series},
    time,
};

/// Gaps and outliers that are listed; the rest is counted.
const LISTED: usize = 10;
/// Steps around a count that say what is usual there, on each side.
const AROUND: usize = 30;
/// A count so many usual deviations from its neighbours is an outlier.
const OUTLIER: f64 = 8.0;

/// An unusual count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Outlier {
    /// Start of its step, seconds since 1970.
    pub at_s: u64,
    /// The count.
    pub count: f64,
    /// Median of its neighbours.
    pub usual: f64,
    /// The farthest count that would not have been one.
    pub limit: f64,
}

/// How much of the variation goes with the time of day or the day of the week.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Season {
    /// `hour`, `day` or `week`.
    pub name: &'static str,
    /// Share of the variance of the logarithm, 0 to 1.
    pub share: f64,
}

/// Variance over mean at a length of step: 1 is what independent people make.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Dispersion {
    /// Seconds.
    pub step_s: u32,
    /// From neighbour to neighbour, so that slow trends do not count.
    pub local: f64,
    /// Over the whole series, trends and days included.
    pub overall: f64,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Name of the series.
    pub name: String,
    /// Length of a step, seconds.
    pub step_s: u32,
    /// Start of the first step, seconds since 1970.
    pub from_s: u64,
    /// Steps, gaps included.
    pub steps: usize,
    /// Steps that were counted.
    pub counted: usize,
    /// Of those, steps with nobody.
    pub zeros: usize,
    /// Runs that were not counted.
    pub gaps: usize,
    /// Steps in them.
    pub gap_steps: usize,
    /// The longest ones.
    pub longest_gaps: Vec<Gap>,
    /// Mean count.
    pub mean: f64,
    /// Median.
    pub median: f64,
    /// 0.99 quantile.
    pub q99: f64,
    /// Largest.
    pub max: f64,
    /// All counts are the same: there is nothing to forecast.
    pub constant: bool,
    /// Counts far from their neighbours.
    pub outliers: usize,
    /// The farthest ones.
    pub largest_outliers: Vec<Outlier>,
    /// What hour, day and week explain.
    pub seasons: Vec<Season>,
    /// Burstiness at several lengths of step.
    pub dispersion: Vec<Dispersion>,
    /// The smallest of the 2 % largest upward moves from one step to the next.
    pub jump: f64,
    /// What was left out when it was read.
    pub report: Report,
}

/// Describes a series.
pub fn describe(series: &Series, report: &Report) -> Description {
    let mut sorted: Vec<f64> = series.known().collect();
    sorted.sort_by(f64::total_cmp);
    let at = |q: f64| sorted.get(((sorted.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(0.0);
    let mut gaps = series.gaps();
    let (gap_count, gap_steps) = (gaps.len(), gaps.iter().map(|g| g.steps).sum());
    gaps.sort_by_key(|g| std::cmp::Reverse(g.steps));
    gaps.truncate(LISTED);
    let mut far = outliers(series);
    let outlier_count = far.len();
    far.sort_by(|a, b| (b.count - b.usual).abs().total_cmp(&(a.count - a.usual).abs()));
    far.truncate(LISTED);
    let mut moves: Vec<f64> = series.counts.windows(2).filter_map(|w| Some(w[1]? - w[0]?)).collect();
    moves.sort_by(f64::total_cmp);
    Description {
        name: series.name.clone(),
        step_s: series.step_s,
        from_s: series.start_s,
        steps: series.len(),
        counted: sorted.len(),
        zeros: sorted.iter().filter(|c| **c == 0.0).count(),
        gaps: gap_count,
        gap_steps,
        longest_gaps: gaps,
        mean: sorted.iter().sum::<f64>() / sorted.len().max(1) as f64,
        median: at(0.5),
        q99: at(0.99),
        max: at(1.0),
        constant: at(0.0) == at(1.0),
        outliers: outlier_count,
        largest_outliers: far,
        seasons: seasons(series),
        dispersion: dispersion(series),
        jump: moves.get(moves.len() * 98 / 100).copied().unwrap_or(0.0),
        report: report.clone(),
    }
}

/// Counts far from the median of their neighbours, in units of the neighbours' own deviation.
pub fn outliers(series: &Series) -> Vec<Outlier> {
    let c = &series.counts;
    let mut found = Vec::new();
    let mut near: Vec<f64> = Vec::with_capacity(2 * AROUND + 1);
    for (i, count) in c.iter().enumerate() {
        let Some(count) = *count else { continue };
        near.clear();
        near.extend(c[i.saturating_sub(AROUND)..(i + AROUND + 1).min(c.len())].iter().flatten());
        near.sort_by(f64::total_cmp);
        let usual = near[near.len() / 2];
        // Cheap first: most counts are near.
        if (count - usual).abs() <= OUTLIER * 0.5 * (usual + 1.0).sqrt() {
            continue;
        }
        let mut off: Vec<f64> = near.iter().map(|v| (v - usual).abs()).collect();
        off.sort_by(f64::total_cmp);
        let deviation = (1.4826 * off[off.len() / 2]).max(0.5 * (usual + 1.0).sqrt());
        if (count - usual).abs() > OUTLIER * deviation {
            let limit = (usual + OUTLIER * deviation.copysign(count - usual)).max(0.0);
            found.push(Outlier { at_s: series.at_s(i), count, usual, limit });
        }
    }
    found
}

fn seasons(series: &Series) -> Vec<Season> {
    let periods = [("hour", 3_600u64), ("day", 86_400), ("week", 604_800)];
    let step = u64::from(series.step_s);
    let long_enough = |p: &(&str, u64)| series.len() as u64 * step >= 2 * p.1 && p.1 >= 4 * step;
    periods.into_iter().filter(long_enough).map(|(name, p)| Season { name, share: explained(series, p) }).collect()
}

/// Share of the variance of the logarithm that the means of at most 168 parts of a period explain.
fn explained(series: &Series, period_s: u64) -> f64 {
    let parts = 168.min(period_s / u64::from(series.step_s)).max(1);
    let mut bins = vec![(0.0, 0.0); parts as usize];
    let (mut n, mut sum, mut square) = (0.0, 0.0, 0.0);
    for (i, c) in series.counts.iter().enumerate() {
        let Some(c) = c else { continue };
        let z = c.ln_1p();
        let bin = &mut bins[(series.at_s(i) % period_s * parts / period_s) as usize];
        (bin.0, bin.1) = (bin.0 + 1.0, bin.1 + z);
        (n, sum, square) = (n + 1.0, sum + z, square + z * z);
    }
    let total = square - sum * sum / f64::max(n, 1.0);
    let between: f64 = bins.iter().filter(|b| b.0 > 0.0).map(|b| b.1 * b.1 / b.0).sum::<f64>() - sum * sum / f64::max(n, 1.0);
    if total > 1e-9 { (between / total).clamp(0.0, 1.0) } else { 0.0 }
}

fn dispersion(series: &Series) -> Vec<Dispersion> {
    let of = |by: usize| {
        let s = series.coarser(by);
        let (mut moved, mut mean, mut n) = (0.0, 0.0, 0.0f64);
        for w in s.counts.windows(2) {
            let (Some(a), Some(b)) = (w[0], w[1]) else { continue };
            (moved, mean, n) = (moved + (b - a) * (b - a), mean + 0.5 * (a + b), n + 1.0);
        }
        let all: Vec<f64> = s.known().collect();
        let middle = all.iter().sum::<f64>() / all.len().max(1) as f64;
        let variance = all.iter().map(|v| (v - middle).powi(2)).sum::<f64>() / (all.len() as f64 - 1.0).max(1.0);
        // Two neighbours differ by twice the variance.
        (n >= 10.0 && mean > 0.0 && middle > 0.0).then(|| Dispersion {
            step_s: s.step_s,
            local: 0.5 * moved / mean,
            overall: variance / middle,
        })
    };
    [1, 10, 60].into_iter().filter_map(of).collect()
}

impl Description {
    /// For people.
    pub fn for_people(&self) -> String {
        let mut t = String::new();
        let end = self.from_s + self.steps as u64 * u64::from(self.step_s);
        let _ = writeln!(
            t,
            "{}: {} steps of {} s, {} to {}",
            self.name,
            self.steps,
            self.step_s,
            time::show(self.from_s),
            time::show(end)
        );
        let _ = writeln!(t, "  counted        {:>10}   {} of them zero", self.counted, self.zeros);
        let _ = writeln!(
            t,
            "  mean           {:>10.2}   median {:.0}, 99 % below {:.0}, largest {:.0}",
            self.mean, self.median, self.q99, self.max
        );
        if self.constant {
            let _ = writeln!(t, "  all counts are the same: there is nothing to forecast");
        }
        let _ = writeln!(t, "  gaps           {:>10}   {} steps in all", self.gaps, self.gap_steps);
        for g in &self.longest_gaps {
            let _ = writeln!(t, "    {:>8} steps from {}", g.steps, time::show(g.from_s));
        }
        let _ = writeln!(t, "  outliers       {:>10}   counts far from the {} around them", self.outliers, 2 * AROUND);
        for o in self.largest_outliers.iter().take(5) {
            let _ = writeln!(t, "    {:>8.0} where {:.0} is usual, {}", o.count, o.usual, time::show(o.at_s));
        }
        for s in &self.seasons {
            let _ = writeln!(t, "  {:<14} {:>8.0} %   of the variation goes with it", format!("the {}", s.name), 100.0 * s.share);
        }
        for d in &self.dispersion {
            let _ = writeln!(
                t,
                "  dispersion     {:>10.1}   variance over mean at {} s, {:.1} with trends; independent people make 1",
                d.local, d.step_s, d.overall
            );
        }
        let _ = writeln!(t, "  jumps          {:>10.0}   or more from one step to the next in 2 % of steps", self.jump);
        let r = &self.report;
        let left = [
            ("bots", r.bots),
            ("polls", r.polls),
            ("assets", r.assets),
            ("repeats", r.repeats),
            ("unreadable", r.unreadable),
            ("duplicates", r.duplicates),
            ("unsorted", r.unsorted),
            ("censored", r.censored),
        ];
        let left: Vec<String> = left.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
        let _ = writeln!(
            t,
            "  read           {:>10}   rows; {}",
            r.rows,
            if left.is_empty() { "none left out".into() } else { left.join(", ") }
        );
        for n in &r.notes {
            let _ = writeln!(t, "  note: {n}");
        }
        t
    }
}
