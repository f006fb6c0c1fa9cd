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
    /// Where the card of a model lies.
    pub fn path_of(model: &Path) -> PathBuf {
        model.with_extension("json")
    }

    /// Reads the card beside a model and checks that it is about these bytes and this feature list.
    pub fn read_for(model: &Path, bytes: &[u8]) -> Result<Self, ModelError> {
        let path = Self::path_of(model);
        let fail = |why: String| ModelError::Card { path: path.clone(), why };
        let size = fs::metadata(&path).map_err(|e| fail(missing(bytes, &e)))?.len();
        if size > CARD_BYTES_MAX {
            return Err(fail(format!("{size} bytes; a card has at most {CARD_BYTES_MAX}")));
        }
        let text = fs::read_to_string(&path).map_err(|e| fail(format!("cannot read the card: {e}")))?;
        Self::parse(&path, &text, bytes)
    }

    /// The same for a card already read.
    pub fn parse(path: &Path, text: &str, bytes: &[u8]) -> Result<Self, ModelError> {
        let fail = |why: String| ModelError::Card { path: path.to_owned(), why };
        let card: ModelCard = serde_json::from_str(text).map_err(|e| fail(format!("not a model card: {e}")))?;
        let sha = sha256_hex(bytes);
        if !card.model_sha256.eq_ignore_ascii_case(&sha) {
            return Err(fail(format!("is about a model with SHA-256 {}, but the file has {sha}", card.model_sha256)));
        }
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

/// SHA-256 of some bytes, hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    crate::hex(&Sha256::digest(bytes))
}

fn missing(bytes: &[u8], e: &std::io::Error) -> String {
    format!(
        "cannot read the model's card: {e}; the least one is {{\"model_sha256\": \"{}\", \"features_sha256\": \"{}\"}}",
        sha256_hex(bytes),
        features::hash()
    )
}
