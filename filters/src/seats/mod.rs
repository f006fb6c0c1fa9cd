//! The heart of the gate: the waiting room's line, its seats, the tokens that prove a place or a seat.

pub mod answer;
pub mod chance;
pub mod draw;
pub mod hold;
pub mod keep;
#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod keep_tests;
pub mod ledger;
pub mod line;
#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod line_tests;
pub mod marks;
#[cfg(all(test, any(feature = "loom", feature = "shuttle")))]
mod model_tests;
#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod one_place_tests;
#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod open_tests;
pub mod operate;
mod pace;
pub mod page;
mod promise;
pub mod queue;
#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod reserve_tests;
pub mod response;
pub mod room;
mod room_draw;
#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod room_draw_tests;
#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod room_tests;
pub mod seat;
pub mod settings;
mod state;
pub mod stock;
pub mod sync;
#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod telling_tests;
#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod throughput_tests;
pub mod token;
#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod token_tests;
