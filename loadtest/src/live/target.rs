//! Where the crowd may go: this machine, and nowhere else.

use std::net::{IpAddr, SocketAddr};

/// A URL on loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    authority: String,
}

/// Why the crowd does not go there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not this machine.
    #[error(
        "{0} is not on this machine: a crowd is a weapon, so it only goes to loopback addresses such as http://127.0.0.1:8080"
    )]
    NotLoopback(String),
    /// Not a URL the crowd can use.
    #[error("`{0}` is not a target; write http://ADDRESS:PORT, for instance http://127.0.0.1:8080")]
    NotUrl(String),
}

impl Target {
    /// `http://127.0.0.1:8080`, `http://[::1]:8080` or `http://localhost:8080`, with an optional `/` at the end.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let bad = || TargetError::NotUrl(url.into());
        let authority = url.strip_prefix("http://").ok_or_else(bad)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '@', '?', '#']) {
            return Err(bad());
        }
        // `localhost` is what this machine's resolver says; the address itself is not up for debate.
        let literal = authority.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        let with_port = literal.unwrap_or_else(|| authority.to_owned());
        match with_port.parse::<SocketAddr>() {
            Ok(a) if a.ip().is_loopback() && a.port() != 0 => Ok(Target { authority: with_port }),
            Ok(a) if a.port() == 0 => Err(bad()),
            Ok(_) => Err(TargetError::NotLoopback(authority.into())),
            Err(_) => match with_port.parse::<IpAddr>() {
                Ok(_) => Err(bad()),
                Err(_) if with_port.split(':').next().is_some_and(|h| h.contains(|c: char| c.is_ascii_alphabetic())) => {
                    Err(TargetError::NotLoopback(authority.into()))
                }
                Err(_) => Err(bad()),
            },
        }
    }

    /// The loopback address of a server of ours.
    pub fn at(address: SocketAddr) -> Result<Self, TargetError> {
        Target::parse(&format!("http://{address}"))
    }

    /// Address and port, as in `Host`.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl std::str::FromStr for Target {
    type Err = TargetError;
    fn from_str(s: &str) -> Result<Self, TargetError> {
        Target::parse(s)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_this_machine() {
        for good in ["http://127.0.0.1:80", "http://127.8.8.8:80/", "http://[::1]:8080", "http://localhost:3000"] {
            assert!(Target::parse(good).is_ok(), "{good}");
        }
        for away in
            ["http://192.0.2.1:80", "http://0.0.0.0:80", "http://[2001:db8::1]:80", "http://example.com:80", "http://example.com"]
        {
            assert!(matches!(Target::parse(away), Err(TargetError::NotLoopback(_))), "{away}");
        }
        // Not a way round: user part, another host behind a loopback name.
        for bad in ["127.0.0.1:80", "https://127.0.0.1:80", "http://127.0.0.1@example.com:80", "http://127.0.0.1:0", "http://"] {
            assert!(matches!(Target::parse(bad), Err(TargetError::NotUrl(_))), "{bad}");
        }
        assert!(matches!(Target::parse("http://localhost.example.com:80"), Err(TargetError::NotLoopback(_))));
    }
}
