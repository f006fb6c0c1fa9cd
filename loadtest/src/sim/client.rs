//! A visitor of the crowd with its cookies, as a browser keeps them.

use std::net::IpAddr;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use tidegate_filters::{
    Score, Wants,
    seats::token::{Keyring, Token},
};

use super::gate::Gift;
use crate::crowd::{Action, Kind, Request, Visitor};

#[derive(Debug)]
pub(super) struct Client {
    pub(super) who: Visitor,
    pub(super) jar: Jar,
    /// Counts its requests; an answer to another one comes too late.
    pub(super) serial: u64,
    /// What it sends next.
    pub(super) next: Option<Request>,
    /// The request it waits for.
    pub(super) open: Option<Request>,
    /// Went home, or vanished.
    pub(super) gone: bool,
    /// Has heard that it has to wait.
    pub(super) told_to_wait: bool,
    /// What a model would think of it.
    score: f32,
}

/// Tokens by room, as text.
#[derive(Clone, Debug, Default)]
pub(super) struct Jar {
    pub(super) tickets: Vec<Option<String>>,
    pub(super) passes: Vec<Option<String>>,
    pub(super) clearance: Option<String>,
}

impl Jar {
    /// What the gate makes of them.
    pub(super) fn tokens(&self, keys: &Keyring) -> Vec<Token> {
        let texts = self.passes.iter().chain(&self.tickets).flatten().chain(&self.clearance);
        texts.filter_map(|t| keys.open(t).ok()).collect()
    }

    fn is_empty(&self) -> bool {
        self.tickets.iter().chain(&self.passes).chain([&self.clearance]).all(Option::is_none)
    }
}

impl Client {
    pub(super) fn new(who: Visitor, rooms: usize, rng: &mut ChaCha8Rng) -> Self {
        // People look like people, most programs like programs; both have a tail.
        let score = match who.kind() {
            Kind::Person if rng.random_range(0..100) < 2 => 0.9,
            Kind::Person => rng.random_range(0.0..0.6),
            Kind::SlowAndLow | Kind::JitteredMimic => rng.random_range(0.2..0.9),
            Kind::PlainScript | Kind::HeaderCopier | Kind::ManyAddresses => rng.random_range(0.6..1.0),
        };
        let jar = Jar { tickets: vec![None; rooms], passes: vec![None; rooms], clearance: None };
        Client { who, jar, serial: 0, next: None, open: None, gone: false, told_to_wait: false, score }
    }

    pub(super) fn score(&self, unscored: bool) -> Score {
        if unscored { Score::Unknown } else { Score::Known(self.score) }
    }

    /// Who the gate takes it for: its cookie, else its address.
    pub(super) fn visitor(&self, request: &Request) -> (u64, bool) {
        match request.cookies && !self.jar.is_empty() {
            true => (self.name(), true),
            false => (1 << 40 | u64::from(u32::from(request.address)), false),
        }
    }

    /// What its cookie says.
    pub(super) fn name(&self) -> u64 {
        u64::from(self.who.id()) + 1
    }

    pub(super) fn keep(&mut self, gift: Gift) {
        match gift {
            Gift::Ticket(room, text) => self.jar.tickets[room] = Some(text),
            Gift::Pass(room, text) => self.jar.passes[room] = Some(text),
            Gift::Clearance(text) => self.jar.clearance = Some(text),
        }
    }
}

pub(super) fn address(request: &Request) -> IpAddr {
    IpAddr::V4(request.address)
}

/// As the gate reads `Accept` and `Sec-Fetch-Dest`.
pub(super) fn wants(request: &Request) -> Wants {
    let accept = request.headers.iter().find(|(n, _)| *n == "accept").map_or("", |(_, v)| *v);
    match request.action {
        Action::Asset => Wants::Other,
        _ if accept.contains("text/html") => Wants::Html,
        _ => Wants::Json,
    }
}

/// `room=NAME` in a query or a form.
pub(super) fn room_of<'r>(path: &'r str, body: Option<&'r str>) -> Option<&'r str> {
    let fields = body.or_else(|| path.split_once('?').map(|p| p.1))?;
    fields.split('&').find_map(|f| f.strip_prefix("room="))
}
