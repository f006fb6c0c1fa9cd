//! One HTTP request as the filters see it. Borrowed from the connection's buffers: looking at a visit allocates nothing.

use std::net::{IpAddr, Ipv6Addr};

use crate::seats::token::Token;

/// A visitor as a keyed 64-bit hash: of the signed visitor cookie where there is one, else of network and fingerprint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VisitorId(pub u64);

/// Where a visit comes from, after PROXY protocol and trusted proxies. IPv4-mapped IPv6 is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(pub IpAddr);

impl Network {
    /// Normalises: `::ffff:192.0.2.1` is `192.0.2.1`.
    pub fn new(ip: IpAddr) -> Self {
        Network(ip.to_canonical())
    }

    /// The address cut to the prefix that stands for one subscriber: IPv4 whole, IPv6 to `ipv6_prefix` bits (usually 64).
    pub fn key(self, ipv6_prefix: u8) -> IpAddr {
        match self.0 {
            IpAddr::V4(a) => IpAddr::V4(a),
            IpAddr::V6(a) => {
                let keep = 128 - u32::from(ipv6_prefix.min(128));
                let bits = u128::from(a);
                IpAddr::V6(Ipv6Addr::from(if keep == 128 { 0 } else { bits >> keep << keep }))
            }
        }
    }
}

impl Network {
    /// What counts as one network in a draw, as a number: IPv4 to 24 bits, IPv6 to 64.
    pub fn subscriber(self) -> u64 {
        match self.0 {
            IpAddr::V4(a) => u64::from(u32::from(a) >> 8),
            IpAddr::V6(a) => (u128::from(a) >> 64) as u64,
        }
    }
}

/// The kind of answer the client can use. Decides between page, JSON and a bare status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wants {
    /// A browser that navigates.
    Html,
    /// A script or an app.
    Json,
    /// Anything else: an image, a stylesheet, a probe.
    #[default]
    Other,
}

/// How sure we are that a visit is automated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Score {
    /// A probability in `[0, 1]`.
    Known(f32),
    /// No model, a failed model, or one that missed its deadline.
    #[default]
    Unknown,
}

impl Score {
    /// The probability, of a visit that has one.
    pub const fn known(self) -> Option<f32> {
        match self {
            Self::Known(p) => Some(p),
            Self::Unknown => None,
        }
    }
}

/// What is known for sure about a visit, whatever its score. The shell finds it out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// An operator granted this visitor's appeal: neither scores nor deny lists nor what else is known count.
    pub granted: bool,
    /// This visitor asked for a path that no person finds.
    pub trapped: bool,
    /// Whether it is a program that is welcome.
    pub bot: Bot,
}

/// Whether a visit is of a program that is welcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bot {
    /// It does not say so, or nobody knows yet whether it may.
    #[default]
    Unknown,
    /// It is: neither scored nor challenged, and it never joins.
    Good,
    /// It says so and is not.
    Impostor,
}

/// One HTTP request. The default is of nobody, from nowhere.
#[derive(Clone, Debug, Default)]
pub struct Visit<'a> {
    /// Upper case, as sent.
    pub method: &'a str,
    /// Lower case, without port. Empty only for HTTP/1.0 without Host.
    pub host: &'a str,
    /// The canonical path: what rules match and what the shop receives. No query.
    pub path: &'a str,
    /// Index into [`crate::Routes`]; `None` when no route matches.
    pub route: Option<usize>,
    /// Where it comes from; `None` when the peer address is not known (see each rule's `on_missing_key`).
    pub network: Option<Network>,
    /// Who we think it is; `None` when nothing identifies it.
    pub visitor: Option<VisitorId>,
    /// The visitor id came from our signed cookie, not from network and fingerprint.
    pub visitor_by_cookie: bool,
    /// Keyed hash of the name the shop's login gives this person; `None` where the policy names no such key or it is missing.
    pub identity: Option<u64>,
    /// Hash of the TLS hello; 0 for plain HTTP.
    pub hello: u64,
    /// Hash of the TLS hello and of headers that a program does not change from request to request; 0 when not known.
    pub fingerprint: u64,
    /// What it can use as an answer.
    pub wants: Wants,
    /// `Sec-Purpose: prefetch`, a crawler or a health check: never joins, never spends.
    pub prefetch: bool,
    /// What is known for sure.
    pub known: Known,
    /// Tokens whose MAC is right, at most [`crate::seats::token::TOKENS_MAX`]. Room, host, epoch and times are not yet checked.
    pub tokens: &'a [Token],
}

impl Visit<'_> {
    /// A method that only looks.
    pub fn is_safe(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "OPTIONS")
    }

    /// `GET`: the one method that may give a first ticket. `HEAD` and `OPTIONS` are safe but never join.
    pub fn may_join(&self) -> bool {
        self.method == "GET" && !self.prefetch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_cut_to_one_subscriber() {
        let n = |s: &str| Network::new(s.parse().unwrap_or(IpAddr::from([0, 0, 0, 0])));
        assert_eq!(n("::ffff:192.0.2.7").key(64).to_string(), "192.0.2.7");
        assert_eq!(n("2001:db8:1:2:3:4:5:6").key(64).to_string(), "2001:db8:1:2::");
        assert_eq!(n("2001:db8:1:2:3:4:5:6").key(0).to_string(), "::");
        assert_eq!(n("2001:db8:1:2:3:4:5:6").key(128).to_string(), "2001:db8:1:2:3:4:5:6");
    }
}
