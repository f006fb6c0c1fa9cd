//! The hands on a running gate: what it is doing, its rooms, its policy. The admin API, signals and the file watcher all
//! come here, so that a policy is put in force in one way only.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard, RwLock};
use serde::Serialize;
use thiserror::Error;
use tidegate_config::{Checks, Loaded, Policy, PolicyErrors, Problem, diff_needs_restart, load_with, parse_with};
use tidegate_filters::{Pipeline, pipeline::Seed, seats::room::RoomStats};

use crate::{
    applied::KeptPolicy,
    bots::GoodBots,
    deep::Deep,
    forecasting::ForecastStatus,
    keys::{KeyError, Keys, random},
    metrics::{Metrics, gauges},
    planner::Seen,
    scoring::Scoring,
    state::{Active, ScorerSlot, Shared},
    store::StoreError,
    tls::Certificate,
};

/// One gate's control plane.
pub struct Control {
    /// The data plane.
    pub shared: Arc<Shared>,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    deep: Deep,
    /// The policy the gate was started with: listeners and the like stay as they were.
    started: Policy,
    file: Option<PathBuf>,
    /// Where what the admin API puts in force is kept.
    kept: Option<KeptPolicy>,
    certificates: Vec<Arc<Certificate>>,
    scoring: Mutex<Scoring>,
    in_force: RwLock<InForce>,
    /// One load at a time.
    loading: Mutex<()>,
    seen: RwLock<Seen>,
    forecast: RwLock<Option<ForecastStatus>>,
}

/// The policy in force, as text, and how the last load went.
#[derive(Clone, Debug, Serialize)]
pub struct InForce {
    /// Where it came from.
    pub source: Source,
    /// The file, as it was named.
    pub file: String,
    /// SHA-256 of the text, hex.
    pub sha256: String,
    /// Unix milliseconds at which it was put in force.
    pub since_unix_ms: u64,
    /// Parts that differ from what runs and wait for a restart.
    pub needs_restart: Vec<String>,
    /// Why the last load was refused; `None` when it was applied.
    pub last_refusal: Option<String>,
    /// What runs the bot model.
    pub scorer: String,
    /// The text.
    #[serde(skip)]
    pub text: Arc<str>,
}

/// Where a policy came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Defaults and the command line.
    CommandLine,
    /// The policy file.
    File,
    /// The admin API; with `state` it counts over a restart, while the policy file stays as it is.
    Api,
}

/// What a load did.
#[derive(Clone, Debug, Serialize)]
pub struct Applied {
    /// SHA-256 of the text, hex.
    pub sha256: String,
    /// Parts that wait for a restart.
    pub needs_restart: Vec<String>,
    /// What is doubtful.
    pub warnings: Vec<Problem>,
    /// It counts over a restart.
    #[serde(skip)]
    pub kept: bool,
}

/// Why a policy was not put in force. The old one stays.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It has errors.
    #[error("{0}")]
    Policy(#[from] PolicyErrors),
    /// It would change what people who entered a draw were promised.
    #[error("{0}")]
    Promised(String),
    /// Its model does not load.
    #[error("the model of the bot gate cannot be used: {0}")]
    Model(String),
    /// Lists or keys of programs that are welcome cannot be used.
    #[error("good_bots: {0}")]
    Bots(String),
    /// There is no file to load again.
    #[error("this gate was started without a policy file; start it with --policy FILE, or POST one to /v1/policy/apply")]
    NoFile,
    /// The system gave no random bytes.
    #[error("{0}")]
    Entropy(#[from] KeyError),
    /// What is kept of a new room or sale cannot be read.
    #[error("state: {0}")]
    Store(#[from] StoreError),
}

/// What [`Control::new`] is made of.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) deep: Deep,
    pub(crate) loaded: Loaded,
    pub(crate) source: Source,
    pub(crate) file: Option<PathBuf>,
    pub(crate) certificates: Vec<Arc<Certificate>>,
    pub(crate) scoring: Scoring,
}

impl Control {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { shared, metrics, deep, loaded, source, file, certificates, scoring } = parts;
        let in_force = InForce {
            source,
            file: loaded.file,
            sha256: loaded.sha256,
            since_unix_ms: shared.clock.now().wall_ms,
            needs_restart: Vec::new(),
            last_refusal: None,
            scorer: scoring.describe(),
            text: loaded.text,
        };
        Control {
            shared,
            metrics,
            deep,
            kept: KeptPolicy::of(&loaded.policy),
            started: loaded.policy,
            file,
            certificates,
            scoring: Mutex::new(scoring),
            in_force: RwLock::new(in_force),
            loading: Mutex::new(()),
            seen: RwLock::default(),
            forecast: RwLock::default(),
        }
    }

    /// The policy in force, as text, and how the last load went.
    pub fn in_force(&self) -> InForce {
        let in_force = self.in_force.read().clone();
        // A device may have failed since.
        InForce { scorer: self.scoring.lock().describe(), ..in_force }
    }

    /// The policy file, when there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Checks a text as deeply as the gate itself would, and says what would need a restart.
    pub fn check(&self, text: &str) -> Result<Applied, LoadError> {
        let loaded = parse_with(text, "(request)", &self.checks())?;
        let (old, now) = (self.shared.active.load_full(), self.shared.clock.now());
        self.shared.draws.keep_their_word(&loaded.policy, &old, now).map_err(LoadError::Promised)?;
        Ok(Applied {
            needs_restart: diff_needs_restart(&self.started, &loaded.policy),
            sha256: loaded.sha256,
            warnings: loaded.warnings,
            kept: false,
        })
    }

    /// Puts a text in force. The file stays as it is, and counts again once it is changed or loaded again.
    pub fn apply(&self, text: &str) -> Result<Applied, LoadError> {
        let _one = self.loading.lock();
        let outcome = parse_with(text, "(request)", &self.checks()).map_err(LoadError::from);
        self.finish(outcome.and_then(|loaded| self.swap(loaded, Source::Api)))
    }

    /// Reads the policy file, the keys and the certificate files again.
    pub fn reload(&self) -> Result<Applied, LoadError> {
        let _one = self.loading.lock();
        let file = self.file.as_deref().ok_or(LoadError::NoFile);
        let outcome = file.and_then(|f| Ok(load_with(f, &self.checks())?));
        let outcome = self.finish(outcome.and_then(|loaded| self.swap(loaded, Source::File)));
        self.reload_keys();
        for certificate in &self.certificates {
            let file = certificate.files().certificate.display();
            match certificate.reload() {
                Ok(true) => tracing::info!(%file, "new certificate in use"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%file, %error, "certificate files cannot be used; the old one stays"),
            }
        }
        outcome
    }

    /// Holds other loads back.
    pub(crate) fn one_load(&self) -> MutexGuard<'_, ()> {
        self.loading.lock()
    }

    /// Takes the policy in force once more, with files that have changed under their names. Under [`Control::one_load`].
    pub(crate) fn take_again(&self) -> Result<Applied, LoadError> {
        let InForce { text, file, source, .. } = self.in_force();
        let outcome = parse_with(&text, &file, &self.checks()).map_err(LoadError::from);
        self.finish(outcome.and_then(|loaded| self.swap(loaded, source)))
    }

    /// Numbers of every room.
    pub fn rooms(&self) -> Vec<RoomStats> {
        let now = self.shared.clock.now();
        self.shared.active.load().pipeline.rooms().iter().map(|r| r.stats(now)).collect()
    }

    /// Prometheus text.
    pub fn metrics_text(&self) -> String {
        self.metrics.counts(&self.shared.counts);
        self.metrics.bots(&self.shared.facts.bots);
        {
            let scoring = self.scoring.lock();
            self.metrics.scorer(&scoring.counts());
            if let Some(on_device) = scoring.on_device() {
                self.metrics.gauge(gauges::SCORES_ON_CUDA, &[], f64::from(u8::from(on_device)));
            }
        }
        self.metrics.render()
    }

    /// What the last plan saw.
    pub fn seen(&self) -> Seen {
        *self.seen.read()
    }

    /// How the forecast does; `None` while no room wants one.
    pub fn forecast(&self) -> Option<ForecastStatus> {
        self.forecast.read().clone()
    }

    pub(crate) fn forecasts(&self, status: Option<ForecastStatus>) {
        *self.forecast.write() = status;
    }

    /// Where files are tried.
    pub(crate) fn deep(&self) -> &Deep {
        &self.deep
    }

    pub(crate) fn saw(&self, seen: Seen) {
        *self.seen.write() = seen;
    }

    /// A policy that was applied gives way to the file that is in force. It stays until that file has been started with.
    pub(crate) fn tell_applied_apart(&self) {
        let in_force = self.in_force();
        if let (Source::File, Some(kept), Some(file)) = (in_force.source, &self.kept, &self.file) {
            kept.gives_way_to(file, &in_force.text);
        }
    }

    fn checks(&self) -> Checks<'_> {
        self.deep.checks(&self.shared.clock)
    }

    /// Whether it counts over a restart.
    fn keep(&self, text: &str) -> bool {
        let (Some(kept), Some(file)) = (&self.kept, &self.file) else { return false };
        let outcome = kept.keep(text, file);
        if let Err(error) = &outcome {
            tracing::error!(%error, "the applied policy cannot be kept: a restart goes back to the policy file");
        }
        outcome.is_ok()
    }

    /// Builds and swaps; nothing has changed when it fails. State of rooms and quotas is carried over by name.
    fn swap(&self, loaded: Loaded, source: Source) -> Result<Applied, LoadError> {
        let Loaded { mut policy, warnings, sha256, file, text } = loaded;
        self.shared.draws.say_as_first_said(&mut policy);
        let old = self.shared.active.load_full();
        let scoring = self.scoring.lock().follow(&policy).map_err(LoadError::Model)?;
        let bots = GoodBots::build(&policy, &self.shared.facts.bots).map_err(LoadError::Bots)?;
        let mut pipeline = build_pipeline(&self.shared, &policy)?;
        let now = self.shared.clock.now();
        let gone = self.shared.draws.give_way(&policy, &old, now).map_err(LoadError::Promised)?;
        pipeline.carry_over(&old.pipeline);
        let revived = self.shared.rooms.revive(&mut pipeline, now).and_then(|()| self.shared.holds.revive(&pipeline, now));
        revived.inspect_err(|_| gone.iter().for_each(|draw| draw.reinstate(now)))?;
        let needs_restart = diff_needs_restart(&self.started, &policy);
        let amended = self.shared.draws.amend(&*self.shared.store, &old, &policy, self.shared.clock.now().wall_ms / 1_000);
        amended.inspect_err(|_| gone.iter().for_each(|draw| draw.reinstate(now)))?;
        let kept = source == Source::Api && self.keep(&text);
        let mut in_force = self.in_force.write();
        self.shared.scorer.store(Arc::new(ScorerSlot(scoring.source(&policy))));
        self.shared.bots.store(bots);
        self.shared.facts.bots.published.ask_again();
        let scorer = scoring.describe();
        if scorer != in_force.scorer {
            tracing::info!("{scorer}");
        }
        *self.scoring.lock() = scoring;
        self.shared.activate(Active::new(policy, pipeline, sha256.clone(), Some(&old)));
        *in_force = InForce {
            source,
            file,
            sha256: sha256.clone(),
            since_unix_ms: self.shared.clock.now().wall_ms,
            needs_restart: needs_restart.clone(),
            last_refusal: None,
            scorer,
            text,
        };
        drop(in_force);
        self.tell_applied_apart();
        Ok(Applied { sha256, needs_restart, warnings, kept })
    }

    /// Lists that others publish have changed.
    pub(crate) fn read_bots_again(&self) {
        let _one = self.loading.lock();
        match GoodBots::build(&self.shared.active.load().policy, &self.shared.facts.bots) {
            Ok(bots) => self.shared.bots.store(bots),
            Err(error) => tracing::error!(%error, "good_bots cannot be read again; what was read before stays"),
        }
    }

    /// A key that was added signs from now on; tokens of the others stay good.
    fn reload_keys(&self) {
        let Some(settings) = &self.started.keys else { return };
        match Keys::open(&settings.directory) {
            Ok(keys) => self.shared.keyring.store(Arc::new(keys.ring)),
            Err(error) => tracing::warn!(%error, "the keys cannot be read again; the old ones stay"),
        }
    }

    /// Counts and tells how a load went.
    fn finish(&self, outcome: Result<Applied, LoadError>) -> Result<Applied, LoadError> {
        self.metrics.policy_load(outcome.is_ok());
        match &outcome {
            Ok(applied) => {
                tracing::info!(sha256 = %applied.sha256, "policy in force");
                for w in &applied.warnings {
                    tracing::warn!(path = %w.path, instead = %w.instead, "{}", w.what);
                }
                for part in &applied.needs_restart {
                    tracing::warn!(part, "this part of the policy has changed and needs a restart");
                }
            }
            Err(error) => {
                tracing::error!(%error, "policy refused; the old one stays in force");
                self.in_force.write().last_refusal = Some(error.to_string());
            }
        }
        outcome
    }
}

/// A pipeline with fresh rooms.
pub(crate) fn build_pipeline(shared: &Shared, policy: &Policy) -> Result<Pipeline, KeyError> {
    let seed = seed(shared.hash_key)?;
    Ok(Pipeline::new(&policy.pipeline_settings(), seed, shared.clock.now()))
}

/// The seed of new rooms: a random epoch, so that tokens of an earlier life never fit.
pub(crate) fn seed(hash_key: (u64, u64)) -> Result<Seed, KeyError> {
    Ok(Seed { hash_key, epoch: u64::from_be_bytes(random()?) })
}
