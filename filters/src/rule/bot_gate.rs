//! `bot_gate`: a score becomes a class, a class an action. Facts refuse, scores cost places: `refuse_at` is off unless
//! written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    pass::Cleared,
    visitor_rate::{OnMissingKey, RateKey, VisitorRate, VisitorRateSettings},
};
use crate::{
    time::Now,
    units::Rate,
    verdict::{Reason, Verdict},
    visit::{Score, Visit},
};

/// Throttled visitors told apart by one gate, and as many addresses of those without a cookie, 2.4 MiB; more share quotas.
pub const THROTTLED_MAX: u32 = 1 << 16;

/// `bot_gate: { model: builtin, challenge_at: 0.70, to_the_back_at: 0.85, when_unscored: wait }`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BotGateSettings {
    /// `builtin`, or the path of an `.onnx` file with the documented input.
    #[serde(default = "builtin")]
    pub model: String,
    /// What runs the model.
    #[serde(default)]
    pub runtime: Runtime,
    /// A model beside it: its scores go to the journal and the metrics, and do nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_model: Option<String>,
    /// From this score on a visit is *unsure* and must pass the challenge. Left out: nobody is challenged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge_at: Option<f32>,
    /// The work that a challenged visitor's browser does by itself.
    #[serde(default)]
    pub challenge_work: ChallengeWork,
    /// From this score on a visit is *suspect*: the slow lane of the room. Left out: nobody is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_the_back_at: Option<f32>,
    /// From this score on a visitor has the quota `throttle_to`, and gets 429 above it. Left out: nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle_at: Option<f32>,
    /// How fast a throttled visitor may go on; as many may come at once as in five seconds, at least two.
    #[serde(default = "throttle_to")]
    pub throttle_to: Rate,
    /// From this score on a visit is refused. Left out: nobody is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuse_at: Option<f32>,
    /// What an unscored visit gets. Has no default on purpose: failure is a declared choice.
    pub when_unscored: WhenUnscored,
    /// Milliseconds the gate waits for a score before the visit counts as unscored.
    #[serde(default = "deadline")]
    pub deadline: crate::units::Span,
    /// Routes that are scored; all filtered routes when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Decide and record, but do not enforce.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

/// `challenge_work: { bits: 14, bits_max: 18 }`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChallengeWork {
    /// At `challenge_at`, and without a score: a number whose hash has as many leading zero bits, so 2 to that power hashes
    /// on average. 14 takes a slow phone a sixth of a second; 0 asks only for the press of a button.
    pub bits: u8,
    /// At the next threshold; in between as the score rises. 18 takes a slow phone three seconds.
    pub bits_max: u8,
}

impl BotGateSettings {
    /// What throttled visitors may do.
    fn quota(&self, key: RateKey) -> VisitorRateSettings {
        let of = if key == RateKey::Network { "network:" } else { "" };
        VisitorRateSettings {
            name: format!("throttled:{of}{}", self.routes.join(",")),
            key,
            rate: self.throttle_to,
            burst: throttle_burst(self.throttle_to),
            keys_max: THROTTLED_MAX,
            ipv6_prefix: 64,
            on_missing_key: OnMissingKey::Shared,
            shadow: false,
        }
    }
}

impl Default for ChallengeWork {
    fn default() -> Self {
        ChallengeWork { bits: 14, bits_max: 18 }
    }
}

fn builtin() -> String {
    "builtin".into()
}

/// How fast a throttled visitor may go on where the policy does not say.
pub const THROTTLE_TO: Rate = Rate { events: 10, per_ms: 60_000 };

fn throttle_to() -> Rate {
    THROTTLE_TO
}

/// How many visits of a throttled visitor may come at once.
pub fn throttle_burst(rate: Rate) -> u32 {
    let in_five_s = u64::from(rate.events) * 5_000 / u64::from(rate.per_ms.max(1));
    u32::try_from(in_five_s).unwrap_or(u32::MAX).max(2)
}

fn deadline() -> crate::units::Span {
    crate::units::Span(5)
}

/// What runs a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// ONNX Runtime when its library is found, else the built-in one.
    #[default]
    Auto,
    /// ONNX Runtime; starting without its library is an error.
    Onnxruntime,
    /// ONNX Runtime on a CUDA device, visits in batches. Its library must be there; without a device that works the CPU
    /// scores, and a warning says why.
    #[serde(rename = "onnxruntime-cuda")]
    OnnxruntimeCuda,
    /// The built-in pure Rust runtime.
    Builtin,
}

impl Runtime {
    /// Every one.
    pub const ALL: [Runtime; 4] = [Runtime::Auto, Runtime::Onnxruntime, Runtime::OnnxruntimeCuda, Runtime::Builtin];

    /// As in YAML and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::Auto => "auto",
            Runtime::Onnxruntime => "onnxruntime",
            Runtime::OnnxruntimeCuda => "onnxruntime-cuda",
            Runtime::Builtin => "builtin",
        }
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Runtime> {
        Runtime::ALL.into_iter().find(|r| r.name() == name)
    }

    /// The same without a device.
    pub fn on_cpu(self) -> Runtime {
        if self == Runtime::OnnxruntimeCuda { Runtime::Onnxruntime } else { self }
    }
}

/// What an unscored visit gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenUnscored {
    /// Treated as human.
    Admit,
    /// Treated as unsure: it never walks in, it takes a place.
    Wait,
    /// Must pass the challenge.
    Challenge,
}

/// What a score makes of a visit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Below every threshold.
    #[default]
    Human,
    /// At or above `challenge_at`, or unknown.
    Unsure,
    /// At or above `to_the_back_at`.
    Suspect,
}

impl Class {
    /// Stable name, as in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Class::Human => "human",
            Class::Unsure => "unsure",
            Class::Suspect => "suspect",
        }
    }
}

/// The compiled filter.
#[derive(Debug)]
pub struct BotGate {
    settings: BotGateSettings,
    routes: Vec<usize>,
    quota: Option<Quotas>,
}

/// The quotas of throttled visitors.
#[derive(Debug)]
struct Quotas {
    by_cookie: VisitorRate,
    /// Who brings no cookie is known by address and `User-Agent`, and has another of the latter whenever it likes.
    by_network: VisitorRate,
}

impl BotGate {
    /// Compiles; route names that do not exist match nothing (`check` in the policy language refuses them).
    pub fn new(settings: &BotGateSettings, routes: &crate::route::Routes, hash_key: (u64, u64)) -> Self {
        let rate = |key| VisitorRate::new(&settings.quota(key), hash_key);
        let quota =
            settings.throttle_at.map(|_| Quotas { by_cookie: rate(RateKey::Visitor), by_network: rate(RateKey::Network) });
        let routes = settings.routes.iter().filter_map(|n| routes.index(n)).collect();
        BotGate { routes, settings: settings.clone(), quota }
    }

    /// The quotas of throttled visitors.
    pub fn quotas(&self) -> impl Iterator<Item = &VisitorRate> {
        self.quota.iter().flat_map(|q| [&q.by_cookie, &q.by_network])
    }

    /// The same, to take another's state over.
    pub fn quotas_mut(&mut self) -> impl Iterator<Item = &mut VisitorRate> {
        self.quota.iter_mut().flat_map(|q| [&mut q.by_cookie, &mut q.by_network])
    }

    /// Its settings.
    pub fn settings(&self) -> &BotGateSettings {
        &self.settings
    }

    /// Whether visits of this route are scored.
    pub fn scores(&self, route: Option<usize>) -> bool {
        self.settings.routes.is_empty() || route.is_some_and(|r| self.routes.contains(&r))
    }

    /// The class of a score, and an opinion when the score alone decides. `cleared`: how the visitor got past a challenge.
    pub fn check(&self, score: Score, cleared: Option<Cleared>) -> (Class, Option<(Verdict, Reason)>) {
        let s = &self.settings;
        if cleared == Some(Cleared::Granted) {
            return (Class::Human, None);
        }
        let challenge = |reason| match cleared {
            None => (Class::Unsure, Some((Verdict::Challenge, reason))),
            Some(Cleared::Slowly) => (Class::Suspect, None),
            Some(_) => (Class::Unsure, None),
        };
        let Score::Known(p) = score else {
            return match s.when_unscored {
                WhenUnscored::Admit => (Class::Human, None),
                WhenUnscored::Wait => (Class::Unsure, None),
                WhenUnscored::Challenge => challenge(Reason::Unscored),
            };
        };
        let reaches = |at: Option<f32>| at.is_some_and(|at| p >= at);
        if reaches(s.refuse_at) {
            (Class::Suspect, Some((Verdict::Refuse { retry_after_s: None }, Reason::ScoreRefuse)))
        } else if reaches(s.to_the_back_at) {
            (Class::Suspect, None)
        } else if reaches(s.challenge_at) {
            challenge(Reason::ScoreChallenge)
        } else {
            (Class::Human, None)
        }
    }

    /// An opinion about a visitor of a high score who comes more often than `throttle_to`. An operator who granted an appeal
    /// knows better.
    pub fn throttle(&self, visit: &Visit<'_>, score: Score, index: u8, now: Now) -> Option<(Verdict, Reason)> {
        let (quotas, at) = (self.quota.as_ref()?, self.settings.throttle_at?);
        let Score::Known(p) = score else { return None };
        if p < at || visit.known.granted {
            return None;
        }
        let quota = if visit.visitor_by_cookie { &quotas.by_cookie } else { &quotas.by_network };
        match quota.check(visit, index, now) {
            Err((verdict, _, _)) => Some((verdict, Reason::ScoreThrottle)),
            Ok(_) => None,
        }
    }

    /// The bits of work a challenge asks for at a score.
    pub fn work_bits(&self, score: Score) -> u8 {
        let s = &self.settings;
        let ChallengeWork { bits, bits_max } = s.challenge_work;
        let (Score::Known(p), Some(from)) = (score, s.challenge_at) else { return bits };
        let to = s.to_the_back_at.or(s.refuse_at).unwrap_or(1.0);
        // Thresholds may be equal: then nobody is between them.
        let part = if to > from { ((p - from) / (to - from)).clamp(0.0, 1.0) } else { 0.0 };
        bits + (part * f32::from(bits_max.saturating_sub(bits))).round() as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(when_unscored: WhenUnscored) -> BotGate {
        let settings = BotGateSettings {
            model: builtin(),
            runtime: Runtime::Auto,
            shadow_model: None,
            challenge_at: Some(0.7),
            challenge_work: ChallengeWork { bits: 10, bits_max: 16 },
            to_the_back_at: Some(0.85),
            throttle_at: None,
            throttle_to: throttle_to(),
            refuse_at: Some(0.99),
            when_unscored,
            deadline: deadline(),
            routes: vec![],
            shadow: false,
        };
        BotGate::new(&settings, &crate::route::Routes::default(), (1, 2))
    }

    #[test]
    fn thresholds_are_inclusive_and_ordered() {
        let g = gate(WhenUnscored::Wait);
        let class = |p: f32| g.check(Score::Known(p), None);
        assert_eq!(class(0.699), (Class::Human, None));
        assert_eq!(class(0.7), (Class::Unsure, Some((Verdict::Challenge, Reason::ScoreChallenge))));
        assert_eq!(class(0.85), (Class::Suspect, None));
        assert_eq!(class(0.99).1.map(|o| o.1), Some(Reason::ScoreRefuse));
        assert_eq!(g.check(Score::Known(0.7), Some(Cleared::Worked)), (Class::Unsure, None), "a passed challenge is enough");
        assert_eq!(g.check(Score::Known(0.7), Some(Cleared::Slowly)), (Class::Suspect, None), "the slow way is to the back");
        assert_eq!(g.check(Score::Known(1.0), Some(Cleared::Granted)), (Class::Human, None), "an operator knows better");
        assert_eq!(g.check(Score::Known(0.1), Some(Cleared::Slowly)), (Class::Human, None), "only for who would be challenged");
    }

    #[test]
    fn unknown_is_what_the_policy_says() {
        assert_eq!(gate(WhenUnscored::Admit).check(Score::Unknown, None), (Class::Human, None));
        assert_eq!(gate(WhenUnscored::Wait).check(Score::Unknown, None), (Class::Unsure, None));
        assert_eq!(gate(WhenUnscored::Challenge).check(Score::Unknown, None).1.map(|o| o.1), Some(Reason::Unscored));
        assert_eq!(gate(WhenUnscored::Challenge).check(Score::Unknown, Some(Cleared::Worked)).1, None);
    }

    #[test]
    fn another_user_agent_is_no_way_round_a_quota() {
        let settings = BotGateSettings { throttle_at: Some(0.8), ..gate(WhenUnscored::Admit).settings };
        let g = BotGate::new(&settings, &crate::route::Routes::default(), (1, 2));
        let asks = |visitor: u64, by_cookie: bool| {
            let visit = Visit {
                method: "GET",
                host: "shop.example",
                path: "/",
                network: Some(crate::visit::Network::new([192, 0, 2, 1].into())),
                visitor: Some(crate::visit::VisitorId(visitor)),
                visitor_by_cookie: by_cookie,
                wants: crate::visit::Wants::Html,
                ..Visit::default()
            };
            g.throttle(&visit, Score::Known(0.9), 0, Now::at(0, 0)).is_some()
        };
        // Ten a minute, two at once.
        assert_eq!([1, 2, 3, 4].map(|v| asks(v, false)), [false, false, true, true], "one address, whatever it calls itself");
        assert_eq!([1, 2, 3, 4].map(|v| asks(v, true)), [false; 4], "who has a cookie is told apart");
    }

    #[test]
    fn work_grows_with_the_score() {
        let g = gate(WhenUnscored::Challenge);
        let bits = |p: f32| g.work_bits(Score::Known(p));
        assert_eq!([0.7, 0.775, 0.849, 0.99, 0.0].map(bits), [10, 13, 16, 16, 10]);
        assert_eq!(g.work_bits(Score::Unknown), 10);
    }
}
