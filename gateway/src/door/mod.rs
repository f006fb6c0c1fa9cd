//! The door: every connection comes through here before Pingora's proxy sees a request.
//!
//! Permit → PROXY protocol → TLS under a deadline → HTTP/2, or HTTP/1 heads read and checked by ourselves. With
//! `proxy.rs` and `serve.rs` the only place that knows Pingora's inner types.

pub mod caps;
pub mod head;
pub mod hello;
pub mod one;
pub mod preface;
pub mod proxy_protocol;
pub mod settings;
pub mod stream;

use std::{
    io,
    net::SocketAddr,
    os::fd::AsRawFd as _,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf as _, BytesMut};
use pingora::{
    apps::{HttpPersistentSettings, HttpServerApp as _, ServerApp},
    http::ResponseHeader,
    listeners::tls::Acceptor,
    protocols::{
        ALPN, GetProxyDigest as _, GetSocketDigest as _, SocketDigest, Stream,
        http::ServerSession,
        l4::{socket::SocketAddr as PeerAddr, stream::Stream as L4Stream},
        raw_connect::ProxyDigest,
    },
    proxy::{HttpProxy, Session},
    server::ShutdownWatch,
    // To 10 ms, and cheaper than tokio's where it is set for each request and hardly ever runs out.
    time::{Elapsed, timeout},
};
use tidegate_config::{ProxyProtocol, RequestLimits};
use tidegate_filters::Network;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    counts::{HeadFault, Turned},
    decide::{self, Decided, Next, Step},
    proxy::Gate,
    repeated::Repeated,
    reply::{self, Answer},
    state::Shared,
    trace::Trace,
};
use hello::{Hello, Progress};
use one::OneByOne;
use preface::Preface;
use settings::Opening;
use stream::Wrapped;

/// First size of a head's buffer; most heads fit.
const HEAD_BUF: usize = 2_048;
/// Empty lines passed over before a request.
const BLANK_LINES_MAX: u32 = 4;
/// When the gate stops, a connection that is open waits so long for a request that is on its way. nginx closes at once, and
/// clients that had just sent one see a reset.
const LAST_REQUEST: Duration = Duration::from_millis(500);
/// Longest silence while a body is read, and while a slow client takes an answer.
pub const BODY_SILENCE_MAX: Duration = Duration::from_secs(20);

/// How long, and how often, bytes behind a refused head are still read.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_READS_MAX: usize = 64;

/// What is known about a connection; reaches the hooks through Pingora's digest.
#[derive(Debug)]
pub struct Facts {
    /// The socket's peer, or the client that a PROXY header named.
    pub client: Option<SocketAddr>,
    /// TLS.
    pub tls: bool,
    /// Hash of the TLS hello; 0 for plain HTTP.
    pub hello: u64,
    /// JA4 of the TLS hello.
    pub ja4: Option<Arc<str>>,
    /// What an HTTP/2 client said before its first request.
    pub h2: OnceLock<Opening>,
    /// This listener only redirects: to this port on https.
    pub redirect: Option<u16>,
    /// What it says with each request.
    pub repeated: Repeated,
}

impl Facts {
    /// Of the connection a session runs on.
    pub fn of(session: &Session) -> Option<&Facts> {
        session.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref::<Arc<Facts>>().map(|f| &**f)
    }

    /// How the program that made the connection did it: hello, and over HTTP/2 its opening. 0 when neither is known.
    pub fn manner(&self) -> u64 {
        self.hello ^ self.h2.get().map_or(0, Opening::hash)
    }
}

/// What [`Door::decide`] found.
type Begun = (Box<Trace>, Step, Option<u64>, bool);

/// What a client on HTTP/1 is read by.
type Client = Wrapped<OneByOne>;

/// One listener's door.
pub struct Door {
    /// The gate.
    pub shared: Arc<Shared>,
    /// What serves a request once its head is good.
    pub proxy: Arc<HttpProxy<Gate>>,
    /// TLS, on listeners that have it.
    pub tls: Option<Acceptor>,
    /// Who may send a PROXY header, on listeners that take one.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Only redirects: to this port on https.
    pub redirect: Option<u16>,
}

#[async_trait]
impl ServerApp for Door {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let counts = &self.shared.counts;
        counts.connections.add();
        let mut permit = self.shared.caps.enter().map_err(|why| counts.turned(why)).ok()?;
        let mut l4: L4Stream = *stream.into_any().downcast().ok()?;
        let (limits, trusted) = {
            let active = self.shared.active.load();
            let peer = peer_of(&l4);
            let trusted =
                peer.is_some_and(|p| active.policy.trusted_proxies.iter().any(|n| n.0.contains(&p.ip().to_canonical())));
            (active.policy.limits_of_a_request, trusted)
        };
        let deadline = Duration::from_millis(limits.header_deadline.ms());
        let facts = tokio::time::timeout(deadline, self.greet(&mut l4)).await;
        let facts = facts.unwrap_or(Err(Turned::BadProxyHeader)).map_err(|why| counts.turned(why)).ok()?;
        // A balancer in front brings everybody; who a PROXY header names is counted for himself.
        if let Some(client) = facts.client
            && (!trusted || peer_of(&l4) != Some(client))
        {
            permit.belongs_to(Network::new(client.ip())).map_err(|why| counts.turned(why)).ok()?;
        }
        let digest = ResponseHeader::build(200, Some(0)).ok()?;
        let facts = Arc::new(facts);
        l4.set_proxy_digest(ProxyDigest::new(Box::new(digest), Some(Box::new(facts.clone()))));
        let stream: Stream = match &self.tls {
            None => Box::new(l4),
            Some(tls) => match tokio::time::timeout(deadline, tls.tls_handshake(l4)).await {
                Ok(Ok(stream)) => Box::new(stream),
                Ok(Err(_)) => return turned(counts, Turned::TlsFailed),
                Err(_) => return turned(counts, Turned::TlsSlow),
            },
        };
        if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            let reads = Preface::new(deadline, facts, self.shared.clone());
            let stream = Box::new(Wrapped { inner: stream, reads });
            // Its streams are tasks of their own, but it returns only when the connection ends: the permit holds.
            self.proxy.process_new(stream, shutdown).await;
        } else {
            self.http1(stream, &facts, shutdown).await;
        }
        None
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

fn turned(counts: &crate::counts::Counts, why: Turned) -> Option<Stream> {
    counts.turned(why);
    None
}

fn peer_of(l4: &L4Stream) -> Option<SocketAddr> {
    l4.get_socket_digest()?.peer_addr()?.as_inet().copied()
}

impl Door {
    /// Reads what stands before the first request: a PROXY header (taken out) and the TLS hello (left in).
    async fn greet(&self, l4: &mut L4Stream) -> Result<Facts, Turned> {
        let peer = peer_of(l4);
        let (tls, redirect) = (self.tls.is_some(), self.redirect);
        let mut facts =
            Facts { client: peer, tls, hello: 0, ja4: None, h2: OnceLock::new(), redirect, repeated: Repeated::default() };
        let from = |p: &ProxyProtocol| peer.is_some_and(|a| p.from.iter().any(|n| n.0.contains(&a.ip().to_canonical())));
        let mut buf = Vec::new();
        if self.proxy_protocol.as_ref().is_some_and(from) {
            let (len, source) = loop {
                match proxy_protocol::parse(&buf) {
                    proxy_protocol::Parsed::Header(len, source) => break (len, source),
                    proxy_protocol::Parsed::Bad => return Err(Turned::BadProxyHeader),
                    proxy_protocol::Parsed::Partial => read_more(l4, &mut buf).await.ok_or(Turned::BadProxyHeader)?,
                }
            };
            buf.drain(..len);
            if let Some(source) = source {
                facts.client = Some(source);
                let digest = SocketDigest::from_raw_fd(l4.as_raw_fd());
                let _ = digest.peer_addr.set(Some(PeerAddr::Inet(source)));
                l4.set_socket_digest(digest);
            }
        }
        if self.tls.is_some() {
            let message = loop {
                match hello::gather(&buf) {
                    Progress::Partial(need) if need <= hello::HELLO_MAX => {
                        while buf.len() < need {
                            read_more(l4, &mut buf).await.ok_or(Turned::TlsFailed)?;
                        }
                    }
                    Progress::Whole(message) => break message,
                    _ => break Vec::new(),
                }
            };
            if let Some(hello) = Hello::read(&message) {
                (facts.hello, facts.ja4) = (hello.hash(), Some(hello.ja4().into()));
            }
        }
        l4.rewind(&buf);
        Ok(facts)
    }

    /// One head after the other, each whole, checked and decided before Pingora sees it. What the gate answers itself, it
    /// answers here.
    async fn http1(&self, stream: Stream, facts: &Facts, shutdown: &ShutdownWatch) -> Option<()> {
        let mut stream = Box::new(Wrapped { inner: stream, reads: OneByOne::default() });
        let mut settings: Option<HttpPersistentSettings> = None;
        let mut stop = shutdown.clone();
        let mut stopping = Some(std::pin::pin!(stopping(&mut stop)));
        let (mut first, mut blank_lines) = (true, 0);
        let mut buf = BytesMut::with_capacity(HEAD_BUF);
        loop {
            let (limits, keepalive) = {
                let active = self.shared.active.load();
                (active.policy.limits_of_a_request, active.policy.connections.keepalive)
            };
            // What came on the heels of the request before is there already.
            if buf.is_empty() {
                buf.reserve(HEAD_BUF);
                // A new connection has as long for its first byte as for a whole head.
                let idle = Duration::from_millis(if first { limits.header_deadline.ms() } else { keepalive.ms() });
                match next_bytes(&mut stream, &mut buf, idle, &mut stopping).await {
                    Ok(Ok(1..)) => {}
                    Err(_) if first => return self.refuse(stream, HeadFault::TooSlow).await,
                    _ => return None,
                }
                first = false;
            }
            // Some clients end a body with an empty line that is not part of it (RFC 9112 §2.2).
            while blank_lines < BLANK_LINES_MAX && buf.starts_with(b"\r\n") {
                buf.advance(2);
                blank_lines += 1;
            }
            if buf.is_empty() {
                continue;
            }
            blank_lines = 0;
            let len = match self.read_head(&mut stream, &mut buf, &limits).await {
                Ok(len) => len,
                Err(fault) => return self.refuse(stream, fault?).await,
            };
            let (mut trace, step, body, last) = match self.decide(&buf[..len], facts, &limits) {
                Ok(decided) => decided,
                Err(fault) => return self.refuse(stream, fault).await,
            };
            let next = match step {
                Step::Next(next) => next,
                Step::Scoring(scoring) => scoring.next(&self.shared, &mut trace).await,
            };
            let next = match next {
                // The proxy knows how to drain a body, or to close.
                Next::Answer(answer) if body == Some(0) => {
                    let last = last || *shutdown.borrow() || self.shared.is_stopping();
                    answer_http1(&mut stream, trace, &answer, last).await?;
                    buf.advance(len);
                    if last {
                        let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
                        return None;
                    }
                    continue;
                }
                next => next,
            };
            // Of a body without a length nobody but the proxy knows where it ends.
            let whole = body.and_then(|n| usize::try_from(n).ok()?.checked_add(len));
            stream.reads.body(whole.map(|end| end.saturating_sub(buf.len()) as u64));
            let mut session = ServerSession::new_http1(stream);
            session.set_keepalive(Some(keepalive.secs_ceil()));
            if let Some(settings) = settings.take() {
                settings.apply_to_session(&mut session);
            }
            session.set_read_timeout(Some(BODY_SILENCE_MAX));
            session.set_write_timeout(Some(BODY_SILENCE_MAX));
            // A client that reads too slowly would hold the shop as surely as one that writes too slowly.
            session.set_min_send_rate(Some(limits.body_min_rate.0 as usize).filter(|r| *r > 0));
            // Of a request that is here to its end, no byte more: the next one is read by us.
            let mine = whole.map_or(buf.len(), |end| end.min(buf.len()));
            session.set_pipelined_prefix(buf.split_to(mine));
            session.set_connection_user_context(Some(Box::new(Decided { trace, next })));
            let (reused, kept) = self.proxy.process_new_http(session, shutdown).await?.consume();
            (stream, settings) = (reused.into_any().downcast().ok()?, kept);
            stream.reads.body(None);
        }
    }

    /// How far a whole head is; the length of its body where it says so; the connection ends with it.
    fn decide(&self, head: &[u8], facts: &Facts, limits: &RequestLimits) -> Result<Begun, HeadFault> {
        let head = head::parse(head, limits)?;
        let mut trace = Trace::new(self.shared.clone());
        let step = decide::begin(&self.shared, &head, Some(facts), &mut trace);
        Ok((trace, step, head.body_end(), head.is_last()))
    }

    /// Reads until the head is whole: how long it is. The inner `None`: the client went away.
    async fn read_head(
        &self,
        stream: &mut Client,
        buf: &mut BytesMut,
        limits: &RequestLimits,
    ) -> Result<usize, Option<HeadFault>> {
        let mut progress = head::Progress::default();
        // Most heads come whole, and no timer is needed.
        if let Some(len) = progress.look(buf, limits).map_err(Some)? {
            return Ok(len);
        }
        let rest = async {
            loop {
                if stream.read_buf(buf).await.unwrap_or(0) == 0 {
                    return Err(None);
                }
                if let Some(len) = progress.look(buf, limits).map_err(Some)? {
                    return Ok(len);
                }
            }
        };
        let deadline = Duration::from_millis(limits.header_deadline.ms());
        tokio::time::timeout(deadline, rest).await.unwrap_or(Err(Some(HeadFault::TooSlow)))
    }

    /// Says why and closes: nothing after a bad head can be trusted to be a request.
    async fn refuse(&self, mut stream: Box<Client>, fault: HeadFault) -> Option<()> {
        self.shared.counts.head(fault);
        let answer = reply::bad_head(fault);
        let write = async {
            stream.write_all(&answer).await?;
            stream.flush().await
        };
        let _ = tokio::time::timeout(BODY_SILENCE_MAX, write).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
        // Closing on unread bytes resets the connection, and the client would lose the answer.
        let linger = async {
            let mut sink = [0u8; 4_096];
            for _ in 0..LINGER_READS_MAX {
                if stream.read(&mut sink).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, linger).await;
        None
    }
}

/// Writes an answer of the gate; the row is made when it is out. `None`: the client went away.
async fn answer_http1(stream: &mut Client, mut trace: Box<Trace>, answer: &Answer, last: bool) -> Option<()> {
    let bytes = reply::http1(&trace, answer, last);
    let write = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    let written = tokio::time::timeout(BODY_SILENCE_MAX, write).await;
    let sent = matches!(written, Ok(Ok(())));
    trace.finish(if sent { answer.status } else { 0 }, if sent { answer.body.len() as u64 } else { 0 });
    sent.then_some(())
}

/// The first bytes of a request. Once the gate stops, which ends `stopping`, only one that is on its way is waited for: it meets an
/// open door.
async fn next_bytes(
    stream: &mut Client,
    buf: &mut BytesMut,
    idle: Duration,
    stopping: &mut Option<Pin<&mut impl Future<Output = ()>>>,
) -> Result<io::Result<usize>, Elapsed> {
    if let Some(stop) = stopping {
        tokio::select! {
            biased;
            read = timeout(idle, stream.read_buf(buf)) => return read,
            () = stop => {}
        }
    }
    *stopping = None;
    timeout(LAST_REQUEST, stream.read_buf(buf)).await
}

async fn stopping(stop: &mut ShutdownWatch) {
    let _ = stop.wait_for(|stopping| *stopping).await;
}

async fn read_more(l4: &mut L4Stream, buf: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0u8; 1_024];
    let n = l4.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
    buf.extend_from_slice(&chunk[..n]);
    Some(())
}
