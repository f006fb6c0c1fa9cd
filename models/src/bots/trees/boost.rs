//! Boosted trees: each one mends what those before it leave, by Newton steps on the log loss.

use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;

use super::{
    Ensemble,
    bins::Binned,
    grow::{Pull, Shape, grow},
};
use crate::{
    bots::{
        mlp::sigmoid,
        part::{Part, log_loss},
    },
    features::N,
};

const TREES_MAX: usize = 400;
/// Trees without a better held-out loss before it stops.
const PATIENCE: usize = 30;
/// Share of each tree's advice that is taken.
const RATE: f32 = 0.06;
/// Share of rows that a tree sees.
const ROWS_SHARE: f64 = 0.7;
/// Largest step of a leaf, log-odds.
const STEP_MAX: f32 = 4.0;
const SHAPE: Shape = Shape { depth: 5, mass_min: 4.0, shrink: 4.0, features: N / 2 };

/// Boosts on `train` until `held_out` gets no better. Gives the trees and the held-out loss.
pub(in crate::bots) fn boost(
    train: &Part<'_>,
    held_out: &Part<'_>,
    rng: &mut ChaCha8Rng,
    tell: &mut dyn FnMut(f64),
) -> (Ensemble, f64) {
    let binned = Binned::of(&train.rows);
    let mut z = vec![0.0f32; train.len()];
    let mut z_held = vec![0.0f32; held_out.len()];
    let mut pulls = vec![Pull::default(); train.len()];
    let mut all = Ensemble { trees: vec![], base: 0.0 };
    let mut best = (f64::INFINITY, 0);
    for n in 1..=TREES_MAX {
        for (pull, ((_, bot, w), z)) in pulls.iter_mut().zip(train.iter().zip(&z)) {
            let (p, w) = (f64::from(sigmoid(*z)), f64::from(w));
            *pull = Pull { pull: w * (f64::from(u8::from(bot)) - p), mass: w * (p * (1.0 - p)).max(1e-6) };
        }
        let seen = (train.len() as f64 * ROWS_SHARE).ceil() as usize;
        let mut rows: Vec<u32> = sample(rng, train.len(), seen.min(train.len())).iter().map(|r| r as u32).collect();
        rows.sort_unstable();
        let mut tree = grow(&binned, &pulls, &mut rows, &SHAPE, rng);
        tree.each_leaf(|v| RATE * v.clamp(-STEP_MAX, STEP_MAX));
        z.iter_mut().zip(&train.rows).for_each(|(z, row)| *z += tree.leaf(row));
        z_held.iter_mut().zip(&held_out.rows).for_each(|(z, row)| *z += tree.leaf(row));
        all.trees.push(tree);
        let mut held = z_held.iter();
        let loss = log_loss(held_out, |_| held.next().copied().unwrap_or_default());
        tell(n as f64 / TREES_MAX as f64);
        if loss < best.0 {
            best = (loss, n);
        } else if n >= best.1 + PATIENCE {
            break;
        }
    }
    all.trees.truncate(best.1.max(1));
    (all, best.0)
}
