//! A client's stream of which the gate has a say in what is read of it. All else is the stream's own.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest, UniqueID,
    UniqueIDType, raw_connect::ProxyDigest, tls::SslDigest,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The gate's say.
pub trait Reads: Send + Sync + Unpin + 'static {
    /// Reads from the stream for whoever reads this one.
    fn poll_read(&mut self, inner: &mut Stream, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;
}

/// See the module.
pub struct Wrapped<R> {
    /// The client's.
    pub inner: Stream,
    /// What is read of it.
    pub reads: R,
}

impl<R> fmt::Debug for Wrapped<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wrapped({:?})", self.inner)
    }
}

impl<R: Reads> AsyncRead for Wrapped<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Wrapped { inner, reads } = &mut *self;
        reads.poll_read(inner, cx, buf)
    }
}

impl<R: Reads> AsyncWrite for Wrapped<R> {
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
impl<R: Reads> Shutdown for Wrapped<R> {
    async fn shutdown(&mut self) {
        self.inner.shutdown().await;
    }
}

impl<R: Reads> UniqueID for Wrapped<R> {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl<R: Reads> Ssl for Wrapped<R> {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl<R: Reads> GetTimingDigest for Wrapped<R> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl<R: Reads> GetProxyDigest for Wrapped<R> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl<R: Reads> GetSocketDigest for Wrapped<R> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

impl<R: Reads> Peek for Wrapped<R> {}
