//! What operators do to rooms and sales, by hand or by the schedule: one way in, one row in the journal each.

use serde::Serialize;
use thiserror::Error;
use tidegate_config::Scheduled;
use tidegate_filters::{
    Now, Rate, Reason, Row,
    record::Kind,
    rule::sale_window::{Phase, Sale},
    seats::{
        operate::Action,
        room::{Room, RoomStats, bypass_id},
        token::{Kind as TokenKind, NAME_MAX, Token},
    },
};

use crate::{
    canonical,
    control::Control,
    draw::instant,
    keys::{KeyError, random},
};

/// A bypass is good for at most this long, milliseconds.
pub const BYPASS_MS_MAX: u64 = 90 * 86_400_000;

/// What an action is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A room.
    Room(&'a str),
    /// A sale: its times, or its room.
    Sale(&'a str),
}

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Somebody at the admin API.
    Admin,
    /// The policy's schedule.
    Schedule,
}

impl Target<'_> {
    /// The room, or that of the sale.
    fn room<'r>(&self, rooms: &'r [Room]) -> Result<&'r Room, OperateError> {
        match *self {
            Target::Room(name) => {
                let room = rooms.iter().find(|r| r.name() == name);
                room.ok_or_else(|| unknown("room", name, rooms.iter().map(Room::name)))
            }
            Target::Sale(name) => {
                let names = rooms.iter().flat_map(|r| r.sales().map(|s| &*s.name));
                let room = rooms.iter().find(|r| r.sales().any(|s| *s.name == *name));
                room.ok_or_else(|| unknown("sale", name, names))
            }
        }
    }
}

impl By {
    /// As in the journal's `method`.
    pub fn name(self) -> &'static str {
        match self {
            By::Admin => "ADMIN",
            By::Schedule => "SCHEDULE",
        }
    }
}

/// Why nothing was done.
#[derive(Debug, Error)]
pub enum OperateError {
    /// There is no such room or sale.
    #[error("there is no {what} `{name}`; this policy has: {known}")]
    Unknown {
        /// `room` or `sale`.
        what: &'static str,
        /// As asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The action has no effect on it as it is.
    #[error("{what} `{name}` cannot {action} now: it is {state}")]
    Useless {
        /// `room` or `sale`.
        what: &'static str,
        /// Which.
        name: String,
        /// What was asked.
        action: &'static str,
        /// How it is.
        state: &'static str,
    },
    /// The places of a sale are drawn: it opens when everybody who entered was told that it would.
    #[error(
        "sale `{name}` cannot {what}: its places are drawn, its list takes entries until {closes} as was promised before the first of them, and it opens by itself at {opens}"
    )]
    Drawn {
        /// Which.
        name: String,
        /// What was asked.
        what: &'static str,
        /// When its list closes.
        closes: String,
        /// When it opens.
        opens: String,
    },
    /// A bypass that cannot be made.
    #[error("{0}")]
    Bypass(&'static str),
    /// The system gave no random bytes.
    #[error("{0}")]
    Entropy(#[from] KeyError),
}

/// A sale, for the admin API.
#[derive(Clone, Debug, Serialize)]
pub struct SaleStatus {
    name: String,
    room: String,
    phase: &'static str,
    opens_unix_ms: u64,
    closes_unix_ms: u64,
    /// An operator moved its times.
    moved: bool,
}

/// A bypass, as it is handed out.
#[derive(Clone, Debug, Serialize)]
pub struct Bypass {
    /// Goes into `revoked_bypasses` to take it back.
    pub id: String,
    /// For `Authorization: Tidegate TOKEN`.
    pub token: String,
    /// For browsers: below the shop's address.
    pub path: String,
    /// Unix milliseconds.
    pub expires_unix_ms: u64,
}

/// What a bypass is asked for.
#[derive(Clone, Debug)]
pub struct BypassRequest<'a> {
    /// A room; all of them when empty.
    pub room: &'a str,
    /// The shop's host, as visitors write it.
    pub host: &'a str,
    /// Good for so long, milliseconds.
    pub for_ms: u64,
    /// Now, Unix milliseconds.
    pub now_ms: u64,
}

impl BypassRequest<'_> {
    /// The token, with a random number.
    pub fn token(&self) -> Result<Token, OperateError> {
        let host = canonical::host(self.host).filter(|h| !h.is_empty() && h.len() <= NAME_MAX);
        let host = host
            .ok_or(OperateError::Bypass("`host` is not a host name: write it as in the shop's address, such as shop.example"))?;
        if self.for_ms == 0 || self.for_ms > BYPASS_MS_MAX {
            return Err(OperateError::Bypass("`for` must be more than no time, and at most 90d: make another one then"));
        }
        let number = u64::from_be_bytes(random()?);
        let token = Token::of_gate(TokenKind::Bypass, &host, number, self.for_ms, self.now_ms);
        Ok(Token { room: self.room.into(), ..token })
    }
}

impl Bypass {
    /// A sealed token with its link.
    pub fn new(token: &Token, sealed: String, own_prefix: &str) -> Bypass {
        let path = format!("{own_prefix}bypass?token={sealed}&to=/");
        Bypass { id: bypass_id(token.number), token: sealed, path, expires_unix_ms: token.expires_at_ms }
    }
}

impl Control {
    /// Does it, says so in the log, and writes a row of its own.
    pub fn operate(&self, target: Target<'_>, action: &Action, by: By) -> Result<RoomStats, OperateError> {
        let active = self.shared.active.load();
        let rooms = active.pipeline.rooms();
        let now = self.shared.clock.now();
        let of_sale = |action: &Action| matches!(action, Action::Open | Action::Close | Action::AsWritten);
        let room = target.room(rooms)?;
        let useless =
            |what, name: &str, state| OperateError::Useless { what, name: name.to_owned(), action: action.name(), state };
        match target {
            Target::Sale(name) if of_sale(action) => {
                if !room.operate_sale(name, action, now) {
                    if let Some(drawn) = drawn_too_early(room, name, action, now) {
                        return Err(drawn);
                    }
                    let phase = room.sales().find(|s| *s.name == *name).map_or("gone", |s| phase_name(s, now));
                    return Err(useless("sale", name, phase));
                }
            }
            Target::Room(name) if *action == Action::AsWritten => return Err(useless("room", name, "no sale")),
            _ => {
                room.operate(action);
            }
        }
        let (what, name) = match target {
            Target::Room(name) => ("room", name),
            Target::Sale(name) => ("sale", name),
        };
        tracing::info!(by = by.name(), what, name, %action, "operator");
        let path: String = format!("{what} {name}: {action}").chars().take(128).collect();
        self.note_operator(by, path, room.name());
        Ok(room.stats(now))
    }

    /// A row of what an operator did, in `room` if it was in one.
    pub(crate) fn note_operator(&self, by: By, done: String, room: &str) {
        let now = self.shared.clock.now();
        self.shared.rows.row(Row {
            at_ms: now.wall_ms,
            mono_ns: now.mono_ns,
            kind: Kind::Operator,
            method: by.name().into(),
            path: done,
            verdict: "own",
            reason: Some(Reason::Operator),
            room: room.to_owned().into(),
            status: 200,
            policy: self.shared.active.load().names.policy.into(),
            ..Row::blank()
        });
    }

    /// Stops calling and seating in a room, or goes on.
    pub fn pause(&self, room: &str, paused: bool) -> Result<RoomStats, OperateError> {
        self.operate(Target::Room(room), if paused { &Action::Pause } else { &Action::Resume }, By::Admin)
    }

    /// Caps the refill of a room, or lifts the cap.
    pub fn slow(&self, room: &str, rate: Option<Rate>) -> Result<RoomStats, OperateError> {
        self.operate(Target::Room(room), &Action::Slow(rate), By::Admin)
    }

    /// Says something to those who wait, or takes it back.
    pub fn message(&self, room: &str, text: Option<String>) -> Result<RoomStats, OperateError> {
        self.operate(Target::Room(room), &Action::Message(text), By::Admin)
    }

    /// Every sale and how it stands.
    pub fn sales(&self) -> Vec<SaleStatus> {
        let now = self.shared.clock.now();
        let active = self.shared.active.load();
        let sales = active.pipeline.rooms().iter().flat_map(|r| r.sales().map(move |s| (r, s)));
        let status = |(room, s): (&Room, &Sale)| SaleStatus {
            name: s.name.to_string(),
            room: room.name().to_owned(),
            phase: phase_name(s, now),
            opens_unix_ms: s.opens_at_ms(),
            closes_unix_ms: s.closes_at_ms(),
            moved: (s.opens_at_ms(), s.closes_at_ms()) != (s.opens_ms, s.closes_ms),
        };
        sales.map(status).collect()
    }

    /// A bypass for staff or a partner.
    pub fn bypass(&self, room: &str, host: &str, for_ms: u64) -> Result<Bypass, OperateError> {
        let active = self.shared.active.load();
        let rooms = active.pipeline.rooms();
        if !room.is_empty() && active.pipeline.room(room).is_none() {
            return Err(unknown("room", room, rooms.iter().map(Room::name)));
        }
        let token = BypassRequest { room, host, for_ms, now_ms: self.shared.clock.now().wall_ms }.token()?;
        let bypass = Bypass::new(&token, self.shared.keyring.load().seal(&token), &active.policy.own_prefix);
        tracing::info!(id = bypass.id, room, host, "operator made a bypass");
        Ok(bypass)
    }

    /// Does what the schedule says between two instants, Unix milliseconds, the first excluded; in the order of time.
    pub(crate) fn follow_schedule(&self, after_ms: u64, until_ms: u64) {
        let active = self.shared.active.load_full();
        let due = |s: &&Scheduled| (after_ms + 1..=until_ms).contains(&s.at.unix_ms());
        let mut list: Vec<&Scheduled> = active.policy.schedule.iter().filter(due).collect();
        list.sort_by_key(|s| s.at.unix_ms());
        let rooms = active.pipeline.rooms();
        let mut done = Vec::new();
        for step in list {
            let target = match (&step.sale, &step.room) {
                (Some(sale), _) => Target::Sale(sale),
                (None, Some(room)) => Target::Room(room),
                (None, None) => continue,
            };
            let (room, at_ms) = (target.room(rooms).ok(), step.at.unix_ms());
            // Done before a restart: whatever an operator did since stands.
            if room.is_some_and(|r| at_ms <= r.followed_ms()) {
                continue;
            }
            if let Err(error) = self.operate(target, &step.action, By::Schedule) {
                tracing::warn!(%error, at = %step.at, "a step of the schedule had no effect");
            }
            done.extend(room.map(|room| (room, at_ms)));
        }
        // Several may be due at one instant.
        done.into_iter().for_each(|(room, at_ms)| room.follows(at_ms));
    }
}

/// A sale that would open or close, but for its draw.
fn drawn_too_early(room: &Room, name: &str, action: &Action, now: Now) -> Option<OperateError> {
    let what = match action {
        Action::Open => "open early",
        Action::Close => "be closed before it opens",
        _ => return None,
    };
    let draw = room.draws().find(|d| d.sale_id() == name)?;
    let sale = room.sales().find(|s| *s.name == *name)?;
    matches!(sale.phase(now), Phase::Before | Phase::Prequeue).then(|| OperateError::Drawn {
        name: name.to_owned(),
        what,
        closes: instant(draw.window_ends_ms(draw.window_count().saturating_sub(1))),
        opens: instant(sale.opens_at_ms()),
    })
}

fn unknown<'n>(what: &'static str, name: &str, known: impl Iterator<Item = &'n str>) -> OperateError {
    let known: Vec<&str> = known.collect();
    let known = if known.is_empty() { format!("no {what}s") } else { known.join(", ") };
    OperateError::Unknown { what, name: name.chars().take(64).collect(), known }
}

fn phase_name(sale: &Sale, now: Now) -> &'static str {
    match sale.phase(now) {
        _ if sale.cancelled => "cancelled",
        Phase::Before => "before",
        Phase::Prequeue => "prequeue",
        Phase::Open => "open",
        Phase::Closed => "closed",
    }
}
