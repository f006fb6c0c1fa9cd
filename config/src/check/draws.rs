//! Rooms whose places are drawn.

use tidegate_filters::{
    Span,
    seats::{
        draw::{
            beacon::{BeaconSettings, DELAY_S_MIN, Schedule, is_public},
            live::WINDOWS_MAX,
            register::REGISTER_MAX,
            weights::WEIGHT_MAX,
            work::WORK_BITS_MAX,
        },
        room::{OnFailure, Order, RoomSettings, VisitorKey},
    },
};

use super::Checker;
use crate::policy::keep::SaleSettings;
use crate::words::nearest;

/// A round's own period, its way to the gate, and the draw of a large list, milliseconds.
const ROUND_AND_DRAW_MS: u64 = 5_000;
/// Shortest and longest window of `draw_every`, milliseconds.
pub const WINDOW_MS: std::ops::RangeInclusive<u64> = 1_000..=3_600_000;

/// Longest reason of a cancellation, bytes.
const REASON_BYTES_MAX: usize = 200;

impl Checker<'_> {
    pub(super) fn draw(&mut self, i: usize, room: &RoomSettings) {
        let at = |key: &str| format!("rooms[{i}].{key}");
        let w = &room.weights;
        let four = [("human", w.human), ("unsure", w.unsure), ("crowded", w.crowded), ("suspect", w.suspect)];
        for (name, weight) in four.into_iter().chain(w.unrendered.map(|n| ("unrendered", n))) {
            self.within(at(&format!("weights.{name}")), weight.into(), 0, WEIGHT_MAX.into(), " balls");
        }
        if w.human == 0 {
            self.error(at("weights.human"), "people would have no ball in the drum", "write 16, and less for the others");
        }
        self.beacon(i, room);
        if let Some(VisitorKey::Cookie(name) | VisitorKey::Header(name)) = &room.visitor.key
            && (name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)))
        {
            self.error(
                at("visitor.key"),
                format!("`{name}` is not the name of a cookie or header"),
                "write letters, digits, `-`, `_`",
            );
        }
        let other = self.policy.rooms[..i].iter().find(|r| r.visitor.key.is_some() && r.visitor.key != room.visitor.key);
        if let Some(other) = other.filter(|_| room.visitor.key.is_some()) {
            let what =
                format!("room `{}` knows people by another name: a gate reads one cookie or header of the login", other.name);
            self.error(
                at("visitor.key"),
                what,
                format!("write the same `key` as in room `{}`, or remove one of them", other.name),
            );
        }
        if let Some(max) = room.visitor.entries_max {
            self.within(at("visitor.entries_max"), max.into(), 1, REGISTER_MAX.into(), " entries");
        }
        if room.visitor.entries_per_network == Some(0) {
            self.error(at("visitor.entries_per_network"), "every entry would be one too many", "write 1 or more, or remove it");
        }
        if room.visitor.entries_per_fingerprint == Some(0) {
            let what = "every entry would be one too many";
            self.error(at("visitor.entries_per_fingerprint"), what, "write 1 or more, or remove it");
        }
        self.within(at("visitor.work_bits"), room.visitor.work_bits.into(), 0, WORK_BITS_MAX.into(), " bits");
        if !room.order.is_drawn() {
            let written = self.places.get(&at("order")).is_some() && self.places.get(&at("weights")).is_some();
            if written {
                let what = "nothing is drawn in this room, so weights do nothing";
                self.warning(at("weights"), what, "remove them, or write `order: draw_then_fifo`");
            }
            return;
        }
        self.quotas(i, room);
        let unsaid = room.beacon == BeaconSettings::None && self.places.get(&at("beacon")).is_none();
        if unsaid && self.places.get("version").is_some() {
            let what = "without public randomness the operator could choose the outcome, and every visitor is told so";
            let instead = "write `beacon: { source: drand-quicknet, delay: 10s, from: http://RELAY/CHAIN }`, or `beacon: none` if that will do";
            self.warning(at("order"), what, instead);
        }
        if self.policy.state.is_none() {
            let what = "a draw without a disk: a restart would lose entries and the secret that was promised";
            self.error(at("order"), what, "add `state: { directory: /var/lib/tidegate/state }`, or write `order: fifo`");
        }
        if self.policy.keys.is_none() {
            let what = "the key that signs receipts would be another one after a restart";
            self.error(at("order"), what, "add `keys: { directory: /var/lib/tidegate/keys }`, or write `order: fifo`");
        }
        if room.on_failure == OnFailure::OpenBounded {
            self.error(at("on_failure"), "a room that opens when it fails lets people pass the draw", "write `closed`");
        }
        if let Order::DrawEvery(span) = room.order
            && !WINDOW_MS.contains(&span.ms())
        {
            self.error(at("order.draw_every"), format!("{span} is no useful window"), "write 1s to 1h; 10s is usual");
        }
    }

    /// Quotas that do not do what somebody would expect of them.
    fn quotas(&mut self, i: usize, room: &RoomSettings) {
        let v = &room.visitor;
        if !v.has_quota() {
            let (at, what, instead) = match v.key {
                None => (
                    "order",
                    "one visitor cookie is one entry, and nothing keeps a program from having a million of them",
                    "write `visitor: { entries_per_network: 8, entries_per_fingerprint: 3, work_bits: 18 }`, and `key: { cookie: NAME }` with the shop's login",
                ),
                Some(_) => (
                    "visitor.key",
                    "its value is the client's own word, and nothing keeps a program from inventing a million of them",
                    "add `entries_per_network: 8, entries_per_fingerprint: 3, work_bits: 18`",
                ),
            };
            self.warning(format!("rooms[{i}].{at}"), what, instead);
        }
        if !v.has_quota() && self.places.get(&format!("rooms[{i}].visitor.crowd_times")).is_some() {
            let (what, instead) =
                ("it is a multiple of a quota, and there is none", "add `entries_per_network: 8`, or remove it");
            self.warning(format!("rooms[{i}].visitor.crowd_times"), what, instead);
        }
        if v.has_quota() && room.weights.human > 0 && room.weights.crowded >= room.weights.human {
            let what = "an entry above a quota weighs as much as one below it: the quotas only ask for work";
            self.warning(format!("rooms[{i}].weights.crowded"), what, "write less than `human`; 2 of 16 is usual");
        }
        if let (Some(alike), Some(all)) = (v.entries_per_fingerprint, v.entries_per_network)
            && alike >= all
        {
            let what = format!("{alike} that look alike are reached after {all} of the whole network: this quota never counts");
            self.warning(
                format!("rooms[{i}].visitor.entries_per_fingerprint"),
                what,
                format!("write less than {all}, or remove it"),
            );
        }
    }

    fn beacon(&mut self, i: usize, room: &RoomSettings) {
        let at = |key: &str| format!("rooms[{i}].beacon.{key}");
        let BeaconSettings::Rounds(rounds) = &room.beacon else { return };
        if Schedule::of(&rounds.source).is_none() {
            let what = format!("the beacon `{}` is not known", rounds.source);
            self.error(at("source"), what, "write `drand-quicknet`, or `ed25519:` and a public key of 64 hex digits");
        }
        if !is_public(&rounds.source) {
            let what = "whoever holds this beacon's key knows every round, and could choose the outcome: visitors are told so";
            self.warning(at("source"), what, "write `drand-quicknet`, but for tests");
        }
        if rounds.delay < Span::secs(DELAY_S_MIN) {
            let what = format!("after {} the round could be in sight when the list is frozen", rounds.delay);
            self.error(at("delay"), what, format!("write {DELAY_S_MIN}s or more"));
        }
        // The round itself, its way to the gate, and the draw; before them pages that are still loading.
        let wait_ms = room.weights.wait_ms();
        let needed = Span(wait_ms + rounds.delay.ms() + ROUND_AND_DRAW_MS);
        if room.order == Order::DrawThenFifo && needed > room.freeze_before {
            let what = format!(
                "the round comes {} after the freeze and the draw is done {} after it, the sale opens {} after it: places would not be known at the opening",
                Span(wait_ms + rounds.delay.ms()),
                needed,
                room.freeze_before
            );
            let most = room.freeze_before.ms().saturating_sub(wait_ms + ROUND_AND_DRAW_MS);
            let less = (most >= DELAY_S_MIN * 1_000).then(|| format!("write at most {}, or ", Span(most)));
            self.error(at("delay"), what, format!("{}write `freeze_before: {needed}` or more", less.unwrap_or_default()));
        }
        if rounds.from.as_ref().is_some_and(|url| !url.starts_with("http://")) {
            let what = "a round carries its own signature, so it is fetched in plain HTTP";
            self.error(at("from"), what, "write http://HOST:PORT/PATH of a relay; `/public/ROUND` is added");
        }
    }

    /// What is called off, and what is drawn again.
    pub(super) fn cancelled(&mut self, i: usize, sale: &SaleSettings) {
        let at = |key: &str| format!("sales[{i}].{key}");
        if sale.cancelled.as_ref().is_some_and(|why| why.trim().is_empty() || why.len() > REASON_BYTES_MAX) {
            let instead = format!("say in 1 to {REASON_BYTES_MAX} bytes why, for everybody who entered");
            self.error(at("cancelled"), "this is no reason", instead);
        }
        let Some(old) = &sale.redraws else { return };
        let policy = self.policy;
        let others: Vec<&str> = policy.sales.iter().map(|s| s.name.as_str()).filter(|n| *n != sale.name).collect();
        if !others.contains(&old.as_str()) {
            let near = nearest(
                old,
                others.iter().copied().filter(|n| policy.sales.iter().any(|s| s.name == *n && s.cancelled.is_some())),
            );
            let instead = near.map_or_else(
                || {
                    "put the cancelled sale back: its list is still to be drawn and published, and people are told by it"
                        .to_owned()
                },
                |near| format!("did you mean `{near}`?"),
            );
            self.error(at("redraws"), format!("there is no other sale `{old}`"), instead);
            return;
        }
        if policy.sales.iter().any(|s| s.name == *old && s.cancelled.is_none()) {
            let what = format!("sale `{old}` takes place: only a cancelled one is drawn again");
            self.error(at("redraws"), what, format!("write `cancelled: REASON` in `{old}`, or remove `redraws`"));
        }
        if policy.rooms.iter().any(|r| r.name == sale.room && !r.order.is_drawn()) {
            self.error(
                at("redraws"),
                format!("nothing is drawn in room `{}`", sale.room),
                "write `order: draw_then_fifo` in the room",
            );
        }
    }

    pub(super) fn drawn_sale(&mut self, i: usize, sale: &SaleSettings) {
        let Some(room) = self.policy.rooms.iter().find(|r| r.name == sale.room).filter(|r| r.order.is_drawn()) else { return };
        let opens = sale.opens_at.unix_ms();
        let early = opens.saturating_sub(sale.enters_at().unix_ms());
        match room.order {
            Order::DrawThenFifo if early <= room.freeze_before.ms() => {
                let what = format!(
                    "nobody could enter the draw: the pre-queue opens {} before the sale, entries stop {} before it",
                    Span(early),
                    room.freeze_before
                );
                self.error(
                    format!("sales[{i}].prequeue_opens_at"),
                    what,
                    "open it half an hour before, or write `order: fifo` in the room",
                );
            }
            Order::DrawEvery(span)
                if (sale.closes_at.unix_ms().saturating_sub(opens) + early).div_ceil(span.ms().max(1)) > WINDOWS_MAX =>
            {
                let what = format!("the sale has more than {WINDOWS_MAX} windows of {span}");
                self.error(format!("sales[{i}].closes_at"), what, "close earlier, or draw less often");
            }
            _ => {}
        }
    }
}
