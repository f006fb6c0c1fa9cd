//! Making the model that comes with the program: real logs, captured sales and made-up ones, replayed through the one list of
//! features, into a small network with a card that says how it was made and how it did on what it had never seen.

use std::{path::Path, sync::Arc};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::{
    Sample,
    data::{Options, read},
    evaluate::figures,
    logs,
    mlp::{self, Mlp, NETS, WIDTH},
    part::{Part, baseline},
    programs::Family,
    traces,
};
use crate::{
    card::{ModelCard, sha256_hex, write_both},
    error::ModelError,
    features::{self, FEATURES, N},
    onnx_write,
};

/// Seed of the model that comes with the program.
pub const SEED: u64 = 2026;

/// The log whose visits train, and the one kept for the test.
const LOGS: [&str; 2] = ["zanbil_shop_10k.log", "semicomplete_10k.log"];

/// Captures, as `make capture` leaves them in folders: those that train, and the one kept for the test.
const CAPTURES: [&str; 2] = ["1", "3"];
const CAPTURE_TEST: &str = "2";

/// Families of captured programs that are never trained on: a true browser in a script's hand, and a library with all its disguises.
const CAPTURED_STRANGERS: [&str; 3] = ["chromium", "httpx", "httpx-disguised"];

/// Made-up worlds to train on, to stop and calibrate by, and to test on.
const WORLDS: [u64; 3] = [40, 10, 12];

/// At most these shares of held-out people, made-up and of the shop's log, may reach 0.85 when the scale is set. The log's
/// people are few and some of them are programs that hide.
const FPR_TARGETS: [f64; 2] = [0.004, 0.01];

/// Share of each group in training, whatever its size. What is left is spread over nothing: sums need not be 1.
const SHARES: [(&str, f64); 13] = [
    ("people", 0.22),
    ("people_who_reload", 0.08),
    ("people_of_shared_networks", 0.10),
    ("people_without_cookies", 0.05),
    ("log_people", 0.18),
    ("log_programs", 0.08),
    ("captured_people", 0.12),
    ("captured_programs", 0.12),
    ("plain_script", 0.05),
    ("header_copier", 0.06),
    ("many_addresses", 0.05),
    ("slow_and_low", 0.05),
    ("driven_browser", 0.03),
];

struct Sets {
    train: Vec<Sample>,
    check: Vec<Sample>,
    test: Vec<Sample>,
    site: Vec<Sample>,
    captured: Vec<Sample>,
    lines: [usize; 2],
}

/// Trains, evaluates and writes `bots-2.onnx` and its card. `data` holds `weblogs/`, `captures` the folders of captures.
/// Deterministic for a seed.
pub fn train_builtin(data: &Path, captures: &Path, out: &Path, seed: u64) -> Result<ModelCard, ModelError> {
    let mut sets = gather(data, captures, seed)?;
    weigh(&mut sets.train);
    weigh(&mut sets.check);
    let (train, check) = (Part::of(sets.train.iter()), Part::of(sets.check.iter()));
    let fit = mlp::train(&train, &check, &mut ChaCha8Rng::seed_from_u64(seed), &mut |_| ());
    let mut mlp = fit.mlp;
    let (scale, shift) = calibration(&mlp, &sets.check);
    mlp.calibrate(scale, shift);
    let metadata = [("features_sha256", features::hash()), ("made_by", "tidegate")];
    let onnx = onnx_write::mlp(&mlp.layers, &metadata);
    let card = ModelCard {
        name: "bots-2".into(),
        model_sha256: sha256_hex(&onnx),
        features_sha256: features::hash().into(),
        features_version: features::VERSION,
        features: FEATURES.iter().map(|f| f.name.to_owned()).collect(),
        baseline: baseline(sets.train.iter()),
        made_by: json!({
            "code": "models/src/bots/builtin.rs: train_builtin",
            "command": "cargo run -p tidegate-models --example train_bots -- DATA .capture models/artifacts",
            "seed": seed,
            "network": format!("{N}-{WIDTH}-1: dense, ReLU, sigmoid; the mean of {NETS} nets; standardisation and calibration folded into the weights"),
            "epochs": fit.epochs,
            "log_loss_held_out": (fit.loss_held_out * 1e4).round() / 1e4,
        }),
        training: json!({
            "logs": [{ "file": LOGS[0], "lines": sets.lines[0], "use": "training, 4 of 5 networks; the rest stops and calibrates",
                "labels": "self-declared: crawlers and tools are programs, browsers people; User-Agent hidden from the features",
                "source": "Zanbil.ir access log, Harvard Dataverse, CC0" }],
            "made_up": { "worlds": WORLDS[0], "families": Family::ALL.map(Family::name).iter().filter(|n| **n != Family::HELD_OUT.name()).collect::<Vec<_>>() },
            "captured": { "command": "make capture", "use": "two captures of three train; the third and these families never do",
                "families_never_trained_on": CAPTURED_STRANGERS },
            "visits": sets.train.len(),
            "missing_facts": "hidden at random, alike for people and programs, so that 0 argues for neither",
        }),
        metrics: metrics(&mlp, &sets),
        limits: vec![
            "Programs in the logs are those that say so; programs that hide count as people there.".into(),
            "Most labelled traffic is made up. Run in shadow mode on your own site before you trust a threshold.".into(),
            "A score costs places, it should not refuse: leave refuse_at off.".into(),
        ],
    };
    write_both(&out.join(format!("{}.onnx", card.name)), &onnx, &card)?;
    Ok(card)
}

fn gather(data: &Path, captures: &Path, seed: u64) -> Result<Sets, ModelError> {
    let load = |name: &str| logs::read(&data.join("weblogs").join(name)).map(|(lines, _)| lines);
    let (shop, site) = (load(LOGS[0])?, load(LOGS[1])?);
    let (mut train, mut check) = (vec![], vec![]);
    let mut deal = |samples: Vec<Sample>, groups: [&str; 2]| {
        let [people, programs]: [Arc<str>; 2] = groups.map(Into::into);
        for sample in samples {
            let family = if sample.bot { &programs } else { &people }.clone();
            let part = if sample.network.is_multiple_of(5) { &mut check } else { &mut train };
            part.push(Sample { family, ..sample });
        }
    };
    deal(logs::replay(&shop, "log"), ["log_people", "log_programs"]);
    for name in CAPTURES {
        let known = captured(captures, name)?.into_iter().filter(|s| !CAPTURED_STRANGERS.contains(&&*s.family));
        deal(known.collect(), ["captured_people", "captured_programs"]);
    }
    let captured = captured(captures, CAPTURE_TEST)?;
    let known: Vec<Family> = Family::ALL.into_iter().filter(|f| *f != Family::HELD_OUT).collect();
    let worlds = |from: u64, n: u64, families: &[Family]| -> Vec<Sample> {
        (from..from + n).flat_map(|i| traces::world(seed.wrapping_mul(1_000_003).wrapping_add(i), families, "world")).collect()
    };
    train.extend(worlds(0, WORLDS[0], &known));
    check.extend(worlds(1000, WORLDS[1], &known));
    let test = worlds(2000, WORLDS[2], &Family::ALL);
    let lines = [shop.len(), site.len()];
    let site = logs::replay(&site, "other_site");
    Ok(Sets { train, check, test, site, captured, lines })
}

fn captured(captures: &Path, name: &str) -> Result<Vec<Sample>, ModelError> {
    let folder = captures.join(name);
    let options = Options { labels: Some(folder.join("labels.csv")), ..Options::default() };
    let journal = folder.join("journal");
    let visits = read(&[journal.display().to_string()], &options);
    Ok(visits.map_err(|e| ModelError::Unfit { path: journal, why: e.to_string() })?.samples)
}

fn weigh(samples: &mut [Sample]) {
    let total = samples.len() as f64;
    for (group, share) in SHARES {
        let n = samples.iter().filter(|s| &*s.family == group).count().max(1) as f64;
        samples.iter_mut().filter(|s| &*s.family == group).for_each(|s| s.weight = (share * total / n) as f32);
    }
}

/// Scale and shift of the log-odds: first what fits the held-out labels best, then shifted down until few people are high.
fn calibration(mlp: &Mlp, check: &[Sample]) -> (f32, f32) {
    let scored: Vec<(f32, &Sample)> = check.iter().map(|s| (mlp.logit(&s.features), s)).collect();
    let loss = |scale: f32, shift: f32| {
        let term = |(z, s): &(f32, &Sample)| {
            let p = f64::from(mlp::sigmoid(scale * z + shift)).clamp(1e-6, 1.0 - 1e-6);
            -f64::from(s.weight) * if s.bot { p.ln() } else { (1.0 - p).ln() }
        };
        scored.iter().map(term).sum::<f64>()
    };
    let grid = (2..=30).flat_map(|a| (-20..=20).map(move |b| (a as f32 * 0.05, b as f32 * 0.1)));
    let (scale, shift) = grid.map(|(a, b)| (loss(a, b), (a, b))).min_by(|a, b| a.0.total_cmp(&b.0)).map_or((1.0, 0.0), |m| m.1);
    let high = |log: bool, target: f64| {
        let people = scored.iter().filter(|(_, s)| !s.bot && s.family.starts_with("log_") == log);
        let mut z: Vec<f32> = people.map(|(z, _)| scale * z + shift).collect();
        z.sort_by(f32::total_cmp);
        z.get((z.len() as f64 * (1.0 - target)) as usize).copied().unwrap_or(f32::NEG_INFINITY)
    };
    let high = high(false, FPR_TARGETS[0]).max(high(true, FPR_TARGETS[1]));
    let line = (0.85f32 / 0.15).ln();
    (scale, shift - (high - line).max(0.0))
}

fn metrics(mlp: &Mlp, sets: &Sets) -> serde_json::Value {
    let score = |s: &Sample| (mlp::sigmoid(mlp.logit(&s.features)), s.bot);
    let of = |samples: &[Sample], keep: &dyn Fn(&Sample) -> bool| {
        json!(figures(&samples.iter().filter(|s| keep(s)).map(score).collect::<Vec<_>>()))
    };
    let mut families = serde_json::Map::new();
    for family in Family::ALL {
        families.insert(family.name().into(), of(&sets.test, &|s| !s.bot || &*s.family == family.name()));
    }
    let mut slices = serde_json::Map::new();
    for (slice, _) in SHARES.iter().filter(|(g, _)| g.starts_with("people")) {
        slices.insert(
            (*slice).into(),
            of(&sets.test, &|s| &*s.family == *slice || (s.bot && &*s.family != Family::HELD_OUT.name())),
        );
    }
    let captured = |family: &str| of(&sets.captured, &|s| !s.bot || &*s.family == family);
    let strangers: serde_json::Map<_, _> = CAPTURED_STRANGERS.iter().map(|f| ((*f).into(), captured(f))).collect();
    let trained_on = |s: &Sample| !CAPTURED_STRANGERS.contains(&&*s.family);
    json!({
        "another_capture_known_families": of(&sets.captured, &trained_on),
        "another_capture_first_visit_only": of(&sets.captured, &|s| trained_on(s) && s.visit == 1),
        "another_capture_families_never_trained_on": strangers,
        "new_worlds_known_families": of(&sets.test, &|s| &*s.family != Family::HELD_OUT.name()),
        "new_worlds_first_visit_only": of(&sets.test, &|s| &*s.family != Family::HELD_OUT.name() && s.visit == 1),
        "new_worlds_from_fourth_visit": of(&sets.test, &|s| &*s.family != Family::HELD_OUT.name() && s.visit >= 4),
        "family_never_trained_on": { "name": Family::HELD_OUT.name(), "figures": of(&sets.test, &|s| !s.bot || &*s.family == Family::HELD_OUT.name()) },
        "site_never_trained_on": { "file": LOGS[1], "lines": sets.lines[1], "figures": of(&sets.site, &|_| true) },
        "shop_log_held_out_networks": of(&sets.check, &|s| s.family.starts_with("log_")),
        "by_family": families,
        "by_slice_of_people": slices,
    })
}

#[cfg(test)]
#[path = "builtin_tests.rs"]
mod tests;
