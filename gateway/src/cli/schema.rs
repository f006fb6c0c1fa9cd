//! `tidegate schema`

use clap::Args;

use super::{Failure, Outcome, fail, say};

/// Arguments of `schema`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Schema {}

const EXAMPLES: &str = "\
Examples:
  tidegate schema > tidegate.schema.json
  # yaml-language-server: $schema=./tidegate.schema.json        as the first line of a policy: the editor completes it";

impl Schema {
    pub(super) fn run(self) -> Outcome {
        let text = serde_json::to_string_pretty(&tidegate_config::schema());
        say(&text.map_err(|e| fail(Failure::Runtime, &e.to_string()))?)
    }
}
