//! Models of other makers, and files that are none.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use onnx_rs::ast::{OpType, TensorProto};
use tidegate_filters::forecast::Forecaster;

use super::*;
use crate::{
    inspect::INPUT_NAME,
    onnx_write::{node, rows_of},
    testing,
};

/// Counts of minutes that go up and down.
fn minutes(n: u64) -> Forecaster {
    let mut f = Forecaster::new(60, &[1, 5, 10]);
    for t in 0..n {
        f.observe(t * 60, Some(100.0 + ((t * 7_919) % 31) as f64));
        f.forecast(&[]);
    }
    f
}

/// A model whose output is a weighted sum of the inputs, one column of `weights` each.
fn linear(weights: &[f32], columns: usize) -> Vec<u8> {
    testing::model(
        vec![node(OpType::MatMul, &[INPUT_NAME, "w"], "out")],
        vec![TensorProto::from_f32("w", vec![N as i64, columns as i64], weights.to_vec())],
        vec![rows_of(INPUT_NAME, N)],
        vec![rows_of("out", columns)],
    )
}

fn card(bytes: &[u8], horizons: &str, quantiles: &str) -> String {
    format!(
        r#"{{"kind":"forecast","model_sha256":"{}","inputs_sha256":"{}","horizons":{horizons},"quantiles":{quantiles}}}"#,
        sha256_hex(bytes),
        inputs::hash()
    )
}

fn open(bytes: &[u8], card: &str) -> Result<ForecastNet, ModelError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    fs::write(&path, bytes).unwrap();
    fs::write(path.with_extension("json"), card).unwrap();
    ForecastNet::open(&path, Runtime::Builtin)
}

fn refused(bytes: &[u8], card: &str) -> String {
    open(bytes, card).err().unwrap().to_string()
}

#[test]
fn a_model_made_by_scikit_learn_is_taken() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/sklearn.onnx");
    let mut net = ForecastNet::open(&path, Runtime::Builtin).unwrap();
    let f = minutes(200);
    let says = net.says(f.history(), &Planned::default()).unwrap();
    assert_eq!(says.iter().map(|s| s.0).collect::<Vec<_>>(), [1, 5, 10]);
    assert!(says.iter().all(|(_, q)| q.iter().all(|v| (20.0..400.0).contains(v))), "{says:?}");
    assert_eq!(try_forecast(&path, Runtime::Builtin).unwrap().scores.len(), ROWS);
}

#[test]
fn what_breaks_the_contract_is_told() {
    let good = linear(&vec![0.0; N * 3], 3);
    assert!(open(&good, &card(&good, "[1,5,10]", "[0.5]")).is_ok());
    assert!(refused(&good, &card(&good, "[1,5]", "[0.5]")).contains("gave 3 values for one row"));
    assert!(refused(&good, &card(&good, "[5,1,10]", "[0.5]")).contains("rising"));
    assert!(refused(&good, &card(&good, "[1,5,100]", "[0.5]")).contains("from 1 to 60"));
    assert!(refused(&good, &card(&good, "[1,5,10]", "[0.5,0.9]")).contains("`quantiles` must be"));
    assert!(refused(&good, &card(b"other", "[1,5,10]", "[0.5]")).contains("SHA-256"));
    assert!(refused(&good, "{}").contains("not the card of a forecast"));
    assert!(refused(b"rubbish", &card(b"rubbish", "[1]", "[0.5]")).contains("not an ONNX file"));
    assert!(refused(&good[..good.len() / 2], &card(&good[..good.len() / 2], "[1]", "[0.5]")).contains("m.onnx"));
    let nan = linear(&vec![f32::NAN; N], 1);
    assert!(refused(&nan, &card(&nan, "[1]", "[0.5]")).contains("says NaN about an ordinary minute"));
    let huge = linear(&vec![1e30; N], 1);
    assert!(refused(&huge, &card(&huge, "[1]", "[0.5]")).contains("growth is between -20 and 20"));
    let narrow = testing::model(
        vec![node(OpType::MatMul, &[INPUT_NAME, "w"], "out")],
        vec![TensorProto::from_f32("w", vec![7, 1], vec![0.0; 7])],
        vec![rows_of(INPUT_NAME, 7)],
        vec![rows_of("out", 1)],
    );
    assert!(refused(&narrow, &card(&narrow, "[1]", "[0.5]")).contains("takes 7 inputs; this program computes 80"));
    let bots = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts/bots-2.onnx");
    assert!(ForecastNet::open(&bots, Runtime::Builtin).is_err(), "a bot model is no forecast");
    let missing = tempfile::tempdir().unwrap();
    let path = missing.path().join("m.onnx");
    fs::write(&path, &good).unwrap();
    let e = ForecastNet::open(&path, Runtime::Builtin).err().unwrap().to_string();
    assert!(e.contains("the least one is {\"kind\": \"forecast\""), "{e}");
}

#[test]
fn a_net_that_fails_is_silent_and_then_left_alone() {
    // The root of the level's negative: no number for any real minute.
    let mut weights = vec![0.0; N];
    weights[inputs::LAGS] = -1.0;
    let bytes = testing::model(
        vec![node(OpType::MatMul, &[INPUT_NAME, "w"], "z"), node(OpType::Sqrt, &["z"], "out")],
        vec![TensorProto::from_f32("w", vec![N as i64, 1], weights)],
        vec![rows_of(INPUT_NAME, N)],
        vec![rows_of("out", 1)],
    );
    let card = ForecastCard::parse(Path::new("c"), &card(&bytes, "[1]", "[0.5]"), &bytes).unwrap();
    let inspection = inspect_forecast(Path::new("m"), &bytes).unwrap();
    let engine = Engine::choose(Runtime::Builtin).unwrap();
    let session = engine.load(&bytes, &inspection).unwrap();
    let mut net =
        ForecastNet { session, card, engine, name: "m".into(), short: String::new(), failures: 0, last_failure: String::new() };
    let f = minutes(200);
    for i in 0..FAILURES_MAX {
        assert_eq!(net.broken(), None, "{i}");
        assert_eq!(net.says(f.history(), &Planned::default()), None, "{i}");
    }
    assert!(net.broken().unwrap().contains("no number"));
}

#[test]
fn quantiles_of_another_maker_are_put_in_order() {
    // Constants cannot be written with one product: the level (input 59) times something does.
    let mut weights = vec![0.0; N * Q];
    weights[inputs::LAGS * Q..][..Q].copy_from_slice(&[0.3, 0.1, 0.2, 0.9, 0.5]);
    let bytes = linear(&weights, Q);
    let mut net = open(&bytes, &card(&bytes, "[2]", "[0.1,0.5,0.9,0.95,0.99]")).unwrap();
    let f = minutes(200);
    let says = net.says(f.history(), &Planned::default()).unwrap();
    let level = 0.1 * (1.0 + f.history().ago(0)).ln();
    assert!(says[0].1.windows(2).all(|w| w[0] <= w[1]), "{says:?}");
    assert!((says[0].1[MEDIAN] - inputs::count_of(0.1 * level, f.history().ago(0))).abs() < 1e-3);
    let mut seconds = Forecaster::new(1, &[1]);
    (0..200).for_each(|t| {
        seconds.observe(t, Some(1.0));
    });
    assert_eq!(net.says(seconds.history(), &Planned::default()), None, "minutes only");
    assert_eq!(net.says(minutes(10).history(), &Planned::default()), None, "too short");
}
