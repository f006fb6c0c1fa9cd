//! Thresholds and models tried on what has happened, before they act: the journal of decisions is read again, and every
//! visitor in it judged anew.

mod book;
mod compare;
mod curve;
mod explain;
mod gates;
mod labels;
mod queue;
mod what_if;

pub use self::{
    book::{Book, Rescore, SLICES, VISITORS_MAX, Visitor, shown},
    compare::{Compared, Comparing, HURT_MAX},
    curve::{Curve, Point, curve},
    explain::{Explained, Explainer, Reason},
    gates::{Act, GateAt, Gates, Thresholds},
    labels::{LABELS_MAX, Label, LabelError, Labels, visitor},
    queue::{Candidate, queue},
    what_if::{Counts, Example, Slice, WhatIf, what_if},
};

#[cfg(test)]
mod tests;
