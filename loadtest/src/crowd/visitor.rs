//! One visitor: what it wants, what it does next. Knows the gate only as a browser would: pages, forms, what they say.

use std::net::Ipv4Addr;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, LogNormal as Normal};

use super::{
    headers::Profile,
    kind::Kind,
    scenario::LogNormal,
    step::{Action, Answer, AnswerKind, Note, Outcome, Request, Step},
};

/// The product everybody wants.
const PRODUCT_PATH: &str = "/product/42";
/// What a browser fetches for its first page of the shop; later pages have them in the cache.
const ASSETS: &[&str] = &["/static/shop.css", "/static/shop.js", "/static/shoe.png"];
/// A client that reloads for ever without being told when waits at least this long.
const POLL_MS_MIN: u64 = 1_000;
/// A waiting page that reloads by itself does so within this time of what it was told: pages do not tick in step.
const POLL_JITTER_MS: u64 = 400;
/// Bots believe that nothing is left when they hear it this often.
const SOLD_OUT_SEEN: u32 = 3;

/// A page on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The front page.
    Home,
    /// The product.
    Product,
    /// Putting it in the cart.
    Cart,
    /// Paying.
    Checkout,
    /// The confirmation.
    Order,
}

/// How fast somebody goes on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// As people do.
    Think(LogNormal),
    /// On the clock, whatever happens.
    Every(u64),
}

/// What somebody makes of a waiting page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nothing: it is not the page that was asked for.
    Ignores,
    /// Reloads with the page itself (no JavaScript).
    Page,
    /// The page's script asks for the place when it was told to.
    Script,
    /// A person who reloads twice as often as told.
    Impatient,
    /// A program that asks as often as it likes.
    OwnCadence,
}

/// What makes visitors differ.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) kind: Kind,
    pub(super) goals: &'static [Goal],
    pub(super) pace: Pace,
    pub(super) gate: Gate,
    pub(super) reaction_ms: LogNormal,
    pub(super) assets: bool,
    pub(super) cookies: bool,
    /// Presses the button of a page that asks whether somebody is there.
    pub(super) confirms: bool,
    pub(super) units_max: u32,
    pub(super) retries_max: u32,
    pub(super) patience_page_ms: u64,
    pub(super) patience_waiting_ms: u64,
    pub(super) profile: &'static Profile,
}

/// One visitor.
#[derive(Clone, Debug)]
pub struct Visitor {
    id: u32,
    arrives_ms: u64,
    manner: Manner,
    addresses: Vec<Ipv4Addr>,
    rng: ChaCha8Rng,
    /// Index into the goals.
    goal: usize,
    /// When the last request was due.
    sent_ms: u64,
    requests: u32,
    last: Option<Action>,
    failures: u32,
    units: u32,
    sold_out_seen: u32,
    waiting_since_ms: Option<u64>,
    room: Option<String>,
    assets_fetched: bool,
    order_path: Option<String>,
}

impl Visitor {
    pub(super) fn new(id: u32, arrives_ms: u64, manner: Manner, addresses: Vec<Ipv4Addr>, rng: ChaCha8Rng) -> Self {
        Visitor {
            id,
            arrives_ms,
            manner,
            addresses,
            rng,
            goal: 0,
            sent_ms: arrives_ms,
            requests: 0,
            last: None,
            failures: 0,
            units: 0,
            sold_out_seen: 0,
            waiting_since_ms: None,
            room: None,
            assets_fetched: false,
            order_path: None,
        }
    }

    #[cfg(test)]
    pub(super) fn manner(&self) -> &Manner {
        &self.manner
    }

    /// Its number, from 0.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Who it is.
    pub fn kind(&self) -> Kind {
        self.manner.kind
    }

    /// When it comes, milliseconds since the start of the run.
    pub fn arrives_ms(&self) -> u64 {
        self.arrives_ms
    }

    /// The /24 it comes from first.
    pub fn network(&self) -> String {
        self.addresses.first().map_or_else(String::new, |a| {
            let [x, y, z, _] = a.octets();
            format!("{x}.{y}.{z}.0/24")
        })
    }

    /// Where it comes from, in turn.
    pub fn addresses(&self) -> &[Ipv4Addr] {
        &self.addresses
    }

    /// Units it got.
    pub fn units(&self) -> u32 {
        self.units
    }

    /// The first request.
    pub fn start(&mut self) -> Step {
        self.send_goal(self.arrives_ms)
    }

    /// What it does after an answer that came at `now_ms`.
    pub fn next(&mut self, answer: &Answer, now_ms: u64) -> Step {
        let failed = answer.kind.is_failure();
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        if failed && self.failures > self.manner.retries_max {
            return Step::Leave(Outcome::GaveUp);
        }
        match answer.kind {
            AnswerKind::Page | AnswerKind::Asset => self.go_on(now_ms),
            AnswerKind::Ordered => self.ordered(answer.location.clone(), now_ms),
            AnswerKind::SoldOut => self.sold_out(now_ms),
            AnswerKind::Waiting | AnswerKind::NoTicket | AnswerKind::Seated | AnswerKind::Redirect | AnswerKind::Challenged
                if self.manner.gate == Gate::Ignores =>
            {
                self.again(now_ms, None)
            }
            AnswerKind::Waiting => match &answer.note {
                Some(note) => self.wait(note, now_ms),
                None => self.again(now_ms, answer.retry_after_s),
            },
            AnswerKind::Seated => self.inside(now_ms),
            AnswerKind::Redirect if answer.pass => self.inside(now_ms),
            AnswerKind::Redirect | AnswerKind::NoTicket => self.look_again(now_ms),
            AnswerKind::Challenged => match &answer.proof {
                Some(proof) if self.manner.confirms => {
                    let at = now_ms + self.reaction();
                    self.send(at, Action::Challenge, "POST", "/.tidegate/challenge".into(), Some(proof.clone()))
                }
                _ => self.again(now_ms, answer.retry_after_s),
            },
            AnswerKind::Refused => {
                // A form without a seat: back to the page it came from.
                self.step_back();
                self.again(now_ms, answer.retry_after_s)
            }
            AnswerKind::Throttled | AnswerKind::Busy | AnswerKind::Error | AnswerKind::Timeout | AnswerKind::Failed => {
                self.again(now_ms, answer.retry_after_s)
            }
        }
    }

    fn go_on(&mut self, now_ms: u64) -> Step {
        self.waiting_since_ms = None;
        self.goal += 1;
        if self.goal >= self.manner.goals.len() {
            return Step::Leave(if self.units > 0 { Outcome::Bought } else { Outcome::Looked });
        }
        let at = self.paced(now_ms);
        self.send_goal(at)
    }

    fn ordered(&mut self, location: Option<String>, now_ms: u64) -> Step {
        self.units += 1;
        self.order_path = location;
        if self.current() == Some(Goal::Checkout) && self.manner.goals.get(self.goal + 1) == Some(&Goal::Order) {
            // The browser follows the redirect at once.
            self.goal += 1;
            return self.send_goal(now_ms);
        }
        if self.units >= self.manner.units_max {
            return Step::Leave(Outcome::Bought);
        }
        self.goal = 0;
        let at = self.paced(now_ms);
        self.send_goal(at)
    }

    fn sold_out(&mut self, now_ms: u64) -> Step {
        self.sold_out_seen += 1;
        if matches!(self.manner.pace, Pace::Think(_)) || self.sold_out_seen >= SOLD_OUT_SEEN {
            let bought = self.units > 0;
            return Step::Leave(if bought { Outcome::Bought } else { Outcome::SoldOut });
        }
        self.again(now_ms, None)
    }

    /// Told to wait: asks for the place again later, or takes the seat.
    fn wait(&mut self, note: &Note, now_ms: u64) -> Step {
        let since = *self.waiting_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since) > self.manner.patience_waiting_ms {
            return Step::Leave(Outcome::TiredOfWaiting);
        }
        if note.room.is_some() {
            self.room.clone_from(&note.room);
        }
        let told = u64::from(note.poll_after_s) * 1_000;
        if note.claimable
            && let Some(room) = self.room.clone()
        {
            return self.called(&room, told, note.state == "next", now_ms);
        }
        let jitter = self.rng.random_range(0..POLL_JITTER_MS);
        match self.manner.gate {
            Gate::Script if self.room.is_some() => self.poll(now_ms + told.max(POLL_MS_MIN) + jitter),
            Gate::OwnCadence if self.room.is_some() => {
                let at = self.paced(now_ms);
                self.poll(at)
            }
            Gate::Impatient => self.reload(now_ms + (told / 2).max(POLL_MS_MIN) + jitter),
            _ => self.reload(now_ms + told.max(POLL_MS_MIN) + jitter),
        }
    }

    /// The turn has come. The page's script sees it in a poll, reloads the page, and the page's form is sent.
    fn called(&mut self, room: &str, told_ms: u64, next: bool, now_ms: u64) -> Step {
        if self.manner.gate == Gate::Script && self.last == Some(Action::Poll) && !next {
            return self.reload(now_ms);
        }
        self.step_back();
        // Whoever claimed when nothing was free is next in line, and asks again when told to.
        let at = now_ms + if next { told_ms.max(POLL_MS_MIN) } else { self.reaction() };
        let body = format!("room={room}&to={}", self.path_of(self.current().unwrap_or(Goal::Product)));
        self.send(at, Action::Claim, "POST", "/.tidegate/claim".into(), Some(body))
    }

    fn poll(&mut self, at_ms: u64) -> Step {
        let path = format!("/.tidegate/status?room={}", self.room.as_deref().unwrap_or_default());
        self.send(at_ms, Action::Poll, "GET", path, None)
    }

    /// The page that it waits for, once more.
    fn reload(&mut self, at_ms: u64) -> Step {
        self.step_back();
        self.send_goal(at_ms)
    }

    fn inside(&mut self, now_ms: u64) -> Step {
        self.waiting_since_ms = None;
        self.reload(now_ms)
    }

    fn look_again(&mut self, now_ms: u64) -> Step {
        let at = match self.manner.pace {
            Pace::Think(_) => now_ms,
            Pace::Every(_) => self.paced(now_ms),
        };
        self.reload(at)
    }

    /// The same once more after a failure.
    fn again(&mut self, now_ms: u64, retry_after_s: Option<u32>) -> Step {
        let mut at = self.paced(now_ms);
        // People (and their browsers) read the message; bots do not.
        if let (Pace::Think(_), Some(s)) = (self.manner.pace, retry_after_s) {
            at = at.max(now_ms + u64::from(s) * 1_000);
        }
        self.send_goal(at)
    }

    /// A form cannot be waited for: back to the last page that can be asked for.
    fn step_back(&mut self) {
        while self.goal > 0 && matches!(self.current(), Some(Goal::Cart | Goal::Checkout)) {
            self.goal -= 1;
        }
    }

    fn current(&self) -> Option<Goal> {
        self.manner.goals.get(self.goal).copied()
    }

    /// When the next request is due.
    fn paced(&mut self, now_ms: u64) -> u64 {
        match self.manner.pace {
            Pace::Think(think) => now_ms + sample(think, &mut self.rng),
            Pace::Every(ms) => (self.sent_ms + ms).max(now_ms),
        }
    }

    fn reaction(&mut self) -> u64 {
        sample(self.manner.reaction_ms, &mut self.rng)
    }

    fn path_of(&self, goal: Goal) -> String {
        match goal {
            Goal::Home => "/".into(),
            Goal::Product => PRODUCT_PATH.into(),
            Goal::Cart => "/cart".into(),
            Goal::Checkout => "/checkout".into(),
            Goal::Order => self.order_path.clone().unwrap_or_else(|| "/".into()),
        }
    }

    fn send_goal(&mut self, at_ms: u64) -> Step {
        let Some(goal) = self.current() else { return Step::Leave(Outcome::Looked) };
        let path = self.path_of(goal);
        let buyer = format!("{}-{}", self.manner.kind.name(), self.id);
        match goal {
            Goal::Home => self.send(at_ms, Action::Home, "GET", path, None),
            Goal::Product => self.send(at_ms, Action::Product, "GET", path, None),
            Goal::Cart => self.send(at_ms, Action::Cart, "POST", path, Some(format!("buyer={buyer}&product=42"))),
            Goal::Checkout => self.send(at_ms, Action::Checkout, "POST", path, Some(format!("buyer={buyer}"))),
            Goal::Order => self.send(at_ms, Action::Order, "GET", path, None),
        }
    }

    fn send(&mut self, at_ms: u64, action: Action, method: &'static str, path: String, body: Option<String>) -> Step {
        let profile = self.manner.profile;
        let headers = match action {
            Action::Poll => profile.script,
            Action::Asset => profile.asset,
            _ if method == "POST" => profile.form,
            _ => profile.page,
        };
        let address = self.addresses[self.requests as usize % self.addresses.len()];
        self.requests = self.requests.wrapping_add(1);
        self.sent_ms = at_ms;
        self.last = Some(action);
        let request = Request {
            action,
            method,
            path,
            body,
            headers,
            referer: (self.requests > 1).then_some(if action == Action::Product { "/" } else { PRODUCT_PATH }),
            address,
            cookies: self.manner.cookies,
            patience_ms: self.manner.patience_page_ms,
            assets: if self.manner.assets && !self.assets_fetched && method == "GET" { ASSETS } else { &[] },
        };
        Step::Send { at_ms, request }
    }

    /// Tells that the assets of a page were fetched; they are in the cache from now on.
    pub fn assets_fetched(&mut self) {
        self.assets_fetched = true;
    }

    /// It loads what a page names, as a browser does.
    pub fn has_browser(&self) -> bool {
        self.manner.assets
    }

    /// A request for an asset of the page it looks at.
    pub fn asset(&self, path: &str, page: &Request) -> Request {
        Request {
            action: Action::Asset,
            method: "GET",
            path: path.into(),
            body: None,
            headers: self.manner.profile.asset,
            referer: Some(PRODUCT_PATH),
            address: page.address,
            cookies: page.cookies,
            patience_ms: page.patience_ms,
            assets: &[],
        }
    }
}

fn sample(d: LogNormal, rng: &mut ChaCha8Rng) -> u64 {
    let median = (d.median.ms() as f64).max(1.0);
    Normal::new(median.ln(), d.sigma).map_or(d.median.ms(), |n| n.sample(rng).min(600_000.0) as u64)
}
