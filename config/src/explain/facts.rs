//! What is known for sure, in words.

use tidegate_filters::rule::{
    fact::Then,
    good_bots::{BotSettings, GoodBotsSettings, is_published},
    honeypot::HoneypotSettings,
};

use super::{list, network};

pub(super) fn honeypot(s: &HoneypotSettings) -> String {
    format!("Honeypot: who asks for {} gets 404 and is known as a program for {}: {}.", list(&s.paths), s.remember, then(s.then))
}

pub(super) fn good_bots(s: &GoodBotsSettings) -> String {
    let server = match s.resolver {
        Some(server) if s.bots.iter().any(|b| !b.domains.is_empty()) => format!(" (asked at {server})"),
        _ => String::new(),
    };
    let published = |b: &BotSettings| b.networks_file.iter().chain(&b.keys).any(|f| is_published(f));
    let refresh = match s.bots.iter().any(published) {
        true => format!(" Published lists are fetched every {}; what was fetched last stays in use when that fails.", s.refresh),
        false => String::new(),
    };
    format!(
        "Programs that are welcome are neither scored nor challenged and never take a place: {}.{refresh} Who only says to be one{server}: {}.",
        s.bots.iter().map(bot).collect::<Vec<_>>().join("; "),
        then(s.impostors)
    )
}

fn bot(b: &BotSettings) -> String {
    let mut ways = Vec::new();
    if let Some(agent) = &b.user_agent {
        let from: Vec<String> =
            b.networks.iter().map(network).chain(b.networks_file.iter().map(|f| format!("the networks of {f}"))).collect();
        let mut places = Vec::new();
        places.extend((!from.is_empty()).then(|| format!("from {}", list(from))));
        places.extend((!b.domains.is_empty()).then(|| format!("with an address whose name is in {}", list(&b.domains))));
        ways.push(format!("says {agent} and comes {}", places.join(", or ")));
    }
    ways.extend(b.keys.as_ref().map(|file| format!("signs with a key of {file}")));
    format!("{} ({})", b.name, ways.join("; or "))
}

fn then(then: Then) -> &'static str {
    match then {
        Then::ToTheBack => "the slow lane",
        Then::Refuse => "refused, with a way to appeal",
        Then::Log => "written down, nothing else",
    }
}
