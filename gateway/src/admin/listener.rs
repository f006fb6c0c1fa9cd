//! The admin socket: a cap on connections, and none may be silent for long. When the cap is reached the oldest one goes:
//! whoever holds connections open must not keep health checks out.

use std::{
    collections::VecDeque,
    future::Future as _,
    io,
    net::{Shutdown, SocketAddr},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep},
};

/// Connections at the same time.
pub const CONNECTIONS_MAX: usize = 64;
/// A connection that sends nothing for this long is closed.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Accepts at most [`CONNECTIONS_MAX`].
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    /// Oldest first: whether it is still there, and a second handle to end it by.
    open: VecDeque<(Weak<()>, std::net::TcpStream)>,
}

impl Listener {
    pub(super) fn new(socket: TcpListener) -> Self {
        Listener { socket, open: VecDeque::with_capacity(CONNECTIONS_MAX) }
    }

    fn take_in(&mut self, stream: TcpStream) -> io::Result<Connection> {
        let stream = stream.into_std()?;
        let twin = stream.try_clone()?;
        self.open.retain(|(there, _)| there.strong_count() > 0);
        while self.open.len() >= CONNECTIONS_MAX
            && let Some((_, oldest)) = self.open.pop_front()
        {
            let _ = oldest.shutdown(Shutdown::Both);
        }
        let there = Arc::new(());
        self.open.push_back((Arc::downgrade(&there), twin));
        let silence = Box::pin(sleep(SILENCE_MAX));
        Ok(Connection { stream: TcpStream::from_std(stream)?, silence, _there: there })
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let accepted = self.socket.accept().await;
            match accepted.and_then(|(stream, from)| Ok((self.take_in(stream)?, from))) {
                Ok(accepted) => return accepted,
                // Out of file descriptors, or a client that left: neither is helped by trying at once.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    _there: Arc<()>,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            self.silence.as_mut().set(sleep(SILENCE_MAX));
            return Poll::Ready(read);
        }
        ready!(self.silence.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
