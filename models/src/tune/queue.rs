//! Whom it is worth to look at: a label teaches most where the score is near a threshold, and where a buyer would be hurt.

use serde::Serialize;

use super::{
    book::Visitor,
    gates::{Act, Gates},
    labels::Labels,
};

/// A visitor worth a look.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// As in the journal, hex.
    pub visitor: String,
    /// For `tidegate bots explain`.
    pub reference: String,
    /// The score that does most to it.
    pub score: f32,
    /// Scored visits.
    pub visits: u32,
    /// Units it bought.
    pub sold: u32,
    /// Why it is here.
    pub why: &'static str,
    /// The score's reasons, as in the journal.
    pub reasons: String,
}

/// The `n` most worth it, without a label, at most one of ten from the same network: one office must not be the whole list.
pub fn queue(visitors: &[Visitor], labels: &Labels, gates: &Gates, n: usize) -> Vec<Candidate> {
    let mut all: Vec<(f64, &Visitor, &'static str)> =
        visitors.iter().filter(|v| labels.get(v.id).is_none()).map(|v| worth(v, gates)).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.id.cmp(&b.1.id)));
    let a_network_max = (n / 10).max(1);
    let mut networks = std::collections::HashMap::new();
    let room = |v: &Visitor| {
        let seen: &mut usize = networks.entry(v.network).or_default();
        *seen += 1;
        v.network == 0 || *seen <= a_network_max
    };
    let mut room = room;
    all.into_iter().filter(|(_, v, _)| room(v)).take(n).map(|(_, v, why)| candidate(v, why)).collect()
}

/// Nats of distance to the nearest threshold count down; visits count up, slowly.
fn worth<'a>(v: &'a Visitor, gates: &Gates) -> (f64, &'a Visitor, &'static str) {
    let logit = |p: f32| {
        let p = f64::from(p).clamp(1e-6, 1.0 - 1e-6);
        (p / (1.0 - p)).ln()
    };
    let near = gates.set().chain([0.5]).map(|t| (logit(v.decisive) - logit(t)).abs()).fold(f64::INFINITY, f64::min);
    let weight = (1.0 + f64::from(v.visits)).ln();
    match (v.sold > 0, v.would > Act::Nothing) {
        (true, true) => (10.0 + weight / (1.0 + near), v, "a buyer whom the score would touch"),
        _ => (weight / (1.0 + near), v, "its score is near a threshold"),
    }
}

fn candidate(v: &Visitor, why: &'static str) -> Candidate {
    Candidate {
        visitor: format!("{:016x}", v.id),
        reference: v.reference.to_string(),
        score: v.decisive,
        visits: v.visits,
        sold: v.sold,
        why,
        reasons: v.reasons.clone(),
    }
}
