//! One decision again, bit for bit, from its row.

use serde::Serialize;
use tidegate_filters::{Row, reference::Reference};

use crate::{
    features::{FEATURES, N},
    scorer::Scorer,
};

/// What a score can be recomputed with.
pub struct Explainer<'a> {
    /// The model, where it is at hand.
    pub scorer: &'a Scorer,
}

/// Why a score is high.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reason {
    /// Stable code.
    pub code: &'static str,
    /// Nats of log-odds it adds.
    pub nats: f32,
    /// For people.
    pub sentence: &'static str,
    /// Its features that differ from what is usual for people: name, value, usual.
    pub features: Vec<(&'static str, f32, f32)>,
}

/// A decision, explained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    /// What the visitor quotes.
    pub reference: String,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// As in the journal, hex.
    pub visitor: String,
    /// Request.
    pub method: String,
    /// Path.
    pub path: String,
    /// What the gate did, and why.
    pub verdict: &'static str,
    /// Reason code of the verdict.
    pub reason: &'static str,
    /// The filter that decided.
    pub filter: String,
    /// What was known for sure, whatever the score.
    pub facts: String,
    /// Class by facts and score.
    pub class: &'static str,
    /// The score then; `None`: unscored.
    pub score: Option<f32>,
    /// The model then, first 8 bytes of its SHA-256, hex.
    pub model: String,
    /// The policy then, the same.
    pub policy: String,
    /// The score computed again from the row; `None`: no features, or another model.
    pub again: Option<f32>,
    /// It is the same, to the bit.
    pub same: bool,
    /// Strongest first.
    pub reasons: Vec<Reason>,
}

impl Explainer<'_> {
    /// Explains a row.
    pub fn explain(&self, row: &Row) -> Explained {
        let fits = row.model == self.scorer.model() && row.features.len() == N;
        let again = self.scorer.score(&row.features).known().filter(|_| fits);
        let score = row.score.is_finite().then_some(row.score);
        Explained {
            reference: Reference::of(row).to_string(),
            at_ms: row.at_ms,
            visitor: format!("{:016x}", row.visitor),
            method: row.method.to_string(),
            path: row.path.clone(),
            verdict: row.verdict,
            reason: row.reason.map_or("", tidegate_filters::Reason::code),
            filter: row.filter.to_string(),
            facts: row.facts.to_string(),
            class: row.class,
            score,
            model: row.model.to_string(),
            policy: row.policy.to_string(),
            again,
            same: again.is_some_and(|p| p.to_bits() == row.score.to_bits()),
            reasons: if fits { self.reasons(row) } else { Vec::new() },
        }
    }

    fn reasons(&self, row: &Row) -> Vec<Reason> {
        let usual = &self.scorer.card().baseline;
        let reason = |(code, nats): (crate::features::ReasonCode, f32)| {
            let of = FEATURES.iter().enumerate().filter(|(_, f)| f.reason == code);
            let value = |(i, f): (usize, &'static crate::features::Feature)| {
                let (value, usual) = (row.features[i], usual.get(i).copied().unwrap_or(0.0));
                (value != usual).then_some((f.name, value, usual))
            };
            Reason { code: code.code(), nats, sentence: code.sentence(), features: of.filter_map(value).collect() }
        };
        self.scorer.reasons(&row.features).into_iter().map(reason).collect()
    }
}
