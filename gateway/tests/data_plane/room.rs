//! A visitor's way through a room: place, page, status, claim, pass, leaving.

use tidegate_config::Policy;
use tidegate_filters::{
    FilterSettings, Rate, Reason,
    plan::Admission,
    record::Kind,
    rule::waiting_room::WaitingRoomSettings,
    seats::room::{Arm, RoomSettings},
};

use crate::support::{Client, Gate, Reply, Shop, get, once, plain_policy, request};

pub const HTML: (&str, &str) = ("accept", "text/html");
pub const JSON: (&str, &str) = ("accept", "application/json");

pub fn room_policy(shop: &Shop) -> Policy {
    let mut policy = plain_policy(shop.addr);
    let zero = Policy::zero_config(vec![], "127.0.0.1:0".parse().unwrap());
    let template: &RoomSettings = &zero.rooms[0];
    policy.rooms.push(RoomSettings {
        name: "drop".into(),
        arm: Arm::Always,
        admission: Admission::Fixed(Rate::per_s(1_000)),
        ..template.clone()
    });
    policy.filters.push(FilterSettings::WaitingRoom(WaitingRoomSettings { room: "drop".into(), routes: vec![], shadow: false }));
    policy
}

pub fn cookie_line(reply: &Reply) -> String {
    reply.cookies().join("; ")
}

/// Asks for the status until it is `state`.
pub async fn until(gate: &Gate, cookies: &str, state: &str) -> Reply {
    let mut client = Client::connect(gate.addr()).await;
    for _ in 0..500 {
        let reply = client.ask(get("/.tidegate/status?room=drop", &[JSON, ("cookie", cookies)])).await;
        if reply.json()["state"] == state {
            return reply;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never {state}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_first_page_to_the_shop_as_a_script() {
    let shop = Shop::start().await;
    let gate = Gate::start(&room_policy(&shop)).await;
    let first = once(gate.addr(), get("/drop", &[JSON])).await;
    assert_eq!((first.status, first.header("tidegate-verdict")), (200, Some("wait")));
    assert_eq!(first.json()["room"], "drop");
    assert_eq!(first.json()["place"], 0);
    assert!(first.json()["poll_after_s"].as_u64().is_some_and(|n| n >= 1));
    assert!(first.header("retry-after").is_some());
    let cookies = cookie_line(&first);
    assert!(cookies.contains("tidegate-ticket-drop=") && cookies.contains("tidegate-visitor="), "{cookies}");
    let called = until(&gate, &cookies, "called").await;
    assert_eq!(called.json()["claim"]["url"], "/.tidegate/claim");
    // A place is no pass.
    let post = once(gate.addr(), request("POST", "/drop", &[("cookie", &cookies)], "x")).await;
    assert_eq!((post.status, post.header("tidegate-reason")), (403, Some("NO_PASS")));
    let claim = once(gate.addr(), request("POST", "/.tidegate/claim", &[JSON, ("cookie", &cookies)], "room=drop")).await;
    assert_eq!((claim.status, &claim.json()["state"]), (200, &"seated".into()), "{claim:?}");
    let pass = cookie_line(&claim);
    assert!(pass.contains("tidegate-pass-drop="));
    let again = once(gate.addr(), request("POST", "/.tidegate/claim", &[JSON, ("cookie", &cookies)], "room=drop")).await;
    assert_eq!(again.json()["state"], "seated", "the first answer may have been lost");
    let inside = once(gate.addr(), request("POST", "/buy", &[("cookie", &pass)], "x")).await;
    assert_eq!(inside.body.lines().next(), Some("POST /buy 1"));
    assert!(!inside.body.contains("tidegate"), "{}", inside.body);
    let seated = once(gate.addr(), get("/.tidegate/status", &[JSON, ("cookie", &pass)])).await;
    assert_eq!(seated.json()["state"], "seated");
    let rows = gate.rows(gate.shared.counts.parsed.get() as usize).await;
    let joined: Vec<_> = rows.iter().filter(|r| r.joined).collect();
    let given: Vec<_> = rows.iter().filter(|r| r.seated).collect();
    assert_eq!((joined.len(), joined[0].place, &*joined[0].room), (1, 0, "drop"));
    assert!(given.iter().all(|r| r.kind == Kind::Claim && (r.seat, r.generation) == (given[0].seat, given[0].generation)));
    assert!(rows.iter().any(|r| r.reason == Some(Reason::Pass) && r.seat == given[0].seat));
    assert_eq!(rows.len() as u64, gate.shared.counts.parsed.get());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_first_page_to_the_shop_without_javascript() {
    let shop = Shop::start().await;
    let gate = Gate::start(&room_policy(&shop)).await;
    let first = once(gate.addr(), get("/drop?a=1&b=<x".replace('<', "%3C").as_str(), &[HTML])).await;
    assert_eq!(first.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(first.body.len() <= 15 << 10, "{} bytes", first.body.len());
    assert!(first.body.contains("http-equiv=\"refresh\"") && first.body.contains("name=\"to\" value=\"/drop?a=1&amp;b=%3Cx\""));
    assert!(!first.body.contains("{{"));
    assert_eq!(first.header("cache-control"), Some("no-store, private"));
    let cookies = cookie_line(&first);
    until(&gate, &cookies, "called").await;
    let page = once(gate.addr(), get("/drop", &[HTML, ("cookie", &cookies)])).await;
    assert!(page.body.contains("It is your turn") && page.body.contains("<section id=\"turn\">"), "the button shows");
    assert!(page.cookies().is_empty(), "nothing new to tell");
    let form = "room=drop&to=%2Fdrop%3Fa%3D1";
    let origin = ("origin", "http://shop.example");
    let claim = once(gate.addr(), request("POST", "/.tidegate/claim", &[HTML, origin, ("cookie", &cookies)], form)).await;
    assert_eq!((claim.status, claim.header("location")), (303, Some("/drop?a=1")));
    let inside = once(gate.addr(), get("/drop?a=1", &[HTML, ("cookie", &cookie_line(&claim))])).await;
    assert_eq!(inside.body.lines().next(), Some("GET /drop?a=1 0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_of_other_sites_and_foreign_tokens_get_nothing() {
    let shop = Shop::start().await;
    let gate = Gate::start(&room_policy(&shop)).await;
    let cookies = cookie_line(&once(gate.addr(), get("/drop", &[JSON])).await);
    until(&gate, &cookies, "called").await;
    for origin in ["https://evil.example", "null", "http://shop.example.evil.example"] {
        let claim = [JSON, ("origin", origin), ("cookie", &cookies)];
        let reply = once(gate.addr(), request("POST", "/.tidegate/claim", &claim, "room=drop")).await;
        assert_eq!(reply.status, 403, "{origin}");
    }
    let bare = once(gate.addr(), request("POST", "/.tidegate/claim", &[JSON], "room=drop")).await;
    assert_eq!(bare.status, 409);
    let other_host =
        "POST /.tidegate/claim HTTP/1.1\r\nhost: other.example\r\naccept: application/json\r\ncontent-length: 9\r\ncookie: ";
    let reply = once(gate.addr(), format!("{other_host}{cookies}\r\n\r\nroom=drop")).await;
    assert_eq!(reply.status, 409, "a ticket counts on the host it was given for");
    let forged = cookies.replace("ticket-drop=A", "ticket-drop=B");
    let reply = once(gate.addr(), get("/.tidegate/status?room=drop", &[JSON, ("cookie", &forged)])).await;
    assert_eq!((reply.status, &reply.json()["state"]), (404, &"none".into()));
    let large = request("POST", "/.tidegate/claim", &[JSON], &"x".repeat(9_000));
    assert_eq!(once(gate.addr(), large).await.status, 413);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_gives_the_place_back() {
    let shop = Shop::start().await;
    let gate = Gate::start(&room_policy(&shop)).await;
    let cookies = cookie_line(&once(gate.addr(), get("/drop", &[JSON])).await);
    let left = once(gate.addr(), request("POST", "/.tidegate/leave", &[JSON, ("cookie", &cookies)], "room=drop")).await;
    assert_eq!((left.status, &left.json()["state"]), (200, &"left".into()));
    assert!(left.headers.iter().any(|(k, v)| k.eq_ignore_ascii_case("set-cookie") && v.contains("Max-Age=0")));
    let status = once(gate.addr(), get("/.tidegate/status?room=drop", &[JSON, ("cookie", &cookies)])).await;
    assert_eq!(status.status, 404);
    let stats = gate.shared.active.load().pipeline.rooms()[0].stats(gate.shared.clock.now());
    assert_eq!((stats.arrived, stats.left, stats.waiting), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_room_gives_a_pass_with_the_shops_own_page() {
    let shop = Shop::start().await;
    let mut policy = room_policy(&shop);
    policy.rooms[0].arm = Arm::Auto;
    let gate = Gate::start(&policy).await;
    let mut reply = Reply::default();
    for _ in 0..100 {
        reply = once(gate.addr(), get("/drop", &[HTML])).await;
        if reply.header("tidegate-verdict").is_none() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(reply.body.lines().next(), Some("GET /drop 0"), "{reply:?}");
    assert!(cookie_line(&reply).contains("tidegate-pass-drop="));
    assert_eq!(reply.header("cache-control"), Some("private, no-store"), "no cache may hand the pass on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_pages_know_their_methods_and_names() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    let mut client = Client::connect(gate.addr()).await;
    assert_eq!(client.ask(get("/.tidegate/health", &[])).await.json()["status"], "ok");
    assert_eq!(client.ask(get("/.tidegate/claim", &[])).await.status, 405);
    assert_eq!(client.ask(request("POST", "/.tidegate/status", &[], "")).await.status, 405);
    let unknown = client.ask(get("/x/../.tidegate/nothing", &[])).await;
    assert_eq!((unknown.status, unknown.header("tidegate-verdict")), (404, Some("own")));
    assert!(gate.rows(4).await.iter().all(|r| r.reason == Some(Reason::Own)));
}
