//! A trained net as an ONNX file: scaler, body and heads in one graph, so that any runtime takes raw inputs.

use burn::{nn::Linear, tensor::Tensor, tensor::backend::Backend};
use onnx_rs::ast::{Attribute, AttributeType, Node, OpType, TensorProto};
use tidegate_filters::forecast::Q;

use super::{
    dataset::{DIFFERENCES, Scaler, VOLATILITY_MIN},
    net::{Arch, H, HIDDEN, Net, SEQUENCE, median_matrix, spread_matrix},
};
use crate::{
    forecast::{
        card::OUTPUT_NAME,
        inputs::{LAGS, N},
    },
    inspect::INPUT_NAME,
    onnx_write::{graph_file, node, rows_of},
};

/// Weights and operators, growing.
#[derive(Default)]
struct Parts<'a> {
    nodes: Vec<Node<'a>>,
    weights: Vec<TensorProto<'a>>,
}

impl<'a> Parts<'a> {
    fn put(&mut self, name: &'a str, dims: &[usize], values: Vec<f32>) {
        self.weights.push(TensorProto::from_f32(name, dims.iter().map(|d| *d as i64).collect(), values));
    }

    fn ints(&mut self, name: &'a str, values: Vec<i64>) {
        self.weights.push(TensorProto::from_i64(name, vec![values.len() as i64], values));
    }

    fn op(&mut self, op: OpType<'a>, inputs: &[&'a str], output: &'a str, attributes: Vec<Attribute<'a>>) {
        let mut n = node(op, inputs, output);
        n.attribute = attributes;
        self.nodes.push(n);
    }

    fn dense<B: Backend>(&mut self, layer: &Linear<B>, names: [&'a str; 4]) {
        let [input, w, b, output] = names;
        let [i, o] = layer.weight.dims();
        self.put(w, &[i, o], values(layer.weight.val()));
        self.put(b, &[o], layer.bias.as_ref().map_or_else(|| vec![0.0; o], |b| values(b.val())));
        self.op(OpType::Gemm, &[input, w, b], output, vec![]);
    }
}

/// The file.
pub(super) fn onnx<B: Backend>(arch: Arch, net: &Net<B>, scaler: &Scaler, metadata: &[(&str, &str)]) -> Vec<u8> {
    let names: Vec<String> = (0..NAMES).map(|i| format!("n{i}")).collect();
    let mut p = Parts::default();
    volatility(&mut p);
    p.put("mean", &[N], scaler.mean.to_vec());
    p.put("factor", &[N], scaler.factor.to_vec());
    p.op(OpType::Sub, &["scaled", "mean"], "centred", vec![]);
    p.op(OpType::Mul, &["centred", "factor"], "x", vec![]);
    let body = match &net.wide {
        Some(wide) => {
            p.dense(wide, ["x", "wide_w", "wide_b", "wide_z"]);
            p.op(OpType::Relu, &["wide_z"], "body", vec![]);
            "body"
        }
        None => {
            sequence(arch, net, &mut p, &names);
            "body"
        }
    };
    p.dense(&net.join, [body, "join_w", "join_b", "join_z"]);
    p.op(OpType::Relu, &["join_z"], "joined", vec![]);
    p.dense(&net.median, ["joined", "median_w", "median_b", "median"]);
    p.dense(&net.spread, ["joined", "spread_w", "spread_b", "spread_z"]);
    p.op(OpType::Softplus, &["spread_z"], "distances", vec![]);
    p.put("median_to", &[H, H * Q], median_matrix());
    p.put("distances_to", &[H * (Q - 1), H * Q], spread_matrix());
    p.op(OpType::MatMul, &["median", "median_to"], "middles", vec![]);
    p.op(OpType::MatMul, &["distances", "distances_to"], "around", vec![]);
    p.op(OpType::Add, &["middles", "around"], "in_units", vec![]);
    p.op(OpType::Mul, &["in_units", "unit"], OUTPUT_NAME, vec![]);
    graph_file("forecast", p.nodes, p.weights, rows_of(INPUT_NAME, N), rows_of(OUTPUT_NAME, H * Q), metadata)
}

/// The unit that a row's differences are measured in, as [`super::dataset::volatility`] computes it, and the inputs in it.
fn volatility(p: &mut Parts<'_>) {
    // Column i of the first matrix is lag i less the lag before it; the latest count's is 0.
    let mut moves = vec![0.0; N * LAGS];
    for i in 0..LAGS {
        moves[i * LAGS + i] = 1.0;
        if i > 0 {
            moves[(i - 1) * LAGS + i] = -1.0;
        }
    }
    p.put("moves", &[N, LAGS], moves);
    p.put("mean_of", &[LAGS, 1], vec![1.0 / LAGS as f32; LAGS]);
    p.put("least", &[1], vec![VOLATILITY_MIN]);
    let mut is_difference = vec![0.0; N];
    DIFFERENCES.into_iter().flatten().for_each(|i| is_difference[i] = 1.0);
    let is_none = is_difference.iter().map(|v| 1.0 - v).collect();
    p.put("is_difference", &[1, N], is_difference);
    p.put("is_none", &[N], is_none);
    p.put("one", &[1], vec![1.0]);
    p.op(OpType::MatMul, &[INPUT_NAME, "moves"], "moved", vec![]);
    p.op(OpType::Abs, &["moved"], "far", vec![]);
    p.op(OpType::MatMul, &["far", "mean_of"], "mean_move", vec![]);
    p.op(OpType::Add, &["mean_move", "least"], "unit", vec![]);
    p.op(OpType::Div, &["one", "unit"], "per_unit", vec![]);
    p.op(OpType::MatMul, &["per_unit", "is_difference"], "differences_by", vec![]);
    p.op(OpType::Add, &["differences_by", "is_none"], "by", vec![]);
    p.op(OpType::Mul, &[INPUT_NAME, "by"], "scaled", vec![]);
}

/// The counts, oldest first, through the body; then beside the inputs that are no sequence.
fn sequence<'a, B: Backend>(arch: Arch, net: &Net<B>, p: &mut Parts<'a>, names: &'a [String]) {
    p.ints("oldest_first", (0..SEQUENCE as i64).rev().collect());
    p.ints("rest", (LAGS as i64..N as i64).collect());
    p.op(OpType::Gather, &["x", "oldest_first"], "counts", vec![int("axis", 1)]);
    p.op(OpType::Gather, &["x", "rest"], "tail", vec![int("axis", 1)]);
    if arch == Arch::Tcn {
        p.ints("channel_axis", vec![1]);
        p.op(OpType::Unsqueeze, &["counts", "channel_axis"], "c0", vec![]);
        const NAMES: [[&str; 4]; 4] =
            [["k0", "kb0", "cz0", "c1"], ["k1", "kb1", "cz1", "c2"], ["k2", "kb2", "cz2", "c3"], ["k3", "kb3", "cz3", "c4"]];
        let mut from = "c0";
        for (layer, [k, b, z, out]) in net.convolutions.iter().zip(NAMES) {
            let dims = layer.weight.dims();
            p.put(k, &dims, values(layer.weight.val()));
            p.put(b, &[dims[0]], layer.bias.as_ref().map_or_else(|| vec![0.0; dims[0]], |b| values(b.val())));
            let dilation = layer.dilation as i64;
            let causal = ints("pads", vec![(dims[2] as i64 - 1) * dilation, 0]);
            let shape = vec![causal, ints("dilations", vec![dilation]), ints("kernel_shape", vec![dims[2] as i64])];
            p.op(OpType::Conv, &[from, k, b], z, shape);
            p.op(OpType::Relu, &[z], out, vec![]);
            from = out;
        }
        p.weights.push(TensorProto::from_i64("last", vec![], vec![SEQUENCE as i64 - 1]));
        p.op(OpType::Gather, &[from, "last"], "found", vec![int("axis", 2)]);
    } else {
        recurrent(arch, net, p, names);
    }
    p.op(OpType::Concat, &["found", "tail"], "body", vec![int("axis", 1)]);
}

/// The recurrent layer, step by step in plain operators. The runtimes have operators for whole layers, but the built-in one's
/// differ from the trainer by up to 7e-4 after thirty steps, and what differs by more than 1e-4 is refused.
fn recurrent<'a, B: Backend>(arch: Arch, net: &Net<B>, p: &mut Parts<'a>, names: &'a [String]) {
    let (Some(input), Some(state)) = (&net.from_input, &net.from_state) else { return };
    let g = arch.gates() * HIDDEN;
    let bias = |l: &Linear<B>| l.bias.as_ref().map_or_else(|| vec![0.0; g], |b| values(b.val()));
    p.put("input_w", &[1, g], values(input.weight.val()));
    p.put("input_b", &[g], bias(input));
    p.put("state_w", &[HIDDEN, g], values(state.weight.val()));
    p.put("state_b", &[g], bias(state));
    p.put("two", &[1], vec![2.0]);
    p.put("to_state", &[N, HIDDEN], vec![0.0; N * HIDDEN]);
    let gates = ["gate0", "gate1", "gate2", "gate3"];
    for (k, gate) in gates.iter().enumerate().take(arch.gates()) {
        p.ints(gate, ((k * HIDDEN) as i64..((k + 1) * HIDDEN) as i64).collect());
    }
    // A state of zeros as long as the batch.
    p.op(OpType::MatMul, &["x", "to_state"], "zeros", vec![]);
    let mut names = Names { names, next: 0 };
    let (mut h, mut c) = ("zeros", "zeros");
    for t in 0..SEQUENCE {
        let at = names.take();
        p.ints(at, vec![t as i64]);
        let x = p.then(&mut names, OpType::Gather, &["counts", at], vec![int("axis", 1)]);
        let x = p.then(&mut names, OpType::Gemm, &[x, "input_w", "input_b"], vec![]);
        let s = p.then(&mut names, OpType::Gemm, &[h, "state_w", "state_b"], vec![]);
        let gate = |p: &mut Parts<'a>, names: &mut Names<'a>, of: &'a str, k: usize| {
            p.then(names, OpType::Gather, &[of, gates[k]], vec![int("axis", 1)])
        };
        let both = p.then(&mut names, OpType::Add, &[x, s], vec![]);
        let open = |p: &mut Parts<'a>, names: &mut Names<'a>, k: usize| {
            let z = gate(p, names, both, k);
            p.sigmoid(names, z)
        };
        if arch == Arch::Gru {
            let (z, r) = (open(p, &mut names, 0), open(p, &mut names, 1));
            let (of_x, of_s) = (gate(p, &mut names, x, 2), gate(p, &mut names, s, 2));
            let kept = p.then(&mut names, OpType::Mul, &[r, of_s], vec![]);
            let sum = p.then(&mut names, OpType::Add, &[of_x, kept], vec![]);
            let new = p.tanh(&mut names, sum);
            let away = p.then(&mut names, OpType::Sub, &[h, new], vec![]);
            let part = p.then(&mut names, OpType::Mul, &[z, away], vec![]);
            h = p.then(&mut names, OpType::Add, &[new, part], vec![]);
        } else {
            let (i, o, f) = (open(p, &mut names, 0), open(p, &mut names, 1), open(p, &mut names, 2));
            let candidate = gate(p, &mut names, both, 3);
            let candidate = p.tanh(&mut names, candidate);
            let kept = p.then(&mut names, OpType::Mul, &[f, c], vec![]);
            let fresh = p.then(&mut names, OpType::Mul, &[i, candidate], vec![]);
            c = p.then(&mut names, OpType::Add, &[kept, fresh], vec![]);
            let shown = p.tanh(&mut names, c);
            h = p.then(&mut names, OpType::Mul, &[o, shown], vec![]);
        }
    }
    p.op(OpType::Identity, &[h], "found", vec![]);
}

/// Names of what lies between operators: the graph borrows them.
struct Names<'a> {
    names: &'a [String],
    next: usize,
}

/// Names for the longest recurrent net.
const NAMES: usize = SEQUENCE * 64;

impl<'a> Names<'a> {
    fn take(&mut self) -> &'a str {
        self.next += 1;
        // As many as the longest net needs; a name that comes twice would be found by the runtime at once.
        &self.names[(self.next - 1).min(self.names.len() - 1)]
    }
}

impl<'a> Parts<'a> {
    fn then(&mut self, names: &mut Names<'a>, op: OpType<'a>, inputs: &[&'a str], attributes: Vec<Attribute<'a>>) -> &'a str {
        let out = names.take();
        self.op(op, inputs, out, attributes);
        out
    }

    /// `1 / (1 + e^-x)`, spelt out.
    fn sigmoid(&mut self, names: &mut Names<'a>, x: &'a str) -> &'a str {
        let minus = self.then(names, OpType::Neg, &[x], vec![]);
        let e = self.then(names, OpType::Exp, &[minus], vec![]);
        let below = self.then(names, OpType::Add, &[e, "one"], vec![]);
        self.then(names, OpType::Div, &["one", below], vec![])
    }

    /// `2 / (1 + e^-2x) - 1`.
    fn tanh(&mut self, names: &mut Names<'a>, x: &'a str) -> &'a str {
        let twice = self.then(names, OpType::Mul, &[x, "two"], vec![]);
        let open = self.sigmoid(names, twice);
        let wide = self.then(names, OpType::Mul, &[open, "two"], vec![]);
        self.then(names, OpType::Sub, &[wide, "one"], vec![])
    }
}

fn values<B: Backend, const D: usize>(t: Tensor<B, D>) -> Vec<f32> {
    t.into_data().convert::<f32>().to_vec().unwrap_or_default()
}

fn int<'a>(name: &'a str, i: i64) -> Attribute<'a> {
    Attribute { name, r#type: AttributeType::Int, i, ..Attribute::default() }
}

fn ints<'a>(name: &'a str, ints: Vec<i64>) -> Attribute<'a> {
    Attribute { name, r#type: AttributeType::Ints, ints, ..Attribute::default() }
}
