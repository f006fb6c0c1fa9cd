//! A score for every visit: one model, one session for each worker, answers inline. Whatever goes wrong is `Unknown` and a
//! counter, and the policy's `when_unscored` decides.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, TryLockError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use tidegate_filters::{Score, rule::bot_gate::Runtime};

use crate::{
    card::{ModelCard, path_of, sha256_hex},
    error::ModelError,
    features::{FEATURES, N, ReasonCode},
    inspect::{inspect_bytes, read_model},
    session::{Engine, RunError, Session},
};

/// The policy's word for the model that comes with the program.
pub const BUILTIN: &str = "builtin";

static BUILTIN_MODEL: &[u8] = include_bytes!("../artifacts/bots-2.onnx");
/// SHA-256 of a model, hex: of `builtin`, or of the file at a path.
pub fn sha256_of(model: &str) -> std::io::Result<String> {
    if model == BUILTIN {
        return Ok(sha256_hex(BUILTIN_MODEL));
    }
    std::fs::read(model).map(|bytes| sha256_hex(&bytes))
}

static BUILTIN_CARD: &str = include_str!("../artifacts/bots-2.json");

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
}

impl Scorer {
    /// Opens `builtin` or the path of an `.onnx` file with its card, with `workers` sessions. A foreign file should have
    /// passed [`crate::trial::trial_in_child`] first: a runtime in C++ may crash on a hostile one.
    pub fn open(model: &str, runtime: Runtime, workers: usize) -> Result<Self, ModelError> {
        if model == BUILTIN {
            let path = Path::new("models/artifacts/bots-2.onnx");
            let card = ModelCard::parse(&path_of(path), BUILTIN_CARD, BUILTIN_MODEL)?;
            return Self::build(path, BUILTIN_MODEL, card, runtime, workers).map(|s| Scorer { name: BUILTIN.into(), ..s });
        }
        let path = PathBuf::from(model);
        let bytes = read_model(&path)?;
        let card = ModelCard::read_for(&path, &bytes)?;
        Self::build(&path, &bytes, card, runtime, workers)
    }

    fn build(path: &Path, bytes: &[u8], card: ModelCard, runtime: Runtime, workers: usize) -> Result<Self, ModelError> {
        let unfit = |why: String| ModelError::Unfit { path: path.to_owned(), why };
        let inspection = inspect_bytes(path, bytes)?;
        if inspection.features != N {
            return Err(unfit(format!("takes {} features; this gate computes {N}", inspection.features)));
        }
        let engine = Engine::choose(runtime)?;
        inspection.fits(engine.runtime()).map_err(unfit)?;
        let load = |_| engine.load(bytes, &inspection).map(Mutex::new);
        let sessions = (0..workers.max(1)).map(load).collect::<Result<Box<[_]>, _>>()?;
        let baseline = if card.baseline.is_empty() { vec![0.0; N] } else { card.baseline.clone() };
        let mut short = sha256_hex(bytes);
        short.truncate(16);
        let scorer = Scorer {
            sessions,
            next: AtomicUsize::new(0),
            engine,
            card,
            name: path.display().to_string(),
            short,
            baseline,
            broken: AtomicBool::new(false),
            counts: Counters::default(),
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
        format!("bot score: model {} ({}), {}, {n} session(s){how}", self.name, self.short, self.engine.describe())
    }

    /// First 8 bytes of the model's SHA-256, hex: the journal's `model`.
    pub fn model(&self) -> &str {
        &self.short
    }

    /// The model's card.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// The runtime in use.
    pub fn runtime(&self) -> Runtime {
        self.engine.runtime()
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
fn in_range(p: f32) -> Option<f32> {
    (-1e-5..=1.0 + 1e-5).contains(&p).then(|| p.clamp(0.0, 1.0))
}

fn logit(p: f32) -> f32 {
    let p = p.clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln()
}

#[cfg(test)]
#[path = "scorer_tests.rs"]
mod tests;
