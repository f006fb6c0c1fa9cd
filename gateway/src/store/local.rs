//! The store of one gate: an embedded database in a directory, one thread that writes, one fsync for all that waits.

use std::{
    fmt, iter,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use redb::{Database, DatabaseError, Durability, ReadableDatabase as _, TableDefinition};
use tokio::sync::oneshot;

use super::{Batch, Change, Commit, Store, StoreCounts, StoreError, Table, file};
use crate::clock::Clock;

/// The one file in the directory.
const FILE: &str = "state.redb";
/// Batches that may wait for the disk.
const QUEUE_BATCHES: usize = 16_384;
/// Bytes that may wait for the disk.
const QUEUE_BYTES: usize = 128 << 20;
/// Batches written with one fsync at most: bounds how long the first of them waits for the others.
const GROUP_BATCHES: usize = 4_096;
/// A disk that refused is tried again this often.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Whether the file is still under its name is looked at this often.
const LOOK_EVERY_MS: u64 = 1_000;
/// And complained about this seldom.
const COMPLAIN_EVERY_MS: u64 = 60_000;

/// All tables of ours are one table of the database, told apart by the beginnings of their keys.
const RECORDS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("tidegate/1");
/// A record that is written to see whether the disk works again.
const PROBE: Table<'static> = Table { kind: "probe", of: "" };

/// Who opened it last: a random number of each start.
const OWNER: Table<'static> = Table { kind: "owner", of: "" };

/// The store of one gate.
pub struct Local {
    inner: Arc<Inner>,
    queue: RwLock<Option<SyncSender<Job>>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

struct Inner {
    db: RwLock<Option<Database>>,
    budget: Duration,
    clock: Clock,
    term: AtomicU64,
    trouble: RwLock<Option<Arc<str>>>,
    /// When the group that is being written began, ms of the clock + 1; 0 between groups.
    writing_since_ms: AtomicU64,
    queued_bytes: AtomicU64,
    fsyncs: Arc<AtomicU64>,
    counts: [AtomicU64; 5],
}

const BATCHES: usize = 0;
const GROUPS: usize = 1;
const BYTES: usize = 2;
const FAILURES: usize = 3;
const BUSY_MS: usize = 4;

struct Job {
    batch: Batch,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

type Opener = Box<dyn Fn(Arc<AtomicU64>) -> Result<Database, DatabaseError> + Send>;

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local({:?})", self.counts())
    }
}

impl Local {
    /// Opens the database of a directory, mends it after a crash, and starts its writer.
    pub fn open(directory: &Path, budget: Duration) -> Result<Local, StoreError> {
        let path = directory.join(FILE);
        let fail = |why: String| StoreError::Open { path: path.clone(), why };
        file::make(&path).map_err(|e| fail(format!("{e}; the user that runs tidegate must be able to write there")))?;
        let opener: Opener = Box::new({
            let path = path.clone();
            move |fsyncs| file::open(&path, fsyncs)
        });
        Self::start(opener, Some(path.clone()), budget).map_err(|e| fail(advice(&e)))
    }

    /// `path`: where the file is looked for while it is open.
    fn start(opener: Opener, path: Option<PathBuf>, budget: Duration) -> Result<Local, DatabaseError> {
        let fsyncs = Arc::new(AtomicU64::new(0));
        let db = opener(fsyncs.clone())?;
        let inner = Arc::new(Inner {
            db: RwLock::new(Some(db)),
            budget,
            clock: Clock::new(),
            term: AtomicU64::new(0),
            trouble: RwLock::new(None),
            writing_since_ms: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            fsyncs,
            counts: Default::default(),
        });
        // So that the table is there to be scanned, and the file known again.
        let owner = getrandom::u64().map_err(|e| DatabaseError::from(std::io::Error::other(e.to_string())))?;
        let mut first = Batch::new();
        first.put(OWNER, &[], owner.to_be_bytes());
        inner.write(&[first]).map_err(|e| DatabaseError::from(std::io::Error::other(e.to_string())))?;
        let (queue, jobs) = sync_channel(QUEUE_BATCHES);
        let file =
            path.map(|path| Ok::<_, std::io::Error>((file::identity(&path)?, path))).transpose().map_err(DatabaseError::from)?;
        let writer = Writer { inner: inner.clone(), opener, file, owner, look_at_ms: 0, complain_at_ms: 0 };
        let thread = thread::Builder::new().name("store".into()).spawn(move || writer.run(&jobs))?;
        Ok(Local { inner, queue: RwLock::new(Some(queue)), thread: Mutex::new(Some(thread)) })
    }
}

impl Store for Local {
    fn commit(&self, batch: Batch) -> Commit {
        let inner = &self.inner;
        let of_term = batch.term;
        let refuse = |e| {
            // The next batch of this term would be written as if this one had been.
            if let Some(term) = of_term {
                let _ = inner.term.compare_exchange(term, term + 1, Ordering::AcqRel, Ordering::Acquire);
            }
            Commit::now(Err(e))
        };
        if let Err(e) = batch.check() {
            return refuse(e);
        }
        if of_term.is_some_and(|t| t != self.term()) {
            return refuse(StoreError::TermOver);
        }
        // What cannot be in time is not even queued: a dead disk must not cost every caller its whole budget.
        if inner.is_late() {
            return refuse(StoreError::Late(inner.budget));
        }
        let trouble = inner.trouble.read().clone();
        if let Some(why) = trouble {
            return refuse(StoreError::Refused(why));
        }
        let queue = self.queue.read();
        let Some(queue) = &*queue else { return refuse(StoreError::Closed) };
        let bytes = batch.bytes as u64;
        if inner.queued_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes > QUEUE_BYTES as u64 {
            inner.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
            return refuse(StoreError::Full);
        }
        let (answer, answered) = oneshot::channel();
        match queue.try_send(Job { batch, answer }) {
            Ok(()) => Commit::later(answered, inner.budget),
            Err(e) => {
                inner.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
                refuse(if matches!(e, TrySendError::Full(_)) { StoreError::Full } else { StoreError::Closed })
            }
        }
    }

    fn scan(&self, table: Table<'_>, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        if self.inner.db.read().is_none() {
            return Err(StoreError::Refused(self.trouble().unwrap_or_else(|| "closed".into())));
        }
        self.inner.scan(table, each).map_err(|e| StoreError::Refused(e.to_string().into()))
    }

    fn term(&self) -> u64 {
        self.inner.term.load(Ordering::Acquire)
    }

    fn trouble(&self) -> Option<Arc<str>> {
        let late = || self.inner.is_late().then(|| StoreError::Late(self.inner.budget).to_string().into());
        self.inner.trouble.read().clone().or_else(late)
    }

    fn keeps(&self) -> bool {
        true
    }

    fn close(&self) {
        // The writer ends when the queue is empty and nobody can fill it.
        *self.queue.write() = None;
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
        *self.inner.db.write() = None;
    }

    fn counts(&self) -> StoreCounts {
        let n = |i: usize| self.inner.counts[i].load(Ordering::Relaxed);
        StoreCounts {
            batches: n(BATCHES),
            groups: n(GROUPS),
            fsyncs: self.inner.fsyncs.load(Ordering::Relaxed),
            bytes: n(BYTES),
            failures: n(FAILURES),
            busy_ms: n(BUSY_MS),
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    /// The group that is being written has been at it for longer than anybody waits.
    fn is_late(&self) -> bool {
        let since = self.writing_since_ms.load(Ordering::Acquire);
        since > 0 && self.clock.now().mono_ms() + 1 >= since + self.budget.as_millis() as u64
    }

    fn scan(&self, table: Table<'_>, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), redb::Error> {
        let db = self.db.read();
        let Some(db) = &*db else { return Err(redb::Error::DatabaseAlreadyOpen) };
        let prefix = table.key(&[]);
        let records = db.begin_read()?.open_table(RECORDS)?;
        for record in records.range::<&[u8]>(&prefix[..]..&after(&prefix)[..])? {
            let (key, value) = record?;
            each(&key.value()[prefix.len()..], value.value());
        }
        Ok(())
    }

    /// One transaction, one fsync.
    fn write<'b>(&self, batches: impl IntoIterator<Item = &'b Batch>) -> Result<(), redb::Error> {
        let db = self.db.read();
        let Some(db) = &*db else { return Err(redb::Error::DatabaseAlreadyOpen) };
        let mut transaction = db.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut records = transaction.open_table(RECORDS)?;
            for change in batches.into_iter().flat_map(|b| &b.changes) {
                match change {
                    Change::Put(key, value) => drop(records.insert(&key[..], &value[..])?),
                    Change::Delete(key) => drop(records.remove(&key[..])?),
                    Change::Clear(prefix) => records.retain_in::<&[u8], _>(&prefix[..]..&after(prefix)[..], |_, _| false)?,
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

struct Writer {
    inner: Arc<Inner>,
    opener: Opener,
    /// What was opened, and where it is looked for.
    file: Option<((u64, u64), PathBuf)>,
    /// What this start wrote into the file.
    owner: u64,
    look_at_ms: u64,
    complain_at_ms: u64,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        let mut group = Vec::new();
        loop {
            match jobs.recv_timeout(RETRY_EVERY) {
                Ok(job) => group.push(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look();
            if self.inner.trouble.read().is_some() {
                self.mend();
            }
            group.extend(iter::from_fn(|| jobs.try_recv().ok()).take(GROUP_BATCHES - group.len()));
            self.group(&mut group, jobs);
        }
    }

    fn group(&mut self, group: &mut Vec<Job>, jobs: &Receiver<Job>) {
        let term = self.inner.term.load(Ordering::Acquire);
        for over in group.extract_if(.., |j| j.batch.term.is_some_and(|t| t != term)) {
            self.answer(over, Err(StoreError::TermOver));
        }
        if group.is_empty() {
            return;
        }
        let trouble = self.inner.trouble.read().clone();
        let outcome = match trouble {
            Some(why) => Err(StoreError::Refused(why)),
            None => self.timed(|w| w.inner.write(group.iter().map(|j| &j.batch))).map_err(|e| self.broken(&e)),
        };
        let count = |i: usize, n: u64| self.inner.counts[i].fetch_add(n, Ordering::Relaxed);
        match &outcome {
            Ok(()) => {
                count(GROUPS, 1);
                count(BATCHES, group.len() as u64);
                count(BYTES, group.iter().map(|j| j.batch.bytes as u64).sum());
            }
            // Everything behind was built on it.
            Err(_) => group.extend(iter::from_fn(|| jobs.try_recv().ok()).take(QUEUE_BATCHES)),
        }
        group.drain(..).for_each(|job| self.answer(job, outcome.clone()));
    }

    fn answer(&self, job: Job, outcome: Result<(), StoreError>) {
        self.inner.queued_bytes.fetch_sub(job.batch.bytes as u64, Ordering::AcqRel);
        if outcome.is_ok() {
            job.batch.told();
        }
        // Nobody may be waiting any more.
        let _ = job.answer.send(outcome);
    }

    fn timed<T>(&self, work: impl FnOnce(&Self) -> T) -> T {
        let since = self.inner.clock.now().mono_ms();
        self.inner.writing_since_ms.store(since + 1, Ordering::Release);
        let done = work(self);
        self.inner.writing_since_ms.store(0, Ordering::Release);
        let took_ms = self.inner.clock.now().mono_ms().saturating_sub(since);
        self.inner.counts[BUSY_MS].fetch_add(took_ms, Ordering::Relaxed);
        done
    }

    /// A file that was removed, renamed or replaced takes every write and keeps nothing that a restart would find. It stays
    /// open, and locked against other gates, until it is back under its name.
    fn look(&mut self) {
        let now_ms = self.inner.clock.now().mono_ms();
        if now_ms < self.look_at_ms || self.inner.trouble.read().is_some() {
            return;
        }
        self.look_at_ms = now_ms + LOOK_EVERY_MS;
        if let Some(why) = self.timed(Self::missing) {
            self.fails(why.into());
        }
    }

    /// Why what stands under the file's name is not what is open.
    fn missing(&self) -> Option<String> {
        let (opened, path) = self.file.as_ref()?;
        let what = match file::identity(path) {
            Ok(found) if found == *opened => return None,
            Ok(_) => "is another file now".to_owned(),
            Err(e) => format!("is not there any more ({e})"),
        };
        Some(format!(
            "{} {what}: somebody removed, renamed or replaced it while the gate runs; put it back, or restart the gate",
            path.display()
        ))
    }

    /// A new term begins; the database is closed, since after an error it answers nothing but errors.
    fn broken(&mut self, why: &redb::Error) -> StoreError {
        let failed = self.fails(why.to_string().into());
        self.inner.db.write().take();
        failed
    }

    /// A new term begins.
    fn fails(&mut self, why: Arc<str>) -> StoreError {
        self.inner.counts[FAILURES].fetch_add(1, Ordering::Relaxed);
        // First the trouble, then the term: who sees the new term finds the store refusing.
        *self.inner.trouble.write() = Some(why.clone());
        self.inner.term.fetch_add(1, Ordering::AcqRel);
        let now_ms = self.inner.clock.now().mono_ms();
        if now_ms >= self.complain_at_ms {
            self.complain_at_ms = now_ms + COMPLAIN_EVERY_MS;
            tracing::error!(error = %why, "the state cannot be written; rooms do as their on_failure says until the disk works again");
        }
        StoreError::Refused(why)
    }

    /// Opens the database again and writes a record. Nobody has to help.
    fn mend(&mut self) {
        let again = self.inner.db.read().is_none();
        let away = if again { None } else { self.timed(Self::missing) };
        if let Some(why) = away {
            *self.inner.trouble.write() = Some(why.into());
            return;
        }
        let mended = self.timed(|w| -> Result<Option<(u64, u64)>, redb::Error> {
            let mut found = None;
            if again {
                let db = (w.opener)(w.inner.fsyncs.clone())?;
                *w.inner.db.write() = Some(db);
                w.is_ours()?;
                found = w.file.as_ref().map(|(_, path)| file::identity(path)).transpose()?;
            }
            let mut probe = Batch::new();
            probe.put(PROBE, &[], w.inner.clock.now().wall_ms.to_be_bytes());
            w.inner.write([&probe]).map(|()| found)
        });
        match mended {
            Ok(found) => {
                if let (Some(found), Some((opened, _))) = (found, &mut self.file) {
                    *opened = found;
                }
                *self.inner.trouble.write() = None;
                tracing::info!("the state can be written again");
            }
            Err(why) => {
                *self.inner.trouble.write() = Some(why.to_string().into());
                self.inner.db.write().take();
            }
        }
    }

    /// What this gate remembers goes with the file that it wrote. What another gate, or a copy from before, says since is
    /// not to be written over.
    fn is_ours(&self) -> Result<(), redb::Error> {
        let mut ours = false;
        self.inner.scan(OWNER, &mut |_, value| ours = value == self.owner.to_be_bytes())?;
        let why = "another gate has used this file since, or it is a copy from before; restart this gate to go on with it";
        if ours { Ok(()) } else { Err(redb::Error::Io(std::io::Error::other(why))) }
    }
}

/// The first key behind everything that begins with a prefix; prefixes end with a zero byte.
fn after(prefix: &[u8]) -> Box<[u8]> {
    let mut end: Box<[u8]> = prefix.into();
    if let Some(last) = end.last_mut() {
        *last = 1;
    }
    end
}

fn advice(e: &DatabaseError) -> String {
    match e {
        DatabaseError::DatabaseAlreadyOpen => "another gate uses it; give each gate a directory of its own".into(),
        DatabaseError::UpgradeRequired(_) | DatabaseError::Storage(redb::StorageError::Corrupted(_)) => {
            format!("{e}; move the file away to begin with new rooms, or bring back a copy")
        }
        e => format!("{e}; the user that runs tidegate must be able to read and write it, and the disk must have room"),
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
