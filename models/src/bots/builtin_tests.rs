//! Learning from made-up worlds, export parity, and the card of the model that comes with the program.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use tidegate_filters::{Score, rule::bot_gate::Runtime};

use super::*;
use crate::{inspect::inspect_bytes, session::Engine, testing};

fn worlds(from: u64, n: u64) -> Vec<Sample> {
    (from..from + n).flat_map(|i| traces::world(i, &Family::ALL, "w")).collect()
}

#[test]
fn a_net_learned_from_worlds_works_in_another_and_the_export_says_the_same() {
    let (mut train, mut check) = (worlds(1, 3), worlds(11, 1));
    weigh(&mut train);
    weigh(&mut check);
    let parts = (Part::of(train.iter()), Part::of(check.iter()));
    let mut mlp = mlp::train(&parts.0, &parts.1, &mut ChaCha8Rng::seed_from_u64(5), &mut |_| ()).mlp;
    let (scale, shift) = calibration(&mlp, &check);
    mlp.calibrate(scale, shift);
    let test = worlds(21, 1);
    let scored: Vec<(f32, bool)> = test.iter().map(|s| (mlp::sigmoid(mlp.logit(&s.features)), s.bot)).collect();
    let f = figures(&scored);
    assert!(f.auc > 0.9, "{f:?}");

    let bytes = onnx_write::mlp(&mlp.layers, &[]);
    let inspection = inspect_bytes(Path::new("m.onnx"), &bytes).unwrap();
    let mut runtimes = vec![Engine::choose(Runtime::Builtin).unwrap()];
    if testing::onnxruntime().is_some() {
        runtimes.push(Engine::choose(Runtime::Onnxruntime).unwrap());
    }
    for engine in runtimes {
        let mut session = engine.load(&bytes, &inspection).unwrap();
        let rows = test.iter().zip(&scored).step_by(7);
        let worst = rows.map(|(s, (p, _))| (session.run(&s.features).unwrap() - p).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-4, "{}: off by {worst}", engine.describe());
    }
}

#[test]
fn groups_weigh_what_they_should() {
    let mut samples = worlds(3, 1);
    weigh(&mut samples);
    let weight =
        |g: &str| samples.iter().filter(|s| &*s.family == g).map(|s| f64::from(s.weight)).sum::<f64>() / samples.len() as f64;
    for (group, share) in SHARES.iter().filter(|(g, _)| !["log_", "captured_"].iter().any(|p| g.starts_with(p))) {
        assert!((weight(group) - share).abs() < 1e-3, "{group}: {}", weight(group));
    }
}

#[test]
fn the_card_tells_the_truth_about_the_site_it_never_saw() {
    let Some(data) = testing::data() else { return };
    let scorer = crate::Scorer::open(crate::scorer::BUILTIN, Runtime::Builtin, 1).unwrap();
    let told = &scorer.card().metrics["site_never_trained_on"];
    let (lines, bad) = logs::read(&data.join("weblogs").join(told["file"].as_str().unwrap())).unwrap();
    assert!(bad <= 5, "{bad} lines could not be read");
    let score = |s: &Sample| match scorer.score(&s.features) {
        Score::Known(p) => (p, s.bot),
        Score::Unknown => panic!("unscored"),
    };
    let f = figures(&logs::replay(&lines, "site").iter().map(score).collect::<Vec<_>>());
    let near = |name: &str, got: f64| {
        let card = told["figures"][name].as_f64().unwrap();
        assert!((card - got).abs() < 0.005, "{name}: card {card}, measured {got}");
    };
    near("auc", f.auc);
    near("average_precision", f.average_precision);
    near("recall_at_1pct_fpr", f.recall_at_1pct_fpr);
    assert!(f.fpr_at_085[0] <= 0.012 && f.people_below_05 >= 0.93, "too many people look like programs: {f:?}");
}
