//! The forecast's making: data, evaluation, training, and the net that runs in the gate.

pub mod card;
pub mod data;
pub mod evaluate;
pub mod inputs;
pub mod net;
pub mod score;
#[cfg(feature = "train")]
pub mod train;
