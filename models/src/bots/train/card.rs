//! The card of a model that was just trained.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidegate_filters::units::as_written;

use super::{FOLDS, LeftOut, Model, Settings};
use crate::{
    bots::{Sample, data::Told, evaluate::PEOPLE_ABOVE, judge::Scored, part::baseline},
    card::{ModelCard, sha256_hex},
    features::{self, FEATURES},
};

/// Families that a card tells of, the largest.
const FAMILIES_MAX: usize = 40;

pub(super) struct Made<'m> {
    pub(super) settings: &'m Settings,
    pub(super) onnx: &'m [u8],
    pub(super) learn: &'m [&'m Sample],
    pub(super) told: &'m [Told],
    pub(super) model: &'m Model,
    pub(super) left_out: &'m [LeftOut],
    pub(super) out_of_fold: &'m [Scored<'m>],
    pub(super) parity: f32,
}

pub(super) fn card(made: &Made<'_>) -> ModelCard {
    let (settings, model) = (made.settings, made.model);
    let mut families: BTreeMap<&str, usize> = BTreeMap::new();
    made.learn.iter().for_each(|s| *families.entry(&s.family).or_default() += 1);
    let programs = made.learn.iter().filter(|s| s.bot).count();
    let metrics: serde_json::Map<String, serde_json::Value> =
        made.left_out.iter().map(|l| (l.name.clone(), summary(l))).collect();
    ModelCard {
        name: settings.name.clone(),
        model_sha256: sha256_hex(made.onnx),
        features_sha256: features::hash().into(),
        features_version: features::VERSION,
        features: FEATURES.iter().map(|f| f.name.to_owned()).collect(),
        baseline: baseline(made.learn.iter().copied()),
        made_by: json!({
            "program": settings.program,
            "command": settings.command,
            "arch": settings.arch.name(),
            "model": model.fitted.describe(),
            "seed": settings.seed,
            "log_loss_held_out": (model.loss * 1e4).round() / 1e4,
            "differs_from_runtime_by": as_written(made.parity),
            "needs_onnxruntime": settings.arch.needs_onnxruntime(),
        }),
        training: json!({
            "sources": made.told,
            "visits": { "people": made.learn.len() - programs, "programs": programs, "learnt_from": model.learnt_from,
                "stopped_and_calibrated_by": model.stopped_by },
            "families": families,
            "grouped_by": "network, in folds: what shares one is never both learnt from and judged; sites and families that were left out may share some",
            "networks": made.learn.iter().map(|s| s.network).collect::<BTreeSet<_>>().len(),
            "never_seen": made.left_out.iter().map(|l| l.name.clone()).filter(|n| n != FOLDS).collect::<Vec<_>>(),
            "balance": "people and programs weigh the same: a score is the probability where both are as many; no network weighs more than 2 % of its class, or three equal shares where networks are few",
        }),
        metrics: json!({
            "left_out": metrics,
            "thresholds": thresholds(made),
            "decides": { "person_below": finite(model.band.person_below), "program_from": finite(model.band.program_from) },
        }),
        limits: vec![
            "It knows what its labels know: programs that nobody recognised count as people there.".into(),
            "Run it in shadow mode on your own site before you trust a threshold.".into(),
            "A score costs places, it should not refuse: leave refuse_at off.".into(),
        ],
    }
}

/// What a card keeps of a judgement; the page has all of it.
fn summary(left_out: &LeftOut) -> serde_json::Value {
    let j = &left_out.judged;
    let mut kept = json!({
        "all_visits": j.all, "first_visits": j.first_visit, "at": as_written(j.at), "people_at_or_above": j.fairness.above,
        "worst_slice_ratio": j.fairness.worst, "fair": j.fairness.fair, "undecided_after_visits": j.decided.undecided_after,
        "calibration_error": j.calibration_error,
    });
    if let Some(kept) = kept.as_object_mut().filter(|_| left_out.name == FOLDS) {
        kept.insert("families".into(), json!(j.families.iter().take(FAMILIES_MAX).collect::<Vec<_>>()));
        kept.insert("sites".into(), json!(j.sites));
        kept.insert("slices".into(), json!(j.fairness.slices));
    }
    kept
}

fn finite(v: f32) -> Option<f64> {
    v.is_finite().then(|| as_written(v))
}

/// Scores that 0.1 % and 1 % of people reach, out of their folds.
fn thresholds(made: &Made<'_>) -> serde_json::Value {
    let mut people: Vec<f32> = made.out_of_fold.iter().filter(|s| !s.sample.bot).map(|s| s.score).collect();
    people.sort_by(|a, b| b.total_cmp(a));
    let at = |share: f64| people.get((share * people.len() as f64) as usize).copied().map(as_written);
    json!({
        "people_above": PEOPLE_ABOVE,
        "score": PEOPLE_ABOVE.map(at),
        "advice": "to_the_back_at no lower than the second; challenge_at below it only where a challenge costs little",
    })
}
