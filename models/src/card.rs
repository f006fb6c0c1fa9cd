//! The card beside every model: what it expects, how it was made, how well it did. A model without a fitting card is not
//! used.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{error::ModelError, features};

/// Largest card.
const CARD_BYTES_MAX: u64 = 1 << 20;

/// A model's card, JSON, `NAME.json` beside `NAME.onnx`. Only the two hashes are required.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// A name for people.
    #[serde(default)]
    pub name: String,
    /// SHA-256 of the `.onnx` file, hex.
    pub model_sha256: String,
    /// SHA-256 of the feature list it was made for: [`features::hash`].
    pub features_sha256: String,
    /// Version of that list.
    #[serde(default)]
    pub features_version: u32,
    /// Names of the features, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Usual values of people's visits, in the same order: reasons are told against them. Zeros when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub baseline: Vec<f32>,
    /// How it was made: method, command, seed.
    #[serde(default)]
    pub made_by: serde_json::Value,
    /// What it was trained on.
    #[serde(default)]
    pub training: serde_json::Value,
    /// What was measured on what it had never seen.
    #[serde(default)]
    pub metrics: serde_json::Value,
    /// What it must not be used for, and what is known to be weak.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
}

impl ModelCard {
    /// Reads the card beside a model and checks that it is about these bytes and this feature list.
    pub fn read_for(model: &Path, bytes: &[u8]) -> Result<Self, ModelError> {
        let text = text_beside(model, || least(bytes))?;
        Self::parse(&path_of(model), &text, bytes)
    }

    /// The same for a card already read.
    pub fn parse(path: &Path, text: &str, bytes: &[u8]) -> Result<Self, ModelError> {
        let fail = |why: String| ModelError::Card { path: path.to_owned(), why };
        let card: ModelCard = serde_json::from_str(text).map_err(|e| fail(format!("not a model card: {e}")))?;
        is_about(path, &card.model_sha256, bytes)?;
        if !card.features_sha256.eq_ignore_ascii_case(features::hash()) {
            let why = format!(
                "the model was made for the feature list {} (version {}), this gate computes {} (version {}): train it anew",
                card.features_sha256,
                card.features_version,
                features::hash(),
                features::VERSION
            );
            return Err(fail(why));
        }
        if !card.baseline.is_empty() && card.baseline.len() != features::N {
            return Err(fail(format!("`baseline` has {} values, the feature list {}", card.baseline.len(), features::N)));
        }
        if card.baseline.iter().any(|v| !v.is_finite()) {
            return Err(fail("`baseline` has a value that is not finite".into()));
        }
        Ok(card)
    }
}

/// Where the card of a model lies.
pub fn path_of(model: &Path) -> PathBuf {
    model.with_extension("json")
}

/// The card beside a model, as text; `least` is the smallest card that would do, for whoever has none.
pub(crate) fn text_beside(model: &Path, least: impl FnOnce() -> String) -> Result<String, ModelError> {
    let path = path_of(model);
    let fail = |why: String| ModelError::Card { path: path.clone(), why };
    let missing = |e| fail(format!("cannot read the model's card: {e}; the least one is {}", least()));
    let size = fs::metadata(&path).map_err(missing)?.len();
    if size > CARD_BYTES_MAX {
        return Err(fail(format!("{size} bytes; a card has at most {CARD_BYTES_MAX}")));
    }
    fs::read_to_string(&path).map_err(|e| fail(format!("cannot read the card: {e}")))
}

/// Writes a model and its card, card last: a file without its card is not used. Gives the card's path.
pub(crate) fn write_both(model: &Path, bytes: &[u8], card: &impl Serialize) -> Result<PathBuf, ModelError> {
    let io = |doing| move |source| ModelError::Io { path: model.to_owned(), doing, source };
    let path = path_of(model);
    let text = serde_json::to_string_pretty(card).map_err(|e| ModelError::Card { path: path.clone(), why: e.to_string() })?;
    if let Some(folder) = model.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(io("create the folder"))?;
    }
    fs::write(model, bytes).map_err(io("write the model"))?;
    fs::write(&path, text + "\n").map_err(io("write the card"))?;
    Ok(path)
}

/// Whether a card names these bytes.
pub(crate) fn is_about(card: &Path, model_sha256: &str, bytes: &[u8]) -> Result<(), ModelError> {
    let sha = sha256_hex(bytes);
    if model_sha256.eq_ignore_ascii_case(&sha) {
        return Ok(());
    }
    let why = format!("is about a model with SHA-256 {model_sha256}, but the file has {sha}");
    Err(ModelError::Card { path: card.to_owned(), why })
}

/// SHA-256 of some bytes, hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    crate::hex(&Sha256::digest(bytes))
}

fn least(bytes: &[u8]) -> String {
    format!("{{\"model_sha256\": \"{}\", \"features_sha256\": \"{}\"}}", sha256_hex(bytes), features::hash())
}
