//! The list, its arithmetic on real sequences, determinism and memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

fn at(name: &str) -> usize {
    FEATURES.iter().position(|f| f.name == name).unwrap_or_else(|| panic!("no feature {name}"))
}

fn now(ms: u64) -> Now {
    Now::at(1_700_000_000_000, ms)
}

fn browser(path: &str) -> VisitFacts {
    let yes = Some(true);
    VisitFacts {
        visitor: 11,
        by_cookie: yes,
        network: 5,
        subnet: 5,
        fingerprint: 9,
        method: Method::Get,
        target: Target::of(path),
        path: path_hash(path),
        sale: Some(false),
        waiting: false,
        http: Some(Http::Two),
        tls: yes,
        headers: HeaderFacts {
            count: Some(14),
            order: 1,
            identity: 1,
            accept: yes,
            language: yes,
            encoding: yes,
            cookie: yes,
            sec_fetch: yes,
            client_hints: yes,
            referer: Referer::Same,
            agent: Agent::Chromium,
        },
        body_bytes: Some(0),
    }
}

#[test]
fn the_list_is_sound_and_its_hash_is_pinned() {
    for (i, f) in FEATURES.iter().enumerate() {
        assert!(FEATURES[..i].iter().all(|o| o.name != f.name), "{} twice", f.name);
        assert!(!f.doc.is_empty() && !f.unit.is_empty());
    }
    // A change here needs a new VERSION and a new model in artifacts/.
    assert_eq!(hash(), PINNED);
    assert_eq!(features_doc().lines().count(), N + 2);
}

const PINNED: &str = "e8de7db162ba37257fbbce0f969b4b6e2c9a10c8261ed629b49ff2c9bba2544f";

#[test]
fn unknown_facts_are_neutral() {
    let f = Windows::new(1).observe_and_extract(&VisitFacts { visitor: 3, ..VisitFacts::default() }, now(10));
    for (v, feature) in f.iter().zip(&FEATURES) {
        if feature.unit == YES_NO || feature.name == "contradictions" || feature.name == "header_count" {
            assert_eq!(*v, 0.0, "{}", feature.name);
        }
    }
}

#[test]
fn a_true_browser_contradicts_nothing_and_a_copied_header_does() {
    let w = Windows::new(8);
    let get = |f: &VisitFacts| w.observe_and_extract(f, now(10))[at("contradictions")];
    assert_eq!(get(&browser("/")), 0.0);
    let no = Some(false);
    let mut fake = browser("/");
    fake.headers = HeaderFacts { language: no, sec_fetch: no, client_hints: no, ..fake.headers };
    assert_eq!(get(&fake), 3.0);
    fake.tls = no;
    assert_eq!(get(&fake), 1.0, "without TLS browsers send neither Sec-Fetch nor hints");
    fake.headers.agent = Agent::Tool;
    assert_eq!(get(&fake), 0.0, "a tool that says so contradicts nothing");
}

#[test]
fn an_even_beat_is_regular_and_people_are_not() {
    let w = Windows::new(64);
    let mut last = [[0.0; N]; 2];
    let gaps = [900, 14_000, 3_100, 40_000, 700, 9_000, 22_000, 5_500];
    let mut t = [1000u64, 1000];
    for gap in gaps {
        t[0] += 2_000;
        t[1] += gap;
        let paths = [format!("/p/{}", t[0]), format!("/p/{}", t[1])];
        last[0] = w.observe_and_extract(&VisitFacts { visitor: 1, ..browser(&paths[0]) }, now(t[0]));
        last[1] = w.observe_and_extract(&VisitFacts { visitor: 2, ..browser(&paths[1]) }, now(t[1]));
    }
    assert!(last[0][at("regularity")] > 0.99, "{}", last[0][at("regularity")]);
    assert!(last[1][at("regularity")] < 0.25, "{}", last[1][at("regularity")]);
    assert_eq!(last[0][at("share_repeats")], 0.0);
}

#[test]
fn one_visit_for_each_address_shows_in_the_fingerprint() {
    let w = Windows::new(10_000);
    let mut f = [0.0; N];
    for i in 0..2000u64 {
        let bot =
            VisitFacts { visitor: 1000 + i, network: 1000 + i, fingerprint: 66, by_cookie: Some(false), ..browser("/drop") };
        f = w.observe_and_extract(&bot, now(1000 + i));
    }
    assert!(f[at("fingerprint_visits_per_new")] < 0.7, "one visit each: ln 2");
    assert!((f[at("visits_1min")] - 2f32.ln()).abs() < 1e-3);
    let mut person = [0.0; N];
    for i in 0..200 {
        person = w.observe_and_extract(&VisitFacts { fingerprint: 67, ..browser(&format!("/p/{i}")) }, now(4000 + i));
    }
    assert!(person[at("fingerprint_visits_per_new")] > 4.0);
}

#[test]
fn a_forged_hello_and_a_forged_order_are_rare_among_those_they_pretend_to_be() {
    let w = Windows::new(1_000);
    let visit = |visitor, hello: u64, order| {
        let mut f = browser("/");
        f.headers.order = order;
        w.observe_and_extract(&VisitFacts { visitor, fingerprint: f.headers.fingerprint(hello), ..f }, now(1_000))
    };
    let mut person = [0.0; N];
    for i in 0..200 {
        person = visit(1 + i, 7, 1);
    }
    let forger = visit(900, 8, 2);
    for name in ["fingerprint_rarity", "header_order_rarity"] {
        assert!(person[at(name)] < 1e-3 && forger[at(name)] > 4.0, "{name}: {} {}", person[at(name)], forger[at(name)]);
    }
    let order = VisitFacts { visitor: 900, method: Method::Change, fingerprint: 1, ..browser("/cart") };
    let order = VisitFacts { headers: HeaderFacts { order: 99, ..order.headers }, ..order };
    let later = w.observe_and_extract(&order, now(2_000));
    assert!(later[at("header_order_rarity")] > 4.0, "a form is known by the page before it");
}

#[test]
fn a_visitor_is_known_by_its_neighbours_but_not_by_itself() {
    let w = Windows::new(1_000);
    let visit = |visitor, subnet, path: &str, referer| {
        let f = browser(path);
        let headers = HeaderFacts { referer, ..f.headers };
        w.observe_and_extract(&VisitFacts { visitor, subnet, headers, ..f }, now(1_000))
    };
    for i in 0..300 {
        visit(1 + i % 60, 1 + i % 30, ["/", "/a.js", "/b.css"][i as usize % 3], Referer::Same);
        visit(500 + i, 77, &format!("/p/{i}"), Referer::None);
    }
    let names = ["subnet_assets_against_site", "subnet_unreferred_against_site"];
    let (neighbour, alone) = (visit(990, 77, "/", Referer::Same), visit(991, 78, "/p/1", Referer::None));
    assert!(neighbour[at(names[0])] < -0.25 && neighbour[at(names[1])] > 0.4, "{:?}", names.map(|n| neighbour[at(n)]));
    assert_eq!(names.map(|n| alone[at(n)]), [0.0; 2]);
    let (popular, crawled) = (visit(992, 79, "/", Referer::Same), visit(993, 80, "/p/1", Referer::None));
    assert!(popular[at("path_unreferred_against_site")] < -0.4, "{}", popular[at("path_unreferred_against_site")]);
    assert!(crawled[at("path_new_against_site")] > 0.0 && popular[at("path_new_against_site")] < 0.0);
}

#[test]
fn same_visits_same_features_bit_for_bit() {
    let run = || {
        let w = Windows::new(100);
        let mut sum = vec![];
        for i in 0..5000u64 {
            let f = VisitFacts { visitor: i % 300, network: i % 40, fingerprint: i % 7, ..browser(&format!("/p/{}", i % 91)) };
            sum.push(w.observe_and_extract(&f, now(i * i % 100_000 + i)).map(f32::to_bits));
            w.feedback(i % 300, 400 + (i % 3) as u16 * 100);
        }
        sum
    };
    assert_eq!(run(), run());
}

#[test]
fn every_value_is_finite_whatever_comes() {
    let w = Windows::new(16);
    let mut x = 1u64;
    for _ in 0..20_000 {
        x = table::mix(x + 1);
        let pick = |n: u64, shift: u32| (x >> shift) % n;
        let method = [Method::Get, Method::Head, Method::Change, Method::Other][pick(4, 3) as usize];
        let facts = VisitFacts {
            visitor: pick(50, 8),
            network: pick(3, 9),
            subnet: pick(5, 15),
            fingerprint: pick(3, 10),
            method,
            waiting: pick(4, 11) == 0,
            body_bytes: Some(x),
            sale: Some(pick(2, 12) == 0),
            ..browser(if pick(2, 13) == 0 { "/" } else { "/a.js" })
        };
        let f = w.observe_and_extract(&facts, Now { mono_ns: x >> pick(64, 14), wall_ms: 0 });
        w.feedback(facts.visitor, x as u16);
        assert!(f.iter().all(|v| v.is_finite() && v.abs() <= BOUND), "{f:?}");
    }
}

#[test]
fn memory_is_taken_at_the_start() {
    let w = Windows::new(100_000);
    let bytes = w.bytes();
    assert!(bytes <= 110_000 * Windows::BYTES_PER_VISITOR + (5 << 20), "{bytes}");
    for i in 1..300_000u64 {
        w.observe_and_extract(&VisitFacts { visitor: i, ..browser("/") }, now(i));
    }
    assert_eq!(w.bytes(), bytes);
    const { assert!(Windows::BYTES_PER_VISITOR <= 176) };
}
