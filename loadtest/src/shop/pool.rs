//! The pool of database connections: what limits the shop. First come, first served, with a bounded wait, and slower the
//! more requests wait (lock convoy).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{ShopSettings, store::Store};

/// No connection for this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Busy {
    /// Too many wait already: 503 at once.
    Full,
    /// None came free in time: 500.
    TooLong,
}

#[derive(Debug)]
pub(super) struct Pool {
    free: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    waiting: AtomicU32,
    waiting_max: u32,
    waiting_peak: AtomicU32,
    wait: Duration,
    thrash: f64,
    turned_away: AtomicU64,
    timed_out: AtomicU64,
}

/// A connection, lent. Goes back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    connection: Option<Connection>,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn open(store: &Store, settings: &ShopSettings) -> rusqlite::Result<Self> {
        let free = (0..settings.pool).map(|_| store.connect()).collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(Pool {
            permits: Arc::new(Semaphore::new(free.len())),
            free: Mutex::new(free),
            waiting: AtomicU32::new(0),
            waiting_max: settings.waiting_max,
            waiting_peak: AtomicU32::new(0),
            wait: Duration::from_millis(settings.pool_wait.ms()),
            thrash: settings.thrash.max(0.0),
            turned_away: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
        })
    }

    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, Busy> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(self.lend(permit));
        }
        if self.waiting.load(Relaxed) >= self.waiting_max {
            self.turned_away.fetch_add(1, Relaxed);
            return Err(Busy::Full);
        }
        let _waiting = Waiting::new(self);
        match tokio::time::timeout(self.wait, self.permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(self.lend(permit)),
            Ok(Err(_)) | Err(_) => {
                self.timed_out.fetch_add(1, Relaxed);
                Err(Busy::TooLong)
            }
        }
    }

    /// How much longer work takes now: `1 + thrash × waiting`.
    pub(super) fn slowdown(&self) -> f64 {
        1.0 + self.thrash * f64::from(self.waiting.load(Relaxed))
    }

    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Relaxed)
    }

    pub(super) fn timed_out(&self) -> u64 {
        self.timed_out.load(Relaxed)
    }

    pub(super) fn waiting_peak(&self) -> u32 {
        self.waiting_peak.load(Relaxed)
    }

    fn lend(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Lease {
        let connection = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Lease { connection, pool: self.clone(), _permit: permit }
    }
}

impl Lease {
    /// Runs SQL where blocking is allowed.
    pub(super) async fn sql<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> rusqlite::Result<T> {
        let Some(mut connection) = self.connection.take() else { return Err(rusqlite::Error::InvalidQuery) };
        let joined = tokio::task::spawn_blocking(move || {
            let result = job(&mut connection);
            (connection, result)
        });
        // A panic in `job` loses the connection, as it would in the shop that this one stands for.
        let (connection, result) = joined.await.map_err(|_| rusqlite::Error::InvalidQuery)?;
        self.connection = Some(connection);
        result
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(c) = self.connection.take() {
            self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(c);
        }
    }
}

/// Counts a request as waiting for as long as it lives.
struct Waiting<'a>(&'a Pool);

impl<'a> Waiting<'a> {
    fn new(pool: &'a Pool) -> Self {
        let now = pool.waiting.fetch_add(1, Relaxed) + 1;
        pool.waiting_peak.fetch_max(now, Relaxed);
        Waiting(pool)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}
