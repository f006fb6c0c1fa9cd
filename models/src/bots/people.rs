//! People in a flash sale: browsers, pauses that vary, pages with their assets, cookies that come back.

use rand::Rng as _;

use super::traces::{Ask, Client, Stage};
use crate::features::{Agent, HeaderFacts, Http, Method, Referer};

/// Popular pairs of browser and language; popularity falls as 1 / rank.
const IDENTITIES: u64 = 40;

/// Headers of a browser's page request without Referer and Cookie.
pub(super) fn browser(stage: &mut Stage) -> (HeaderFacts, Http) {
    let world = stage.world.clone();
    let r = &mut stage.rng;
    let (chromium, rank) = (r.random_bool(0.7), zipf(r.random(), IDENTITIES));
    let secure = world.tls || r.random_bool(0.5);
    let yes = Some(true);
    let count = if chromium { 12 } else { 9 } + r.random_range(0..3) - if secure { 0 } else { 6 };
    let identity = 1000 + rank + if chromium { 500 } else { 0 };
    let headers = HeaderFacts {
        count: Some(count),
        order: identity,
        identity,
        accept: yes,
        language: Some(!r.random_bool(0.01)),
        encoding: yes,
        cookie: None,
        // Browsers of before 2020 (Safari: 2023) do not send them.
        sec_fetch: Some(secure && !r.random_bool(0.04)),
        client_hints: Some(secure && chromium && !r.random_bool(0.05)),
        referer: Referer::None,
        agent: if chromium { Agent::Chromium } else { Agent::Browser },
    };
    let http = if world.http_2 && r.random_bool(0.93) { Http::Two } else { Http::One1 };
    (headers, http)
}

fn zipf(u: f64, n: u64) -> u64 {
    let harmonic: f64 = (1..=n).map(|k| 1.0 / k as f64).sum();
    let mut left = u * harmonic;
    (1..=n)
        .find(|k| {
            left -= 1.0 / *k as f64;
            left <= 0.0
        })
        .unwrap_or(n)
}

/// Lets `count` people act.
pub(super) fn act(stage: &mut Stage, count: u32) {
    let shared: Vec<u64> = (0..3).map(|_| stage.rng.random::<u64>() | 1).collect();
    for _ in 0..count {
        person(stage, &shared);
    }
}

fn person(stage: &mut Stage, shared: &[u64]) {
    let (headers, http) = browser(stage);
    let in_shared = stage.rng.random_bool(0.2);
    let cookies = !stage.rng.random_bool(0.04);
    let refreshes = stage.rng.random_bool(0.15);
    let group = match (in_shared, cookies, refreshes) {
        (_, false, _) => "people_without_cookies",
        (true, ..) => "people_of_shared_networks",
        (_, _, true) => "people_who_reload",
        _ => "people",
    };
    let mut c = stage.client(false, group, headers, http);
    if in_shared {
        c.network = shared[stage.rng.random_range(0..shared.len())];
        c.subnet = c.network;
    }
    c.hello = stage.forged_hello(0.02).unwrap_or(c.hello);
    c.headers.order = stage.forged_order(0.02).unwrap_or(c.headers.order);
    c.cookies = cookies;
    c.returning = stage.rng.random_bool(0.4);
    let world = stage.world.clone();
    let at_opening = stage.rng.random_bool(0.55);
    let mut t =
        if at_opening { world.opens_ms + stage.human_ms(6_000.0, 1.2) - 3_000 } else { stage.rng.random_range(0..world.ends_ms) };
    let mut warm = if c.returning { 0.3 } else { 1.0 };
    let (mut path, mut referer) = entry(stage);
    let pages = 1 + stage.human_ms(5.0, 0.7).min(40) / if stage.rng.random_bool(0.3) { 4 } else { 1 };
    for page in 0..pages {
        view(stage, &mut c, t, &path, referer, &mut warm);
        if path == "/p/1" && t >= world.opens_ms.saturating_sub(20_000) {
            t = around_the_opening(stage, &mut c, t, refreshes, &mut warm);
        }
        let median = if t > world.opens_ms { 4_000.0 } else { 9_000.0 };
        t += stage.human_ms(median, 0.9);
        referer = Referer::Same;
        path = next_page(stage, page);
        if t > world.opens_ms && stage.rng.random_bool(0.25) {
            buy(stage, &mut c, t);
            break;
        }
    }
}

fn entry(stage: &mut Stage) -> (String, Referer) {
    let path = if stage.rng.random_bool(0.45) { "/" } else { "/p/1" };
    let referer = if stage.rng.random_bool(0.3) { Referer::Other } else { Referer::None };
    (path.into(), referer)
}

fn next_page(stage: &mut Stage, page: u64) -> String {
    match stage.rng.random_range(0..10) {
        0..=2 => "/p/1".into(),
        3 => "/".into(),
        4..=7 => format!("/p/{}", stage.rng.random_range(2..60)),
        _ => format!("/list/{page}"),
    }
}

/// A page with what the browser fetches for it.
pub(super) fn view(stage: &mut Stage, c: &mut Client, at_ms: u64, path: &str, referer: Referer, warm: &mut f64) {
    stage.ask(c, Ask { at_ms, path, method: Method::Get, referer, waiting: false });
    if stage.world.assets {
        let n = (stage.rng.random_range(2..18) as f64 * *warm) as u64;
        for i in 0..n {
            let path = format!("/static/{}.js", stage.rng.random_range(0..40) + i * 40);
            let at_ms = at_ms + stage.human_ms(180.0, 0.7);
            stage.ask(c, Ask { at_ms, path: &path, method: Method::Get, referer: Referer::Same, waiting: false });
        }
    }
    // The cache keeps most of it.
    *warm = (*warm * 0.4).max(0.12);
    if stage.world.apis && stage.rng.random_bool(0.7) {
        let at_ms = at_ms + stage.human_ms(350.0, 0.5);
        stage.ask(c, Ask { at_ms, path: "/api/stock", method: Method::Get, referer: Referer::Same, waiting: false });
    }
}

/// Reloading until something happens, and the waiting page that reloads itself when told.
fn around_the_opening(stage: &mut Stage, c: &mut Client, mut t: u64, refreshes: bool, warm: &mut f64) -> u64 {
    if refreshes {
        for _ in 0..stage.rng.random_range(2..25) {
            t += stage.human_ms(2_600.0, 0.55);
            view(stage, c, t, "/p/1", Referer::None, warm);
        }
    }
    if t >= stage.world.opens_ms && stage.rng.random_bool(0.5) {
        let told = [2_000, 5_000, 10_000][stage.rng.random_range(0..3)];
        let share = if stage.rng.random_bool(0.1) { 2 } else { 1 };
        for _ in 0..stage.rng.random_range(2..30) {
            t += told / share + stage.rng.random_range(0..400);
            stage.ask(c, Ask { at_ms: t, path: "/p/1", method: Method::Get, referer: Referer::None, waiting: true });
        }
    }
    t
}

fn buy(stage: &mut Stage, c: &mut Client, t: u64) {
    let mut warm = 0.12;
    let referer = Referer::Same;
    view(stage, c, t, "/p/1", referer, &mut warm);
    let cart = t + stage.human_ms(2_500.0, 0.7);
    stage.ask(c, Ask { at_ms: cart, path: "/cart", method: Method::Change, referer, waiting: false });
    let checkout = cart + stage.human_ms(9_000.0, 0.8);
    stage.ask(c, Ask { at_ms: checkout, path: "/checkout", method: Method::Change, referer, waiting: false });
    stage.ask(c, Ask { at_ms: checkout + 400, path: "/order/1", method: Method::Get, referer, waiting: false });
}
