//! A stream that fails when an HTTP/2 client does not send its preface in time (Pingora would wait for ever), and that looks at
//! what the client says of itself until its first request.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest, UniqueID,
    UniqueIDType, raw_connect::ProxyDigest, tls::SslDigest,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::{
    Facts,
    settings::{self, LOOK_MAX, Look},
};
use crate::{counts::Turned, state::Shared};

/// The preface (24 bytes) and the empty SETTINGS frame that must follow it.
const PREFACE_LEN: usize = 24 + 9;

/// See the module.
pub struct PrefaceStream {
    inner: Stream,
    read: usize,
    deadline: Option<Pin<Box<Sleep>>>,
    /// The first bytes, until they were understood.
    first: Option<Vec<u8>>,
    facts: Arc<Facts>,
    shared: Arc<Shared>,
}

impl PrefaceStream {
    /// The clock runs from now.
    pub fn new(inner: Stream, deadline: Duration, facts: Arc<Facts>, shared: Arc<Shared>) -> Self {
        let deadline = Some(Box::pin(tokio::time::sleep(deadline)));
        PrefaceStream { inner, read: 0, deadline, first: Some(Vec::new()), facts, shared }
    }

    /// Whoever decides about the first request finds what stood before it: its bytes are handed on after this.
    fn look(&mut self, bytes: &[u8]) {
        let Some(first) = &mut self.first else { return };
        first.extend_from_slice(&bytes[..bytes.len().min(LOOK_MAX - first.len())]);
        match settings::look(first) {
            Look::Partial => return,
            Look::Whole(opening) => _ = self.facts.h2.set(opening),
            Look::Other => {}
        }
        self.first = None;
    }
}

impl std::fmt::Debug for PrefaceStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrefaceStream({} bytes of {:?})", self.read, self.inner)
    }
}

impl AsyncRead for PrefaceStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            this.shared.counts.turned(Turned::NoPreface);
            this.deadline = None;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface in time")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        this.look(&buf.filled()[before..]);
        if this.deadline.is_some() {
            this.read += buf.filled().len() - before;
            if this.read >= PREFACE_LEN {
                this.deadline = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PrefaceStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for PrefaceStream {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

impl UniqueID for PrefaceStream {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for PrefaceStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for PrefaceStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for PrefaceStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for PrefaceStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

impl Peek for PrefaceStream {}
