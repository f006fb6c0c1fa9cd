//! The gate: connections in, decisions by `tidegate-filters`, requests to the shop.
//!
//! A visit meets, in this order: [`door`] → [`proxy`] (`request_filter`) → [`intake`] → the filters → [`in_flight`] →
//! the shop, or [`reply`] with one of [`pages`]; [`own`] answers below the gate's own prefix. [`serve`] starts and stops it.
//!
//! Beside the visits, on threads of their own: [`observe`] writes the journal, [`planner`] ticks the rooms and plans each
//! second, [`admin`] and [`reload`] reach the gate through [`control`]. [`gate`] puts it all together; [`cli`] is the program.

pub mod admin;
mod apart;
pub mod appeal;
mod applied;
pub mod beacon;
pub mod body;
pub mod bots;
pub mod canonical;
pub mod challenge;
pub mod claims;
pub mod cli;
pub mod client;
pub mod clock;
pub mod control;
pub mod counts;
pub mod credentials;
pub mod decide;
pub mod deep;
pub mod door;
pub mod draw;
mod durable;
pub mod events;
pub mod failure;
pub mod forecasting;
pub mod form;
pub mod forward;
pub mod gate;
pub mod head;
pub mod in_flight;
pub mod intake;
pub mod keys;
pub mod known;
pub mod metrics;
pub mod observe;
pub mod operate;
pub mod own;
pub mod pages;
pub mod planner;
pub mod promote;
pub mod proxy;
pub mod reload;
pub mod remembered;
pub mod repeated;
pub mod reply;
pub mod sales;
pub mod scoring;
pub mod serve;
pub mod shop;
pub mod standing;
pub mod state;
pub mod store;
pub mod tally;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod trace;
pub mod upstream;
