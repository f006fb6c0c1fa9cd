//! `tidegate check`

use std::path::PathBuf;

use clap::Args;

use super::{Failure, Outcome, fail, note, say, upstream};

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Check {
    /// The policy file
    file: PathBuf,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
    /// Do not look at certificates, models, tokens and directories: they are on another machine
    #[arg(long)]
    skip_files: bool,
}

const EXAMPLES: &str = "\
Examples:
  tidegate check drop-day.yaml
  tidegate check --json drop-day.yaml | jq '.errors[].path'
  tidegate check --skip-files drop-day.yaml        on a machine without the certificates

Exit codes: 0 the gate would start with it, 1 it would not.";

impl Check {
    pub(super) fn run(self) -> Outcome {
        let checked = upstream::load(&self.file, self.skip_files);
        if self.json {
            let report = match &checked {
                Ok(loaded) => serde_json::json!({
                    "ok": true, "file": loaded.file, "sha256": loaded.sha256, "errors": [], "warnings": loaded.warnings,
                }),
                Err(e) => serde_json::json!({ "ok": false, "file": e.file, "errors": e.errors, "warnings": e.warnings }),
            };
            say(&report.to_string())?;
            return checked.map(drop).map_err(|_| Failure::Check);
        }
        match checked {
            Ok(loaded) => {
                note(&loaded.render_warnings());
                let warnings = match loaded.warnings.len() {
                    0 => String::new(),
                    1 => ", 1 warning".into(),
                    n => format!(", {n} warnings"),
                };
                say(&format!("{}: good{warnings}", self.file.display()))
            }
            Err(e) => {
                let fault = fail(Failure::Check, &e.to_string());
                note(&format!("{}: {} to mend", self.file.display(), count(e.errors.len())));
                Err(fault)
            }
        }
    }
}

fn count(errors: usize) -> String {
    if errors == 1 { "1 error".into() } else { format!("{errors} errors") }
}
