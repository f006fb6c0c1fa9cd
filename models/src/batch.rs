//! Visits handed to a device in batches: a bounded queue, one thread that owns the device, an answer for each visit.
//!
//! Nobody is left waiting. What the device fails to do the CPU does at once, with the same rows; a device that stays silent is
//! given up, and a second thread tells its visits when their time is over; when the batcher goes, its thread answers everybody
//! who is in the queue.

mod watch;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
        },
        mpsc,
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crossbeam_queue::ArrayQueue;
use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    device::Backed,
    features::{Features, N},
    scorer::Answer,
};

/// Most rows of a batch: 216 KiB, which a device takes over the bus in about 10 µs, as long as it needs to be started at all.
pub const BATCH_ROWS_MAX: usize = 1_024;

/// A batch goes this long after its first row at the latest: a fifth of a millisecond is 4 % of a visit's 5 ms.
pub const BATCH_WAIT: Duration = Duration::from_micros(200);

/// Rows that wait at the same time: 16 full batches, so at 300 µs each the last one is answered within the 5 ms that a visit
/// waits; what came on top would be late in any case. 3.7 MiB.
pub const QUEUE_ROWS_MAX: usize = 16 * BATCH_ROWS_MAX;

/// Answers that one task gives. To wake somebody from outside of a runtime costs a system call, from inside next to nothing;
/// with several tasks for a full batch, several workers wake.
const ANSWERS_A_TASK: usize = 128;

/// A device that is not ready for batches by then is none: it takes a second or two.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A device is given up when this many visits in a row, over [`LATE_FOR`], were too late: one hiccup makes a whole crowd late.
const LATE_VISITS: u64 = 8;
const LATE_FOR: Duration = Duration::from_millis(100);

/// Where the answer to a row comes, in time.
pub type Ticket = oneshot::Receiver<Answer>;

struct Job {
    row: Features,
    waiter: Waiter,
}

/// Who waits, in which runtime, and until when.
struct Waiter {
    to: oneshot::Sender<Answer>,
    runtime: Option<Handle>,
    /// µs after [`Inner::began`].
    due_us: u64,
}

/// Queue and threads.
pub(crate) struct Batcher {
    inner: Arc<Inner>,
    thread: Thread,
    watch: Thread,
}

struct Inner {
    queue: ArrayQueue<Job>,
    /// Rows that are in the queue, on their way into it, or held back behind a batch that takes long.
    waiting: AtomicUsize,
    held: Mutex<Held>,
    /// The watching thread sleeps until it is woken.
    watch_sleeps: AtomicBool,
    stopped: AtomicBool,
    given_up: AtomicBool,
    why: OnceLock<String>,
    batches: AtomicU64,
    began: Instant,
    late_in_a_row: AtomicU64,
    /// When the first of them was late, µs after `began`; 0: none is.
    late_since_us: AtomicU64,
}

#[derive(Default)]
struct Held {
    /// Taken out of the queue while a batch takes long, so that who is overdue can be told.
    backlog: Vec<Job>,
    /// For whom the batch that runs is; `None`: was told that it is late.
    flying: Vec<Option<Waiter>>,
    /// When it was sent off, µs after [`Inner::began`].
    flying_since_us: u64,
}

impl Held {
    /// Somebody waits for the batch that runs.
    fn is_flying(&self) -> bool {
        self.flying.iter().any(Option::is_some)
    }
}

impl Batcher {
    /// Starts the threads, and waits until the device is ready for batches. The error says why there is none.
    pub(crate) fn start(mut models: Backed) -> Result<Batcher, String> {
        let inner = Arc::new(Inner {
            queue: ArrayQueue::new(QUEUE_ROWS_MAX),
            waiting: AtomicUsize::new(0),
            held: Mutex::default(),
            watch_sleeps: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            why: OnceLock::new(),
            batches: AtomicU64::new(0),
            began: Instant::now(),
            late_in_a_row: AtomicU64::new(0),
            late_since_us: AtomicU64::new(0),
        });
        let start = |name: &str, run: Box<dyn FnOnce(&Inner) + Send>| {
            let theirs = inner.clone();
            let thread = thread::Builder::new().name(name.into()).spawn(move || run(&theirs));
            thread.map(|t| t.thread().clone()).map_err(|e| format!("its thread does not start: {e}"))
        };
        let (tell, ready) = mpsc::channel();
        let run = move |inner: &Inner| {
            let warm = models.warm();
            let works = warm.is_ok();
            // Nobody hears it who has given up.
            if tell.send(warm).is_ok() && works {
                inner.run(models);
            }
        };
        let thread = start("score-batches", Box::new(run))?;
        ready.recv_timeout(READY_WITHIN).map_err(|_| format!("it is not ready within {READY_WITHIN:?}"))??;
        let watch = start("score-watch", Box::new(Inner::watch))?;
        Ok(Batcher { inner, thread, watch })
    }

    /// Whether the device scores; otherwise the caller does it inline.
    pub(crate) fn on_device(&self) -> bool {
        !self.inner.given_up.load(Acquire)
    }

    /// Why the device does not score any more.
    pub(crate) fn why(&self) -> Option<&str> {
        self.inner.why.get().map(String::as_str)
    }

    /// Batches that were run.
    pub(crate) fn batches(&self) -> u64 {
        self.inner.batches.load(Relaxed)
    }

    /// Hands a row over that is answered within `patience`, a millisecond or two on top. `None`: too many wait. Never blocks.
    pub(crate) fn push(&self, row: Features, patience: Duration) -> Option<Ticket> {
        let inner = &*self.inner;
        let before = inner.waiting.fetch_add(1, SeqCst);
        let (to, ticket) = oneshot::channel();
        let due_us = inner.now_us().saturating_add(patience.as_micros() as u64);
        let waiter = Waiter { to, runtime: Handle::try_current().ok(), due_us };
        // Whoever counts has room, since rows are counted before they go in; the queue's own word decides all the same.
        if before >= QUEUE_ROWS_MAX || inner.queue.push(Job { row, waiter }).is_err() {
            inner.waiting.fetch_sub(1, AcqRel);
            return None;
        }
        // In between the thread looks by itself.
        if before == 0 || before + 1 == BATCH_ROWS_MAX {
            self.thread.unpark();
            if inner.watch_sleeps.load(SeqCst) && inner.watch_sleeps.swap(false, SeqCst) {
                self.watch.unpark();
            }
        }
        Some(ticket)
    }

    /// Whether an answer came in time.
    pub(crate) fn came(&self, late: bool) {
        let inner = &*self.inner;
        if !late {
            inner.late_in_a_row.store(0, Relaxed);
            return inner.late_since_us.store(0, Relaxed);
        }
        let now_us = inner.now_us() + 1;
        let since_us = match inner.late_since_us.compare_exchange(0, now_us, Relaxed, Relaxed) {
            Ok(_) => now_us,
            Err(since) => since,
        };
        let visits = inner.late_in_a_row.fetch_add(1, Relaxed) + 1;
        if visits >= LATE_VISITS && u128::from(now_us.saturating_sub(since_us)) >= LATE_FOR.as_micros() {
            inner.give_up(format!("its last {visits} answers came too late"));
        }
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.inner.stopped.store(true, Release);
        self.thread.unpark();
        self.watch.unpark();
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn run(&self, mut models: Backed) {
        let (mut rows, mut scores) = (Vec::with_capacity(BATCH_ROWS_MAX * N), Vec::new());
        while self.gathered() {
            rows.clear();
            self.take(&mut rows);
            if rows.is_empty() {
                // Who was counted is about to push.
                thread::yield_now();
                continue;
            }
            let ran = models.run_block(&rows, &mut scores);
            let waiters = std::mem::take(&mut self.held().flying);
            match ran {
                Ok(()) => give(waiters.into_iter().zip(scores.iter().map(|p| Answer::Said(*p)))),
                Err(_) => give(waiters.into_iter().map(|w| (w, Answer::Failed))),
            }
            self.batches.fetch_add(1, Relaxed);
            if let Some(why) = models.lost.take() {
                self.give_up(why);
            }
        }
    }

    /// Makes up a batch.
    fn take(&self, rows: &mut Vec<f32>) {
        let mut held = self.held();
        let backlog = std::mem::take(&mut held.backlog);
        let (mut left, mut taken) = (backlog.into_iter(), 0);
        while held.flying.len() < BATCH_ROWS_MAX
            && let Some(Job { row, waiter }) = left.next().or_else(|| self.queue.pop())
        {
            taken += 1;
            // Nobody waits for what is late.
            if !waiter.to.is_closed() {
                rows.extend_from_slice(&row);
                held.flying.push(Some(waiter));
            }
        }
        held.backlog = left.collect();
        held.flying_since_us = self.now_us();
        drop(held);
        // After they fly: the watching thread goes to sleep when nobody waits and nobody flies.
        self.waiting.fetch_sub(taken, SeqCst);
    }

    /// Waits for a batch; `false` when there will be none any more.
    fn gathered(&self) -> bool {
        let waiting = || self.waiting.load(Acquire);
        let stopped = || self.stopped.load(Acquire);
        // Who came while the batch before ran has waited long enough.
        if waiting() > 0 {
            return true;
        }
        while waiting() == 0 {
            if stopped() {
                return false;
            }
            thread::park();
        }
        let until = Instant::now() + BATCH_WAIT;
        while waiting() < BATCH_ROWS_MAX && !stopped() {
            match until.saturating_duration_since(Instant::now()) {
                Duration::ZERO => break,
                left => thread::park_timeout(left),
            }
        }
        true
    }

    fn give_up(&self, why: String) {
        if !self.given_up.swap(true, AcqRel) {
            tracing::error!(
                why,
                "the device that scores visits is given up; the CPU scores them from now on. The next load of the policy tries it again"
            );
            let _ = self.why.set(why);
        }
    }
}

/// Tells everybody; who is gone by now needs nothing.
fn give(answers: impl Iterator<Item = (Option<Waiter>, Answer)>) {
    let mut told = answers.filter_map(|(w, answer)| Some((w?, answer))).peekable();
    while let Some((Waiter { to, runtime, .. }, answer)) = told.next() {
        let Some(runtime) = runtime else {
            let _ = to.send(answer);
            continue;
        };
        let mut part = Vec::with_capacity(ANSWERS_A_TASK);
        part.push((to, answer));
        let same = |w: &Waiter| w.runtime.as_ref().is_some_and(|r| r.id() == runtime.id());
        while part.len() < ANSWERS_A_TASK
            && let Some((waiter, answer)) = told.next_if(|(w, _)| same(w))
        {
            part.push((waiter.to, answer));
        }
        runtime.spawn(async move {
            for (to, answer) in part {
                let _ = to.send(answer);
            }
        });
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
