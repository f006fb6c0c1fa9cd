//! Visits handed to a device in batches: a bounded queue, one thread that owns the device, an answer for each visit.
//!
//! Nobody is left waiting. What the device fails to do the CPU does at once, with the same rows; a device that stays silent is
//! given up, and its visits have their deadline; when the batcher goes, its thread answers everybody who is in the queue.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crossbeam_queue::ArrayQueue;
use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    device::Backed,
    features::{Features, N},
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

/// A device is given up when this many visits in a row, over [`LATE_FOR`], were too late: one hiccup makes a whole crowd late.
const LATE_VISITS: u64 = 8;
const LATE_FOR: Duration = Duration::from_millis(100);

/// Where the raw score of a row comes; closed without one when the CPU failed on it, too.
pub type Ticket = oneshot::Receiver<f32>;

struct Job {
    row: Features,
    answer: Answer,
}

/// Who waits, and in which runtime.
struct Answer {
    to: oneshot::Sender<f32>,
    runtime: Option<Handle>,
}

/// Queue and thread.
pub(crate) struct Batcher {
    inner: Arc<Inner>,
    thread: Thread,
}

struct Inner {
    queue: ArrayQueue<Job>,
    /// Rows that are in the queue or on their way into it.
    waiting: AtomicUsize,
    stopped: AtomicBool,
    given_up: AtomicBool,
    why: OnceLock<String>,
    batches: AtomicU64,
    began: Instant,
    late_in_a_row: AtomicU64,
    /// When the first of them was late, µs after `began`; 0: none is.
    late_since_us: AtomicU64,
}

impl Batcher {
    /// Starts the thread.
    pub(crate) fn start(models: Backed) -> io::Result<Batcher> {
        let inner = Arc::new(Inner {
            queue: ArrayQueue::new(QUEUE_ROWS_MAX),
            waiting: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            why: OnceLock::new(),
            batches: AtomicU64::new(0),
            began: Instant::now(),
            late_in_a_row: AtomicU64::new(0),
            late_since_us: AtomicU64::new(0),
        });
        let theirs = inner.clone();
        let thread = thread::Builder::new().name("score-batches".into()).spawn(move || theirs.run(models))?;
        Ok(Batcher { inner, thread: thread.thread().clone() })
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

    /// Hands a row over. `None`: too many wait. Never blocks.
    pub(crate) fn push(&self, row: Features) -> Option<Ticket> {
        let inner = &*self.inner;
        let before = inner.waiting.fetch_add(1, AcqRel);
        let (to, ticket) = oneshot::channel();
        let answer = Answer { to, runtime: Handle::try_current().ok() };
        // Whoever counts has room, since rows are counted before they go in; the queue's own word decides all the same.
        if before >= QUEUE_ROWS_MAX || inner.queue.push(Job { row, answer }).is_err() {
            inner.waiting.fetch_sub(1, AcqRel);
            return None;
        }
        // In between the thread looks by itself.
        if before == 0 || before + 1 == BATCH_ROWS_MAX {
            self.thread.unpark();
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
        let now_us = inner.began.elapsed().as_micros() as u64 + 1;
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
    }
}

impl Inner {
    fn run(&self, mut models: Backed) {
        let mut rows: Vec<f32> = Vec::with_capacity(BATCH_ROWS_MAX * N);
        let (mut answers, mut scores) = (Vec::with_capacity(BATCH_ROWS_MAX), Vec::new());
        while self.gathered() {
            let mut taken = 0;
            while taken < BATCH_ROWS_MAX
                && let Some(Job { row, answer }) = self.queue.pop()
            {
                taken += 1;
                // Nobody waits for what is late.
                if !answer.to.is_closed() {
                    rows.extend_from_slice(&row);
                    answers.push(answer);
                }
            }
            self.waiting.fetch_sub(taken, AcqRel);
            if answers.is_empty() {
                // Who was counted is about to push.
                thread::yield_now();
                continue;
            }
            match models.run_block(&rows, &mut scores) {
                Ok(()) => give(&mut answers, &scores),
                Err(_) => answers.clear(),
            }
            rows.clear();
            self.batches.fetch_add(1, Relaxed);
            if let Some(why) = models.lost.take() {
                self.give_up(why);
            }
        }
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
fn give(answers: &mut Vec<Answer>, scores: &[f32]) {
    let mut told = answers.drain(..).zip(scores.iter().copied()).peekable();
    while let Some((Answer { to, runtime }, score)) = told.next() {
        let Some(runtime) = runtime else {
            let _ = to.send(score);
            continue;
        };
        let mut part = Vec::with_capacity(ANSWERS_A_TASK);
        part.push((to, score));
        let same = |a: &Answer| a.runtime.as_ref().is_some_and(|r| r.id() == runtime.id());
        while part.len() < ANSWERS_A_TASK
            && let Some((answer, score)) = told.next_if(|(a, _)| same(a))
        {
            part.push((answer.to, score));
        }
        runtime.spawn(async move {
            for (to, score) in part {
                let _ = to.send(score);
            }
        });
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
