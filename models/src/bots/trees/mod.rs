//! Ensembles of decision trees: boosted ones and forests, grown on histograms, exported without loss.
//!
//! A node sends a row to the left when `x <= t`, in 32 bits. Bins are cut at the same `t`, so trainer and runtime never
//! disagree about a row.

mod bins;
mod boost;
mod forest;
mod grow;

pub(super) use self::{boost::boost, forest::forest};
use crate::{features::Features, onnx_write};

/// Where a leaf keeps no feature.
const LEAF: u16 = u16::MAX;

/// A node, or a leaf.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Node {
    /// Feature that is asked for; [`LEAF`] in a leaf.
    feature: u16,
    /// Rows with `x <= value` go left; in a leaf what it adds.
    value: f32,
    /// Index of the left child; the right one follows it.
    left: u32,
}

/// One tree; the first node is its root.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tree(Vec<Node>);

impl Tree {
    fn leaf(&self, row: &Features) -> f32 {
        let mut at = 0;
        loop {
            let node = self.0[at];
            if node.feature == LEAF {
                return node.value;
            }
            at = node.left as usize + usize::from(row[usize::from(node.feature)] > node.value);
        }
    }

    fn each_leaf(&mut self, f: impl Fn(f32) -> f32) {
        self.0.iter_mut().filter(|n| n.feature == LEAF).for_each(|n| n.value = f(n.value));
    }
}

/// Trees whose leaves add up to log-odds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ensemble {
    trees: Vec<Tree>,
    base: f32,
}

impl Ensemble {
    /// Log-odds of one row.
    pub(super) fn logit(&self, row: &Features) -> f32 {
        self.base + self.trees.iter().map(|t| t.leaf(row)).sum::<f32>()
    }

    /// Replaces the log-odds `z` by `scale * z + shift`.
    pub(super) fn calibrate(&mut self, scale: f32, shift: f32) {
        self.base = self.base * scale + shift;
        self.trees.iter_mut().for_each(|t| t.each_leaf(|v| v * scale));
    }

    /// How many trees there are.
    pub(super) fn len(&self) -> usize {
        self.trees.len()
    }

    /// As an ONNX file.
    pub(super) fn onnx(&self, metadata: &[(&str, &str)]) -> Vec<u8> {
        let mut flat = onnx_write::Trees::default();
        flat.base = self.base;
        for (t, tree) in self.trees.iter().enumerate() {
            for (i, node) in tree.0.iter().enumerate() {
                let split = (node.feature != LEAF).then(|| {
                    let left = i64::from(node.left);
                    (i64::from(node.feature), node.value, [left, left + 1])
                });
                flat.push(t as i64, i as i64, split.ok_or(node.value));
            }
        }
        onnx_write::trees(&flat, crate::features::N, metadata)
    }
}

#[cfg(test)]
mod tests;
