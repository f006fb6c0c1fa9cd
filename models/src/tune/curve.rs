//! The threshold against people hurt and programs passed, with intervals.

use serde::Serialize;

use super::{
    book::Visitor,
    labels::{Label, Labels},
};
use crate::bots::evaluate::{Figures, figures, share};

/// Thresholds looked at: 0.01, 0.02, … 0.99.
const STEPS: u8 = 99;

/// One threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The threshold.
    pub at: f32,
    /// Share of people at or above it, with its 95 % interval.
    pub people_hurt: [f64; 3],
    /// Share of programs below it, with its 95 % interval.
    pub programs_passed: [f64; 3],
}

/// The curve, and what it was made from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// Labelled people and programs that the journal knows.
    pub people: usize,
    /// The same.
    pub programs: usize,
    /// Labels of visitors that the journal does not know.
    pub unknown: usize,
    /// Area under the curve and the like.
    pub figures: Figures,
    /// By threshold.
    pub points: Vec<Point>,
}

/// Of labelled visitors, each by its highest score.
pub fn curve(visitors: &[Visitor], labels: &Labels) -> Curve {
    let labelled = visitors.iter().filter_map(|v| Some((v.score, labels.get(v.id)? == Label::Program)));
    let scored: Vec<(f32, bool)> = labelled.collect();
    let of = |program: bool| {
        let mut scores: Vec<f32> = scored.iter().filter(|s| s.1 == program).map(|s| s.0).collect();
        scores.sort_by(f32::total_cmp);
        scores
    };
    let (people, programs) = (of(false), of(true));
    let point = |step: u8| {
        let at = f32::from(step) / 100.0;
        let below = |scores: &[f32]| scores.partition_point(|s| *s < at);
        Point {
            at,
            people_hurt: share(people.len() - below(&people), people.len()),
            programs_passed: share(below(&programs), programs.len()),
        }
    };
    Curve {
        people: people.len(),
        programs: programs.len(),
        unknown: labels.len() - scored.len(),
        figures: figures(&scored),
        points: (1..=STEPS).map(point).collect(),
    }
}
