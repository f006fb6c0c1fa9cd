//! The shop behind the gate: where it is, how it is watched, what it can take.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_filters::{
    Span,
    plan::{CapacitySettings, InFlightSettings},
};

use super::values::{socket_address, socket_address_schema};

/// The shop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shop {
    /// Its servers; at least one.
    pub upstreams: Vec<Upstream>,
    /// How each server is watched.
    #[serde(default)]
    pub health: Health,
    /// How long the gate waits for it.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Bounds of what it can take; the measured value moves between them.
    #[serde(default)]
    pub capacity: CapacitySettings,
    /// How the shop says that something was sold; not at all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reports_sales_by: Option<ReportsSalesBy>,
    /// The limit on requests in flight, and the short queue in front of the shop.
    #[serde(default)]
    pub in_flight: InFlightSettings,
    /// The `Host` the shop sees: `keep` (what the visitor sent), or `{ set: shop.internal }`.
    #[serde(default)]
    pub host_header: HostHeader,
    /// Headers that only a trusted proxy may set, besides those that are known for saying who has logged in: they do not reach
    /// the shop from anybody else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_headers: Vec<String>,
    /// Idle connections kept open to the shop.
    #[serde(default = "kept_connections")]
    pub kept_connections: u32,
    /// Times a request is tried on another connection when the first could not be made; never after it was sent.
    #[serde(default = "retries_max")]
    pub retries_max: u32,
}

fn kept_connections() -> u32 {
    256
}

fn retries_max() -> u32 {
    1
}

impl Shop {
    /// A shop with these servers and every other value at its default.
    pub fn at(upstreams: Vec<Upstream>) -> Self {
        Shop {
            upstreams,
            health: Health::default(),
            timeouts: Timeouts::default(),
            capacity: CapacitySettings::default(),
            reports_sales_by: None,
            in_flight: InFlightSettings::default(),
            host_header: HostHeader::default(),
            trusted_headers: Vec::new(),
            kept_connections: kept_connections(),
            retries_max: retries_max(),
        }
    }
}

/// One server of the shop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// IP address and port.
    #[serde(deserialize_with = "socket_address")]
    #[schemars(schema_with = "socket_address_schema")]
    pub address: SocketAddr,
    /// Its share of requests among all servers.
    #[serde(default = "weight")]
    pub weight: u16,
    /// Speak TLS with it; plain HTTP when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
    /// Speak HTTP/2 with it (over TLS when the server agrees, else with prior knowledge).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub http2: bool,
}

fn weight() -> u16 {
    1
}

impl Upstream {
    /// A plain HTTP/1.1 server of weight 1.
    pub fn plain(address: SocketAddr) -> Self {
        Upstream { address, weight: weight(), tls: None, http2: false }
    }

    /// From what a person types: `http://127.0.0.1:3000`, `https://shop.example:443`, `localhost:3000`. A host name is
    /// looked up once, here.
    pub fn from_url(url: &str) -> Result<Self, String> {
        let (https, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((other, _)) => return Err(format!("`{other}://` is not spoken; write http:// or https://")),
            None => (false, url),
        };
        let authority = match rest.split_once('/') {
            None | Some((_, "")) => rest.trim_end_matches('/'),
            Some((authority, _)) => {
                return Err(format!("`{url}` has a path, and the gate forwards paths as they are; write only {authority}"));
            }
        };
        let with_port = match authority.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
            _ => format!("{authority}:{}", if https { 443 } else { 80 }),
        };
        let found = with_port.to_socket_addrs().map_err(|e| format!("`{url}` has no address: {e}"))?;
        // IPv4 first: `localhost` is often both, and most shops listen on 127.0.0.1 alone.
        let address = found.min_by_key(SocketAddr::is_ipv6).ok_or_else(|| format!("`{url}` has no address"))?;
        let server_name = with_port.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
        let tls = https.then(|| UpstreamTls { server_name: server_name.to_owned(), authorities: None });
        Ok(Upstream { address, weight: weight(), tls, http2: false })
    }
}

/// TLS to a server of the shop; its certificate is always checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// The name its certificate must have, also sent as SNI.
    pub server_name: String,
    /// PEM file of the authorities that may sign it; the system's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<PathBuf>,
}

/// How each server is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Path that answers 200 when the server is well; a TCP connection is enough when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Time between two checks.
    pub every: Span,
    /// A check that takes longer failed.
    pub timeout: Span,
    /// Failed checks in a row until the server gets nothing.
    pub unhealthy_after: u32,
    /// Good checks in a row until it gets requests again.
    pub healthy_after: u32,
}

impl Default for Health {
    fn default() -> Self {
        Health { path: None, every: Span::secs(2), timeout: Span::secs(1), unhealthy_after: 3, healthy_after: 2 }
    }
}

/// How long the gate waits for the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Span,
    /// Longest silence: until the first byte of an answer, and between two pieces of it.
    pub first_byte: Span,
    /// For the shop to take a piece of a request.
    pub write: Span,
    /// A kept connection without requests is closed after this.
    pub idle: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect: Span::secs(1), first_byte: Span::secs(10), write: Span::secs(10), idle: Span::secs(60) }
    }
}

/// How the shop says that something was sold: by a header, or by the status (and place) of one route's answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportsSalesBy {
    /// Answer header with the number of units sold; taken out before the visitor sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// What an answer without the header means: `uncertain`, or `not_sold` where the shop promises to send it with every sale.
    #[serde(default, skip_serializing_if = "Silence::is_default")]
    pub silence: Silence,
    /// The route whose answers tell: an answer with `status` (and `location`) sold one unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Status of an answer that sold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Path prefix that its `Location` must have, at a segment border; any when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// What a good answer without a word about sales means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// Nobody knows: the header may have been lost on the way.
    #[default]
    Uncertain,
    /// Nothing was sold.
    NotSold,
}

impl Silence {
    fn is_default(&self) -> bool {
        *self == Silence::default()
    }
}

impl ReportsSalesBy {
    /// By a header.
    pub fn header(name: &str) -> Self {
        ReportsSalesBy { header: Some(name.to_owned()), ..ReportsSalesBy::default() }
    }
}

/// The `Host` the shop sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostHeader {
    /// What the visitor sent.
    #[default]
    Keep,
    /// This name.
    Set(String),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_become_upstreams() {
        let u = Upstream::from_url("http://127.0.0.1:3000").unwrap();
        assert_eq!(u, Upstream::plain("127.0.0.1:3000".parse().unwrap()));
        assert_eq!(Upstream::from_url("127.0.0.1:3000/").unwrap(), u);
        assert_eq!(Upstream::from_url("http://127.0.0.1").unwrap().address.port(), 80);
        let tls = Upstream::from_url("https://[::1]").unwrap();
        assert_eq!((tls.address.port(), tls.tls.unwrap().server_name.as_str()), (443, "::1"));
    }

    #[test]
    fn other_urls_are_refused_with_advice() {
        assert!(Upstream::from_url("ftp://127.0.0.1").unwrap_err().contains("http://"));
        assert!(Upstream::from_url("http://127.0.0.1:3000/shop").unwrap_err().contains("write only 127.0.0.1:3000"));
        assert!(Upstream::from_url("").is_err());
    }
}
