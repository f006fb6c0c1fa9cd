//! The order of filters: first opinion wins, shared tokens are spent last.

use crate::{
    filter::FilterSettings,
    plan::{CapacitySettings, InFlightSettings},
    route::RouteSettings,
    rule::sale_window::Sale,
    seats::room::RoomSettings,
};

/// Everything the filters need from a policy, already validated.
#[derive(Clone, Debug, Default)]
pub struct PipelineSettings {
    /// In order.
    pub routes: Vec<RouteSettings>,
    /// In order.
    pub filters: Vec<FilterSettings>,
    /// By name.
    pub rooms: Vec<RoomSettings>,
    /// By name, times resolved.
    pub sales: Vec<Sale>,
    /// Bounds of the capacity estimator.
    pub capacity: CapacitySettings,
    /// The limit on requests in flight.
    pub in_flight: InFlightSettings,
}

/// The compiled policy.
#[derive(Debug)]
pub struct Pipeline {}
