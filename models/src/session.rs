//! The runtimes that execute a model: ONNX Runtime (a shared library found at start) or the built-in pure Rust one. The only
//! file that names their crates.

use std::{
    env,
    error::Error as _,
    ffi::OsStr,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use ort::{environment::Environment, ep::ExecutionProviderDispatch, session::Session as OrtSession, value::TensorRef};
use tidegate_filters::rule::bot_gate::Runtime;
use tract_onnx::prelude::{Datum as _, Framework, InferenceModelExt, IntoRunnable, TValue, Tensor, TypedFact, tvec};
use tract_onnx::tract_hir::internal::{InferenceFact, TypedSimpleState};

use crate::{dense::Network, error::ModelError, inspect::Inspection};

mod block;

/// Environment variable with the path of ONNX Runtime's library. When it is set, a failure to load is an error.
pub const LIBRARY_VARIABLE: &str = "TIDEGATE_ONNXRUNTIME";

const ORT: &str = "ONNX Runtime";
const TRACT: &str = "the built-in runtime";

/// A runtime that is ready to load models.
#[derive(Clone)]
pub struct Engine {
    kind: Kind,
    /// A plain network may be evaluated without it: nobody asked for this very runtime.
    direct: bool,
}

#[derive(Clone)]
enum Kind {
    Ort(Arc<(Environment, PathBuf)>),
    Tract,
}

impl Engine {
    /// Finds the runtime that a policy asks for. ONNX Runtime can be loaded once in a process; later calls share it.
    pub fn choose(wanted: Runtime) -> Result<Engine, ModelError> {
        let builtin = Engine { kind: Kind::Tract, direct: true };
        if wanted == Runtime::Builtin {
            return Ok(builtin);
        }
        let named = env::var_os(LIBRARY_VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
        let Some(library) = named.clone().or_else(find_library) else {
            return match wanted {
                Runtime::Onnxruntime | Runtime::OnnxruntimeCuda => Err(ModelError::Runtime(format!(
                    "ONNX Runtime is wanted, but its library was not found: run `make {}`, or set {LIBRARY_VARIABLE} to libonnxruntime.so",
                    wanted.name()
                ))),
                _ => Ok(builtin),
            };
        };
        match load_library(&library) {
            Ok(loaded) => Ok(Engine { kind: Kind::Ort(loaded), direct: wanted != Runtime::Onnxruntime }),
            Err(why) if wanted == Runtime::Auto && named.is_none() => {
                tracing::warn!(library = %library.display(), why, "ONNX Runtime cannot be used; the built-in runtime takes over");
                Ok(builtin)
            }
            Err(why) => {
                let from = if named.is_some() { format!(" ({LIBRARY_VARIABLE})") } else { String::new() };
                Err(ModelError::Runtime(format!(
                    "{}{from}: ONNX Runtime cannot be loaded: {why}; set {LIBRARY_VARIABLE} to a libonnxruntime.so for this machine, \
                     such as `make onnxruntime` brings, or unset it and write `runtime: builtin`",
                    library.display()
                )))
            }
        }
    }

    /// Which of the policy's words this is.
    pub fn runtime(&self) -> Runtime {
        match self.kind {
            Kind::Ort(_) => Runtime::Onnxruntime,
            Kind::Tract => Runtime::Builtin,
        }
    }

    /// For the log.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Ort(loaded) => format!("ONNX Runtime ({})", loaded.1.display()),
            Kind::Tract => "built-in runtime (tract)".into(),
        }
    }

    /// Loads a model that was inspected. Panics of the runtime are errors.
    pub fn load(&self, bytes: &[u8], model: &Inspection) -> Result<Session, ModelError> {
        let (width, output) = (model.features, model.output);
        let runner = match &self.kind {
            Kind::Ort(loaded) => guarded(ORT, || load_ort(&loaded.0, bytes, None)).map(|s| Runner::Ort(Box::new(s))),
            Kind::Tract => guarded(TRACT, || load_tract(bytes, width)).map(|s| Runner::Tract(Box::new(s))),
        }?;
        let mut session = Session { runner, width, output, one_by_one: false };
        if self.direct
            && let Some(mut network) = Network::read(bytes, width)
            && network.agrees(width, |row| session.run(row).ok())
        {
            session.runner = Runner::Direct(network);
        }
        Ok(session)
    }
}

/// One loaded model; one thread at a time.
pub struct Session {
    runner: Runner,
    width: usize,
    output: usize,
    one_by_one: bool,
}

enum Runner {
    Ort(Box<OrtSession>),
    Tract(Box<TypedSimpleState>),
    /// A plain network that says what the runtime says.
    Direct(Network),
    #[cfg(test)]
    Panics,
}

/// Why a row got no number.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The row is not as wide as the model's input.
    #[error("a row of {got} features; the model wants {want}")]
    Width {
        /// Given.
        got: usize,
        /// Wanted.
        want: usize,
    },
    /// The runtime failed, or gave something that is no score.
    #[error("{0}")]
    Failed(String),
    /// The runtime panicked.
    #[error("the runtime panicked: {0}")]
    Panicked(String),
}

impl Session {
    #[cfg(test)]
    pub(crate) fn that_panics(width: usize) -> Self {
        Session { runner: Runner::Panics, width, output: 0, one_by_one: false }
    }

    /// Evaluated without a runtime.
    pub fn is_direct(&self) -> bool {
        matches!(self.runner, Runner::Direct(_))
    }

    /// What the model says about one row, unchecked: may be NaN or out of range.
    pub fn run(&mut self, row: &[f32]) -> Result<f32, RunError> {
        self.run_with(row, |network, row| Ok(network.run(row)), pick)
    }

    /// All values the model gives for one row, unchecked.
    pub fn run_all(&mut self, row: &[f32]) -> Result<Vec<f32>, RunError> {
        self.run_with(row, |network, row| Ok(vec![network.run(row)]), |values| Ok(values.collect()))
    }

    fn run_with<T>(
        &mut self,
        row: &[f32],
        direct: impl FnOnce(&mut Network, &[f32]) -> Result<T, String>,
        read: impl FnOnce(&mut dyn ExactSizeIterator<Item = f32>) -> Result<T, String>,
    ) -> Result<T, RunError> {
        if row.len() != self.width {
            return Err(RunError::Width { got: row.len(), want: self.width });
        }
        let output = self.output;
        let run = AssertUnwindSafe(|| match &mut self.runner {
            Runner::Ort(session) => run_ort(session, row, 1, output, read),
            Runner::Tract(state) => run_tract(state, row, output, read),
            Runner::Direct(network) => direct(network, row),
            #[cfg(test)]
            Runner::Panics => panic!("on purpose"),
        });
        match catch_unwind(run) {
            Ok(r) => r.map_err(RunError::Failed),
            Err(payload) => Err(RunError::Panicked(panic_text(payload.as_ref()))),
        }
    }
}

fn guarded<T>(runtime: &'static str, step: impl FnOnce() -> Result<T, String>) -> Result<T, ModelError> {
    let why = match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(v)) => return Ok(v),
        Ok(Err(why)) => why,
        Err(payload) => format!("it panicked: {}", panic_text(payload.as_ref())),
    };
    Err(ModelError::Run { runtime, why })
}

pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").chars().take(200).collect()
}

/// The score in an output: one number, or the second of two.
fn pick(values: &mut dyn ExactSizeIterator<Item = f32>) -> Result<f32, String> {
    match values.len() {
        n @ 1..=2 => values.last().ok_or_else(|| format!("{n} values, none readable")),
        n => Err(format!("gave {n} values for one row; a score is one, or two with the probability last")),
    }
}

fn load_ort(environment: &Environment, bytes: &[u8], device: Option<ExecutionProviderDispatch>) -> Result<OrtSession, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    // A gate has a worker for every core: threads of the runtime's own, or spinning ones, would only take turns with them.
    let mut builder = OrtSession::builder(environment)
        .map_err(|e| text(&e))?
        .with_intra_threads(1)
        .map_err(|e| text(&e))?
        .with_inter_threads(1)
        .map_err(|e| text(&e))?
        .with_intra_op_spinning(false)
        .map_err(|e| text(&e))?
        .with_inter_op_spinning(false)
        .map_err(|e| text(&e))?
        .with_execution_providers(device.as_slice())
        .map_err(|e| text(&e))?;
    builder.commit_from_memory(bytes).map_err(|e| text(&e))
}

/// `rows` are `n` rows, one after the other.
fn run_ort<T>(
    session: &mut OrtSession,
    rows: &[f32],
    n: usize,
    output: usize,
    read: impl FnOnce(&mut dyn ExactSizeIterator<Item = f32>) -> Result<T, String>,
) -> Result<T, String> {
    let input = TensorRef::from_array_view(([n, rows.len() / n.max(1)], rows)).map_err(|e| e.to_string())?;
    let outputs = session.run(ort::inputs![input]).map_err(|e| e.to_string())?;
    if output >= outputs.len() {
        return Err("the score's output is missing".into());
    }
    let (_, values) = outputs[output].try_extract_tensor::<f32>().map_err(|e| e.to_string())?;
    read(&mut values.iter().copied())
}

fn load_tract(bytes: &[u8], width: usize) -> Result<TypedSimpleState, String> {
    let fact: InferenceFact = TypedFact::dt_shape(f32::datum_type(), [1, width]).into();
    // PyTorch tells the shapes of what lies between, with a named batch, which a batch of one would contradict.
    let framework = tract_onnx::onnx().with_ignore_value_info(true);
    let model = framework.model_for_read(&mut &bytes[..]).and_then(|m| m.with_input_fact(0, fact));
    model.and_then(|m| m.into_optimized()).and_then(|m| m.into_runnable()).and_then(|p| p.spawn()).map_err(|e| format!("{e:#}"))
}

fn run_tract<T>(
    state: &mut TypedSimpleState,
    row: &[f32],
    output: usize,
    read: impl FnOnce(&mut dyn ExactSizeIterator<Item = f32>) -> Result<T, String>,
) -> Result<T, String> {
    let input = Tensor::from_shape(&[1, row.len()], row).map_err(|e| e.to_string())?;
    let outputs = state.run(tvec!(TValue::from(input))).map_err(|e| format!("{e:#}"))?;
    let values =
        outputs.get(output).ok_or("the score's output is missing")?.to_plain_array_view::<f32>().map_err(|e| e.to_string())?;
    read(&mut values.iter().copied())
}

/// Loads the library once; a process has one ONNX Runtime.
fn load_library(path: &Path) -> Result<Arc<(Environment, PathBuf)>, String> {
    static LOADED: OnceLock<Result<Arc<(Environment, PathBuf)>, String>> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            let load = || {
                let opened = ort::init_from(path).map_err(|e| refusal(&e, path))?;
                opened.with_telemetry(false).build().map_err(|e| e.to_string())
            };
            let environment =
                catch_unwind(load).unwrap_or_else(|p| Err(format!("loading panicked: {}", panic_text(p.as_ref()))))?;
            environment.set_log_level(ort::logging::LogLevel::Error);
            Ok(Arc::new((environment, path.to_owned())))
        })
        .clone()
}

/// What the system's loader says, which is the source of the error and not in its text; the path goes before it anyway.
fn refusal(e: &ort::LoadDynamicError, path: &Path) -> String {
    let ort::LoadDynamicError::Dlopen { error, .. } = e else { return e.to_string() };
    let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    why.strip_prefix(&format!("{}: ", path.display())).unwrap_or(&why).to_owned()
}

/// `ORT_DYLIB_PATH`, then the usual places: beside the working directory or the program, then the system's.
fn find_library() -> Option<PathBuf> {
    if let Some(path) = env::var_os("ORT_DYLIB_PATH").filter(|v| !v.is_empty()) {
        return Some(path.into());
    }
    let beside = env::current_exe().ok().and_then(|p| p.parent().map(|d| d.join("onnxruntime")));
    let system =
        ["/usr/local/lib", "/opt/onnxruntime/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];
    let folders = [Some(PathBuf::from("onnxruntime")), beside].into_iter().flatten().chain(system.into_iter().map(PathBuf::from));
    folders.into_iter().find_map(|f| library_in(&f))
}

/// `libonnxruntime.so*` in a folder; of several the one that sorts last.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let is_library = |n: &OsStr| n.to_str().is_some_and(|n| n.starts_with("libonnxruntime.so") || n == "libonnxruntime.dylib");
    let entries = fs::read_dir(folder).ok()?.filter_map(|e| e.ok().map(|e| e.path()));
    entries.filter(|p| p.file_name().is_some_and(is_library)).max()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use onnx_rs::ast::{Attribute, AttributeType, OpType, TensorProto};

    use super::*;
    use crate::testing;

    /// A recurrent layer without a first state and with a batch of unknown size: the built-in runtime panics on it.
    fn gru_without_first_state() -> Vec<u8> {
        let (h, i) = (4i64, 8i64);
        let mut gru = crate::onnx_write::node(OpType::GRU, &["x", "W", "R"], "y");
        gru.attribute = vec![Attribute { name: "hidden_size", r#type: AttributeType::Int, i: h, ..Attribute::default() }];
        let weights = |name, rows: i64, columns: i64| {
            TensorProto::from_f32(name, vec![1, rows, columns], vec![0.1; (rows * columns) as usize])
        };
        let mut x = crate::onnx_write::rows_of("x", i as usize);
        if let Some(onnx_rs::ast::TypeValue::Tensor(t)) = x.r#type.as_mut().and_then(|t| t.value.as_mut()) {
            let shape = t.shape.as_mut().unwrap();
            shape
                .dim
                .insert(0, onnx_rs::ast::TensorShapeDimension { value: onnx_rs::ast::Dimension::Value(3), ..Default::default() });
        }
        let y = onnx_rs::ast::ValueInfo { name: "y", ..Default::default() };
        testing::model(vec![gru], vec![weights("W", 3 * h, i), weights("R", 3 * h, h)], vec![x], vec![y])
    }

    #[test]
    fn a_panic_inside_the_builtin_runtime_is_an_error() {
        let bytes = gru_without_first_state();
        let load = || {
            // PyTorch tells the shapes of what lies between, with a named batch, which a batch of one would contradict.
            let framework = tract_onnx::onnx().with_ignore_value_info(true);
            let model = framework.model_for_read(&mut &bytes[..]).and_then(|m| m.into_optimized());
            model.map_err(|e| e.to_string())
        };
        assert!(catch_unwind(AssertUnwindSafe(load)).is_err(), "it panics, else this test proves nothing");
        let e = guarded(TRACT, load).unwrap_err();
        assert!(e.to_string().contains("it panicked"), "{e}");
    }

    #[test]
    fn a_library_that_is_none_is_a_clean_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("libonnxruntime_providers_shared.so"), b"x").unwrap();
        assert_eq!(library_in(dir.path()), None);
        fs::write(dir.path().join("libonnxruntime.so.1.24.0"), b"not a library").unwrap();
        assert!(library_in(dir.path()).unwrap().ends_with("libonnxruntime.so.1.24.0"));
        assert_eq!(library_in(&dir.path().join("absent")), None);
        // In a process of its own: one that has loaded a library never loads another.
        for (name, why) in [("libonnxruntime.so.1.24.0", ": "), ("none.so", "No such file")] {
            let child = std::process::Command::new(env::current_exe().unwrap())
                .args(["--ignored", "--nocapture", "--exact", "session::tests::child"])
                .env(LIBRARY_VARIABLE, dir.path().join(name))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&child.stderr);
            let begins = format!("{name} ({LIBRARY_VARIABLE}): ONNX Runtime cannot be loaded: ");
            assert!(child.status.success() && said.contains(&begins) && said.contains(why), "{said}");
            assert!(!said.contains("dlopen failed") && said.contains("make onnxruntime"), "the loader's reason: {said}");
        }
    }

    #[test]
    #[ignore = "the child process of the test before"]
    fn child() {
        let e = Engine::choose(Runtime::Auto).err().unwrap();
        std::io::Write::write_all(&mut std::io::stderr(), e.to_string().as_bytes()).unwrap();
    }

    #[test]
    fn the_builtin_runtime_is_always_there() {
        assert_eq!(Engine::choose(Runtime::Builtin).unwrap().runtime(), Runtime::Builtin);
        match testing::onnxruntime() {
            Some(()) => assert_eq!(Engine::choose(Runtime::Auto).unwrap().runtime(), Runtime::Onnxruntime),
            None => assert!(Engine::choose(Runtime::Onnxruntime).err().unwrap().to_string().contains("make onnxruntime")),
        }
    }
}
