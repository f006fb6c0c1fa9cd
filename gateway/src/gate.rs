//! A whole gate in this process: everything that can fail fails in [`Gate::start`], everything it started ends in
//! [`Gate::stop`]. Several may run side by side; nothing here is global.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::Duration,
};

use thiserror::Error;
use tidegate_config::Loaded;
use tidegate_filters::Pipeline;
use tidegate_models::journal::JournalError;
use tokio::sync::watch;

use crate::{
    admin::{Admin, AdminError},
    appeal::Appeals,
    applied,
    bots::{BotFacts, GoodBots, published},
    clock::Clock,
    control::{Control, Parts, Source, seed},
    deep::{Deep, Trial},
    draw::{self, Broken, Draws},
    keys::{KeyError, Keys},
    metrics::Metrics,
    observe::Observer,
    planner,
    reload::Reloader,
    scoring::Scoring,
    serve::{self, Bound, Drained, ServeError},
    state::{Active, ScorerSlot, Shared},
    store::{self, Holds, Rooms, Store, StoreError, Why},
};

/// What a gate is started with.
#[derive(Debug)]
pub struct GateOptions {
    /// The checked policy.
    pub loaded: Loaded,
    /// Its file, when it has one: watched, and read again on [`Gate::reload`].
    pub file: Option<PathBuf>,
    /// The admin listener, over what the policy says.
    pub admin: Option<tidegate_config::Admin>,
    /// Where new models are tried.
    pub trial: Trial,
    /// The store, over what the policy says.
    pub store: Option<Arc<dyn Store>>,
    /// How long `/readyz` says 503 before the listeners close: as long as a balancer in front needs to notice.
    pub unready_before_close: Duration,
}

impl GateOptions {
    /// A policy without a file, no trial of models, listeners that close at once.
    pub fn new(loaded: Loaded) -> Self {
        GateOptions { loaded, file: None, admin: None, trial: Trial::None, store: None, unready_before_close: Duration::ZERO }
    }
}

/// Why a gate does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Listeners.
    #[error("{0}")]
    Serve(#[from] ServeError),
    /// The admin listener.
    #[error("{0}")]
    Admin(#[from] AdminError),
    /// Keys.
    #[error("keys: {0}")]
    Keys(#[from] KeyError),
    /// The journal.
    #[error("journal: {0}; choose a directory that tidegate may write to, or leave `journal` out")]
    Journal(#[from] JournalError),
    /// The store.
    #[error("state: {0}")]
    Store(#[from] StoreError),
    /// The policy is not the one that people who entered a draw were promised.
    #[error("this policy breaks a promise: {0}")]
    Promised(String),
    /// The model.
    #[error("the model of the bot gate cannot be used: {0}; write `model: builtin`, or mend the file")]
    Model(String),
    /// Lists and keys of programs that are welcome.
    #[error("good_bots: {0}")]
    Bots(String),
    /// Metrics.
    #[error("metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// Threads.
    #[error("cannot start a thread: {0}; raise the limit of processes (ulimit -u)")]
    Thread(std::io::Error),
}

/// A running gate.
pub struct Gate {
    control: Arc<Control>,
    observer: Arc<Observer>,
    addresses: Vec<SocketAddr>,
    admin_address: Option<SocketAddr>,
    unready_before_close: Duration,
    reloader: Option<Reloader>,
    /// Stops the listeners.
    stop_serving: watch::Sender<bool>,
    /// Stops planner and admin API, after the last visit.
    stop_beside: watch::Sender<bool>,
    served: Receiver<Result<Drained, ServeError>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Gate {
    /// Binds, loads, builds and starts. When it returns, the gate is ready.
    pub fn start(options: GateOptions) -> Result<Gate, StartError> {
        let GateOptions { loaded, file, admin, trial, store, unready_before_close } = options;
        let deep = Deep { trial };
        let (loaded, source) = applied::last(loaded, file.as_deref(), &deep.checks(&Clock::new()));
        let policy = &loaded.policy;
        let bound = Bound::new(policy)?;
        let (addresses, certificates) = (bound.addresses(), bound.certificates());
        let admin = admin.as_ref().or(policy.admin.as_ref()).map(Admin::bind).transpose()?;
        let admin_address = admin.as_ref().map(Admin::address);
        let metrics = Arc::new(Metrics::new()?);
        let keys = match &policy.keys {
            Some(keys) => Keys::open(&keys.directory)?,
            None => Keys::for_this_process()?,
        };
        if !keys.kept {
            tracing::warn!("no `keys` in the policy: a restart ends every ticket and pass");
        }
        let scoring = Scoring::build(policy).map_err(StartError::Model)?;
        tracing::info!("{}", scoring.describe());
        // A policy that cannot be used is refused before anything is touched.
        GoodBots::build(policy, &BotFacts::default()).map_err(StartError::Bots)?;
        // First of all what only one gate may have: another that is refused it has touched nothing of the first one's.
        let store = store.map_or_else(|| store::open(policy.state.as_ref()), Ok)?;
        let observer = Observer::start(policy.journal.as_ref(), metrics.clone(), Arc::new(Clock::new()))?;
        let shared = shared(&loaded, source, &keys, observer.clone(), store)?;
        shared.scorer.store(Arc::new(ScorerSlot(scoring.source(&loaded.policy))));
        shared.bots.store(GoodBots::build(&loaded.policy, &shared.facts.bots).map_err(StartError::Bots)?);
        let parts = Parts { shared: shared.clone(), metrics, deep, loaded, source, file, certificates, scoring };
        let control = Arc::new(Control::new(parts));
        start_rooms(&control.shared)?;
        control.tell_applied_apart();

        let (stop_serving, serving) = watch::channel(false);
        let (stop_beside, beside) = watch::channel(false);
        let mut threads = Vec::new();
        threads.push(plan(control.clone(), beside.clone()).map_err(StartError::Thread)?);
        threads.push(draw::start(control.clone(), beside.clone()).map_err(StartError::Thread)?);
        threads.push(lists(control.clone(), beside.clone()).map_err(StartError::Thread)?);
        if let Some(admin) = admin {
            threads.push(admin.serve(control.clone(), beside).map_err(StartError::Thread)?);
        }
        let (served, data_plane) = run(shared, bound, serving).map_err(StartError::Thread)?;
        threads.push(data_plane);
        let reloader = Some(Reloader::start(control.clone()).map_err(StartError::Thread)?);
        Ok(Gate {
            control,
            observer,
            addresses,
            admin_address,
            unready_before_close,
            reloader,
            stop_serving,
            stop_beside,
            served,
            threads,
        })
    }

    /// Where visitors come in, in the order of the policy; port 0 has become a port.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where operators come in.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// The hands on it.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Loads the policy file and the certificates again, in the background.
    pub fn reload(&self) {
        if let Some(reloader) = &self.reloader {
            reloader.load();
        }
    }

    /// Waits until the gate ends by itself (an error) or the time is over (`None`).
    pub fn wait(&self, at_most: Duration) -> Option<Result<Drained, ServeError>> {
        match self.served.recv_timeout(at_most) {
            Ok(ended) => Some(ended),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Ok(Drained { left: 0 })),
        }
    }

    /// Graceful: not ready, then no new connections, then waits until the last request is answered, at the latest until
    /// the policy's `drain_max`. The journal is whole when this returns.
    pub fn stop(mut self) -> Result<Drained, ServeError> {
        self.control.shared.stop();
        tracing::info!(connections = self.control.shared.caps.open(), "stopping");
        thread::sleep(self.unready_before_close);
        let _ = self.stop_serving.send(true);
        let ended = self.served.recv().unwrap_or(Ok(Drained { left: 0 }));
        self.end();
        ended
    }

    fn end(&mut self) {
        self.reloader = None;
        let _ = self.stop_serving.send(true);
        let _ = self.stop_beside.send(true);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let shared = &self.control.shared;
        if shared.store.keeps() {
            // The last second of a graceful stop is kept as well.
            let _ = write_rooms(shared, Why::End);
            drop(store::keep_time(&*shared.store, &shared.clock));
            shared.store.close();
        }
        self.observer.finish();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.control.shared.stop();
            self.end();
        }
    }
}

fn shared(
    loaded: &Loaded,
    source: Source,
    keys: &Keys,
    observer: Arc<Observer>,
    store: Arc<dyn Store>,
) -> Result<Arc<Shared>, StartError> {
    let mut policy = loaded.policy.clone();
    let clock = Clock::after(store::kept_time(&*store).as_ref());
    let draws = Draws::new(&keys.statement, policy.state.as_ref().map_or(Path::new("."), |s| &s.directory));
    draws.read_called_off(&*store)?;
    draws.say_as_first_said(&mut policy);
    draws.check_kept(&*store, &policy, clock.now()).map_err(|broken| match broken {
        Broken::Promise(why) => StartError::Promised(why + &applied::hint(&policy, source)),
        Broken::Store(error) => StartError::Store(error),
    })?;
    let mut pipeline = Pipeline::new(&policy.pipeline_settings(), seed(keys.hash.0)?, clock.now());
    Rooms::new(store.clone()).revive(&mut pipeline, clock.now())?;
    Holds::new(store.clone()).revive(&pipeline, clock.now())?;
    let active = Active::new(policy, pipeline, loaded.sha256.clone(), None);
    let appeals = Appeals::kept(&*store)?;
    Ok(Shared::new(active, keys.ring.clone(), keys.hash.0, observer, store, appeals, draws))
}

/// Nobody comes in before the rooms are written down with numbers to give out. A disk that is full by now is no reason to
/// stay away: rooms then do as their `on_failure` says, and people inside stay inside.
fn start_rooms(shared: &Arc<Shared>) -> Result<(), StartError> {
    let call_off = || shared.draws.call_off(&*shared.store, &shared.active.load().policy);
    if let Ok(Err(error)) = thread::scope(|s| s.spawn(call_off).join()) {
        tracing::error!(%error, "what the policy calls off cannot be written down: a restart would not know in which words");
    }
    if let Err(error) = write_rooms(shared, Why::Answer).map_err(StartError::Thread)? {
        tracing::error!(%error, "the rooms cannot be written down; they do as their on_failure says until the disk works");
    }
    Ok(())
}

/// Waits for [`Shared::keep_rooms`] on a thread of its own: whoever starts or stops a gate may be on a runtime already.
fn write_rooms(shared: &Arc<Shared>, why: Why) -> std::io::Result<Result<(), StoreError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let written = thread::scope(|s| s.spawn(move || runtime.block_on(shared.keep_rooms(why))).join());
    Ok(written.unwrap_or(Err(StoreError::Closed)))
}

fn plan(control: Arc<Control>, stop: watch::Receiver<bool>) -> std::io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    thread::Builder::new().name("planner".into()).spawn(move || runtime.block_on(planner::run(control, stop)))
}

/// Fetches the lists that others publish.
fn lists(control: Arc<Control>, stop: watch::Receiver<bool>) -> std::io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("lists".into()).spawn(move || {
        runtime.block_on(published::run(control, stop));
        // A name that is being looked up is not waited for.
        runtime.shutdown_background();
    })
}

type Served = Receiver<Result<Drained, ServeError>>;

/// The data plane on its own runtime; how it ended comes through the channel.
fn run(shared: Arc<Shared>, bound: Bound, stop: watch::Receiver<bool>) -> std::io::Result<(Served, thread::JoinHandle<()>)> {
    let threads = shared.active.load().policy.threads;
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.map_or(cores, usize::from).max(1))
        .thread_name("gate")
        .enable_all()
        .build()?;
    let (ended, served) = sync_channel(1);
    let thread = thread::Builder::new().name("serve".into()).spawn(move || {
        let outcome = runtime.block_on(serve::run(shared, bound, stop));
        // What is still open was waited for as long as the policy allows.
        runtime.shutdown_background();
        let _ = ended.send(outcome);
    })?;
    Ok((served, thread))
}

#[cfg(test)]
mod tests;
