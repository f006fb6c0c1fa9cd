//! The crowd: people and bots with a mind of their own, as pure state machines. A seed fixes who comes when and how each
//! of them reacts; what they meet decides the rest. No I/O and no clock in here, so that the same crowd storms a real
//! gate over HTTP and the filters alone in virtual time.

mod headers;
mod kind;
mod scenario;
mod step;
mod visitor;
#[cfg(test)]
mod walks;

use std::net::Ipv4Addr;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

pub use headers::{Header, Profile};
pub use kind::Kind;
pub use scenario::{Bots, ENDS_AT_MAX, FREEZE_BEFORE_MIN, LogNormal, People, Scenario, ScenarioError, Squad, VISITORS_MAX, Wave};
pub use step::{Action, Answer, AnswerKind, GateVerdict, Note, Outcome, Request, Step};
pub use visitor::{Goal, Visitor};

use visitor::{Gate, Manner, Pace};

/// Everybody who comes, in the order of their ids.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// Each with the instant of arrival.
    pub visitors: Vec<Visitor>,
}

/// Stream of the random generator that times arrivals; visitors use the streams from 1 on.
const ARRIVALS: u64 = 0;

impl Crowd {
    /// The crowd of a scenario. The same seed makes the same crowd.
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        let mut arrivals = ChaCha8Rng::seed_from_u64(seed);
        arrivals.set_stream(ARRIVALS);
        let mut visitors = Vec::new();
        for n in 0..scenario.people.count {
            let manner = person(&scenario.people, &mut arrivals);
            let at = arrival(&scenario.people.arrivals, &mut arrivals);
            let from = if scenario.spread { spread(18, n) } else { address(18, n) };
            visitors.push(Visitor::new(visitors.len() as u32, at, manner, vec![from], rng(seed, visitors.len())));
        }
        let mut bot_address = 0;
        for bots in &scenario.bots {
            let squad = bots.squad();
            for _ in 0..squad.count {
                let addresses = (0..squad.addresses.max(1)).map(|k| address(19, bot_address + k)).collect();
                bot_address += squad.addresses.max(1);
                // Started by hand or by cron: not all in the same millisecond.
                let at = squad.from.ms() + arrivals.random_range(0..=squad.every.ms());
                visitors.push(Visitor::new(visitors.len() as u32, at, bot(bots), addresses, rng(seed, visitors.len())));
            }
        }
        Crowd { visitors }
    }
}

fn rng(seed: u64, id: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(ARRIVALS + 1 + id as u64);
    rng
}

/// The `n`-th address of 198.18.0.0/16 (people) or 198.19.0.0/16 (bots): a range set aside for load tests.
fn address(second: u8, n: u32) -> Ipv4Addr {
    Ipv4Addr::new(198, second, (n / 250 % 256) as u8, (n % 250 + 1) as u8)
}

/// The `n`-th address when neighbours are as few as can be.
fn spread(second: u8, n: u32) -> Ipv4Addr {
    Ipv4Addr::new(198, second, (n % 256) as u8, (n / 256 % 250 + 1) as u8)
}

/// Picks a wave by its share, then an instant in it.
fn arrival(waves: &[Wave], rng: &mut ChaCha8Rng) -> u64 {
    let total: f64 = waves.iter().map(|w| w.share).sum();
    let mut pick = rng.random_range(0.0..1.0) * total;
    for wave in waves {
        pick -= wave.share;
        if pick < 0.0 {
            return rng.random_range(wave.from.ms()..=wave.to.ms());
        }
    }
    waves.last().map_or(0, |w| w.from.ms())
}

fn person(people: &People, rng: &mut ChaCha8Rng) -> Manner {
    let mut percent = |p: u8| rng.random_range(0..100) < p;
    let gate = match (percent(people.no_script_percent), percent(people.refreshers_percent)) {
        (true, _) => Gate::Page,
        (false, true) => Gate::Impatient,
        (false, false) => Gate::Script,
    };
    Manner {
        kind: Kind::Person,
        goals: if percent(people.browse_only_percent) { &[Goal::Home, Goal::Product] } else { PERSON },
        pace: Pace::Think(people.think),
        gate,
        // The form goes off by itself where the page is in sight, and waits for a click where it is not.
        reaction_ms: LogNormal { median: tidegate_filters::units::Span(400), sigma: 1.0 },
        assets: true,
        cookies: true,
        confirms: true,
        units_max: 1,
        retries_max: people.retries_max,
        patience_page_ms: people.patience_page.ms(),
        patience_waiting_ms: people.patience_waiting.ms(),
        profile: Profile::BROWSERS[rng.random_range(0..Profile::BROWSERS.len())],
    }
}

const PERSON: &[Goal] = &[Goal::Home, Goal::Product, Goal::Cart, Goal::Checkout, Goal::Order];
const SCALPER: &[Goal] = &[Goal::Product, Goal::Cart, Goal::Checkout];

fn bot(bots: &Bots) -> Manner {
    let squad = bots.squad();
    let manner = Manner {
        kind: Kind::PlainScript,
        goals: &[Goal::Checkout],
        pace: Pace::Every(squad.every.ms()),
        gate: Gate::Ignores,
        reaction_ms: LogNormal { median: tidegate_filters::units::Span(50), sigma: 0.1 },
        assets: false,
        cookies: true,
        confirms: false,
        units_max: squad.units_max,
        retries_max: u32::MAX,
        patience_page_ms: squad.patience.ms(),
        patience_waiting_ms: u64::MAX,
        profile: Profile::PYTHON,
    };
    match bots {
        Bots::PlainScript(_) => Manner { cookies: false, ..manner },
        Bots::HeaderCopier(_) => {
            Manner { kind: Kind::HeaderCopier, goals: SCALPER, gate: Gate::OwnCadence, profile: Profile::COPIED, ..manner }
        }
        Bots::ManyAddresses(_) => {
            Manner { kind: Kind::ManyAddresses, goals: SCALPER, gate: Gate::Script, profile: Profile::COPIED, ..manner }
        }
        Bots::SlowAndLow(_) => Manner {
            kind: Kind::SlowAndLow,
            confirms: true,
            goals: SCALPER,
            gate: Gate::Script,
            profile: Profile::CHROME,
            ..manner
        },
        Bots::JitteredMimic(_) => Manner {
            kind: Kind::JitteredMimic,
            confirms: true,
            goals: SCALPER,
            pace: Pace::Think(LogNormal { median: squad.every, sigma: 0.5 }),
            gate: Gate::Script,
            profile: Profile::CHROME,
            ..manner
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn plan(seed: u64) -> Vec<(u32, Kind, u64, Step)> {
        let scenario = Scenario::builtin("drop-day").unwrap();
        let crowd = Crowd::new(&scenario, seed);
        crowd.visitors.into_iter().map(|mut v| (v.id(), v.kind(), v.arrives_ms(), v.start())).collect()
    }

    #[test]
    fn the_same_seed_is_the_same_crowd_and_another_is_not() {
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn the_same_answers_give_the_same_walk() {
        let walk = || {
            let scenario = Scenario::builtin("drop-day").unwrap();
            let mut v = Crowd::new(&scenario, 3).visitors.swap_remove(5);
            let mut steps = vec![v.start()];
            for n in 0..6 {
                let now = 10_000 + n * 700;
                let answer = if n == 2 { Answer::of(AnswerKind::Error, 500) } else { Answer::of(AnswerKind::Page, 200) };
                steps.push(v.next(&answer, now));
            }
            steps
        };
        assert_eq!(walk(), walk());
    }

    #[test]
    fn arrivals_follow_the_waves() {
        let scenario = Scenario::builtin("drop-day").unwrap();
        let crowd = Crowd::new(&scenario, 1);
        let people = crowd.visitors.iter().filter(|v| v.kind() == Kind::Person).count();
        assert_eq!(people as u32, scenario.people.count);
        let total: f64 = scenario.people.arrivals.iter().map(|w| w.share).sum();
        for wave in &scenario.people.arrivals {
            let expected = wave.share / total;
            let inside = crowd
                .visitors
                .iter()
                .filter(|v| v.kind() == Kind::Person && (wave.from.ms()..=wave.to.ms()).contains(&v.arrives_ms()))
                .count() as f64;
            // Waves may touch, so at least their share, less five standard deviations.
            let slack = 5.0 * (expected * (1.0 - expected) / f64::from(scenario.people.count)).sqrt();
            assert!(inside / f64::from(scenario.people.count) > expected - slack, "{wave:?}: {inside}");
        }
    }

    #[test]
    fn addresses_are_apart() {
        let scenario = Scenario::builtin("drop-day").unwrap();
        let crowd = Crowd::new(&scenario, 1);
        let mut seen = std::collections::BTreeSet::new();
        for mut v in crowd.visitors {
            if let Step::Send { request, .. } = v.start() {
                assert!(seen.insert(request.address), "{}", request.address);
            }
        }
    }
}
