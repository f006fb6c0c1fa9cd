//! The policy as typed values. The same types are the YAML, its JSON Schema and what the gate runs from.

pub mod keep;
pub mod listen;
pub mod schedule;
pub mod shop;
pub mod values;
mod zero;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_filters::{
    FilterSettings, PipelineSettings, Span,
    route::{MatchSettings, Needs, RouteFilters, RouteSettings},
    rule::address::Networks,
    seats::room::RoomSettings,
};

use keep::{ForecastSettings, Journal, Keys, Log, SaleSettings, State};
use schedule::Scheduled;

use listen::{Admin, Connections, Listen, RequestLimits};
use shop::Shop;

/// The version of the language this gate reads.
pub const VERSION: u32 = 1;

/// One YAML file: listeners, upstreams, routes, filters, rooms, sales.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Version of the language: 1.
    pub version: u32,
    /// Where visitors come in; at least one.
    pub listen: Vec<Listen>,
    /// Where operators come in; nowhere when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<Admin>,
    /// Proxies in front whose `X-Forwarded-For` is believed, read from right to left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<Networks>,
    /// What one request may be.
    #[serde(default)]
    pub limits_of_a_request: RequestLimits,
    /// How many connections, and for how long.
    #[serde(default)]
    pub connections: Connections,
    /// What stands behind the gate.
    pub shop: Shop,
    /// Parts of the shop; the first that matches wins. One route `shop` over everything when left out.
    #[serde(default = "routes")]
    pub routes: Vec<RouteSettings>,
    /// What is asked of a visit, in this order.
    #[serde(default)]
    pub filters: Vec<FilterSettings>,
    /// Waiting rooms.
    #[serde(default)]
    pub rooms: Vec<RoomSettings>,
    /// Scheduled events.
    #[serde(default)]
    pub sales: Vec<SaleSettings>,
    /// What is to happen to rooms and sales, and when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<Scheduled>,
    /// What rooms with `admission: forecast` look ahead with.
    #[serde(default)]
    pub forecast: ForecastSettings,
    /// The log of decisions; none when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Journal>,
    /// Signing keys; when left out they live in memory and a restart makes new ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Keys>,
    /// Rooms that live on over a restart; in memory when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Path of the gate's own pages and APIs on the public listeners.
    #[serde(default = "own_prefix")]
    pub own_prefix: String,
    /// The program's own log.
    #[serde(default)]
    pub log: Log,
    /// Worker threads; one a core when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u16>,
}

fn routes() -> Vec<RouteSettings> {
    vec![RouteSettings {
        name: "shop".into(),
        matches: MatchSettings::default(),
        filters: RouteFilters::All,
        in_flight_max: None,
        needs: None,
    }]
}

fn own_prefix() -> String {
    "/.tidegate/".into()
}

impl Policy {
    /// The sale that is drawn in the place of one that was called off, and of what was drawn in its place; `None` where none takes
    /// place.
    pub fn drawn_again(&self, sale: &str) -> Option<&SaleSettings> {
        let next = |old: &str| self.sales.iter().find(|s| s.redraws.as_deref() == Some(old));
        let mut again = next(sale)?;
        // Who writes a circle goes round it once.
        for _ in &self.sales {
            match again.cancelled {
                Some(_) => again = next(&again.name)?,
                None => return Some(again),
            }
        }
        None
    }

    /// The least units a hold of the sale takes.
    pub(crate) fn lot(&self, sale: &SaleSettings) -> u32 {
        self.holds(sale).map(|n| n.units).min().unwrap_or(1)
    }

    /// What routes take of the sale's units.
    pub(crate) fn holds<'p>(&'p self, sale: &'p SaleSettings) -> impl Iterator<Item = &'p Needs> {
        self.routes.iter().filter_map(|r| r.needs.as_ref()).filter(|n| n.hold == sale.name)
    }

    /// How long a unit of a sale is set aside for who comes in; 0: it is not. Only units that are counted and taken can be.
    pub fn reserve(&self, sale: &SaleSettings) -> Span {
        if sale.stock.is_none() || self.holds(sale).next().is_none() {
            return Span(0);
        }
        let drawn = self.rooms.iter().find(|r| r.name == sale.room && r.order.is_drawn());
        // No longer than a pass lives.
        sale.reserve.or_else(|| drawn.map(|r| keep::RESERVE.min(r.seats.pass_age_max))).unwrap_or(Span(0))
    }

    /// What the filters need, with times resolved.
    pub fn pipeline_settings(&self) -> PipelineSettings {
        PipelineSettings {
            routes: self.routes.clone(),
            filters: self.filters.clone(),
            rooms: self.rooms.clone(),
            sales: self.sales.iter().map(|s| s.compile(self.lot(s), self.reserve(s))).collect(),
            capacity: self.shop.capacity,
            in_flight: self.shop.in_flight,
        }
    }
}
