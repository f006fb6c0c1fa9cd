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
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (programs, people) = (scored.iter().filter(|s| s.1).count(), scored.iter().filter(|s| !s.1).count());
    let (mut tp, mut fp, mut area, mut precision, mut recall) = (0.0, 0.0, 0.0, 0.0, 0.0f64);
    let mut i = 0;
    while i < sorted.len() {
        // Equal scores are one step: neither order may be credited.
        let ties = sorted[i..].iter().take_while(|s| s.0 == sorted[i].0).count();
        let hits = sorted[i..i + ties].iter().filter(|s| s.1).count() as f64;
        let misses = ties as f64 - hits;
        area += misses * (tp + hits / 2.0);
        tp += hits;
        fp += misses;
        precision += hits * tp / (tp + fp);
        if fp <= 0.01 * people as f64 {
            recall = tp / (programs as f64).max(1.0);
        }
        i += ties;
    }
    let over = |at: f32, bot: bool| scored.iter().filter(|s| s.1 == bot && s.0 >= at).count();
    let share = |n: usize, of: usize| n as f64 / (of as f64).max(1.0);
    let high = over(0.85, false);
    Figures {
        people,
        programs,
        auc: round(area / (tp * fp).max(1.0)),
        average_precision: round(precision / tp.max(1.0)),
        recall_at_1pct_fpr: round(recall),
        fpr_at_085: [round(share(high, people)), round(wilson(high, people).1)],
        recall_at_085: round(share(over(0.85, true), programs)),
        people_below_05: round(1.0 - share(over(0.5, false), people)),
    }
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

fn round(v: f64) -> f64 {
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
}
