//! A line, its seats and tokens beside a plain list of people, on random traces: the list says what must happen.
#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    line::{CLAIM_WAIT_MS, Claimed, EXTENSIONS_MAX, Line, STANDS_S, Terms},
    queue::{Lane, Place, State},
    seat::{SeatRef, Seats},
};
use crate::{bucket::Bucket, time::Now};

const WINDOW_S: u32 = 7;
const SEAT_S: u32 = 11;

#[derive(Clone, Debug)]
enum Step {
    Join(bool),
    Touch(usize),
    Claim(usize),
    Extend(usize, u32),
    Leave(usize),
    GiveBack(usize),
    Renew(usize),
    Max(u32),
    Closed(bool),
    Tick(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Join),
        2 => any::<usize>().prop_map(Step::Touch),
        4 => any::<usize>().prop_map(Step::Claim),
        1 => (any::<usize>(), 0u32..9).prop_map(|(n, s)| Step::Extend(n, s)),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::GiveBack),
        1 => any::<usize>().prop_map(Step::Renew),
        1 => (0u32..6).prop_map(Step::Max),
        1 => any::<bool>().prop_map(Step::Closed),
        6 => (0u64..2_500).prop_map(Step::Tick),
        // So long that every deadline is over, and slots of the ring come round again.
        1 => (800_000u64..2_000_000).prop_map(Step::Tick),
    ]
}

/// The list.
#[derive(Default)]
struct Expected {
    people: BTreeMap<Place, State>,
    /// Claims, and since when.
    claims: BTreeMap<Place, u64>,
    /// Live seats, and when they expire.
    seats: BTreeMap<u64, u32>,
    ever: BTreeSet<u64>,
    extended: BTreeMap<Place, u8>,
    left: u64,
    seated: u64,
}

impl Expected {
    /// Who was told so and is there.
    fn next(&self) -> impl Iterator<Item = Place> {
        self.people.iter().filter(|(_, s)| matches!(s, State::Next { .. })).map(|(p, _)| *p)
    }
}

struct World {
    line: Line,
    seats: Seats,
    bucket: Bucket,
    list: Expected,
    now_ms: u64,
    max: u32,
    closed: bool,
}

impl World {
    fn new() -> Self {
        let bucket = Bucket::new(Now::at(0, 0));
        bucket.set_rate(0.8, 3.0, Now::at(0, 0));
        bucket.fill();
        World {
            line: Line::default(),
            seats: Seats::default(),
            bucket,
            list: Expected::default(),
            now_ms: 0,
            max: 3,
            closed: false,
        }
    }

    fn now_s(&self) -> u32 {
        (self.now_ms / 1_000) as u32 + 1
    }

    fn somebody(&self, n: usize) -> Option<Place> {
        self.list.people.keys().nth(n % self.list.people.len().max(1)).copied()
    }

    fn some_seat(&self, n: usize) -> Option<SeatRef> {
        self.list.seats.keys().nth(n % self.list.seats.len().max(1)).map(|b| SeatRef::from_bits(*b))
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Join(slow) => {
                let lane = if slow { Lane::Slow } else { Lane::Main };
                let until = self.now_s() + 5;
                let number = self.line.lane(lane).take(until, 1_000).expect("there is room");
                let before = self.list.people.insert(Place { lane, number }, State::Waiting { present_until_s: until });
                prop_assert_eq!(before, None, "a number is given once");
            }
            Step::Touch(n) => {
                let Some(place) = self.somebody(n) else { return Ok(()) };
                let until = self.now_s() + 9;
                self.line.lane(place.lane).touch(place.number, until);
                if let Some(State::Waiting { present_until_s } | State::Next { present_until_s }) =
                    self.list.people.get_mut(&place)
                {
                    *present_until_s = (*present_until_s).max(until);
                }
            }
            Step::Claim(n) => {
                let Some(place) = self.somebody(n) else { return Ok(()) };
                let called = matches!(self.list.people[&place], State::Called { .. });
                prop_assert_eq!(self.line.claim(place), Ok(called));
                if called {
                    self.list.people.insert(place, State::Claiming);
                    self.list.claims.insert(place, u64::MAX);
                }
            }
            Step::Extend(n, s) => {
                let Some(place) = self.somebody(n) else { return Ok(()) };
                let until = self.now_s() + s;
                let times = self.list.extended.entry(place).or_default();
                let later = matches!(self.list.people[&place], State::Called { deadline_s: d } if d > 0 && d < until);
                let may = later && *times < EXTENSIONS_MAX;
                prop_assert_eq!(self.line.extend(place, until), may);
                if may {
                    *times += 1;
                    self.list.people.insert(place, State::Called { deadline_s: until });
                }
            }
            Step::Leave(n) => {
                let Some(place) = self.somebody(n) else { return Ok(()) };
                let may = |s| matches!(s, State::Waiting { .. } | State::Called { .. } | State::Next { .. });
                let may = may(self.list.people[&place]);
                prop_assert_eq!(self.line.leave(place), may);
                if may {
                    self.list.people.insert(place, State::Left);
                    self.list.left += 1;
                }
            }
            Step::GiveBack(n) => {
                let Some(seat) = self.some_seat(n) else { return Ok(()) };
                prop_assert!(self.seats.release(seat) && !self.seats.release(seat));
                self.list.seats.remove(&seat.to_bits());
            }
            Step::Renew(n) => {
                let Some(seat) = self.some_seat(n) else { return Ok(()) };
                let live = self.list.seats[&seat.to_bits()] > self.now_s();
                prop_assert_eq!(self.seats.renew(seat, self.now_s(), self.now_s() + SEAT_S), live);
                if live {
                    let later = self.now_s() + SEAT_S;
                    self.list.seats.entry(seat.to_bits()).and_modify(|e| *e = later.max(*e));
                }
            }
            Step::Max(max) => self.max = max,
            Step::Closed(closed) => self.closed = closed,
            Step::Tick(ms) => return self.tick(ms),
        }
        Ok(())
    }

    fn tick(&mut self, ms: u64) -> Result<(), TestCaseError> {
        let before_s = self.now_s();
        self.now_ms += ms;
        let (now_s, now) = (self.now_s(), Now::at(0, self.now_ms));
        self.bucket.refill(now);
        self.seats.sweep(now_s);
        self.list.seats.retain(|_, expires| *expires > now_s);
        prop_assert_eq!(self.seats.live() as usize, self.list.seats.len());
        self.list.claims.values_mut().filter(|since| **since == u64::MAX).for_each(|since| *since = self.now_ms);
        // Who is next and has not been here for a while has to claim again.
        let absent = |s: &State| matches!(s, State::Next { present_until_s } if *present_until_s < now_s);
        if now_s != before_s {
            let people = self.list.people.values_mut();
            people.filter(|s| absent(s)).for_each(|s| *s = State::Called { deadline_s: 0 });
        }
        let tokens = self.bucket.available() as usize;
        let free = (self.max as usize).saturating_sub(self.list.seats.len()).min(tokens);
        let (expires, ends) = (now_s + SEAT_S, now_s + 1_000);
        let terms = Terms {
            units: u32::MAX,
            seats_max: self.max,
            seat_expires_s: expires,
            seat_ends_s: ends,
            claim_window_s: WINDOW_S,
            kept_s: WINDOW_S,
            refill_per_s: 0.8,
            slow_lane_percent: 20,
            closed: self.closed,
            keeps: false,
        };
        let answers = self.line.tick(now_s, now, terms, &self.seats, &self.bucket);
        let served = self.served(&answers, free, expires)?;
        let most = 5 * (self.bucket.available() + u64::from(self.max.saturating_sub(self.seats.live())));
        self.called(free - served, most as usize, now_s)?;
        let (taken, seated, left) = self.line.counts();
        prop_assert_eq!((taken, seated, left), (self.list.people.len() as u64, self.list.seated, self.list.left));
        Ok(())
    }

    /// The lowest claims get what is free; who waited too long is told so.
    fn served(&mut self, answers: &[Claimed], free: usize, expires: u32) -> Result<usize, TestCaseError> {
        let free = if self.closed { 0 } else { free };
        let unanswered: Vec<(Place, u64)> = self.list.claims.iter().map(|(p, s)| (*p, *s)).collect();
        let mut open: Vec<Place> = unanswered.iter().map(|c| c.0).chain(self.list.next()).collect();
        open.sort_unstable();
        let seated: Vec<Place> = answers.iter().filter(|a| a.seat.is_some()).map(|a| a.place).collect();
        let must: Vec<Place> = open.into_iter().take(free).collect();
        prop_assert_eq!(&seated, &must, "the lowest claims, as many as find token and seat");
        let told: Vec<Place> = answers.iter().filter(|a| a.seat.is_none()).map(|a| a.place).collect();
        let late = |c: &&(Place, u64)| self.now_ms >= c.1 + CLAIM_WAIT_MS;
        let must: Vec<Place> = unanswered.iter().filter(late).map(|c| c.0).filter(|p| !seated.contains(p)).collect();
        prop_assert_eq!(told, must, "who waited long enough hears that it is next");
        for a in answers {
            self.list.claims.remove(&a.place);
            let Some(seat) = a.seat else {
                self.list.people.insert(a.place, State::Next { present_until_s: self.now_s() + STANDS_S });
                continue;
            };
            prop_assert!(self.list.ever.insert(seat.to_bits()), "seat and generation were given before");
            let index_is_free = self.list.seats.keys().all(|b| SeatRef::from_bits(*b).index != seat.index);
            prop_assert!(index_is_free, "the seat has a holder");
            self.list.seats.insert(seat.to_bits(), expires);
            self.list.people.insert(a.place, State::Seated);
            self.list.seated += 1;
        }
        Ok(seated.len())
    }

    /// Present people are called lowest first, enough for what is free, and nobody else changes.
    fn called(&mut self, free: usize, most: usize, now_s: u32) -> Result<(), TestCaseError> {
        let outstanding = |p: &BTreeMap<Place, State>| {
            p.values().filter(|s| matches!(s, State::Called { deadline_s } if *deadline_s >= now_s)).count()
        };
        let under_way = outstanding(&self.list.people) + self.list.claims.len() + self.list.next().count();
        let mut called = 0;
        for lane in [Lane::Main, Lane::Slow] {
            let mut waits = false;
            for (place, state) in self.list.people.iter_mut().filter(|(p, _)| p.lane == lane) {
                let is = self.line.state(*place);
                let State::Waiting { present_until_s } = *state else {
                    prop_assert_eq!(is, *state, "{:?}", place);
                    continue;
                };
                match is {
                    State::Called { deadline_s } => {
                        prop_assert!(!waits && !self.closed, "{place:?} was called before somebody lower");
                        let present = present_until_s >= now_s;
                        prop_assert_eq!(deadline_s, if present { now_s + WINDOW_S } else { 0 });
                        called += usize::from(present);
                    }
                    other => {
                        prop_assert_eq!(other, *state);
                        waits |= present_until_s >= now_s;
                    }
                }
                *state = is;
            }
        }
        let wait =
            self.list.people.values().any(|s| matches!(s, State::Waiting { present_until_s } if *present_until_s >= now_s));
        let somebody = under_way + called > 0 || free == 0 || !wait || self.closed;
        prop_assert!(somebody, "{free} are free, nobody is called, and somebody present waits");
        // At the least claim share one in five comes.
        prop_assert!(called == 0 || under_way + called <= most, "{under_way} under way, {called} called, at most {most}");
        prop_assert_eq!(self.line.outstanding() as usize, outstanding(&self.list.people));
        Ok(())
    }
}

proptest! {
    #[test]
    fn a_line_does_what_a_plain_list_would(steps in prop::collection::vec(step(), 1..250)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step)?;
        }
    }
}

#[cfg(feature = "sabotage")]
#[test]
fn the_list_sees_bugs() {
    use proptest::test_runner::{Config, TestRunner};

    use crate::sabotage::{Bug, in_this_thread};

    let bugs = [
        Bug::ClaimsHighestFirst,
        Bug::ClaimsFall,
        Bug::CallsOutOfOrder,
        Bug::FrontierSkipsPresent,
        Bug::CallsNeverExpire,
        Bug::TicketNotBurnt,
        Bug::LeaveNotCounted,
        Bug::PlaceGivenTwice,
        Bug::SeatsIgnoreMax,
        Bug::GenerationNotBumped,
    ];
    for bug in bugs {
        let config = Config { max_shrink_iters: 0, failure_persistence: None, ..Config::with_cases(256) };
        in_this_thread(Some(bug));
        let result = TestRunner::new(config).run(&prop::collection::vec(step(), 100..250), |steps| {
            let mut world = World::new();
            steps.iter().try_for_each(|s| world.take(s))
        });
        in_this_thread(None);
        assert!(result.is_err(), "{bug:?} goes unseen");
    }
}
