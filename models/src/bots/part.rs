//! What a trainer sees: rows, labels, weights. And what may never be on both sides of a split: networks.

use std::collections::BTreeMap;

use super::Sample;
use crate::features::{Features, N, mix};

/// No network has more than this share of its class's weight, or three times its equal share where networks are few: one
/// shared office, or one who wants to poison, is not the class.
const NETWORK_SHARE_MAX: f64 = 0.02;
const EQUAL_SHARES_MAX: f64 = 3.0;

/// Rows to learn from or to be judged on.
#[derive(Default)]
pub(super) struct Part<'a> {
    pub(super) rows: Vec<&'a Features>,
    pub(super) bots: Vec<bool>,
    pub(super) weights: Vec<f32>,
}

impl<'a> Part<'a> {
    /// With the weights that the samples carry.
    pub(super) fn of(samples: impl Iterator<Item = &'a Sample>) -> Self {
        let mut part = Part::default();
        for s in samples {
            part.rows.push(&s.features);
            part.bots.push(s.bot);
            part.weights.push(s.weight);
        }
        part
    }

    /// Both classes weigh the same, the mean weight is 1, and no network dominates its class.
    pub(super) fn balanced(samples: &[&'a Sample]) -> Self {
        let mut part = Part::of(samples.iter().copied());
        for bot in [false, true] {
            let mut by_network: BTreeMap<u64, f64> = BTreeMap::new();
            for s in samples.iter().filter(|s| s.bot == bot) {
                *by_network.entry(s.network).or_default() += f64::from(s.weight);
            }
            let total: f64 = by_network.values().sum();
            let most = total * NETWORK_SHARE_MAX.max(EQUAL_SHARES_MAX / by_network.len().max(1) as f64);
            let capped: f64 = by_network.values().map(|w| w.min(most)).sum();
            let class = samples.len() as f64 / 2.0 / capped.max(f64::MIN_POSITIVE);
            for (w, s) in part.weights.iter_mut().zip(samples).filter(|(_, s)| s.bot == bot) {
                *w = (f64::from(*w) * class * (most / by_network[&s.network]).min(1.0)) as f32;
            }
        }
        part
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Rows, label 0 or 1, weight.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a Features, bool, f32)> {
        self.rows.iter().zip(&self.bots).zip(&self.weights).map(|((r, b), w)| (*r, *b, *w))
    }
}

/// Deals networks to `n` folds, alike in programs and people: a fold for each sample.
pub(super) fn folds(samples: &[&Sample], n: usize, seed: u64) -> Vec<usize> {
    let mut networks: BTreeMap<u64, [usize; 2]> = BTreeMap::new();
    for s in samples {
        networks.entry(s.network).or_default()[usize::from(s.bot)] += 1;
    }
    // In an order that the seed decides, each to the fold that has the least of what it mostly brings.
    let mut order: Vec<(u64, u64, [usize; 2])> = networks.into_iter().map(|(k, v)| (mix(k ^ mix(seed)), k, v)).collect();
    order.sort_unstable();
    let mut have = vec![[0usize; 2]; n.max(1)];
    let mut fold_of: BTreeMap<u64, usize> = BTreeMap::new();
    for (_, network, brings) in order {
        let class = usize::from(brings[1] >= brings[0]);
        let least = (0..have.len()).min_by_key(|f| (have[*f][class], *f)).unwrap_or(0);
        (0..2).for_each(|c| have[least][c] += brings[c]);
        fold_of.insert(network, least);
    }
    samples.iter().map(|s| fold_of[&s.network]).collect()
}

/// Those of fold `k`, and the others.
pub(super) fn split<'a>(samples: &[&'a Sample], fold: &[usize], k: usize) -> (Vec<&'a Sample>, Vec<&'a Sample>) {
    let pick = |of: bool| samples.iter().zip(fold).filter(|(_, f)| (**f == k) == of).map(|(s, _)| *s).collect();
    (pick(true), pick(false))
}

/// Log loss of scores in log-odds, weighted.
pub(super) fn log_loss(part: &Part<'_>, mut logit: impl FnMut(&Features) -> f32) -> f64 {
    let (mut sum, mut weight) = (0.0f64, 0.0f64);
    for (row, bot, w) in part.iter() {
        let z = f64::from(logit(row));
        // ln(1 + e^-z), without overflow on either side.
        let z = if bot { z } else { -z };
        sum += f64::from(w) * if z > 0.0 { (-z).exp().ln_1p() } else { z.exp().ln_1p() - z };
        weight += f64::from(w);
    }
    sum / weight.max(f64::MIN_POSITIVE)
}

/// Medians of people's visits: what reasons are told against.
pub(super) fn baseline<'a>(samples: impl Iterator<Item = &'a Sample> + Clone) -> Vec<f32> {
    let column = |i: usize| {
        let mut values: Vec<f32> = samples.clone().filter(|s| !s.bot).map(|s| s.features[i]).collect();
        values.sort_by(f32::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    (0..N).map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(network: u64, bot: bool) -> Sample {
        Sample { features: [0.0; N], bot, family: "".into(), site: "".into(), network, visitor: network, visit: 1, weight: 1.0 }
    }

    #[test]
    fn classes_weigh_the_same_and_no_network_dominates() {
        let mut all: Vec<Sample> = (0..300).map(|i| sample(i, false)).collect();
        all.extend((0..600).map(|_| sample(7, false)));
        all.extend((1000..1100).map(|i| sample(i, true)));
        let refs: Vec<&Sample> = all.iter().collect();
        let part = Part::balanced(&refs);
        let sum = |f: &dyn Fn(&Sample) -> bool| -> f64 {
            refs.iter().zip(&part.weights).filter(|(s, _)| f(s)).map(|(_, w)| f64::from(*w)).sum()
        };
        assert!((sum(&|s| s.bot) - 500.0).abs() < 0.1 && (sum(&|s| !s.bot) - 500.0).abs() < 0.1);
        // 601 of 900 visits are of one network: 2 % of 900 count, beside 299 others.
        let share = sum(&|s| !s.bot && s.network == 7) / sum(&|s| !s.bot);
        assert!((share - 18.0 / 317.0).abs() < 1e-3, "{share}");
    }

    #[test]
    fn a_network_is_in_one_fold_and_folds_are_alike() {
        let all: Vec<Sample> = (0..2000u64).map(|i| sample(i / 4, i % 40 < 8)).collect();
        let refs: Vec<&Sample> = all.iter().collect();
        let of = folds(&refs, 5, 1);
        for (i, s) in all.iter().enumerate() {
            assert_eq!(of[i], of[(s.network * 4) as usize], "a network is split");
        }
        for fold in 0..5 {
            let bots = all.iter().zip(&of).filter(|(s, f)| s.bot && **f == fold).count();
            assert!((70..=90).contains(&bots), "fold {fold} has {bots} of 400 programs");
        }
        assert_ne!(of, folds(&refs, 5, 2));
        assert_eq!(of, folds(&refs, 5, 1));
    }

    #[test]
    fn the_loss_is_the_textbooks_and_does_not_overflow() {
        let all = [sample(1, true), sample(2, false)];
        let part = Part::of(all.iter());
        assert!((log_loss(&part, |_| 0.0) - std::f64::consts::LN_2).abs() < 1e-9);
        assert!((log_loss(&part, |_| 1e4) - 5e3).abs() < 1e-6);
        let p = 1.0 / (1.0 + (-2.0f64).exp());
        assert!((log_loss(&part, |_| 2.0) - (-p.ln() - (1.0 - p).ln()) / 2.0).abs() < 1e-9);
    }
}
