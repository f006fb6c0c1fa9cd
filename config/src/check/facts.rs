//! Facts: honeypots.

use tidegate_filters::{
    FilterSettings, Span,
    route::{MatchSettings, RouteFilters},
    rule::{fact::Then, honeypot::HoneypotSettings},
};

use super::{Checker, routes::canonical};

/// Most paths of a honeypot: each visit is compared with them.
const PATHS_MAX: usize = 32;
/// Shortest and longest time a visitor is remembered.
const REMEMBER_MIN: Span = Span::secs(1);
const REMEMBER_MAX: Span = Span::secs(30 * 86_400);

impl Checker<'_> {
    pub(super) fn facts(&mut self) {
        let policy = self.policy;
        let mut pot: Option<usize> = None;
        for (i, filter) in policy.filters.iter().enumerate() {
            if let FilterSettings::Honeypot(s) = filter {
                match pot {
                    Some(first) => {
                        let what = format!("there is one already: filters[{first}]");
                        self.error(format!("filters[{i}].honeypot"), what, "list all paths in one of them");
                    }
                    None => pot = Some(i),
                }
                self.honeypot(i, s);
            }
        }
    }

    fn honeypot(&mut self, i: usize, s: &HoneypotSettings) {
        let at = |key: &str| format!("filters[{i}].honeypot.{key}");
        if s.paths.is_empty() {
            self.error(
                at("paths"),
                "no path is named: nobody is caught",
                "write a path that no person finds, such as /all-offers/",
            );
        }
        if s.paths.len() > PATHS_MAX {
            self.error(at("paths"), format!("{} paths", s.paths.len()), format!("at most {PATHS_MAX}; one covers all below it"));
        }
        for (k, path) in s.paths.iter().enumerate() {
            let at = format!("filters[{i}].honeypot.paths[{k}]");
            if path == "/" {
                self.error(
                    at,
                    "every visitor of the shop asks for it",
                    "write a path that no person finds, such as /all-offers/",
                );
            } else if let Err((what, instead)) = canonical(path) {
                self.error(at, format!("`{path}` {what}"), instead);
            } else if path.starts_with(&self.policy.own_prefix) || self.policy.own_prefix.starts_with(path) {
                let what = format!("collides with the gate's own pages under {}", self.policy.own_prefix);
                self.error(at, what, "choose another path");
            } else if s.paths[..k].contains(path) {
                self.error(at, format!("`{path}` is listed twice"), "remove one of them");
            } else if let Some(route) = self.unfiltered(path) {
                let what = format!("route `{route}` says `filters: none`, so the shop answers it");
                self.error(at, what, "choose a path of a route with filters");
            }
        }
        if !(REMEMBER_MIN..=REMEMBER_MAX).contains(&s.remember) {
            let word = if s.remember < REMEMBER_MIN { "short" } else { "long" };
            self.error(
                at("remember"),
                format!("{} is too {word}", s.remember),
                format!("write {REMEMBER_MIN} to {REMEMBER_MAX}"),
            );
        }
        if s.then == Then::Refuse && s.remember > Span::secs(86_400) {
            self.warning(
                at("then"),
                "an address changes hands within days, and who has it next is refused",
                "remember it for a day, or write `then: to_the_back`",
            );
        }
        self.back_of_a_room(i, "honeypot", s.then);
    }

    /// The route that a path goes to, when it has no filters.
    fn unfiltered(&self, path: &str) -> Option<&str> {
        let covers = |r: &&tidegate_filters::route::RouteSettings| {
            r.matches.covers(&MatchSettings { prefix: Some(path.to_owned()), ..MatchSettings::default() })
        };
        let route = self.policy.routes.iter().find(covers)?;
        (route.filters == RouteFilters::None).then_some(route.name.as_str())
    }

    /// Who is sent to the back is sent there before a room answers, and there is a room.
    fn back_of_a_room(&mut self, i: usize, kind: &str, then: Then) {
        if then != Then::ToTheBack {
            return;
        }
        let is_room = |f: &FilterSettings| matches!(f, FilterSettings::WaitingRoom(w) if !w.shadow);
        let room = self.policy.filters.iter().position(is_room);
        match room {
            Some(room) if room < i => {
                let what = format!("comes too late: the room of filters[{room}] has answered before");
                self.error(format!("filters[{i}].{kind}"), what, "move it above the `waiting_room`");
            }
            Some(_) => {}
            None => self.warning(
                format!("filters[{i}].{kind}"),
                "no room has a back to be sent to: it is written down and changes nothing",
                "add a `waiting_room` below it, or write `refuse`",
            ),
        }
    }
}
