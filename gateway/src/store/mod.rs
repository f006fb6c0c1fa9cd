//! What must outlive the process: key/value tables, written in groups.
//!
//! A caller fills a [`Batch`], hands it to [`Store::commit`] and, where an answer depends on it, awaits
//! [`Commit::durable`]. All of a batch is durable or nothing, batches in the order they were handed over. `commit` never
//! waits; many batches share one fsync.
//!
//! **When it fails.** `durable` answers within the call budget. An `Err` means *not known to be durable*: the batch may be
//! on the disk all the same ([`StoreError::Late`] ones usually are, in order). So undo in memory, and let a later batch
//! write the same keys as they are then. A failure also begins a new [term](Store::term): everything queued is refused, so
//! that nothing is ever written on top of something that is missing. Who keeps state that hangs together puts the term it
//! last saw into its batches ([`Batch::of_term`]) and, when that is over, writes all of it anew; independent records
//! (a draw entry, a hold) need no term.
//!
//! A shared store for several gates implements the same trait later.

mod file;
mod holds;
mod local;
mod memory;
mod rooms;
mod time;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use thiserror::Error;
use tidegate_config::State;
use tokio::{sync::oneshot, time::Instant};

pub use holds::Holds;
pub use local::Local;
pub use memory::Memory;
pub use rooms::{Rooms, Why, Written};
pub use time::{TIME_EVERY_MS, keep_time, kept_time};

/// Longest key, with its table's names, bytes.
pub const KEY_BYTES_MAX: usize = 1 << 10;
/// Longest value, bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Largest batch, bytes of keys and values.
pub const BATCH_BYTES_MAX: usize = 80 << 20;

/// One kind of record of one room or sale. Both are names without a zero byte; a kind is named in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table<'a> {
    /// What it holds, such as `seats`.
    pub kind: &'static str,
    /// Whose: the name of a room or sale; empty for the gate.
    pub of: &'a str,
}

/// Changes that become durable together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    changes: Vec<Change>,
    bytes: usize,
    term: Option<u64>,
    mark: Option<(Arc<AtomicU64>, u64)>,
}

#[derive(Clone, Debug)]
enum Change {
    Put(Box<[u8]>, Box<[u8]>),
    Delete(Box<[u8]>),
    /// Everything that begins with it.
    Clear(Box<[u8]>),
}

/// Why a batch is not known to be durable, or why there is no store.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// The disk is full, read-only or broken; the store tries again by itself.
    #[error("the disk refused to keep the state: {0}")]
    Refused(Arc<str>),
    /// The call budget ran out; the batch may become durable all the same.
    #[error("the disk did not answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// Too much is waiting for the disk.
    #[error("too much waits for the disk")]
    Full,
    /// Its term is over: something before it failed.
    #[error("something written before it failed")]
    TermOver,
    /// A key, value or batch over the limits of this module.
    #[error("{0} bytes are too many for one record or batch")]
    TooLarge(usize),
    /// The gate is stopping.
    #[error("the store is closed")]
    Closed,
    /// At the start.
    #[error("cannot use {path}: {why}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
}

/// What a store has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Batches that became durable.
    pub batches: u64,
    /// Groups of them, each with one fsync.
    pub groups: u64,
    /// Calls to fsync.
    pub fsyncs: u64,
    /// Bytes of keys and values that became durable.
    pub bytes: u64,
    /// Groups that failed.
    pub failures: u64,
    /// Milliseconds spent on groups.
    pub busy_ms: u64,
}

/// Durable tables.
pub trait Store: fmt::Debug + Send + Sync {
    /// Hands a batch over. Never waits.
    fn commit(&self, batch: Batch) -> Commit;

    /// Calls `each` with every key and value of a table, in the order of keys. Waits for the disk: for the start.
    fn scan(&self, table: Table<'_>, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError>;

    /// Counts failures: a batch of an older term is refused.
    fn term(&self) -> u64;

    /// Why it does not work now, in words: it refuses, or takes longer than the call budget. `None`: all is well.
    fn trouble(&self) -> Option<Arc<str>>;

    /// Whether anything outlives the process. `false`: nobody needs to fill batches.
    fn keeps(&self) -> bool;

    /// Writes what was handed over and lets go of the disk; later batches are refused.
    fn close(&self);

    /// What it has done so far.
    fn counts(&self) -> StoreCounts;
}

/// The store a policy asks for: [`Local`], or [`Memory`] without `state`.
pub fn open(state: Option<&State>) -> Result<Arc<dyn Store>, StoreError> {
    match state {
        Some(state) => Ok(Arc::new(Local::open(&state.directory, Duration::from_millis(state.budget.ms()))?)),
        None => Ok(Arc::new(Memory)),
    }
}

impl Batch {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refused when something failed since [`Store::term`] said `term`.
    pub fn of_term(term: u64) -> Self {
        Batch { term: Some(term), ..Self::default() }
    }

    /// Writes a record over what was there.
    pub fn put(&mut self, table: Table<'_>, key: &[u8], value: impl Into<Box<[u8]>>) {
        let (key, value) = (table.key(key), value.into());
        self.bytes += key.len() + value.len();
        self.changes.push(Change::Put(key, value));
    }

    /// Removes a record.
    pub fn delete(&mut self, table: Table<'_>, key: &[u8]) {
        let key = table.key(key);
        self.bytes += key.len();
        self.changes.push(Change::Delete(key));
    }

    /// Removes all records of a table.
    pub fn clear(&mut self, table: Table<'_>) {
        let prefix = table.key(&[]);
        self.bytes += prefix.len();
        self.changes.push(Change::Clear(prefix));
    }

    /// The term it was made in, where that matters.
    pub fn term(&self) -> Option<u64> {
        self.term
    }

    /// Raises `mark` to `number` once it is durable: for who does not wait and wants to know later.
    #[must_use]
    pub fn marked(self, mark: &Arc<AtomicU64>, number: u64) -> Self {
        Batch { mark: Some((mark.clone(), number)), ..self }
    }

    /// It is durable: told to who wanted to know.
    fn told(&self) {
        if let Some((mark, number)) = &self.mark {
            mark.fetch_max(*number, Ordering::AcqRel);
        }
    }

    /// The same changes, in another term or in any: for stores that stand in front of another.
    #[must_use]
    pub fn in_term(self, term: Option<u64>) -> Self {
        Batch { term, ..self }
    }

    /// Holds no change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Within the limits of this module.
    fn check(&self) -> Result<(), StoreError> {
        let too_large = |c: &Change| match c {
            Change::Put(k, v) => (k.len() > KEY_BYTES_MAX || v.len() > VALUE_BYTES_MAX).then_some(k.len() + v.len()),
            Change::Delete(k) | Change::Clear(k) => (k.len() > KEY_BYTES_MAX).then_some(k.len()),
        };
        match self.changes.iter().find_map(too_large) {
            Some(n) => Err(StoreError::TooLarge(n)),
            None if self.bytes > BATCH_BYTES_MAX => Err(StoreError::TooLarge(self.bytes)),
            None => Ok(()),
        }
    }
}

impl Table<'_> {
    /// `kind 0 of 0 key`: names hold no zero byte, so no table's records lie among another's.
    fn key(self, key: &[u8]) -> Box<[u8]> {
        let mut out = Vec::with_capacity(self.kind.len() + self.of.len() + key.len() + 2);
        for name in [self.kind, self.of] {
            out.extend(name.bytes().filter(|b| *b != 0));
            out.push(0);
        }
        out.extend_from_slice(key);
        out.into()
    }
}

/// A batch on its way.
#[derive(Debug)]
pub struct Commit(Answer);

#[derive(Debug)]
enum Answer {
    Now(Result<(), StoreError>),
    Later { answer: oneshot::Receiver<Result<(), StoreError>>, budget: Duration, deadline: Instant },
}

impl Commit {
    /// Decided already.
    pub fn now(result: Result<(), StoreError>) -> Self {
        Commit(Answer::Now(result))
    }

    /// Decided by `answer`; the call budget counts from here.
    pub fn later(answer: oneshot::Receiver<Result<(), StoreError>>, budget: Duration) -> Self {
        Commit(Answer::Later { answer, budget, deadline: Instant::now() + budget })
    }

    /// [`Commit::durable`], for a thread that may wait; not for one that answers visits.
    pub fn wait(self) -> Result<(), StoreError> {
        match self.0 {
            Answer::Now(result) => result,
            later => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                runtime.map_err(|e| StoreError::Refused(e.to_string().into()))?.block_on(Commit(later).durable())
            }
        }
    }

    /// `Ok` once it is durable; an error at the latest when the call budget is used up.
    pub async fn durable(self) -> Result<(), StoreError> {
        match self.0 {
            Answer::Now(result) => result,
            Answer::Later { answer, budget, deadline } => match tokio::time::timeout_at(deadline, answer).await {
                Ok(result) => result.unwrap_or(Err(StoreError::Closed)),
                Err(_) => Err(StoreError::Late(budget)),
            },
        }
    }
}
