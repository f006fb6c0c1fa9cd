//! Where the gate listens, who may stand in front of it, and what it takes from one connection and one request.

use std::{net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_filters::{ByteSize, Span, rule::address::Networks};

use super::values::{ByteRate, Redirect, socket_address, socket_address_schema};

/// One listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// IP address and port; port 0 takes any free port.
    #[serde(deserialize_with = "socket_address")]
    #[schemars(schema_with = "socket_address_schema")]
    pub address: SocketAddr,
    /// Certificate and key; plain HTTP when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// `https` or `https:8443`: answers every request with a redirect to the same host and path on https, port 443 unless
    /// another is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// The balancer in front sends the PROXY protocol (v1 or v2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// Certificate and key of a listener; read again when the files change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file: the certificate, then its issuers.
    pub certificate: PathBuf,
    /// PEM file: the private key.
    pub key: PathBuf,
}

/// Who may send the PROXY protocol; connections from elsewhere are taken as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// Networks of the balancers.
    #[schemars(with = "Vec<String>")]
    pub from: Vec<Networks>,
}

/// The admin listener: health, metrics, status, rooms, policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// IP address and port; not one that visitors can reach.
    #[serde(deserialize_with = "socket_address")]
    #[schemars(schema_with = "socket_address_schema")]
    pub address: SocketAddr,
    /// File with the bearer token (first line, at least 16 characters). Left out: only `/healthz` and `/readyz` answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// What one request may be. More is refused before any filter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequestLimits {
    /// Request line and headers together: at most this many bytes.
    pub header_bytes: ByteSize,
    /// At most this many headers.
    pub headers: u32,
    /// The whole head must have come within this time.
    pub header_deadline: Span,
    /// A body has at most this many bytes.
    pub body_bytes: ByteSize,
    /// A body that comes slower than this is cut off.
    pub body_min_rate: ByteRate,
    /// The whole request, answer included, within this time.
    pub request_deadline: Span,
    /// Header names with `_` or `.`, which shops often confuse with `-`.
    pub underscores_in_names: Underscores,
}

impl Default for RequestLimits {
    fn default() -> Self {
        RequestLimits {
            header_bytes: ByteSize(16 << 10),
            headers: 100,
            header_deadline: Span::secs(10),
            body_bytes: ByteSize(10 << 20),
            body_min_rate: ByteRate(1 << 10),
            request_deadline: Span::secs(300),
            underscores_in_names: Underscores::Refuse,
        }
    }
}

/// What to do with header names that hold `_` or `.`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Underscores {
    /// 400.
    #[default]
    Refuse,
    /// Passed on as they are.
    Allow,
}

/// What the gate takes in connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Connections {
    /// At most this many at the same time, all listeners together.
    pub max: u32,
    /// At most this many from one network (IPv4 address, IPv6 /64). Trusted proxies are not counted.
    pub per_network_max: u32,
    /// At most this many of them listen to live waiting pages at the same time; the pages of others ask now and then.
    pub streams_max: u32,
    /// An idle connection is kept this long.
    pub keepalive: Span,
    /// When the gate stops, requests in flight get this long to end.
    pub drain_max: Span,
}

impl Default for Connections {
    fn default() -> Self {
        Connections {
            max: 10_000,
            per_network_max: 1_000,
            streams_max: 2_000,
            keepalive: Span::secs(60),
            drain_max: Span::secs(30),
        }
    }
}
