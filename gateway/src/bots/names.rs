//! Whether an address has a name that leads back to it: reverse DNS, confirmed forward.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, RecordType},
};

/// Names of one address that are looked at.
const NAMES_MAX: usize = 4;
/// A name server has this long for one answer, and is asked twice.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// Questions under way at one name server.
const QUESTIONS_MAX: usize = 64;

/// What came of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// One of its names is in a domain that was asked for, and has this address.
    Good,
    /// None is.
    Impostor,
    /// The name server did not say.
    Silent,
}

impl Found {
    /// All of them.
    pub const ALL: &'static [Found] = &[Found::Good, Found::Impostor, Found::Silent];

    /// As a label.
    pub fn name(self) -> &'static str {
        match self {
            Found::Good => "good",
            Found::Impostor => "impostor",
            Found::Silent => "silent",
        }
    }
}

/// Asks a name server.
pub(super) struct Names(TokioResolver);

impl Names {
    /// This one, or the system's.
    pub(super) fn new(server: Option<SocketAddr>) -> Result<Names, String> {
        let wrong = |e: NetError| format!("the system's name servers cannot be read: {e}; write `resolver: ADDRESS:PORT`");
        let mut builder = match server {
            None => TokioResolver::builder_tokio().map_err(wrong)?,
            Some(server) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut c| {
                    c.port = server.port();
                    c
                });
                let server = NameServerConfig::new(server.ip(), true, connections.into());
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        // What is found out is remembered by address; there is a bound for it there.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = ANSWER_WAIT_MAX;
        options.attempts = ATTEMPTS;
        options.max_active_requests = QUESTIONS_MAX;
        builder.build().map(Names).map_err(wrong)
    }

    /// Whether an address has a name in one of the domains that has this address, and for how many seconds that holds.
    pub(super) async fn confirm(&self, ip: IpAddr, domains: &[String]) -> (Found, u32) {
        let reverse = match self.0.lookup(rooted(Name::from(ip)), RecordType::PTR).await {
            Ok(answer) => answer,
            Err(error) => return none(&error),
        };
        let mut denied = (Found::Impostor, 0);
        for record in reverse.answers().iter().filter(|r| matches!(r.data, RData::PTR(_))).take(NAMES_MAX) {
            let RData::PTR(name) = &record.data else { continue };
            denied.1 = denied.1.max(record.ttl);
            let host = name.0.to_ascii().to_ascii_lowercase();
            if !is_within(host.trim_end_matches('.'), domains) {
                continue;
            }
            let kind = if ip.is_ipv4() { RecordType::A } else { RecordType::AAAA };
            match self.0.lookup(rooted(name.0.clone()), kind).await {
                Ok(forward) => {
                    if let Some(back) = forward.answers().iter().find(|r| r.data.ip_addr() == Some(ip)) {
                        return (Found::Good, record.ttl.min(back.ttl));
                    }
                }
                Err(error) if none(&error).0 == Found::Impostor => {}
                Err(_) => denied.0 = Found::Silent,
            }
        }
        denied
    }
}

/// An answer that there is nothing is an answer; a fault of the server or no answer is none.
fn none(error: &NetError) -> (Found, u32) {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(no)) => (Found::Impostor, no.negative_ttl.unwrap_or(0)),
        _ => (Found::Silent, 0),
    }
}

/// No domain of this machine is tried behind it.
fn rooted(mut name: Name) -> Name {
    name.set_fqdn(true);
    name
}

fn is_within(host: &str, domains: &[String]) -> bool {
    domains.iter().any(|d| host.strip_suffix(d.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_end_at_labels() {
        let within = |host: &str| is_within(host, &["googlebot.com".to_owned()]);
        assert!(within("crawl-1.googlebot.com") && within("googlebot.com"));
        assert!(!within("evilgooglebot.com") && !within("googlebot.com.evil.example") && !within(""));
    }
}
