//! A plain dense network, evaluated directly: for a few thousand multiplications a runtime's plan costs ten times the
//! arithmetic. Read from the same ONNX file, and used only where it agrees with the runtime on [`PROBES`] rows.

use onnx_rs::ast::{Attribute, Graph, OpType};

/// Rows on which network and runtime are compared.
pub const PROBES: usize = 64;
/// They may differ by this much: sums in another order.
pub const AGREE: f32 = 1e-5;
/// Outputs summed at once: a quarter of the 16 registers that every x86-64 has, of four numbers each; more are no faster.
const WIDE: usize = 16;
/// Widest layer; a network that is wider gains nothing here.
const WIDTH_MAX: usize = 4_096;

/// A chain of layers with one output.
#[derive(Clone, Debug)]
pub struct Network {
    steps: Vec<Step>,
    /// Two rows that take turns as input and output.
    scratch: [Vec<f32>; 2],
}

#[derive(Clone, Debug)]
enum Step {
    /// Row-major `[inputs][outputs]`, and one bias for each output.
    Dense {
        weights: Vec<f32>,
        bias: Vec<f32>,
    },
    Relu,
    Sigmoid,
    Tanh,
}

impl Network {
    /// Reads a file whose graph is one chain of `Gemm`, `Relu`, `Sigmoid` and `Tanh`. `None`: it is something else.
    pub fn read(bytes: &[u8], inputs: usize) -> Option<Network> {
        let model = onnx_rs::parse(bytes).ok()?;
        let graph = model.graph.as_ref()?;
        let mut name = graph.input.iter().find(|i| graph.get_initializer(i.name).is_none())?.name;
        let mut width = inputs;
        let mut steps = Vec::with_capacity(graph.node.len());
        for node in &graph.node {
            if node.input.first() != Some(&name) || node.output.len() != 1 {
                return None;
            }
            steps.push(match node.op_type {
                OpType::Relu if node.input.len() == 1 => Step::Relu,
                OpType::Sigmoid if node.input.len() == 1 => Step::Sigmoid,
                OpType::Tanh if node.input.len() == 1 => Step::Tanh,
                OpType::Gemm => {
                    let step = dense(graph, &node.input, &node.attribute, width)?;
                    if let Step::Dense { bias, .. } = &step {
                        width = bias.len();
                    }
                    step
                }
                _ => return None,
            });
            name = node.output[0];
        }
        let whole = width == 1 && graph.output.len() == 1 && graph.output[0].name == name;
        whole.then(|| Network { steps, scratch: [Vec::new(), Vec::new()] })
    }

    /// The output for a row of the right width.
    pub fn run(&mut self, row: &[f32]) -> f32 {
        let [now, next] = &mut self.scratch;
        now.clear();
        now.extend_from_slice(row);
        for step in &self.steps {
            match step {
                Step::Dense { weights, bias } => {
                    next.clear();
                    next.extend_from_slice(bias);
                    let wide = bias.len() / WIDE * WIDE;
                    (0..wide).step_by(WIDE).for_each(|at| add::<WIDE>(next, at, now, weights));
                    (wide..bias.len()).for_each(|at| add::<1>(next, at, now, weights));
                    std::mem::swap(now, next);
                }
                Step::Relu => now.iter_mut().for_each(|x| *x = x.max(0.0)),
                Step::Sigmoid => now.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
                Step::Tanh => now.iter_mut().for_each(|x| *x = x.tanh()),
            }
        }
        now[0]
    }

    /// Whether it says the same as `other` on rows that reach into every corner of a feature's range.
    pub fn agrees(&mut self, inputs: usize, mut other: impl FnMut(&[f32]) -> Option<f32>) -> bool {
        let mut state = 0x9e37_79b9_u32;
        let mut draw = |reach: f32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * reach
        };
        (0..PROBES).all(|i| {
            let reach = [0.0, 0.1, 1.0, 5.0, 50.0][i % 5];
            let row: Vec<f32> = (0..inputs).map(|_| draw(reach)).collect();
            other(&row).is_some_and(|theirs| (self.run(&row) - theirs).abs() <= AGREE)
        })
    }
}

/// Adds the inputs' share to `N` outputs from `at` on. The sums stay in registers, and each takes its inputs in order: the
/// result is the same, to the bit, for any `N`.
fn add<const N: usize>(outputs: &mut [f32], at: usize, inputs: &[f32], weights: &[f32]) {
    let width = outputs.len();
    let Some(sums) = outputs.get_mut(at..).and_then(<[f32]>::first_chunk_mut::<N>) else { return };
    let mut sum = *sums;
    for (x, weights) in inputs.iter().zip(weights.chunks_exact(width)) {
        let Some(weights) = weights.get(at..).and_then(<[f32]>::first_chunk::<N>) else { return };
        for (sum, w) in sum.iter_mut().zip(weights) {
            *sum += x * w;
        }
    }
    *sums = sum;
}

fn dense(graph: &Graph<'_>, inputs: &[&str], attributes: &[Attribute<'_>], width: usize) -> Option<Step> {
    let mut transposed = false;
    for a in attributes {
        match a.name {
            "alpha" | "beta" if a.f == 1.0 => {}
            "transA" if a.i == 0 => {}
            "transB" => transposed = a.i != 0,
            _ => return None,
        }
    }
    let [_, weights, bias] = inputs else { return None };
    let (weights, bias) = (graph.get_initializer(weights)?, graph.get_initializer(bias)?);
    let bias = bias.as_f32()?.into_owned();
    let outputs = bias.len();
    let shape = if transposed { [outputs as i64, width as i64] } else { [width as i64, outputs as i64] };
    let weights_shape = weights.dims() == shape;
    let weights = weights.as_f32()?.into_owned();
    if !weights_shape || weights.len() != width * outputs || !(1..=WIDTH_MAX).contains(&outputs) {
        return None;
    }
    let weights = match transposed {
        false => weights,
        true => (0..width * outputs).map(|i| weights[i % outputs * width + i / outputs]).collect(),
    };
    Some(Step::Dense { weights, bias })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::onnx_write::{self, Dense};

    fn layers() -> Vec<Dense> {
        let layer = |inputs: usize, outputs: usize, seed: usize| Dense {
            inputs,
            outputs,
            weights: (0..inputs * outputs).map(|i| ((i * 7 + seed) % 11) as f32 / 5.0 - 1.0).collect(),
            bias: (0..outputs).map(|i| i as f32 / 10.0 - 0.2).collect(),
        };
        vec![layer(3, 4, 1), layer(4, 1, 2)]
    }

    fn by_hand(row: &[f32]) -> f32 {
        let layers = layers();
        let out = |l: &Dense, x: &[f32]| -> Vec<f32> {
            (0..l.outputs).map(|o| l.bias[o] + (0..l.inputs).map(|i| x[i] * l.weights[i * l.outputs + o]).sum::<f32>()).collect()
        };
        let hidden: Vec<f32> = out(&layers[0], row).iter().map(|x| x.max(0.0)).collect();
        1.0 / (1.0 + (-out(&layers[1], &hidden)[0]).exp())
    }

    #[test]
    fn a_written_network_is_read_and_computed() {
        let bytes = onnx_write::mlp(&layers(), &[]);
        let mut network = Network::read(&bytes, 3).unwrap();
        for row in [[0.0, 0.0, 0.0], [1.0, -2.0, 0.5], [50.0, 3.0, -7.0]] {
            assert!((network.run(&row) - by_hand(&row)).abs() < 1e-6);
        }
        assert!(network.agrees(3, |row| Some(by_hand(row))));
        assert!(!network.agrees(3, |row| Some(by_hand(row) + 1e-3 * row[0])), "a runtime that says otherwise is believed");
        assert!(!network.agrees(3, |_| None));
    }

    #[test]
    fn what_is_no_plain_chain_is_left_to_the_runtime() {
        let bytes = onnx_write::mlp(&layers(), &[]);
        assert!(Network::read(&bytes, 4).is_none(), "another width");
        assert!(Network::read(&bytes[..bytes.len() / 2], 3).is_none());
        let wide = vec![Dense { inputs: 3, outputs: 2, weights: vec![0.1; 6], bias: vec![0.0; 2] }];
        assert!(Network::read(&onnx_write::mlp(&wide, &[]), 3).is_none(), "two outputs");
        let mut foreign = crate::onnx_write::node(OpType::Softmax, &["features"], "score");
        foreign.name = "soft";
        let rows = || onnx_write::rows_of("features", 1);
        let softmax = crate::testing::model(vec![foreign], vec![], vec![rows()], vec![onnx_write::rows_of("score", 1)]);
        assert!(Network::read(&softmax, 1).is_none());
    }
}
