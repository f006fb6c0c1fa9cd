//! The heart of the gate: the waiting room's line, its seats, the tokens that prove a place or a seat.

pub mod line;
pub mod queue;
pub mod room;
pub mod seat;
pub mod sync;
pub mod token;
