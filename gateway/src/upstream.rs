//! The shop's servers: which are well, whose turn it is, how to speak with them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use pingora::{
    connectors::{ConnectorOptions, http::Connector},
    http::RequestHeader,
    protocols::ALPN,
    upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy},
};
use tidegate_config::{Health, Shop, Timeouts, Upstream};

/// Most turns of one round; larger weights are scaled down.
pub const ROUND_MAX: u32 = 1_024;
/// HTTP/2 streams on one connection to the shop.
pub const H2_STREAMS_MAX: usize = 100;

/// Authorities that Pingora itself trusts: none, every peer brings its own.
pub const NO_AUTHORITIES: &str = "/dev/null";

/// All servers of one policy.
#[derive(Debug)]
pub struct Upstreams {
    servers: Vec<Arc<Server>>,
    /// Indices in the order of turns: weights spread evenly.
    round: Vec<u16>,
    turn: AtomicUsize,
    health: Health,
}

/// One server.
pub struct Server {
    settings: Upstream,
    timeouts: Timeouts,
    health: Health,
    peer: HttpPeer,
    /// Asks the path that the policy names; `None`: a TCP connection is enough.
    probe: Option<(RequestHeader, Connector)>,
    healthy: AtomicBool,
    /// Checks in a row that said the opposite of `healthy`.
    against: AtomicU32,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({}, healthy: {:?})", self.settings.address, self.healthy)
    }
}

/// What the admin API tells about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// Its address.
    pub address: SocketAddr,
    /// Its share.
    pub weight: u16,
    /// Gets requests.
    pub healthy: bool,
}

impl Upstreams {
    /// Servers start as well; those that `old` had with the same settings keep their state.
    pub fn new(shop: &Shop, old: Option<&Upstreams>) -> Self {
        let server = |u: &Upstream| {
            let same = |s: &&Arc<Server>| s.settings == *u && s.timeouts == shop.timeouts && s.health == shop.health;
            let kept = old.and_then(|o| o.servers.iter().find(same)).cloned();
            kept.unwrap_or_else(|| Arc::new(Server::new(u, shop)))
        };
        let servers: Vec<_> = shop.upstreams.iter().map(server).collect();
        let weights: Vec<_> = shop.upstreams.iter().map(|u| u32::from(u.weight)).collect();
        Upstreams { servers, round: round(&weights), turn: AtomicUsize::new(0), health: shop.health.clone() }
    }

    /// The next server in turn that is well; `avoid` only when there is no other. `None`: all are down.
    pub fn pick(&self, avoid: Option<SocketAddr>) -> Option<&Arc<Server>> {
        let start = self.turn.fetch_add(1, Ordering::Relaxed);
        let turns = (0..self.round.len()).map(|i| self.round[(start + i) % self.round.len()]);
        let mut second_choice = None;
        for server in turns.filter_map(|i| self.servers.get(usize::from(i))) {
            if !server.healthy.load(Ordering::Relaxed) {
                continue;
            }
            if avoid != Some(server.settings.address) {
                return Some(server);
            }
            second_choice = Some(server);
        }
        second_choice
    }

    /// At least one server is well.
    pub fn any_healthy(&self) -> bool {
        self.servers.iter().any(|s| s.healthy.load(Ordering::Relaxed))
    }

    /// State of every server.
    pub fn states(&self) -> Vec<ServerState> {
        let state = |s: &Arc<Server>| ServerState {
            address: s.settings.address,
            weight: s.settings.weight,
            healthy: s.healthy.load(Ordering::Relaxed),
        };
        self.servers.iter().map(state).collect()
    }

    /// Time between two rounds of checks.
    pub fn check_every(&self) -> Duration {
        Duration::from_millis(self.health.every.ms().max(100))
    }

    /// One round: every server once, at the same time.
    pub async fn check(&self) {
        let mut checks = tokio::task::JoinSet::new();
        for server in &self.servers {
            let server = server.clone();
            checks.spawn(async move {
                let limit = Duration::from_millis(server.health.timeout.ms());
                let answer = tokio::time::timeout(limit, server.ask()).await;
                server.observe(answer.unwrap_or(false));
            });
        }
        while checks.join_next().await.is_some() {}
    }
}

impl Server {
    fn new(settings: &Upstream, shop: &Shop) -> Self {
        let peer = peer(settings, &shop.timeouts);
        Server {
            probe: shop.health.path.as_deref().and_then(|path| probe(settings, path)),
            settings: settings.clone(),
            timeouts: shop.timeouts,
            health: shop.health.clone(),
            peer,
            healthy: AtomicBool::new(true),
            against: AtomicU32::new(0),
        }
    }

    /// How Pingora reaches it.
    pub fn peer(&self) -> HttpPeer {
        self.peer.clone()
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.settings.address
    }

    async fn ask(&self) -> bool {
        match &self.probe {
            Some((request, connector)) => self.answers_200(request, connector).await.unwrap_or(false),
            None => tokio::net::TcpStream::connect(self.settings.address).await.is_ok(),
        }
    }

    async fn answers_200(&self, request: &RequestHeader, connector: &Connector) -> pingora::Result<bool> {
        let (mut session, _) = connector.get_http_session(&self.peer).await?;
        session.write_request_header(Box::new(request.clone())).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let well = session.response_header().is_some_and(|r| r.status == 200);
        session.shutdown().await;
        Ok(well)
    }

    fn observe(&self, well: bool) {
        if self.healthy.load(Ordering::Relaxed) == well {
            self.against.store(0, Ordering::Relaxed);
            return;
        }
        let needed = if well { self.health.healthy_after } else { self.health.unhealthy_after };
        if self.against.fetch_add(1, Ordering::Relaxed) + 1 >= needed {
            self.against.store(0, Ordering::Relaxed);
            self.healthy.store(well, Ordering::Relaxed);
            match well {
                true => tracing::info!(upstream = %self.settings.address, "upstream is well again"),
                false => tracing::warn!(upstream = %self.settings.address, "upstream is down: it gets no requests"),
            }
        }
    }
}

fn probe(settings: &Upstream, path: &str) -> Option<(RequestHeader, Connector)> {
    let host = match &settings.tls {
        Some(tls) => tls.server_name.clone(),
        None => settings.address.to_string(),
    };
    let mut request = RequestHeader::build("GET", path.as_bytes(), Some(2)).ok()?;
    request.insert_header("host", host).ok()?;
    request.insert_header("user-agent", "tidegate-health").ok()?;
    let mut options = ConnectorOptions::new(1);
    options.ca_file = Some(NO_AUTHORITIES.into());
    Some((request, Connector::new(Some(options))))
}

/// Everything set: Pingora's defaults are no timeout at all, one stream a connection, WebSocket allowed.
fn peer(settings: &Upstream, timeouts: &Timeouts) -> HttpPeer {
    let sni = settings.tls.as_ref().map(|t| t.server_name.clone()).unwrap_or_default();
    // From a `SocketAddr` only: from a name this would block and panic.
    let mut peer = HttpPeer::new(settings.address, settings.tls.is_some(), sni);
    let ms = |s: tidegate_filters::Span| Some(Duration::from_millis(s.ms()));
    let o = &mut peer.options;
    o.connection_timeout = ms(timeouts.connect);
    o.total_connection_timeout = ms(timeouts.connect);
    o.read_timeout = ms(timeouts.first_byte);
    o.write_timeout = ms(timeouts.write);
    o.idle_timeout = ms(timeouts.idle);
    o.max_h2_streams = H2_STREAMS_MAX;
    o.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    o.alpn = match (settings.http2, settings.tls.is_some()) {
        (true, true) => ALPN::H2H1,
        (true, false) => ALPN::H2,
        _ => ALPN::H1,
    };
    if let Some(tls) = &settings.tls {
        let authorities = match &tls.authorities {
            None => crate::tls::system_authorities(),
            // None on an error: the system's list would be a wider trust than written.
            Some(file) => crate::tls::read_authorities(file).unwrap_or_else(|error| {
                tracing::error!(%error, "the shop's certificate authorities cannot be read");
                Arc::new([])
            }),
        };
        if authorities.is_empty() {
            tracing::error!(upstream = %settings.address, "no certificate authorities: the shop's certificate will be refused");
        }
        o.ca = Some(authorities);
    }
    peer
}

/// Indices in the order of turns, by smooth weighted round robin: 5:1 is a a a b a a, not a a a a a b.
fn round(weights: &[u32]) -> Vec<u16> {
    let total: u32 = weights.iter().sum::<u32>().max(1);
    let scale = total.div_ceil(ROUND_MAX).max(1);
    let weights: Vec<i64> = weights.iter().map(|w| i64::from(w.div_ceil(scale))).collect();
    let total: i64 = weights.iter().sum();
    let mut current = vec![0i64; weights.len()];
    let mut turns = Vec::with_capacity(total as usize);
    for _ in 0..total {
        for (c, w) in current.iter_mut().zip(&weights) {
            *c += w;
        }
        let Some(best) = (0..current.len()).max_by_key(|i| (current[*i], std::cmp::Reverse(*i))) else { break };
        current[best] -= total;
        turns.push(best as u16);
    }
    turns
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use tidegate_filters::Span;

    use super::*;

    fn shop(weights: &[u16]) -> Shop {
        let upstream = |(i, w): (usize, &u16)| {
            let mut u = Upstream::plain(SocketAddr::from(([127, 0, 0, 1], 1_000 + i as u16)));
            u.weight = *w;
            u
        };
        Shop::at(weights.iter().enumerate().map(upstream).collect())
    }

    #[test]
    fn turns_follow_weights_evenly() {
        assert_eq!(round(&[5, 1]), [0, 0, 0, 1, 0, 0]);
        assert_eq!(round(&[1, 1, 1]), [0, 1, 2]);
        assert!(round(&[60_000, 30_000]).len() <= ROUND_MAX as usize + 2);
        assert!(round(&[]).is_empty());
    }

    #[test]
    fn a_server_that_is_down_gets_nothing_and_comes_back() {
        let mut shop = shop(&[1, 1]);
        shop.health = Health { unhealthy_after: 2, healthy_after: 2, ..Health::default() };
        let ups = Upstreams::new(&shop, None);
        let picked = |ups: &Upstreams| (0..4).filter(|_| ups.pick(None).is_some_and(|s| s.address().port() == 1_001)).count();
        ups.servers[1].observe(false);
        assert_eq!(picked(&ups), 2, "one failure is not enough");
        ups.servers[1].observe(false);
        assert_eq!(picked(&ups), 0);
        let reloaded = Upstreams::new(&shop, Some(&ups));
        assert_eq!(picked(&reloaded), 0, "a reload does not forget");
        ups.servers[1].observe(true);
        ups.servers[1].observe(false);
        ups.servers[1].observe(true);
        assert_eq!(picked(&ups), 0, "not twice in a row");
        ups.servers[1].observe(true);
        assert_eq!(picked(&ups), 2);
        ups.servers[0].observe(false);
        ups.servers[0].observe(false);
        assert_eq!(picked(&ups), 4);
        assert!(ups.pick(Some(ups.servers[1].address())).is_some(), "the one to avoid, when there is no other");
    }

    #[tokio::test]
    async fn checks_look_at_the_real_thing() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut shop = Shop::at(vec![Upstream::plain(address)]);
        shop.health = Health { unhealthy_after: 1, healthy_after: 1, timeout: Span(500), ..Health::default() };
        let ups = Upstreams::new(&shop, None);
        ups.check().await;
        assert!(ups.any_healthy());
        drop(listener);
        ups.check().await;
        assert!(!ups.any_healthy());
    }
}
