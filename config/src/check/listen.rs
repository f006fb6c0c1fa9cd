//! Listeners, the admin listener, trusted proxies, limits of requests and connections, threads.

use std::net::SocketAddr;

use tidegate_filters::ByteSize;

use super::Checker;

/// Largest head of a request, bytes: it is held in memory for every connection that is being read.
const HEADER_BYTES_MAX: ByteSize = ByteSize(256 << 10);
/// Pingora reads no more headers than this.
const HEADERS_MAX: u64 = 256;
/// Most connections: 16 KiB of buffers each, 16 GiB.
const CONNECTIONS_MAX: u64 = 1_000_000;
/// Most worker threads.
const THREADS_MAX: u64 = 1_024;

impl Checker<'_> {
    pub(super) fn listeners(&mut self) {
        let policy = self.policy;
        if policy.listen.is_empty() {
            self.error("listen", "nobody can come in", "write at least one listener: `- address: 127.0.0.1:8080`");
        }
        self.same_addresses();
        if !policy.listen.is_empty() && policy.listen.iter().all(|l| l.redirect.is_some()) {
            self.error("listen", "every listener only redirects, so no request reaches the shop", "add a listener with `tls`");
        }
        for (i, listen) in policy.listen.iter().enumerate() {
            let at = format!("listen[{i}]");
            if listen.redirect.is_some() && listen.tls.is_some() {
                self.error(format!("{at}.redirect"), "this listener already speaks https", "remove `redirect`, or `tls`");
            }
            if listen.tls.is_none() && listen.redirect.is_none() && !listen.address.ip().is_loopback() {
                let what = "plain http: tickets and passes can be read and stolen on the way";
                self.warning(format!("{at}.address"), what, "add `tls`, or let only a proxy that ends TLS reach it");
            }
            if listen.proxy_protocol.as_ref().is_some_and(|p| p.from.is_empty()) {
                self.error(
                    format!("{at}.proxy_protocol.from"),
                    "no balancer is named",
                    "list their networks, or remove `proxy_protocol`",
                );
            }
        }
        for (i, net) in policy.trusted_proxies.iter().enumerate() {
            if net.0.prefix_len() == 0 {
                let what = "every client is believed about its own address, so quotas and lists can be dodged";
                self.warning(format!("trusted_proxies[{i}]"), what, "list the networks of your proxies alone");
            }
        }
        if let Some(admin) = &policy.admin
            && admin.address.ip().is_unspecified()
        {
            let what = "the admin listener can be reached on every network of this machine";
            self.warning(
                "admin.address",
                what,
                format!("write 127.0.0.1:{}, or an address of a private network", admin.address.port()),
            );
        }
    }

    fn same_addresses(&mut self) {
        let mut taken: Vec<(SocketAddr, String)> = Vec::new();
        let policy = self.policy;
        let listen = policy.listen.iter().enumerate().map(|(i, l)| (l.address, format!("listen[{i}].address")));
        let admin = policy.admin.iter().map(|a| (a.address, "admin.address".to_owned()));
        for (address, path) in listen.chain(admin) {
            match taken.iter().find(|(t, _)| collide(*t, address)) {
                Some((other, first)) => {
                    self.error(path, format!("{address} is in use: {first} is {other}"), "choose another port or address");
                }
                None => taken.push((address, path)),
            }
        }
        for (i, upstream) in policy.shop.upstreams.iter().enumerate() {
            let own = taken.iter().find(|(t, _)| {
                collide(*t, upstream.address) && (t.ip() == upstream.address.ip() || upstream.address.ip().is_loopback())
            });
            if let Some((_, listener)) = own {
                let what = format!("{} is the gate itself ({listener}): requests would go in circles", upstream.address);
                self.error(format!("shop.upstreams[{i}].address"), what, "write the address of the shop");
            }
        }
    }

    pub(super) fn request_limits(&mut self) {
        let l = &self.policy.limits_of_a_request;
        let at = |key: &str| format!("limits_of_a_request.{key}");
        self.size(at("header_bytes"), l.header_bytes, ByteSize(1 << 10), HEADER_BYTES_MAX);
        self.within(at("headers"), l.headers.into(), 10, HEADERS_MAX, " headers");
        self.some_time(at("header_deadline"), l.header_deadline);
        self.some_time(at("request_deadline"), l.request_deadline);
        if l.body_bytes.0 == 0 {
            self.error(
                at("body_bytes"),
                "no form could be sent to the shop",
                "write the largest body the shop needs, such as 10MiB",
            );
        }
        if l.body_min_rate.0 == 0 {
            self.error(at("body_min_rate"), "a body could take for ever", "write the slowest acceptable rate, such as 1KiB/s");
        }
        let first_byte = self.policy.shop.timeouts.first_byte;
        if l.request_deadline < first_byte && l.request_deadline.ms() > 0 {
            let what = format!("shorter than shop.timeouts.first_byte ({first_byte}), which can then never be reached");
            self.warning(at("request_deadline"), what, "make it longer");
        }
        let c = &self.policy.connections;
        self.within("connections.max", c.max.into(), 1, CONNECTIONS_MAX, " connections");
        self.within("connections.per_network_max", c.per_network_max.into(), 1, CONNECTIONS_MAX, " connections");
        self.some_time("connections.keepalive", c.keepalive);
        self.some_time("connections.drain_max", c.drain_max);
        if let Some(threads) = self.policy.threads {
            self.within("threads", threads.into(), 1, THREADS_MAX, " threads");
        }
    }
}

/// Whether two listeners fight for one port. Port 0 takes a free one.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let any = |x: SocketAddr, y: SocketAddr| x.ip().is_unspecified() && (x.is_ipv6() || y.is_ipv4());
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || any(a, b) || any(b, a))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ports_collide_only_where_the_kernel_says_so() {
        let c = |a: &str, b: &str| collide(a.parse().unwrap(), b.parse().unwrap());
        assert!(c("127.0.0.1:80", "127.0.0.1:80") && c("0.0.0.0:80", "127.0.0.1:80") && c("127.0.0.1:80", "[::]:80"));
        assert!(!c("127.0.0.1:80", "127.0.0.2:80") && !c("0.0.0.0:80", "[::1]:80") && !c("127.0.0.1:0", "127.0.0.1:0"));
    }
}
