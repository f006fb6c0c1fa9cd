//! Learning to tell programs from people: labelled visits from journals, access logs, tables and made-up sales; trainers of
//! nets, trees and support-vector machines; figures that say how good a model is, and for whom it is not.

use std::sync::Arc;

use crate::features::Features;

mod builtin;
pub mod data;
pub mod evaluate;
pub mod judge;
pub mod logs;
mod mlp;
mod part;
mod people;
mod programs;
mod svm;
mod traces;
pub mod train;
mod trees;

pub use self::builtin::{SEED, train_builtin};

/// One labelled visit.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its features.
    pub features: Features,
    /// Made by a program.
    pub bot: bool,
    /// Kind of program, or of people; empty when nobody said.
    pub family: Arc<str>,
    /// Where it happened: a file, a journal, a made-up world.
    pub site: Arc<str>,
    /// Hash of where it came from. What shares one is never both learnt from and judged.
    pub network: u64,
    /// Hash of who made it.
    pub visitor: u64,
    /// Which of its visitor's visits, from 1.
    pub visit: u32,
    /// Weight that the data asks for, 1 when nothing is said.
    pub weight: f32,
}

/// Which visits of one visitor are kept: the first ones, then ever fewer, so that nobody dominates.
pub(crate) fn keep_visit(n: u32) -> bool {
    n <= 4 || (n <= 400 && (n.is_power_of_two() || n.is_multiple_of(12)))
}
