#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::path::Path;

use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidegate_filters::rule::bot_gate::Runtime;

use super::*;
use crate::{bots::part::Part, features::N, inspect::inspect_bytes, session::Engine, testing};

fn rows(n: usize, seed: u64) -> Vec<Features> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let value = |i: usize, rng: &mut ChaCha8Rng| match i {
        0..4 => rng.random_range(-2.0..2.0),
        // Few values, so that many rows lie on a cut's neighbours.
        4..8 => rng.random_range(0..5) as f32 / 4.0,
        _ => 0.0,
    };
    (0..n).map(|_| std::array::from_fn(|i| value(i, &mut rng))).collect()
}

/// Signs of two features differ: no single question helps.
fn part(rows: &[Features]) -> Part<'_> {
    let bots = rows.iter().map(|r| (r[0] > 0.3) != (r[1] > -0.2)).collect();
    Part { rows: rows.iter().collect(), bots, weights: vec![1.0; rows.len()] }
}

fn fitted(seed: u64) -> [Ensemble; 2] {
    let (a, b) = (rows(3000, 1), rows(800, 2));
    let rng = || ChaCha8Rng::seed_from_u64(seed);
    [boost(&part(&a), &part(&b), &mut rng(), &mut |_| ()).0, forest(&part(&a), &mut rng(), &mut |_| ())]
}

#[test]
fn both_learn_what_one_question_cannot_and_a_seed_is_an_ensemble() {
    let test = rows(1000, 3);
    let first = fitted(5);
    for (trees, name) in first.iter().zip(["boosted", "forest"]) {
        let right = part(&test).iter().filter(|(row, bot, _)| (trees.logit(row) > 0.0) == *bot).count();
        assert!(right > 930, "{name}: {right} of 1000");
    }
    assert_eq!(first, fitted(5));
    assert_ne!(first, fitted(6));
}

#[test]
fn boosting_stops_when_held_out_rows_gain_nothing() {
    let a = rows(400, 7);
    // Labels by coin: whatever is learnt is wrong elsewhere.
    let noise = |rows: &[Features], seed: u64| -> Vec<bool> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rows.iter().map(|_| rng.random_bool(0.5)).collect()
    };
    let b = rows(400, 8);
    let train = Part { bots: noise(&a, 1), ..part(&a) };
    let held = Part { bots: noise(&b, 2), ..part(&b) };
    let (trees, loss) = boost(&train, &held, &mut ChaCha8Rng::seed_from_u64(1), &mut |_| ());
    assert!(trees.len() < 30 && loss > 0.6, "{} trees, {loss}", trees.len());
}

#[test]
fn the_runtime_says_the_same_on_every_cut_and_on_both_its_neighbours() {
    let mut all = fitted(9);
    all[0].calibrate(1.3, -0.2);
    all[1].calibrate(6.0, 0.4);
    let mut probes = rows(300, 11);
    for trees in &all {
        for node in trees.trees.iter().take(20).flat_map(|t| &t.0).filter(|n| n.feature != LEAF) {
            for value in [node.value, node.value.next_up(), node.value.next_down()] {
                let mut row = probes[probes.len() % 300];
                row[usize::from(node.feature)] = value;
                probes.push(row);
            }
        }
    }
    for trees in &all {
        let bytes = trees.onnx(&[]);
        let inspection = inspect_bytes(Path::new("trees.onnx"), &bytes).unwrap();
        assert_eq!(
            (inspection.features, inspection.operators.as_slice()),
            (N, &["Sigmoid".to_owned(), "TreeEnsembleRegressor".into()][..])
        );
        assert!(inspection.fits(Runtime::Builtin).unwrap_err().contains("install ONNX Runtime"));
        if testing::onnxruntime().is_none() {
            continue;
        }
        let mut session = Engine::choose(Runtime::Onnxruntime).unwrap().load(&bytes, &inspection).unwrap();
        for row in &probes {
            let (said, ours) = (session.run(row).unwrap(), crate::bots::mlp::sigmoid(trees.logit(row)));
            assert!((said - ours).abs() < 1e-5, "{said} against {ours}");
        }
    }
}
