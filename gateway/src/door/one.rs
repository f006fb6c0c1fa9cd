//! One request at a time: while it is at the shop the proxy reads its body and no byte more. What follows is the next request, or
//! the empty line that some clients send after a body; the proxy would take either for an error and give up the answer.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use pingora::protocols::Stream;
use tokio::io::{AsyncRead as _, ReadBuf};

use super::stream::Reads;

/// Bytes kept that came too early; then the client is left to wait.
const AHEAD_MAX: usize = 16 << 10;
/// Read at once.
const CHUNK: usize = 16 << 10;

/// See the module.
#[derive(Default)]
pub struct OneByOne {
    /// Bytes of its body that have not been read; `None`: nobody counts, everything passes.
    left: Option<u64>,
    ahead: BytesMut,
}

impl OneByOne {
    /// A request of whose body so much is still to come goes on; `None`: as much as there is, or none is under way.
    pub fn body(&mut self, left: Option<u64>) {
        self.left = left;
    }
}

impl Reads for OneByOne {
    fn poll_read(&mut self, inner: &mut Stream, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [const { MaybeUninit::uninit() }; CHUNK];
        match self.left {
            None if self.ahead.is_empty() => Pin::new(inner).poll_read(cx, buf),
            None => {
                let n = self.ahead.len().min(buf.remaining());
                buf.put_slice(&self.ahead[..n]);
                self.ahead.advance(n);
                Poll::Ready(Ok(()))
            }
            Some(left @ 1..) => {
                let most = usize::try_from(left).unwrap_or(CHUNK).min(buf.remaining()).min(CHUNK);
                let mut part = ReadBuf::uninit(&mut chunk[..most]);
                ready!(Pin::new(inner).poll_read(cx, &mut part))?;
                self.left = Some(left - part.filled().len() as u64);
                buf.put_slice(part.filled());
                Poll::Ready(Ok(()))
            }
            Some(0) => loop {
                let most = AHEAD_MAX.saturating_sub(self.ahead.len()).min(CHUNK);
                if most == 0 {
                    return Poll::Pending;
                }
                let mut part = ReadBuf::uninit(&mut chunk[..most]);
                ready!(Pin::new(&mut *inner).poll_read(cx, &mut part))?;
                // It has gone.
                if part.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
                self.ahead.extend_from_slice(part.filled());
            },
        }
    }
}
