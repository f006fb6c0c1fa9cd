//! Filters: numbers, and the routes, rooms and sales they name.

use tidegate_filters::{
    FilterSettings,
    route::RouteFilters,
    rule::{
        bot_gate::{BotGateSettings, Runtime},
        visitor_rate::{FILL_S_MAX, KEYS_MAX, RateKey, VisitorRateSettings},
        waiting_room::WaitingRoomSettings,
    },
    seats::draw::work::WORK_BITS_MAX,
};

use super::Checker;

/// A phone of 100,000 hashes a second needs 10 s on average for 2^20, and 20 s for 2^21.
const SLOW_PHONE_BITS: u8 = 20;

/// A visit is held for its score no longer than this.
const SCORE_DEADLINE_MS_MAX: u64 = 1_000;

impl Checker<'_> {
    pub(super) fn filters(&mut self) {
        let filters = &self.policy.filters;
        for (i, filter) in filters.iter().enumerate() {
            match filter {
                FilterSettings::Address(s) => {
                    if s.deny.is_empty() && s.allow_first.is_empty() {
                        self.warning(
                            format!("filters[{i}].address"),
                            "both lists are empty: it does nothing",
                            "fill `deny` or `allow_first`, or remove it",
                        );
                    }
                }
                FilterSettings::SaleWindow(s) => {
                    let sales: Vec<&str> = self.policy.sales.iter().map(|s| s.name.as_str()).collect();
                    self.known(format!("filters[{i}].sale_window.sale"), "sale", &s.sale, &sales);
                    self.asked(&format!("filters[{i}].sale_window.routes"), &s.routes);
                    if s.routes.is_empty() {
                        self.error(
                            format!("filters[{i}].sale_window.routes"),
                            "no route is named: it does nothing",
                            "name the routes that exist only during the sale",
                        );
                    }
                }
                FilterSettings::VisitorRate(s) => self.visitor_rate(i, s),
                FilterSettings::Honeypot(_) | FilterSettings::GoodBots(_) => {}
                FilterSettings::BotGate(s) => self.bot_gate(i, s),
                FilterSettings::WaitingRoom(s) => {
                    let rooms: Vec<&str> = self.policy.rooms.iter().map(|r| r.name.as_str()).collect();
                    self.known(format!("filters[{i}].waiting_room.room"), "room", &s.room, &rooms);
                    self.asked(&format!("filters[{i}].waiting_room.routes"), &s.routes);
                }
            }
        }
        self.facts();
        self.one_room_a_route();
        self.one_score_a_route();
        self.scores_come_before_rooms();
        self.unique_quotas();
        self.a_quota_of_networks();
    }

    /// Cookies can be thrown away, and each new one is a visitor with a whole quota.
    fn a_quota_of_networks(&mut self) {
        let quotas = self.policy.filters.iter().enumerate().filter_map(|(i, f)| match f {
            FilterSettings::VisitorRate(s) => Some((i, s.key)),
            _ => None,
        });
        let quotas: Vec<_> = quotas.collect();
        let visitors = quotas.iter().find(|(_, key)| *key == RateKey::Visitor);
        if let (Some((i, _)), false) = (visitors, quotas.iter().any(|(_, key)| *key == RateKey::Network)) {
            self.warning(
                format!("filters[{i}].visitor_rate.key"),
                "who throws the cookie away is a new visitor with a whole quota",
                "add a quota with `key: network` beside it, wide enough for an office",
            );
        }
    }

    /// Route names of a filter: they exist, once each, and their filters are on.
    fn asked(&mut self, path: &str, names: &[String]) {
        let routes = &self.policy.routes;
        let all: Vec<&str> = routes.iter().map(|r| r.name.as_str()).collect();
        for (k, name) in names.iter().enumerate() {
            let at = format!("{path}[{k}]");
            if !self.known(at.clone(), "route", name, &all) {
                continue;
            }
            if names[..k].contains(name) {
                self.error(at, format!("`{name}` is listed twice"), "remove one of them");
            } else if routes.iter().any(|r| r.name == *name && r.filters == RouteFilters::None) {
                self.error(
                    at,
                    format!("route `{name}` says `filters: none`, so this filter never sees it"),
                    "remove the route here, or `filters: none` there",
                );
            }
        }
    }

    fn visitor_rate(&mut self, i: usize, s: &VisitorRateSettings) {
        let at = |key: &str| format!("filters[{i}].visitor_rate.{key}");
        self.name(at("name"), &s.name);
        if s.rate.events == 0 {
            self.error(
                at("rate"),
                "a used-up quota would never come back",
                "write a rate above zero, or use `address: { deny: … }`",
            );
        }
        if s.burst == 0 {
            self.error(at("burst"), "not even one visit could come", "write how many may come at once, at least 1");
        }
        self.within(at("keys_max"), s.keys_max.into(), 1, KEYS_MAX.into(), " keys");
        self.within(at("ipv6_prefix"), s.ipv6_prefix.into(), 16, 128, " bits");
        let fill_s = u64::from(s.burst) * u64::from(s.rate.per_ms) / 1_000 / u64::from(s.rate.events.max(1));
        if s.rate.events > 0 && fill_s > FILL_S_MAX {
            let what = format!("at {} a burst of {} needs {} days to come back", s.rate, s.burst, fill_s / 86_400);
            self.error(at("burst"), what, format!("at most {} days: lower the burst or raise the rate", FILL_S_MAX / 86_400));
        }
    }

    fn bot_gate(&mut self, i: usize, s: &BotGateSettings) {
        let at = |key: &str| format!("filters[{i}].bot_gate.{key}");
        let thresholds = [
            ("challenge_at", s.challenge_at),
            ("to_the_back_at", s.to_the_back_at),
            ("throttle_at", s.throttle_at),
            ("refuse_at", s.refuse_at),
        ];
        let mut below: Option<(&str, f32)> = None;
        for (key, value) in thresholds {
            let Some(value) = value else { continue };
            if !(0.0..=1.0).contains(&value) {
                self.error(
                    at(key),
                    format!("{value} is not a score"),
                    "write a number from 0 (surely a person) to 1 (surely a program)",
                );
            } else if value == 0.0 {
                self.error(at(key), "every visit reaches 0", "write a number above 0, or remove the key");
            } else if let Some((lower, v)) = below.filter(|(_, v)| *v > value) {
                let what = format!("{value} is below {lower} ({v})");
                self.error(at(key), what, "the order is challenge_at ≤ to_the_back_at ≤ throttle_at ≤ refuse_at");
            }
            below = Some((key, value));
        }
        if thresholds.iter().all(|t| t.1.is_none()) {
            self.warning(
                at("challenge_at").trim_end_matches(".challenge_at"),
                "no threshold: scores are recorded and change nothing",
                "write `challenge_at` or `to_the_back_at`",
            );
        }
        if s.refuse_at.is_some_and(|r| r < 0.95) {
            self.warning(
                at("refuse_at"),
                "people are refused by a guess: scores should cost places, not access",
                "remove it, or write 0.99",
            );
        }
        if s.model.is_empty() {
            self.error(at("model"), "no model is named", "write `builtin`, or the path of an .onnx file");
        }
        if s.model == "builtin" && s.runtime == Runtime::OnnxruntimeCuda {
            self.warning(
                at("runtime"),
                "the CPU runs the shipped model in microseconds; for a device visits wait a fifth of a millisecond",
                "write `auto`; a device is for models that take the CPU longer",
            );
        }
        let work = s.challenge_work;
        for (key, bits) in [("bits", work.bits), ("bits_max", work.bits_max)] {
            self.within(at(&format!("challenge_work.{key}")), bits.into(), 0, WORK_BITS_MAX.into(), " bits");
        }
        if work.bits_max < work.bits {
            let what = format!("less than the {} bits that a lower score asks for", work.bits);
            self.error(at("challenge_work.bits_max"), what, format!("write {} or more", work.bits));
        }
        if work.bits_max > SLOW_PHONE_BITS {
            let what =
                format!("2 to the power of {} hashes: a slow phone is not through in the 20 seconds a page works", work.bits_max);
            self.warning(at("challenge_work.bits_max"), what, format!("it goes the slow way; {SLOW_PHONE_BITS} it can do"));
        }
        if s.throttle_to.events == 0 {
            self.error(at("throttle_to"), "a throttled visitor could never come back", "write a rate above zero, or `refuse_at`");
        }
        self.within(at("deadline"), s.deadline.ms(), 1, SCORE_DEADLINE_MS_MAX, "ms");
        self.asked(&at("routes"), &s.routes);
    }

    fn one_room_a_route(&mut self) {
        let policy = self.policy;
        let mut taken: Vec<(usize, String)> = Vec::new();
        for (i, filter) in policy.filters.iter().enumerate() {
            let FilterSettings::WaitingRoom(s) = filter else { continue };
            for route in self.waits(s) {
                if let Some((first, _)) = taken.iter().find(|(by, r)| *r == route && *by != i) {
                    let what = format!("route `{route}` already waits in the room of filters[{first}]");
                    self.error(format!("filters[{i}].waiting_room"), what, "one room a route: name other `routes`");
                    break;
                }
                taken.push((i, route));
            }
        }
        for (i, room) in policy.rooms.iter().enumerate() {
            let used = |f: &FilterSettings| matches!(f, FilterSettings::WaitingRoom(s) if s.room == room.name);
            if !policy.filters.iter().any(used) {
                let instead = format!("add the filter `- waiting_room: {{ room: {} }}`", room.name);
                self.warning(
                    format!("rooms[{i}].name"),
                    format!("no filter leads into room `{}`: nobody waits in it", room.name),
                    instead,
                );
            }
        }
    }

    /// The routes that wait in a room: those it names, or those that no other room names.
    fn waits(&self, s: &WaitingRoomSettings) -> Vec<String> {
        let named = |r: &String| {
            let names = |f: &FilterSettings| matches!(f, FilterSettings::WaitingRoom(o) if !o.shadow && o.routes.contains(r));
            self.policy.filters.iter().any(names)
        };
        let all = self.covered(&s.routes);
        if s.routes.is_empty() { all.into_iter().filter(|r| !named(r)).collect() } else { all }
    }

    /// A room answers every visit of its routes: what stands below it is never asked.
    fn scores_come_before_rooms(&mut self) {
        let policy = self.policy;
        for (i, filter) in policy.filters.iter().enumerate() {
            let FilterSettings::BotGate(gate) = filter else { continue };
            let scored = self.covered(&gate.routes);
            let room = policy.filters[..i].iter().position(|f| match f {
                FilterSettings::WaitingRoom(w) if !w.shadow => self.waits(w).iter().any(|r| scored.contains(r)),
                _ => false,
            });
            if let Some(room) = room {
                let what = format!("comes too late: the room of filters[{room}] has answered before");
                self.error(format!("filters[{i}].bot_gate"), what, "move it above the `waiting_room`");
            }
        }
    }

    fn one_score_a_route(&mut self) {
        let gates = self.policy.filters.iter().enumerate().filter_map(|(i, f)| match f {
            FilterSettings::BotGate(s) => Some((i, s)),
            _ => None,
        });
        let gates: Vec<(usize, &BotGateSettings)> = gates.collect();
        if let Some((first, with)) = gates.first() {
            let other = gates
                .iter()
                .find(|(_, s)| (&s.model, s.runtime, &s.shadow_model) != (&with.model, with.runtime, &with.shadow_model));
            if let Some((i, _)) = other {
                let what =
                    format!("another model, runtime or shadow model than filters[{first}] has: one model scores every route");
                self.error(format!("filters[{i}].bot_gate.model"), what, "name the same; thresholds may differ");
            }
        }
        let mut taken: Vec<(usize, String)> = Vec::new();
        for (i, filter) in self.policy.filters.iter().enumerate() {
            let FilterSettings::BotGate(s) = filter else { continue };
            for route in self.covered(&s.routes) {
                if let Some((first, _)) = taken.iter().find(|(by, r)| *r == route && *by != i) {
                    let what = format!("route `{route}` is already scored by filters[{first}]");
                    self.error(format!("filters[{i}].bot_gate"), what, "one bot_gate a route: name other `routes`");
                    break;
                }
                taken.push((i, route));
            }
        }
    }

    /// The named routes, or all filtered ones.
    fn covered(&self, names: &[String]) -> Vec<String> {
        let filtered = self.policy.routes.iter().filter(|r| r.filters == RouteFilters::All);
        match names {
            [] => filtered.map(|r| r.name.clone()).collect(),
            names => names.to_vec(),
        }
    }

    fn unique_quotas(&mut self) {
        let mut seen: Vec<(usize, &str)> = Vec::new();
        for (i, filter) in self.policy.filters.iter().enumerate() {
            let FilterSettings::VisitorRate(s) = filter else { continue };
            match seen.iter().find(|(_, name)| *name == s.name) {
                Some((first, _)) => {
                    let what = format!("`{}` is taken: filters[{first}].visitor_rate has it", s.name);
                    self.error(format!("filters[{i}].visitor_rate.name"), what, "give it another name");
                }
                None => seen.push((i, &s.name)),
            }
        }
    }
}
