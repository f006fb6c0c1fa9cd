//! Features cut into at most 256 bins each, once for all trees.

use crate::features::{Features, N};

/// Most bins of a feature.
pub(super) const BINS: usize = 256;

/// Rows as bins, feature by feature.
pub(super) struct Binned {
    /// `bin <= b` means `x <= cuts[b]`; ascending.
    pub(super) cuts: Vec<Vec<f32>>,
    /// `[feature][row]`.
    pub(super) bins: Vec<Vec<u8>>,
}

impl Binned {
    pub(super) fn of(rows: &[&Features]) -> Self {
        let cuts: Vec<Vec<f32>> = (0..N).map(|f| cuts(rows.iter().map(|r| r[f]).collect())).collect();
        let bin = |cuts: &[f32], x: f32| cuts.partition_point(|c| x > *c) as u8;
        let bins = cuts.iter().enumerate().map(|(f, cuts)| rows.iter().map(|r| bin(cuts, r[f])).collect()).collect();
        Binned { cuts, bins }
    }
}

/// Between neighbours where values are few, else between as many equally filled parts.
fn cuts(mut values: Vec<f32>) -> Vec<f32> {
    values.sort_by(f32::total_cmp);
    let n = values.len();
    let changes: Vec<usize> = (1..n).filter(|i| values[*i] > values[*i - 1]).collect();
    let between = |i: usize| {
        let (a, b) = (values[i - 1], values[i]);
        let middle = a + (b - a) / 2.0;
        // Rounding may reach the upper neighbour, which must stay on the right.
        if middle < b { middle } else { a }
    };
    if changes.len() < BINS {
        return changes.into_iter().map(between).collect();
    }
    let mut cuts = Vec::with_capacity(BINS - 1);
    let mut after = 0;
    for part in 1..BINS {
        let at = changes.partition_point(|c| *c < (part * n / BINS).max(after + 1));
        let Some(change) = changes.get(at) else { break };
        cuts.push(between(*change));
        after = *change;
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_lie_between_values_to_the_last_bit() {
        assert_eq!(cuts(vec![3.0, 1.0, 1.0, 2.0]), [1.5, 2.5]);
        assert!(cuts(vec![5.0; 9]).is_empty());
        // No number lies between, and halfway rounds to the even neighbour: once below, once above.
        for a in [1.0, 1.0f32.next_up()] {
            assert_eq!(cuts(vec![a, a.next_up()]), [a]);
        }
        let many = cuts((0..100_000).map(|i| (i as f32).sqrt()).collect());
        assert!(many.len() == BINS - 1 && many.is_sorted_by(|a, b| a < b), "{}", many.len());
        // A value that half of all rows share costs cuts, never a bin with two of them.
        let half = cuts((0..10_000).map(|i| if i < 5_000 { 0.0 } else { i as f32 }).collect());
        assert!(half.is_sorted_by(|a, b| a < b) && half.len() > 100, "{}", half.len());
    }
}
