//! The gate of the simulation: the real filters, planner and tokens, and a log of what they said.
mod holds;

use std::net::IpAddr;

use tidegate_filters::{
    Known, Network, Now, Pipeline, PipelineSettings, Reason, Score, Verdict, Visit, VisitorId, Wants,
    pipeline::{ClaimAnswer, Seed},
    plan::ShopWindow,
    rule::sale_window::Phase,
    sabotage::{self, Bug},
    seats::{
        hold::Held,
        queue::Place,
        room::{Claim, Entrance, GivenBack, Room, RoomStatus, Stage, Waiting},
        seat::SeatRef,
        token::{Keyring, Kind, Token},
    },
    verdict::Notes,
};

use super::foresight::Foresight;
use super::world::{Upheaval, World, current};
use crate::{
    checkers::{Counts, Event, Log, RoomFacts, What},
    crowd::{Answer, AnswerKind, GateVerdict, Note},
};

/// The shop's name.
pub(super) const HOST: &str = "shop.example";
/// How long a passed challenge counts, milliseconds.
const CLEARANCE_MS: u64 = 1_800_000;
/// Rows the journal's channel holds, and how many are written between two ticks.
const CHANNEL: u32 = 2_000;
const ROWS_A_TICK: u32 = 1_000;

/// A token for the client to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gift {
    Ticket(usize, String),
    Pass(usize, String),
    Clearance(String),
}

/// A request, as far as the filters look at it.
#[derive(Clone, Debug)]
pub(super) struct Incoming<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) address: IpAddr,
    pub(super) visitor: u64,
    pub(super) by_cookie: bool,
    pub(super) wants: Wants,
    pub(super) score: Score,
    pub(super) tokens: &'a [Token],
}

/// What the gate does with a request.
#[derive(Clone, Debug)]
pub(super) enum Ruling {
    Answer(Answer, Option<Gift>),
    Forward { route: usize, entrance: Entrance, gift: Option<Gift>, hold: Option<Held> },
    Claiming { room: usize, place: Place },
}

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) pipeline: Pipeline,
    settings: PipelineSettings,
    foresight: Foresight,
    pub(super) keys: Keyring,
    start_unix_ms: u64,
    epoch: u64,
    pub(super) log: Log,
    paused: Vec<bool>,
    /// What was last logged of each room: closed, sale.
    shown: Vec<(bool, Option<Box<str>>)>,
    /// When a sale next changes its phase, Unix milliseconds.
    edge_ms: u64,
    channel: u32,
}

impl Gate {
    pub(super) fn new(world: &World, keys: Keyring, seed: u64) -> Self {
        let (settings, start_unix_ms) = (&world.policy, world.start_unix_ms);
        let now = Now::at(start_unix_ms, 0);
        let pipeline = Pipeline::new(settings, Seed { hash_key: (seed, !seed), epoch: seed | 1 }, now);
        let mut gate = Gate {
            pipeline,
            settings: settings.clone(),
            foresight: Foresight::new(world, seed),
            keys,
            start_unix_ms,
            epoch: seed | 1,
            log: Log::default(),
            paused: vec![false; settings.rooms.len()],
            shown: vec![(false, None); settings.rooms.len()],
            edge_ms: 0,
            channel: 0,
        };
        gate.log.rooms = settings.rooms.iter().map(|r| RoomFacts { name: r.name.clone(), counts: None }).collect();
        (gate.log.accounts.rows, gate.log.accounts.parsed) = (Some(0), Some(0));
        (gate.log.accounts.heads_refused_total, gate.log.accounts.answers) = (Some(0), Some(0));
        gate.show_rules(0);
        gate.show_plans(0);
        gate
    }

    pub(super) fn rooms(&self) -> &[Room] {
        self.pipeline.rooms()
    }

    pub(super) fn room(&self, name: &str) -> Option<usize> {
        self.pipeline.room(name)
    }

    pub(super) fn now(&self, at_us: u64) -> Now {
        Now { mono_ns: at_us * 1_000, wall_ms: self.start_unix_ms + at_us / 1_000 }
    }

    /// A request for the shop.
    pub(super) fn visit(&mut self, at_us: u64, r: &Incoming<'_>) -> Ruling {
        self.row(at_us);
        let now = self.now(at_us);
        let route = self.pipeline.routes().find(r.host, r.path, r.method);
        let visit = visit_of(r, route);
        let mut notes = Notes::default();
        let decision = match self.pipeline.screen(&visit, now, &mut notes) {
            Some(d) => d,
            None => self.pipeline.admit(&visit, r.score, now, &mut notes),
        };
        let (decision, hold) = match decision.verdict {
            Verdict::Forward(entrance) => match self.pipeline.hold(&visit, &decision, now) {
                Ok(hold) => (decision, hold),
                // The pass was honoured all the same.
                Err(denied) => (self.denied(at_us, entrance, denied), None),
            },
            _ => (decision, None),
        };
        match decision.verdict {
            Verdict::Forward(entrance) => {
                let gift = self.entered(at_us, entrance);
                if let (Entrance::Inside { room, seat }, Some(held)) = (entrance, &hold) {
                    self.add(at_us, room, What::HoldSent { hold: held.id.0, units: 1, seat: Some(seat) });
                    self.count_units(at_us, room);
                }
                Ruling::Forward { route: route.unwrap_or(0), entrance, gift, hold }
            }
            Verdict::Wait(w) => {
                let gift = w.place.filter(|_| w.fresh).map(|p| {
                    self.add(at_us, w.room, What::Joined(p));
                    Gift::Ticket(w.room, self.keys.seal(&self.pipeline.rooms()[w.room].ticket_token(p, HOST, now)))
                });
                Ruling::Answer(self.told(at_us, w), gift)
            }
            Verdict::Challenge => {
                let proof = Some("to=/&proof=sim".to_owned());
                Ruling::Answer(Answer { proof, ..own(AnswerKind::Challenged, 403, GateVerdict::Challenge) }, None)
            }
            Verdict::Throttle(q) => Ruling::Answer(throttled(q.wait_ms.div_ceil(1_000).max(1) as u32), None),
            Verdict::Refuse { retry_after_s } => {
                let kind = if retry_after_s.is_some() { AnswerKind::Busy } else { AnswerKind::Refused };
                Ruling::Answer(Answer { retry_after_s, ..own(kind, 403, GateVerdict::Refuse) }, None)
            }
            Verdict::SoldOut(_) => Ruling::Answer(own(AnswerKind::SoldOut, 200, GateVerdict::SoldOut), None),
        }
    }

    /// A poll of a place.
    pub(super) fn status(&mut self, at_us: u64, room: usize, r: &Incoming<'_>) -> Answer {
        self.row(at_us);
        if let Some(seconds) = self.pipeline.rooms()[room].early(&visit_of(r, None), self.now(at_us)) {
            return throttled(seconds);
        }
        match self.pipeline.rooms()[room].status(&visit_of(r, None), self.now(at_us)) {
            RoomStatus::None => own(AnswerKind::NoTicket, 404, GateVerdict::Own),
            RoomStatus::Waiting(w) if w.stage.reason() != Reason::StockGone => self.told(at_us, w),
            RoomStatus::Seated(seat) => {
                self.add(at_us, room, What::Used(seat));
                own(AnswerKind::Seated, 200, GateVerdict::Own)
            }
            _ => own(AnswerKind::SoldOut, 200, GateVerdict::Own),
        }
    }

    /// A claim.
    pub(super) fn claim(&mut self, at_us: u64, room: usize, r: &Incoming<'_>) -> Ruling {
        self.row(at_us);
        let now = self.now(at_us);
        let visit = visit_of(r, None);
        let place = self.pipeline.rooms()[room].place_of(&visit, now);
        match self.pipeline.rooms()[room].claim(&visit, now) {
            Claim::Pending(place) => {
                self.add(at_us, room, What::Claimed(place));
                Ruling::Claiming { room, place }
            }
            Claim::Seated(seat) => {
                self.add(at_us, room, What::Seated { place, seat });
                self.seated(at_us, room, seat)
            }
            Claim::Inside(seat) => {
                self.add(at_us, room, What::Used(seat));
                self.seated(at_us, room, seat)
            }
            Claim::NotYet(w) => Ruling::Answer(self.told(at_us, w), None),
            Claim::NoTicket => Ruling::Answer(own(AnswerKind::NoTicket, 303, GateVerdict::Own), None),
            Claim::Busy => Ruling::Answer(own(AnswerKind::Redirect, 303, GateVerdict::Own), None),
        }
    }

    /// The answer to a claim that found a seat.
    pub(super) fn seated(&self, at_us: u64, room: usize, seat: SeatRef) -> Ruling {
        let token = self.pipeline.rooms()[room].pass_token(seat, HOST, self.now(at_us));
        let answer = Answer { pass: true, ..own(AnswerKind::Redirect, 303, GateVerdict::Own) };
        Ruling::Answer(answer, Some(Gift::Pass(room, self.keys.seal(&token))))
    }

    /// The answer to a claim that found none: the waiting page will say so.
    pub(super) fn next(&self) -> Answer {
        own(AnswerKind::Redirect, 303, GateVerdict::Own)
    }

    /// A place or seat is given back.
    pub(super) fn leave(&mut self, at_us: u64, room: usize, r: &Incoming<'_>) {
        self.row(at_us);
        match self.pipeline.rooms()[room].leave(&visit_of(r, None), self.now(at_us)) {
            Some(GivenBack::Place(p)) => self.add(at_us, room, What::Left(p)),
            Some(GivenBack::Seat(s)) => self.add(at_us, room, What::Released(s)),
            // Nobody enters a draw here.
            Some(GivenBack::Entry(_)) | None => {}
        }
    }

    /// A passed challenge.
    pub(super) fn challenge(&mut self, at_us: u64, visitor: u64) -> Ruling {
        self.row(at_us);
        let wall_ms = self.now(at_us).wall_ms;
        let token = Token::of_gate(Kind::Clearance, HOST, visitor, CLEARANCE_MS, wall_ms);
        Ruling::Answer(own(AnswerKind::Redirect, 303, GateVerdict::Own), Some(Gift::Clearance(self.keys.seal(&token))))
    }

    /// Whether a room takes any of these tokens for good.
    pub(super) fn believes(&mut self, at_us: u64, room: usize, r: &Incoming<'_>, how: &'static str) {
        self.row(at_us);
        let accepted = self.pipeline.rooms()[room].status(&visit_of(r, None), self.now(at_us)) != RoomStatus::None;
        self.add(at_us, room, What::Forged { how, accepted });
    }

    /// A head that is no HTTP.
    pub(super) fn garbage(&mut self, reason: &str) {
        if let Some(total) = &mut self.log.accounts.heads_refused_total {
            *total += 1;
        }
        if !sabotage::is(Bug::RefusedHeadNotCounted) {
            *self.log.accounts.heads_refused.entry(reason.to_owned()).or_insert(0) += 1;
        }
    }

    pub(super) fn tick(&mut self, at_us: u64) -> Vec<ClaimAnswer> {
        self.sales(at_us);
        self.channel = self.channel.saturating_sub(ROWS_A_TICK);
        self.pipeline.tick(self.now(at_us))
    }

    /// A part of a second. Gives the limit on requests in flight.
    pub(super) fn look(&mut self, window: &ShopWindow) -> u32 {
        self.foresight.planner.look(window)
    }

    /// The planner's step. Gives the same.
    pub(super) fn second(&mut self, at_us: u64, window: &ShopWindow) -> u32 {
        self.sales(at_us);
        let now = self.now(at_us);
        let stats: Vec<_> = self.pipeline.rooms().iter().map(|r| r.stats(now)).collect();
        for (i, s) in stats.iter().enumerate() {
            self.add(at_us, i, What::Frontier(s.frontier));
        }
        let plans = self.foresight.plan(now, window, &stats);
        for (room, plan) in self.pipeline.rooms().iter().zip(&plans.rooms) {
            room.set_plan(plan, now);
        }
        self.show_plans(at_us);
        plans.in_flight_limit
    }

    /// What operators do; the shop's troubles are not its business.
    pub(super) fn upheave(&mut self, at_us: u64, upheaval: &Upheaval) {
        self.sales(at_us);
        match upheaval {
            Upheaval::Reload(settings) => self.reload(at_us, settings),
            Upheaval::Pause(room, paused) => {
                self.pipeline.rooms()[*room].pause(*paused);
                self.paused[*room] = *paused;
            }
            Upheaval::Slow(room, rate) => self.pipeline.rooms()[*room].slow(*rate),
            Upheaval::Revoke(room) => {
                let granted = |e: &&Event| usize::from(e.room) == *room && matches!(e.what, What::Seated { .. });
                if let Some(What::Seated { seat, .. }) = self.log.events.iter().rev().find(granted).map(|e| e.what)
                    && self.pipeline.rooms()[*room].revoke(seat)
                {
                    self.add(at_us, *room, What::Released(seat));
                }
            }
            Upheaval::ShopDown(_) | Upheaval::ShopSlower(_) => {}
        }
        self.edge_ms = 0;
        self.sales(at_us);
    }

    fn reload(&mut self, at_us: u64, settings: &PipelineSettings) {
        let now = self.now(at_us);
        let bounds_changed = (settings.capacity, settings.in_flight) != (self.settings.capacity, self.settings.in_flight);
        // A room that was not there before gets an epoch of its own.
        let mut pipeline = Pipeline::new(settings, Seed { hash_key: (self.epoch, 0), epoch: self.epoch + 2 + at_us }, now);
        pipeline.carry_over(&self.pipeline);
        self.foresight.planner.retune(settings, bounds_changed);
        (self.pipeline, self.settings) = (pipeline, settings.clone());
        self.show_rules(at_us);
    }

    /// The last word: the rooms' own counts.
    pub(super) fn close(&mut self, at_us: u64) {
        let now = self.now(at_us);
        for (room, facts) in self.pipeline.rooms().iter().zip(&mut self.log.rooms) {
            let s = room.stats(now);
            let counts = Counts { arrived: s.arrived, seated: s.seated, walk_ins: s.walk_ins, left: s.left, waiting: s.waiting };
            facts.counts = Some(counts);
        }
    }

    fn entered(&mut self, at_us: u64, entrance: Entrance) -> Option<Gift> {
        match entrance {
            Entrance::Free => None,
            Entrance::Inside { room, seat } => {
                self.add(at_us, room, What::Used(seat));
                None
            }
            Entrance::Seated { room, seat } => {
                self.add(at_us, room, What::Seated { place: None, seat });
                let token = self.pipeline.rooms()[room].pass_token(seat, HOST, self.now(at_us));
                Some(Gift::Pass(room, self.keys.seal(&token)))
            }
        }
    }

    fn told(&mut self, at_us: u64, w: Waiting) -> Answer {
        let what = w.place.map_or(What::Refused, |place| What::Told { place, called: w.stage.reason() == Reason::Called });
        self.add(at_us, w.room, what);
        let note = Note {
            state: w.stage.name().to_owned(),
            room: self.pipeline.rooms().get(w.room).map(|r| r.name().to_owned()),
            place: w.place.map(Place::to_bits),
            wait_s: w.wait_s,
            poll_after_s: w.poll_after_s,
            claimable: matches!(w.stage, Stage::Called { .. }),
        };
        Answer { note: Some(note), ..own(AnswerKind::Waiting, 200, GateVerdict::Wait) }
    }

    /// One parsed request, one row through a bounded channel.
    fn row(&mut self, at_us: u64) {
        self.sales(at_us);
        let a = &mut self.log.accounts;
        let (Some(rows), Some(parsed), Some(answers)) = (&mut a.rows, &mut a.parsed, &mut a.answers) else { return };
        *parsed += 1;
        *answers += 1;
        if self.channel >= CHANNEL {
            a.rows_dropped += 1;
        } else if !(sabotage::is(Bug::RowVanishes) && *parsed % 97 == 0) {
            self.channel += 1;
            *rows += 1;
        }
    }

    pub(super) fn add(&mut self, at_us: u64, room: usize, what: What) {
        self.log.events.push(Event { at_us, room: room as u16, what });
    }

    fn show_rules(&mut self, at_us: u64) {
        for i in 0..self.settings.rooms.len() {
            let r = &self.settings.rooms[i];
            let (idle_us, age_us) = (r.seats.pass_idle.ms() * 1_000, r.seats.pass_age_max.ms() * 1_000);
            let claim_window_us = r.claim_window.ms() * 1_000;
            let sale = self.settings.sales.iter().find(|s| *s.room == *r.name);
            let reserve_us = sale.map_or(0, |s| u64::from(s.reserve_s) * 1_000_000);
            self.add(at_us, i, What::Rules { idle_us, age_us, claim_window_us, reserve_us });
        }
    }

    fn show_plans(&mut self, at_us: u64) {
        let now = self.now(at_us);
        for i in 0..self.settings.rooms.len() {
            if let Some(p) = self.pipeline.rooms()[i].stats(now).plan {
                self.add(at_us, i, What::Plan { refill_per_s: p.refill_per_s, burst: p.burst, seats_max: p.seats });
                self.count_units(at_us, i);
            }
        }
    }

    /// Logs openings, closings and pauses at their instant.
    fn sales(&mut self, at_us: u64) {
        let now = self.now(at_us);
        while self.edge_ms <= now.wall_ms {
            let edge = if self.edge_ms == 0 { now } else { Now { wall_ms: self.edge_ms, ..now } };
            let edge_us = if self.edge_ms == 0 { at_us } else { (self.edge_ms - self.start_unix_ms) * 1_000 };
            for i in 0..self.settings.rooms.len() {
                let sale = current(&self.settings.sales, &self.settings.rooms[i].name, edge);
                let prequeue = sale.is_some_and(|s| s.phase(edge) == Phase::Prequeue);
                let (stock, name) = (sale.and_then(|s| s.stock), sale.map(|s| s.name.clone()));
                let closed = prequeue || self.paused[i];
                if self.shown[i].0 != closed {
                    self.add(edge_us, i, What::Closed(closed));
                }
                if self.shown[i].1 != name {
                    self.add(edge_us, i, What::Stock(stock));
                }
                self.shown[i] = (closed, name);
            }
            let times = self.settings.sales.iter().flat_map(|s| [s.prequeue_opens_ms, s.opens_ms, s.closes_ms]);
            self.edge_ms = times.filter(|t| *t > edge.wall_ms).min().unwrap_or(u64::MAX);
        }
    }
}

fn throttled(seconds: u32) -> Answer {
    Answer { retry_after_s: Some(seconds), ..own(AnswerKind::Throttled, 429, GateVerdict::Throttle) }
}

fn own(kind: AnswerKind, status: u16, verdict: GateVerdict) -> Answer {
    Answer { verdict: Some(verdict), ..Answer::of(kind, status) }
}

fn visit_of<'a>(r: &Incoming<'a>, route: Option<usize>) -> Visit<'a> {
    Visit {
        method: r.method,
        host: r.host,
        path: r.path,
        route,
        network: Some(Network::new(r.address)),
        visitor: Some(VisitorId(r.visitor)),
        visitor_by_cookie: r.by_cookie,
        wants: r.wants,
        identity: None,
        hello: 0,
        fingerprint: 0,
        prefetch: false,
        known: Known::default(),
        tokens: r.tokens,
    }
}
