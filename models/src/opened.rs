//! A bot model that was read and inspected, before it is loaded.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use tidegate_filters::rule::bot_gate::Runtime;

use crate::{
    card::{ModelCard, path_of, sha256_hex},
    device::Device,
    error::ModelError,
    features::N,
    inspect::{Inspection, inspect_bytes, read_model},
    session::{Engine, Session},
};

/// The policy's word for the model that comes with the program.
pub const BUILTIN: &str = "builtin";

static BUILTIN_MODEL: &[u8] = include_bytes!("../artifacts/bots-2.onnx");
static BUILTIN_CARD: &str = include_str!("../artifacts/bots-2.json");

/// SHA-256 of a model, hex: of `builtin`, or of the file at a path.
pub fn sha256_of(model: &str) -> std::io::Result<String> {
    if model == BUILTIN {
        return Ok(sha256_hex(BUILTIN_MODEL));
    }
    std::fs::read(model).map(|bytes| sha256_hex(&bytes))
}

/// How the reason begins where no device can run a model.
pub(crate) const NO_KERNEL: &str = "the model uses ";

/// What is said where a device was wanted and there is none.
pub(crate) fn no_device(why: &str) -> String {
    let (what, instead) = without_device(why);
    format!("runtime: onnxruntime-cuda: {what}: {instead}")
}

/// The same in two: what is wrong, what to do.
pub(crate) fn without_device(why: &str) -> (String, &'static str) {
    if why.starts_with(NO_KERNEL) {
        return (format!("{why}, so the CPU scores"), "write `auto`");
    }
    let instead = "install NVIDIA's driver, CUDA and cuDNN and an ONNX Runtime that is built for them (`make onnxruntime-cuda`), or \
                   write `runtime: auto`";
    (format!("no CUDA device can be used ({why}), so the CPU scores"), instead)
}

/// Everything a session is made of.
pub(crate) struct Opened {
    pub(crate) name: String,
    pub(crate) card: ModelCard,
    pub(crate) engine: Engine,
    bytes: Cow<'static, [u8]>,
    inspection: Inspection,
}

impl Opened {
    /// `builtin`, or the path of an `.onnx` file with its card.
    pub(crate) fn read(model: &str, runtime: Runtime) -> Result<Opened, ModelError> {
        let (path, bytes, card) = if model == BUILTIN {
            let path = PathBuf::from("models/artifacts/bots-2.onnx");
            let card = ModelCard::parse(&path_of(&path), BUILTIN_CARD, BUILTIN_MODEL)?;
            (path, Cow::Borrowed(BUILTIN_MODEL), card)
        } else {
            let path = PathBuf::from(model);
            let bytes = read_model(&path)?;
            let card = ModelCard::read_for(&path, &bytes)?;
            (path, Cow::Owned(bytes), card)
        };
        let inspection = fit(&path, &bytes)?;
        let engine = Engine::choose(runtime)?;
        inspection.fits(engine.runtime()).map_err(|why| ModelError::Unfit { path, why })?;
        Ok(Opened { name: model.to_owned(), card, engine, bytes, inspection })
    }

    /// One session on the CPU.
    pub(crate) fn session(&self) -> Result<Session, ModelError> {
        self.engine.load(&self.bytes, &self.inspection)
    }

    /// One session on the CPU that is best at many rows.
    pub(crate) fn block_session(&self) -> Result<Session, ModelError> {
        self.engine.for_blocks().load(&self.bytes, &self.inspection)
    }

    /// The device, compared with the CPU; the error says why there is none.
    pub(crate) fn device(&self) -> Result<Box<dyn Device>, String> {
        let mut cpu = self.session().map_err(|e| e.to_string())?;
        self.engine.load_on_cuda(&self.bytes, &self.inspection, &mut cpu).map(|s| Box::new(s) as _)
    }

    /// First 8 bytes of the model's SHA-256, hex.
    pub(crate) fn short(&self) -> String {
        let mut short = sha256_hex(&self.bytes);
        short.truncate(16);
        short
    }
}

fn fit(path: &Path, bytes: &[u8]) -> Result<Inspection, ModelError> {
    let inspection = inspect_bytes(path, bytes)?;
    if inspection.features != N {
        let why = format!("takes {} features; this gate computes {N}", inspection.features);
        return Err(ModelError::Unfit { path: path.to_owned(), why });
    }
    Ok(inspection)
}
