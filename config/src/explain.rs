//! A policy in plain words, with its numbers.

mod draws;
mod facts;

use std::fmt::Write as _;

use tidegate_filters::{
    FilterSettings, Rate, Span,
    plan::{Admission, InFlightMax},
    route::{Needs, RouteFilters, RouteSettings},
    rule::{
        address::Networks,
        bot_gate::{BotGateSettings, ChallengeWork, Runtime, WhenUnscored},
        visitor_rate::{OnMissingKey, RateKey, VisitorRateSettings},
    },
    seats::room::{Arm, Binding, OnFailure, RoomSettings},
};

use crate::{
    check::{Checks, check},
    place::Places,
    policy::{
        Policy,
        keep::SaleSettings,
        listen::Underscores,
        schedule::Scheduled,
        shop::{HostHeader, Silence},
        values::Redirect,
    },
};

/// What a policy does, one paragraph a part, and what is doubtful about it.
pub fn explain(policy: &Policy) -> String {
    let mut parts = vec![doors(policy), shop(policy), load(policy), routes(policy)];
    parts.push(filters(policy));
    parts.extend(policy.rooms.iter().map(|r| room(policy, r)));
    parts.extend(policy.sales.iter().map(|s| sale(policy, s)));
    parts.extend((!policy.schedule.is_empty()).then(|| schedule(policy)));
    parts.push(requests(policy));
    parts.push(kept(policy));
    let (_, warnings) = check(policy, &Places::default(), &Checks { skip_files: true, ..Checks::default() });
    if !warnings.is_empty() {
        let lines: Vec<String> = warnings.iter().map(|w| format!("- {}: {}; {}", w.path, w.what, w.instead)).collect();
        parts.push(format!("Doubts:\n{}", lines.join("\n")));
    }
    parts.join("\n\n") + "\n"
}

fn doors(policy: &Policy) -> String {
    let mut s = String::new();
    for l in &policy.listen {
        let how = match (&l.tls, l.redirect) {
            (_, Some(Redirect { port: 443 })) => "every request is sent to https".to_owned(),
            (_, Some(Redirect { port })) => format!("every request is sent to https, port {port}"),
            (Some(_), None) => "visitors come in over https".to_owned(),
            (None, None) => "visitors come in over plain http".to_owned(),
        };
        let _ = write!(s, "At {} {how}. ", l.address);
        if let Some(p) = &l.proxy_protocol {
            let _ = write!(s, "Balancers in {} tell it addresses by the PROXY protocol. ", list(p.from.iter().map(network)));
        }
    }
    match &policy.admin {
        Some(a) => {
            let _ = write!(s, "Operators come in at {}", a.address);
            s.push_str(if a.token_file.is_some() {
                ", with a token. "
            } else {
                "; without a token file it only tells its health. "
            });
        }
        None => s.push_str("There is no door for operators. "),
    }
    match policy.trusted_proxies.as_slice() {
        [] => s.push_str("Networks are known by the address that connects, visitors by our cookie, else by network and browser."),
        nets => {
            let _ = write!(s, "Proxies in {} are believed about where visitors come from.", list(nets.iter().map(network)));
        }
    }
    s
}

fn shop(policy: &Policy) -> String {
    let (shop, t, h) = (&policy.shop, &policy.shop.timeouts, &policy.shop.health);
    let upstream = |u: &crate::policy::shop::Upstream| {
        let tls = u.tls.as_ref().map(|t| format!(" over TLS as {}", t.server_name)).unwrap_or_default();
        let weight = if shop.upstreams.len() > 1 { format!(" (weight {})", u.weight) } else { String::new() };
        format!("{}{tls}{weight}", u.address)
    };
    let mut s = format!("The shop is {}. ", list(shop.upstreams.iter().map(upstream)));
    let how = h.path.as_ref().map_or("by connecting".to_owned(), |p| format!("by asking for {p}"));
    let _ = write!(
        s,
        "It is looked at every {} {how}: after {} failures in a row a server gets nothing, after {} good answers it gets requests again. ",
        h.every, h.unhealthy_after, h.healthy_after
    );
    let _ = write!(s, "The gate waits {} for a connection and {} for the first byte of an answer. ", t.connect, t.first_byte);
    if let HostHeader::Set(host) = &shop.host_header {
        let _ = write!(s, "The shop sees the host {host}. ");
    }
    if !shop.trusted_headers.is_empty() {
        let _ = write!(s, "Only a trusted proxy may send it {}. ", list(&shop.trusted_headers));
    }
    match &shop.reports_sales_by {
        Some(r) => {
            let _ = match (&r.header, &r.route, r.status) {
                (Some(header), ..) => write!(
                    s,
                    "It tells of sales by the header {header}; a good answer without it {}, one that refuses (4xx) sold nothing.",
                    match r.silence {
                        Silence::Uncertain => "leaves its unit uncertain until somebody who knows says what became of it",
                        Silence::NotSold => "sold nothing",
                    }
                ),
                (None, route, status) => {
                    let to = r.location.as_ref().map(|l| format!(" to {l}")).unwrap_or_default();
                    let (route, status) = (route.as_deref().unwrap_or_default(), status.unwrap_or_default());
                    write!(s, "An answer {status}{to} of {route} sold one unit.")
                }
            };
        }
        None => s.push_str("It does not tell of sales."),
    }
    s
}

fn load(policy: &Policy) -> String {
    let (c, f) = (policy.shop.capacity, policy.shop.in_flight);
    let max = match f.max {
        InFlightMax::Auto => "as many requests at the same time as measured to be good for it".to_owned(),
        InFlightMax::Fixed(n) => format!("at most {} at the same time", requests_of(n)),
    };
    let queue = match f.queue {
        0 => "everything beyond is told to come back".to_owned(),
        n => format!(
            "up to {} more wait in front of it for at most {}, the rest is told to come back",
            count(n.into()),
            f.wait_max
        ),
    };
    format!(
        "The shop gets {max}; {queue}. What it can take is measured between {} and {}, and the upper bound is never exceeded.",
        per(c.floor, "request"),
        per(c.ceiling, "request")
    )
}

fn routes(policy: &Policy) -> String {
    let one = |r: &RouteSettings| {
        let m = &r.matches;
        let mut what = Vec::new();
        what.extend((!m.method.is_empty()).then(|| m.method.join(" or ")));
        what.extend(m.host.as_ref().map(|h| format!("host {h}")));
        what.extend(m.prefix.as_ref().filter(|p| *p != "/").map(|p| format!("paths under {p}")));
        let what = if what.is_empty() { "everything else".to_owned() } else { what.join(", ") };
        let filtered = if r.filters == RouteFilters::None { "; forwarded without being asked anything" } else { "" };
        let bound =
            r.in_flight_max.map(|n| format!("; at most {} at the shop at the same time", requests_of(n))).unwrap_or_default();
        let unit = r.needs.as_ref().map(hold).unwrap_or_default();
        format!("- {}: {what}{filtered}{bound}{unit}", r.name)
    };
    let lines: Vec<String> = policy.routes.iter().map(one).collect();
    format!("Parts of the shop; the first that matches counts:\n{}", lines.join("\n"))
}

fn hold(n: &Needs) -> String {
    let units = if n.units == 1 { "one unit".to_owned() } else { format!("{} units", n.units) };
    format!(
        "; {} takes {units} of sale {}, kept {} for who does not finish: without one nothing that may sell reaches the shop by these paths, and what the shop takes \
         for the same page under another name is asked for none",
        n.take_on.join(" or "),
        n.hold,
        n.expires
    )
}

fn filters(policy: &Policy) -> String {
    if policy.filters.is_empty() {
        return "Visits are asked nothing: only the load of the shop is bounded.".into();
    }
    let one = |(i, f): (usize, &FilterSettings)| {
        let shadow = if f.shadow() { " (in shadow: written down, not done)" } else { "" };
        format!("{}. {}{shadow}", i + 1, filter(f))
    };
    let lines: Vec<String> = policy.filters.iter().enumerate().map(one).collect();
    format!("Each visit is asked, in this order; the first objection counts:\n{}", lines.join("\n"))
}

fn filter(filter: &FilterSettings) -> String {
    match filter {
        FilterSettings::Address(s) => {
            let mut parts = Vec::new();
            parts.extend(
                (!s.allow_first.is_empty())
                    .then(|| format!("visits from {} are forwarded at once", list(s.allow_first.iter().map(network)))),
            );
            parts.extend((!s.deny.is_empty()).then(|| format!("visits from {} are refused", list(s.deny.iter().map(network)))));
            format!("Address: {}.", if parts.is_empty() { "both lists are empty".into() } else { parts.join("; ") })
        }
        FilterSettings::SaleWindow(s) => format!("Only while sale {} is on: {}.", s.sale, list(&s.routes)),
        FilterSettings::VisitorRate(s) => quota(s),
        FilterSettings::Honeypot(s) => facts::honeypot(s),
        FilterSettings::GoodBots(s) => facts::good_bots(s),
        FilterSettings::BotGate(s) => bots(s),
        FilterSettings::WaitingRoom(s) => {
            let routes = if s.routes.is_empty() { "All filtered parts".into() } else { list(&s.routes) };
            format!("{routes} are entered through room {}.", s.room)
        }
    }
}

fn quota(s: &VisitorRateSettings) -> String {
    let who = match s.key {
        RateKey::Visitor => "each visitor",
        RateKey::Network => "each network",
    };
    let missing = match s.on_missing_key {
        OnMissingKey::Shared => "share one quota",
        OnMissingKey::Refuse => "are refused",
    };
    format!(
        "Quota {}: {who} may send {}, and {} at once after a pause; more get 429. Up to {} are told apart; those that cannot be {missing}.",
        s.name,
        per(s.rate, "request"),
        count(s.burst.into()),
        count(s.keys_max.into())
    )
}

fn bots(s: &BotGateSettings) -> String {
    let mut parts = vec![format!("a score from 0 (a person) to 1 (a program) by model {}, within {}", s.model, s.deadline)];
    let ChallengeWork { bits, bits_max } = s.challenge_work;
    let work = match (bits, bits_max) {
        (_, 0) => "the press of a button".to_owned(),
        (low, high) if low == high => format!("{low} bits of work"),
        (low, high) => format!("{low} to {high} bits of work"),
    };
    parts.extend(s.challenge_at.map(|t| format!("from {t} on a challenge ({work}, or a slow way to the back)")));
    parts.extend(s.to_the_back_at.map(|t| format!("from {t} on the slow lane")));
    parts.extend(s.throttle_at.map(|t| format!("from {t} on at most {}, more get 429", per(s.throttle_to, "request"))));
    parts.push(s.refuse_at.map_or("nobody is refused for a score".into(), |t| format!("from {t} on refused")));
    if s.runtime == Runtime::OnnxruntimeCuda {
        parts.push("on a CUDA device, visits in batches; without one on the CPU".into());
    }
    parts.extend(s.shadow_model.as_ref().map(|m| format!("beside it model {m} scores, which changes nothing")));
    parts.push(match s.when_unscored {
        WhenUnscored::Admit => "without a score: as a person".into(),
        WhenUnscored::Wait => "without a score: takes a place and waits".into(),
        WhenUnscored::Challenge => "without a score: a challenge".into(),
    });
    let routes = if s.routes.is_empty() { String::new() } else { format!(" ({})", list(&s.routes)) };
    format!("Bots{routes}: {}.", parts.join("; "))
}

fn room(policy: &Policy, r: &RoomSettings) -> String {
    let mut s = format!("Room {}: up to {} people are in the shop at the same time. ", r.name, count(r.seats.max.into()));
    let _ = write!(
        s,
        "A seat comes back after {} without a visit, and after {} in any case. ",
        r.seats.pass_idle, r.seats.pass_age_max
    );
    s.push_str(match r.arm {
        Arm::Auto => "Visitors walk in until the shop is full or a sale is near; then newcomers take places and wait",
        Arm::Always => "Everybody takes a place and waits to be called",
    });
    s.push_str(draws::order(r));
    match r.admission {
        Admission::Measured => s.push_str("New people are let in as fast as the shop is measured to take them. "),
        Admission::Forecast => {
            s.push_str(
                "New people are let in as fast as the shop is measured to take them, and no faster than the stock needs; the \
                 room is armed before a crowd that is expected. ",
            );
            s.push_str(match policy.forecast.file() {
                None => "What is expected is learnt here and now; while that is no better than taking it as it is now, it is not used. ",
                Some(_) => "What is expected is learnt here and now and from a trained model; while that is no better than taking it as it is now, it is not used. ",
            });
        }
        Admission::Fixed(rate) => {
            let _ = write!(s, "New people are let in at {}. ", per(rate, "person"));
        }
    }
    let _ = write!(
        s,
        "Who is called has {} to come before somebody else is called as well. Of 100 calls {} go to the slow lane while both wait. At most {} places are given out. ",
        r.claim_window,
        r.slow_lane_percent,
        count(r.entries_max.into())
    );
    s.push_str(match r.binding {
        Binding::None => "",
        Binding::Network => "A ticket or pass used from another network than it was given to is challenged. ",
        Binding::Tls => "A ticket or pass used by another program than it was given to is challenged. ",
        Binding::Key => "A ticket or pass used under another login than it was given to is challenged. ",
    });
    let _ = write!(
        s,
        "The waiting page has status {}; crawlers and probes get {} meanwhile. ",
        r.status_while_waiting, r.status_for_crawlers
    );
    s.push_str(match r.on_failure {
        OnFailure::Closed => "If the room cannot decide, newcomers are told to come back, the line stands still and those inside stay.",
        OnFailure::Freeze => "If the room cannot decide, newcomers still get places, the line stands still and those inside stay.",
        OnFailure::OpenBounded => "If the room cannot decide, it goes on without writing anything down, and newcomers without a place are forwarded, as far as the shop can take them.",
    });
    s.push_str(&draws::drawn(r));
    let leads = policy.filters.iter().any(|f| matches!(f, FilterSettings::WaitingRoom(w) if w.room == r.name && !w.shadow));
    if !leads {
        s.push_str(" No filter enforces it: nobody waits.");
    }
    s
}

fn sale(policy: &Policy, s: &SaleSettings) -> String {
    let hours = between(s.opens_at.unix_ms(), s.closes_at.unix_ms());
    let mut text = format!("Sale {} in room {}: ", s.name, s.room);
    if let Some(prequeue) = &s.prequeue_opens_at {
        let _ = write!(text, "places from {prequeue}, {} before it opens. ", between(prequeue.unix_ms(), s.opens_at.unix_ms()));
    }
    let _ = write!(text, "It opens at {} and closes at {}, {hours} later. ", s.opens_at, s.closes_at);
    match s.stock {
        Some(n) => {
            let _ = write!(text, "{} units are on sale; when they are gone, everybody who waits is told at once.", count(n));
        }
        None => text.push_str("The stock is not counted."),
    }
    if let Some(max) = s.per_visitor_max {
        let _ = write!(text, " A visitor may buy {max}.");
    }
    let reserve = policy.reserve(s);
    if reserve.ms() > 0 {
        let _ = write!(
            text,
            " Who comes in has a unit set aside for {reserve}; nobody is let in for whom there is none, and after that whoever is faster buys."
        );
    }
    if let Some(why) = &s.cancelled {
        let _ = write!(
            text,
            " It is called off ({why}): nobody enters or is called; a draw that had entries is published all the same."
        );
    }
    if let Some(old) = &s.redraws {
        let _ = write!(text, " It draws sale {old} again, and its published rules say so.");
    }
    text
}

fn schedule(policy: &Policy) -> String {
    let mut steps: Vec<_> = policy.schedule.iter().collect();
    steps.sort_by_key(|s| s.at.unix_ms());
    let one = |s: &&Scheduled| {
        let what = s.sale.as_ref().map(|n| format!("sale {n}")).or(s.room.as_ref().map(|n| format!("room {n}")));
        format!("- {}: {}: {}", s.at, what.unwrap_or_default(), s.action)
    };
    format!("By itself, and in the journal:\n{}", steps.iter().map(one).collect::<Vec<_>>().join("\n"))
}

fn requests(policy: &Policy) -> String {
    let (l, c) = (&policy.limits_of_a_request, &policy.connections);
    let names = match l.underscores_in_names {
        Underscores::Refuse => "refused",
        Underscores::Allow => "passed on",
    };
    format!(
        "A request has at most {} of headers ({} of them) within {}, a body of at most {} at {} or faster, and is over after {}. \
         Header names with `_` or `.` are {names}. At most {} connections at the same time, {} of one network; idle ones are kept {}. \
         When the gate stops, requests get {} to end. Its own pages are under {}.",
        l.header_bytes,
        l.headers,
        l.header_deadline,
        l.body_bytes,
        l.body_min_rate,
        l.request_deadline,
        count(c.max.into()),
        count(c.per_network_max.into()),
        c.keepalive,
        c.drain_max,
        policy.own_prefix
    )
}

fn kept(policy: &Policy) -> String {
    let journal = match &policy.journal {
        Some(j) => {
            format!("Every decision is written to {} as a row that names nobody, and kept for {}.", j.directory.display(), j.keep)
        }
        None => "Decisions are not written down.".into(),
    };
    let keys = match &policy.keys {
        Some(k) => format!("Signing keys are in {}.", k.directory.display()),
        None => "Signing keys live in memory: after a restart everybody takes a new place.".into(),
    };
    let state = match &policy.state {
        Some(s) => format!(
            "Rooms live on over a restart: places and seats are in {} before they are answered, and a request waits at most {} for the disk.",
            s.directory.display(),
            s.budget
        ),
        None => "Rooms live in memory: a restart begins them anew.".into(),
    };
    format!("{journal} {keys} {state}")
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    match items.as_slice() {
        [] => "nothing".into(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// One address without its prefix.
fn network(n: &Networks) -> String {
    let net = n.0;
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

fn per(rate: Rate, what: &str) -> String {
    let many = match (rate.events, what) {
        (1, _) => what.to_owned(),
        (_, "person") => "people".into(),
        _ => format!("{what}s"),
    };
    let unit = match rate.per_ms {
        60_000 => "minute",
        3_600_000 => "hour",
        _ => "second",
    };
    format!("{} {many} a {unit}", count(rate.events.into()))
}

fn requests_of(n: u32) -> String {
    if n == 1 { "one request".into() } else { format!("{} requests", count(n.into())) }
}

/// `1,000,000`
fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A difference of two instants, as an operator would write it.
fn between(from_ms: u64, to_ms: u64) -> Span {
    Span(to_ms.saturating_sub(from_ms))
}
