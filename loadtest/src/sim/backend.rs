//! The limit on requests in flight, and the shop behind it.

use std::collections::{BTreeMap, VecDeque};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use tidegate_filters::{
    PipelineSettings,
    plan::{RouteWindow, ShopWindow, failing_bit, limit::LIMIT_FIRST},
    seats::{hold::Held, ledger::Outcome, room::Entrance},
};

use super::{
    agenda::{Agenda, Happening, Served},
    gate::Gift,
    world::{ShopModel, World},
};
use crate::crowd::{Action, Answer, AnswerKind};

/// A request on its way through the shop.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Whose, and which of its requests; `None`: nobody waits for the answer.
    pub(super) asked: Option<(usize, u64)>,
    pub(super) route: usize,
    pub(super) action: Action,
    pub(super) entrance: Entrance,
    pub(super) gift: Option<Gift>,
    /// A unit of stock that goes with it.
    pub(super) hold: Option<Held>,
    forwarded_us: u64,
    /// Units a checkout saw when it began.
    seen: u32,
}

/// A request that was at the shop and got a good answer, a file excepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// From when, virtual microseconds.
    pub from_us: u64,
    /// How long.
    pub took_us: u32,
    /// It was an order.
    pub ordered: bool,
}

/// A job that is over.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub(super) job: Job,
    pub(super) answer: Answer,
    /// Units sold by it.
    pub(super) sold: u32,
    /// What the gate hears of it.
    pub(super) heard: Outcome,
}

impl Job {
    pub(super) fn new(asked: Option<(usize, u64)>, route: usize, action: Action, entrance: Entrance) -> Self {
        Job { asked, route, action, entrance, gift: None, hold: None, forwarded_us: 0, seen: 0 }
    }
}

#[derive(Debug)]
pub(super) struct Backend {
    shop: ShopModel,
    rng: ChaCha8Rng,
    jobs: BTreeMap<u32, Job>,
    next_id: u32,
    /// In front of the shop.
    queue: VecDeque<u32>,
    queue_max: usize,
    wait_us: u64,
    limit: u32,
    in_flight: u32,
    by_route: Vec<(u32, Option<u32>)>,
    /// Inside the shop.
    busy: u32,
    waiting: VecDeque<u32>,
    pub(super) down: bool,
    pub(super) slower: f64,
    /// Answers to checkouts that break off after the order was written, in thousandths.
    forgets: u16,
    pub(super) sold: u32,
    pub(super) sold_last_us: u64,
    window: ShopWindow,
    /// Who was told to wait while a connection was free, and all who were.
    pub(super) waits: (u64, u64),
    pub(super) stays: Vec<Stay>,
}

impl Backend {
    pub(super) fn new(world: &World, rng: ChaCha8Rng) -> Self {
        let (shop, policy) = (world.shop, &world.policy);
        let mut backend = Backend {
            shop,
            rng,
            jobs: BTreeMap::new(),
            next_id: 0,
            queue: VecDeque::new(),
            queue_max: 0,
            wait_us: 0,
            limit: LIMIT_FIRST as u32,
            in_flight: 0,
            by_route: vec![(0, None); policy.routes.len()],
            busy: 0,
            waiting: VecDeque::new(),
            down: false,
            slower: 1.0,
            forgets: world.habits.shop_forgets,
            sold: 0,
            sold_last_us: 0,
            window: ShopWindow::default(),
            waits: (0, 0),
            stays: Vec::new(),
        };
        backend.policy(policy);
        backend
    }

    /// Another policy; the routes stay the same.
    pub(super) fn policy(&mut self, policy: &PipelineSettings) {
        (self.queue_max, self.wait_us) = (policy.in_flight.queue as usize, policy.in_flight.wait_max.ms() * 1_000);
        for (route, settings) in self.by_route.iter_mut().zip(&policy.routes) {
            route.1 = settings.in_flight_max;
        }
    }

    pub(super) fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Somebody is told to wait for the first time.
    pub(super) fn wait(&mut self) {
        self.waits.1 += 1;
        self.waits.0 += u64::from(self.busy < self.shop.pool);
    }

    /// What was seen since the last call.
    pub(super) fn take_window(&mut self, span_us: u64) -> ShopWindow {
        let next = ShopWindow { in_flight_max: self.in_flight, ..ShopWindow::default() };
        let mut window = std::mem::replace(&mut self.window, next);
        (window.span_ms, window.healthy) = (span_us / 1_000, !self.down);
        window.routes.resize(self.by_route.len(), RouteWindow::default());
        // Who waits now waits in the next one, too.
        self.window.limit_was_binding = !self.queue.is_empty() && self.in_flight >= self.limit;
        window
    }

    /// Takes a job, or gives it back: the line in front of the shop is full.
    pub(super) fn offer(&mut self, job: Job, now_us: u64, agenda: &mut Agenda) -> Result<(), Box<Job>> {
        let fits = self.fits(job.route);
        if !fits && self.queue.len() >= self.queue_max {
            self.window.limit_was_binding = true;
            self.window.turned_away += 1;
            return Err(Box::new(job));
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.jobs.insert(id, job);
        if fits {
            self.forward(id, now_us, agenda);
        } else {
            self.window.limit_was_binding |= self.in_flight >= self.limit;
            self.queue.push_back(id);
            agenda.at(now_us + self.wait_us, Happening::QueueTimeout(id));
        }
        Ok(())
    }

    /// Too long in front of the shop.
    pub(super) fn queue_timeout(&mut self, id: u32) -> Option<Job> {
        let at = self.queue.iter().position(|q| *q == id)?;
        self.queue.remove(at);
        self.window.turned_away += 1;
        self.jobs.remove(&id)
    }

    /// Too long for a connection of the pool.
    pub(super) fn pool_timeout(&mut self, id: u32, now_us: u64, agenda: &mut Agenda) -> Option<Finished> {
        let at = self.waiting.iter().position(|q| *q == id)?;
        self.waiting.remove(at);
        self.finish(id, AnswerKind::Error, now_us, agenda)
    }

    /// The shop is done with a job.
    pub(super) fn done(&mut self, id: u32, how: Served, now_us: u64, agenda: &mut Agenda) -> Option<Finished> {
        if how == Served::Worked {
            self.busy -= 1;
            if let Some(next) = self.waiting.pop_front() {
                self.start(next, now_us, agenda);
            }
        }
        let kind = match how {
            Served::TurnedAway => AnswerKind::Busy,
            Served::Down => AnswerKind::Error,
            Served::File => AnswerKind::Asset,
            Served::Worked => self.outcome(id),
        };
        self.finish(id, kind, now_us, agenda)
    }

    fn outcome(&self, id: u32) -> AnswerKind {
        let Some(job) = self.jobs.get(&id) else { return AnswerKind::Error };
        match job.action {
            // It writes back what it read: two at once sell the same unit twice.
            Action::Checkout if job.seen > 0 => AnswerKind::Ordered,
            Action::Checkout => AnswerKind::SoldOut,
            Action::Product if self.sold >= self.shop.stock => AnswerKind::SoldOut,
            _ => AnswerKind::Page,
        }
    }

    fn finish(&mut self, id: u32, kind: AnswerKind, now_us: u64, agenda: &mut Agenda) -> Option<Finished> {
        let job = self.jobs.remove(&id)?;
        self.in_flight -= 1;
        self.by_route[job.route].0 -= 1;
        self.window.routes.resize(self.by_route.len(), RouteWindow::default());
        let w = &mut self.window.routes[job.route];
        let failed = matches!(kind, AnswerKind::Busy | AnswerKind::Error);
        if failed {
            w.errors += 1;
            self.window.failing |= failing_bit(job.asked.map_or(0, |(client, _)| client as u64));
        } else {
            w.completed += 1;
            w.inside += u32::from(job.entrance != Entrance::Free);
            w.ttfb_sum_us += now_us - job.forwarded_us;
            if job.action != Action::Asset {
                let took_us = (now_us - job.forwarded_us) as u32;
                self.stays.push(Stay { from_us: job.forwarded_us, took_us, ordered: kind == AnswerKind::Ordered });
            }
        }
        let sold = u32::from(kind == AnswerKind::Ordered);
        self.sold += sold;
        if sold > 0 {
            self.sold_last_us = now_us;
        }
        self.drain(now_us, agenda);
        let status = match kind {
            AnswerKind::Busy => 503,
            AnswerKind::Error => 500,
            AnswerKind::Ordered => 303,
            _ => 200,
        };
        let breaks_off = job.action == Action::Checkout && self.rng.random_range(0..1_000) < self.forgets;
        if breaks_off {
            let answer = Answer::of(AnswerKind::Error, 502);
            return Some(Finished { job, answer, sold, heard: Outcome::Lost });
        }
        let heard = match kind {
            AnswerKind::Ordered => Outcome::Sold(sold),
            // It is down: nobody knows how far it came.
            AnswerKind::Error if self.down => Outcome::Lost,
            // Too many, no connection in time, sold out: it says that nothing was sold.
            _ => Outcome::NotSold,
        };
        let location = (sold > 0).then(|| format!("/orders/{id}"));
        Some(Finished { job, answer: Answer { location, ..Answer::of(kind, status) }, sold, heard })
    }

    fn drain(&mut self, now_us: u64, agenda: &mut Agenda) {
        while let Some(at) = self.queue.iter().position(|id| self.jobs.get(id).is_some_and(|j| self.fits(j.route))) {
            let Some(id) = self.queue.remove(at) else { return };
            self.forward(id, now_us, agenda);
        }
    }

    fn fits(&self, route: usize) -> bool {
        let (now, max) = self.by_route[route];
        self.in_flight < self.limit && max.is_none_or(|m| now < m)
    }

    fn forward(&mut self, id: u32, now_us: u64, agenda: &mut Agenda) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.forwarded_us = now_us;
        self.in_flight += 1;
        self.by_route[job.route].0 += 1;
        self.window.in_flight_max = self.window.in_flight_max.max(self.in_flight);
        let soon = now_us + 1_000;
        if self.down {
            agenda.at(soon, Happening::ShopDone(id, Served::Down));
        } else if job.action == Action::Asset {
            agenda.at(soon, Happening::ShopDone(id, Served::File));
        } else if self.busy < self.shop.pool {
            self.start(id, now_us, agenda);
        } else if self.waiting.len() >= self.shop.waiting_max as usize {
            agenda.at(soon, Happening::ShopDone(id, Served::TurnedAway));
        } else {
            self.waiting.push_back(id);
            agenda.at(now_us + self.shop.pool_wait_ms * 1_000, Happening::PoolTimeout(id));
        }
    }

    fn start(&mut self, id: u32, now_us: u64, agenda: &mut Agenda) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        self.busy += 1;
        job.seen = self.shop.stock.saturating_sub(self.sold);
        let ms = if job.action == Action::Checkout { self.shop.checkout_ms } else { self.shop.work_ms };
        let thrash = 1.0 + self.shop.thrash * self.waiting.len() as f64;
        let us = ms as f64 * 1_000.0 * self.rng.random_range(0.7..1.3) * thrash * self.slower;
        agenda.at(now_us + us as u64, Happening::ShopDone(id, Served::Worked));
    }
}
