//! A visitor's way through a gate, from the first page to the journal.

use std::collections::BTreeSet;

use crate::{
    facts::rows,
    support::{Client, Shop, gate, raw},
};

const POLICY: &str = r#"
version: 1
listen: [ { address: 127.0.0.1:0 } ]
admin: { address: 127.0.0.1:0, token_file: "{dir}/admin.token" }
shop:
  upstreams: [ { address: "{shop}" } ]
  reports_sales_by: { header: Tidegate-Sold }
routes:
  - { name: assets, match: { prefix: /static/ }, filters: none }
  - { name: shop }
filters:
  - waiting_room: { room: drop }
rooms:
  - { name: drop, seats: { max: 2 }, admission: { fixed: 100/s }, arm: always }
journal: { directory: "{dir}/journal" }
keys: { directory: "{dir}/keys" }
"#;

#[test]
fn a_visit_from_the_first_page_to_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Shop::start();
    let gate = gate(POLICY, shop.address, dir.path());
    let address = gate.addresses()[0];
    let mut app = Client::app(address).with("tidegate-anything", "x").with("x-forwarded-for", "203.0.113.5");

    let first = app.get("/product/1?a=b");
    assert_eq!((first.status, first.header("tidegate-verdict")), (200, Some("wait")));
    assert!(first.header("cache-control").unwrap().contains("no-store"), "{first:?}");
    assert_eq!(first.json()["room"], "drop");
    assert!(shop.seen().is_empty(), "nobody without a pass reaches the shop");
    assert_eq!(app.get("/static/a.css").status, 200, "unfiltered routes are forwarded");
    assert_eq!(app.post("/cart", "x=1").status, 403, "a post without a pass joins nothing");

    app.wait_and_claim("drop").expect("two seats are free");
    let inside = app.get("/product/1?a=b");
    assert_eq!((inside.status, inside.header("tidegate-verdict")), (200, None));
    let seen = shop.seen().last().unwrap().clone();
    assert_eq!(seen.line, "GET /product/1?a=b HTTP/1.1");
    assert_eq!(seen.header("cookie"), None, "our cookies stop here");
    assert_eq!(seen.header("tidegate-anything"), None, "our names cannot be spoofed");
    assert!(!seen.header("x-forwarded-for").unwrap().contains("203.0.113.5"), "the peer is not trusted: {seen:?}");
    assert_eq!(app.post("/cart", "x=1").status, 200);
    assert_eq!(shop.seen().last().unwrap().body, b"x=1");
    assert_eq!(app.get("/sold").header("tidegate-sold"), None, "what the shop tells the gate goes no further");

    let left = app.post("/.tidegate/leave", "room=drop");
    assert_eq!(left.json()["state"], "left");
    assert_eq!(app.post("/cart", "x=1").status, 403, "a seat given back is gone at once");

    let refused = raw(address, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(refused.status, 400);
    // A plan is made each second: a quick machine is done before the first one.
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    gate.stop().unwrap();
    let rows = rows(dir.path());
    let visits: Vec<_> = rows.iter().map(|r| (&*r.method, r.path.as_str(), r.verdict)).collect();
    assert!(visits.contains(&("GET", "/product/1", "wait")) && visits.contains(&("GET", "/product/1", "forward")));
    assert_eq!(rows.iter().filter(|r| r.sold == 1).count(), 1);
    assert_eq!((rows.iter().filter(|r| r.joined).count(), rows.iter().filter(|r| r.seated).count()), (1, 1));
    let (plans, people): (Vec<_>, Vec<_>) = rows.iter().partition(|r| r.method == "PLAN");
    assert!(people.iter().all(|r| r.network != 0 && r.at_ms > 0), "hashes, never addresses");
    assert!(plans.iter().any(|r| r.room == "drop" && r.path.starts_with("refill ")), "plans say why: {plans:?}");
    assert!(rows.iter().all(|r| !r.path.contains("a=b")), "queries are not kept");
}

#[test]
fn seats_are_counted_and_one_ticket_gets_one_pass() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Shop::start();
    let gate = gate(POLICY, shop.address, dir.path());
    let address = gate.addresses()[0];
    let mut visitors: Vec<Client> = (0..5).map(|_| Client::app(address)).collect();
    for v in &mut visitors {
        assert_eq!(v.get("/").json()["state"], "waiting");
    }
    let places: BTreeSet<u64> = visitors.iter_mut().map(|v| v.get("/").json()["place"].as_u64().unwrap()).collect();
    assert_eq!(places, BTreeSet::from([0, 1, 2, 3, 4]), "a place never changes");
    // Twenty claims of the same ticket at once: one seat, and everybody who is answered with a pass holds that one.
    let first = visitors[0].clone();
    while first.clone().get("/.tidegate/status?room=drop").json()["state"] != "called" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let passes: BTreeSet<String> = std::thread::scope(|s| {
        let claim = || {
            let mut me = first.clone();
            let answer = me.post("/.tidegate/claim", "room=drop&to=/");
            (answer.status == 200).then(|| me.cookies["tidegate-pass-drop"].clone())
        };
        let all: Vec<_> = (0..20).map(|_| s.spawn(claim)).collect();
        all.into_iter().filter_map(|h| h.join().unwrap()).collect()
    });
    assert!(!passes.is_empty());
    let room = &gate.control().shared.active.load_full();
    let live = || room.pipeline.rooms()[0].stats(gate.control().shared.clock.now()).seats_live;
    assert_eq!(live(), 1, "{passes:?}");
    visitors[1].wait_and_claim("drop").expect("the second seat");
    assert_eq!(live(), 2);
    assert_eq!(visitors[4].get("/").json()["state"], "waiting");
}

#[test]
fn a_stranger_token_opens_nothing() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shop = Shop::start();
    let gate_here = gate(POLICY, shop.address, dir.path());
    let gate_there = gate(POLICY, shop.address, other_dir.path());
    let mut there = Client::app(gate_there.addresses()[0]);
    there.get("/");
    there.wait_and_claim("drop").expect("seats are free there");
    let pass = there.cookies["tidegate-pass-drop"].clone();
    assert_eq!(there.get("/x").header("tidegate-verdict"), None);

    let here = gate_here.addresses()[0];
    let before = shop.seen().len();
    let mut tries = vec![pass.clone(), String::new(), "A".repeat(10_000), "%00".into(), "..".into(), format!("{pass}.{pass}")];
    tries.extend((0..pass.len()).step_by(7).map(|i| {
        let mut bytes = pass.clone().into_bytes();
        bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    }));
    for token in tries {
        let mut thief = Client::app(here);
        thief.cookies.insert("tidegate-pass-drop".into(), token.clone());
        thief.cookies.insert("tidegate-ticket-drop".into(), token.clone());
        let answer = thief.post("/cart", "x=1");
        assert!(matches!(answer.status, 400 | 403 | 431), "{token}: {answer:?}");
        let mut header = Client::app(here).with("authorization", &format!("Tidegate {}", token.get(..400).unwrap_or(&token)));
        assert!(matches!(header.post("/cart", "x=1").status, 400 | 403 | 431));
    }
    assert_eq!(shop.seen().len(), before, "nobody was let in by accident");
}

#[test]
fn a_restart_says_so_and_a_reload_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Shop::start();
    let first = gate(POLICY, shop.address, dir.path());
    let mut v = Client::app(first.addresses()[0]);
    v.get("/");
    let file = dir.path().join("policy.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let sha = |g: &tidegate_gateway::gate::Gate| g.control().shared.active.load().sha256.clone();
    let old = sha(&first);
    std::fs::write(&file, text.replace("max: 2", "max: 0")).unwrap();
    first.reload();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(sha(&first), old, "a bad file keeps the old policy");
    std::fs::write(&file, text.replace("max: 2", "max: 3")).unwrap();
    first.reload();
    for _ in 0..200 {
        if sha(&first) != old {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_ne!(sha(&first), old, "a good one is put in force");
    assert_eq!(v.get("/").json()["place"], 0, "the place outlives a reload");
    first.stop().unwrap();

    let second = gate(POLICY, shop.address, dir.path());
    let mut v2 = Client::app(second.addresses()[0]);
    v2.cookies = v.cookies.clone();
    let page = v2.get("/");
    assert_eq!(page.json()["place"], 0, "a new place: {page:?}");
    let mut browser = Client::browser(second.addresses()[0]);
    browser.cookies = v.cookies;
    let body = browser.get("/").body.to_lowercase();
    assert!(body.contains("restart"), "the page says that the room was restarted: {body}");
}
