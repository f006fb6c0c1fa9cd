//! Families of programs in a flash sale.

use rand::Rng as _;

use super::{
    people::{browser, view},
    traces::{Ask, Client, Stage},
};
use crate::features::{Agent, HeaderFacts, Http, Method, Referer};

/// A family of programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// The headers of an HTTP library, mostly without cookies.
    PlainScript,
    /// A browser's headers, some forgotten, on a fixed beat.
    HeaderCopier,
    /// A browser's headers, a new address for every visit or few.
    ManyAddresses,
    /// A browser's headers, cookies, long even pauses.
    SlowAndLow,
    /// A real browser driven by a script: everything right but the pace.
    DrivenBrowser,
    /// A browser's headers, cookies, random pauses, some assets.
    JitteredMimic,
}

impl Family {
    pub(super) const ALL: [Family; 6] = [
        Family::PlainScript,
        Family::HeaderCopier,
        Family::ManyAddresses,
        Family::SlowAndLow,
        Family::DrivenBrowser,
        Family::JitteredMimic,
    ];

    /// Never trained on: the test's stranger.
    pub(super) const HELD_OUT: Family = Family::JitteredMimic;

    pub(super) fn name(self) -> &'static str {
        match self {
            Family::PlainScript => "plain_script",
            Family::HeaderCopier => "header_copier",
            Family::ManyAddresses => "many_addresses",
            Family::SlowAndLow => "slow_and_low",
            Family::DrivenBrowser => "driven_browser",
            Family::JitteredMimic => "jittered_mimic",
        }
    }

    /// Lets `count` programs act.
    pub(super) fn act(self, stage: &mut Stage, count: u32) {
        match self {
            Family::ManyAddresses => (0..count.div_ceil(10)).for_each(|_| swarm(stage)),
            Family::DrivenBrowser => (0..count).for_each(|_| driven(stage)),
            _ => (0..count).for_each(|_| self.one(stage)),
        }
    }

    /// How many of it speak TLS, and how many order their headers, as their library does, whatever the headers say.
    fn forges(self) -> f64 {
        match self {
            Family::PlainScript | Family::DrivenBrowser => 0.0,
            Family::HeaderCopier | Family::ManyAddresses => 0.8,
            Family::SlowAndLow | Family::JitteredMimic => 0.5,
        }
    }

    fn one(self, stage: &mut Stage) {
        let (mut headers, mut http) = if self == Family::PlainScript { library(stage) } else { browser(stage) };
        if self == Family::HeaderCopier {
            forget(stage, &mut headers);
        }
        if self != Family::PlainScript && stage.rng.random_bool(0.5) {
            http = Http::One1;
        }
        let mut c = stage.client(true, self.name(), headers, http);
        c.hello = stage.forged_hello(self.forges()).unwrap_or(c.hello);
        c.headers.order = stage.forged_order(self.forges()).unwrap_or(c.headers.order);
        c.cookies = match self {
            Family::PlainScript => stage.rng.random_bool(0.25),
            Family::HeaderCopier => stage.rng.random_bool(0.6),
            _ => true,
        };
        let beat_ms = match self {
            Family::SlowAndLow => stage.rng.random_range(8_000..45_000),
            Family::JitteredMimic => stage.rng.random_range(1_500..9_000),
            _ => stage.rng.random_range(200..5_000),
        };
        let jitter = [0.0, 0.02, 0.1][stage.rng.random_range(0..3)];
        let early = stage.rng.random_range(0..60_000);
        let mut t = stage.world.opens_ms.saturating_sub(early);
        let steps = stage.rng.random_range(3..60);
        let referers = stage.rng.random_bool(0.5);
        for step in 0..steps {
            let (path, method, waiting) = self.step(stage, step, t);
            let referer = if referers && step > 0 { Referer::Same } else { Referer::None };
            stage.ask(&mut c, Ask { at_ms: t, path, method, referer, waiting });
            if self == Family::JitteredMimic && stage.world.assets && step < 3 {
                some_assets(stage, &mut c, t);
            }
            t += match self {
                Family::JitteredMimic => stage.human_ms(beat_ms as f64, 0.7),
                _ => (beat_ms as f64 * (1.0 + jitter * stage.rng.random_range(-1.0..1.0))) as u64,
            };
            if t > stage.world.ends_ms {
                break;
            }
        }
    }

    fn step(self, stage: &mut Stage, step: u32, t: u64) -> (&'static str, Method, bool) {
        let open = t >= stage.world.opens_ms;
        let order = [("/", Method::Get), ("/p/1", Method::Get), ("/cart", Method::Change), ("/checkout", Method::Change)];
        let (path, method) = match self {
            // Straight to the till, again and again.
            Family::PlainScript if open && stage.rng.random_bool(0.7) => ("/checkout", Method::Change),
            Family::PlainScript => (["/p/1", "/api/stock"][stage.rng.random_range(0..2)], Method::Get),
            _ if !open => order[1],
            _ => order[step as usize % 4],
        };
        let waiting = open && method == Method::Get && self != Family::PlainScript && stage.rng.random_bool(0.3);
        (path, method, waiting)
    }
}

/// A script that drives a real browser to the till: no page is read.
fn driven(stage: &mut Stage) {
    let (headers, http) = browser(stage);
    let mut c = stage.client(true, Family::DrivenBrowser.name(), headers, http);
    c.returning = stage.rng.random_bool(0.4);
    let early = stage.rng.random_range(0..40_000);
    let mut t = stage.world.opens_ms.saturating_sub(early);
    let (reaction_ms, mut warm) = (stage.rng.random_range(150.0..1_500.0), 1.0);
    let reload_ms = stage.rng.random_range(800..4_000);
    while t < stage.world.opens_ms {
        view(stage, &mut c, t, "/p/1", Referer::None, &mut warm);
        t += reload_ms + stage.rng.random_range(0..reload_ms / 10);
    }
    for _ in 0..stage.rng.random_range(1..6) {
        view(stage, &mut c, t, "/p/1", Referer::None, &mut warm);
        for path in ["/cart", "/checkout"] {
            t += stage.human_ms(reaction_ms, 0.15);
            stage.ask(&mut c, Ask { at_ms: t, path, method: Method::Change, referer: Referer::Same, waiting: false });
        }
        t += stage.human_ms(reaction_ms, 0.15);
    }
}

/// One program behind many addresses.
fn swarm(stage: &mut Stage) {
    let (mut headers, http) = browser(stage);
    forget(stage, &mut headers);
    let beat_ms = stage.rng.random_range(40..800);
    let visits_each = stage.rng.random_range(1..6);
    let mut t = stage.world.opens_ms.saturating_sub(10_000);
    let hello = stage.forged_hello(Family::ManyAddresses.forges());
    headers.order = stage.forged_order(Family::ManyAddresses.forges()).unwrap_or(headers.order);
    for _ in 0..stage.rng.random_range(60..250) {
        let mut c = stage.client(true, Family::ManyAddresses.name(), headers, http);
        c.hello = hello.unwrap_or(c.hello);
        c.cookies = stage.rng.random_bool(0.4);
        for visit in 0..visits_each {
            let (path, method) = if visit % 2 == 0 { ("/p/1", Method::Get) } else { ("/checkout", Method::Change) };
            let at_ms = t + visit * beat_ms;
            stage.ask(&mut c, Ask { at_ms, path, method, referer: Referer::None, waiting: false });
        }
        t += beat_ms;
    }
}

fn some_assets(stage: &mut Stage, c: &mut Client, t: u64) {
    for i in 0..stage.rng.random_range(0..5) {
        let path = format!("/static/{i}.js");
        let at_ms = t + stage.human_ms(150.0, 0.5);
        stage.ask(c, Ask { at_ms, path: &path, method: Method::Get, referer: Referer::Same, waiting: false });
    }
}

/// What a copied header set mostly lacks.
fn forget(stage: &mut Stage, headers: &mut HeaderFacts) {
    let mut lose = |fact: &mut Option<bool>, chance: f64| {
        if stage.rng.random_bool(chance) {
            *fact = Some(false);
        }
    };
    lose(&mut headers.language, 0.25);
    lose(&mut headers.sec_fetch, 0.45);
    lose(&mut headers.client_hints, 0.45);
    lose(&mut headers.encoding, 0.1);
    headers.count = headers.count.map(|n| n.saturating_sub(stage.rng.random_range(0..5)).max(3));
}

fn library(stage: &mut Stage) -> (HeaderFacts, Http) {
    let r = &mut stage.rng;
    let disguised = r.random_bool(0.3);
    let no = Some(false);
    let headers = HeaderFacts {
        count: Some(r.random_range(2..7)),
        order: 7_000 + r.random_range(0..6),
        identity: 7_000 + r.random_range(0..12),
        accept: Some(r.random_bool(0.8)),
        language: no,
        encoding: Some(r.random_bool(0.7)),
        cookie: None,
        sec_fetch: no,
        client_hints: no,
        referer: Referer::None,
        agent: if disguised {
            Agent::Chromium
        } else if r.random_bool(0.1) {
            Agent::Absent
        } else {
            Agent::Tool
        },
    };
    (headers, if r.random_bool(0.1) { Http::Two } else { Http::One1 })
}
