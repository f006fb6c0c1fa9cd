//! Pingora alone, set up as the gate sets it up: what `tidegate-loadtest bench` measures the gate against.
//!
//! `tidegate-bare UPSTREAM_ADDRESS [THREADS]` proxies to the address and prints where it listens. Same runtime, allocator, kept
//! connections, timeouts, buffers and forwarding headers as the gate; no filter. `/local` is answered by itself.
#![allow(clippy::print_stdout)]

use std::{error::Error, net::SocketAddr, os::fd::IntoRawFd as _, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use pingora::{
    http::{RequestHeader, ResponseHeader},
    listeners::{L4BufferSettings, ListenerConfig},
    protocols::ALPN,
    proxy::{ProxyHttp, Session, http_proxy},
    server::{Fds, configuration::ServerConf},
    services::{Service as _, listening::Service},
    upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The answer of `/local`.
const LOCAL_BODY: &[u8] = b"{\"position\":1}\n";
/// As the gate's listeners.
const BUFFERS: (usize, usize) = (8 << 10, 16 << 10);
/// As the policy's default.
const KEPT_CONNECTIONS: usize = 256;

struct Bare {
    peer: HttpPeer,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> pingora::Result<bool> {
        if session.req_header().uri.path() != "/local" {
            return Ok(false);
        }
        let mut head = ResponseHeader::build(200, Some(2))?;
        head.insert_header("content-length", LOCAL_BODY.len())?;
        head.insert_header("content-type", "application/json")?;
        session.write_response_header(Box::new(head), false).await?;
        session.write_response_body(Some(Bytes::from_static(LOCAL_BODY)), true).await?;
        Ok(true)
    }

    async fn upstream_request_filter(&self, s: &mut Session, r: &mut RequestHeader, _: &mut ()) -> pingora::Result<()> {
        if let Some(client) = s.client_addr().and_then(|a| a.as_inet()) {
            r.insert_header("x-forwarded-for", client.ip().to_string())?;
            r.insert_header("x-real-ip", client.ip().to_string())?;
        }
        r.insert_header("x-forwarded-proto", "http")?;
        if let Some(host) = s.req_header().headers.get("host") {
            r.insert_header("x-forwarded-host", host.clone())?;
        }
        Ok(())
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(self.peer.clone()))
    }
}

fn peer(upstream: SocketAddr) -> HttpPeer {
    let mut peer = HttpPeer::new(upstream, false, String::new());
    let o = &mut peer.options;
    o.connection_timeout = Some(Duration::from_secs(1));
    o.total_connection_timeout = Some(Duration::from_secs(1));
    o.read_timeout = Some(Duration::from_secs(10));
    o.write_timeout = Some(Duration::from_secs(10));
    o.idle_timeout = Some(Duration::from_secs(60));
    o.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    o.alpn = ALPN::H1;
    peer
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let upstream: SocketAddr = args.next().ok_or("usage: bare UPSTREAM_ADDRESS [THREADS]")?.parse()?;
    let threads: usize = args.next().map_or(Ok(2), |n| n.parse())?;
    let conf = ServerConf { threads, upstream_keepalive_pool_size: KEPT_CONNECTIONS, ..ServerConf::default() };
    let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?.to_string();
    let mut fds = Fds::new();
    fds.add(address.clone(), socket.into_raw_fd());
    let mut service = Service::new(address.clone(), http_proxy(&Arc::new(conf), Bare { peer: peer(upstream) }));
    service.add_listener(ListenerConfig::tcp(address.clone()).l4_buffer(L4BufferSettings::new(BUFFERS.0, BUFFERS.1)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    println!("{address}");
    runtime.block_on(service.start_service(Some(Arc::new(parking_lot::Mutex::new(fds))), stopped, 1));
    Ok(())
}
