//! From requests to what was offered: people who arrive. Programs and polls are left out.

use std::collections::HashMap;

use super::Report;
use crate::features::{Agent, Target};

/// Who was silent so long arrives anew, seconds.
const AWAY_S: f64 = 1_800.0;
/// The same client asks for the same thing again within so many seconds …
const POLL_WITHIN_S: f64 = 60.0;
/// … so often in a row: a poll.
const POLL_FROM: u32 = 3;
/// Clients remembered; beyond that the memory is cleared and people count as arriving anew.
const CLIENTS_MAX: usize = 4_000_000;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// People who arrive: the first page of somebody who was not there in the last half hour.
    Arrivals,
    /// Every request that is no poll.
    Requests,
}

/// A request.
pub(super) struct Hit<'h> {
    pub(super) at_s: f64,
    pub(super) client: u64,
    pub(super) path: &'h str,
    pub(super) agent: Agent,
}

/// Picks what counts. Requests come in order of time.
pub(super) struct Picker {
    count: Count,
    keep_bots: bool,
    seen: HashMap<u64, f64>,
    asked: HashMap<(u64, u64), (f64, u32)>,
}

impl Picker {
    pub(super) fn new(count: Count, keep_bots: bool) -> Self {
        Picker { count, keep_bots, seen: HashMap::new(), asked: HashMap::new() }
    }

    /// Whether this request counts.
    pub(super) fn counts(&mut self, hit: &Hit<'_>, report: &mut Report) -> bool {
        if !self.keep_bots && matches!(hit.agent, Agent::Crawler | Agent::Tool) {
            report.bots += 1;
            return false;
        }
        if self.asked.len() > CLIENTS_MAX {
            self.asked.clear();
        }
        let thing = hash(hit.path);
        let asked = self.asked.entry((hit.client, thing)).or_insert((f64::NEG_INFINITY, 0));
        let again = hit.at_s - asked.0 <= POLL_WITHIN_S;
        *asked = (hit.at_s, if again { asked.1 + 1 } else { 0 });
        if asked.1 >= POLL_FROM {
            report.polls += 1;
            self.seen.insert(hit.client, hit.at_s);
            return false;
        }
        if self.count == Count::Requests {
            return true;
        }
        if Target::of(hit.path) == Target::Asset {
            report.assets += 1;
            return false;
        }
        self.arrives(hit.client, hit.at_s, report)
    }

    /// Whether this client was away.
    pub(super) fn arrives(&mut self, client: u64, at_s: f64, report: &mut Report) -> bool {
        if self.seen.len() > CLIENTS_MAX {
            self.seen.clear();
            report.notes.push(format!("more than {CLIENTS_MAX} clients: they were forgotten once"));
        }
        let before = self.seen.insert(client, at_s);
        let there = before.is_some_and(|b| at_s - b <= AWAY_S);
        report.repeats += u64::from(there);
        !there
    }
}

pub(super) fn hash(text: &str) -> u64 {
    use std::hash::Hasher as _;
    let mut h = siphasher::sip::SipHasher13::new_with_keys(11, 13);
    h.write(text.as_bytes());
    h.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(count: Count, hits: &[(f64, u64, &str, Agent)]) -> (Vec<bool>, Report) {
        let (mut p, mut r) = (Picker::new(count, false), Report::default());
        let take = |h: &(f64, u64, &str, Agent)| p.counts(&Hit { at_s: h.0, client: h.1, path: h.2, agent: h.3 }, &mut r);
        (hits.iter().map(take).collect(), r)
    }

    #[test]
    fn people_arrive_once_and_programs_never() {
        let b = Agent::Browser;
        let hits = [
            (0.0, 1, "/", b),
            (5.0, 1, "/style.css", b),
            (9.0, 1, "/cart", b),
            (10.0, 2, "/", Agent::Crawler),
            (11.0, 3, "/", Agent::Tool),
            (2_000.0, 1, "/", b),
        ];
        let (counted, r) = picked(Count::Arrivals, &hits);
        assert_eq!(counted, [true, false, false, false, false, true]);
        assert_eq!((r.bots, r.assets, r.repeats), (2, 1, 1));
        assert_eq!(picked(Count::Requests, &hits).0, [true, true, true, false, false, true]);
    }

    #[test]
    fn polls_are_no_requests() {
        let hits: Vec<_> = (0..10).map(|i| (f64::from(i) * 10.0, 1, "/status", Agent::Browser)).collect();
        let (counted, r) = picked(Count::Requests, &hits);
        assert_eq!((counted.iter().filter(|c| **c).count(), r.polls), (3, 7));
        let slow: Vec<_> = (0..10).map(|i| (f64::from(i) * 90.0, 1, "/status", Agent::Browser)).collect();
        assert_eq!(picked(Count::Requests, &slow).1.polls, 0, "who comes back now and then reads");
    }
}
