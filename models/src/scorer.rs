//! A score for every visit: one model, one session for each worker, answers inline. Whatever goes wrong is `Unknown` and a
//! counter, and the policy's `when_unscored` decides.

use std::{
    ops::Add,
    sync::{
        Mutex, MutexGuard, TryLockError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tidegate_filters::{Score, rule::bot_gate::Runtime};

pub use crate::opened::{BUILTIN, sha256_of};
use crate::{
    batch::{BATCH_ROWS_MAX, Batcher, Ticket},
    card::ModelCard,
    device::{Backed, Device},
    error::ModelError,
    features::{FEATURES, Features, N, ReasonCode},
    opened::{Opened, no_device},
    session::{Engine, RunError, Session},
};

/// Rounds over all sessions before a visit goes unscored: a session is held for microseconds.
const BUSY_ROUNDS: usize = 64;

/// After this many panics the model is not run any more.
const PANICS_MAX: u64 = 8;

/// Reasons below this many nats are noise.
const REASON_MIN: f32 = 0.05;

/// How many reasons a score gets.
pub const REASONS_MAX: usize = 3;

/// A loaded model, shared by all workers.
pub struct Scorer {
    sessions: Box<[Mutex<Session>]>,
    next: AtomicUsize,
    engine: Engine,
    card: ModelCard,
    name: String,
    short: String,
    baseline: Vec<f32>,
    broken: AtomicBool,
    counts: Counters,
    /// Visits go through it while its device works.
    batcher: Option<Batcher>,
    /// Why there is no device, though one was wanted.
    no_device: Option<String>,
}

/// A score, or where it will come.
#[derive(Debug)]
pub enum Begun {
    /// There is no device, or no room before it.
    Ready(Score),
    /// Wait for it; then [`Scorer::settle`].
    Pending(Ticket),
}

/// How waiting for a [`Ticket`] ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// The model said this, unchecked.
    Said(f32),
    /// No runtime could say anything.
    Failed,
    /// After the deadline, or not yet.
    Late,
}

#[derive(Default)]
struct Counters {
    scored: AtomicU64,
    wrong_width: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    out_of_range: AtomicU64,
    busy: AtomicU64,
    switched_off: AtomicU64,
    late: AtomicU64,
    queue_full: AtomicU64,
}

/// How often a scorer answered, and why it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScorerCounts {
    /// A score in `[0, 1]`.
    pub scored: u64,
    /// The row was not as wide as the model's input.
    pub wrong_width: u64,
    /// The runtime refused a row.
    pub failed: u64,
    /// The runtime panicked.
    pub panicked: u64,
    /// NaN, infinite, or outside `[0, 1]`.
    pub out_of_range: u64,
    /// Every session was in use.
    pub busy: u64,
    /// Not run: the model panicked too often.
    pub switched_off: u64,
    /// Came later than the policy's deadline, or not asked because it lately did.
    pub late: u64,
    /// Too many visits waited for the device.
    pub queue_full: u64,
    /// Batches that were run for a device; no reason for a missing score.
    pub batches: u64,
}

impl Add for ScorerCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        ScorerCounts {
            scored: self.scored + other.scored,
            wrong_width: self.wrong_width + other.wrong_width,
            failed: self.failed + other.failed,
            panicked: self.panicked + other.panicked,
            out_of_range: self.out_of_range + other.out_of_range,
            busy: self.busy + other.busy,
            switched_off: self.switched_off + other.switched_off,
            late: self.late + other.late,
            queue_full: self.queue_full + other.queue_full,
            batches: self.batches + other.batches,
        }
    }
}

impl Scorer {
    /// Opens `builtin` or the path of an `.onnx` file with its card, with `workers` sessions. A foreign file should have
    /// passed [`crate::trial::trial_in_child`] first: a runtime in C++ may crash on a hostile one. Where a device is wanted
    /// and cannot be used, the CPU scores, and a warning says why.
    pub fn open(model: &str, runtime: Runtime, workers: usize) -> Result<Self, ModelError> {
        let opened = Opened::read(model, runtime)?;
        let scorer = Self::build(&opened, workers)?;
        if runtime != Runtime::OnnxruntimeCuda {
            return Ok(scorer);
        }
        Ok(match opened.device().and_then(|device| scorer.batcher(&opened, device)) {
            Ok(batcher) => Scorer { batcher: Some(batcher), ..scorer },
            Err(why) => {
                tracing::warn!(model, "{}", no_device(&why));
                Scorer { no_device: Some(why), ..scorer }
            }
        })
    }

    /// The same with a device of the caller's.
    pub fn open_with(model: &str, runtime: Runtime, workers: usize, device: Box<dyn Device>) -> Result<Self, ModelError> {
        let opened = Opened::read(model, runtime)?;
        let scorer = Self::build(&opened, workers)?;
        let batcher = scorer.batcher(&opened, device).map_err(ModelError::Runtime)?;
        Ok(Scorer { batcher: Some(batcher), ..scorer })
    }

    fn batcher(&self, opened: &Opened, device: Box<dyn Device>) -> Result<Batcher, String> {
        let mut cpu = opened.block_session().map_err(|e| e.to_string())?;
        cpu.run(&self.baseline).map_err(|e| e.to_string())?;
        Batcher::start(Backed::new(Some(device), cpu, N))
    }

    fn build(opened: &Opened, workers: usize) -> Result<Self, ModelError> {
        let sessions = (0..workers.max(1)).map(|_| opened.session().map(Mutex::new)).collect::<Result<Box<[_]>, _>>()?;
        let card = opened.card.clone();
        let scorer = Scorer {
            sessions,
            next: AtomicUsize::new(0),
            engine: opened.engine.clone(),
            name: opened.name.clone(),
            short: opened.short(),
            baseline: if card.baseline.is_empty() { vec![0.0; N] } else { card.baseline.clone() },
            card,
            broken: AtomicBool::new(false),
            counts: Counters::default(),
            batcher: None,
            no_device: None,
        };
        scorer.warm()?;
        Ok(scorer)
    }

    /// One row through every session: the first run allocates, and a model that cannot say anything about an ordinary visit
    /// is refused now.
    fn warm(&self) -> Result<(), ModelError> {
        for session in &self.sessions {
            let mut session = session.lock().unwrap_or_else(|e| e.into_inner());
            let said = session.run(&self.baseline).map_err(|e| e.to_string());
            let sound = said.and_then(|p| in_range(p).ok_or_else(|| format!("{p} is no probability")));
            sound.map_err(|why| ModelError::Run { runtime: "the runtime", why })?;
        }
        Ok(())
    }

    /// The probability that a visit with these features is automated. Inline, microseconds; the caller keeps the deadline.
    pub fn score(&self, features: &[f32]) -> Score {
        self.run(features).map_or(Score::Unknown, Score::Known)
    }

    /// The same by way of the device, where there is one, with an answer within `patience`; inline otherwise. Never blocks.
    pub fn begin(&self, features: &Features, patience: Duration) -> Begun {
        let Some(batcher) = self.batcher.as_ref().filter(|b| b.on_device()) else { return Begun::Ready(self.score(features)) };
        match batcher.push(*features, patience) {
            Some(ticket) => Begun::Pending(ticket),
            None => {
                self.counts.queue_full.fetch_add(1, Relaxed);
                Begun::Ready(Score::Unknown)
            }
        }
    }

    /// Makes a score of what came of a ticket, and counts it. A device that is late for too long is given up.
    pub fn settle(&self, answer: Answer) -> Score {
        if let Some(batcher) = &self.batcher {
            batcher.came(answer == Answer::Late);
        }
        let c = &self.counts;
        let (counter, score) = match answer {
            Answer::Said(p) => match in_range(p) {
                Some(p) => (&c.scored, Score::Known(p)),
                None => (&c.out_of_range, Score::Unknown),
            },
            Answer::Failed => (&c.failed, Score::Unknown),
            Answer::Late => (&c.late, Score::Unknown),
        };
        counter.fetch_add(1, Relaxed);
        score
    }

    /// What speaks most for "automated", strongest first, in nats of log-odds: each reason's features are set to what is
    /// usual for people, and the model is asked again. About a dozen model runs, so only for visits that get an action.
    pub fn reasons(&self, features: &[f32]) -> Vec<(ReasonCode, f32)> {
        let Some(all) = self.run(features).map(logit) else { return vec![] };
        let mut found = vec![];
        let mut row = vec![0.0; features.len()];
        for code in ReasonCode::ALL {
            row.copy_from_slice(features);
            let mut differs = false;
            for (i, _) in FEATURES.iter().enumerate().filter(|(_, f)| f.reason == code) {
                differs |= row[i] != self.baseline[i];
                row[i] = self.baseline[i];
            }
            let without = if differs { self.run(&row).map(logit) } else { None };
            if let Some(gain) = without.map(|w| all - w).filter(|g| *g >= REASON_MIN) {
                found.push((code, gain));
            }
        }
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        found.truncate(REASONS_MAX);
        found
    }

    /// One line for the log at start.
    pub fn describe(&self) -> String {
        let n = self.sessions.len();
        let direct = self.sessions.iter().all(|s| s.lock().is_ok_and(|s| s.is_direct()));
        let how = if direct { "; a plain network, evaluated directly after comparison with it" } else { "" };
        let device = match (&self.batcher, &self.no_device) {
            (Some(b), _) if b.on_device() => format!("; CUDA scores, in batches of up to {BATCH_ROWS_MAX} visits"),
            (Some(b), _) => format!("; CUDA was given up ({}), the CPU scores", b.why().unwrap_or("it failed")),
            (None, Some(why)) => format!("; no CUDA device ({why}), the CPU scores"),
            (None, None) => String::new(),
        };
        format!("bot score: model {} ({}), {}, {n} session(s){how}{device}", self.name, self.short, self.engine.describe())
    }

    /// What scores now: a device as long as it works, else what runs on the CPU.
    pub fn runs_on(&self) -> Runtime {
        let device = self.batcher.as_ref().is_some_and(Batcher::on_device);
        if device { Runtime::OnnxruntimeCuda } else { self.engine.runtime() }
    }

    /// First 8 bytes of the model's SHA-256, hex: the journal's `model`.
    pub fn model(&self) -> &str {
        &self.short
    }

    /// The model's card.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// Counters since it was opened.
    pub fn counts(&self) -> ScorerCounts {
        let c = &self.counts;
        ScorerCounts {
            scored: c.scored.load(Relaxed),
            wrong_width: c.wrong_width.load(Relaxed),
            failed: c.failed.load(Relaxed),
            panicked: c.panicked.load(Relaxed),
            out_of_range: c.out_of_range.load(Relaxed),
            busy: c.busy.load(Relaxed),
            switched_off: c.switched_off.load(Relaxed),
            late: c.late.load(Relaxed),
            queue_full: c.queue_full.load(Relaxed),
            batches: self.batcher.as_ref().map_or(0, Batcher::batches),
        }
    }

    /// Counts a visit without a score because the model came too late, or was not asked since it did.
    pub fn late(&self) {
        self.counts.late.fetch_add(1, Relaxed);
    }

    fn run(&self, features: &[f32]) -> Option<f32> {
        let c = &self.counts;
        let miss = |counter: &AtomicU64| {
            counter.fetch_add(1, Relaxed);
            None
        };
        if self.broken.load(Relaxed) {
            return miss(&c.switched_off);
        }
        let Some(mut session) = self.free_session() else { return miss(&c.busy) };
        match session.run(features) {
            Ok(p) => match in_range(p) {
                Some(p) => {
                    c.scored.fetch_add(1, Relaxed);
                    Some(p)
                }
                None => miss(&c.out_of_range),
            },
            Err(RunError::Width { .. }) => miss(&c.wrong_width),
            Err(RunError::Failed(_)) => miss(&c.failed),
            Err(RunError::Panicked(why)) => {
                if c.panicked.fetch_add(1, Relaxed) + 1 == PANICS_MAX {
                    self.broken.store(true, Relaxed);
                    tracing::error!(model = self.name, why, "the model panicked {PANICS_MAX} times and is switched off");
                }
                None
            }
        }
    }

    fn free_session(&self) -> Option<MutexGuard<'_, Session>> {
        let start = self.next.fetch_add(1, Relaxed);
        for round in 0..BUSY_ROUNDS {
            for i in 0..self.sessions.len() {
                match self.sessions[start.wrapping_add(i) % self.sessions.len()].try_lock() {
                    Ok(session) => return Some(session),
                    Err(TryLockError::Poisoned(e)) => return Some(e.into_inner()),
                    Err(TryLockError::WouldBlock) => {}
                }
            }
            if round > 0 {
                std::thread::yield_now();
            }
        }
        None
    }
}

/// Rounding may leave a sigmoid a hair outside.
pub(crate) fn in_range(p: f32) -> Option<f32> {
    (-1e-5..=1.0 + 1e-5).contains(&p).then(|| p.clamp(0.0, 1.0))
}

fn logit(p: f32) -> f32 {
    let p = p.clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln()
}

#[cfg(test)]
#[path = "scorer_tests.rs"]
mod tests;
