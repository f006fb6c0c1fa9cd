//! The limit on requests in flight to the shop, and the short first-come-first-served queue in front of it. Nobody has more
//! than a share of it: one visitor with many slow connections must not keep everybody else out.
//!
//! A permit comes back when it is dropped: on every path, also when the client leaves while it waits.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Most permits of one owner, and most requests of it that wait: what a browser opens to one host.
pub const OWNER_MAX: u32 = 6;

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
}

impl Permit {
    /// The request waits for its client now (a body that comes, an answer that goes), or it does not any more: such time says
    /// nothing about the shop.
    pub fn waits_for_client(&mut self, yes: bool) {
        if self.idle != yes {
            self.idle = yes;
            let mut inner = self.inner.lock();
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
            if inner.held < inner.limit && inner.may_have(owner) && inner.next_in_line().is_none() {
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
        Permit { inner: this.clone(), owner, idle: false }
    }

    /// Gives free permits to the front of the line. Returns those that nobody took any more: drop them without the lock.
    fn hand_out(this: &Arc<Mutex<Inner>>, inner: &mut Inner) -> Vec<Permit> {
        let mut refused = Vec::new();
        while inner.held < inner.limit
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn first_come_first_served() {
        let limit = Arc::new(InFlight::new(1, 10));
        let first = limit.acquire(None, LONG).await.unwrap();
        let (tx, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = vec![];
        for i in 0..5 {
            let (limit2, tx) = (limit.clone(), tx.clone());
            tasks.push(tokio::spawn(async move {
                let permit = limit2.acquire(None, LONG).await.unwrap();
                tx.send(i).unwrap();
                drop(permit);
            }));
            while limit.observe().waiting != i + 1 {
                tokio::task::yield_now().await;
            }
        }
        drop(first);
        for i in 0..5 {
            assert_eq!(order.recv().await, Some(i));
        }
        for t in tasks {
            t.await.unwrap();
        }
        assert_eq!(limit.observe().held, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_and_the_wait_are_bounded() {
        let limit = Arc::new(InFlight::new(1, 1));
        let held = limit.acquire(None, LONG).await.unwrap();
        let l = limit.clone();
        let waiter = tokio::spawn(async move { l.acquire(None, Duration::from_millis(500)).await.map(drop) });
        while limit.observe().waiting != 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(limit.acquire(None, LONG).await.map(drop), Err(Busy::QueueFull));
        assert_eq!(waiter.await.unwrap(), Err(Busy::TooSlow));
        let seen = limit.observe();
        assert!(seen.bound && seen.refused == 2, "one found the queue full, one waited in vain: {seen:?}");
        drop(held);
        assert_eq!((limit.observe().held, limit.observe().refused), (0, 0));
        assert!(!limit.observe().bound);
    }

    #[tokio::test]
    async fn who_leaves_while_waiting_costs_nobody_a_turn() {
        let limit = Arc::new(InFlight::new(1, 2));
        let held = limit.acquire(None, LONG).await.unwrap();
        let l = limit.clone();
        let leaver = tokio::spawn(async move { l.acquire(None, LONG).await.map(drop) });
        while limit.observe().waiting != 1 {
            tokio::task::yield_now().await;
        }
        let l = limit.clone();
        let stayer = tokio::spawn(async move { l.acquire(None, LONG).await });
        while limit.observe().waiting != 2 {
            tokio::task::yield_now().await;
        }
        leaver.abort();
        assert!(leaver.await.is_err());
        drop(held);
        let permit = stayer.await.unwrap().unwrap();
        assert_eq!(limit.observe().held, 1);
        drop(permit);
        assert_eq!(limit.observe(), Observed { limit: 1, peak: 1, bound: false, held: 0, waiting: 0, refused: 0 });
    }

    #[tokio::test]
    async fn a_permit_sent_to_somebody_who_left_goes_on() {
        let limit = InFlight::new(1, 2);
        let held = limit.acquire(None, LONG).await.unwrap();
        let mut waiter = Box::pin(limit.acquire(None, LONG));
        assert!(futures_poll(&mut waiter).is_none());
        drop(held);
        // The permit lies in the channel; the waiter goes away without looking.
        drop(waiter);
        assert_eq!(limit.observe().held, 0);
        assert!(limit.acquire(None, LONG).await.is_ok());
    }

    #[tokio::test]
    async fn a_higher_limit_lets_waiters_in_and_a_lower_one_takes_nothing_back() {
        let limit = Arc::new(InFlight::new(1, 4));
        let a = limit.acquire(None, LONG).await.unwrap();
        let l = limit.clone();
        let b = tokio::spawn(async move { l.acquire(None, LONG).await.unwrap() });
        while limit.observe().waiting != 1 {
            tokio::task::yield_now().await;
        }
        limit.set_limit(2);
        let b = b.await.unwrap();
        limit.set_limit(1);
        assert_eq!(limit.observe().held, 2);
        drop(a);
        assert!(futures_poll(&mut Box::pin(limit.acquire(None, LONG))).is_none(), "still one too many");
        drop(b);
        assert!(limit.acquire(None, LONG).await.is_ok());
    }

    #[tokio::test]
    async fn nobody_has_more_than_a_share_and_others_pass_who_waits_for_himself() {
        let limit = InFlight::new(8, 20);
        let mut mine = vec![];
        for _ in 0..4 {
            mine.push(limit.acquire(Some(7), LONG).await.unwrap());
        }
        let mut fifth = Box::pin(limit.acquire(Some(7), LONG));
        assert!(futures_poll(&mut fifth).is_none(), "half of eight is four");
        let others: Vec<_> = [Some(8), None, None].map(|o| futures_poll(&mut Box::pin(limit.acquire(o, LONG)))).into();
        assert!(others.iter().all(Option::is_some), "there is room, and they may");
        mine.pop();
        let fifth = futures_poll(&mut fifth);
        assert!(fifth.is_some());
        assert_eq!(limit.observe().held, 7, "three of four, the fifth, three others");
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_is_nobodys_own() {
        let limit = InFlight::new(1, 20);
        let _held = limit.acquire(None, LONG).await.unwrap();
        let mut waiting: Vec<_> = (0..OWNER_MAX).map(|_| Box::pin(limit.acquire(Some(7), LONG))).collect();
        assert!(waiting.iter_mut().all(|w| futures_poll(w).is_none()));
        assert_eq!(limit.acquire(Some(7), LONG).await.map(drop), Err(Busy::OwnQueueFull));
        assert!(futures_poll(&mut Box::pin(limit.acquire(Some(8), LONG))).is_none(), "others may wait");
    }

    #[tokio::test]
    async fn who_waits_for_slow_clients_is_not_held_by_the_shop() {
        let limit = InFlight::new(4, 20);
        let mut held = vec![];
        for _ in 0..4 {
            held.push(limit.acquire(None, LONG).await.unwrap());
        }
        held.iter_mut().for_each(|p| p.waits_for_client(true));
        limit.observe();
        assert!(futures_poll(&mut Box::pin(limit.acquire(None, LONG))).is_none());
        let seen = limit.observe();
        assert_eq!((seen.held, seen.peak, seen.bound), (4, 0, false));
        held.iter_mut().for_each(|p| p.waits_for_client(false));
        assert!(futures_poll(&mut Box::pin(limit.acquire(None, LONG))).is_none());
        let seen = limit.observe();
        assert_eq!((seen.peak, seen.bound), (4, true));
    }

    fn futures_poll<F: Future + Unpin>(f: &mut F) -> Option<F::Output> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(f).poll(&mut cx) {
            std::task::Poll::Ready(v) => Some(v),
            std::task::Poll::Pending => None,
        }
    }
}
