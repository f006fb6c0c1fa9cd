//! What Tidegate learns and what it learns from: the journal, features, the score of a visit, and how the models are made.

pub mod journal;
