//! The limit on requests in flight to the shop, and the short first-come-first-served queue in front of it. Nobody has more
//! than a share of it: one visitor with many slow connections must not keep everybody else out.
//!
//! A permit comes back when it is dropped: on every path, also when the client leaves while it waits.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Most permits of one owner, and most requests of it that wait: what a browser opens to one host.
pub const OWNER_MAX: u32 = 6;
/// An answer that is on its way to its client for so long is a stream or a slow reader's: the shop has long begun it, and it no
/// longer keeps others out, milliseconds.
const LONG_AFTER_MS: u64 = 1_000;
/// As many of these there may be beyond the limit.
pub const LONG_MAX: u32 = 256;

/// A limiter. Its bounds can be changed while requests hold permits or wait.
#[derive(Debug)]
pub struct InFlight {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    limit: u32,
    queue_max: u32,
    held: u32,
    /// Held permits whose request waits for its client, not for the shop.
    idle: u32,
    /// Permits of answers that are on their way: since when, and whether for long.
    delivering: BTreeMap<u64, (u64, bool)>,
    /// How many of them for long.
    long: u32,
    next_id: u64,
    /// Held permits by owner.
    owners: HashMap<u64, u32>,
    /// In order of arrival. A waiter that gave up is found by its closed channel.
    waiting: VecDeque<Waiter>,
    peak: u32,
    bound: bool,
    refused: u32,
}

#[derive(Debug)]
struct Waiter {
    owner: Option<u64>,
    turn: oneshot::Sender<Permit>,
}

/// The right to have one request at the shop.
#[derive(Debug)]
pub struct Permit {
    inner: Arc<Mutex<Inner>>,
    owner: Option<u64>,
    idle: bool,
    id: u64,
}

impl Permit {
    /// The answer has begun: what is left is the way to the client.
    pub fn delivers(&mut self, now_ms: u64) {
        let inner = self.inner.clone();
        let mut inner = inner.lock();
        self.set_idle(&mut inner, true);
        inner.delivering.entry(self.id).or_insert((now_ms, false));
    }

    /// The request waits for its client now (a body that comes, an answer that goes), or it does not any more: such time says
    /// nothing about the shop.
    pub fn waits_for_client(&mut self, yes: bool) {
        let inner = self.inner.clone();
        self.set_idle(&mut inner.lock(), yes);
    }

    fn set_idle(&mut self, inner: &mut Inner, yes: bool) {
        if self.idle != yes {
            self.idle = yes;
            inner.idle = if yes { inner.idle + 1 } else { inner.idle - 1 };
            inner.peak = inner.peak.max(inner.working());
        }
    }
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// The queue is full.
    QueueFull,
    /// Waited as long as the policy allows.
    TooSlow,
    /// The owner waits with too many requests already.
    OwnQueueFull,
}

/// What happened since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The limit now.
    pub limit: u32,
    /// Most requests the shop worked on at the same time.
    pub peak: u32,
    /// Somebody had to wait or was turned away, while the shop worked on about as many as it may.
    pub bound: bool,
    /// Permits held now.
    pub held: u32,
    /// Requests waiting now.
    pub waiting: u32,
    /// Requests that got no permit because the shop is full, since the last look.
    pub refused: u32,
}

impl InFlight {
    /// `limit` permits, `queue_max` waiters.
    pub fn new(limit: u32, queue_max: u32) -> Self {
        let inner = Inner {
            limit: limit.max(1),
            queue_max,
            held: 0,
            idle: 0,
            delivering: BTreeMap::new(),
            long: 0,
            next_id: 0,
            owners: HashMap::new(),
            waiting: VecDeque::new(),
            peak: 0,
            bound: false,
            refused: 0,
        };
        InFlight { inner: Arc::new(Mutex::new(inner)) }
    }

    /// A permit, at once or after waiting in line for at most `wait_max`. An `owner` has no more than its share at the same
    /// time; its further requests wait for its earlier ones, and others pass them.
    pub async fn acquire(&self, owner: Option<u64>, wait_max: Duration) -> Result<Permit, Busy> {
        let turn = {
            let mut inner = self.inner.lock();
            if inner.has_room() && inner.may_have(owner) && inner.next_in_line().is_none() {
                return Ok(Inner::take(&self.inner, &mut inner, owner));
            }
            inner.bound |= inner.is_busy();
            inner.waiting.retain(|w| !w.turn.is_closed());
            if inner.waiting.len() >= inner.queue_max as usize {
                inner.refused = inner.refused.saturating_add(1);
                return Err(Busy::QueueFull);
            }
            if owner.is_some() && inner.waiting.iter().filter(|w| w.owner == owner).count() >= OWNER_MAX as usize {
                return Err(Busy::OwnQueueFull);
            }
            let (turn, rx) = oneshot::channel();
            inner.waiting.push_back(Waiter { owner, turn });
            rx
        };
        // When this future is dropped the receiver goes with it; a permit already inside is returned by its own drop.
        match tokio::time::timeout(wait_max, turn).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                let mut inner = self.inner.lock();
                inner.refused = inner.refused.saturating_add(1);
                Err(Busy::TooSlow)
            }
        }
    }

    /// Changes the limit: permits already held stay good, waiters move up at once.
    pub fn set_limit(&self, limit: u32) {
        let mut inner = self.inner.lock();
        inner.limit = limit.max(1);
        let woken = Inner::hand_out(&self.inner, &mut inner);
        drop(inner);
        drop(woken);
    }

    /// Looks for answers that take long, and lets others pass them. Ten times a second.
    pub fn tick(&self, now_ms: u64) {
        let mut inner = self.inner.lock();
        let mut found = 0;
        for (since_ms, long) in inner.delivering.values_mut().filter(|(_, long)| !long) {
            if now_ms >= *since_ms + LONG_AFTER_MS {
                (*long, found) = (true, found + 1);
            }
        }
        if found > 0 {
            inner.long += found;
            let woken = Inner::hand_out(&self.inner, &mut inner);
            drop(inner);
            drop(woken);
        }
    }

    /// Changes the length of the queue.
    pub fn set_queue(&self, queue_max: u32) {
        self.inner.lock().queue_max = queue_max;
    }

    /// What happened since the last call of this.
    pub fn observe(&self) -> Observed {
        let mut inner = self.inner.lock();
        inner.waiting.retain(|w| !w.turn.is_closed());
        let seen = Observed {
            limit: inner.limit,
            peak: inner.peak.max(inner.working()),
            bound: inner.bound,
            held: inner.held,
            waiting: inner.waiting.len() as u32,
            refused: std::mem::take(&mut inner.refused),
        };
        inner.peak = inner.working();
        inner.bound = !inner.waiting.is_empty() && inner.is_busy();
        seen
    }
}

impl Inner {
    /// Streams and slow readers take no room, up to [`LONG_MAX`] of them.
    fn has_room(&self) -> bool {
        self.held - self.long.min(LONG_MAX) < self.limit
    }

    /// Requests that the shop works on.
    fn working(&self) -> u32 {
        self.held - self.idle
    }

    /// The shop works on about as many as it may: who waits now waits for the shop, not for slow clients.
    fn is_busy(&self) -> bool {
        u64::from(self.working()) * 4 >= u64::from(self.limit) * 3
    }

    /// Below its share: half of all permits, at most [`OWNER_MAX`].
    fn may_have(&self, owner: Option<u64>) -> bool {
        let share = (self.limit / 2).clamp(1, OWNER_MAX);
        owner.is_none_or(|o| self.owners.get(&o).is_none_or(|held| *held < share))
    }

    /// The first who waits, is still there and may have one.
    fn next_in_line(&self) -> Option<usize> {
        self.waiting.iter().position(|w| !w.turn.is_closed() && self.may_have(w.owner))
    }

    fn take(this: &Arc<Mutex<Inner>>, inner: &mut Inner, owner: Option<u64>) -> Permit {
        inner.held += 1;
        inner.peak = inner.peak.max(inner.working());
        if let Some(owner) = owner {
            *inner.owners.entry(owner).or_default() += 1;
        }
        inner.next_id += 1;
        Permit { inner: this.clone(), owner, idle: false, id: inner.next_id }
    }

    /// Gives free permits to the front of the line. Returns those that nobody took any more: drop them without the lock.
    fn hand_out(this: &Arc<Mutex<Inner>>, inner: &mut Inner) -> Vec<Permit> {
        let mut refused = Vec::new();
        while inner.has_room()
            && let Some(next) = inner.next_in_line().and_then(|i| inner.waiting.remove(i))
        {
            let permit = Inner::take(this, inner, next.owner);
            if let Err(permit) = next.turn.send(permit) {
                refused.push(permit);
            }
        }
        refused
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let refused = {
            let mut inner = self.inner.lock();
            inner.held -= 1;
            inner.idle -= u32::from(self.idle);
            let was_long = inner.delivering.remove(&self.id).is_some_and(|d| d.1);
            inner.long -= u32::from(was_long);
            if let Some(owner) = self.owner
                && let Some(held) = inner.owners.get_mut(&owner)
            {
                *held -= 1;
                if *held == 0 {
                    inner.owners.remove(&owner);
                }
            }
            Inner::hand_out(&self.inner, &mut inner)
        };
        // Each of these drops takes the lock again and serves the next in line; the line gets shorter every time.
        drop(refused);
    }
}

#[cfg(test)]
#[path = "in_flight_tests.rs"]
mod tests;
