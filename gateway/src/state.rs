//! What every hook reaches: one [`Shared`] a gate, one [`Active`] a policy.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tidegate_config::Policy;
use tidegate_filters::{
    Now, Pipeline, Row, Score, Visit, VisitorId,
    pipeline::ClaimOutcome,
    plan::{InFlightMax, limit::LIMIT_FIRST},
    seats::token::Keyring,
};
use tidegate_models::{batch::Ticket, features::Features, scorer::Answer};

use crate::{
    appeal::Appeals,
    bots::GoodBots,
    challenge::Spent,
    claims::ClaimDesk,
    clock::Clock,
    counts::Counts,
    door::caps::Caps,
    draw::Draws,
    events::Live,
    head::Fields,
    in_flight::InFlight,
    known::Facts,
    pages::Pages,
    repeated::Repeated,
    shop::ShopMeter,
    store::{self, Holds, Rooms, Store},
    upstream::Upstreams,
};

/// One gate. Several may live in one process.
pub struct Shared {
    /// The policy in force; swapped whole by a reload.
    pub active: ArcSwap<Active>,
    /// Drawn sales.
    pub draws: Draws,
    /// The only source of time.
    pub clock: Clock,
    /// Signs and opens tokens.
    pub keyring: ArcSwap<Keyring>,
    /// Key of visitor and fingerprint hashes: random, secret.
    pub hash_key: (u64, u64),
    /// Where rows go.
    pub rows: Arc<dyn RowSink>,
    /// What outlives the process.
    pub store: Arc<dyn Store>,
    /// Stock in it.
    pub holds: Holds,
    /// Rooms in it.
    pub rooms: Rooms,
    /// What scores visits.
    pub scorer: ArcSwap<ScorerSlot>,
    /// The limit on requests in flight to the shop; the planner moves it.
    pub in_flight: InFlight,
    /// Claims that wait for a tick.
    pub claims: ClaimDesk<ClaimOutcome>,
    /// Connections: how many, and how many there may be.
    pub caps: Arc<Caps>,
    /// What was refused before there was a visit, and other counts of the data plane.
    pub counts: Counts,
    /// What refused visitors said.
    pub appeals: Appeals,
    /// What is known for sure about visitors.
    pub facts: Facts,
    /// Programs that are welcome; `None` when the policy names none.
    pub bots: ArcSwapOption<GoodBots>,
    /// Challenges that were answered.
    pub challenges: Spent,
    /// Live pages.
    pub live: Arc<Live>,
    /// When the time was last written down, monotonic milliseconds.
    pub(crate) time_kept_ms: AtomicU64,
    /// Readiness is gone; connections are closed after their answer.
    pub stopping: AtomicBool,
}

/// A policy, built: what one visit uses from its head to its row.
pub struct Active {
    /// As written.
    pub policy: Policy,
    /// Decides.
    pub pipeline: Pipeline,
    /// SHA-256 of the policy text, hex.
    pub sha256: String,
    /// Names as rows carry them.
    pub names: Names,
    /// The shop's servers and their health.
    pub upstreams: Arc<Upstreams>,
    /// Limits of routes that have their own, by route index.
    pub route_limits: Vec<Option<Arc<InFlight>>>,
    /// What the shop's answers say; drained each second by the planner.
    pub meter: ShopMeter,
    /// What visitors see.
    pub pages: Pages,
}

/// What rows name over and over: kept for ever, so that a row takes no copy and no count. Few: names of policies.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// By route index.
    pub routes: Vec<&'static str>,
    /// By filter index.
    pub filters: Vec<&'static str>,
    /// By room index.
    pub rooms: Vec<&'static str>,
    /// First 8 bytes of the policy's SHA-256, hex.
    pub policy: &'static str,
}

impl Names {
    fn of(pipeline: &Pipeline, sha256: &str) -> Self {
        Names {
            routes: pipeline.routes().iter().map(|r| kept(&r.name)).collect(),
            filters: (0..pipeline.filters().count()).map(|i| kept(pipeline.filter_name(i as u8))).collect(),
            rooms: pipeline.rooms().iter().map(|r| kept(r.name())).collect(),
            policy: kept(sha256.get(..16).unwrap_or(sha256)),
        }
    }
}

/// The one copy of a name. Grows by what an operator writes (a reload that changes something adds 16 bytes), never by what
/// a visitor sends.
pub fn kept(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock();
    match names.get(name) {
        Some(name) => name,
        None => {
            let name: &'static str = Box::leak(name.into());
            names.insert(name);
            name
        }
    }
}

/// Where rows go. Never blocks: what does not fit is dropped and counted by the sink.
pub trait RowSink: Send + Sync {
    /// A head was accepted: there will be a row, or a count of those without.
    fn parsed(&self) {}

    /// Takes one row.
    fn row(&self, row: Row);
}

/// A sink that forgets: tests, and gates without a journal.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRows;

impl RowSink for NoRows {
    fn row(&self, _: Row) {}
}

/// What a score is made of besides the visit.
#[derive(Clone, Copy, Debug)]
pub struct ScoreFacts<'a> {
    /// All headers as sent, our cookies included.
    pub fields: &'a Fields<'a>,
    /// What the connection said before.
    pub repeated: &'a Repeated,
    /// HTTP/2.
    pub http2: bool,
    /// TLS.
    pub tls: bool,
    /// How the connection was made: TLS hello, and over HTTP/2 what was said first; 0 for plain HTTP/1.
    pub manner: u64,
    /// Keyed hash of the network; 0 when unknown.
    pub network: u64,
    /// The declared length of the body; `None` without one.
    pub body_bytes: Option<u64>,
}

/// What a scorer says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scored {
    /// The score, or `Unknown` when there is none in time.
    pub score: Score,
    /// Features it was computed from, for the journal.
    pub features: Vec<f32>,
    /// `CODE=contribution`, separated by commas.
    pub reasons: String,
    /// First 8 bytes of the model's SHA-256, hex.
    pub model: &'static str,
    /// Score of the shadow model.
    pub shadow: Score,
    /// The same of the shadow model; empty without one.
    pub shadow_model: &'static str,
}

/// How far a score is.
#[derive(Debug)]
pub enum Begun {
    /// Inline scorers are done.
    Ready(Scored),
    /// A device has the row: wait for its ticket, then [`ScoreSource::finish`].
    Pending(Box<Pending>),
}

/// A score on its way.
#[derive(Debug)]
pub struct Pending {
    /// What the device says.
    pub ticket: Ticket,
    /// It is not waited for longer than this.
    pub deadline: Duration,
    /// When it began, monotonic.
    pub began_ns: u64,
    /// The visit's time.
    pub now: Now,
    /// What is scored.
    pub features: Features,
}

/// Scores visits. Called on the request path: must return within about `deadline_ms`.
pub trait ScoreSource: Send + Sync {
    /// Begins the score of one visit; also the place to update windows of a visitor's behaviour.
    fn begin(&self, visit: &Visit<'_>, facts: &ScoreFacts<'_>, now: Now, deadline_ms: u64) -> Begun;

    /// What came of a ticket becomes a score.
    fn finish(&self, _: &Pending, _: Answer) -> Scored {
        Scored::default()
    }

    /// A visit that is not scored (`filters: none`): its behaviour counts for later scores all the same.
    fn observe(&self, _: &Visit<'_>, _: &ScoreFacts<'_>, _: Now) {}

    /// What a visitor was answered in the end; 0 when nothing was. Behaviour that later scores may use.
    fn answered(&self, _visitor: VisitorId, _status: u16) {}
}

/// No model: every score is unknown.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoScores;

impl ScoreSource for NoScores {
    fn begin(&self, _: &Visit<'_>, _: &ScoreFacts<'_>, _: Now, _: u64) -> Begun {
        Begun::Ready(Scored::default())
    }
}

/// A scorer that a reload can swap.
pub struct ScorerSlot(pub Box<dyn ScoreSource>);

impl Shared {
    /// A gate at rest.
    pub fn new(
        active: Active,
        keyring: Keyring,
        hash_key: (u64, u64),
        rows: Arc<dyn RowSink>,
        store: Arc<dyn Store>,
        appeals: Appeals,
        draws: Draws,
    ) -> Arc<Self> {
        let in_flight = &active.policy.shop.in_flight;
        let limit = match in_flight.max {
            InFlightMax::Auto => LIMIT_FIRST as u32,
            InFlightMax::Fixed(n) => n,
        };
        Arc::new(Shared {
            in_flight: InFlight::new(limit, in_flight.queue),
            caps: Arc::new(Caps::new(&active.policy.connections)),
            active: ArcSwap::from_pointee(active),
            clock: Clock::after(store::kept_time(&*store).as_ref()),
            keyring: ArcSwap::from_pointee(keyring),
            hash_key,
            rows,
            holds: Holds::new(store.clone()),
            rooms: Rooms::new(store.clone()),
            draws,
            scorer: ArcSwap::from_pointee(ScorerSlot(Box::new(NoScores))),
            claims: ClaimDesk::default(),
            counts: Counts::default(),
            appeals,
            facts: Facts::default(),
            bots: ArcSwapOption::empty(),
            challenges: Spent::default(),
            live: Arc::default(),
            time_kept_ms: AtomicU64::new(0),
            store,
            stopping: AtomicBool::new(false),
        })
    }

    /// Puts a policy in force: limits of connections and of the queue follow at once, visits on their way keep theirs.
    /// A fixed in-flight limit is set here; a measured one stays where it is.
    pub fn activate(&self, active: Active) {
        let in_flight = &active.policy.shop.in_flight;
        if let InFlightMax::Fixed(n) = in_flight.max {
            self.in_flight.set_limit(n);
        }
        self.in_flight.set_queue(in_flight.queue);
        self.caps.set(&active.policy.connections);
        self.active.store(Arc::new(active));
    }

    /// What somebody should look at, in words: a clock that stepped, a disk that does not keep the state.
    pub fn troubles(&self) -> Vec<String> {
        let clock = match self.clock.doubt_ms() {
            0 => None,
            ms => Some(format!(
                "the system's clock stepped by {:+.1} s; the gate goes on with the time it had. If the new time is right: \
                 POST /v1/clock/accept",
                ms as f64 / 1_000.0
            )),
        };
        let store =
            self.store.trouble().map(|why| format!("the state cannot be written: {why}; rooms do as their on_failure says"));
        let active = self.active.load();
        let shop =
            (!active.upstreams.any_healthy()).then(|| "no server of the shop answers its health check: nobody is let in".into());
        let now = self.clock.now();
        let draws = active.pipeline.rooms().iter().flat_map(|r| r.draws());
        let late =
            draws.filter_map(|d| d.waits_for_rounds().find(|l| l.is_late(now)).map(|l| (d.sale_id(), l.round, &l.beacon_source)));
        let late = late.map(|(sale, round, source)| {
            format!("the draw of sale `{sale}` waits for round {round} of {source}, which is late: POST /v1/beacon brings it")
        });
        clock.into_iter().chain(store).chain(shop).chain(late).collect()
    }

    /// The gate is stopping: not ready, connections close after their answer.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether [`Shared::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

impl Active {
    /// Builds what goes with a pipeline. `old`: servers keep their health and routes their queues, by address and name.
    pub fn new(policy: Policy, pipeline: Pipeline, sha256: String, old: Option<&Active>) -> Self {
        let upstreams = Arc::new(Upstreams::new(&policy.shop, old.map(|o| &*o.upstreams)));
        let queue = policy.shop.in_flight.queue;
        let kept = |name: &str| {
            let old = old?;
            old.route_limits.get(old.pipeline.routes().index(name)?)?.clone()
        };
        let limit = |route: &tidegate_filters::Route| {
            let max = route.in_flight_max?;
            let limit = kept(&route.name).unwrap_or_else(|| Arc::new(InFlight::new(max, queue)));
            limit.set_limit(max);
            limit.set_queue(queue);
            Some(limit)
        };
        let route_limits: Vec<_> = pipeline.routes().iter().map(limit).collect();
        let names = Names::of(&pipeline, &sha256);
        let pages = Pages::of(&policy);
        Active { pages, meter: ShopMeter::new(route_limits.len()), policy, pipeline, sha256, names, upstreams, route_limits }
    }
}
