//! A drawn sale on a real gate: promise, entries with receipts, freeze, draw, reveal; checked from outside.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tempfile::TempDir;
use tidegate_filters::seats::{draw::beacon::LocalBeacon, operate::Action};
use tidegate_gateway::operate::{By, Target};

use crate::{
    program::{run, text},
    support::{Answer, Client, Gate, Shop, gate},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Pre-queue since a minute, opening in ten, freeze a minute before it; the tests move the gate's clock.
pub fn policy(order: &str, beacon: &str) -> String {
    let at = |s: i64| Timestamp::now() + SignedDuration::from_secs(s);
    format!(
        "version: 1
listen: [ {{ address: 127.0.0.1:0 }} ]
shop: {{ upstreams: [ {{ address: {{shop}} }} ] }}
filters: [ {{ waiting_room: {{ room: drop }} }} ]
rooms:
  - name: drop
    arm: always
    admission: {{ fixed: 1000/s }}
    order: {order}
    beacon: {beacon}
    visitor: {{ key: {{ cookie: login }}, entries_per_network: 30, work_bits: 0 }}
sales:
  - {{ name: sneaker, room: drop, prequeue_opens_at: {}, opens_at: {}, closes_at: {} }}
state: {{ directory: '{{dir}}/state', budget: 10s }}
keys: {{ directory: '{{dir}}/keys' }}
",
        at(-60),
        at(600),
        at(3_600)
    )
}

/// A relay that publishes every round of a beacon of ours.
pub fn relay() -> (String, String) {
    let beacon = LocalBeacon::new(&[8; 32]);
    let source = beacon.source();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut line = String::new();
            let _ = BufReader::new(stream.try_clone().unwrap()).read_line(&mut line);
            let path = line.split(' ').nth(1).unwrap_or_default();
            let round = path.strip_prefix("/chain/public/").and_then(|r| r.parse().ok());
            let body = round.map_or("{}".into(), |r| serde_json::to_string(&beacon.round(r)).unwrap());
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    (source, format!("http://{address}/chain"))
}

pub fn address(gate: &Gate) -> SocketAddr {
    gate.addresses()[0]
}

/// Asks for the draw until it is so.
pub fn until(gate: &Gate, state: &str, query: &str) -> Value {
    let (start, mut client) = (Instant::now(), Client::app(address(gate)));
    loop {
        let answer = client.get(&format!("/.tidegate/draw{query}"));
        if answer.status == 200 && answer.json()["state"] == state {
            assert!(answer.header("cache-control").is_some_and(|c| c.starts_with("public")), "{answer:?}");
            assert!(answer.header("set-cookie").is_none(), "a cached answer carries no cookie");
            return answer.json();
        }
        assert!(start.elapsed() < PATIENCE, "not {state}: {answer:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Somebody whom the shop's login knows by name, with a ticket.
pub fn enter(gate: &Gate, name: &str) -> Client {
    let mut client = Client::app(address(gate));
    client.cookies.insert("login".into(), name.into());
    let answer = client.get("/");
    assert_eq!(answer.header("tidegate-verdict"), Some("wait"), "{answer:?}");
    client
}

pub fn receipt(client: &mut Client) -> Answer {
    client.get("/.tidegate/receipt")
}

pub fn save(gate: &Gate, dir: &Path, draw: &Value) -> String {
    let mut client = Client::app(address(gate));
    for (key, file) in [("transcript", "transcript.json"), ("entries_file", "entries.csv")] {
        let answer = client.get(draw[key].as_str().unwrap());
        let for_ever = answer.header("cache-control").is_some_and(|c| c.contains("immutable"));
        assert_eq!(for_ever, key == "entries_file", "an amendment may still come: {answer:?}");
        std::fs::write(dir.join(file), answer.body).unwrap();
    }
    dir.join("transcript.json").display().to_string()
}

pub fn ahead(gate: &Gate, s: u64) {
    gate.control().shared.clock.advance(s * 1_000);
}

#[test]
fn a_drawn_sale_from_promise_to_claim_over_a_restart() {
    let (shop, dir, (source, from)) = (Shop::start(), TempDir::new().unwrap(), relay());
    let beacon = format!("{{ source: '{source}', delay: 10s, from: '{from}' }}");
    let first = gate(&policy("draw_then_fifo", &beacon), shop.address, dir.path());
    let promised = until(&first, "open", "");
    let mut people: Vec<Client> = (0..40).map(|i| enter(&first, &format!("person-{i}"))).collect();
    let before: Vec<String> = people.iter_mut().map(|p| receipt(p).body).collect();
    assert!(before.iter().all(|r| r.contains("\"entry_id\"")), "{before:?}");
    // The same person from another browser: the same entry.
    let mut twin = enter(&first, "person-7");
    assert_eq!(receipt(&mut twin).body, before[7]);
    let mut stranger = Client::app(address(&first));
    assert_eq!(receipt(&mut stranger).status, 404);
    stranger.get("/");
    assert_eq!(until(&first, "open", "")["entries"], 40, "who has shown no cookie yet has no entry");
    first.stop().unwrap();

    let text_of = std::fs::read_to_string(dir.path().join("policy.yaml")).unwrap();
    let second = gate(&text_of, shop.address, dir.path());
    let again = until(&second, "open", "");
    assert_eq!(again["promise"], promised["promise"], "the promise outlives the process");
    assert_eq!(again["entries"], 40);
    let mut people: Vec<Client> = (0..40).map(|i| enter(&second, &format!("person-{i}"))).collect();
    let after: Vec<String> = people.iter_mut().map(|p| receipt(p).body).collect();
    assert_eq!(after, before, "no entry is lost or given twice");

    ahead(&second, 545);
    let frozen = until(&second, "frozen", "");
    assert_eq!((&frozen["frozen"]["n"], &frozen["frozen"]["places"]), (&40.into(), &40.into()));
    assert_eq!(frozen["frozen"]["by_class"]["crowded"], 10, "thirty of one network, then the rest weighs less: {frozen}");
    let mut late = enter(&second, "late");
    assert_eq!(late.get("/").json()["place"], 40, "later visitors follow the drawn");
    ahead(&second, 12);
    let drawn = until(&second, "drawn", "");
    assert_eq!(drawn["operator_could_have_chosen"], true, "the beacon is the operator's own");
    let transcript = save(&second, dir.path(), &drawn);
    let commitment = promised["promise"]["commitment"].as_str().unwrap();
    let mine = dir.path().join("mine.json");
    std::fs::write(&mine, &before[3]).unwrap();
    let out =
        run(&["draw", "verify", &transcript, "--commitment", commitment, "--receipt", &mine.display().to_string(), "--json"]);
    let report: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", text(&out)));
    assert_eq!((&report["ok"], &report["randomness"]), (&true.into(), &"own_beacon".into()), "{report}");
    let place = report["receipts"][0]["place"].clone();
    assert_eq!(people[3].get("/").json()["place"], place, "the page shows the place that was drawn");
    let mut places: Vec<_> = people.iter_mut().map(|p| p.get("/").json()["place"].as_u64().unwrap()).collect();
    assert!(!places.is_sorted(), "not the order of arrival");
    places.sort_unstable();
    assert_eq!(places, (0..40).collect::<Vec<u64>>(), "everyone knows a place of their own before the opening");
    ahead(&second, 60);
    assert!(people[3].wait_and_claim("drop").is_some());
    assert!(late.wait_and_claim("drop").is_some());
    second.stop().unwrap();
}

#[test]
fn a_buyer_pastes_a_receipt_and_sees_the_proof() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let gate = gate(&policy("draw_then_fifo", "none"), shop.address, dir.path());
    until(&gate, "open", "");
    let mut person = enter(&gate, "person");
    let mine = receipt(&mut person).body;
    let mut browser = Client::browser(address(&gate));
    let page = browser.get("/.tidegate/draw").body;
    assert!(page.contains("could have chosen") && page.contains("<form"), "{page}");
    assert!(page.contains("cannot ask the shop whether it is a real login") && page.contains("not impossible"), "{page}");
    let json = Client::app(address(&gate)).get("/.tidegate/draw").json();
    let protocol = Client::app(address(&gate)).get(json["protocol_url"].as_str().unwrap());
    assert!(
        protocol.status == 200 && protocol.body.contains("tidegate/1/receipt") && page.contains("protocol.md"),
        "{protocol:?}"
    );
    assert_eq!((&json["identity_proven"], &json["quotas"]), (&false.into(), &true.into()), "{json}");
    assert!(browser.post("/.tidegate/draw/proof", &receipt_form(&mine)).body.contains("is not closed yet"));
    ahead(&gate, 545);
    until(&gate, "drawn", "");
    let page = browser.post("/.tidegate/draw/proof", &receipt_form(&mine)).body;
    assert!(page.contains("Your entry is in the list") && page.contains("place 1 of 1"), "{page}");
    let other = mine.replacen("\"index\":0", "\"index\":1", 1);
    assert!(browser.post("/.tidegate/draw/proof", &receipt_form(&other)).body.contains("was changed"));
    assert!(browser.post("/.tidegate/draw/proof", &receipt_form("hello")).body.contains("This is no receipt"));
    let proof = Client::app(address(&gate)).post("/.tidegate/draw/proof", &receipt_form(&mine)).json();
    assert_eq!((&proof["place"], &proof["n"]), (&0.into(), &1.into()));
    gate.stop().unwrap();
}

#[test]
fn windows_are_drawn_and_each_reveal_opens_only_its_own() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let gate = gate(&policy("{ draw_every: 60s }", "none"), shop.address, dir.path());
    let open = until(&gate, "open", "");
    let number = open["window"].as_u64().unwrap();
    (0..12).for_each(|i| drop(enter(&gate, &format!("a-{i}"))));
    ahead(&gate, 60);
    let mut late: Vec<Client> = (0..8).map(|i| enter(&gate, &format!("b-{i}"))).collect();
    let mine = receipt(&mut late[3]).body;
    ahead(&gate, 60);
    for (window, n) in [(number, 12), (number + 1, 8)] {
        let drawn = until(&gate, "drawn", &format!("?sale=sneaker&window={window}"));
        assert_eq!(drawn["frozen"]["n"], n);
        let transcript = save(&gate, dir.path(), &drawn);
        let out = run(&["draw", "verify", &transcript, "--commitment", open["promise"]["commitment"].as_str().unwrap()]);
        assert!(out.status.success() && text(&out).contains(&format!("sneaker#{window}")), "{}", text(&out));
    }
    // Lists count from 0, and where each begins in the line is published.
    let form = receipt_form(&mine);
    let proof = Client::app(address(&gate)).post("/.tidegate/draw/proof?sale=sneaker", &form).json();
    assert_eq!(proof["first_place"], 12, "{proof}");
    assert_eq!(late[3].get("/").json()["place"].as_u64(), proof["place"].as_u64().map(|p| p + 12), "{proof}");
    gate.stop().unwrap();
}

#[test]
fn rules_are_fixed_by_the_first_entry_and_no_beacon_means_no_draw() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let beacon = LocalBeacon::new(&[8; 32]);
    let gate = gate(&policy("draw_then_fifo", &format!("{{ source: '{}' }}", beacon.source())), shop.address, dir.path());
    until(&gate, "open", "");
    let early = gate.control().operate(Target::Sale("sneaker"), &Action::Open, By::Admin).unwrap_err().to_string();
    assert!(early.contains("its list takes entries until") && early.contains("it opens by itself at"), "{early}");
    let policy = std::fs::read_to_string(dir.path().join("policy.yaml")).unwrap();
    let other_weights = policy.replace("    beacon:", "    weights: { human: 16, unsure: 1 }\n    beacon:");
    let mut person = enter(&gate, "person");
    assert!(receipt(&mut person).body.contains("signature"));
    let refused = gate.control().apply(&other_weights).unwrap_err().to_string();
    assert!(refused.contains("its published rules would change"), "{refused}");
    let gone = policy.replace("name: sneaker", "name: boots");
    assert!(gate.control().apply(&gone).unwrap_err().to_string().contains("keep the sale"));
    let later = policy.replace("arm: always", "arm: always\n    claim_window: 90s");
    assert!(gate.control().apply(&later).is_ok(), "what is no rule of the draw may change");
    let opens = policy.split("opens_at: ").nth(2).unwrap().split(',').next().unwrap();
    let instant: Timestamp = opens.parse().unwrap();
    let moved = |s: i64| {
        later.replacen(&format!(" opens_at: {opens}"), &format!(" opens_at: {}", instant + SignedDuration::from_secs(s)), 1)
    };
    assert!(gate.control().apply(&moved(-300)).unwrap_err().to_string().contains("before its list closes"));
    assert!(gate.control().apply(&moved(60)).is_ok(), "a later opening is an amendment");
    let amended = until(&gate, "open", "")["amendments"].clone();
    assert!(amended[0]["text"].as_str().unwrap().starts_with("opens at ") && amended[0]["signature"].is_string(), "{amended}");

    ahead(&gate, 545);
    let frozen = until(&gate, "frozen", "");
    ahead(&gate, 120);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(person.get("/.tidegate/status").json()["place"], Value::Null, "open, but not drawn: nobody has a place");
    let round = frozen["frozen"]["round"].as_u64().unwrap();
    let bring = |r| gate.control().shared.draws.bring(&gate.control().shared.active.load(), r);
    let mut forged = beacon.round(round);
    forged.value[0] ^= 1;
    assert!(bring(forged).is_err());
    let late = until_sale(&gate, "sneaker", |d| d["late"] == true);
    assert_eq!(late["state"], "frozen", "{late}");
    let mut browser = Client { cookies: person.cookies.clone(), ..Client::browser(address(&gate)) };
    let page = browser.get("/").body;
    assert!(page.contains("randomness is late") && !page.contains("less than a minute"), "{page}");
    assert!(browser.get("/.tidegate/draw").body.contains("is late"));
    // Who comes now has a place after the drawn, and is told what is waited for.
    let mut newcomer = enter(&gate, "newcomer");
    let told = newcomer.get("/").json();
    assert_eq!((&told["place"], &told["draw"], &told["wait_s"]), (&1.into(), &"late".into(), &Value::Null), "{told}");
    let page = Client { cookies: newcomer.cookies.clone(), ..Client::browser(address(&gate)) }.get("/").body;
    assert!(page.contains("randomness is late") && page.contains("not known yet"), "{page}");
    let useless = bring(beacon.round(round + 1)).unwrap_err();
    assert!(useless.to_string().contains(&format!("no list waits for round {}", round + 1)), "{useless}");
    assert!(useless.instead().contains(&format!("sale `sneaker`: round {round} of ed25519:")), "{}", useless.instead());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(until(&gate, "frozen", "")["frozen"]["round"], round, "another round does not count");
    bring(beacon.round(round)).unwrap();
    let drawn = until(&gate, "drawn", "");
    let transcript = save(&gate, dir.path(), &drawn);
    assert!(std::fs::read_to_string(&transcript).unwrap().contains("before: opens at"), "the transcript carries the amendment");
    assert!(run(&["draw", "verify", &transcript]).status.success());
    assert!(person.wait_and_claim("drop").is_some());
    gate.stop().unwrap();
}

#[test]
fn above_a_quota_a_program_without_work_has_no_entry_and_one_that_works_has() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let quotas = "visitor: { key: { cookie: login }, entries_per_network: 2, work_bits: 12 }";
    let yaml = policy("draw_then_fifo", "none")
        .replace("visitor: { key: { cookie: login }, entries_per_network: 30, work_bits: 0 }", quotas);
    let gate = gate(&yaml, shop.address, dir.path());
    until(&gate, "open", "");
    (0..2).for_each(|i| drop(enter(&gate, &format!("early-{i}"))));
    let mut third = enter(&gate, "third");
    let asked = third.get("/").json();
    assert_eq!((&asked["entry"], &asked["work"]["bits"]), (&Value::Null, &12.into()), "{asked}");
    assert_eq!(receipt(&mut third).status, 404);
    let challenge = asked["work"]["challenge"].as_str().unwrap();
    let work = tidegate_filters::seats::draw::work::Work {
        challenge: tidegate_filters::seats::draw::digest::unhex(challenge).unwrap(),
        bits: 12,
    };
    let answer = work.solve();
    let post = |client: &mut Client, n: u64| client.post("/.tidegate/work", &format!("room=drop&answer={n}&to=/"));
    let wrong = (0..).find(|n| !work.is_done(*n)).unwrap();
    assert_eq!(post(&mut third, wrong).status, 409);
    let mut thief = enter(&gate, "thief");
    assert_eq!(post(&mut thief, answer).status, 409, "work of somebody else");
    assert_eq!(until(&gate, "open", "")["entries"], 2);
    let entered = post(&mut third, answer);
    assert_eq!((entered.status, &entered.json()["entry"]["number"]), (200, &2.into()), "{entered:?}");
    let mine = receipt(&mut third).body;
    assert_eq!(post(&mut third, answer).json()["entry"]["number"], 2, "the same again");
    assert_eq!(third.get("/.tidegate/status?room=drop").status, 429, "asked before it was told to");
    let status = third.get("/").json();
    assert_eq!(
        (&status["entry"]["number"], &status["entry"]["receipt_url"]),
        (&2.into(), &"/.tidegate/receipt".into()),
        "{status}"
    );
    let mut browser = Client::browser(address(&gate));
    browser.cookies.insert("login".into(), "fourth".into());
    let page = browser.get("/").body;
    assert!(page.contains("Many enter from your network") && page.contains("&quot;bits&quot;:12"), "{page}");

    ahead(&gate, 545);
    let drawn = until(&gate, "drawn", "");
    assert_eq!((&drawn["frozen"]["n"], &drawn["frozen"]["by_class"]["crowded"]), (&3.into(), &1.into()), "{drawn}");
    let transcript = save(&gate, dir.path(), &drawn);
    std::fs::write(dir.path().join("mine.json"), mine).unwrap();
    let out = run(&["draw", "verify", &transcript, "--receipt", &dir.path().join("mine.json").display().to_string()]);
    assert!(text(&out).contains("could have chosen"), "{}", text(&out));
    assert!(thief.get("/").json()["place"].as_u64().unwrap() >= 3, "who does not work is not refused: after the drawn");
    gate.stop().unwrap();
}

/// Asks for the draw of a sale until it is so.
pub fn until_sale(gate: &Gate, sale: &str, so: impl Fn(&Value) -> bool) -> Value {
    let (start, mut client) = (Instant::now(), Client::app(address(gate)));
    loop {
        let answer = client.get(&format!("/.tidegate/draw?sale={sale}"));
        if answer.status == 200 && so(&answer.json()) {
            return answer.json();
        }
        assert!(start.elapsed() < PATIENCE, "{sale}: {answer:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn freeze_and_places_are_told_at_once_to_who_listens() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let beacon = LocalBeacon::new(&[8; 32]);
    let gate = gate(&policy("draw_then_fifo", &format!("{{ source: '{}' }}", beacon.source())), shop.address, dir.path());
    until(&gate, "open", "");
    let person = enter(&gate, "person");
    // A stream ends with its request's deadline: the rest is waited for.
    ahead(&gate, 535);
    let cookies: Vec<String> = person.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let mut stream = std::net::TcpStream::connect(address(&gate)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head =
        format!("GET /.tidegate/events?room=drop HTTP/1.1\r\nhost: shop.example\r\ncookie: {}\r\n\r\n", cookies.join("; "));
    stream.write_all(head.as_bytes()).unwrap();
    let frames = BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .filter_map(|l| serde_json::from_str::<Value>(l.strip_prefix("data: ")?).ok());
    let mut states: Vec<Value> = Vec::new();
    for frame in frames {
        let draw = frame["draw"].clone();
        if states.last().is_none_or(|s| s["state"] != draw["state"]) {
            if draw["state"] == "frozen" {
                let round = until(&gate, "frozen", "")["frozen"]["round"].as_u64().unwrap();
                let shared = &gate.control().shared;
                shared.draws.bring(&shared.active.load(), beacon.round(round)).unwrap();
            }
            states.push(draw);
        }
        if states.last().is_some_and(|s| s["state"] == "drawn") {
            break;
        }
    }
    let names: Vec<_> = states.iter().map(|s| s["state"].as_str().unwrap()).collect();
    assert_eq!(names, ["open", "frozen", "drawn"]);
    assert_eq!((&states[1]["n"], &states[1]["by_class"]["unsure"]), (&1.into(), &0.into()), "{}", states[1]);
    assert_eq!(states[1]["root"].as_str().unwrap().len(), 64);
    gate.stop().unwrap();
}

/// What the form of the draw's page sends.
pub fn receipt_form(receipt: &str) -> String {
    format!("receipt={}", receipt.replace('%', "%25").replace('&', "%26").replace('+', "%2B"))
}
