//! `tidegate draw`: the draw without a gate, for operators who run one by hand and for everybody who checks one.

use clap::{Args, Subcommand};

use super::Outcome;

mod by_hand;
mod files;
mod grind;
mod rehearse;
mod rules;
mod verify;

/// Arguments of `draw`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Draw {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidegate draw verify transcript.json                        draws again and compares everything
  tidegate draw receipt transcript.json receipt.json          proves that your entry was in the drum
  tidegate draw rehearse --entries 10000 --seed 1 --out sale  a whole invented sale to try a verifier on
  tidegate draw grind --entries 1000000 --seed 1              why a draw needs public randomness
  tidegate draw commit --sale drop-1 --rules rules.json --dir drop-1
  tidegate draw issue drop-1 0                                signs the receipt of entry 0
  tidegate draw run drop-1 --entries list.csv                 freezes and, when no beacon is promised, draws

Nothing here touches the network: bring transcript, entries and beacon round as files.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Promises: makes the secret and the keys, prints what must be published before the first entry.
    Commit(by_hand::Commit),
    /// Signs the receipt of one entry.
    Issue(by_hand::Issue),
    /// Freezes a list, then draws and reveals it once the promised beacon round is there.
    Run(by_hand::Run),
    /// Draws again from a transcript and says everything that does not hold.
    Verify(verify::Verify),
    /// Proves that a receipt's entry is in the frozen list.
    Receipt(verify::Receipt),
    /// Invents a whole sale from a number, for auditors and tests.
    Rehearse(rehearse::Rehearse),
    /// Shows how an operator could choose an outcome without a beacon, and cannot with one.
    Grind(grind::Grind),
}

impl Draw {
    pub(super) fn run(self) -> Outcome {
        match self.command {
            Command::Commit(c) => c.run(),
            Command::Issue(c) => c.run(),
            Command::Run(c) => c.run(),
            Command::Verify(c) => c.run(),
            Command::Receipt(c) => c.run(),
            Command::Rehearse(c) => c.run(),
            Command::Grind(c) => c.run(),
        }
    }
}
