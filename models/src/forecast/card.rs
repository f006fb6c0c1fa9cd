//! The card of a forecast, and the contract that any maker's model obeys.
//!
//! # The contract
//!
//! * The file obeys [`crate::inspect`]: one input `features`, float `[n, N]` with `N` = [`inputs::N`] as listed by
//!   `tidegate train forecast --list-inputs`, raw: what scaling it needs is inside the file; one float output.
//! * The output's columns go by horizon: for `horizons: [1, 2, 5]` and `quantiles: [0.1, 0.5, 0.9, 0.95, 0.99]` there are 15,
//!   all quantiles of the first horizon first. `quantiles: [0.5]` is enough: then there is one column a horizon, its median,
//!   and the gate makes the bands itself, as it does anyway from what the forecast gets wrong.
//! * A value is `ln((1 + y) / (1 + y₀))`: growth of the count `y` at the horizon over the latest count `y₀`, between −20 and 20
//!   ([`GROWTH_MAX`]).
//! * The card beside it, `NAME.json` for `NAME.onnx`, names the file's SHA-256, the SHA-256 of the list of inputs, the
//!   horizons in steps of a minute, and the quantiles. The rest is for people.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tidegate_filters::forecast::{Q, QUANTILES};

use super::inputs;
use crate::{
    card::{is_about, path_of, sha256_hex, text_beside},
    error::ModelError,
};

/// Name of the output of the nets we make; others may call it as they like.
pub const OUTPUT_NAME: &str = "growth";
/// Largest growth or fall that is believed, `ln((1 + y) / (1 + y₀))`: five hundred million times.
pub const GROWTH_MAX: f32 = 20.0;
/// Farthest horizon, minutes.
pub const HORIZON_MAX: usize = 60;
/// Most horizons.
pub const HORIZONS_MAX: usize = 16;

/// What a forecast's card says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastCard {
    /// `forecast`.
    pub kind: Kind,
    /// A name for people.
    #[serde(default)]
    pub name: String,
    /// SHA-256 of the `.onnx` file, hex.
    pub model_sha256: String,
    /// SHA-256 of the list of inputs: [`inputs::hash`].
    pub inputs_sha256: String,
    /// Steps of a minute ahead, rising.
    pub horizons: Vec<usize>,
    /// `[0.5]`, or all of [`QUANTILES`].
    pub quantiles: Vec<f64>,
    /// Names of the inputs, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// Mean and one over the deviation of each input in training; 0 for those that are muted. They are in the file too.
    #[serde(default)]
    pub scaler: serde_json::Value,
    /// Method, command, seed, git revision.
    #[serde(default)]
    pub made_by: serde_json::Value,
    /// Data, ranges, how it was cleaned.
    #[serde(default)]
    pub training: serde_json::Value,
    /// What was measured on what it had never seen.
    #[serde(default)]
    pub metrics: serde_json::Value,
    /// Loss by epoch, on what it learnt from and on what it did not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loss_curve: Vec<[f32; 2]>,
    /// What it must not be used for, and what is known to be weak.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
}

/// A bot model's card is no forecast's card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The only one.
    Forecast,
}

impl ForecastCard {
    /// Reads the card beside a model and checks that it is about these bytes and these inputs.
    pub fn read_for(model: &Path, bytes: &[u8]) -> Result<Self, ModelError> {
        let text = text_beside(model, || least(bytes))?;
        Self::parse(&path_of(model), &text, bytes)
    }

    /// The same for a card already read.
    pub fn parse(path: &Path, text: &str, bytes: &[u8]) -> Result<Self, ModelError> {
        let fail = |why: String| ModelError::Card { path: path.to_owned(), why };
        let card: ForecastCard = serde_json::from_str(text).map_err(|e| fail(format!("not the card of a forecast: {e}")))?;
        is_about(path, &card.model_sha256, bytes)?;
        if !card.inputs_sha256.eq_ignore_ascii_case(inputs::hash()) {
            let why = format!(
                "the model was made for the inputs {}, this program computes {} (version {}): train it anew",
                card.inputs_sha256,
                inputs::hash(),
                inputs::VERSION
            );
            return Err(fail(why));
        }
        let rising = card.horizons.windows(2).all(|w| w[0] < w[1]);
        let within = card.horizons.iter().all(|h| (1..=HORIZON_MAX).contains(h));
        if card.horizons.is_empty() || card.horizons.len() > HORIZONS_MAX || !rising || !within {
            let why = format!("`horizons` must be 1 to {HORIZONS_MAX} rising numbers of minutes from 1 to {HORIZON_MAX}");
            return Err(fail(why));
        }
        if card.quantiles != [0.5] && card.quantiles != QUANTILES {
            return Err(fail(format!("`quantiles` must be [0.5] or {QUANTILES:?}")));
        }
        Ok(card)
    }

    /// Columns of the output.
    pub fn columns(&self) -> usize {
        self.horizons.len() * self.quantiles.len()
    }

    /// Whether the model gives all quantiles.
    pub fn is_whole(&self) -> bool {
        self.quantiles.len() == Q
    }
}

fn least(bytes: &[u8]) -> String {
    format!(
        "{{\"kind\": \"forecast\", \"model_sha256\": \"{}\", \"inputs_sha256\": \"{}\", \"horizons\": [1, 5, 10], \
         \"quantiles\": [0.5]}}",
        sha256_hex(bytes),
        inputs::hash()
    )
}
