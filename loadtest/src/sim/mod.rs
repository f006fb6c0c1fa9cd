//! A whole sale in virtual time, over the real filters: the crowd of the live runs, a shop of paper, and everything that
//! goes wrong. One thread, one seed, one log; the same seed gives the same log.

mod agenda;
mod backend;
mod client;
pub mod contest;
mod foresight;
mod gate;
mod heartbeat;
mod random;
mod trouble;
mod world;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tidegate_filters::seats::{ledger, queue::Place, room::Entrance, token::Keyring};

use self::{
    agenda::{Agenda, Delivery, Happening},
    backend::{Backend, Finished, Job},
    client::{Client, address, room_of, wants},
    gate::{Gate, Gift, HOST, Incoming, Ruling},
    trouble::Extra,
};
pub use self::{
    backend::Stay,
    foresight::{BurstRule, Lie},
    random::random_world,
    world::{Habits, ShopModel, Upheaval, World},
};
use crate::{
    checkers::Log,
    crowd::{Action, Answer, AnswerKind, Crowd, GateVerdict, Kind, Step},
};

/// Microseconds between two ticks.
const TICK_US: u64 = 100_000;
const SECOND_US: u64 = 1_000_000;
/// Heads that are no HTTP: one in so many requests.
const GARBAGE: u32 = 200;

/// What a simulation gives.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// For the checkers.
    pub log: Log,
    /// Requests sent.
    pub requests: u64,
    /// Units the shop sold.
    pub sold: u32,
    /// When it sold the last of them, virtual milliseconds.
    pub sold_last_ms: u64,
    /// Units it did not have.
    pub oversold: u32,
    /// Units that went to people.
    pub units_to_people: u32,
    /// Visitors who came.
    pub visitors: usize,
    /// Visitors told to wait while a connection of the shop was free, and all who were.
    pub waits: (u64, u64),
    /// Requests with a good answer, as they were done.
    pub stays: Vec<Stay>,
}

/// Runs a world to its end.
pub fn run(world: &World, seed: u64) -> Outcome {
    let mut sim = Sim::new(world, seed);
    sim.run();
    let units = |c: &&Client| c.who.kind() == Kind::Person;
    Outcome {
        requests: sim.requests,
        sold: sim.backend.sold,
        sold_last_ms: sim.backend.sold_last_us / 1_000,
        oversold: sim.backend.sold.saturating_sub(world.shop.stock),
        units_to_people: sim.clients.iter().filter(units).map(|c| c.who.units()).sum(),
        visitors: sim.clients.len(),
        waits: sim.backend.waits,
        stays: sim.backend.stays,
        log: sim.gate.log,
    }
}

struct Sim<'w> {
    world: &'w World,
    gate: Gate,
    backend: Backend,
    clients: Vec<Client>,
    agenda: Agenda,
    /// Claims under way, and who asked.
    claims: Vec<(usize, Place, usize, u64)>,
    foreign: Keyring,
    rng: ChaCha8Rng,
    requests: u64,
}

/// Streams of random numbers, apart from each other: a change in one place does not shift all others.
fn rng(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x7469_6465_6761_7465);
    rng.set_stream(stream);
    rng
}

fn keyring(seed: u64, stream: u64) -> Keyring {
    let secret = rng(seed, stream).random::<[u8; 32]>();
    let one = |id| Keyring::new(&[(id, secret)]);
    // One key: neither empty nor twice the same.
    match one(1) {
        Some(keys) => keys,
        None => unreachable!("a ring of one key"),
    }
}

impl<'w> Sim<'w> {
    fn new(world: &'w World, seed: u64) -> Self {
        let crowd = Crowd::new(&world.scenario, seed);
        let rooms = world.policy.rooms.len();
        let mut rng_of_clients = rng(seed, 3);
        let clients = crowd.visitors.into_iter().map(|v| Client::new(v, rooms, &mut rng_of_clients)).collect();
        Sim {
            world,
            gate: Gate::new(world, keyring(seed, 1), seed),
            backend: Backend::new(world, rng(seed, 4)),
            clients,
            agenda: Agenda::default(),
            claims: Vec::new(),
            foreign: keyring(seed, 2),
            rng: rng(seed, 5),
            requests: 0,
        }
    }

    fn run(&mut self) {
        self.agenda.at(0, Happening::Tick);
        for (i, (at_ms, _)) in self.world.upheavals.iter().enumerate() {
            self.agenda.at(at_ms * 1_000, Happening::Upheaval(i));
        }
        for client in 0..self.clients.len() {
            let step = self.clients[client].who.start();
            self.step(client, step, 0);
        }
        let ends_us = self.world.ends_us();
        while let Some((now_us, what)) = self.agenda.next() {
            if now_us > ends_us {
                break;
            }
            self.happen(now_us, what);
        }
        self.gate.close(ends_us);
    }

    fn happen(&mut self, now_us: u64, what: Happening) {
        match what {
            Happening::Tick => {
                self.tick(now_us);
                self.look(now_us);
                self.agenda.at(now_us + TICK_US, Happening::Tick);
            }
            Happening::Upheaval(i) => self.upheave(now_us, i),
            Happening::Send(client) => self.send(now_us, client),
            Happening::Arrive(delivery) => self.arrive(now_us, *delivery),
            Happening::Patience { client, serial } => {
                if self.clients[client].serial == serial && self.clients[client].open.is_some() {
                    self.answer(now_us, client, &Answer::of(AnswerKind::Timeout, 0));
                }
            }
            Happening::Extra(extra) => trouble::send(&extra, &mut self.gate, now_us),
            Happening::ShopDone(id, how) => {
                let finished = self.backend.done(id, how, now_us, &mut self.agenda);
                self.finished(now_us, finished);
            }
            Happening::PoolTimeout(id) => {
                let finished = self.backend.pool_timeout(id, now_us, &mut self.agenda);
                self.finished(now_us, finished);
            }
            Happening::QueueTimeout(id) => {
                if let Some(job) = self.backend.queue_timeout(id) {
                    self.turned_away(now_us, job);
                }
            }
        }
    }

    fn chance(&mut self, per_mille: u16) -> bool {
        self.rng.random_range(0..1_000) < per_mille
    }

    fn upheave(&mut self, now_us: u64, i: usize) {
        let upheaval = &self.world.upheavals[i].1;
        match upheaval {
            Upheaval::ShopDown(down) => self.backend.down = *down,
            Upheaval::ShopSlower(times) => self.backend.slower = *times,
            Upheaval::Reload(policy) => self.backend.policy(policy),
            _ => {}
        }
        self.gate.upheave(now_us, upheaval);
    }

    fn step(&mut self, client: usize, step: Step, now_us: u64) {
        match step {
            Step::Send { at_ms, request } => {
                self.clients[client].next = Some(request);
                self.agenda.at((at_ms * 1_000).max(now_us), Happening::Send(client));
            }
            Step::Leave(_) => self.go_home(client, now_us),
        }
    }

    /// Some give their seat back, and some of those try the old pass.
    fn go_home(&mut self, client: usize, now_us: u64) {
        self.clients[client].gone = true;
        let jar = self.clients[client].jar.clone();
        for room in 0..jar.passes.len() {
            let Some(pass) = jar.passes[room].clone() else { continue };
            if self.rng.random_bool(0.5) {
                continue;
            }
            self.agenda.at(now_us + 1_000, Happening::Extra(Box::new(Extra::Leave(jar.clone(), room))));
            if self.chance(self.world.habits.replay) {
                let later = now_us + self.rng.random_range(10_000..5_000_000);
                self.agenda.at(later, Happening::Extra(Box::new(Extra::Replay(pass, room))));
            }
        }
    }

    fn send(&mut self, now_us: u64, client: usize) {
        let Some(request) = self.clients[client].next.take() else { return };
        if self.clients[client].gone {
            return;
        }
        self.requests += 1;
        if self.rng.random_range(0..GARBAGE) == 0 {
            trouble::send(&Extra::Garbage, &mut self.gate, now_us);
        }
        let unscored = self.chance(self.world.habits.unscored);
        let c = &mut self.clients[client];
        c.serial += 1;
        let serial = c.serial;
        self.agenda.at(now_us + request.patience_ms * 1_000, Happening::Patience { client, serial });
        let tokens = if request.cookies { c.jar.tokens(&self.gate.keys) } else { Vec::new() };
        let (visitor, by_cookie) = c.visitor(&request);
        let path = request.path.split('?').next().unwrap_or_default();
        let incoming = Incoming {
            method: request.method,
            host: HOST,
            path,
            address: address(&request),
            visitor,
            by_cookie,
            wants: wants(&request),
            score: c.score(unscored),
            tokens: &tokens,
        };
        let room = room_of(&request.path, request.body.as_deref()).and_then(|name| self.gate.room(name));
        let mut twice = None;
        let ruling = match (request.action, room) {
            (Action::Poll, Some(room)) => Ruling::Answer(self.gate.status(now_us, room, &incoming), None),
            (Action::Claim, Some(room)) => {
                if self.chance(self.world.habits.double_claim) {
                    let again = Extra::Claim(self.clients[client].jar.clone(), room);
                    let later = now_us + self.rng.random_range(0..300_000);
                    self.agenda.at(later, Happening::Extra(Box::new(again)));
                }
                self.gate.claim(now_us, room, &incoming)
            }
            (Action::Challenge, _) => self.gate.challenge(now_us, self.clients[client].name()),
            (Action::Poll | Action::Claim, None) => Ruling::Answer(Answer::of(AnswerKind::NoTicket, 404), None),
            (Action::Checkout, _) => {
                let ruling = self.gate.visit(now_us, &incoming);
                if self.rng.random_range(0..1_000) < self.world.habits.double_claim {
                    // Pressed twice: nobody waits for the second answer.
                    let again = self.gate.visit(now_us, &incoming);
                    twice = Some(again);
                }
                ruling
            }
            _ => self.gate.visit(now_us, &incoming),
        };
        if let Some(Ruling::Forward { route, entrance, hold, .. }) = twice {
            let mut job = Job::new(None, route, Action::Checkout, entrance);
            job.hold = hold;
            if let Err(job) = self.backend.offer(job, now_us, &mut self.agenda) {
                self.turned_away(now_us, *job);
            }
        }
        let action = request.action;
        self.clients[client].open = Some(request);
        self.ruled(now_us, client, serial, action, ruling);
    }

    fn ruled(&mut self, now_us: u64, client: usize, serial: u64, action: Action, ruling: Ruling) {
        match ruling {
            Ruling::Answer(answer, gift) => {
                if answer.kind == AnswerKind::Waiting && !std::mem::replace(&mut self.clients[client].told_to_wait, true) {
                    self.backend.wait();
                }
                self.deliver(now_us, client, serial, answer, gift);
            }
            Ruling::Claiming { room, place } => self.claims.push((room, place, client, serial)),
            Ruling::Forward { route, entrance, gift, hold } => {
                let mut job = Job::new(Some((client, serial)), route, action, entrance);
                (job.gift, job.hold) = (gift, hold);
                if let Err(job) = self.backend.offer(job, now_us, &mut self.agenda) {
                    self.turned_away(now_us, *job);
                }
            }
        }
    }

    /// The line in front of the shop is full or too slow; a seat that came with the visit is kept.
    fn turned_away(&mut self, now_us: u64, job: Job) {
        self.hold_ended(now_us, &job, ledger::Outcome::NotSent);
        let busy = Answer {
            verdict: Some(GateVerdict::Refuse),
            retry_after_s: Some(self.rng.random_range(1..4)),
            ..Answer::of(AnswerKind::Busy, 503)
        };
        if let Some((client, serial)) = job.asked {
            self.deliver(now_us, client, serial, busy, job.gift);
        }
    }

    fn finished(&mut self, now_us: u64, finished: Option<Finished>) {
        let Some(Finished { job, answer, sold, heard }) = finished else { return };
        self.hold_ended(now_us, &job, heard);
        if sold > 0 && job.hold.is_none() && heard != ledger::Outcome::Lost {
            self.gate.sold(now_us, job.entrance, sold);
        }
        if let Some((client, serial)) = job.asked {
            self.deliver(now_us, client, serial, answer, job.gift);
        }
    }

    fn hold_ended(&mut self, now_us: u64, job: &Job, outcome: ledger::Outcome) {
        if let (Some(held), Entrance::Inside { room, .. }) = (&job.hold, job.entrance) {
            self.gate.hold_ended(now_us, room, held, outcome);
        }
    }

    /// On its way, some milliseconds; or lost.
    fn deliver(&mut self, now_us: u64, client: usize, serial: u64, answer: Answer, gift: Option<Gift>) {
        let way_us = self.rng.random_range(1_000..20_000);
        let (answer, gift) = match self.chance(self.world.habits.lose_answer) {
            true => (Answer::of(AnswerKind::Failed, 0), None),
            false => (answer, gift),
        };
        let delivery = Delivery { client, serial, answer, gift };
        self.agenda.at(now_us + way_us, Happening::Arrive(Box::new(delivery)));
    }

    fn arrive(&mut self, now_us: u64, delivery: Delivery) {
        let Delivery { client, serial, answer, gift } = delivery;
        let c = &mut self.clients[client];
        if c.serial != serial || c.gone {
            return;
        }
        let Some(request) = c.open.take() else { return };
        if let Some(gift) = gift.filter(|_| request.cookies) {
            if let Gift::Pass(room, _) = gift
                && let Some(ticket) = c.jar.tickets[room].clone()
                && self.rng.random_range(0..1_000) < self.world.habits.replay
            {
                let later = now_us + self.rng.random_range(10_000..8_000_000);
                self.agenda.at(later, Happening::Extra(Box::new(Extra::Replay(ticket, room))));
            }
            self.clients[client].keep(gift);
        }
        if answer.kind == AnswerKind::Page && !request.assets.is_empty() {
            self.assets(now_us, client, &request);
        }
        self.answer(now_us, client, &answer);
    }

    /// What a page needs, fetched beside it; nobody waits for it.
    fn assets(&mut self, now_us: u64, client: usize, page: &crate::crowd::Request) {
        self.clients[client].who.assets_fetched();
        for path in page.assets {
            let asset = self.clients[client].who.asset(path, page);
            let tokens = self.clients[client].jar.tokens(&self.gate.keys);
            let (visitor, by_cookie) = self.clients[client].visitor(page);
            let score = self.clients[client].score(false);
            let incoming = Incoming {
                method: asset.method,
                host: HOST,
                path,
                address: address(&asset),
                visitor,
                by_cookie,
                wants: wants(&asset),
                score,
                tokens: &tokens,
            };
            if let Ruling::Forward { route, entrance, .. } = self.gate.visit(now_us, &incoming) {
                let job = Job::new(None, route, Action::Asset, entrance);
                drop(self.backend.offer(job, now_us, &mut self.agenda));
            }
        }
    }

    fn answer(&mut self, now_us: u64, client: usize, answer: &Answer) {
        self.clients[client].open = None;
        if answer.kind == AnswerKind::Waiting {
            if self.chance(self.world.habits.vanish) {
                self.clients[client].gone = true;
                return;
            }
            if self.chance(self.world.habits.leave)
                && let Some(room) = answer.note.as_ref().and_then(|n| self.gate.room(n.room.as_deref()?))
            {
                let extra = Extra::Leave(self.clients[client].jar.clone(), room);
                self.agenda.at(now_us + 500, Happening::Extra(Box::new(extra)));
            }
        }
        let step = self.clients[client].who.next(answer, now_us / 1_000);
        self.step(client, step, now_us);
    }
}

#[cfg(all(test, feature = "sabotage"))]
mod sabotage_tests;
#[cfg(test)]
mod tests;
