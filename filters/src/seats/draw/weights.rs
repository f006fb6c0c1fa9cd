//! Balls an entry throws in, by the class it has when the list is frozen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rule::bot_gate::Class;

/// Most balls of one entry.
pub const WEIGHT_MAX: u8 = 16;

/// `weights: { human: 16, unsure: 8, crowded: 2, suspect: 1 }`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// Scored below every threshold.
    #[schemars(range(max = 16))]
    pub human: u8,
    /// Scored unsure, or not scored.
    #[schemars(range(max = 16))]
    pub unsure: u8,
    /// Above the quota of its network: no refusal, a smaller chance.
    #[schemars(range(max = 16))]
    pub crowded: u8,
    /// Scored suspect.
    #[schemars(range(max = 16))]
    pub suspect: u8,
}

impl Default for Weights {
    fn default() -> Self {
        Weights { human: 16, unsure: 8, crowded: 2, suspect: 1 }
    }
}

impl Weights {
    /// The weight of an entry: its class, and at most `crowded` when it came above a quota.
    pub fn of(&self, class: Class, crowded: bool) -> u8 {
        let by_class = match class {
            Class::Human => self.human,
            Class::Unsure => self.unsure,
            Class::Suspect => self.suspect,
        };
        let weight = if crowded { by_class.min(self.crowded) } else { by_class };
        weight.min(WEIGHT_MAX)
    }

    /// Whether the table knows a weight.
    pub fn has(&self, weight: u8) -> bool {
        [self.human, self.unsure, self.crowded, self.suspect].contains(&weight)
    }
}
