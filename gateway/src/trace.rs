//! What is known about one request from its head to its row. Makes exactly one row: the last chance is its drop.

use std::{hash::Hasher as _, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use siphasher::sip::SipHasher13;
use tidegate_filters::{
    Decision, Now, Reason, Row, Verdict,
    record::Kind,
    seats::{queue::Place, room::Entrance, seat::SeatRef},
    verdict::Notes,
};

use crate::{
    decide::Next,
    in_flight::Permit,
    intake::Intake,
    sales::{InHand, Word},
    shop::ShopAnswer,
    state::{Active, Scored, Shared},
};

/// Longest path in a row, bytes. Canonical paths are ASCII, so every cut is on a character.
const ROW_PATH_MAX: usize = 128;

/// One request.
pub struct Trace {
    shared: Arc<Shared>,
    /// The policy it is judged by, from head to row.
    pub active: Arc<Active>,
    /// When its head was read.
    pub started: Now,
    /// Who, from where, to what.
    pub intake: Intake,
    /// Index of its route.
    pub route: Option<usize>,
    /// How it got in; `None` when it did not.
    pub entrance: Option<Entrance>,
    /// Cookies its answer must carry.
    pub cookies: Vec<String>,
    /// Shop server that could not be reached.
    pub avoid: Option<SocketAddr>,
    /// Body bytes on their way to the shop.
    pub body_bytes: u64,
    /// What was read of a large body before the shop was asked, and goes first.
    pub ahead: Bytes,
    /// The body is not whole at the shop: what goes wrong now may be the client's fault.
    pub uploading: bool,
    /// What the door has decided; `None` when it has not, or it is under way.
    pub next: Option<Next>,
    /// The row so far.
    pub row: Row,
    hold: Option<InHand>,
    permits: [Option<Permit>; 2],
    forwarded_ns: u64,
    answered: bool,
    parsed: bool,
}

impl Trace {
    /// Nothing is known yet.
    pub fn new(shared: Arc<Shared>) -> Box<Self> {
        let active = shared.active.load_full();
        Box::new(Trace {
            started: shared.clock.now(),
            shared,
            active,
            intake: Intake::default(),
            route: None,
            entrance: None,
            cookies: Vec::new(),
            avoid: None,
            body_bytes: 0,
            ahead: Bytes::new(),
            uploading: false,
            next: None,
            row: Row::blank(),
            hold: None,
            permits: [None, None],
            forwarded_ns: 0,
            answered: false,
            parsed: false,
        })
    }

    /// A hash with the gate's secret, for one purpose: proofs, and names that only this gate can make.
    pub fn keyed(&self, purpose: &[u8]) -> SipHasher13 {
        let (k0, k1) = self.shared.hash_key;
        let mut h = SipHasher13::new_with_keys(k0, k1);
        h.write(purpose);
        h
    }

    /// The head was good: from here on there will be a row.
    pub fn parsed(&mut self, intake: Intake) {
        self.shared.counts.parsed.add();
        self.shared.rows.parsed();
        self.parsed = true;
        let row = &mut self.row;
        row.at_ms = self.started.wall_ms;
        row.mono_ns = self.started.mono_ns;
        row.method.clone_from(&intake.method);
        row.network = intake.network_hash(self.shared.hash_key);
        row.visitor = intake.visitor.map_or(0, |v| v.0);
        row.fingerprint = intake.fingerprint;
        row.policy = self.active.names.policy.into();
        self.intake = intake;
    }

    /// Its route.
    pub fn routed(&mut self, route: Option<usize>) {
        self.route = route;
        if let Some(name) = route.and_then(|r| self.active.names.routes.get(r)) {
            self.row.route = (*name).into();
        }
    }

    /// Its score.
    pub fn scored(&mut self, scored: Scored) {
        if let Some(p) = scored.score.known() {
            self.row.score = p;
        }
        self.row.features = scored.features;
        self.row.score_reasons = scored.reasons;
        self.row.model = scored.model.into();
        if let Some(p) = scored.shadow.known() {
            self.row.shadow_score = p;
        }
        self.row.shadow_model = scored.shadow_model.into();
    }

    /// What the filters decided.
    pub fn decided(&mut self, decision: &Decision, notes: &Notes) {
        let pipeline = &self.active.pipeline;
        self.row.verdict = decision.verdict.name();
        self.row.reason = Some(decision.reason);
        if let Some(name) = decision.filter.and_then(|f| self.active.names.filters.get(usize::from(f))) {
            self.row.filter = (*name).into();
        }
        if let Some((f, verdict, reason)) = notes.shadow {
            self.row.shadow = format!("{}:{verdict}:{}", pipeline.filter_name(f), reason.code());
        }
        self.row.class = notes.class.map_or("", |c| c.name());
        match decision.verdict {
            Verdict::Forward(entrance) => {
                self.entrance = Some(entrance);
                match entrance {
                    Entrance::Free => {}
                    Entrance::Inside { room, seat } => self.seat(room, seat, false),
                    Entrance::Seated { room, seat } => self.seat(room, seat, true),
                }
            }
            Verdict::Wait(w) => {
                self.room(w.room);
                if let Some(place) = w.place {
                    self.place(place, w.fresh && !w.again);
                }
            }
            _ => {}
        }
    }

    /// An answer of the gate itself.
    pub fn own(&mut self, kind: Kind, verdict: &'static str, reason: Reason) {
        self.row.kind = kind;
        self.row.verdict = verdict;
        self.row.reason = Some(reason);
    }

    /// The room involved.
    pub fn room(&mut self, room: usize) {
        if let Some(name) = self.active.names.rooms.get(room) {
            self.row.room = (*name).into();
        }
    }

    /// The place involved.
    pub fn place(&mut self, place: Place, joined: bool) {
        self.row.place = place.to_bits();
        self.row.joined = joined;
    }

    /// The seat involved.
    pub fn seat(&mut self, room: usize, seat: SeatRef, seated: bool) {
        self.room(room);
        self.row.seat = seat.index;
        self.row.generation = seat.generation;
        self.row.seated = seated;
    }

    /// A unit of stock goes with it.
    pub fn takes(&mut self, hold: InHand) {
        self.row.hold = hold.number();
        self.hold = Some(hold);
    }

    /// Whether one does.
    pub fn has_unit(&self) -> bool {
        self.hold.is_some()
    }

    /// It is about to be written to the shop: from here on its unit may be sold. Gives `SALE/NUMBER` of the hold.
    pub fn sends_hold(&mut self) -> Option<String> {
        let hold = self.hold.as_mut()?;
        hold.is_sent();
        let needs = self.active.pipeline.routes().get(self.route?)?.needs.as_ref()?;
        Some(format!("{}/{}", needs.hold, hold.number()))
    }

    /// Nobody waits for it: until it is durable the unit counts as at the shop, so it is not sold again.
    fn write_hold(&self) {
        let needs = self.route.and_then(|r| self.active.pipeline.routes().get(r)).and_then(|r| r.needs.as_ref());
        if let (Some(hold), Some(needs)) = (&self.hold, needs) {
            drop(self.shared.holds.write(&needs.hold, hold.stock(), false));
        }
    }

    /// What the shop's answer says about units. `true`: it is about the unit in hand.
    pub fn shop_says(&mut self, word: Word) -> bool {
        self.row.sold = word.sold();
        let Some(hold) = &mut self.hold else { return false };
        hold.tell(word.outcome(), self.shared.clock.now());
        self.write_hold();
        true
    }

    /// The seat could not be given after all.
    pub fn unseated(&mut self) {
        let none = Row::default();
        (self.row.seat, self.row.generation, self.row.seated) = (none.seat, none.generation, false);
        self.entrance = None;
        // Among them the pass.
        self.cookies.clear();
    }

    /// Permits of the in-flight limits, in hand after so many microseconds in line.
    pub fn may_forward(&mut self, permits: [Option<Permit>; 2]) {
        self.permits = permits;
        self.waits_for_client(self.uploading);
        self.forwarded_ns = self.shared.clock.mono_ns();
        self.row.queued_us = micros(self.forwarded_ns - self.started.mono_ns);
    }

    /// The shop has the whole request: its time counts from here.
    pub fn asked(&mut self) {
        if std::mem::replace(&mut self.uploading, false) {
            self.forwarded_ns = self.shared.clock.mono_ns();
            self.waits_for_client(false);
        }
    }

    fn waits_for_client(&mut self, yes: bool) {
        self.permits.iter_mut().flatten().for_each(|p| p.waits_for_client(yes));
    }

    /// Whose share of the shop it uses: the seat's, else that of a visitor who is known. Addresses are shared by too many.
    pub fn owner(&self) -> Option<u64> {
        match self.entrance {
            Some(Entrance::Inside { room, seat } | Entrance::Seated { room, seat }) => {
                Some(1 << 63 | (room as u64 & 0x7fff_ffff) << 32 | u64::from(seat.index))
            }
            _ => self.intake.visitor.filter(|_| self.intake.visitor_by_cookie).map(|v| v.0 >> 1),
        }
    }

    /// Holds a permit: it goes to the shop.
    pub fn is_forwarded(&self) -> bool {
        self.forwarded_ns > 0
    }

    /// The shop's first byte, or why there was none. Counts once.
    pub fn shop_answered(&mut self, error: bool, timeout: bool) {
        if !self.is_forwarded() || std::mem::replace(&mut self.answered, true) {
            return;
        }
        let now_ns = self.shared.clock.mono_ns();
        self.permits.iter_mut().flatten().for_each(|p| p.delivers(now_ns / 1_000_000));
        let ttfb_us = (now_ns - self.forwarded_ns) / 1_000;
        self.row.shop_us = micros(ttfb_us * 1_000).max(1);
        let inside = matches!(self.entrance, Some(Entrance::Inside { .. } | Entrance::Seated { .. }));
        // Nobody asks whose the good ones were.
        let whose = if error || timeout { self.whose() } else { 0 };
        self.active.meter.record(&ShopAnswer { route: self.route, ttfb_us, error, timeout, inside, whose });
    }

    /// Whom an error counts for, as a hash: the visitor by its cookie, else its network.
    fn whose(&self) -> u64 {
        let by_cookie = self.intake.visitor.filter(|_| self.intake.visitor_by_cookie).map(|v| v.0);
        by_cookie.unwrap_or_else(|| self.intake.network_hash(self.shared.hash_key))
    }

    /// The shop is done with it: the next in line may go.
    pub fn shop_done(&mut self) {
        self.permits = [None, None];
    }

    /// Milliseconds since its head.
    pub fn age_ms(&self) -> u64 {
        (self.shared.clock.mono_ns().saturating_sub(self.started.mono_ns)) / 1_000_000
    }

    /// Milliseconds since it has a place at the shop.
    pub fn held_ms(&self) -> u64 {
        self.shared.clock.mono_ns().saturating_sub(self.forwarded_ns) / 1_000_000
    }

    /// It is over: the one row. Later calls do nothing.
    pub fn finish(&mut self, status: u16, bytes: u64) {
        self.shop_done();
        if let Some(hold) = &mut self.hold {
            self.row.hold_end = hold.finish(self.shared.clock.now()).name();
            self.write_hold();
            self.hold = None;
        }
        if !std::mem::replace(&mut self.parsed, false) {
            return;
        }
        let mut row = std::mem::take(&mut self.row);
        row.path = std::mem::take(&mut self.intake.path);
        row.path.truncate(ROW_PATH_MAX);
        row.status = status;
        row.bytes = bytes;
        row.total_us = micros(self.shared.clock.mono_ns() - self.started.mono_ns);
        // Answers of the gate itself say nothing about the visitor.
        if let (Some(visitor), "forward") = (self.intake.visitor, row.verdict) {
            self.shared.scorer.load().0.answered(visitor, status);
        }
        self.shared.rows.row(row);
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // The connection's task was dropped under way: no status was sent to the end.
        self.finish(0, 0);
    }
}

fn micros(ns: u64) -> u32 {
    u32::try_from(ns / 1_000).unwrap_or(u32::MAX)
}
