//! What is offered: the same crowd for every tier, in multiples of the orders the shop takes.

use serde::Serialize;
use tidegate_filters::units::Span;

use crate::crowd::{LogNormal, People, Scenario, Wave};

/// Shape of what is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// So many times what the shop takes.
    Times(u32),
    /// Half of what it takes, and from one second to the next four times.
    Step,
    /// From a quarter to four times, steadily.
    Ramp,
    /// Four times for a third of the time, then eight tenths; impatient people who reload and do not give up.
    RetryStorm,
}

/// Before anything is measured: seven tenths of what the shop takes, so that everybody knows the shop.
const WARM: f64 = 0.7;
/// Pieces of a ramp.
const PIECES: u32 = 10;

impl Load {
    /// What `make bench-goodput` runs.
    pub const ALL: [Load; 7] =
        [Load::Times(1), Load::Times(2), Load::Times(4), Load::Times(10), Load::Step, Load::Ramp, Load::RetryStorm];

    /// For tables.
    pub fn name(self) -> String {
        match self {
            Load::Times(n) => format!("{n}×"),
            Load::Step => "step 0.5× → 4×".into(),
            Load::Ramp => "ramp 0.25× → 4×".into(),
            Load::RetryStorm => "retry storm 4× → 0.8×".into(),
        }
    }

    /// How long it takes beside the others: what people cannot get at once takes longest to settle.
    pub fn weight(self) -> f64 {
        match self {
            Load::Times(1) => 0.6,
            Load::Times(2) | Load::Ramp => 0.9,
            Load::Times(_) => 1.4,
            Load::Step | Load::RetryStorm => 1.1,
        }
    }

    /// Multiples of what the shop takes, in pieces of the time: (share of the time, multiple).
    fn pieces(self) -> Vec<(f64, f64)> {
        match self {
            Load::Times(n) => vec![(1.0, f64::from(n))],
            Load::Step => vec![(0.35, 0.5), (0.65, 4.0)],
            Load::Ramp => {
                let piece = |i: u32| (1.0 / f64::from(PIECES), 0.25 + 3.75 * (f64::from(i) + 0.5) / f64::from(PIECES));
                (0..PIECES).map(piece).collect()
            }
            Load::RetryStorm => vec![(0.35, 4.0), (0.65, 0.8)],
        }
    }

    /// When the step comes, milliseconds; `None` of other loads.
    pub fn steps_at_ms(self, timing: Timing) -> Option<u64> {
        (self == Load::Step).then(|| timing.warm_ms + (0.35 * timing.loaded_ms as f64) as u64)
    }

    /// The crowd. `orders_per_s` is what the shop takes.
    pub fn scenario(self, orders_per_s: f64, timing: Timing) -> Scenario {
        let mut from = 0.0;
        let mut count = 0.0;
        let mut wave = |ms: f64, times: f64| {
            let people = orders_per_s * times * ms / 1_000.0;
            let (begun, ended) = (from, from + ms);
            (from, count) = (ended, count + people);
            Wave { share: people, from: Span(begun as u64), to: Span((ended as u64).saturating_sub(1)) }
        };
        let mut arrivals = vec![wave(timing.warm_ms as f64, WARM)];
        arrivals.extend(self.pieces().into_iter().map(|(share, times)| wave(timing.loaded_ms as f64 * share, times)));
        let mut scenario = shoppers(self.name(), Span(timing.ends_ms()), count, arrivals);
        if self == Load::RetryStorm {
            (scenario.people.patience_page, scenario.people.retries_max) = (Span(1_500), 100);
        }
        scenario
    }
}

/// People who look, buy and go, as they arrive; nobody else.
pub(super) fn shoppers(name: String, ends_at: Span, count: f64, arrivals: Vec<Wave>) -> Scenario {
    Scenario {
        name,
        opens_at: Span(0),
        freezes_at: None,
        ends_at,
        spread: false,
        people: People {
            count: count.round() as u32,
            arrivals,
            think: LogNormal { median: Span(600), sigma: 0.5 },
            patience_page: Span::secs(6),
            patience_waiting: Span::secs(600),
            retries_max: 6,
            browse_only_percent: 0,
            no_script_percent: 10,
            refreshers_percent: 10,
        },
        bots: Vec::new(),
    }
}

impl std::str::FromStr for Load {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "step" => Ok(Load::Step),
            "ramp" => Ok(Load::Ramp),
            "storm" => Ok(Load::RetryStorm),
            n => match n.trim_end_matches(['x', '×']).parse() {
                Ok(n @ 1..=20) => Ok(Load::Times(n)),
                _ => Err(format!("`{n}`: write 1 to 20, step, ramp or storm")),
            },
        }
    }
}

/// How long a cell takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timing {
    /// Before the load comes.
    pub warm_ms: u64,
    /// The load.
    pub loaded_ms: u64,
}

impl Timing {
    /// A fifth to get warm and at least two seconds, the rest under load.
    pub fn of(cell_ms: u64) -> Self {
        let warm_ms = (cell_ms / 5).max(2_000);
        Timing { warm_ms, loaded_ms: cell_ms.saturating_sub(warm_ms).max(2_000) }
    }

    /// Length.
    pub fn ends_ms(self) -> u64 {
        self.warm_ms + self.loaded_ms
    }

    /// From when on is measured: a steady load after two fifths of it, for an order takes five pages and each may have to wait; a
    /// changing one from its change.
    pub fn measured_from_ms(self, load: Load) -> u64 {
        match load {
            Load::Times(_) => self.warm_ms + self.loaded_ms * 2 / 5,
            Load::Step => load.steps_at_ms(self).unwrap_or(self.warm_ms),
            Load::Ramp | Load::RetryStorm => self.warm_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::crowd::Crowd;

    #[test]
    fn as_many_come_as_are_offered() {
        let timing = Timing::of(20_000);
        assert_eq!((timing.warm_ms, timing.loaded_ms), (4_000, 16_000));
        for (load, times) in [(Load::Times(4), 4.0), (Load::Step, 0.35 * 0.5 + 0.65 * 4.0), (Load::Ramp, 2.125)] {
            let crowd = Crowd::new(&load.scenario(40.0, timing), 1);
            let loaded = crowd.visitors.iter().filter(|v| v.arrives_ms() >= timing.warm_ms).count() as f64;
            let expected = 40.0 * 16.0 * times;
            assert!((loaded / expected - 1.0).abs() < 0.05, "{load:?}: {loaded} of {expected}");
        }
        let at = Load::Step.steps_at_ms(timing).unwrap();
        let crowd = Crowd::new(&Load::Step.scenario(40.0, timing), 1);
        let within = |from: u64, to: u64| crowd.visitors.iter().filter(|v| (from..to).contains(&v.arrives_ms())).count();
        assert!(within(at, at + 1_000) > 5 * within(at - 1_000, at), "it comes from one second to the next");
    }

    #[test]
    fn loads_are_named_as_they_are_written() {
        for (text, load) in [("4", Load::Times(4)), ("10x", Load::Times(10)), ("step", Load::Step), ("storm", Load::RetryStorm)] {
            assert_eq!(text.parse::<Load>(), Ok(load));
        }
        assert!("0".parse::<Load>().is_err() && "flood".parse::<Load>().is_err());
    }
}
