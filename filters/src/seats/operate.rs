//! What an operator does to a room or a sale while it runs.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Rate;

/// Longest message to those who wait, characters.
pub const MESSAGE_MAX: usize = 500;

/// One action. The same words in YAML (`schedule`), the admin API and the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nobody is called or seated; newcomers take places.
    Pause,
    /// Takes back `pause`.
    Resume,
    /// No new places; those who have one are served, those inside stay.
    Drain,
    /// A room: no new places, nobody is called, everybody who waits is told; those inside stay. A sale: it is over now.
    Close,
    /// A room: takes back `drain` and `close`. A sale: it opens now.
    Open,
    /// A sale: its times are as written again, after `open` or `close`.
    AsWritten,
    /// The refill is never above this; `null` lifts it.
    Slow(Option<Rate>),
    /// Said to everybody who waits, at most 500 characters; `null` takes it back.
    Message(Option<String>),
}

impl Action {
    /// Stable name, as in YAML and paths.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Pause => "pause",
            Action::Resume => "resume",
            Action::Drain => "drain",
            Action::Close => "close",
            Action::Open => "open",
            Action::AsWritten => "as_written",
            Action::Slow(_) => "slow",
            Action::Message(_) => "message",
        }
    }

    /// An action without a value by its name.
    pub fn named(name: &str) -> Option<Action> {
        let all = [Action::Pause, Action::Resume, Action::Drain, Action::Close, Action::Open, Action::AsWritten];
        all.into_iter().find(|a| a.name() == name)
    }
}

/// As in the journal: `slow 10/s`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Slow(Some(rate)) => write!(f, "slow {rate}"),
            Action::Slow(None) => f.write_str("slow off"),
            Action::Message(Some(text)) => write!(f, "message {text}"),
            Action::Message(None) => f.write_str("message off"),
            _ => f.write_str(self.name()),
        }
    }
}

/// Who may come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Doors {
    /// Newcomers get places.
    #[default]
    Open = 0,
    /// Only those who have one are served.
    Draining,
    /// Nobody is called any more.
    Closed,
}

impl Doors {
    pub(super) fn from_bits(bits: u8) -> Doors {
        match bits {
            1 => Doors::Draining,
            2 => Doors::Closed,
            _ => Doors::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_written_as_they_are_read() {
        let json = |a: &Action| serde_json::to_string(a).unwrap_or_default();
        for (action, text, said) in [
            (Action::Pause, "\"pause\"", "pause"),
            (Action::AsWritten, "\"as_written\"", "as_written"),
            (Action::Slow(Some(Rate::per_s(10))), "{\"slow\":\"10/s\"}", "slow 10/s"),
            (Action::Slow(None), "{\"slow\":null}", "slow off"),
            (Action::Message(Some("hi".into())), "{\"message\":\"hi\"}", "message hi"),
        ] {
            assert_eq!((json(&action).as_str(), action.to_string().as_str()), (text, said));
            assert_eq!(serde_json::from_str::<Action>(text).ok(), Some(action.clone()));
            assert_eq!(Action::named(action.name()).is_some(), text.starts_with('"'));
        }
        assert_eq!(Action::named("explode"), None);
    }
}
