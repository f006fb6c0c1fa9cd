//! `address`: allow and deny lists of networks. The allow list wins at once and skips every other filter.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    seats::room::Entrance,
    verdict::{Reason, Verdict},
    visit::Visit,
};

/// `address: { deny: [192.0.2.0/24], allow_first: [198.51.100.7] }`
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressSettings {
    /// Networks that are refused (403). An address alone is that address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub deny: Vec<Networks>,
    /// Networks that are forwarded without being asked anything else; the in-flight limit still applies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub allow_first: Vec<Networks>,
    /// Decide and record, but do not enforce.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

/// A network or one address, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Networks(pub IpNet);

impl std::str::FromStr for Networks {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let one = || s.parse::<std::net::IpAddr>().map(IpNet::from);
        let net = s.parse::<IpNet>().or_else(|_| one());
        let net = net.map_err(|_| format!("`{s}` is not a network; write 192.0.2.0/24, 2001:db8::/32 or one address"))?;
        if net.trunc() != net {
            return Err(format!("`{s}` has bits set behind its prefix; write {}", net.trunc()));
        }
        Ok(Networks(net))
    }
}

impl<'de> Deserialize<'de> for Networks {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Networks {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

/// The compiled filter.
#[derive(Clone, Debug)]
pub struct Address {
    deny: Vec<IpNet>,
    allow_first: Vec<IpNet>,
}

impl Address {
    /// Compiles.
    pub fn new(settings: &AddressSettings) -> Self {
        let nets = |v: &[Networks]| v.iter().map(|n| n.0).collect();
        Address { deny: nets(&settings.deny), allow_first: nets(&settings.allow_first) }
    }

    /// Forward for the allow list, refuse for the deny list, else no opinion. An unknown address is on no list.
    pub fn check(&self, visit: &Visit<'_>) -> Option<(Verdict, Reason)> {
        let ip = visit.network?.0;
        if self.allow_first.iter().any(|n| n.contains(&ip)) {
            return Some((Verdict::Forward(Entrance::Free), Reason::AddressAllowed));
        }
        let denied = self.deny.iter().any(|n| n.contains(&ip));
        denied.then_some((Verdict::Refuse { retry_after_s: None }, Reason::AddressDenied))
    }
}
