#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::{
    gate::Gate,
    testing::{Answer, Bench, call},
};

fn without_token(gate: &Gate, method: &str, path: &str) -> Answer {
    call(gate.admin_address().unwrap(), method, path, "", b"")
}

#[test]
fn only_health_readiness_and_the_page_need_no_token() {
    let bench = Bench::new();
    let gate = bench.start("");
    for path in ["/healthz", "/readyz", "/"] {
        let answer = without_token(&gate, "GET", path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.head.contains("cache-control: no-store, private"), "{}", answer.head);
    }
    let paths =
        [("GET", "/metrics"), ("GET", "/v1/status"), ("GET", "/v1/rooms"), ("GET", "/v1/policy"), ("POST", "/v1/policy/apply")];
    for (method, path) in paths {
        let answer = without_token(&gate, method, path);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("TOKEN_NEEDED")), "{path}");
        assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
    }
    let wrong = format!("Authorization: Bearer {}\r\n", "0".repeat(64));
    assert_eq!(call(gate.admin_address().unwrap(), "GET", "/v1/status", &wrong, b"").status, 401);
    let unknown = without_token(&gate, "GET", "/v1/nothing");
    assert_eq!((unknown.status, unknown.json()["code"].as_str()), (404, Some("NO_SUCH_PATH")));
    assert_eq!(bench.admin(&gate, "DELETE", "/v1/rooms", "").json()["code"], "NO_SUCH_METHOD");
}

#[test]
fn status_and_metrics_tell_of_a_visit() {
    let bench = Bench::new();
    let gate = bench.start("");
    let visit = call(gate.addresses()[0], "GET", "/", "", b"");
    assert_eq!((visit.status, visit.body.as_str()), (200, "hello\n"));
    crate::testing::until("the row is counted", || {
        bench.admin(&gate, "GET", "/v1/status", "").json()["verdicts"]["forward"] == 1
    });
    let status = bench.admin(&gate, "GET", "/v1/status", "").json();
    assert_eq!(status["rooms"][0]["name"], "drop");
    assert_eq!(status["rooms"][0]["walk_ins"], 1);
    assert_eq!(status["ready"], true);
    assert_eq!(status["policy"]["source"], "file");
    assert_eq!(status["upstreams"][0]["healthy"], true);
    let metrics = bench.admin(&gate, "GET", "/metrics", "").body;
    assert!(metrics.contains("tidegate_requests_total{kind=\"visit\",verdict=\"forward\",reason=\"WALK_IN\"} 1"), "{metrics}");
    assert!(metrics.contains("tidegate_requests_parsed_total 1"), "{metrics}");
    assert!(!metrics.contains("127.0.0.1\"") && !metrics.contains("visitor=\""), "no visitor is a label");
}

#[test]
fn half_open_connections_do_not_keep_health_checks_out() {
    let bench = Bench::new();
    let gate = bench.start("");
    let address = gate.admin_address().unwrap();
    let hold = |_| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\n").unwrap();
        stream
    };
    let _held: Vec<_> = (0..super::listener::CONNECTIONS_MAX + 6).map(hold).collect();
    assert_eq!(without_token(&gate, "GET", "/healthz").status, 200);
}

#[test]
fn rooms_are_paused_slowed_and_spoken_to() {
    let bench = Bench::new();
    let gate = bench.start("");
    let paused = bench.admin(&gate, "POST", "/v1/rooms/drop/pause", "");
    assert_eq!((paused.status, &paused.json()["paused"]), (200, &true.into()));
    let json = "Accept: application/json\r\n";
    let visit = call(gate.addresses()[0], "GET", "/", json, b"");
    assert!(visit.head.contains("tidegate-reason: room_paused"), "{}", visit.head);
    assert_eq!(bench.admin(&gate, "POST", "/v1/rooms/drop/resume", "").json()["paused"], false);
    assert!(gate.control().rooms()[0].tokens > 1, "a burst to begin with");
    let slow = |body: &str| bench.admin(&gate, "POST", "/v1/rooms/drop/slow", body);
    assert_eq!(slow(r#"{"rate":"2/s"}"#).status, 200);
    crate::testing::until("the next plan obeys", || gate.control().rooms()[0].tokens <= 1);
    for bad in ["", "{}x", r#"{"rate":"2"}"#, r#"{"speed":"2/s"}"#, "[]"] {
        let answer = slow(bad);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("NOT_JSON")), "{bad}");
        assert!(answer.json()["instead"].as_str().unwrap().contains("10/s"));
    }
    let said = bench.admin(&gate, "POST", "/v1/rooms/drop/message", r#"{"text":"back at noon"}"#);
    assert_eq!(said.json()["message"], "back at noon");
    for bad in ["{}", r#"{"text":"a\u0000b"}"#, r#"{"text":"two\nlines"}"#, r#"{"text":"\u202eturned"}"#] {
        assert_eq!(bench.admin(&gate, "POST", "/v1/rooms/drop/message", bad).status, 400, "{bad}");
    }
    assert_eq!(bench.admin(&gate, "GET", "/v1/rooms", "").json()[0]["message"], "back at noon", "a mistake takes nothing back");
    assert_eq!(slow(r#"{"rate":"0/s"}"#).json()["code"], "NO_RATE");
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(501));
    assert_eq!(bench.admin(&gate, "POST", "/v1/rooms/drop/message", &long).status, 400);
    let timed = bench.admin(&gate, "POST", "/v1/rooms/drop/pause", r#"{"for":"5m"}"#);
    assert_eq!((timed.status, timed.json()["code"].as_str()), (400, Some("NO_VALUE")), "a pause that would not end");
    assert_eq!(bench.admin(&gate, "GET", "/v1/rooms", "").json()[0]["paused"], false);
    let missing = bench.admin(&gate, "POST", "/v1/rooms/drip/pause", "");
    assert_eq!(missing.status, 404);
    assert!(missing.json()["what"].as_str().unwrap().contains("drop"), "{}", missing.body);
}

/// A sale whose pre-queue is open, written in two ways.
fn sale() -> String {
    let hours = |h: i64| jiff::Timestamp::now() + jiff::SignedDuration::from_hours(h);
    let opens = hours(2).to_zoned(jiff::tz::TimeZone::UTC).datetime().round(jiff::Unit::Second).unwrap();
    format!(
        "sales: [{{ name: shoes, room: drop, prequeue_opens_at: {}, opens_at: \"{opens}[UTC]\", closes_at: {} }}]\n",
        hours(-1),
        hours(4)
    )
}

#[test]
fn rooms_are_drained_and_closed_and_sales_opened_and_ended() {
    let bench = Bench::new();
    let gate = bench.start(&sale());
    let act = |path: &str| bench.admin(&gate, "POST", path, "");
    let visit = || call(gate.addresses()[0], "GET", "/", "Accept: application/json\r\n", b"");
    assert_eq!(visit().json()["state"], "prequeue");
    assert_eq!(act("/v1/rooms/drop/drain").json()["doors"], "draining");
    let refused = visit();
    assert_eq!((refused.status, refused.json()["reason"].as_str()), (410, Some("ROOM_CLOSED")));
    assert_eq!(act("/v1/rooms/drop/close").json()["doors"], "closed");
    assert_eq!(act("/v1/rooms/drop/open").json()["doors"], "open");
    let sale = || bench.admin(&gate, "GET", "/v1/status", "").json()["sales"][0].clone();
    assert_eq!((&sale()["phase"], &sale()["moved"]), (&"prequeue".into(), &false.into()));
    assert_eq!(act("/v1/sales/shoes/open").status, 200);
    assert_eq!((&sale()["phase"], &sale()["moved"]), (&"open".into(), &true.into()));
    let again = act("/v1/sales/shoes/open");
    assert_eq!((again.status, again.json()["code"].as_str()), (409, Some("USELESS")));
    assert_eq!(act("/v1/sales/shoes/close").status, 200);
    assert_eq!(sale()["phase"], "closed");
    assert_eq!(act("/v1/sales/shoes/as_written").status, 200);
    assert_eq!(sale()["phase"], "prequeue");
    assert_eq!(act("/v1/sales/shoes/pause").json()["paused"], true, "a sale's room");
    assert_eq!(act("/v1/rooms/drop/as_written").status, 409);
    assert_eq!(act("/v1/rooms/drop/explode").json()["code"], "NO_ACTION");
    assert!(act("/v1/sales/boots/open").json()["what"].as_str().unwrap().contains("shoes"));
    gate.stop().unwrap();
    // Every one of them is in the journal, once, and what had no effect is not.
    let mut said = Vec::new();
    let files = std::fs::read_dir(bench.journal()).unwrap().map(|e| e.unwrap().path());
    for file in files.filter(|f| f.extension().is_some_and(|e| e == "parquet")) {
        let rows = tidegate_models::journal::read(&file).unwrap();
        said.extend(rows.into_iter().filter(|r| r.kind == tidegate_filters::record::Kind::Operator && r.method != "PLAN"));
    }
    let paths: Vec<&str> = said.iter().map(|r| r.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "room drop: drain",
            "room drop: close",
            "room drop: open",
            "sale shoes: open",
            "sale shoes: close",
            "sale shoes: as_written",
            "sale shoes: pause"
        ]
    );
    assert!(said.iter().all(|r| r.method == "ADMIN" && r.room == "drop" && r.reason == Some(tidegate_filters::Reason::Operator)));
}

#[test]
fn the_schedule_acts_by_itself_and_a_restart_does_what_was_due() {
    let bench = Bench::new();
    let schedule = "schedule:\n  - { at: 2020-01-01T00:00:00Z, room: drop, do: { message: early } }\n  \
                    - { at: 2020-01-02T00:00:00 Asia/Shanghai, sale: shoes, do: open }\n  \
                    - { at: 2020-01-03T00:00:00Z, room: drop, do: pause }\n  \
                    - { at: 2098-01-01T00:00:00Z, room: drop, do: close }\n";
    let gate = bench.start(&format!("{}{schedule}", sale()));
    crate::testing::until("what was due is done", || gate.control().rooms()[0].paused);
    let room = gate.control().rooms()[0].clone();
    assert_eq!((room.message.as_deref(), room.doors), (Some("early"), tidegate_filters::seats::operate::Doors::Open));
    assert_eq!(bench.admin(&gate, "GET", "/v1/status", "").json()["sales"][0]["phase"], "open");
    // What an operator does afterwards stays: nothing is done twice.
    assert_eq!(bench.admin(&gate, "POST", "/v1/rooms/drop/resume", "").status, 200);
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    assert!(!gate.control().rooms()[0].paused);
}

#[test]
fn what_operators_did_stands_after_a_restart_and_the_schedule_does_nothing_twice() {
    let bench = Bench::new();
    let state = format!("state: {{ directory: {} }}\n", bench.file().with_file_name("state").display());
    let schedule = "schedule:\n  - { at: 2020-01-03T00:00:00Z, room: drop, do: pause }\n  \
                    - { at: 2020-01-04T00:00:00Z, sale: shoes, do: { message: soon } }\n";
    // Without a pre-queue nothing is drawn: a drawn sale cannot be closed before it opens.
    let sale = sale();
    let (name, times) = sale.split_once("prequeue_opens_at: ").unwrap();
    let text = format!("{name}{}{state}{schedule}", times.split_once(", ").unwrap().1);
    let gate = bench.start(&text);
    crate::testing::until("what was due is done", || gate.control().rooms()[0].message.is_some());
    for act in ["rooms/drop/resume", "rooms/drop/drain", "sales/shoes/close"] {
        assert_eq!(bench.admin(&gate, "POST", &format!("/v1/{act}"), "").status, 200, "{act}");
    }
    assert_eq!(bench.admin(&gate, "POST", "/v1/rooms/drop/message", r#"{"text":null}"#).status, 200);
    drop(gate);
    let gate = bench.start(&text);
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let room = gate.control().rooms()[0].clone();
    let doors = tidegate_filters::seats::operate::Doors::Draining;
    assert_eq!((room.paused, room.doors, room.message), (false, doors, None));
    assert_eq!(bench.admin(&gate, "GET", "/v1/status", "").json()["sales"][0]["phase"], "closed");
}

#[test]
fn staff_go_past_the_room() {
    let bench = Bench::new();
    let gate = bench.start(&sale());
    let make = |body: &str| bench.admin(&gate, "POST", "/v1/bypass", body);
    let made = make(r#"{"host":"shop.example","room":"drop","for":"8h"}"#);
    assert_eq!(made.status, 200, "{}", made.body);
    let made = made.json();
    let (token, path) = (made["token"].as_str().unwrap(), made["path"].as_str().unwrap());
    let with_host = |path: &str, headers: &str| {
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\nAccept: application/json\r\n{headers}\r\n"
        );
        crate::testing::raw(gate.addresses()[0], text.as_bytes())
    };
    assert_eq!(with_host("/", "").json()["state"], "prequeue");
    let header = format!("Authorization: Tidegate {token}\r\n");
    assert_eq!(with_host("/", &header).body, "hello\n");
    let link = with_host(path, "");
    assert_eq!(link.status, 303, "{}", link.head);
    assert!(link.head.contains("set-cookie: tidegate-bypass=") && link.head.contains("httponly"), "{}", link.head);
    assert_eq!(with_host("/", &format!("Cookie: tidegate-bypass={token}\r\n")).body, "hello\n");
    assert_eq!(with_host("/.tidegate/bypass?token=AAAA", "").status, 403);
    for bad in [
        r#"{"host":"shop.example","room":"drip","for":"8h"}"#,
        r#"{"host":"a b","for":"8h"}"#,
        r#"{"host":"a","for":"900d"}"#,
        "{}",
    ] {
        let refused = make(bad);
        assert!((400..500).contains(&refused.status) && !refused.json()["instead"].as_str().unwrap().is_empty(), "{bad}");
    }
}

#[test]
fn a_policy_is_shown_checked_and_applied() {
    let bench = Bench::new();
    let gate = bench.start("");
    assert_eq!(bench.admin(&gate, "GET", "/v1/policy", "").body, bench.policy(""));
    let bad = bench.policy("rooms_: 1\n");
    let refused = bench.admin(&gate, "POST", "/v1/policy/check", &bad);
    assert_eq!((refused.status, refused.json()["code"].as_str()), (422, Some("POLICY")));
    assert!(refused.json()["errors"][0]["line"].as_u64().unwrap() > 5, "{}", refused.body);
    let other = bench.policy("threads: 3\nown_prefix: /gate/\n");
    let checked = bench.admin(&gate, "POST", "/v1/policy/check", &other).json();
    assert_eq!((&checked["applied"], &checked["needs_restart"][0]), (&false.into(), &"threads".into()));
    assert_eq!(bench.admin(&gate, "POST", "/v1/policy/apply", &bad).status, 422);
    assert_eq!(bench.admin(&gate, "GET", "/v1/policy", "").body, bench.policy(""), "the old one stays");
    let applied = bench.admin(&gate, "POST", "/v1/policy/apply", &other);
    assert_eq!(applied.status, 200, "{}", applied.body);
    assert!(applied.json()["note"].as_str().unwrap().contains("in memory"));
    assert_eq!(bench.admin(&gate, "GET", "/v1/policy", "").body, other);
    let status = bench.admin(&gate, "GET", "/v1/status", "").json();
    assert_eq!(
        (status["policy"]["source"].as_str(), status["policy"]["needs_restart"][0].as_str()),
        (Some("api"), Some("threads"))
    );
    assert_eq!(std::fs::read_to_string(bench.file()).unwrap(), bench.policy(""), "the file is as it was");
    let back = bench.admin(&gate, "POST", "/v1/policy/reload", "");
    assert_eq!(back.status, 200, "{}", back.body);
    assert_eq!(bench.admin(&gate, "GET", "/v1/policy", "").body, bench.policy(""));
}

#[test]
fn bodies_are_bounded_and_must_be_text() {
    let bench = Bench::new();
    let gate = bench.start("");
    let authorization = format!("Authorization: Bearer {}\r\n", bench.token());
    let send = |body: &[u8]| call(gate.admin_address().unwrap(), "POST", "/v1/policy/check", &authorization, body);
    assert_eq!(send(&vec![b'#'; super::BODY_MAX + 1]).status, 413);
    assert_eq!(send(&[0xff, 0xfe]).json()["code"], "NOT_TEXT");
    assert_eq!(send(b" \n").json()["code"], "EMPTY");
}

#[test]
fn without_a_token_file_only_health_answers() {
    let bench = Bench::new();
    let admin = tidegate_config::Admin { address: "127.0.0.1:0".parse().unwrap(), token_file: None };
    let loaded = tidegate_config::parse(&bench.policy(""), "test").unwrap();
    let options = crate::gate::GateOptions { admin: Some(admin), ..crate::gate::GateOptions::new(loaded) };
    let gate = Gate::start(options).unwrap();
    assert_eq!(without_token(&gate, "GET", "/readyz").status, 200);
    let answer = call(gate.admin_address().unwrap(), "GET", "/metrics", "Authorization: Bearer x\r\n", b"");
    assert_eq!((answer.status, answer.json()["code"].as_str()), (403, Some("NO_TOKEN_FILE")));
}
