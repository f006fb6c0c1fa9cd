//! `tidegate try-model`: a model is loaded and scores a row, in a process that it may take down.

use clap::Args;

use super::{Failure, Outcome, fail};

/// Arguments of `try-model`.
#[derive(Debug, Args)]
pub(super) struct TryModel {
    /// The model file
    file: String,
    /// `auto`, `onnxruntime` or `builtin`
    #[arg(long, default_value = "auto")]
    runtime: String,
}

impl TryModel {
    pub(super) fn run(self) -> Outcome {
        crate::scoring::try_model(&self.file, &self.runtime).map_err(|e| fail(Failure::Check, &e))
    }
}
