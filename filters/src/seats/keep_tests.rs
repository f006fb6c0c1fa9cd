//! A room, a disk that fails or not, kills at any moment: what people were told stays true.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    keep::{Chunk, Head, Kept, reserve_ahead},
    queue::{KeptLane, Lane, Place, Queue, State},
    room::*,
    seat::{SeatRecord, SeatRef},
    token::Token,
};
use crate::{
    plan::Plan,
    rule::bot_gate::Class,
    time::Now,
    units::Span,
    verdict::Verdict,
    visit::{Visit, Wants},
};

const HOST: &str = "shop.example";
const SEATS: u32 = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    Join,
    Poll(usize),
    Claim(usize),
    Leave(usize),
    Tick,
    Write,
    /// Everything that was handed over becomes durable, or nothing of it.
    Disk(bool),
    Kill,
}

#[derive(Debug, Default)]
struct Disk {
    head: Head,
    seats: BTreeMap<u32, SeatRecord>,
    chunks: BTreeMap<(Lane, usize), Vec<u32>>,
}

impl Disk {
    fn write(&mut self, kept: Kept) {
        self.head = kept.head;
        self.seats.extend(kept.seats.iter().map(|s| (s.index, *s)));
        kept.chunks.into_iter().for_each(|c| drop(self.chunks.insert((c.lane, c.index), c.words)));
    }

    fn read(&self) -> Kept {
        let chunk =
            |((lane, index), words): (&(Lane, usize), &Vec<u32>)| Chunk { lane: *lane, index: *index, words: words.clone() };
        Kept {
            head: self.head.clone(),
            seats: self.seats.values().copied().collect(),
            chunks: self.chunks.iter().map(chunk).collect(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Grant {
    Claim(Place, SeatRef),
    WalkIn(SeatRef),
}

/// How far the news that somebody left the shop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    No,
    InMemory,
    HandedOver,
    OnDisk,
}

struct World {
    room: Room,
    disk: Disk,
    all: bool,
    granted: Vec<Grant>,
    on_the_way: Vec<(Kept, Vec<Grant>)>,
    ms: u64,
    life_ms: u64,
    /// What people hold, and whether a call was told.
    tickets: Vec<(Token, Place, bool)>,
    passes: Vec<(Token, SeatRef, Gone)>,
    burnt: BTreeSet<Place>,
    seats_told: BTreeSet<(u32, u32)>,
}

fn settings() -> RoomSettings {
    RoomSettings {
        name: "drop".into(),
        seats: SeatSettings { max: SEATS, pass_idle: Span::secs(600), pass_age_max: Span::secs(1_200) },
        admission: Default::default(),
        weights: Default::default(),
        beacon: Default::default(),
        visitor: Default::default(),
        freeze_before: Span::secs(60),
        order: Order::Fifo,
        arm: Arm::Auto,
        claim_window: Span::secs(30),
        entries_max: 1_000_000,
        slow_lane_percent: 20,
        status_while_waiting: 200,
        binding: Binding::None,
        on_failure: OnFailure::Freeze,
        status_for_crawlers: 503,
        revoked_bypasses: vec![],
        page: PageSettings::default(),
    }
}

fn plan() -> Plan {
    Plan { refill_per_s: 1_000.0, burst: 100.0, seats: SEATS, armed: false, reason: String::new() }
}

fn visit<'a>(method: &'a str, tokens: &'a [Token]) -> Visit<'a> {
    Visit { method, host: HOST, path: "/", route: Some(0), wants: Wants::Html, tokens, ..Visit::default() }
}

impl World {
    fn new() -> Self {
        let mut room = Room::new(0, &settings(), &[], 7, Now::at(0, 0));
        room.open(&plan(), Now::at(0, 0));
        room.keep(Now::at(0, 0));
        let mut world = World {
            room,
            disk: Disk::default(),
            all: true,
            granted: vec![],
            on_the_way: vec![],
            ms: 0,
            life_ms: 0,
            tickets: vec![],
            passes: vec![],
            burnt: BTreeSet::new(),
            seats_told: BTreeSet::new(),
        };
        world.write();
        world.disk(true).unwrap();
        world
    }

    /// The wall goes on; the monotonic clock begins with the life.
    fn now(&self) -> Now {
        Now { mono_ns: (self.ms - self.life_ms) * 1_000_000, wall_ms: 1_800_000_000_000 + self.ms }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.ms += 50;
        match step {
            Step::Join => self.join()?,
            Step::Poll(i) => self.poll(i)?,
            Step::Claim(i) if !self.tickets.is_empty() => {
                let ticket = self.tickets[i % self.tickets.len()].0.clone();
                if let Claim::Seated(seat) = self.room.claim(&visit("POST", &[ticket]), self.now()) {
                    prop_assert!(self.passes.iter().any(|p| p.1 == seat), "a seat that nobody was told durably");
                }
            }
            Step::Leave(i) if !self.passes.is_empty() => {
                let n = self.passes.len();
                let now = self.now();
                let (pass, _, gone) = &mut self.passes[i % n];
                if self.room.leave(&visit("POST", std::slice::from_ref(pass)), now).is_some() {
                    *gone = Gone::InMemory;
                }
            }
            Step::Tick => self.tick(),
            Step::Write => self.write(),
            Step::Disk(works) => self.disk(works)?,
            Step::Kill => self.kill()?,
            _ => {}
        }
        prop_assert!(self.room.stats(self.now()).seats_live <= SEATS, "more live seats than there are");
        Ok(())
    }

    fn join(&mut self) -> Result<(), TestCaseError> {
        match self.room.visit(&visit("GET", &[]), Class::Human, self.now()) {
            (Verdict::Wait(Waiting { place: Some(place), fresh: true, .. }), _) => {
                prop_assert!(self.tickets.iter().all(|t| t.1 != place), "{place:?} was given twice");
                self.tickets.push((self.room.ticket_token(place, HOST, self.now()), place, false));
            }
            (Verdict::Forward(Entrance::Seated { seat, .. }), _) => self.granted.push(Grant::WalkIn(seat)),
            _ => {}
        }
        Ok(())
    }

    fn poll(&mut self, i: usize) -> Result<(), TestCaseError> {
        let n = self.tickets.len();
        if n == 0 {
            return Ok(());
        }
        let now = self.now();
        let (ticket, place, called) = &mut self.tickets[i % n];
        match self.room.status(&visit("GET", std::slice::from_ref(ticket)), now) {
            RoomStatus::Waiting(w) => {
                prop_assert_eq!(w.place, Some(*place));
                let is = matches!(w.stage, Stage::Called { .. } | Stage::Next);
                prop_assert!(
                    is || !*called || self.burnt.contains(place),
                    "{:?} was told of its call and now is not called",
                    place
                );
                *called |= is;
            }
            RoomStatus::None => prop_assert!(self.burnt.contains(place), "{:?} is lost", place),
            other => prop_assert!(false, "{:?}", other),
        }
        Ok(())
    }

    fn tick(&mut self) {
        let served = self.room.tick(self.now());
        self.granted.extend(served.iter().filter_map(|c| Some(Grant::Claim(c.place, c.seat?))));
    }

    fn write(&mut self) {
        let mut kept = self.room.changes(std::mem::take(&mut self.all), self.now());
        for i in 0..2 {
            kept.head.reserved[i] = reserve_ahead(kept.head.taken[i], kept.head.reserved[i], 0, settings().entries_max);
        }
        self.on_the_way.push((kept, std::mem::take(&mut self.granted)));
        self.news(Gone::InMemory, Gone::HandedOver);
    }

    fn disk(&mut self, works: bool) -> Result<(), TestCaseError> {
        self.news(Gone::HandedOver, if works { Gone::OnDisk } else { Gone::InMemory });
        for (kept, grants) in std::mem::take(&mut self.on_the_way) {
            if works {
                self.room.reserve(kept.head.reserved);
                self.room.announce(kept.head.frontier);
                self.disk.write(kept);
            }
            self.all |= !works;
            for grant in grants {
                match grant {
                    Grant::Claim(place, seat) => self.room.settle(place, seat, works),
                    Grant::WalkIn(seat) if !works => self.room.take_back(seat),
                    Grant::WalkIn(_) => {}
                }
                if works {
                    self.told(grant)?;
                }
            }
        }
        Ok(())
    }

    fn news(&mut self, from: Gone, to: Gone) {
        self.passes.iter_mut().filter(|p| p.2 == from).for_each(|p| p.2 = to);
    }

    fn told(&mut self, grant: Grant) -> Result<(), TestCaseError> {
        let (Grant::Claim(_, seat) | Grant::WalkIn(seat)) = grant;
        if let Grant::Claim(place, _) = grant {
            prop_assert!(self.burnt.insert(place), "{:?} got two passes", place);
        }
        prop_assert!(self.seats_told.insert((seat.index, seat.generation)), "{:?} was given twice", seat);
        self.passes.push((self.room.pass_token(seat, HOST, self.now()), seat, Gone::No));
        Ok(())
    }

    fn kill(&mut self) -> Result<(), TestCaseError> {
        self.granted.clear();
        self.on_the_way.clear();
        // A seat that a kill brings back is its holder's again.
        self.news(Gone::InMemory, Gone::No);
        self.news(Gone::HandedOver, Gone::No);
        self.life_ms = self.ms;
        let kept = self.disk.read();
        let mut room = Room::new(0, &settings(), &[], 99, self.now());
        room.open(&plan(), self.now());
        room.restore(&kept, self.now());
        prop_assert_eq!((room.epoch(), room.stats(self.now()).frontier), (7, kept.head.frontier));
        self.room = room;
        self.all = true;
        // As at a start: nobody is served before this is durable.
        self.write();
        self.disk(true)?;
        for (pass, seat, gone) in self.passes.clone() {
            let inside = self.room.visit(&visit("POST", &[pass]), Class::Human, self.now()).0;
            let inside = matches!(inside, Verdict::Forward(Entrance::Inside { .. }));
            prop_assert!(inside || gone != Gone::No, "the pass of {:?} is lost", seat);
            prop_assert!(!inside || gone != Gone::OnDisk, "the pass of {:?} was given back and is good again", seat);
        }
        for i in 0..self.tickets.len() {
            self.poll(i)?;
        }
        Ok(())
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Join),
        3 => any::<usize>().prop_map(Step::Poll),
        6 => any::<usize>().prop_map(Step::Claim),
        1 => any::<usize>().prop_map(Step::Leave),
        5 => Just(Step::Tick),
        4 => Just(Step::Write),
        4 => prop::bool::weighted(0.8).prop_map(Step::Disk),
        1 => Just(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_people_were_told_outlives_kills_and_bad_disks(steps in prop::collection::vec(step(), 1..250)) {
        let mut world = World::new();
        for s in steps {
            world.step(s)?;
        }
        world.kill()?;
    }
}

#[test]
fn reserved_numbers_nobody_took_are_passed_over_free() {
    let mut world = World::new();
    (0..10).for_each(|_| world.step(Step::Join).unwrap());
    // The first four walked in; the rest wait.
    world.step(Step::Write).unwrap();
    world.step(Step::Disk(true)).unwrap();
    world.kill().unwrap();
    let first = world.tickets.len();
    assert_eq!(first, 6);
    (0..4).for_each(|_| world.step(Step::Join).unwrap());
    let newcomer = world.tickets[first].1.number;
    assert_eq!(newcomer, 1_024, "numbers that may be somebody's are not given again");
    assert_eq!(world.room.stats(world.now()).waiting, 10);
    // All seats come free: everybody is called in a tick or two, the thousand void places cost nothing.
    (0..4).for_each(|i| world.step(Step::Leave(i)).unwrap());
    for _ in 0..6 {
        (0..10).for_each(|i| world.step(Step::Claim(i)).unwrap());
        world.step(Step::Tick).unwrap();
        world.step(Step::Write).unwrap();
        world.step(Step::Disk(true)).unwrap();
        (0..world.passes.len()).for_each(|i| world.step(Step::Leave(i)).unwrap());
    }
    assert_eq!(world.burnt.len(), 10, "{:?}", world.room.stats(world.now()));
}

#[test]
fn what_a_restart_leaves_behind_is_nobody_and_a_draw_begins_with_the_first_place() {
    let queue = Queue::default();
    queue.restore(&KeptLane { taken: 3, reserved: 1_024, frontier: 1, gaps: &[] }, 50, &[]);
    assert_eq!((queue.taken(), queue.void_between(1, 1_030), queue.void_between(0, 3)), (1_024, 1_021, 0));
    assert_eq!((queue.void_between(5, 10), queue.void_between(1_024, 2_000), queue.void_between(9, 9)), (5, 0, 0));
    // Killed again: both gaps are nobody's, and nobody in them counts as present.
    let again = Queue::default();
    again.restore(&KeptLane { taken: 1_028, reserved: 2_048, frontier: 1, gaps: &queue.gaps().collect::<Vec<_>>() }, 50, &[]);
    assert_eq!((again.void_between(1, 2_050), again.void_between(1_024, 1_028)), (1_021 + 1_020, 0));
    let present = (0..2_048).filter(|n| matches!(again.state(*n), State::Waiting { present_until_s: 50 })).count();
    assert_eq!(present, 3 + 4);
    let late = Queue::default();
    late.restore(&KeptLane { taken: 3_000, reserved: 3_000, frontier: 2_500, gaps: &again.gaps().collect::<Vec<_>>() }, 50, &[]);
    assert_eq!(late.gaps().count(), 0, "nobody waits behind them any more");
    // Killed before the count was written: who shows a ticket proves that everybody before it has one.
    let early = Queue::default();
    early.restore(&KeptLane { taken: 0, reserved: 1_024, frontier: 0, gaps: &[] }, 50, &[]);
    assert_eq!(early.void_between(0, 39), 39);
    early.touch(39, 60);
    assert_eq!((early.void_between(0, 39), early.void_between(0, 1_024)), (0, 984));
    early.touch(20, 60);
    assert_eq!(early.gaps().collect::<Vec<_>>(), [(40, 1_024)]);
    let first_after = |order: Order, taken: u32| {
        let mut kept = Kept::default();
        (kept.head.epoch, kept.head.taken, kept.head.reserved) = (7, [taken, 0], [1_024, 1_024]);
        let mut room = Room::new(0, &RoomSettings { order, ..settings() }, &[], 99, Now::at(0, 0));
        room.restore(&kept, Now::at(0, 0));
        room.reserve_places(5)
    };
    assert_eq!(first_after(Order::DrawThenFifo, 0), Some(0), "nobody had a number");
    assert_eq!(first_after(Order::DrawThenFifo, 2), Some(1_024), "somebody had one");
    assert_eq!(first_after(Order::Fifo, 0), Some(1_024), "somebody may have one");
}
