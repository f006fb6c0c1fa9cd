//! `tidegate page`

use clap::{Args, Subcommand};

use super::{Failure, Outcome, fail, say};
use crate::pages::{Language, shipped_template};

/// Arguments of `page`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Page {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidegate page template > waiting.html       to change, and name in the policy: page: { template: waiting.html }
  tidegate page words > words/pt-BR.json      to translate; page: { translations: words }
  tidegate page words de                      the shipped German ones";

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the shipped template of the waiting page.
    Template,
    /// Prints the words of a shipped language.
    Words {
        /// en, zh, de, fr, es, ja or ar
        #[arg(default_value = "en")]
        language: String,
    },
}

impl Page {
    pub(super) fn run(self) -> Outcome {
        match self.command {
            Command::Template => say(shipped_template()),
            Command::Words { language } => match Language::source(&language) {
                Some(text) => say(text),
                None => {
                    let known: Vec<&str> = Language::all_builtin().iter().map(|l| l.tag.as_str()).collect();
                    Err(fail(Failure::Usage, &format!("no language `{language}` is shipped; there are: {}", known.join(", "))))
                }
            },
        }
    }
}
