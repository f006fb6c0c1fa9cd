//! The operator's hands on a room.

use super::{Kind, Now, Ordering, Phase, Rate, Reason, Room, Token, Verdict, Visit};
use crate::seats::{
    operate::{Action, Doors, MESSAGE_MAX},
    state::Operator,
};

/// Probes and crawlers are told to look again after this long, seconds.
pub const LOOK_AGAIN_S: u32 = 60;

impl Room {
    /// Does it. `false`: it needs a sale.
    pub fn operate(&self, action: &Action) -> bool {
        match action {
            Action::Pause => self.pause(true),
            Action::Resume => self.pause(false),
            Action::Drain => self.set_doors(Doors::Draining),
            Action::Close => self.set_doors(Doors::Closed),
            Action::Open => self.set_doors(Doors::Open),
            Action::Slow(rate) => self.slow(*rate),
            Action::Message(text) => self.message(text.clone()),
            Action::AsWritten => return false,
        }
        true
    }

    /// Stops calling and seating; places are kept.
    pub fn pause(&self, paused: bool) {
        self.state.paused.store(paused, Ordering::Release);
    }

    /// Caps the refill until called with `None`; in force with the next plan.
    pub fn slow(&self, rate: Option<Rate>) {
        self.operator().slow = rate;
    }

    /// The operator's word to those who wait, at most [`MESSAGE_MAX`] characters.
    pub fn message(&self, text: Option<String>) {
        self.put_message(&mut self.operator(), text.map(|t| t.chars().take(MESSAGE_MAX).collect()));
    }

    /// `says` follows the message, so that a poll looks at no lock while there is none.
    pub(in crate::seats) fn put_message(&self, operator: &mut Operator, text: Option<String>) {
        self.state.says.store(text.is_some(), Ordering::Release);
        operator.message = text;
    }

    /// The operator's word to those who wait.
    pub fn current_message(&self) -> Option<String> {
        self.state.says.load(Ordering::Acquire).then(|| self.operator().message.clone())?
    }

    /// Who may come in.
    pub fn doors(&self) -> Doors {
        Doors::from_bits(self.state.doors.load(Ordering::Acquire))
    }

    /// A bypass of staff or a partner for this room, or for all, of this host, in its times and not taken back.
    pub(super) fn lets_pass(&self, visit: &Visit<'_>, now: Now) -> bool {
        let good = |t: &&Token| {
            t.kind == Kind::Bypass
                && (t.room.is_empty() || *t.room == *self.settings.name)
                && *t.host == *visit.host
                && (t.not_before_ms..t.expires_at_ms).contains(&now.wall_ms)
        };
        let token = visit.tokens.iter().find(good);
        token.is_some_and(|t| !self.settings.revoked_bypasses.iter().any(|id| *id == bypass_id(t.number)))
    }

    /// Opens, closes or resets a sale of this room. `false`: no such sale, or it is so already.
    pub fn operate_sale(&self, sale: &str, action: &Action, now: Now) -> bool {
        let Some((sale, _)) = self.sales.iter().find(|(s, _)| *s.name == *sale) else { return false };
        // The time of the freeze was promised with the rules of the draw.
        let drawn = self.draws().any(|d| d.sale_id() == &*sale.name);
        match action {
            // It has no times any more.
            _ if sale.cancelled => false,
            Action::Open if drawn => false,
            // Whoever came while it was closed would stand before the drawn. To call it off is another thing, and signed.
            Action::Close if drawn && matches!(sale.phase(now), Phase::Before | Phase::Prequeue) => false,
            Action::Open => sale.open_now(now),
            Action::Close => sale.close_now(now),
            Action::AsWritten => {
                sale.as_written();
                true
            }
            _ => false,
        }
    }

    /// The last step of the schedule that was done, Unix milliseconds; 0: none. It outlives a restart with the room.
    pub fn followed_ms(&self) -> u64 {
        self.state.followed_ms.load(Ordering::Acquire)
    }

    /// A step of the schedule was done.
    pub fn follows(&self, at_ms: u64) {
        self.state.followed_ms.fetch_max(at_ms, Ordering::AcqRel);
    }

    fn set_doors(&self, doors: Doors) {
        self.state.doors.store(doors as u8, Ordering::Release);
    }
}

/// How a bypass is named in the policy, in the journal and on the command line.
pub fn bypass_id(number: u64) -> String {
    format!("{number:016x}")
}

/// Who cannot join: a method that changes something is told to come with a pass; who only looks (a probe, a crawler, a
/// prefetch) is told the truth, that people wait and when to look again.
pub(super) fn turned_away(visit: &Visit<'_>) -> (Verdict, Reason) {
    match visit.is_safe() && !visit.may_join() {
        true => (Verdict::Refuse { retry_after_s: Some(LOOK_AGAIN_S) }, Reason::PeopleWait),
        false => (Verdict::Refuse { retry_after_s: None }, Reason::NoPass),
    }
}
