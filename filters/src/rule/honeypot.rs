//! `honeypot`: paths that no person finds. Whoever asks for one is a program, for a while.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fact::Then;
use crate::{
    route::at_or_below,
    units::Span,
    verdict::{Reason, Verdict},
    visit::Visit,
};

/// `honeypot: { paths: [/all-offers/], then: to_the_back, remember: 1d }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoneypotSettings {
    /// Paths that no person finds, and everything below them: hidden links that robots.txt forbids. The gate answers them: 404.
    pub paths: Vec<String>,
    /// What their visitors get from then on, everywhere.
    #[serde(default)]
    pub then: Then,
    /// For how long, after the last time.
    #[serde(default = "a_day")]
    pub remember: Span,
    /// Decide and record, but do not enforce; the shop answers the paths.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

fn a_day() -> Span {
    Span::secs(86_400)
}

/// The compiled filter.
#[derive(Clone, Debug)]
pub struct Honeypot {
    settings: HoneypotSettings,
}

impl Honeypot {
    /// Compiles.
    pub fn new(settings: &HoneypotSettings) -> Self {
        Honeypot { settings: settings.clone() }
    }

    /// Its settings.
    pub fn settings(&self) -> &HoneypotSettings {
        &self.settings
    }

    /// Whether a canonical path is one of them.
    pub fn covers(&self, path: &str) -> bool {
        self.settings.paths.iter().any(|p| at_or_below(path, p))
    }

    /// The path itself is answered; its visitors are refused where the policy says so.
    pub fn check(&self, visit: &Visit<'_>) -> Option<(Verdict, Reason)> {
        if self.covers(visit.path) {
            return Then::Refuse.opinion(Reason::Honeypot);
        }
        self.fact(visit).and_then(|then| then.opinion(Reason::Honeypot))
    }

    /// What is to be done with somebody who asked for one of the paths.
    pub fn fact(&self, visit: &Visit<'_>) -> Option<Then> {
        (visit.known.trapped && !visit.known.granted).then_some(self.settings.then)
    }
}
