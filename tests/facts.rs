//! Facts come before scores: who falls into a honeypot.

use std::path::Path;

use tidegate_filters::Row;
use tidegate_models::journal;

use crate::{
    program::{run, text},
    support::{Client, Shop, admin, gate},
};

const POLICY: &str = r#"
version: 1
listen: [ { address: 127.0.0.1:0 } ]
admin: { address: 127.0.0.1:0, token_file: "{dir}/admin.token" }
shop: { upstreams: [ { address: "{shop}" } ] }
trusted_proxies: [ 127.0.0.0/8 ]
filters:
  - honeypot: { paths: [ /all-offers/, /old-login ]{then} }
  - waiting_room: { room: drop }
rooms: [ { name: drop, arm: always, order: fifo } ]
journal: { directory: "{dir}/journal" }
"#;

pub fn rows(dir: &Path) -> Vec<Row> {
    journal::list(&dir.join("journal")).unwrap().iter().flat_map(|f| journal::read(f).unwrap()).collect()
}

fn lane(client: &mut Client) -> i64 {
    client.get("/shoes").json()["lane"].as_i64().unwrap()
}

#[test]
fn who_falls_into_a_honeypot_is_at_the_back_and_nobody_else_is() {
    let (shop, dir) = (Shop::start(), tempfile::tempdir().unwrap());
    let gate = gate(&POLICY.replace("{then}", ""), shop.address, dir.path());
    let address = gate.addresses()[0];
    let from = |agent: &str| Client::app(address).with("user-agent", agent).with("x-forwarded-for", "198.51.100.7");
    let (mut script, mut person) = (from("script/1"), from("person"));
    assert_eq!(lane(&mut person), 0);
    let missing = script.get("/all-offers/shoes");
    assert_eq!((missing.status, missing.header("tidegate-reason")), (404, Some("NO_ROUTE")), "nothing is told: {missing:?}");
    assert!(!missing.body.contains("HONEYPOT"), "{missing:?}");
    assert_eq!(lane(&mut script), 1);
    assert_eq!(lane(&mut from("script/1")), 1, "without its cookie");
    assert_eq!((lane(&mut person), lane(&mut from("another"))), (0, 0), "same network, other programs");

    // A person with a cookie of their own is not the script, even behind one address with the same program.
    let mut twin = from("twin");
    assert_eq!(lane(&mut twin), 0);
    assert_eq!(from("twin").get("/old-login").status, 404);
    assert_eq!((lane(&mut twin), lane(&mut from("twin"))), (0, 1));

    // Who falls in with a cookie is known without it.
    let mut loses_it = from("loses it");
    assert_eq!(lane(&mut loses_it), 0);
    loses_it.get("/old-login");
    assert_eq!(lane(&mut from("loses it")), 1);

    // A name that was given to somebody who is trapped is trapped as well.
    let mut renamed = from("renamed");
    renamed.get("/all-offers/a;x=1");
    renamed.get("/shoes");
    assert!(renamed.cookies.contains_key("tidegate-visitor"), "{:?}", renamed.cookies);
    renamed.cookies.retain(|name, _| name == "tidegate-visitor");
    renamed.headers.retain(|(name, _)| name != "user-agent");
    assert_eq!(lane(&mut renamed.with("user-agent", "something else")), 1);

    for made in [
        ("sec-purpose", "prefetch;prerender"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-dest", "image"),
        ("referer", "https://forum.example/"),
    ] {
        let mut made_to = from(made.0);
        assert_eq!(made_to.clone().with(made.0, made.1).get("/all-offers/").status, 404);
        assert_eq!(lane(&mut made_to), 0, "{made:?} is not held against anybody");
    }
    assert_eq!(lane(&mut from("near").with("x", "y")), 0);
    assert_eq!(from("near").get("/old-login2").status, 200, "another path");
    assert_eq!(shop.seen().len(), 0, "the shop sees none of it");
    let metrics = admin(&gate, dir.path(), "GET", "/metrics", "").body;
    assert!(metrics.contains("reason=\"HONEYPOT\"} 8"), "{metrics}");
    drop(gate);

    let rows = rows(dir.path());
    let fell: Vec<&Row> = rows.iter().filter(|r| r.facts == "honeypot").collect();
    assert_eq!(fell.len(), 4, "{rows:?}");
    assert!(fell.iter().all(|r| r.reason.unwrap().code() == "HONEYPOT" && r.filter == "honeypot" && r.status == 404));
    assert!(rows.iter().any(|r| r.facts == "trapped" && r.path == "/shoes"));
    let (journal, labels) = (dir.path().join("journal"), dir.path().join("labels.csv"));
    let (journal, labels) = (journal.display().to_string(), labels.display().to_string());
    let hand = format!("{:016x}=person", fell[0].visitor);
    assert!(run(&["bots", "label", "--labels", &labels, "--set", &hand]).status.success());
    let said = run(&["bots", "label", "--from", &journal, "--labels", &labels, "--facts"]);
    assert!(text(&said).contains("4 labels; 3 of 4 visitors known for sure are new"), "{}", text(&said));
    let lines = std::fs::read_to_string(&labels).unwrap();
    assert!(lines.contains(&format!("{:016x},program,known for sure,honeypot", fell[1].visitor)), "{lines}");
    assert!(lines.contains(&format!("{:016x},person", fell[0].visitor)), "what somebody said stays: {lines}");
}

#[test]
fn a_honeypot_can_refuse_with_an_appeal_or_only_watch() {
    let (shop, dir) = (Shop::start(), tempfile::tempdir().unwrap());
    let refusing = gate(&POLICY.replace("{then}", ", then: refuse, remember: 1s"), shop.address, dir.path());
    let mut script = Client::app(refusing.addresses()[0]);
    assert_eq!(script.get("/old-login").status, 404);
    let refused = script.get("/shoes");
    assert_eq!((refused.status, refused.header("tidegate-reason")), (403, Some("HONEYPOT")), "{refused:?}");
    let about = refused.json()["appeal"]["about"].as_str().unwrap().replace(':', "%3A");
    let sent = script.post("/.tidegate/appeal", &format!("about={about}&text=a+monitor"));
    assert_eq!(sent.status, 202, "{sent:?}");
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(script.get("/shoes").status, 200, "not remembered any more");
    script.get("/old-login");
    assert_eq!(script.get("/shoes").status, 403);
    let list = admin(&refusing, dir.path(), "GET", "/v1/appeals", "").json();
    let path = format!("/v1/appeals/{}", list[0]["reference"].as_str().unwrap());
    assert_eq!(admin(&refusing, dir.path(), "POST", &path, r#"{"grant": true}"#).status, 200);
    assert_eq!(script.get("/shoes").status, 200, "an operator knows better");
    drop(refusing);

    let (shop, dir) = (Shop::start(), tempfile::tempdir().unwrap());
    let watching = gate(&POLICY.replace("{then}", ", shadow: true"), shop.address, dir.path());
    let mut script = Client::app(watching.addresses()[0]);
    script.get("/old-login");
    assert_eq!(lane(&mut script), 0);
    drop(watching);
    let mut shadows: Vec<String> = rows(dir.path()).into_iter().map(|r| r.shadow).filter(|s| !s.is_empty()).collect();
    shadows.sort();
    assert_eq!(shadows, ["honeypot:refuse:HONEYPOT", "honeypot:to_the_back:HONEYPOT"]);
}

#[test]
fn a_score_does_on_each_route_what_its_gate_says() {
    const BY_ROUTE: &str = r#"
version: 1
listen: [ { address: 127.0.0.1:0 } ]
shop: { upstreams: [ { address: "{shop}" } ] }
routes: [ { name: search, match: { prefix: /search } }, { name: account, match: { prefix: /account } }, { name: shop } ]
filters:
  - bot_gate: { routes: [shop], to_the_back_at: 1, when_unscored: admit, runtime: builtin }
  - bot_gate: { routes: [search], throttle_at: 0.000001, throttle_to: 2/min, when_unscored: admit, runtime: builtin }
  - bot_gate: { routes: [account], challenge_at: 0.000001, when_unscored: admit, runtime: builtin }
journal: { directory: "{dir}/journal" }
"#;
    let (shop, dir) = (Shop::start(), tempfile::tempdir().unwrap());
    let gate = gate(BY_ROUTE, shop.address, dir.path());
    let mut script = Client::app(gate.addresses()[0]);
    assert_eq!([script.get("/search").status, script.get("/search").status], [200, 200], "two at once");
    let more = script.get("/search?q=1");
    assert_eq!((more.status, more.header("tidegate-reason")), (429, Some("SCORE_THROTTLE")), "{more:?}");
    let after_s: u32 = more.header("retry-after").unwrap().parse().unwrap();
    assert!((29..=40).contains(&after_s), "{more:?}");
    assert_eq!(script.get("/account").header("tidegate-reason"), Some("SCORE_CHALLENGE"));
    assert_eq!(script.get("/").status, 200);
    let mut another = Client::app(gate.addresses()[0]).with("user-agent", "another");
    assert_eq!(another.get("/search").status, 429, "another name is no way round");
    drop(gate);
    let rows = rows(dir.path());
    let throttled = rows.iter().find(|r| r.reason.is_some_and(|r| r.code() == "SCORE_THROTTLE")).unwrap();
    assert_eq!((throttled.verdict, &*throttled.filter), ("throttle", "bot_gate"));
    assert!(!throttled.score_reasons.is_empty(), "why it scores so: {throttled:?}");
}
