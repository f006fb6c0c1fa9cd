//! `tidegate explain`

use std::path::PathBuf;

use clap::Args;

use super::{
    Failure, Outcome, fail, say,
    upstream::{self, Defaults},
};

/// Where the shop is when nobody says.
const SHOP: &str = "http://127.0.0.1:3000";

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Explain {
    /// The policy file; the defaults of `serve --upstream` when left out
    #[arg(conflicts_with = "upstream")]
    file: Option<PathBuf>,
    #[command(flatten)]
    defaults: Defaults,
}

const EXAMPLES: &str = "\
Examples:
  tidegate explain drop-day.yaml
  tidegate explain --upstream http://127.0.0.1:3000        what `serve` does without a policy
  tidegate explain                                         the same";

impl Explain {
    pub(super) fn run(mut self) -> Outcome {
        let policy = match &self.file {
            // Files the policy names need not be here to explain it.
            Some(file) => upstream::load(file, true).map_err(|e| fail(Failure::Check, &e.to_string()))?.policy,
            None => {
                if self.defaults.upstream.is_empty() {
                    self.defaults.upstream.push(SHOP.into());
                }
                self.defaults.policy()?
            }
        };
        say(&tidegate_config::explain(&policy))
    }
}
