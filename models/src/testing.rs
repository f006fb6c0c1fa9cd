//! What tests share: small models, and what may be absent on a machine.
#![allow(clippy::print_stdout)]

use std::{env, fs, io::Write as _, path::PathBuf};

use onnx_rs::ast::{Graph, Model, Node, OpType, OperatorSetId, TensorProto, ValueInfo};
use tidegate_filters::rule::bot_gate::Runtime;

use crate::{
    card::sha256_hex,
    features,
    inspect::INPUT_NAME,
    onnx_write::{node, rows_of},
    session::Engine,
};

/// The folder of real data, or a line that says so; an error when it is required.
pub(crate) fn data() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = env::var_os("TIDEGATE_DATA").map_or(beside, PathBuf::from);
    present(folder.join("weblogs").is_dir(), "data", "no data (set TIDEGATE_DATA)").then_some(folder)
}

/// ONNX Runtime, or a line that says so; an error when it is required.
pub(crate) fn onnxruntime() -> Option<()> {
    let found = Engine::choose(Runtime::Onnxruntime);
    present(found.is_ok(), "onnxruntime", "no ONNX Runtime (make onnxruntime, or set TIDEGATE_ONNXRUNTIME)").then_some(())
}

fn present(there: bool, word: &str, why: &str) -> bool {
    if !there {
        let required = env::var("TIDEGATE_REQUIRE").unwrap_or_default();
        assert!(!required.split([',', ' ']).any(|w| w == word), "TIDEGATE_REQUIRE has `{word}`, but: {why}");
        println!("SKIPPED: {word}: {why}");
        // `make test` lists what was skipped at its end.
        let log = env::var("TIDEGATE_SKIP_LOG").ok().and_then(|f| fs::OpenOptions::new().append(true).create(true).open(f).ok());
        if let Some(mut log) = log {
            let _ = writeln!(log, "{word}: {why}");
        }
    }
    there
}

/// An ONNX file of these parts.
pub(crate) fn model<'a>(
    node: Vec<Node<'a>>,
    initializer: Vec<TensorProto<'a>>,
    input: Vec<ValueInfo<'a>>,
    output: Vec<ValueInfo<'a>>,
) -> Vec<u8> {
    onnx_rs::encode(&Model {
        ir_version: 8,
        opset_import: vec![OperatorSetId { domain: "", version: 17 }],
        graph: Some(Graph { name: "g", node, initializer, input, output, ..Graph::default() }),
        ..Model::default()
    })
}

/// The logarithm of feature 0: NaN for a negative one.
pub(crate) fn log_of_first() -> Vec<u8> {
    let mut weights = vec![0.0; features::N];
    weights[0] = 1.0;
    model(
        vec![node(OpType::MatMul, &[INPUT_NAME, "w"], "z"), node(OpType::Log, &["z"], "score")],
        vec![TensorProto::from_f32("w", vec![features::N as i64, 1], weights)],
        vec![rows_of(INPUT_NAME, features::N)],
        vec![rows_of("score", 1)],
    )
}

/// Writes a model with its card; `card` may change the card's text.
pub(crate) fn put(folder: &std::path::Path, bytes: &[u8], card: impl FnOnce(String) -> String) -> PathBuf {
    let path = folder.join("m.onnx");
    fs::write(&path, bytes).unwrap_or_default();
    let ones = vec!["1"; features::N].join(",");
    let text = format!(
        r#"{{"model_sha256": "{}", "features_sha256": "{}", "baseline": [{ones}]}}"#,
        sha256_hex(bytes),
        features::hash()
    );
    fs::write(path.with_extension("json"), card(text)).unwrap_or_default();
    path
}
