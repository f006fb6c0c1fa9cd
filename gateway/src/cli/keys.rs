//! `tidegate keys`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use tidegate_filters::Span;

use super::{Failure, Outcome, fail, say};
use crate::operate::{Bypass, BypassRequest};

/// Arguments of `keys`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Keys {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidegate keys rotate /var/lib/tidegate/keys && kill -HUP PID        the new key signs, all others verify
  tidegate keys bypass /var/lib/tidegate/keys --host shop.example --room drop --for 8h
                                                     a link and a token past the room, for staff or a partner";

#[derive(Debug, Subcommand)]
enum Command {
    /// Adds a signing key; tokens of the older ones stay good.
    Rotate {
        /// The policy's keys.directory
        directory: PathBuf,
        /// Make the directory and its first key
        #[arg(long)]
        first: bool,
    },
    /// Makes a bypass: whoever has it goes past a room, without a place and without a seat.
    Bypass {
        /// The policy's keys.directory
        directory: PathBuf,
        /// The shop's host, as in its address
        #[arg(long)]
        host: String,
        /// One room; all of them when left out
        #[arg(long, default_value = "")]
        room: String,
        /// Good for so long: 30m, 8h, at most 90d
        #[arg(long = "for", default_value = "8h")]
        for_: Span,
        /// The policy's own_prefix
        #[arg(long, default_value = "/.tidegate/")]
        own_prefix: String,
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

impl Keys {
    pub(super) fn run(self) -> Outcome {
        let broken = |e: &dyn std::fmt::Display| fail(Failure::Runtime, &e.to_string());
        match self.command {
            Command::Rotate { directory, first } => {
                if !first && !directory.is_dir() {
                    let what = format!("{} is no directory; `--first` makes it, with its first key", directory.display());
                    return Err(fail(Failure::Usage, &what));
                }
                let made = crate::keys::Keys::rotate(&directory).map_err(|e| broken(&e))?;
                let file = directory.join(format!("{made:03}.key"));
                say(&format!("made {}; it signs after the next reload (kill -HUP) or restart", file.display()))
            }
            Command::Bypass { directory, host, room, for_, own_prefix, json } => {
                if !crate::keys::Keys::are_in(&directory) {
                    let what = format!(
                        "{} has no keys: a bypass is signed with those of the gate (`keys.directory`; `keys rotate --first` makes them)",
                        directory.display()
                    );
                    return Err(fail(Failure::Usage, &what));
                }
                let keys = crate::keys::Keys::open(&directory).map_err(|e| broken(&e))?;
                let now_ms = crate::clock::Clock::new().now().wall_ms;
                let asked = BypassRequest { room: &room, host: &host, for_ms: for_.ms(), now_ms };
                let token = asked.token().map_err(|e| fail(Failure::Usage, &e.to_string()))?;
                let bypass = Bypass::new(&token, keys.ring.seal(&token), &own_prefix);
                match json {
                    true => say(&serde_json::to_string(&bypass).unwrap_or_default()),
                    false => say(&format!(
                        "id     {}   (takes it back: rooms[].revoked_bypasses)\nlink   https://{host}{}\nheader Authorization: Tidegate {}",
                        bypass.id, bypass.path, bypass.token
                    )),
                }
            }
        }
    }
}
