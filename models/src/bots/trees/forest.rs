//! A random forest: many deep trees, each on a draw of the rows, averaged.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::{
    Ensemble,
    bins::Binned,
    grow::{Pull, Shape, grow},
};
use crate::{bots::part::Part, features::N};

const TREES: usize = 200;
/// A third of the features in each node; with fewer the few strong ones are missed too often.
const SHAPE: Shape = Shape { depth: 12, mass_min: 5.0, shrink: 1.0, features: N / 3 };

/// Grows a forest. Its output is an average between -0.5 and 0.5, log-odds only after calibration.
pub(in crate::bots) fn forest(train: &Part<'_>, rng: &mut ChaCha8Rng, tell: &mut dyn FnMut(f64)) -> Ensemble {
    let binned = Binned::of(&train.rows);
    let pull = |(_, bot, w)| {
        let mass = f64::from(w);
        Pull { pull: if bot { mass / 2.0 } else { -mass / 2.0 }, mass }
    };
    let pulls: Vec<Pull> = train.iter().map(pull).collect();
    let mut all = Ensemble { trees: vec![], base: 0.0 };
    for n in 1..=TREES {
        let mut rows: Vec<u32> = (0..train.len()).map(|_| rng.random_range(0..train.len() as u32)).collect();
        rows.sort_unstable();
        let mut tree = grow(&binned, &pulls, &mut rows, &SHAPE, rng);
        tree.each_leaf(|v| v / TREES as f32);
        all.trees.push(tree);
        tell(n as f64 / TREES as f64);
    }
    all
}
