//! Fails when an HTTP/2 client does not send its preface in time (Pingora would wait for ever), and looks at what the client says
//! of itself until its first request.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pingora::protocols::Stream;
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    time::Sleep,
};

use super::{
    Facts,
    settings::{self, LOOK_MAX, Look},
    stream::Reads,
};
use crate::{counts::Turned, state::Shared};

/// The preface (24 bytes) and the empty SETTINGS frame that must follow it.
const PREFACE_LEN: usize = 24 + 9;

/// See the module.
pub struct Preface {
    read: usize,
    deadline: Option<Pin<Box<Sleep>>>,
    /// The first bytes, until they were understood.
    first: Option<Vec<u8>>,
    facts: Arc<Facts>,
    shared: Arc<Shared>,
}

impl Preface {
    /// The clock runs from now.
    pub fn new(deadline: Duration, facts: Arc<Facts>, shared: Arc<Shared>) -> Self {
        let deadline = Some(Box::pin(tokio::time::sleep(deadline)));
        Preface { read: 0, deadline, first: Some(Vec::new()), facts, shared }
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

impl Reads for Preface {
    fn poll_read(&mut self, inner: &mut Stream, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.shared.counts.turned(Turned::NoPreface);
            self.deadline = None;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface in time")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(inner).poll_read(cx, buf))?;
        self.look(&buf.filled()[before..]);
        if self.deadline.is_some() {
            self.read += buf.filled().len() - before;
            if self.read >= PREFACE_LEN {
                self.deadline = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}
