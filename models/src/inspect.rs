//! Reads a model file before any runtime sees it.
//!
//! # The contract of a model
//!
//! * An ONNX file of at most 64 MiB, all weights inside, standard operators, no control flow.
//! * One input `features`: float, `[n, N]`, where the batch dimension `n` has a *name* (in PyTorch `dynamic_axes`, in
//!   skl2onnx the default) and `N` is the length of the feature list.
//! * Exactly one float output: `[n, 1]` or `[n]`, the probability that a visit is automated, or `[n, 2]`, whose second
//!   column is that probability (`zipmap=False` for scikit-learn and LightGBM). Integer outputs (labels) are ignored.
//! * Trees and support-vector machines need ONNX Runtime: the built-in runtime is a thousand times slower on the former and
//!   has not got the latter.
//! * A card beside it ([`crate::card::ModelCard`]).
//!
//! A forecast ([`inspect_forecast`]) obeys the same contract but for the output: one float `[n, width]`, whose columns its card
//! ([`crate::forecast::card`]) explains.

use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use onnx_rs::ast::{AttributeType, DataLocation, DataType, Dimension, Graph, Model, TensorTypeProto, TypeValue, ValueInfo};
use serde::{Deserialize, Serialize};
use tidegate_filters::rule::bot_gate::Runtime;

use crate::error::ModelError;

/// Name of the one input.
pub const INPUT_NAME: &str = "features";

/// Largest model file.
pub const MODEL_BYTES_MAX: u64 = 64 << 20;

/// What a model file says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// Width of a row of features.
    pub features: usize,
    /// Name of the batch dimension.
    pub batch: String,
    /// Index of the output that holds the score.
    pub output: usize,
    /// Name of that output.
    pub output_name: String,
    /// Every operator it uses, sorted, once.
    pub operators: Vec<String>,
    /// Size of the file.
    pub bytes: usize,
}

impl Inspection {
    /// Whether the built-in runtime can take it; else why not.
    pub fn fits(&self, runtime: Runtime) -> Result<(), String> {
        let slow = self.operators.iter().find(|o| o.starts_with("TreeEnsemble") || o.starts_with("SVM"));
        match (runtime, slow) {
            (Runtime::Builtin, Some(op)) => Err(format!(
                "uses `{op}`, which the built-in runtime cannot run fast enough; install ONNX Runtime (`make onnxruntime`) or export a network"
            )),
            _ => Ok(()),
        }
    }
}

/// Reads the file, not more than is allowed.
pub fn read_model(path: &Path) -> Result<Vec<u8>, ModelError> {
    let io = |doing| move |source| ModelError::Io { path: path.to_owned(), doing, source };
    let found = fs::metadata(path).map_err(io("read the model"))?;
    if !found.is_file() {
        return Err(unfit(path, "it is not a file".into()));
    }
    let size = found.len();
    if size > MODEL_BYTES_MAX {
        return Err(unfit(path, format!("{size} bytes; a model has at most {MODEL_BYTES_MAX}")));
    }
    fs::read(path).map_err(io("read the model"))
}

/// Inspects a file.
pub fn inspect(path: &Path) -> Result<Inspection, ModelError> {
    inspect_bytes(path, &read_model(path)?)
}

/// Inspects a model already read; `path` is for the messages.
pub fn inspect_bytes(path: &Path, bytes: &[u8]) -> Result<Inspection, ModelError> {
    inspect_as(path, bytes, Wanted::Score)
}

/// The same for a forecast: its output has as many columns as it likes.
pub fn inspect_forecast(path: &Path, bytes: &[u8]) -> Result<Inspection, ModelError> {
    inspect_as(path, bytes, Wanted::Forecast)
}

/// What the output is.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Score,
    Forecast,
}

fn inspect_as(path: &Path, bytes: &[u8], wanted: Wanted) -> Result<Inspection, ModelError> {
    // The parser is safe Rust, but the bytes are anybody's.
    match catch_unwind(|| inspect_parsed(bytes, wanted)) {
        Ok(r) => r.map_err(|why| unfit(path, why)),
        Err(_) => Err(unfit(path, "not an ONNX file: the reader gave up".into())),
    }
}

fn unfit(path: &Path, why: String) -> ModelError {
    ModelError::Unfit { path: PathBuf::from(path), why }
}

fn inspect_parsed(bytes: &[u8], wanted: Wanted) -> Result<Inspection, String> {
    let model = onnx_rs::parse(bytes).map_err(|e| format!("not an ONNX file, or a damaged one: {e}"))?;
    let graph = model.graph.as_ref().ok_or("an ONNX file without a graph")?;
    check_inside(graph)?;
    check_operators(&model, graph)?;
    let (features, batch) = input(graph)?;
    let (output, output_name) = output(graph, wanted)?;
    let mut operators: Vec<String> = graph.node.iter().map(|n| n.op_type.as_str().to_owned()).collect();
    operators.sort();
    operators.dedup();
    Ok(Inspection { features, batch, output, output_name, operators, bytes: bytes.len() })
}

fn check_inside(graph: &Graph<'_>) -> Result<(), String> {
    let outside =
        |t: &onnx_rs::ast::TensorProto<'_>| t.data_location() == DataLocation::External || !t.external_data().is_empty();
    let in_nodes = graph
        .node
        .iter()
        .flat_map(|n| &n.attribute)
        .any(|a| a.t.as_ref().is_some_and(&outside) || a.tensors.iter().any(&outside));
    if in_nodes || graph.initializer.iter().any(outside) {
        return Err("keeps weights in another file; export it with all data inside".into());
    }
    Ok(())
}

fn check_operators(model: &Model<'_>, graph: &Graph<'_>) -> Result<(), String> {
    if graph.node.is_empty() {
        return Err("its graph has no operators".into());
    }
    if !model.opset_import.iter().any(|o| matches!(o.domain, "" | "ai.onnx")) {
        return Err("names no operator set; the file is damaged or cut".into());
    }
    if !model.functions.is_empty() {
        return Err("defines functions of its own; export it with standard operators only".into());
    }
    for n in &graph.node {
        let op = n.op_type.as_str();
        if !matches!(n.domain, "" | "ai.onnx" | "ai.onnx.ml") {
            return Err(format!("uses the operator `{}.{op}`; only standard operators are allowed", n.domain));
        }
        if n.attribute.iter().any(|a| matches!(a.r#type, AttributeType::Graph | AttributeType::Graphs)) {
            return Err(format!("uses control flow (`{op}`); a model is one straight graph"));
        }
    }
    Ok(())
}

fn tensor<'g, 'a>(v: &'g ValueInfo<'a>) -> Option<&'g TensorTypeProto<'a>> {
    match v.r#type.as_ref()?.value.as_ref()? {
        TypeValue::Tensor(t) => Some(t),
        _ => None,
    }
}

fn dims<'g, 'a>(t: &'g TensorTypeProto<'a>) -> Option<Vec<&'g Dimension<'a>>> {
    Some(t.shape.as_ref()?.dim.iter().map(|d| &d.value).collect())
}

fn input(graph: &Graph<'_>) -> Result<(usize, String), String> {
    // Old exporters list weights among the inputs.
    let free: Vec<_> = graph.input.iter().filter(|i| graph.initializer.iter().all(|t| t.name() != i.name)).collect();
    let [only] = free[..] else {
        let names: Vec<_> = free.iter().map(|i| i.name).collect();
        return Err(format!("has {} inputs ({}); it must have one, `{INPUT_NAME}`", names.len(), names.join(", ")));
    };
    if only.name != INPUT_NAME {
        return Err(format!("its input is called `{}`; it must be `{INPUT_NAME}`", only.name));
    }
    let t = tensor(only).ok_or("its input is no tensor")?;
    if t.elem_type != DataType::Float {
        return Err(format!("its input has the type {:?}; it must be 32-bit float", t.elem_type));
    }
    match dims(t).as_deref() {
        Some([Dimension::Param(batch), Dimension::Value(width)]) if !batch.is_empty() && *width > 0 => {
            Ok((*width as usize, (*batch).to_owned()))
        }
        Some([_, Dimension::Value(width)]) if *width > 0 => {
            Err(format!("the batch dimension of `{INPUT_NAME}` has no name; export it with a dynamic, named one (`n`)"))
        }
        other => Err(format!("`{INPUT_NAME}` has the shape {other:?}; it must be [n, number of features]")),
    }
}

fn output(graph: &Graph<'_>, wanted: Wanted) -> Result<(usize, String), String> {
    let floats: Vec<_> =
        graph.output.iter().enumerate().filter(|(_, o)| tensor(o).is_some_and(|t| t.elem_type == DataType::Float)).collect();
    let [(index, only)] = floats[..] else {
        return Err(format!(
            "has {} float outputs; it must have exactly one{}",
            floats.len(),
            if wanted == Wanted::Score { ", the score (sequences and maps: `zipmap=False`)" } else { "" }
        ));
    };
    let good = match tensor(only).and_then(dims).as_deref() {
        // Without a declared shape the first run tells.
        None | Some([_]) => true,
        Some([_, Dimension::Value(w)]) => wanted == Wanted::Forecast || matches!(w, 0..=2),
        Some([_, Dimension::Param(_)]) => true,
        Some(_) => false,
    };
    if !good {
        let shapes = if wanted == Wanted::Score { "[n], [n, 1] or [n, 2]" } else { "[n, columns]" };
        return Err(format!("its output `{}` must be {shapes}", only.name));
    }
    Ok((index, only.name.to_owned()))
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
