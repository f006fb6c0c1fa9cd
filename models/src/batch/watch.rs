//! Deadlines. A timer for each visit would cost more than its score: all workers of a runtime take the same lock for it.

use std::{thread, time::Duration};

use super::{Answer, Inner, SeqCst, give};

/// How often somebody looks who is overdue, while anybody waits.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// A batch that has run for so long may run for longer, µs: several times what a full one takes.
const LONG_US: u64 = 1_000;

impl Inner {
    /// Until the batcher goes and nobody waits any more.
    pub(super) fn watch(&self) {
        loop {
            self.watch_sleeps.store(true, SeqCst);
            if self.is_idle() {
                if self.stopped.load(SeqCst) {
                    return;
                }
                // Who pushes first from now on wakes us.
                thread::park();
            }
            self.watch_sleeps.store(false, SeqCst);
            thread::park_timeout(LOOK_EVERY);
            self.tell_late(self.now_us());
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.load(SeqCst) == 0 && !self.held().is_flying()
    }

    /// Tells everybody whose time is over. A batch in flight goes on without them; those who wait behind it are looked
    /// through once it takes long.
    fn tell_late(&self, now_us: u64) {
        let mut late = Vec::new();
        let mut held = self.held();
        late.extend(held.flying.iter_mut().filter(|w| w.as_ref().is_some_and(|w| w.due_us <= now_us)).map(Option::take));
        // Also when all of its visits were told by now.
        let flies_long = !held.flying.is_empty() && now_us.saturating_sub(held.flying_since_us) >= LONG_US;
        if flies_long {
            while let Some(job) = self.queue.pop() {
                held.backlog.push(job);
            }
            let flying = late.len();
            late.extend(held.backlog.extract_if(.., |job| job.waiter.due_us <= now_us).map(|job| Some(job.waiter)));
            self.waiting.fetch_sub(late.len() - flying, SeqCst);
        }
        drop(held);
        give(late.into_iter().map(|w| (w, Answer::Late)));
    }
}
