//! What the bot gates of a policy would do with a score, route by route.

use serde::Serialize;
use tidegate_filters::{
    Rate,
    rule::bot_gate::{BotGateSettings, THROTTLE_TO, throttle_burst},
};

/// What a score does to a visit, weakest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Nothing.
    #[default]
    Nothing,
    /// The challenge.
    Challenge,
    /// The slow lane, or a small weight in the draw.
    SlowLane,
    /// Came more often than its quota.
    Throttle,
    /// Refused.
    Refuse,
}

/// Where a score begins to do something; `None`: never.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Thresholds {
    /// From here on: the challenge.
    pub challenge_at: Option<f32>,
    /// From here on: the slow lane.
    pub to_the_back_at: Option<f32>,
    /// From here on: the quota.
    pub throttle_at: Option<f32>,
    /// The quota.
    pub throttle_to: Rate,
    /// From here on: refused.
    pub refuse_at: Option<f32>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds { challenge_at: None, to_the_back_at: None, throttle_at: None, throttle_to: THROTTLE_TO, refuse_at: None }
    }
}

impl Thresholds {
    /// Of a policy's bot gate.
    pub fn of(gate: &BotGateSettings) -> Thresholds {
        Thresholds {
            challenge_at: gate.challenge_at,
            to_the_back_at: gate.to_the_back_at,
            throttle_at: gate.throttle_at,
            throttle_to: gate.throttle_to,
            refuse_at: gate.refuse_at,
        }
    }

    /// As the bot gate acts: the strongest that the score reaches. `within` says whether the quota has room for this visit,
    /// and is asked for visits that have one.
    fn act(&self, score: f32, within: impl FnOnce(Rate) -> bool) -> Act {
        let reaches = |at: Option<f32>| at.is_some_and(|at| score >= at);
        if reaches(self.refuse_at) {
            Act::Refuse
        } else if reaches(self.throttle_at) && !within(self.throttle_to) {
            Act::Throttle
        } else if reaches(self.to_the_back_at) {
            Act::SlowLane
        } else if reaches(self.challenge_at) {
            Act::Challenge
        } else {
            Act::Nothing
        }
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, f32)> {
        let named = [
            ("challenge_at", self.challenge_at),
            ("to_the_back_at", self.to_the_back_at),
            ("throttle_at", self.throttle_at),
            ("refuse_at", self.refuse_at),
        ];
        named.into_iter().filter_map(|(name, at)| Some((name, at?)))
    }
}

/// The thresholds of some routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GateAt {
    /// Names of routes; empty: all that are scored.
    pub routes: Vec<String>,
    /// Its thresholds.
    #[serde(flatten)]
    pub at: Thresholds,
}

/// All gates of a policy; a route has one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Gates(Vec<GateAt>);

impl Gates {
    /// These gates.
    pub fn new(gates: Vec<GateAt>) -> Gates {
        Gates(gates)
    }

    /// The same thresholds for every route.
    pub fn everywhere(at: Thresholds) -> Gates {
        Gates(vec![GateAt { routes: vec![], at }])
    }

    /// Of a policy. A gate in `shadow` counts as if it acted: what it would do is the question.
    pub fn of<'a>(gates: impl Iterator<Item = &'a BotGateSettings>) -> Gates {
        Gates(gates.map(|g| GateAt { routes: g.routes.clone(), at: Thresholds::of(g) }).collect())
    }

    /// Every gate.
    pub fn each(&self) -> &[GateAt] {
        &self.0
    }

    /// What happens to a visit of a route; the quota is spent from `spent`.
    pub(super) fn act(&self, route: &str, score: f32, spent: &mut Spent, at_ms: u64) -> Act {
        self.of_route(route).map_or(Act::Nothing, |g| g.at.act(score, |rate| spent.takes(rate, at_ms)))
    }

    /// Whether a score does anything on a route; a quota counts as something.
    pub(super) fn touches(&self, route: &str, score: f32) -> bool {
        self.of_route(route).is_some_and(|g| g.at.named().any(|(_, at)| score >= at))
    }

    fn of_route(&self, route: &str) -> Option<&GateAt> {
        self.0.iter().find(|g| g.routes.is_empty() || g.routes.iter().any(|r| r == route))
    }

    /// Every threshold that is set.
    pub fn set(&self) -> impl Iterator<Item = f32> {
        self.0.iter().flat_map(|g| g.at.named().map(|(_, at)| at))
    }

    /// As in a policy: no action begins above a stronger one.
    pub fn in_order(&self) -> Result<(), String> {
        let wrong = |g: &GateAt| {
            let set: Vec<_> = g.at.named().collect();
            let (lower, upper) = set.windows(2).find(|w| w[0].1 > w[1].1).map(|w| (w[0], w[1]))?;
            let of = if g.routes.is_empty() { String::new() } else { format!(" for {}", g.routes.join(", ")) };
            Some(format!(
                "{} ({}) is above {} ({}){of}: the order is challenge_at ≤ to_the_back_at ≤ throttle_at ≤ refuse_at",
                lower.0, lower.1, upper.0, upper.1
            ))
        };
        self.0.iter().find_map(wrong).map_or(Ok(()), Err)
    }
}

/// How much of its quota a visitor has spent: when it would be whole again, unix milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent(f64);

impl Spent {
    fn takes(&mut self, rate: Rate, at_ms: u64) -> bool {
        let (each, now) = (f64::from(rate.per_ms) / f64::from(rate.events.max(1)), at_ms as f64);
        let whole = self.0.max(now) + each;
        let room = whole - now <= each * f64::from(throttle_burst(rate));
        if room {
            self.0 = whole;
        }
        room
    }
}
