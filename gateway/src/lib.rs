//! The gate: connections in, decisions by `tidegate-filters`, requests to the shop.
//!
//! A visit meets, in this order: [`door`] → [`proxy`] (`request_filter`) → [`intake`] → the filters → [`in_flight`] →
//! the shop, or [`reply`] with one of [`pages`]; [`own`] answers below the gate's own prefix. [`serve`] starts and stops it.

pub mod canonical;
pub mod claims;
pub mod clock;
pub mod counts;
pub mod door;
pub mod forward;
pub mod in_flight;
pub mod intake;
pub mod keys;
pub mod metrics;
pub mod own;
pub mod pages;
pub mod proxy;
pub mod reply;
pub mod serve;
pub mod shop;
pub mod state;
pub mod tls;
pub mod trace;
pub mod upstream;
