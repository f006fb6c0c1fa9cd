//! The one exporter: our networks as ONNX files that follow the contract in [`crate::inspect`].

use onnx_rs::ast::{
    Attribute, AttributeType, DataType, Dimension, Graph, Model, Node, OpType, OperatorSetId, StringStringEntry, TensorProto,
    TensorShape, TensorShapeDimension, TensorTypeProto, TypeProto, TypeValue, ValueInfo,
};

use crate::inspect::INPUT_NAME;

/// IR and operator set that every runtime of the last years reads.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;
/// Trees are in an operator set of their own.
const ML_DOMAIN: &str = "ai.onnx.ml";
const ML_OPSET: i64 = 3;

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
    dense("mlp", &layers.iter().collect::<Vec<_>>(), &OpType::Relu, metadata)
}

/// `sigmoid(cos(x · directions + phases) · weights + bias)`: a linear machine on random features, as an ONNX file.
pub fn cosines(inner: &Dense, outer: &Dense, metadata: &[(&str, &str)]) -> Vec<u8> {
    dense("cosines", &[inner, outer], &OpType::Cos, metadata)
}

/// Dense layers, `hidden` between them, a sigmoid at the end.
fn dense(name: &str, layers: &[&Dense], hidden: &OpType<'static>, metadata: &[(&str, &str)]) -> Vec<u8> {
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
        nodes.push(node(if last { OpType::Sigmoid } else { hidden.clone() }, &[z], output));
        input = output;
    }
    let outputs = layers.last().map_or(0, |l| l.outputs);
    graph_file(name, nodes, initializer, rows_of(INPUT_NAME, width), rows_of("score", outputs), metadata)
}

/// Trees, node by node, as `TreeEnsembleRegressor` wants them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trees {
    /// Added to what the leaves say.
    pub base: f32,
    tree: Vec<i64>,
    node: Vec<i64>,
    feature: Vec<i64>,
    value: Vec<f32>,
    left: Vec<i64>,
    right: Vec<i64>,
    is_leaf: Vec<bool>,
    leaf_tree: Vec<i64>,
    leaf_node: Vec<i64>,
    leaf_value: Vec<f32>,
}

impl Trees {
    /// Adds a node of a tree; numbers from 0. A split is feature, the largest value that goes left, and the two children;
    /// a leaf is what it adds.
    pub fn push(&mut self, tree: i64, node: i64, what: Result<(i64, f32, [i64; 2]), f32>) {
        let (feature, value, [left, right]) = what.unwrap_or_default();
        self.tree.push(tree);
        self.node.push(node);
        self.feature.push(feature);
        self.value.push(value);
        self.left.push(left);
        self.right.push(right);
        self.is_leaf.push(what.is_err());
        if let Err(adds) = what {
            self.leaf_tree.push(tree);
            self.leaf_node.push(node);
            self.leaf_value.push(adds);
        }
    }
}

/// Trees whose sum goes through a sigmoid, as an ONNX file.
pub fn trees(trees: &Trees, width: usize, metadata: &[(&str, &str)]) -> Vec<u8> {
    let attribute = |name, r#type| Attribute { name, r#type, ..Attribute::default() };
    let ints = |name, ints: Vec<i64>| Attribute { ints, ..attribute(name, AttributeType::Ints) };
    let floats = |name, floats: Vec<f32>| Attribute { floats, ..attribute(name, AttributeType::Floats) };
    let text = |name, s| Attribute { s, ..attribute(name, AttributeType::String) };
    let modes = trees.is_leaf.iter().map(|leaf| if *leaf { &b"LEAF"[..] } else { &b"BRANCH_LEQ"[..] }).collect();
    let mut sum = node(OpType::Custom("TreeEnsembleRegressor"), &[INPUT_NAME], "z");
    sum.domain = ML_DOMAIN;
    sum.attribute = vec![
        Attribute { i: 1, ..attribute("n_targets", AttributeType::Int) },
        text("aggregate_function", b"SUM"),
        text("post_transform", b"NONE"),
        floats("base_values", vec![trees.base]),
        ints("nodes_treeids", trees.tree.clone()),
        ints("nodes_nodeids", trees.node.clone()),
        ints("nodes_featureids", trees.feature.clone()),
        floats("nodes_values", trees.value.clone()),
        Attribute { strings: modes, ..attribute("nodes_modes", AttributeType::Strings) },
        ints("nodes_truenodeids", trees.left.clone()),
        ints("nodes_falsenodeids", trees.right.clone()),
        ints("target_treeids", trees.leaf_tree.clone()),
        ints("target_nodeids", trees.leaf_node.clone()),
        ints("target_ids", vec![0; trees.leaf_node.len()]),
        floats("target_weights", trees.leaf_value.clone()),
    ];
    let nodes = vec![sum, node(OpType::Sigmoid, &["z"], "score")];
    graph_file("trees", nodes, vec![], rows_of(INPUT_NAME, width), rows_of("score", 1), metadata)
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
    let mut opset_import = vec![OperatorSetId { domain: "", version: OPSET }];
    if node.iter().any(|n| n.domain == ML_DOMAIN) {
        opset_import.push(OperatorSetId { domain: ML_DOMAIN, version: ML_OPSET });
    }
    onnx_rs::encode(&Model {
        ir_version: IR_VERSION,
        producer_name: "tidegate",
        producer_version: env!("CARGO_PKG_VERSION"),
        opset_import,
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
