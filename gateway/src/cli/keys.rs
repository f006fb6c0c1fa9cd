//! `tidegate keys`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Failure, Outcome, fail, say};

/// Arguments of `keys`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Keys {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidegate keys rotate /var/lib/tidegate/keys && kill -HUP PID        the new key signs, all others verify";

#[derive(Debug, Subcommand)]
enum Command {
    /// Adds a signing key; tokens of the older ones stay good.
    Rotate {
        /// The policy's keys.directory
        directory: PathBuf,
    },
}

impl Keys {
    pub(super) fn run(self) -> Outcome {
        let Command::Rotate { directory } = self.command;
        let made = crate::keys::Keys::rotate(&directory).map_err(|e| fail(Failure::Runtime, &e.to_string()))?;
        let file = directory.join(format!("{made:03}.key"));
        say(&format!("made {}; it signs after the next reload (kill -HUP) or restart", file.display()))
    }
}
