//! How far the gate opens: capacity, load, refill, burst, seats, in-flight limit. Pure arithmetic, once a second; the in-flight limit
//! ten times.

pub mod capacity;
mod contract;
pub mod limit;
pub mod load;
mod planner;
mod stock;
#[cfg(test)]
mod tests;
pub mod tide;
mod window;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    planner::{Observed, Planner, Plans},
    tide::{Outlook, Tide},
    window::{RouteWindow, ShopWindow, failing_bit},
};
use crate::units::{Rate, Span};

/// What the shop can take, as far as the operator knows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapacitySettings {
    /// The estimator never goes below this while the shop is healthy.
    #[serde(default = "floor")]
    pub floor: Rate,
    /// The estimator never goes above this.
    #[serde(default = "ceiling")]
    pub ceiling: Rate,
}

impl Default for CapacitySettings {
    fn default() -> Self {
        CapacitySettings { floor: floor(), ceiling: ceiling() }
    }
}

fn floor() -> Rate {
    Rate::per_s(5)
}

fn ceiling() -> Rate {
    Rate::per_s(10_000)
}

/// The limit on requests in flight to an upstream, and the short queue in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InFlightSettings {
    /// `auto` (measured), or `{ fixed: 64 }`.
    #[serde(default)]
    pub max: InFlightMax,
    /// Requests that may wait in front of the shop.
    #[serde(default = "queue")]
    pub queue: u32,
    /// How long they wait at most.
    #[serde(default = "wait_max")]
    pub wait_max: Span,
}

impl Default for InFlightSettings {
    fn default() -> Self {
        InFlightSettings { max: InFlightMax::default(), queue: queue(), wait_max: wait_max() }
    }
}

fn queue() -> u32 {
    100
}

fn wait_max() -> Span {
    Span::secs(1)
}

/// Where the in-flight limit comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InFlightMax {
    /// Measured from the shop's answers.
    #[default]
    Auto,
    /// This many.
    Fixed(u32),
}

/// How a room's refill is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// From the shop's measured capacity and the load that passes already given out still cause.
    #[default]
    Measured,
    /// As `measured`, and with what is expected to arrive: an eye on the stock, armed before the crowd is there. A forecast
    /// that does not come true changes nothing.
    Forecast,
    /// This many new passes.
    Fixed(Rate),
}

/// What is in force for the next second, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// New passes a second.
    pub refill_per_s: f64,
    /// Passes at once after a pause.
    pub burst: f64,
    /// Most live seats.
    pub seats: u32,
    /// The room makes newcomers wait.
    pub armed: bool,
    /// In words, with the numbers.
    pub reason: String,
}
