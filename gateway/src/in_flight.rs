//! The limit on requests in flight to the shop, and the short first-come-first-served queue in front of it.
//!
//! A permit comes back when it is dropped: on every path, also when the client leaves while it waits.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::oneshot;

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
    /// In order of arrival. A waiter that gave up is found by its closed channel.
    waiting: VecDeque<oneshot::Sender<Permit>>,
    peak: u32,
    bound: bool,
}

/// The right to have one request at the shop.
#[derive(Debug)]
pub struct Permit {
    inner: Arc<Mutex<Inner>>,
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// The queue is full.
    QueueFull,
    /// Waited as long as the policy allows.
    TooSlow,
}

/// What happened since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The limit now.
    pub limit: u32,
    /// Most permits held at the same time.
    pub peak: u32,
    /// Somebody had to wait or was turned away.
    pub bound: bool,
    /// Permits held now.
    pub held: u32,
    /// Requests waiting now.
    pub waiting: u32,
}

impl InFlight {
    /// `limit` permits, `queue_max` waiters.
    pub fn new(limit: u32, queue_max: u32) -> Self {
        let inner = Inner { limit: limit.max(1), queue_max, held: 0, waiting: VecDeque::new(), peak: 0, bound: false };
        InFlight { inner: Arc::new(Mutex::new(inner)) }
    }

    /// A permit, at once or after waiting in line for at most `wait_max`.
    pub async fn acquire(&self, wait_max: Duration) -> Result<Permit, Busy> {
        let turn = {
            let mut inner = self.inner.lock();
            if inner.held < inner.limit && inner.nobody_waits() {
                inner.take();
                return Ok(Permit { inner: self.inner.clone() });
            }
            inner.bound = true;
            if inner.waiting.len() >= inner.queue_max as usize {
                inner.waiting.retain(|w| !w.is_closed());
                if inner.waiting.len() >= inner.queue_max as usize {
                    return Err(Busy::QueueFull);
                }
            }
            let (tx, rx) = oneshot::channel();
            inner.waiting.push_back(tx);
            rx
        };
        // When this future is dropped the receiver goes with it; a permit already inside is returned by its own drop.
        match tokio::time::timeout(wait_max, turn).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Busy::TooSlow),
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
        inner.waiting.retain(|w| !w.is_closed());
        let seen = Observed {
            limit: inner.limit,
            peak: inner.peak.max(inner.held),
            bound: inner.bound,
            held: inner.held,
            waiting: inner.waiting.len() as u32,
        };
        inner.peak = inner.held;
        inner.bound = !inner.waiting.is_empty();
        seen
    }
}

impl Inner {
    fn nobody_waits(&mut self) -> bool {
        while self.waiting.front().is_some_and(oneshot::Sender::is_closed) {
            self.waiting.pop_front();
        }
        self.waiting.is_empty()
    }

    fn take(&mut self) {
        self.held += 1;
        self.peak = self.peak.max(self.held);
    }

    /// Gives free permits to the front of the line. Returns those that nobody took any more: drop them without the lock.
    fn hand_out(this: &Arc<Mutex<Inner>>, inner: &mut Inner) -> Vec<Permit> {
        let mut refused = Vec::new();
        while inner.held < inner.limit {
            let Some(next) = inner.waiting.pop_front() else { break };
            if next.is_closed() {
                continue;
            }
            inner.take();
            if let Err(permit) = next.send(Permit { inner: this.clone() }) {
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
        let first = limit.acquire(LONG).await.unwrap();
        let (tx, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = vec![];
        for i in 0..5 {
            let (limit2, tx) = (limit.clone(), tx.clone());
            tasks.push(tokio::spawn(async move {
                let permit = limit2.acquire(LONG).await.unwrap();
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
        let held = limit.acquire(LONG).await.unwrap();
        let l = limit.clone();
        let waiter = tokio::spawn(async move { l.acquire(Duration::from_millis(500)).await.map(drop) });
        while limit.observe().waiting != 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(limit.acquire(LONG).await.map(drop), Err(Busy::QueueFull));
        assert_eq!(waiter.await.unwrap(), Err(Busy::TooSlow));
        assert!(limit.observe().bound);
        drop(held);
        assert_eq!(limit.observe().held, 0);
        assert!(!limit.observe().bound);
    }

    #[tokio::test]
    async fn who_leaves_while_waiting_costs_nobody_a_turn() {
        let limit = Arc::new(InFlight::new(1, 2));
        let held = limit.acquire(LONG).await.unwrap();
        let l = limit.clone();
        let leaver = tokio::spawn(async move { l.acquire(LONG).await.map(drop) });
        while limit.observe().waiting != 1 {
            tokio::task::yield_now().await;
        }
        let l = limit.clone();
        let stayer = tokio::spawn(async move { l.acquire(LONG).await });
        while limit.observe().waiting != 2 {
            tokio::task::yield_now().await;
        }
        leaver.abort();
        assert!(leaver.await.is_err());
        drop(held);
        let permit = stayer.await.unwrap().unwrap();
        assert_eq!(limit.observe().held, 1);
        drop(permit);
        assert_eq!(limit.observe(), Observed { limit: 1, peak: 1, bound: false, held: 0, waiting: 0 });
    }

    #[tokio::test]
    async fn a_permit_sent_to_somebody_who_left_goes_on() {
        let limit = InFlight::new(1, 2);
        let held = limit.acquire(LONG).await.unwrap();
        let mut waiter = Box::pin(limit.acquire(LONG));
        assert!(futures_poll(&mut waiter).is_none());
        drop(held);
        // The permit lies in the channel; the waiter goes away without looking.
        drop(waiter);
        assert_eq!(limit.observe().held, 0);
        assert!(limit.acquire(LONG).await.is_ok());
    }

    #[tokio::test]
    async fn a_higher_limit_lets_waiters_in_and_a_lower_one_takes_nothing_back() {
        let limit = Arc::new(InFlight::new(1, 4));
        let a = limit.acquire(LONG).await.unwrap();
        let l = limit.clone();
        let b = tokio::spawn(async move { l.acquire(LONG).await.unwrap() });
        while limit.observe().waiting != 1 {
            tokio::task::yield_now().await;
        }
        limit.set_limit(2);
        let b = b.await.unwrap();
        limit.set_limit(1);
        assert_eq!(limit.observe().held, 2);
        drop(a);
        assert!(futures_poll(&mut Box::pin(limit.acquire(LONG))).is_none(), "still one too many");
        drop(b);
        assert!(limit.acquire(LONG).await.is_ok());
    }

    fn futures_poll<F: Future + Unpin>(f: &mut F) -> Option<F::Output> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(f).poll(&mut cx) {
            std::task::Poll::Ready(v) => Some(v),
            std::task::Poll::Pending => None,
        }
    }
}
