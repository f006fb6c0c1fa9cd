//! What Tidegate learns and what it learns from: the journal, features, the score of a visit, and how the models are made.

pub mod batch;
pub mod blocks;
pub mod bots;
pub mod card;
pub mod dense;
pub mod device;
mod error;
pub mod features;
pub mod forecast;
pub mod inspect;
pub mod journal;
pub mod onnx_write;
mod opened;
mod packed;
pub mod place;
pub mod plot;
pub mod scorer;
pub mod session;
#[cfg(test)]
mod testing;
pub mod trial;
pub mod tune;

pub use blocks::Blocks;
pub use error::ModelError;
pub use scorer::Scorer;

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
