//! Live pages: one shared frame a second and room, sent to everybody who listens. A page computes its own place and time.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Version, header};
use parking_lot::Mutex;
use pingora::{http::ResponseHeader, proxy::Session};
use tidegate_filters::{Now, Reason, record::Kind as RowKind, seats::room::Room};
use tokio::sync::watch;

use crate::{
    own,
    reply::{self, Answer},
    state::Shared,
    trace::Trace,
};

/// Streams of one place at the same time: tabs of one visitor.
pub const STREAMS_A_PLACE_MAX: u8 = 3;
/// Something is sent this often even when nothing changes: balancers close what is silent, and the visitor stays present.
const BEAT: Duration = Duration::from_secs(15);
/// A client that takes nothing for this long is gone.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// A browser whose stream ended comes back after this long, milliseconds, spread over as much again.
const RETRY_MS: u32 = 3_000;

/// Who listens to which room.
#[derive(Debug, Default)]
pub struct Live {
    rooms: Mutex<HashMap<String, watch::Sender<Bytes>>>,
    open: Mutex<Open>,
    last_s: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    all: u32,
    /// By room and ticket.
    places: HashMap<(usize, u64), u8>,
}

/// One open stream; counts until it is dropped.
#[derive(Debug)]
pub struct Stream {
    live: Arc<Live>,
    key: (usize, u64),
    frames: watch::Receiver<Bytes>,
}

impl Live {
    /// A new stream, unless `max` are open or this place has [`STREAMS_A_PLACE_MAX`] already.
    pub fn listen(self: &Arc<Self>, room: &Room, index: usize, ticket: u64, max: u32, now: Now) -> Option<Stream> {
        let key = (index, ticket);
        let mut open = self.open.lock();
        let here = open.places.get(&key).copied().unwrap_or(0);
        if open.all >= max || here >= STREAMS_A_PLACE_MAX {
            return None;
        }
        open.all += 1;
        open.places.insert(key, here + 1);
        drop(open);
        let mut rooms = self.rooms.lock();
        let sender = rooms.entry(room.name().to_owned()).or_insert_with(|| watch::channel(Bytes::new()).0);
        let frames = sender.subscribe();
        // The first to listen gets what is true now, not what was when the last one left.
        sender.send_replace(frame(room, now));
        Some(Stream { live: self.clone(), key, frames })
    }

    /// Builds the frames of rooms that somebody listens to, once a second.
    pub fn tick(&self, rooms: &[Room], now: Now) {
        if self.last_s.swap(now.mono_s(), Ordering::Relaxed) == now.mono_s() {
            return;
        }
        let mut listened = self.rooms.lock();
        listened.retain(|_, sender| sender.receiver_count() > 0);
        for room in rooms {
            if let Some(sender) = listened.get(room.name()) {
                let new = frame(room, now);
                sender.send_if_modified(|old| {
                    *old != new && {
                        *old = new;
                        true
                    }
                });
            }
        }
    }

    /// Open streams.
    pub fn open(&self) -> u32 {
        self.open.lock().all
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut open = self.live.open.lock();
        open.all = open.all.saturating_sub(1);
        match open.places.get_mut(&self.key) {
            Some(n) if *n > 1 => *n -= 1,
            _ => drop(open.places.remove(&self.key)),
        }
    }
}

fn frame(room: &Room, now: Now) -> Bytes {
    let json = serde_json::to_string(&room.frame(now)).unwrap_or_default();
    format!("data: {json}\n\n").into()
}

/// Answers `events`: the frames of a room for the holder of a place, until the page goes, the request's deadline is over
/// or the gate stops.
pub async fn stream(shared: &Shared, session: &mut Session, trace: &mut Trace) -> pingora::Result<()> {
    trace.own(RowKind::Poll, "own", Reason::Own);
    let active = trace.active.clone();
    let Some(index) = own::room_of_query(trace) else { return refuse(session, trace, 404, "no room has this name").await };
    let Some(room) = active.pipeline.rooms().get(index) else {
        return refuse(session, trace, 404, "no room has this name").await;
    };
    trace.room(index);
    let Some(ticket) = room.ticket_number(&trace.intake.visit(None), shared.clock.now()) else {
        return refuse(session, trace, 404, "only who has a place in this room can listen").await;
    };
    // An entry of a draw has none yet.
    let place = room.place_of(&trace.intake.visit(None), shared.clock.now());
    if let Some(place) = place {
        trace.place(place, false);
    }
    let max = active.policy.connections.streams_max;
    let version = session.req_header().version;
    let stream = (version > Version::HTTP_10).then(|| shared.live.listen(room, index, ticket, max, shared.clock.now()));
    let Some(mut stream) = stream.flatten() else {
        return refuse(session, trace, 503, "no more live pages: poll as `poll_after_s` says").await;
    };
    session.write_response_header(Box::new(head(version)?), false).await?;
    session.set_write_timeout(Some(WRITE_MAX));
    let retry_ms = RETRY_MS + (ticket as u32).wrapping_mul(2_654_435_769) % RETRY_MS;
    let mut first = BytesMut::from(format!("retry: {retry_ms}\n\n").as_bytes());
    first.extend_from_slice(&stream.frames.borrow_and_update());
    session.write_response_body(Some(first.freeze()), false).await?;
    let deadline_ms = active.policy.limits_of_a_request.request_deadline.ms();
    while trace.age_ms() < deadline_ms && !shared.is_stopping() {
        let beat = BEAT.as_secs() as u32;
        if let Some(place) = place {
            room.touch(place, beat, shared.clock.now());
        }
        let changed = tokio::time::timeout(BEAT, stream.frames.changed()).await;
        let bytes = match changed {
            Ok(Ok(())) => stream.frames.borrow_and_update().clone(),
            Ok(Err(_)) => break,
            Err(_) => Bytes::from_static(b":\n\n"),
        };
        session.write_response_body(Some(bytes), false).await?;
    }
    session.write_response_body(None, true).await
}

fn head(version: Version) -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build(200, Some(8))?;
    head.insert_header(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")?;
    head.insert_header(header::CACHE_CONTROL, "no-store, private")?;
    head.insert_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")?;
    // Proxies in front must not wait for more.
    head.insert_header("x-accel-buffering", "no")?;
    head.insert_header("tidegate-verdict", "own")?;
    head.insert_header("tidegate-reason", Reason::Own.code())?;
    if version == Version::HTTP_11 {
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(head)
}

async fn refuse(session: &mut Session, trace: &Trace, status: u16, why: &str) -> pingora::Result<()> {
    reply::send(session, trace, Answer::problem(status, "own", Reason::Own.code(), why)).await
}
