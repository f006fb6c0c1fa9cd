//! What Tidegate learns and what it learns from: the journal, features, the score of a visit, and how the models are made.

pub mod features;
pub mod journal;

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
