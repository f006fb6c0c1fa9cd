//! The one list of what filters exist.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    rule::{
        address::{Address, AddressSettings},
        bot_gate::{BotGate, BotGateSettings},
        fact::Then,
        good_bots::{GoodBots, GoodBotsSettings},
        honeypot::{Honeypot, HoneypotSettings},
        sale_window::{SaleWindow, SaleWindowSettings},
        visitor_rate::{VisitorRate, VisitorRateSettings},
        waiting_room::WaitingRoomSettings,
    },
    verdict::Reason,
    visit::Visit,
};

/// A filter as written in the policy: one key, its settings below it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FilterSettings {
    /// Allow and deny lists.
    Address(AddressSettings),
    /// Routes that exist only during a sale.
    SaleWindow(SaleWindowSettings),
    /// A quota per visitor or network.
    VisitorRate(VisitorRateSettings),
    /// Paths that no person finds.
    Honeypot(HoneypotSettings),
    /// Programs that are welcome.
    GoodBots(GoodBotsSettings),
    /// Scores become actions.
    BotGate(BotGateSettings),
    /// A room.
    WaitingRoom(WaitingRoomSettings),
}

impl FilterSettings {
    /// Decide and record, but do not enforce.
    pub fn shadow(&self) -> bool {
        match self {
            FilterSettings::Address(s) => s.shadow,
            FilterSettings::SaleWindow(s) => s.shadow,
            FilterSettings::VisitorRate(s) => s.shadow,
            FilterSettings::Honeypot(s) => s.shadow,
            FilterSettings::GoodBots(s) => s.shadow,
            FilterSettings::BotGate(s) => s.shadow,
            FilterSettings::WaitingRoom(s) => s.shadow,
        }
    }
}

/// A filter, compiled.
#[derive(Debug)]
pub enum Filter {
    /// Allow and deny lists.
    Address(Address),
    /// Routes that exist only during a sale.
    SaleWindow(SaleWindow),
    /// A quota per visitor or network.
    VisitorRate(VisitorRate),
    /// Paths that no person finds.
    Honeypot(Honeypot),
    /// Programs that are welcome.
    GoodBots(GoodBots),
    /// Scores become actions.
    BotGate(Box<BotGate>),
    /// A room: its index, and the routes it covers (all when empty).
    WaitingRoom {
        /// Index of the room.
        room: usize,
        /// Route indices; all when empty.
        routes: Vec<usize>,
    },
}

impl Filter {
    /// The key it has in the policy.
    pub fn kind(&self) -> &'static str {
        match self {
            Filter::Address(_) => "address",
            Filter::SaleWindow(_) => "sale_window",
            Filter::VisitorRate(_) => "visitor_rate",
            Filter::Honeypot(_) => "honeypot",
            Filter::GoodBots(_) => "good_bots",
            Filter::BotGate(_) => "bot_gate",
            Filter::WaitingRoom { .. } => "waiting_room",
        }
    }

    /// What it makes of what is known for sure, whatever the score.
    pub fn fact(&self, visit: &Visit<'_>) -> Option<(Then, Reason)> {
        match self {
            Filter::Honeypot(f) => f.fact(visit).map(|then| (then, Reason::Honeypot)),
            Filter::GoodBots(f) => f.fact(visit).map(|then| (then, Reason::FalseCrawler)),
            _ => None,
        }
    }

    /// Its quotas, where it has some.
    pub fn quotas(&self) -> Vec<&VisitorRate> {
        match self {
            Filter::VisitorRate(rate) => vec![rate],
            Filter::BotGate(gate) => gate.quotas().collect(),
            _ => Vec::new(),
        }
    }

    /// The same, to take another's state over.
    pub fn quotas_mut(&mut self) -> Vec<&mut VisitorRate> {
        match self {
            Filter::VisitorRate(rate) => vec![rate],
            Filter::BotGate(gate) => gate.quotas_mut().collect(),
            _ => Vec::new(),
        }
    }
}
