//! The one exporter: our networks as ONNX files that follow the contract in [`crate::inspect`].

use onnx_rs::ast::{
    Attribute, DataType, Dimension, Graph, Model, Node, OpType, OperatorSetId, StringStringEntry, TensorProto, TensorShape,
    TensorShapeDimension, TensorTypeProto, TypeProto, TypeValue, ValueInfo,
};

use crate::inspect::INPUT_NAME;

/// IR and operator set that every runtime of the last years reads.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;

/// One dense layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// Width of the input.
    pub inputs: usize,
    /// Width of the output.
    pub outputs: usize,
    /// Row-major `[inputs][outputs]`.
    pub weights: Vec<f32>,
    /// One for each output.
    pub bias: Vec<f32>,
}

/// A network of dense layers, ReLU between them, a sigmoid at the end, as an ONNX file.
pub fn mlp(layers: &[Dense], metadata: &[(&str, &str)]) -> Vec<u8> {
    let width = layers.first().map_or(0, |l| l.inputs);
    let names: Vec<[String; 4]> =
        (0..layers.len()).map(|i| [format!("w{i}"), format!("b{i}"), format!("z{i}"), format!("a{i}")]).collect();
    let (mut nodes, mut initializer, mut input) = (vec![], vec![], INPUT_NAME);
    for (i, (layer, [w, b, z, a])) in layers.iter().zip(&names).enumerate() {
        initializer.push(TensorProto::from_f32(w, vec![layer.inputs as i64, layer.outputs as i64], layer.weights.clone()));
        initializer.push(TensorProto::from_f32(b, vec![layer.outputs as i64], layer.bias.clone()));
        nodes.push(node(OpType::Gemm, &[input, w, b], z));
        let last = i + 1 == layers.len();
        let output = if last { "score" } else { a };
        nodes.push(node(if last { OpType::Sigmoid } else { OpType::Relu }, &[z], output));
        input = output;
    }
    let outputs = layers.last().map_or(0, |l| l.outputs);
    graph_file("mlp", nodes, initializer, rows_of(INPUT_NAME, width), rows_of("score", outputs), metadata)
}

/// A file of one graph with one input and one output.
pub(crate) fn graph_file<'a>(
    name: &'a str,
    node: Vec<Node<'a>>,
    initializer: Vec<TensorProto<'a>>,
    input: ValueInfo<'a>,
    output: ValueInfo<'a>,
    metadata: &[(&'a str, &'a str)],
) -> Vec<u8> {
    onnx_rs::encode(&Model {
        ir_version: IR_VERSION,
        producer_name: "tidegate",
        producer_version: env!("CARGO_PKG_VERSION"),
        opset_import: vec![OperatorSetId { domain: "", version: OPSET }],
        graph: Some(Graph { name, node, initializer, input: vec![input], output: vec![output], ..Graph::default() }),
        metadata_props: metadata.iter().map(|(key, value)| StringStringEntry { key, value }).collect(),
        ..Model::default()
    })
}

pub(crate) fn node<'a>(op_type: OpType<'a>, input: &[&'a str], output: &'a str) -> Node<'a> {
    Node { op_type, input: input.to_vec(), output: vec![output], attribute: Vec::<Attribute<'a>>::new(), ..Node::default() }
}

/// A float tensor `[n, width]` whose batch dimension has a name.
pub(crate) fn rows_of(name: &str, width: usize) -> ValueInfo<'_> {
    let dim = |value| TensorShapeDimension { value, ..TensorShapeDimension::default() };
    let shape = TensorShape { dim: vec![dim(Dimension::Param("n")), dim(Dimension::Value(width as i64))] };
    let tensor = TensorTypeProto { elem_type: DataType::Float, shape: Some(shape) };
    ValueInfo {
        name,
        r#type: Some(TypeProto { value: Some(TypeValue::Tensor(tensor)), ..TypeProto::default() }),
        ..ValueInfo::default()
    }
}
