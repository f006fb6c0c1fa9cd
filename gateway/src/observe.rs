//! Every finished request is counted and, where the policy has a journal, written down: a bounded queue, one thread that
//! writes Parquet. The request path never waits for the disk; what does not fit is dropped and counted.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tidegate_config::Journal;
use tidegate_filters::{Row, record::Kind};
use tidegate_models::journal::{JournalError, JournalWriter, file_name, list};
use tokio::sync::{mpsc, watch};

use crate::{
    clock::Clock,
    metrics::Metrics,
    state::RowSink,
    tally::{Of, Tally},
};

/// Rows that may wait for the disk; at about 500 bytes each, 16 MiB.
pub const QUEUE_ROWS: usize = 32_768;
/// With fewer free places than this (a queue 75 % full) polls are no longer taken: they only repeat what is known.
pub const KEPT_FOR_OTHERS: usize = QUEUE_ROWS / 4;
/// Rows taken from the queue at once.
const BATCH_ROWS: usize = 1_024;
/// Rows are gathered for so long before the writer looks again: waking it for each would cost the request more than the row.
const GATHER: Duration = Duration::from_millis(5);
/// A file is closed at this many rows, whatever its age and size: bounds what a power cut can lose.
const FILE_ROWS_MAX: u64 = 2_000_000;
/// How often age and size of the open file are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An unfinished file is nobody's when it was not touched for this long and twice the age at which files are closed.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);
/// How often old files are looked for.
const SWEEP_EVERY_MS: u64 = 60_000;
/// A disk that refuses is tried again after this long, and complained about this seldom.
const RETRY_AFTER_MS: u64 = 1_000;
const COMPLAIN_EVERY_MS: u64 = 60_000;

/// Counts rows and hands them to the journal.
pub struct Observer {
    metrics: Arc<Metrics>,
    journal: Option<mpsc::Sender<Row>>,
    tally: Option<Arc<Tally>>,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Observer {
    /// Starts the writer when there is a journal. A directory that cannot be written is an error here, and only here.
    pub fn start(journal: Option<&Journal>, metrics: Arc<Metrics>, clock: Arc<Clock>) -> Result<Arc<Observer>, JournalError> {
        let (stop, stopped) = watch::channel(false);
        let Some(settings) = journal else {
            return Ok(Arc::new(Observer { metrics, journal: None, tally: None, stop, thread: Mutex::new(None) }));
        };
        let io = |source| JournalError::Io { path: settings.directory.clone(), doing: "start the writer of the journal", source };
        fs::create_dir_all(&settings.directory).map_err(io)?;
        let (tally, killed) = Tally::open(&settings.directory).map_err(io)?;
        if killed > 0 {
            metrics.rows_killed(killed);
            tracing::warn!(requests = killed, "the gate was killed before; so many requests of then have no journal row");
        }
        let tally = Arc::new(tally);
        let mut writer = Writer::new(settings.clone(), metrics.clone(), clock, tally.clone());
        writer.open()?;
        let (rows, queue) = mpsc::channel(QUEUE_ROWS);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(io)?;
        let run = move || runtime.block_on(writer.run(queue, stopped));
        let thread = thread::Builder::new().name("journal".into()).spawn(run).map_err(io)?;
        Ok(Arc::new(Observer { metrics, journal: Some(rows), tally: Some(tally), stop, thread: Mutex::new(Some(thread)) }))
    }

    /// Writes what is queued, closes the file and returns when it has its final name. Later rows are counted as dropped.
    pub fn finish(&self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl RowSink for Observer {
    fn parsed(&self) {
        if let Some(tally) = &self.tally {
            tally.add(Of::Parsed, 1);
        }
    }

    fn row(&self, row: Row) {
        let kind = row.kind;
        if row.method != PLAN {
            self.metrics.request(&row);
        }
        // What an operator did, or a plan, was no request, but its row is counted when it is written.
        if let (Kind::Operator, Some(tally)) = (kind, &self.tally) {
            tally.add(Of::Parsed, 1);
        }
        let Some(journal) = &self.journal else { return };
        let crowded = kind == Kind::Poll && journal.capacity() < KEPT_FOR_OTHERS;
        if crowded || journal.try_send(row).is_err() {
            self.metrics.row_dropped(kind, "queue", 1);
            if let Some(tally) = &self.tally {
                tally.add(Of::Dropped, 1);
            }
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The open file and how it is going.
struct Writer {
    settings: Journal,
    metrics: Arc<Metrics>,
    clock: Arc<Clock>,
    tally: Arc<Tally>,
    open: Option<Open>,
    files: u32,
    sweep_at_ms: u64,
    retry_at_ms: u64,
    complain_at_ms: u64,
}

struct Open {
    file: JournalWriter,
    part: PathBuf,
    /// What its name is made of.
    name: (u64, u32),
    since_ms: u64,
    /// Rows by kind that are not safe until the file is finished.
    rows: [u64; KINDS.len()],
}

/// Method of a row that is a plan.
pub const PLAN: &str = "PLAN";

const KINDS: [Kind; 6] = [Kind::Visit, Kind::Poll, Kind::Claim, Kind::Leave, Kind::Own, Kind::Operator];

fn index(kind: Kind) -> usize {
    KINDS.iter().position(|k| *k == kind).unwrap_or(0)
}

impl Writer {
    fn new(settings: Journal, metrics: Arc<Metrics>, clock: Arc<Clock>, tally: Arc<Tally>) -> Self {
        Writer { settings, metrics, clock, tally, open: None, files: 0, sweep_at_ms: 0, retry_at_ms: 0, complain_at_ms: 0 }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Row>, mut stop: watch::Receiver<bool>) {
        let mut batch = Vec::with_capacity(BATCH_ROWS);
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                // Rows first: at the end what is queued is written before the file is closed.
                biased;
                taken = queue.recv_many(&mut batch, BATCH_ROWS) => {
                    if taken == 0 {
                        break;
                    }
                    self.write(&batch);
                    batch.clear();
                    if self.is_full() {
                        self.close();
                    }
                    if taken < BATCH_ROWS {
                        tokio::time::sleep(GATHER).await;
                    }
                }
                _ = stop.changed(), if !queue.is_closed() => queue.close(),
                _ = look.tick() => self.look(),
            }
        }
        self.close();
    }

    fn write(&mut self, rows: &[Row]) {
        let now_ms = self.clock.now().mono_ms();
        if self.open.is_none() && now_ms >= self.retry_at_ms {
            let opened = self.open();
            self.survive(opened);
        }
        let Some(open) = &mut self.open else {
            for row in rows {
                self.metrics.row_dropped(row.kind, "disk", 1);
            }
            self.tally.add(Of::Dropped, rows.len() as u64);
            return;
        };
        for row in rows {
            open.rows[index(row.kind)] += 1;
        }
        if let Err(e) = open.file.write(rows) {
            self.lose(&e);
        }
    }

    /// Opens the next file; a number that is taken (a restart within the second) is passed over.
    fn open(&mut self) -> Result<(), JournalError> {
        let directory = &self.settings.directory;
        let io = |source| JournalError::Io { path: directory.clone(), doing: "make the directory of the journal", source };
        fs::create_dir_all(directory).map_err(io)?;
        let now = self.clock.now();
        let (mut path, mut part, mut name);
        loop {
            name = (now.wall_ms, self.files);
            path = directory.join(file_name(now.wall_ms, self.files));
            part = path.with_extension("parquet.part");
            self.files += 1;
            if !path.exists() && !part.exists() {
                break;
            }
        }
        let file = JournalWriter::create(&path)?;
        self.open = Some(Open { file, part, name, since_ms: now.mono_ms(), rows: [0; KINDS.len()] });
        Ok(())
    }

    fn look(&mut self) {
        let now_ms = self.clock.now().mono_ms();
        let old = self.open.as_ref().is_some_and(|o| now_ms.saturating_sub(o.since_ms) >= self.settings.file_age.ms());
        if old || self.is_full() {
            self.close();
        }
        if now_ms >= self.sweep_at_ms {
            self.sweep_at_ms = now_ms + SWEEP_EVERY_MS;
            let swept = self.sweep();
            self.survive(swept);
        }
    }

    fn is_full(&self) -> bool {
        let Some(open) = &self.open else { return false };
        let bytes = || fs::metadata(&open.part).map_or(0, |m| m.len());
        open.file.rows() >= FILE_ROWS_MAX || bytes() >= self.settings.file_bytes.0
    }

    /// Gives the open file its final name; one without rows goes.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        if open.file.rows() == 0 {
            drop(open.file);
            let _ = fs::remove_file(&open.part);
            return;
        }
        self.tally.closing(open.name.0, open.name.1, open.file.rows());
        let finished = open.file.finish();
        self.tally.closed(finished.is_ok());
        match finished {
            Ok(rows) => self.metrics.rows_written(rows),
            Err(e) => {
                self.count_lost(&open.rows);
                let _ = fs::remove_file(&open.part);
                self.survive(Err(e));
            }
        }
    }

    /// The open file failed: its rows are lost, and counted.
    fn lose(&mut self, why: &JournalError) {
        if let Some(open) = self.open.take() {
            self.count_lost(&open.rows);
            drop(open.file);
            let _ = fs::remove_file(&open.part);
        }
        self.complain(why);
    }

    fn count_lost(&self, rows: &[u64; KINDS.len()]) {
        for (kind, rows) in KINDS.iter().zip(rows).filter(|(_, n)| **n > 0) {
            self.metrics.row_dropped(*kind, "disk", *rows);
            self.tally.add(Of::Dropped, *rows);
        }
    }

    /// Deletes files whose name says that they are older than `keep`, and unfinished ones that nobody writes to any more.
    fn sweep(&self) -> Result<(), JournalError> {
        let directory = &self.settings.directory;
        let oldest_ms = self.clock.now().wall_ms.saturating_sub(self.settings.keep.ms());
        let oldest = directory.join(file_name(oldest_ms, 0));
        let io = |file: &Path, doing| {
            let path = file.to_owned();
            move |source| JournalError::Io { path, doing, source }
        };
        let mut old: Vec<_> = list(directory)?.into_iter().take_while(|f| *f < oldest).collect();
        for entry in fs::read_dir(directory).map_err(io(directory, "list journals"))? {
            let file = entry.map_err(io(directory, "list journals"))?.path();
            let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let part = name.starts_with("journal-2") && name.ends_with(".parquet.part");
            let others = part && self.open.as_ref().is_none_or(|o| o.part != file);
            if others && (file < oldest || self.is_abandoned(&file)) {
                old.push(file);
            }
        }
        for file in old {
            fs::remove_file(&file).map_err(io(&file, "delete an old journal"))?;
        }
        Ok(())
    }

    /// Of a process that was killed: an open file is closed after `file_age`, so nobody will finish this one.
    fn is_abandoned(&self, part: &Path) -> bool {
        let age = fs::metadata(part).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        age.is_some_and(|age| age > Duration::from_millis(2 * self.settings.file_age.ms()) + ABANDONED_AFTER)
    }

    fn survive(&mut self, outcome: Result<(), JournalError>) {
        if let Err(e) = outcome {
            self.complain(&e);
        }
    }

    fn complain(&mut self, error: &JournalError) {
        let now_ms = self.clock.now().mono_ms();
        self.retry_at_ms = now_ms + RETRY_AFTER_MS;
        if now_ms >= self.complain_at_ms {
            self.complain_at_ms = now_ms + COMPLAIN_EVERY_MS;
            tracing::error!(%error, "journal rows are lost and counted; visits go on");
        }
    }
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
