//! What is known for sure about a visitor, and what follows from it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::verdict::{Reason, Verdict};

/// What a fact against a visitor does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// *Suspect*, whatever the score: the slow lane of the room.
    #[default]
    ToTheBack,
    /// Refused, with a way to appeal.
    Refuse,
    /// Written down, nothing else.
    Log,
}

impl Then {
    /// The opinion of a filter that refuses for it.
    pub fn opinion(self, reason: Reason) -> Option<(Verdict, Reason)> {
        (self == Then::Refuse).then_some((Verdict::Refuse { retry_after_s: None }, reason))
    }
}
