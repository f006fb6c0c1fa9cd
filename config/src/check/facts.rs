//! Facts: honeypots, programs that are welcome.

use tidegate_filters::{
    FilterSettings, Span,
    route::{MatchSettings, RouteFilters},
    rule::{
        fact::Then,
        good_bots::{BotSettings, GoodBotsSettings, is_too_large},
        honeypot::HoneypotSettings,
    },
};

use super::{Checker, routes::canonical};

/// Most paths of a honeypot: each visit is compared with them.
const PATHS_MAX: usize = 32;
/// What browsers and crawlers ask for unseen.
const ASKED_BY_ALL: [&str; 5] = ["/favicon.ico", "/robots.txt", "/sitemap.xml", "/.well-known", "/index.html"];
/// Most welcome programs of a policy, and domains of one.
const BOTS_MAX: usize = 64;
const DOMAINS_MAX: usize = 16;
/// Below a country's domain, what everybody registers under: `co.uk` is nobody's.
const REGISTRIES: [&str; 10] = ["ac", "co", "com", "edu", "go", "gov", "ne", "net", "or", "org"];
/// Shortest name in a `User-Agent`.
const AGENT_MIN: usize = 3;
/// How often a published list is asked for, at least and at most.
const REFRESH_MIN: Span = Span::secs(60);
const REFRESH_MAX: Span = Span::secs(7 * 86_400);
/// Shortest and longest time a visitor is remembered.
const REMEMBER_MIN: Span = Span::secs(1);
const REMEMBER_MAX: Span = Span::secs(30 * 86_400);

impl Checker<'_> {
    pub(super) fn facts(&mut self) {
        let policy = self.policy;
        let (mut pot, mut bots) = (None, None);
        for (i, filter) in policy.filters.iter().enumerate() {
            if let FilterSettings::Honeypot(s) = filter {
                self.the_only(&mut pot, i, "honeypot", "list all paths in one of them");
                self.honeypot(i, s);
            }
            if let FilterSettings::GoodBots(s) = filter {
                self.the_only(&mut bots, i, "good_bots", "list all bots in one of them");
                self.good_bots(i, s);
            }
        }
    }

    fn the_only(&mut self, first: &mut Option<usize>, i: usize, kind: &str, instead: &str) {
        match *first {
            Some(first) => self.error(format!("filters[{i}].{kind}"), format!("there is one already: filters[{first}]"), instead),
            None => *first = Some(i),
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
            } else if ASKED_BY_ALL.iter().any(|p| path.trim_end_matches('/') == *p) {
                self.error(
                    at,
                    format!("browsers and honest crawlers ask for {path} by themselves"),
                    "choose a path that no person finds",
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

    fn good_bots(&mut self, i: usize, s: &GoodBotsSettings) {
        let at = format!("filters[{i}].good_bots");
        if s.bots.is_empty() {
            self.error(format!("{at}.bots"), "no bot is named", "name one: `- { name: googlebot, user_agent: Googlebot, … }`");
        }
        if s.bots.len() > BOTS_MAX {
            self.error(format!("{at}.bots"), format!("{} bots", s.bots.len()), format!("at most {BOTS_MAX}"));
        }
        self.unique(&format!("{at}.bots[{{}}].name"), s.bots.iter().map(|b| b.name.as_str()));
        for (k, bot) in s.bots.iter().enumerate() {
            self.good_bot(&format!("{at}.bots[{k}]"), bot);
        }
        if s.refresh < REFRESH_MIN || s.refresh > REFRESH_MAX {
            let what = format!("{} is no time to ask for published lists again", s.refresh);
            self.error(format!("{at}.refresh"), what, format!("write {REFRESH_MIN} to {REFRESH_MAX}; 6h is usual"));
        }
        self.back_of_a_room(i, "good_bots", s.impostors);
    }

    /// A list that somebody publishes, where a file could stand.
    fn published(&mut self, at: String, file: &str) {
        let rest = file.strip_prefix("https://");
        let host = rest.and_then(|r| r.split(['/', '?', '#']).next()).unwrap_or_default();
        // `[::1]:443`: what follows the last colon that is in no brackets.
        let port = host.rsplit_once(']').map_or(host, |(_, after)| after).rsplit_once(':').map(|(_, port)| port);
        let no_port = port.is_some_and(|p| p.parse::<u16>().ok().is_none_or(|n| n == 0));
        let strange = || !file.bytes().all(|b| b.is_ascii_graphic()) || file.contains(['@', '#']);
        if rest.is_none() && file.contains("://") {
            let what = "what comes by anything but https anybody on the way can change: they would choose who is welcome";
            self.error(at, what, "write the https:// address, in lower case, or the path of a file");
        } else if rest.is_some() && (host.is_empty() || no_port || strange()) {
            let what = format!("`{file}` is no address of a list");
            self.error(at, what, "write https://HOST/PATH or https://HOST:PORT/PATH, without a name, a password or a fragment");
        }
    }

    fn good_bot(&mut self, at: &str, bot: &BotSettings) {
        self.name(format!("{at}.name"), &bot.name);
        if !bot.has_addresses() && bot.keys.is_none() {
            let what = "nothing says how it is known: a User-Agent can be anybody's";
            self.error(at, what, "add `networks`, `networks_file` or `domains`, or `keys`");
        }
        for (key, file) in [("networks_file", &bot.networks_file), ("keys", &bot.keys)] {
            file.iter().for_each(|f| self.published(format!("{at}.{key}"), f));
        }
        match &bot.user_agent {
            None if bot.has_addresses() => {
                let what = "nothing says who is to be looked for there";
                self.error(at, what, "add `user_agent: …`: what it calls itself");
            }
            Some(agent) if agent.trim().len() < AGENT_MIN || agent.len() > super::NAME_MAX || !agent.is_ascii() => {
                let what = format!("`{agent}` is no part of a User-Agent that tells it from others");
                let instead = format!("write {AGENT_MIN} to {} letters of the name it calls itself", super::NAME_MAX);
                self.error(format!("{at}.user_agent"), what, instead);
            }
            Some(_) if !bot.has_addresses() && bot.keys.is_some() => {
                let what = "it is known by its keys, so its User-Agent is not looked at";
                self.error(format!("{at}.user_agent"), what, "remove it, or say where the bot comes from");
            }
            _ => {}
        }
        for (n, network) in bot.networks.iter().enumerate() {
            if is_too_large(network.0) {
                let what = format!("{} is a large part of the internet: whoever says the name there is welcome", network.0);
                self.error(format!("{at}.networks[{n}]"), what, "write the networks that the crawler's owner publishes");
            }
        }
        if bot.domains.len() > DOMAINS_MAX {
            self.error(format!("{at}.domains"), format!("{} domains", bot.domains.len()), format!("at most {DOMAINS_MAX}"));
        }
        for (d, domain) in bot.domains.iter().enumerate() {
            let label = |l: &str| !l.is_empty() && l.len() < 64 && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
            if !domain.contains('.') || !domain.split('.').all(label) {
                let what = format!("`{domain}` is not the domain of a bot");
                self.error(format!("{at}.domains[{d}]"), what, "write googlebot.com: names below it count as well");
            } else if is_registry(domain) {
                let what = format!("anybody can register a name below `{domain}`");
                self.error(
                    format!("{at}.domains[{d}]"),
                    what,
                    "write the whole domain of its owner, such as crawler.example.co.uk",
                );
            }
        }
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

/// `co.uk` and the like; never `bbc.uk`.
fn is_registry(domain: &str) -> bool {
    domain.split_once('.').is_some_and(|(second, top)| {
        top.len() == 2 && !top.contains('.') && REGISTRIES.iter().any(|r| second.eq_ignore_ascii_case(r))
    })
}
