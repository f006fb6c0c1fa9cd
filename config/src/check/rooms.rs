//! Rooms and sales.

use tidegate_filters::{
    Span,
    plan::Admission,
    seats::{
        line::CLAIM_WINDOW_S_MAX,
        operate::{Action, MESSAGE_MAX},
        queue::PLACES_MAX,
        room::{Binding, OnFailure, RoomSettings, TICKET_AGE_MAX_MS},
        seat::SEATS_MAX,
    },
};

use super::Checker;
use crate::policy::keep::SaleSettings;

/// Statuses that a browser shows as a page and a crawler does not keep.
const WAITING_STATUSES: [u16; 4] = [200, 202, 429, 503];

impl Checker<'_> {
    pub(super) fn rooms(&mut self) {
        let rooms = &self.policy.rooms;
        self.unique("rooms[{}].name", rooms.iter().map(|r| r.name.as_str()));
        for (i, room) in rooms.iter().enumerate() {
            self.name(format!("rooms[{i}].name"), &room.name);
            self.room(i, room);
            self.draw(i, room);
        }
        let named = self.policy.forecast.file().is_some_and(|f| !f.as_os_str().is_empty());
        if named && rooms.iter().all(|r| r.admission != Admission::Forecast) {
            let instead = "write `admission: forecast` in a room, or `model: none`";
            self.warning("forecast.model", "no room looks ahead, so nobody asks this model", instead);
        }
    }

    fn room(&mut self, i: usize, room: &RoomSettings) {
        let at = |key: &str| format!("rooms[{i}].{key}");
        let seats = &room.seats;
        self.within(at("seats.max"), seats.max.into(), 1, SEATS_MAX.into(), " seats");
        self.some_time(at("seats.pass_idle"), seats.pass_idle);
        self.some_time(at("seats.pass_age_max"), seats.pass_age_max);
        if seats.pass_idle > seats.pass_age_max {
            let what = format!("{} of idleness is longer than a pass lives ({})", seats.pass_idle, seats.pass_age_max);
            self.error(at("seats.pass_idle"), what, "write less than `pass_age_max`");
        }
        if let Admission::Fixed(rate) = room.admission
            && rate.events == 0
        {
            self.error(
                at("admission.fixed"),
                "nobody would ever be let in",
                "write a rate above zero; `pause` exists for stopping",
            );
        }
        self.some_time(at("claim_window"), room.claim_window);
        let longest = Span::secs(u64::from(CLAIM_WINDOW_S_MAX));
        if room.claim_window > longest {
            let what = format!("a called visitor who does not come would block a call for {}", room.claim_window);
            self.error(at("claim_window"), what, format!("write at most {longest}"));
        }
        if (1..10_000).contains(&room.claim_window.ms()) {
            let what = format!("a called visitor has only {} before somebody else is called as well", room.claim_window);
            self.warning(at("claim_window"), what, "people look away: write at least 30s");
        }
        self.within(at("entries_max"), room.entries_max.into(), 1, PLACES_MAX.into(), " places");
        self.within(at("slow_lane_percent"), room.slow_lane_percent.into(), 1, 50, " percent");
        if !WAITING_STATUSES.contains(&room.status_while_waiting) {
            let what = format!("{} is not a status of the waiting page", room.status_while_waiting);
            self.error(at("status_while_waiting"), what, "write 200, 202, 429 or 503");
        }
        if !WAITING_STATUSES.contains(&room.status_for_crawlers) {
            let what = format!("{} is not a status that crawlers and probes understand", room.status_for_crawlers);
            self.error(at("status_for_crawlers"), what, "write 503, 429, 202 or 200");
        }
        for (k, id) in room.revoked_bypasses.iter().enumerate() {
            if id.len() != 16 || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                let what = format!("`{id}` is not the id of a bypass");
                self.error(format!("rooms[{i}].revoked_bypasses[{k}]"), what, "16 hexadecimal digits, as making it printed");
            }
        }
        for (k, tag) in room.page.languages.iter().enumerate() {
            if room.page.languages[..k].contains(tag) {
                self.error(format!("rooms[{i}].page.languages[{k}]"), format!("`{tag}` is listed twice"), "remove one of them");
            }
        }
        self.binding(at("binding"), room);
        let stock = self.policy.sales.iter().find(|s| s.room == room.name && s.stock.is_some());
        if let (OnFailure::OpenBounded, Some(sale)) = (room.on_failure, stock) {
            let what = format!("sale `{}` has stock: a room that opens when it fails hands it to the fastest", sale.name);
            self.error(at("on_failure"), what, "write `closed`");
        }
    }

    fn binding(&mut self, at: String, room: &RoomSettings) {
        match room.binding {
            Binding::Key if room.visitor.key.is_none() => {
                let what = "the room knows no name that the shop's login gives";
                self.error(at, what, "write `visitor: { key: { cookie: NAME } }` in the room, or `binding: none`");
            }
            Binding::Tls if self.policy.listen.iter().all(|l| l.tls.is_none()) => {
                let what = "no listener speaks TLS, so nothing is bound";
                self.warning(at, what, "write `binding: network`, or give a listener `tls`");
            }
            Binding::Network => {
                let what = "people whose phone changes from wifi to mobile while they wait are challenged";
                self.warning(at, what, "write `binding: none` unless tickets are sold on");
            }
            _ => {}
        }
    }

    pub(super) fn sales(&mut self) {
        let policy = self.policy;
        let sales = &policy.sales;
        self.unique("sales[{}].name", sales.iter().map(|s| s.name.as_str()));
        let rooms: Vec<&str> = policy.rooms.iter().map(|r| r.name.as_str()).collect();
        for (i, sale) in sales.iter().enumerate() {
            self.name(format!("sales[{i}].name"), &sale.name);
            self.known(format!("sales[{i}].room"), "room", &sale.room, &rooms);
            self.sale(i, sale);
            self.drawn_sale(i, sale);
            self.cancelled(i, sale);
            let (begin, end) = hours(sale);
            let on = |s: &SaleSettings| s.cancelled.is_none();
            let overlaps = |s: &&SaleSettings| on(s) && on(sale) && s.room == sale.room && hours(s).0 < end && begin < hours(s).1;
            if let Some(other) = sales[..i].iter().find(overlaps) {
                let what = format!("overlaps with sale `{}` in room `{}`", other.name, sale.room);
                self.error(format!("sales[{i}]"), what, "one sale at a time in a room: move it, or give it a room of its own");
            }
        }
    }

    pub(super) fn schedule(&mut self) {
        let policy = self.policy;
        let rooms: Vec<&str> = policy.rooms.iter().map(|r| r.name.as_str()).collect();
        let sales: Vec<&str> = policy.sales.iter().map(|s| s.name.as_str()).collect();
        for (i, step) in policy.schedule.iter().enumerate() {
            let at = |key: &str| format!("schedule[{i}].{key}");
            match (&step.room, &step.sale) {
                (Some(room), None) => drop(self.known(at("room"), "room", room, &rooms)),
                (None, Some(sale)) => drop(self.known(at("sale"), "sale", sale, &sales)),
                (Some(_), Some(_)) => self.error(at("sale"), "one step is for a room or for a sale", "remove `room` or `sale`"),
                (None, None) => self.error(format!("schedule[{i}]"), "nothing is named", "write `room: NAME` or `sale: NAME`"),
            }
            match &step.action {
                Action::AsWritten if step.sale.is_none() => {
                    self.error(at("do"), "only a sale has written times", "write `sale: NAME`, or `do: open`");
                }
                Action::Slow(Some(rate)) if rate.events == 0 => {
                    self.error(at("do.slow"), "nobody would be let in", "write a rate above zero, or `do: pause`");
                }
                Action::Message(Some(text)) if text.chars().count() > MESSAGE_MAX => {
                    self.error(at("do.message"), "longer than 500 characters", "people read it while they wait: be short");
                }
                _ => {}
            }
        }
    }

    fn sale(&mut self, i: usize, sale: &SaleSettings) {
        let at = |key: &str| format!("sales[{i}].{key}");
        if sale.opens_at.unix_ms() >= sale.closes_at.unix_ms() {
            self.error(
                at("closes_at"),
                format!("closes at {}, not after it opens ({})", sale.closes_at, sale.opens_at),
                "write a later instant",
            );
        }
        if let Some(prequeue) = &sale.prequeue_opens_at
            && prequeue.unix_ms() > sale.opens_at.unix_ms()
        {
            let what = format!("the pre-queue opens at {prequeue}, after the sale ({})", sale.opens_at);
            self.error(at("prequeue_opens_at"), what, "write an instant before `opens_at`, or remove it");
        }
        let early = sale.prequeue_opens_at.as_ref().map_or(0, |p| sale.opens_at.unix_ms().saturating_sub(p.unix_ms()));
        if early > TICKET_AGE_MAX_MS {
            let what = format!(
                "the pre-queue opens {} before the sale, and a ticket is good for {}",
                Span(early),
                Span(TICKET_AGE_MAX_MS)
            );
            self.error(at("prequeue_opens_at"), what, "open it later: half an hour is usual");
        }
        if sale.stock == Some(0) {
            self.error(
                at("stock"),
                "there is nothing to sell",
                "write the number of units, or remove `stock` when it is not limited",
            );
        }
        // A cancelled one stays as it was announced, and is needed while another one redraws it.
        let drawn_again = self.policy.sales.iter().any(|s| s.redraws.as_ref() == Some(&sale.name));
        if self.checks.now_unix_ms.is_some_and(|now| sale.closes_at.unix_ms() <= now) && !drawn_again {
            let instead = if sale.cancelled.is_some() { "remove it" } else { "remove it, or write the next date" };
            self.warning(at("closes_at"), format!("sale `{}` is over since {}", sale.name, sale.closes_at), instead);
        }
    }
}

/// From the first place given to the end.
pub(super) fn hours(sale: &SaleSettings) -> (u64, u64) {
    (sale.enters_at().unix_ms(), sale.closes_at.unix_ms())
}
