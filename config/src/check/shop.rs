//! Upstreams, health, timeouts, capacity, in-flight limit; journal and keys.

use tidegate_filters::{ByteSize, Span, plan::InFlightMax};

use super::Checker;
use crate::policy::shop::HostHeader;

/// Most requests at the shop or in front of it.
const IN_FLIGHT_MAX: u64 = 100_000;
/// Most headers that only a trusted proxy may set: each header of a request is compared with them.
const TRUSTED_HEADERS_MAX: usize = 32;
/// Shortest time between two health checks.
const EVERY_MIN: Span = Span(100);

impl Checker<'_> {
    pub(super) fn shop(&mut self) {
        let shop = &self.policy.shop;
        if shop.upstreams.is_empty() {
            self.error("shop.upstreams", "there is no shop", "write at least one: `- address: 127.0.0.1:3000`");
        }
        for (i, upstream) in shop.upstreams.iter().enumerate() {
            let at = format!("shop.upstreams[{i}]");
            if shop.upstreams[..i].iter().any(|u| u.address == upstream.address) {
                self.error(
                    format!("{at}.address"),
                    format!("{} is listed twice", upstream.address),
                    "give it more `weight` instead",
                );
            }
            self.within(format!("{at}.weight"), upstream.weight.into(), 1, 1_000, "");
            if upstream.address.port() == 0 || upstream.address.ip().is_unspecified() {
                self.error(
                    format!("{at}.address"),
                    format!("{} is no address to connect to", upstream.address),
                    "write the address of the shop",
                );
            }
            if let Some(tls) = &upstream.tls
                && !host_name(&tls.server_name)
            {
                self.error(
                    format!("{at}.tls.server_name"),
                    format!("`{}` is not a host name", tls.server_name),
                    "write the name in the shop's certificate",
                );
            }
        }
        self.trusted_headers();
        if let HostHeader::Set(host) = &shop.host_header {
            let name =
                host.rsplit_once(':').map_or(host.as_str(), |(name, port)| if port.parse::<u16>().is_ok() { name } else { host });
            if !host_name(name) {
                self.error("shop.host_header.set", format!("`{host}` is not a host"), "write a name, such as shop.internal");
            }
        }
        self.reports();
        self.within("shop.kept_connections", shop.kept_connections.into(), 0, 65_536, " connections");
        self.within("shop.retries_max", shop.retries_max.into(), 0, 16, " retries");
        self.watched();
        self.capacity();
    }

    fn watched(&mut self) {
        let health = &self.policy.shop.health;
        if let Some(path) = &health.path
            && !(path.starts_with('/') && path.chars().all(|c| c.is_ascii_graphic() && c != '#'))
        {
            self.error("shop.health.path", format!("`{path}` is not a path"), "write one that begins with `/`, such as /healthz");
        }
        if health.every < EVERY_MIN {
            let what = format!("{} between two checks would be a load of its own", health.every);
            self.error("shop.health.every", what, format!("write at least {EVERY_MIN}"));
        }
        self.some_time("shop.health.timeout", health.timeout);
        self.within("shop.health.unhealthy_after", health.unhealthy_after.into(), 1, 1_000, " checks");
        self.within("shop.health.healthy_after", health.healthy_after.into(), 1, 1_000, " checks");
        let t = &self.policy.shop.timeouts;
        for (key, span) in [("connect", t.connect), ("first_byte", t.first_byte), ("write", t.write), ("idle", t.idle)] {
            self.some_time(format!("shop.timeouts.{key}"), span);
        }
    }

    fn capacity(&mut self) {
        let (capacity, in_flight) = (&self.policy.shop.capacity, &self.policy.shop.in_flight);
        for (key, rate) in [("floor", capacity.floor), ("ceiling", capacity.ceiling)] {
            if rate.events == 0 {
                self.error(format!("shop.capacity.{key}"), "the shop would get nothing", "write a rate above zero, such as 50/s");
            }
        }
        if capacity.floor.as_per_s() > capacity.ceiling.as_per_s() {
            let what = format!("the floor ({}) is above the ceiling ({})", capacity.floor, capacity.ceiling);
            self.error(
                "shop.capacity.floor",
                what,
                "the floor is what the shop surely takes, the ceiling what it must never get",
            );
        }
        if let InFlightMax::Fixed(n) = in_flight.max {
            self.within("shop.in_flight.max.fixed", n.into(), 1, IN_FLIGHT_MAX, " requests");
        }
        self.within("shop.in_flight.queue", in_flight.queue.into(), 0, IN_FLIGHT_MAX, " requests");
        if in_flight.queue > 0 {
            self.some_time("shop.in_flight.wait_max", in_flight.wait_max);
        }
        if in_flight.wait_max.ms() > 30_000 {
            let what = format!("requests may wait {} in front of the shop: people reload long before", in_flight.wait_max);
            self.warning("shop.in_flight.wait_max", what, "write a few seconds; longer waits belong in a room");
        }
    }

    fn trusted_headers(&mut self) {
        let headers = &self.policy.shop.trusted_headers;
        if headers.len() > TRUSTED_HEADERS_MAX {
            let what = format!("{} headers", headers.len());
            self.error("shop.trusted_headers", what, format!("at most {TRUSTED_HEADERS_MAX}"));
        }
        for (i, name) in headers.iter().enumerate() {
            let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            let needed = ["host", "cookie", "content-length", "content-type", "transfer-encoding"];
            let what = match name.as_str() {
                n if n.is_empty() || !n.bytes().all(token) => format!("`{n}` is not the name of a header that reaches the shop"),
                n if needed.iter().any(|h| h.eq_ignore_ascii_case(n)) => format!("every visitor has to be able to send `{n}`"),
                _ => continue,
            };
            self.error(
                format!("shop.trusted_headers[{i}]"),
                what,
                "write one of letters, digits and `-` that a proxy of yours sets, such as X-User",
            );
        }
    }

    /// Journal and keys, as far as it needs no look at the disk.
    pub(super) fn kept(&mut self) {
        let policy = self.policy;
        if let Some(journal) = &policy.journal {
            self.some_time("journal.keep", journal.keep);
            self.some_time("journal.file_age", journal.file_age);
            self.size("journal.file_bytes", journal.file_bytes, ByteSize(64 << 10), ByteSize(16 << 30));
            if let Some(keys) = &policy.keys
                && keys.directory == journal.directory
            {
                self.error(
                    "keys.directory",
                    "the same directory as the journal's, which many may read",
                    "give the keys a directory of their own",
                );
            }
        }
        if let Some(state) = &policy.state {
            let ms = state.budget.ms();
            if !(50..=10_000).contains(&ms) {
                let what = format!("{} is too {}", state.budget, if ms < 50 { "short" } else { "long" });
                self.error("state.budget", what, "write 50ms to 10s: a visitor waits this long when the disk hangs");
            }
            if policy.keys.is_none() {
                let what = "rooms outlive a restart, and the keys that sign tickets and passes do not";
                self.error("state", what, "add `keys: { directory: … }`");
            }
        }
    }
}

fn host_name(name: &str) -> bool {
    let name = name.trim_matches(['[', ']']);
    name.parse::<std::net::IpAddr>().is_ok()
        || (!name.is_empty()
            && name.len() <= 253
            && name.split('.').all(|l| !l.is_empty() && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')))
}
