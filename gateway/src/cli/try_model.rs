//! `tidegate try-model`: a model is loaded and scores a row, in a process that it may take down.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, Outcome};

/// Arguments of `try-model`.
#[derive(Debug, Args)]
pub(super) struct TryModel {
    /// The model file
    file: PathBuf,
    /// It is a forecast
    #[arg(long)]
    forecast: bool,
    /// `auto`, `onnxruntime`, `onnxruntime-cuda` (tried on the CPU) or `builtin`
    #[arg(long, default_value = "auto")]
    runtime: String,
}

impl TryModel {
    pub(super) fn run(self) -> Outcome {
        match crate::scoring::trial(&self.file, &self.runtime, self.forecast) {
            0 => Ok(()),
            _ => Err(Failure::Check),
        }
    }
}
