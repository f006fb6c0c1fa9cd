//! `good_bots`: programs that are welcome, known by what nobody can say falsely; and who says so falsely.

use std::{net::SocketAddr, path::PathBuf};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{address::Networks, fact::Then};
use crate::{
    units::Span,
    visit::{Bot, Visit},
};

/// `good_bots: { bots: [ { name: googlebot, user_agent: Googlebot, domains: [googlebot.com] } ], impostors: to_the_back }`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GoodBotsSettings {
    /// Those that are welcome. Of several whose `user_agent` fits, the one that is named first in the `User-Agent` counts.
    pub bots: Vec<BotSettings>,
    /// What somebody gets who says to be one of them and is not.
    #[serde(default)]
    pub impostors: Then,
    /// Name server that is asked for `domains`; the system's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub resolver: Option<SocketAddr>,
    /// Certificate authorities (PEM) that https is believed by for what is published; the system's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<PathBuf>,
    /// How often what is published at an `https://` address is asked for.
    #[serde(default = "six_hours")]
    pub refresh: Span,
    /// Find out and record, but do not act on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

fn six_hours() -> Span {
    Span::secs(6 * 3_600)
}

/// Larger networks than these belong to no crawler: bits of the prefix, IPv4 and IPv6.
const PREFIX_MIN: (u8, u8) = (8, 16);
/// IPv4 as mapped IPv6 begins with so many bits.
const MAPPED_BITS: u8 = 96;
/// So many IPv4 addresses together belong to no crawler: a sixteenth of all.
const IPV4_MAX: u64 = 1 << 28;

/// The bits of its prefix as IPv4, of a network that is that; mapped into IPv6 as well.
fn ipv4_bits(network: IpNet) -> Option<u8> {
    match network {
        IpNet::V4(n) => Some(n.prefix_len()),
        IpNet::V6(n) => n.addr().to_ipv4_mapped().and_then(|_| n.prefix_len().checked_sub(MAPPED_BITS)),
    }
}

/// Whether a network is a part of the internet rather than somebody's.
pub fn is_too_large(network: IpNet) -> bool {
    match ipv4_bits(network) {
        Some(bits) => bits < PREFIX_MIN.0,
        None => network.prefix_len() < PREFIX_MIN.1,
    }
}

/// The same of many together, as far as they are IPv4.
pub fn are_too_many(networks: &[IpNet]) -> bool {
    let addresses = networks.iter().filter_map(|n| ipv4_bits(*n)).map(|bits| 1u64 << (32 - u32::from(bits.min(32))));
    addresses.fold(0, u64::saturating_add) > IPV4_MAX
}

/// Whether what names a file is the address of one that somebody publishes.
pub fn is_published(file: &str) -> bool {
    file.starts_with("https://")
}

/// A program that is welcome, and how it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BotSettings {
    /// Names it in journal and labels.
    pub name: String,
    /// Part of the `User-Agent` by which it says who it is, in any case. `networks` and `domains` are looked at for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Networks that it comes from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub networks: Vec<Networks>,
    /// A file of them, or the `https://` address of one: one a line, or the JSON that search engines publish (`prefixes`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks_file: Option<String>,
    /// Its address has a name in one of these domains, and the name has that address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// A file of Ed25519 keys (JWKS), or the `https://` address of its directory: it signs its requests (Web Bot Auth), whatever its `User-Agent` and address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
}

impl BotSettings {
    /// Whether its address is looked at.
    pub fn has_addresses(&self) -> bool {
        !self.networks.is_empty() || self.networks_file.is_some() || !self.domains.is_empty()
    }
}

/// The compiled filter: the shell finds out who is who.
#[derive(Clone, Debug)]
pub struct GoodBots {
    impostors: Then,
}

impl GoodBots {
    /// Compiles.
    pub fn new(settings: &GoodBotsSettings) -> Self {
        GoodBots { impostors: settings.impostors }
    }

    /// What is to be done with an impostor.
    pub fn fact(&self, visit: &Visit<'_>) -> Option<Then> {
        (visit.known.bot == Bot::Impostor && !visit.known.granted).then_some(self.impostors)
    }
}
