//! Listeners: bound at once so that errors are errors, run on our own runtime, stopped without cutting anybody off.

use std::{net::SocketAddr, os::fd::IntoRawFd as _, sync::Arc, time::Duration};

use pingora::{
    apps::HttpServerOptions,
    listeners::{L4BufferSettings, ListenerConfig, tls::Acceptor},
    protocols::http::v2::server::default_h2_options,
    proxy::http_proxy,
    server::{Fds, configuration::ServerConf},
    services::{Service as _, listening::Service},
};
use thiserror::Error;
use tidegate_config::{Listen, Policy};
use tokio::sync::watch;

use crate::{
    door::Door,
    proxy::Gate,
    state::Shared,
    tls::{Certificate, TlsError, server_config},
    upstream::NO_AUTHORITIES,
};

/// Read and write buffer of a connection: a waiting page leaves in one write.
const BUFFERS: (usize, usize) = (8 << 10, 16 << 10);
/// Streams of one HTTP/2 connection.
const H2_STREAMS_MAX: u32 = 100;
/// Receive window of one HTTP/2 connection, bytes.
const H2_WINDOW: u32 = 1 << 20;
/// How often certificate files are looked at.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(2);

/// Why the gate cannot listen.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address is taken, not ours, or not allowed.
    #[error("cannot listen on {address}: {why}{}", hint(.why))]
    Bind {
        /// The address of the policy.
        address: SocketAddr,
        /// What the system said.
        why: std::io::Error,
    },
    /// A certificate cannot be used.
    #[error("listener {address}: {why}")]
    Certificate {
        /// The address of the policy.
        address: SocketAddr,
        /// Why.
        why: TlsError,
    },
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

fn hint(why: &std::io::Error) -> &'static str {
    match why.kind() {
        std::io::ErrorKind::AddrInUse => "; another program listens there: stop it or choose another port",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges: choose a higher one",
        std::io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        _ => "",
    }
}

/// Sockets that are bound; connections already queue up in them.
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<BoundListener>,
}

#[derive(Debug)]
struct BoundListener {
    settings: Listen,
    address: SocketAddr,
    socket: std::net::TcpListener,
    certificate: Option<Arc<Certificate>>,
}

/// How a gate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still open at the deadline.
    pub left: u32,
}

impl Bound {
    /// Binds every listener of a policy and loads its certificates.
    pub fn new(policy: &Policy) -> Result<Self, ServeError> {
        let bind = |settings: &Listen| -> Result<BoundListener, ServeError> {
            let address = settings.address;
            let certificate = settings.tls.as_ref().map(Certificate::load).transpose();
            let certificate = certificate.map_err(|why| ServeError::Certificate { address, why })?;
            let socket = std::net::TcpListener::bind(address).and_then(|s| s.set_nonblocking(true).map(|()| s));
            let socket = socket.map_err(|why| ServeError::Bind { address, why })?;
            let address = socket.local_addr().map_err(|why| ServeError::Bind { address, why })?;
            Ok(BoundListener { settings: settings.clone(), address, socket, certificate })
        };
        Ok(Bound { listeners: policy.listen.iter().map(bind).collect::<Result<_, _>>()? })
    }

    /// Real addresses, in the order of the policy: port 0 has become a port.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|l| l.address).collect()
    }

    /// Certificates of the TLS listeners, for a reload on demand.
    pub fn certificates(&self) -> Vec<Arc<Certificate>> {
        self.listeners.iter().filter_map(|l| l.certificate.clone()).collect()
    }
}

/// Serves until `stop` is true, then stops accepting, lets requests end and returns as soon as nobody is connected,
/// at the latest after the policy's `drain_max`. Set `shared.stop()` some time before, so that readiness is gone first.
pub async fn run(shared: Arc<Shared>, bound: Bound, mut stop: watch::Receiver<bool>) -> Result<Drained, ServeError> {
    let certificates = bound.certificates();
    let services = services(&shared, bound, &stop)?;
    let beside = [tokio::spawn(watch_certificates(certificates)), tokio::spawn(watch_upstreams(shared.clone()))];
    // An error means that the sender is gone: the same as a stop.
    let _ = stop.wait_for(|stop| *stop).await;
    shared.stop();
    for service in services {
        let _ = service.await;
    }
    let drain_max = Duration::from_millis(shared.active.load().policy.connections.drain_max.ms());
    let _ = tokio::time::timeout(drain_max, shared.caps.idle()).await;
    beside.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(Drained { left: shared.caps.open() })
}

/// Starts one service a listener. Everything that can fail has failed before the first one runs.
fn services(
    shared: &Arc<Shared>,
    bound: Bound,
    stop: &watch::Receiver<bool>,
) -> Result<Vec<tokio::task::JoinHandle<()>>, ServeError> {
    let policy = &shared.active.load().policy;
    let mut proxy = http_proxy(&Arc::new(server_conf(policy)), Gate::new(shared.clone()));
    let mut h2 = default_h2_options();
    h2.max_header_list_size(policy.limits_of_a_request.header_bytes.0.min(1 << 20) as u32);
    h2.max_concurrent_streams(H2_STREAMS_MAX);
    h2.initial_connection_window_size(H2_WINDOW);
    proxy.h2_options = Some(h2);
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(Duration::from_millis(policy.connections.keepalive.ms()));
    proxy.server_options = Some(options);
    let proxy = Arc::new(proxy);
    let mut doors = Vec::new();
    for listener in bound.listeners {
        let tls = listener.certificate.map(server_config).transpose()?.map(Acceptor::from_server_config);
        let door = Door {
            shared: shared.clone(),
            proxy: proxy.clone(),
            tls,
            proxy_protocol: listener.settings.proxy_protocol,
            redirect: listener.settings.redirect.map(|r| r.port),
        };
        doors.push((listener.address, listener.socket, door));
    }
    let start = |(address, socket, door): (SocketAddr, std::net::TcpListener, Door)| {
        let name = address.to_string();
        let mut fds = Fds::new();
        // The service owns the socket from here on.
        fds.add(name.clone(), socket.into_raw_fd());
        let fds = Arc::new(parking_lot::Mutex::new(fds));
        let mut service = Service::new(name.clone(), door);
        service.add_listener(ListenerConfig::tcp(name).l4_buffer(L4BufferSettings::new(BUFFERS.0, BUFFERS.1)));
        let stop = stop.clone();
        tokio::spawn(async move { service.start_service(Some(fds), stop, 1).await })
    };
    Ok(doors.into_iter().map(start).collect())
}

fn server_conf(policy: &Policy) -> ServerConf {
    ServerConf {
        threads: policy.threads.map_or_else(|| std::thread::available_parallelism().map_or(2, Into::into), usize::from),
        ca_file: Some(NO_AUTHORITIES.into()),
        upstream_keepalive_pool_size: policy.shop.kept_connections as usize,
        // Pingora counts tries, the policy counts what comes after the first.
        max_retries: policy.shop.retries_max as usize + 1,
        ..ServerConf::default()
    }
}

async fn watch_certificates(certificates: Vec<Arc<Certificate>>) {
    let mut every = tokio::time::interval(CERTIFICATES_EVERY);
    loop {
        every.tick().await;
        for certificate in &certificates {
            let file = certificate.files().certificate.display();
            match certificate.reload() {
                Ok(false) => {}
                Ok(true) => tracing::info!(%file, "new certificate in use"),
                Err(error) => tracing::warn!(%file, %error, "certificate files changed but cannot be used; the old one stays"),
            }
        }
    }
}

async fn watch_upstreams(shared: Arc<Shared>) {
    loop {
        let upstreams = shared.active.load().upstreams.clone();
        upstreams.check().await;
        tokio::time::sleep(upstreams.check_every()).await;
    }
}
