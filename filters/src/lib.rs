//! What Tidegate decides, and nothing else.
//!
//! Pure: no I/O, no clock, no entropy, no async. Time comes in as [`Now`], randomness as a seed or a key at
//! construction. The same policy, seed, visits and scores give the same verdicts, bit for bit, so a whole sale is
//! simulated in milliseconds and a bug is a seed.
//!
//! A visit meets [`Pipeline::screen`], then (with its score) [`Pipeline::admit`]; beside the visits the shell calls
//! [`Pipeline::tick`] a few times a second.

pub mod bucket;
pub mod filter;
pub mod forecast;
pub mod pipeline;
#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod pipeline_tests;
pub mod plan;
pub mod record;
pub mod reference;
pub mod route;
pub mod rule;
pub mod sabotage;
pub mod seats;
pub mod time;
pub mod units;
pub mod verdict;
pub mod visit;

pub use filter::{Filter, FilterSettings};
pub use pipeline::{Pipeline, PipelineSettings};
pub use record::Row;
pub use route::{Route, Routes};
pub use time::Now;
pub use units::{ByteSize, Rate, Span};
pub use verdict::{Decision, Reason, Verdict};
pub use visit::{Bot, Known, Network, Score, Visit, VisitorId, Wants};
