//! What can be wrong with a model.

use std::path::PathBuf;

/// Why a model is not used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The operating system refused.
    #[error("{path}: cannot {doing}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
    /// The file breaks the contract, or is no ONNX file at all.
    #[error("{path}: {why}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// The card beside the model is missing, unreadable or about something else.
    #[error("{path}: {why}")]
    Card {
        /// The card.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// The wanted runtime cannot be had.
    #[error("{0}")]
    Runtime(String),
    /// The runtime refused the model, or the model failed on a row.
    #[error("{runtime} cannot run the model: {why}")]
    Run {
        /// Which runtime.
        runtime: &'static str,
        /// What it said.
        why: String,
    },
    /// A trial in a child process ended without an answer.
    #[error("the trial run of the model {0}; the model is not used")]
    Trial(String),
}
