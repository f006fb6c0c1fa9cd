//! How well scores tell programs from people.

use serde::Serialize;

/// Figures over one set of visits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Visits of people.
    pub people: usize,
    /// Visits of programs.
    pub programs: usize,
    /// Area under the ROC curve.
    pub auc: f64,
    /// Average precision.
    pub average_precision: f64,
    /// Share of programs above the score that 1 % of people reach.
    pub recall_at_1pct_fpr: f64,
    /// Share of people at or above 0.85, and the upper end of its 95 % Wilson interval.
    pub fpr_at_085: [f64; 2],
    /// Share of programs at or above 0.85.
    pub recall_at_085: f64,
    /// Share of people below 0.5.
    pub people_below_05: f64,
}

/// Figures of `(score, is a program)` pairs.
pub fn figures(scored: &[(f32, bool)]) -> Figures {
    let mut points: Vec<Point> = scored.iter().map(|(score, bot)| Point { score: *score, bot: *bot, group: 0 }).collect();
    sort(&mut points);
    let sweep = sweep(&points, None, 0.85);
    let (programs, people) = (scored.iter().filter(|s| s.1).count(), scored.iter().filter(|s| !s.1).count());
    let over = |at: f32, bot: bool| scored.iter().filter(|s| s.1 == bot && s.0 >= at).count();
    let share = |n: usize, of: usize| n as f64 / (of as f64).max(1.0);
    let high = over(0.85, false);
    Figures {
        people,
        programs,
        auc: round(sweep.auc),
        average_precision: round(sweep.average_precision),
        recall_at_1pct_fpr: round(sweep.recall[1]),
        fpr_at_085: [round(share(high, people)), round(wilson(high, people).1)],
        recall_at_085: round(share(over(0.85, true), programs)),
        people_below_05: round(1.0 - share(over(0.5, false), people)),
    }
}

/// One judged visit.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// What the model said.
    pub score: f32,
    /// Whether it is a program.
    pub bot: bool,
    /// What is drawn together in a bootstrap: index of its network.
    pub group: u32,
}

/// Highest score first.
pub fn sort(points: &mut [Point]) {
    points.sort_by(|a, b| b.score.total_cmp(&a.score));
}

/// Shares of people above the threshold at which recall is told.
pub const PEOPLE_ABOVE: [f64; 2] = [0.001, 0.01];

/// What one pass over sorted points tells; 0 where a class is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sweep {
    /// Area under the ROC curve.
    pub auc: f64,
    /// Average precision.
    pub average_precision: f64,
    /// Share of programs above the score that 0.1 % and 1 % of people reach.
    pub recall: [f64; 2],
    /// F1 at the threshold.
    pub f1: f64,
    /// Both classes are there.
    pub both: bool,
}

/// Passes over points sorted by [`sort`]; `times` says how often each group counts, once when left out. `at` is for F1.
pub fn sweep(points: &[Point], times: Option<&[u32]>, at: f32) -> Sweep {
    let count = |p: &Point| times.map_or(1.0, |t| f64::from(t[p.group as usize]));
    let sum = |bot: bool| points.iter().filter(|p| p.bot == bot).map(count).sum::<f64>();
    let (people, programs) = (sum(false), sum(true));
    let mut out = Sweep { both: people > 0.0 && programs > 0.0, ..Sweep::default() };
    let (mut tp, mut fp, mut area, mut precision) = (0.0, 0.0, 0.0, 0.0);
    // Equal scores are one step: neither order may be credited.
    for ties in points.chunk_by(|a, b| a.score == b.score) {
        let hits = ties.iter().filter(|p| p.bot).map(count).sum::<f64>();
        let misses = ties.iter().filter(|p| !p.bot).map(count).sum::<f64>();
        area += misses * (tp + hits / 2.0);
        tp += hits;
        fp += misses;
        if hits > 0.0 {
            precision += hits * tp / (tp + fp);
        }
        for (recall, share) in out.recall.iter_mut().zip(PEOPLE_ABOVE) {
            if fp <= share * people {
                *recall = tp / programs.max(f64::MIN_POSITIVE);
            }
        }
        if ties[0].score >= at {
            out.f1 = 2.0 * tp / (tp + fp + programs).max(f64::MIN_POSITIVE);
        }
    }
    if out.both {
        (out.auc, out.average_precision) = (area / (tp * fp), precision / tp);
    }
    out
}

/// The 95 % Wilson interval of `k` in `n`.
pub fn wilson(k: usize, n: usize) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let (n, p, z) = (n as f64, k as f64 / n as f64, 1.96f64);
    let (middle, half) = (p + z * z / (2.0 * n), z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt());
    let end = |v: f64| (v / (1.0 + z * z / n)).clamp(0.0, 1.0);
    (end(middle - half), end(middle + half))
}

/// `k` of `n` as a share, and the ends of its 95 % interval.
pub fn share(k: usize, n: usize) -> [f64; 3] {
    let (low, high) = wilson(k, n);
    [k as f64 / n.max(1) as f64, low, high]
}

pub(super) fn round(v: f64) -> f64 {
    (v * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_cases() {
        let f = figures(&[(0.9, true), (0.8, false), (0.7, true), (0.1, false)]);
        assert_eq!((f.auc, f.average_precision), (0.75, 0.8333));
        assert_eq!((f.recall_at_1pct_fpr, f.recall_at_085, f.fpr_at_085[0], f.people_below_05), (0.5, 0.5, 0.0, 0.5));
        let same = figures(&[(0.5, true), (0.5, false), (0.5, false)]);
        assert_eq!((same.auc, same.recall_at_1pct_fpr), (0.5, 0.0));
        let perfect = figures(&[(0.99, true), (0.2, false)]);
        assert_eq!((perfect.auc, perfect.average_precision, perfect.recall_at_1pct_fpr), (1.0, 1.0, 1.0));
        let (low, high) = wilson(1, 100);
        assert!((low - 0.0018).abs() < 1e-3 && (high - 0.0545).abs() < 1e-3, "{low} {high}");
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }

    #[test]
    fn a_group_that_counts_twice_is_there_twice() {
        let mut points: Vec<Point> = [(0.9, true, 0), (0.8, false, 1), (0.7, true, 1), (0.7, false, 0), (0.2, false, 2)]
            .map(|(score, bot, group)| Point { score, bot, group })
            .to_vec();
        let mut twice: Vec<Point> = points.iter().flat_map(|p| std::iter::repeat_n(*p, [1, 2, 0][p.group as usize])).collect();
        sort(&mut points);
        sort(&mut twice);
        let (a, b) = (sweep(&points, Some(&[1, 2, 0]), 0.75), sweep(&twice, None, 0.75));
        assert!((a.auc - b.auc).abs() < 1e-12 && (a.average_precision - b.average_precision).abs() < 1e-12);
        assert_eq!((a.recall, a.f1, a.both), (b.recall, b.f1, true));
        // Above 0.75: one program of two and one person.
        assert_eq!(sweep(&points, None, 0.75).f1, 0.5);
        assert!(!sweep(&points[..1], None, 0.5).both);
    }
}
