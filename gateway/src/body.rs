//! A request's body before the shop is asked: a slow upload must hold a connection of the gate's, never a place at the shop.

use std::time::Duration;

use bytes::Bytes;
use pingora::proxy::Session;
use tidegate_filters::Reason;
use tokio::time::timeout;

use crate::{door::BODY_SILENCE_MAX, failure::Failure, trace::Trace};

/// Bodies up to this size are whole before the shop hears of the request: what Pingora keeps for a second try, so it is
/// remembered once. A route with `in_flight_max` takes no larger ones: whoever uploads would keep everybody else out.
pub const AHEAD_BYTES_MAX: u64 = 64 << 10;
/// A body slower than the policy's rate is cut off, but not in its first moments.
pub const RATE_GRACE_MS: u64 = 5_000;
/// The rest of a larger body holds a place at the shop: it must come at least this fast, bytes a second.
pub const RATE_AT_SHOP: u64 = 32 << 10;

/// The one expectation there is.
const CONTINUE: &[u8] = b"100-continue";

/// Why a body did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// Slower than the policy allows: 408.
    TooSlow,
    /// Larger than the policy allows: 413.
    TooLarge,
    /// Not HTTP: 400.
    Broken,
    /// Without a length, a little too large to be remembered, and over already: 411.
    NoLength,
    /// Nobody is there any more.
    Gone,
}

impl BodyFault {
    /// Status and reason; `None` when there is nobody to be told.
    pub fn answer(self) -> Option<(u16, Reason)> {
        match self {
            BodyFault::TooSlow => Some((408, Reason::BadRequest)),
            BodyFault::TooLarge => Some((413, Reason::BodyTooLarge)),
            BodyFault::Broken => Some((400, Reason::BadRequest)),
            BodyFault::NoLength => Some((411, Reason::BadRequest)),
            BodyFault::Gone => None,
        }
    }
}

/// Reads a body that can be remembered, to its end. Of a larger one without a length, what was read goes to `trace.ahead`; a
/// larger one with a length is left to the proxy. `scarce`: its route has a limit of its own.
pub async fn ahead(session: &mut Session, trace: &mut Trace, length: Option<u64>, scarce: bool) -> Result<(), BodyFault> {
    if session.is_body_done() {
        return Ok(());
    }
    let waits =
        session.req_header().headers.get(http::header::EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(CONTINUE));
    if length.is_some_and(|n| n > AHEAD_BYTES_MAX) {
        if scarce {
            return Err(BodyFault::TooLarge);
        }
        // The shop is not asked whether it wants it: nobody else would tell the client to go on.
        if waits {
            session.write_continue_response().await.map_err(|_| BodyFault::Gone)?;
        }
        return Ok(());
    }
    let limits = trace.active.policy.limits_of_a_request;
    session.as_downstream_mut().enable_retry_buffering();
    if waits {
        session.write_continue_response().await.map_err(|_| BodyFault::Gone)?;
    }
    let mut chunks: Vec<Bytes> = Vec::new();
    let mut read = 0u64;
    loop {
        let allowed_ms = allowed_ms(read, limits.body_min_rate.0).min(limits.request_deadline.ms());
        let Some(left_ms) = allowed_ms.checked_sub(trace.age_ms()) else { return Err(BodyFault::TooSlow) };
        let left = Duration::from_millis(left_ms).min(BODY_SILENCE_MAX);
        match timeout(left, session.as_downstream_mut().read_request_body()).await {
            Err(_) => return Err(BodyFault::TooSlow),
            Ok(Ok(None)) => break,
            Ok(Ok(Some(chunk))) => {
                read += chunk.len() as u64;
                chunks.push(chunk);
            }
            Ok(Err(e)) => {
                return Err(match Failure::of(&e.into_down()).status {
                    0 => BodyFault::Gone,
                    408 => BodyFault::TooSlow,
                    _ => BodyFault::Broken,
                });
            }
        }
        if read > limits.body_bytes.0 {
            return Err(BodyFault::TooLarge);
        }
        if session.as_ref().retry_buffer_truncated() {
            break;
        }
    }
    match (session.as_ref().retry_buffer_truncated(), session.is_body_done()) {
        (false, _) => Ok(()),
        (true, _) if scarce => Err(BodyFault::TooLarge),
        // The proxy sends what it remembers or what it reads: here it would have neither.
        (true, true) => Err(BodyFault::NoLength),
        (true, false) => {
            trace.ahead = chunks.concat().into();
            Ok(())
        }
    }
}

/// How long a body may take that has come so far, milliseconds.
fn allowed_ms(bytes: u64, rate_per_s: u64) -> u64 {
    match rate_per_s {
        0 => u64::MAX,
        rate => RATE_GRACE_MS + (bytes + 1).saturating_mul(1_000) / rate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_come_buys_time() {
        assert_eq!(allowed_ms(0, 0), u64::MAX);
        assert_eq!(allowed_ms(0, 1_000), RATE_GRACE_MS + 1);
        assert_eq!(allowed_ms(9_999, 1_000), RATE_GRACE_MS + 10_000);
    }
}
