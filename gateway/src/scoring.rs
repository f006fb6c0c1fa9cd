//! The bot model behind the data plane's [`ScoreSource`]: a visit's facts become features, features a score with reasons.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tidegate_config::Policy;
use tidegate_filters::{
    FilterSettings, Now, Score, Visit, VisitorId,
    route::Routes,
    rule::bot_gate::{BotGateSettings, Runtime},
    seats::token::Kind,
};
use tidegate_models::{
    Scorer,
    features::{Features, HeaderFacts, Http, Method, Target, VisitFacts, Windows, path_hash},
    scorer::{self, Answer, BUILTIN, ScorerCounts},
};

use crate::{
    clock::Clock,
    counts::{ASecond, Count},
    state::{Begun, NoScores, Pending, ScoreFacts, ScoreSource, Scored, kept},
};

/// Visitors whose behaviour is remembered; the oldest are forgotten first.
pub const VISITORS_MAX: usize = 131_072;

/// What is scored with, kept over reloads: a new policy does not forget how visitors behaved.
#[derive(Clone, Default)]
pub struct Scoring {
    scorer: Option<Arc<Scorer>>,
    shadow: Option<Arc<Scorer>>,
    windows: Option<Arc<Windows>>,
    wanted: Option<(String, Runtime)>,
    /// Counts of the scorers before this one: what is counted never falls.
    before: ScorerCounts,
}

impl Scoring {
    /// Loads the model of the policy's bot gate; without one nothing is scored.
    pub fn build(policy: &Policy) -> Result<Scoring, String> {
        Scoring::default().follow(policy)
    }

    /// By a scorer of the caller's.
    pub fn by(scorer: Arc<Scorer>) -> Scoring {
        let windows = Some(Arc::new(Windows::new(VISITORS_MAX)));
        Scoring { scorer: Some(scorer), windows, ..Scoring::default() }
    }

    /// For another policy: the same model stays loaded, unless its file may have changed under its name.
    pub fn follow(&self, policy: &Policy) -> Result<Scoring, String> {
        let Some(gate) = gate(policy) else {
            return Ok(Scoring { windows: self.windows.clone(), before: self.counts(), ..Scoring::default() });
        };
        let wanted = Some((gate.model.clone(), gate.runtime));
        // A device that is wanted and does not score is tried again.
        let as_wanted = |s: &Arc<Scorer>| gate.runtime != Runtime::OnnxruntimeCuda || s.runs_on() == gate.runtime;
        let kept = self.scorer.clone().filter(|s| wanted == self.wanted && gate.model == BUILTIN && as_wanted(s));
        let before = if kept.is_some() { self.before } else { self.counts() };
        let open = |model: &str, runtime| Scorer::open(model, runtime, workers(policy)).map(Arc::new).map_err(|e| e.to_string());
        let scorer = kept.map_or_else(|| open(&gate.model, gate.runtime), Ok)?;
        let shadow = gate.shadow_model.as_deref().map(|m| open(m, gate.runtime.on_cpu())).transpose();
        let shadow = shadow.map_err(|why| format!("shadow_model: {why}"))?;
        let windows = self.windows.clone().unwrap_or_else(|| Arc::new(Windows::new(VISITORS_MAX)));
        Ok(Scoring { scorer: Some(scorer), shadow, windows: Some(windows), wanted, before })
    }

    /// What the data plane asks.
    pub fn source(&self, policy: &Policy) -> Box<dyn ScoreSource> {
        let (Some(scorer), Some(windows)) = (self.scorer.clone(), self.windows.clone()) else {
            return Box::new(NoScores);
        };
        let explain_from = gates(policy).filter_map(lowest_threshold).min_by(f32::total_cmp).unwrap_or(f32::INFINITY);
        Box::new(BotScore {
            model: kept(scorer.model()),
            scorer,
            shadow: self.shadow.clone().map(Shadow::new),
            windows,
            clock: Clock::new(),
            roomed: roomed(policy),
            explain_from,
            budget: ASecond::default(),
            punctual: Punctual::default(),
        })
    }

    /// How often the model answered, and why it did not.
    pub fn counts(&self) -> ScorerCounts {
        self.before + self.scorer.as_ref().map(|s| s.counts()).unwrap_or_default()
    }

    /// Whether a device scores; `None`: nothing is scored.
    pub fn on_device(&self) -> Option<bool> {
        self.scorer.as_ref().map(|s| s.runs_on() == Runtime::OnnxruntimeCuda)
    }

    /// Which model on which runtime, for the log and the status.
    pub fn describe(&self) -> String {
        let Some(scorer) = &self.scorer else { return "bot score: none, the policy has no bot gate".into() };
        let shadow = self.shadow.as_ref().map_or_else(String::new, |s| format!("; in its shadow, {}", s.describe()));
        scorer.describe() + &shadow
    }
}

/// Loads a model and scores a few rows with it, in this process: the child of a trial. Returns the exit code.
pub fn trial(file: &Path, runtime: &str, forecast: bool) -> i32 {
    let runtime = Runtime::named(runtime).unwrap_or_default();
    match forecast {
        true => tidegate_models::trial::answer(tidegate_models::forecast::net::try_forecast(file, runtime)),
        false => tidegate_models::trial::trial_main(file, runtime),
    }
}

/// One worker's worth of sessions each: a visit never waits for another's score.
fn workers(policy: &Policy) -> usize {
    policy.threads.map_or_else(|| std::thread::available_parallelism().map_or(2, usize::from), usize::from)
}

/// The first names the model of all.
fn gate(policy: &Policy) -> Option<&BotGateSettings> {
    gates(policy).next()
}

/// All of a policy.
pub(crate) fn gates(policy: &Policy) -> impl Iterator<Item = &BotGateSettings> {
    policy.filters.iter().filter_map(|f| match f {
        FilterSettings::BotGate(g) => Some(g),
        _ => None,
    })
}

/// Reasons cost a dozen model runs, so only scores that do something get them.
fn lowest_threshold(gate: &BotGateSettings) -> Option<f32> {
    [gate.challenge_at, gate.to_the_back_at, gate.throttle_at, gate.refuse_at].into_iter().flatten().min_by(f32::total_cmp)
}

/// By route index: does it lie behind a waiting room?
fn roomed(policy: &Policy) -> Vec<bool> {
    let routes = Routes::new(&policy.routes);
    let mut behind = vec![false; policy.routes.len()];
    for filter in &policy.filters {
        let FilterSettings::WaitingRoom(room) = filter else { continue };
        for (i, (route, behind)) in routes.iter().zip(&mut behind).enumerate() {
            let named = room.routes.is_empty() || room.routes.iter().any(|n| routes.index(n) == Some(i));
            *behind |= route.filtered && named;
        }
    }
    behind
}

/// Reasons explained in one second, at most: each costs a dozen runs of the model, and a flood of suspects must not buy
/// more of the gate's time than it has. Those over it have a score and no reasons.
pub const REASONS_A_SECOND_MAX: u64 = 200;

/// A model that came too late so often in a row is not asked for this long: visitors must not wait for what does not count.
const LATE_IN_A_ROW_MAX: u32 = 8;
const LATE_PAUSE_NS: u64 = 10_000_000_000;

/// Whether the model comes in time.
#[derive(Default)]
struct Punctual {
    late_in_a_row: AtomicU32,
    not_before_ns: AtomicU64,
}

impl Punctual {
    fn is_asked(&self, now_ns: u64) -> bool {
        now_ns >= self.not_before_ns.load(Ordering::Relaxed)
    }

    fn came(&self, late: bool, now_ns: u64, model: &str) {
        if !late {
            self.late_in_a_row.store(0, Ordering::Relaxed);
        } else if self.late_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= LATE_IN_A_ROW_MAX
            && self.is_asked(now_ns)
            && self.not_before_ns.fetch_max(now_ns + LATE_PAUSE_NS, Ordering::Relaxed) <= now_ns
        {
            tracing::error!(
                model,
                "the model is slower than its deadline and is not asked for 10 s; visits have no score meanwhile"
            );
        }
    }
}

/// A shadow model that came too late so often is not asked any more: it must not cost visitors time.
const SHADOW_LATE_MAX: u64 = 8;

/// A model whose scores are only written down. It has what the live one leaves of the deadline.
struct Shadow {
    model: &'static str,
    scorer: Arc<Scorer>,
    late: Count,
}

impl Shadow {
    fn new(scorer: Arc<Scorer>) -> Shadow {
        Shadow { model: kept(scorer.model()), scorer, late: Count::default() }
    }

    fn score(&self, features: &[f32], clock: &Clock, until_ns: u64) -> Score {
        if self.late.get() >= SHADOW_LATE_MAX || clock.mono_ns() >= until_ns {
            return Score::Unknown;
        }
        let score = self.scorer.score(features);
        if clock.mono_ns() <= until_ns {
            return score;
        }
        self.late.add();
        if self.late.get() == SHADOW_LATE_MAX {
            tracing::error!(
                model = self.model,
                "the shadow model came too late {SHADOW_LATE_MAX} times and is not asked any more"
            );
        }
        Score::Unknown
    }
}

/// Scores inline, on the worker that asks: microseconds. Where a device scores, the visit waits for its batch.
struct BotScore {
    model: &'static str,
    scorer: Arc<Scorer>,
    shadow: Option<Shadow>,
    windows: Arc<Windows>,
    clock: Clock,
    roomed: Vec<bool>,
    explain_from: f32,
    budget: ASecond,
    punctual: Punctual,
}

impl BotScore {
    fn facts(&self, visit: &Visit<'_>, facts: &ScoreFacts<'_>) -> VisitFacts {
        let headers = HeaderFacts::read_with(visit.host, facts.fields.iter(), |agent| facts.repeated.agent(agent).facts);
        VisitFacts {
            visitor: visit.visitor.map_or(0, |v| v.0),
            by_cookie: Some(visit.visitor_by_cookie),
            network: facts.network,
            subnet: visit.network.map_or(0, |n| n.subscriber()),
            fingerprint: headers.fingerprint(facts.manner),
            method: Method::of(visit.method),
            target: Target::of(visit.path),
            path: path_hash(visit.path),
            sale: visit.route.and_then(|r| self.roomed.get(r)).copied(),
            waiting: visit.tokens.iter().any(|t| t.kind == Kind::Ticket),
            http: Some(if facts.http2 { Http::Two } else { Http::One1 }),
            tls: Some(facts.tls),
            headers,
            body_bytes: facts.body_bytes,
        }
    }

    /// A score with what goes with it: reasons where it does something, and what the shadow says. The CPU says both.
    fn scored(&self, score: Score, features: Features, began_ns: u64, deadline: Duration, now: Now) -> Scored {
        let mut reasons = String::new();
        if score.known().is_some_and(|p| p >= self.explain_from) && self.budget.take(now, REASONS_A_SECOND_MAX) {
            let found = self.scorer.reasons(&features);
            reasons = found.iter().map(|(code, nats)| format!("{}={nats:.2}", code.code())).collect::<Vec<_>>().join(",");
        }
        let until_ns = began_ns.saturating_add(deadline.as_nanos() as u64);
        let shadow = self.shadow.as_ref().map_or(Score::Unknown, |s| s.score(&features, &self.clock, until_ns));
        let shadow_model = self.shadow.as_ref().map_or("", |s| s.model);
        Scored { score, features: features.to_vec(), reasons, model: self.model, shadow, shadow_model }
    }
}

fn is_late(began_ns: u64, ended_ns: u64, deadline: Duration) -> bool {
    u128::from(ended_ns.saturating_sub(began_ns)) > deadline.as_nanos()
}

impl ScoreSource for BotScore {
    fn begin(&self, visit: &Visit<'_>, facts: &ScoreFacts<'_>, now: Now, deadline_ms: u64) -> Begun {
        let began_ns = self.clock.mono_ns();
        let features = self.windows.observe_and_extract(&self.facts(visit, facts), now);
        let deadline = Duration::from_millis(deadline_ms);
        let asked = self.punctual.is_asked(began_ns);
        let begun = if asked { self.scorer.begin(&features, deadline) } else { scorer::Begun::Ready(Score::Unknown) };
        let mut score = match begun {
            scorer::Begun::Ready(score) => score,
            scorer::Begun::Pending(ticket) => {
                return Begun::Pending(Box::new(Pending { ticket, deadline, began_ns, now, features }));
            }
        };
        let ended_ns = self.clock.mono_ns();
        let late = is_late(began_ns, ended_ns, deadline);
        if asked {
            self.punctual.came(late, ended_ns, self.model);
        }
        if late || !asked {
            self.scorer.late();
        }
        if late {
            // Nobody can stop a run half way; what came too late does not count, as promised.
            score = Score::Unknown;
        }
        Begun::Ready(self.scored(score, features, began_ns, deadline, now))
    }

    fn finish(&self, pending: &Pending, answer: Answer) -> Scored {
        let Pending { ref features, began_ns, deadline, now, .. } = *pending;
        let answer = if is_late(began_ns, self.clock.mono_ns(), deadline) { Answer::Late } else { answer };
        self.scored(self.scorer.settle(answer), *features, began_ns, deadline, now)
    }

    fn observe(&self, visit: &Visit<'_>, facts: &ScoreFacts<'_>, now: Now) {
        self.windows.observe_and_extract(&self.facts(visit, facts), now);
    }

    fn answered(&self, visitor: VisitorId, status: u16) {
        if status != 0 {
            self.windows.feedback(visitor.0, status);
        }
    }
}

#[cfg(test)]
#[path = "scoring_tests.rs"]
mod tests;
