//! Files that break the contract, each with the message its author needs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use onnx_rs::ast::{Attribute, Node, OpType, TensorProto};

use super::*;
use crate::{
    onnx_write::{Dense, mlp, node, rows_of},
    testing::{log_of_first, model},
};

fn why(bytes: &[u8]) -> String {
    inspect_bytes(Path::new("m.onnx"), bytes).unwrap_err().to_string()
}

fn copy(op: OpType<'static>) -> Vec<Node<'static>> {
    vec![node(op, &[INPUT_NAME], "score")]
}

#[test]
fn a_good_model_is_described() {
    let layer = |inputs, outputs| Dense { inputs, outputs, weights: vec![0.1; inputs * outputs], bias: vec![0.0; outputs] };
    let bytes = mlp(&[layer(6, 4), layer(4, 1)], &[("features_sha256", "x")]);
    let i = inspect_bytes(Path::new("m.onnx"), &bytes).unwrap();
    assert_eq!((i.features, i.batch.as_str(), i.output, i.output_name.as_str()), (6, "n", 0, "score"));
    assert_eq!(i.operators, ["Gemm", "Relu", "Sigmoid"]);
    assert!(i.fits(Runtime::Builtin).is_ok());
}

#[test]
fn rubbish_and_cut_files_are_refused() {
    let whole = log_of_first();
    assert!(why(b"").contains("m.onnx"));
    assert!(why(&[0xff; 64]).contains("not an ONNX file"));
    for cut in 1..whole.len() {
        // A cut may fall between two fields, where what is left is a smaller, valid message: then the contract must fail.
        assert!(inspect_bytes(Path::new("m.onnx"), &whole[..cut]).is_err(), "cut at {cut} of {}", whole.len());
    }
}

#[test]
fn the_input_must_be_features_with_a_named_batch() {
    let one = |input| model(copy(OpType::Sigmoid), vec![], vec![input], vec![rows_of("score", 1)]);
    assert!(why(&one(rows_of("x", 4))).contains("must be `features`"));
    let two = model(copy(OpType::Sigmoid), vec![], vec![rows_of(INPUT_NAME, 4), rows_of("h", 4)], vec![rows_of("score", 1)]);
    assert!(why(&two).contains("has 2 inputs (features, h)"));
    let mut fixed = rows_of(INPUT_NAME, 4);
    if let Some(TypeValue::Tensor(t)) = fixed.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        t.shape.as_mut().unwrap().dim[0].value = Dimension::Value(1);
    }
    assert!(why(&one(fixed)).contains("has no name"));
    let mut double = rows_of(INPUT_NAME, 4);
    if let Some(TypeValue::Tensor(t)) = double.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        t.elem_type = DataType::Double;
    }
    assert!(why(&one(double)).contains("must be 32-bit float"));
}

#[test]
fn the_output_must_be_one_score() {
    let with = |output| model(copy(OpType::Sigmoid), vec![], vec![rows_of(INPUT_NAME, 4)], output);
    assert!(why(&with(vec![rows_of("score", 7)])).contains("must be [n], [n, 1] or [n, 2]"));
    assert!(why(&with(vec![rows_of("a", 1), rows_of("b", 1)])).contains("has 2 float outputs"));
    let mut label = rows_of("label", 1);
    if let Some(TypeValue::Tensor(t)) = label.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        t.elem_type = DataType::Int64;
    }
    let two = inspect_bytes(Path::new("m.onnx"), &with(vec![label, rows_of("probabilities", 2)])).unwrap();
    assert_eq!((two.output, two.output_name.as_str()), (1, "probabilities"));
}

#[test]
fn trees_need_the_other_runtime() {
    let trees = vec![Node { domain: "ai.onnx.ml", ..node(OpType::Custom("TreeEnsembleClassifier"), &[INPUT_NAME], "score") }];
    let i = inspect_bytes(Path::new("m.onnx"), &model(trees, vec![], vec![rows_of(INPUT_NAME, 4)], vec![rows_of("score", 1)]))
        .unwrap();
    assert!(i.fits(Runtime::Builtin).unwrap_err().contains("make onnxruntime"));
    assert!(i.fits(Runtime::Onnxruntime).is_ok());
}

#[test]
fn foreign_operators_control_flow_and_outside_weights_are_refused() {
    let with = |nodes, weights| model(nodes, weights, vec![rows_of(INPUT_NAME, 4)], vec![rows_of("score", 1)]);
    let custom = vec![Node { domain: "com.evil", ..node(OpType::Custom("Shell"), &[INPUT_NAME], "score") }];
    assert!(why(&with(custom, vec![])).contains("com.evil.Shell"));
    let mut branch = node(OpType::If, &[INPUT_NAME], "score");
    branch.attribute =
        vec![Attribute { name: "then_branch", r#type: AttributeType::Graph, g: Some(Box::default()), ..Attribute::default() }];
    assert!(why(&with(vec![branch], vec![])).contains("control flow"));
    let outside = TensorProto::from_f32("w", vec![1], vec![1.0]).with_data_location(DataLocation::External);
    assert!(why(&with(copy(OpType::Sigmoid), vec![outside])).contains("weights in another file"));
    assert!(why(&with(vec![], vec![])).contains("no operators"));
}

#[test]
fn a_huge_file_is_not_even_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge.onnx");
    std::fs::File::create(&path).unwrap().set_len(MODEL_BYTES_MAX + 1).unwrap();
    assert!(inspect(&path).unwrap_err().to_string().contains("a model has at most"));
    assert!(matches!(inspect(&dir.path().join("absent.onnx")), Err(ModelError::Io { .. })));
}
