//! One tree, grown by the gain of splits on histograms.

use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;

use super::{
    LEAF, Node, Tree,
    bins::{BINS, Binned},
};
use crate::features::N;

/// What a row pulls a leaf to, and how strongly it does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pull {
    /// Weighted pull; a leaf's value is the sum of these over that of `mass`.
    pub(super) pull: f64,
    /// Weight, or curvature.
    pub(super) mass: f64,
}

impl Pull {
    fn add(&mut self, other: Pull) {
        self.pull += other.pull;
        self.mass += other.mass;
    }

    fn less(self, other: Pull) -> Pull {
        Pull { pull: self.pull - other.pull, mass: self.mass - other.mass }
    }
}

/// How a tree grows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Questions on the way to a leaf.
    pub(super) depth: usize,
    /// Least mass of a leaf.
    pub(super) mass_min: f64,
    /// Draws leaves to zero: added to their mass.
    pub(super) shrink: f64,
    /// Features that are looked at in a node.
    pub(super) features: usize,
}

/// A split that is worth making.
struct Split {
    feature: usize,
    bin: u8,
    gain: f64,
}

/// Grows a tree on some rows (repeated ones count again).
pub(super) fn grow(binned: &Binned, pulls: &[Pull], rows: &mut [u32], shape: &Shape, rng: &mut ChaCha8Rng) -> Tree {
    let mut nodes = vec![Node { feature: LEAF, value: 0.0, left: 0 }];
    let mut open = vec![(0usize, 0..rows.len(), 0usize)];
    while let Some((at, range, depth)) = open.pop() {
        let part = &mut rows[range.clone()];
        let mut all = Pull::default();
        part.iter().for_each(|r| all.add(pulls[*r as usize]));
        let split = if depth < shape.depth { best(binned, pulls, part, all, shape, rng) } else { None };
        let Some(split) = split else {
            nodes[at].value = (all.pull / (all.mass + shape.shrink).max(f64::MIN_POSITIVE)) as f32;
            continue;
        };
        let column = &binned.bins[split.feature];
        let middle = range.start + halves(part, |r| column[r as usize] <= split.bin);
        let left = nodes.len();
        nodes[at] =
            Node { feature: split.feature as u16, value: binned.cuts[split.feature][usize::from(split.bin)], left: left as u32 };
        nodes.extend([Node { feature: LEAF, value: 0.0, left: 0 }; 2]);
        open.push((left + 1, middle..range.end, depth + 1));
        open.push((left, range.start..middle, depth + 1));
    }
    Tree(nodes)
}

fn best(binned: &Binned, pulls: &[Pull], rows: &[u32], all: Pull, shape: &Shape, rng: &mut ChaCha8Rng) -> Option<Split> {
    let worth = |p: Pull| p.pull * p.pull / (p.mass + shape.shrink);
    if all.mass < 2.0 * shape.mass_min {
        return None;
    }
    let mut found: Option<Split> = None;
    let mut looked = sample(rng, N, shape.features.min(N)).into_vec();
    looked.sort_unstable();
    for feature in looked {
        let cuts = binned.cuts[feature].len();
        if cuts == 0 {
            continue;
        }
        let column = &binned.bins[feature];
        let mut histogram = [Pull::default(); BINS];
        rows.iter().for_each(|r| histogram[usize::from(column[*r as usize])].add(pulls[*r as usize]));
        let mut left = Pull::default();
        for (bin, pull) in histogram[..cuts].iter().enumerate() {
            left.add(*pull);
            let right = all.less(left);
            if left.mass < shape.mass_min || right.mass < shape.mass_min {
                continue;
            }
            let gain = worth(left) + worth(right) - worth(all);
            if gain > found.as_ref().map_or(1e-9, |s| s.gain) {
                found = Some(Split { feature, bin: bin as u8, gain });
            }
        }
    }
    found
}

/// Moves those that go left to the front, both in their order, and says how many they are.
fn halves(rows: &mut [u32], left: impl Fn(u32) -> bool) -> usize {
    let (front, back): (Vec<u32>, Vec<u32>) = rows.iter().partition(|r| left(**r));
    rows[..front.len()].copy_from_slice(&front);
    rows[front.len()..].copy_from_slice(&back);
    front.len()
}
