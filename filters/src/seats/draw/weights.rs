//! Balls an entry throws in, by the class it has when the list is frozen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rule::bot_gate::Class;

/// Most balls of one entry.
pub const WEIGHT_MAX: u8 = 16;
/// Whoever enters a list at its last moment has so long to load the style of the page, milliseconds: some round trips of a slow
/// phone.
pub const RENDER_WAIT_MS: u64 = 3_000;

/// `weights: { human: 16, unsure: 8, crowded: 2, suspect: 1, unrendered: 1 }`
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
    /// Whose browser did not load the style that the waiting page names: a program that only reads pages. Left out: nobody is
    /// asked to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 16))]
    pub unrendered: Option<u8>,
}

impl Default for Weights {
    fn default() -> Self {
        Weights { human: 16, unsure: 8, crowded: 2, suspect: 1, unrendered: None }
    }
}

impl Weights {
    /// The weight of an entry: its class, and at most `crowded` when it came above a quota and `unrendered` when its page was
    /// not shown by a browser.
    pub fn of(&self, class: Class, crowded: bool, rendered: bool) -> u8 {
        let by_class = match class {
            Class::Human => self.human,
            Class::Unsure => self.unsure,
            Class::Suspect => self.suspect,
        };
        let crowded = crowded.then_some(self.crowded);
        let unrendered = self.unrendered.filter(|_| !rendered);
        [crowded, unrendered].into_iter().flatten().fold(by_class, u8::min).min(WEIGHT_MAX)
    }

    /// How long the list waits after its last entry before it is weighed, milliseconds.
    pub fn wait_ms(&self) -> u64 {
        if self.unrendered.is_some() { RENDER_WAIT_MS } else { 0 }
    }

    /// Whether the table knows a weight.
    pub fn has(&self, weight: u8) -> bool {
        [self.human, self.unsure, self.crowded, self.suspect].contains(&weight) || self.unrendered == Some(weight)
    }
}
