//! What waiting people and their programs are told: languages, JSON, live pages, when to ask again, more time.

use std::time::Duration;

use tidegate_filters::{Reason, Span};
use tokio::io::AsyncReadExt as _;

use crate::{
    room::{HTML, JSON, cookie_line, room_policy, until},
    support::{Client, Gate, SOON, Shop, get, once, request},
};

/// A room in which nobody is called.
async fn full_room(streams_max: u32) -> Gate {
    let shop = Shop::start().await;
    let mut policy = room_policy(&shop);
    policy.connections.streams_max = streams_max;
    let gate = Gate::start(&policy).await;
    room(&gate, |r| r.pause(true));
    gate
}

fn room<T>(gate: &Gate, f: impl FnOnce(&tidegate_filters::seats::room::Room) -> T) -> T {
    f(&gate.shared.active.load().pipeline.rooms()[0])
}

/// Reads a stream until it holds `what`.
async fn read_until(client: &mut Client, what: &str) -> String {
    let mut text = String::new();
    let read = async {
        while !text.contains(what) {
            let mut bytes = [0; 4_096];
            let n = client.stream.read(&mut bytes).await.unwrap();
            assert!(n > 0, "the stream ended: {text}");
            text += &String::from_utf8_lossy(&bytes[..n]);
        }
    };
    let waited = tokio::time::timeout(SOON, read).await;
    assert!(waited.is_ok(), "no {what:?} in: {text}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_speak_the_language_that_is_asked_for() {
    let gate = full_room(10).await;
    for (asked, tag, said) in [
        ("de-CH,de;q=0.9", "de", "Die Warteschlange steht still"),
        ("ar", "ar", "dir=\"rtl\""),
        ("xx", "en", "The line is paused"),
        ("ja;q=0.5, zh", "zh", "排队已暂停"),
    ] {
        let page = once(gate.addr(), get("/drop", &[HTML, ("accept-language", asked)])).await;
        assert_eq!((page.status, page.header("content-language")), (200, Some(tag)), "{asked}");
        assert!(page.body.contains(said) && page.body.contains(&format!("lang=\"{tag}\"")), "{asked}: {}", page.body);
        // Whoever drives a page without its script finds room and state here, in every language.
        assert!(page.body.contains("<main data-room=\"drop\" data-state=\"paused\">"), "{}", page.body);
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
        assert!(page.header("vary").unwrap().contains("Accept-Language"));
    }
    let refused = once(gate.addr(), request("POST", "/.tidegate/challenge", &[HTML, ("accept-language", "fr")], "proof=x")).await;
    assert!(refused.body.contains("Cette page a expiré"), "{}", refused.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_has_the_names_that_apps_know() {
    let gate = full_room(10).await;
    let first = once(gate.addr(), get("/drop", &[JSON])).await.json();
    let known = first["waitingRoom"].as_object().unwrap();
    for name in [
        "inWaitingRoom",
        "waitTimeKnown",
        "waitTime",
        "waitTime25Percentile",
        "waitTime50Percentile",
        "waitTime75Percentile",
        "waitTimeFormatted",
        "queueIsFull",
        "queueAll",
        "lastUpdated",
        "refreshIntervalSeconds",
        "queueingMethod",
        "isFIFOQueue",
        "isRandomQueue",
        "isPassthroughQueue",
        "isRejectQueue",
        "isEventActive",
        "isEventPrequeueing",
        "timeUntilEventStart",
        "timeUntilEventStartFormatted",
        "timeUntilEventEnd",
        "timeUntilEventEndFormatted",
        "shuffleAtEventStart",
    ] {
        assert!(known.contains_key(name), "{name} is missing");
    }
    assert_eq!((&known["inWaitingRoom"], &known["queueAll"], &known["isFIFOQueue"]), (&true.into(), &true.into(), &true.into()));
    assert_eq!(known["refreshIntervalSeconds"], first["poll_after_s"]);
    let updated = known["lastUpdated"].as_str().unwrap();
    assert!(updated.ends_with('Z') && updated.len() == 24, "{updated}");
    assert_eq!(first["because"], "paused");
    assert_eq!(first["events_url"], "/.tidegate/events?room=drop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_page_hears_the_operator_and_the_frontier() {
    let gate = full_room(10).await;
    let cookies = cookie_line(&once(gate.addr(), get("/drop", &[JSON])).await);
    let mut page = Client::connect(gate.addr()).await;
    page.send(get("/.tidegate/events?room=drop", &[("accept", "text/event-stream"), ("cookie", &cookies)])).await;
    let head = read_until(&mut page, "\"frontier\":[0,0]").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
    assert!(head.contains("retry: ") && head.contains("\"stage\":\"paused\"") && head.contains("\"message\":null"), "{head}");
    assert_eq!(gate.shared.live.open(), 1);
    room(&gate, |r| r.message(Some("back in \"ten\" minutes\n\nbye".into())));
    let said = read_until(&mut page, "minutes").await;
    assert!(said.contains(r#""message":"back in \"ten\" minutes\n\nbye""#), "{said}");
    room(&gate, |r| r.pause(false));
    read_until(&mut page, "\"frontier\":[1,0]").await;
    drop(page);
    // It is noticed by writing to it.
    let gone = || {
        room(&gate, |r| r.message(Some(gate.shared.clock.now().mono_ns.to_string())));
        gate.shared.live.open() == 0
    };
    crate::support::eventually(gone).await;
    let rows = gate.rows(gate.shared.counts.parsed.get() as usize).await;
    assert!(rows.iter().any(|r| r.path == "/.tidegate/events" && r.place == 0 && r.bytes > 100), "a stream has its row");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_pages_are_capped_and_the_others_poll() {
    let gate = full_room(2).await;
    let mut pages = Vec::new();
    for _ in 0..3 {
        let cookies = cookie_line(&once(gate.addr(), get("/drop", &[JSON])).await);
        let mut page = Client::connect(gate.addr()).await;
        page.send(get("/.tidegate/events", &[("cookie", &cookies)])).await;
        let status = read_until(&mut page, "\r\n").await;
        pages.push((page, status));
    }
    let statuses: Vec<&str> = pages.iter().map(|(_, s)| &s[9..12]).collect();
    assert_eq!(statuses, ["200", "200", "503"]);
    let stranger = once(gate.addr(), get("/.tidegate/events", &[])).await;
    assert_eq!(stranger.status, 404, "who has no place hears nothing");
    assert_eq!(once(gate.addr(), request("POST", "/.tidegate/events", &[], "")).await.status, 405);
    // One visitor cannot take them all.
    drop(pages);
    crate::support::eventually(|| {
        gate.shared.live.open() == 0 || {
            room(&gate, |r| r.message(Some(gate.shared.clock.now().mono_ns.to_string())));
            false
        }
    })
    .await;
    let old = Gate::start(&gate.shared.active.load().policy).await;
    let http10 = format!(
        "GET /.tidegate/events HTTP/1.0\r\nhost: shop.example\r\ncookie: {}\r\n\r\n",
        cookie_line(&once(old.addr(), get("/drop", &[JSON])).await)
    );
    assert_eq!(once(old.addr(), http10).await.status, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_visitor_cannot_take_all_streams() {
    let gate = full_room(100).await;
    let cookies = cookie_line(&once(gate.addr(), get("/drop", &[JSON])).await);
    let mut pages = Vec::new();
    for _ in 0..4 {
        let mut page = Client::connect(gate.addr()).await;
        page.send(get("/.tidegate/events", &[("cookie", &cookies)])).await;
        let status = read_until(&mut page, "\r\n").await;
        pages.push((page, status));
    }
    let statuses: Vec<&str> = pages.iter().map(|(_, s)| &s[9..12]).collect();
    assert_eq!(statuses, ["200", "200", "200", "503"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_polls_too_early_is_throttled_and_not_served() {
    let gate = full_room(10).await;
    let first = once(gate.addr(), get("/drop", &[JSON])).await;
    let after_s = first.json()["poll_after_s"].as_u64().unwrap();
    let cookies = cookie_line(&first);
    let poll = || once(gate.addr(), get("/.tidegate/status?room=drop", &[JSON, ("cookie", &cookies)]));
    for _ in 0..5 {
        let early = poll().await;
        assert_eq!((early.status, early.header("tidegate-reason")), (429, Some("POLLED_EARLY")));
        let retry_s: u64 = early.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=after_s).contains(&retry_s), "{retry_s} of {after_s}");
        assert!(!early.body.contains("\"place\""), "nothing is told");
    }
    gate.shared.clock.advance(after_s * 1_000);
    let due = poll().await;
    assert_eq!((due.status, due.json()["place"].as_u64()), (200, Some(0)));
    let rows = gate.rows(7).await;
    assert_eq!(rows.iter().filter(|r| r.reason == Some(Reason::PolledEarly) && r.verdict == "throttle").count(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_called_visitor_may_ask_for_more_time() {
    let shop = Shop::start().await;
    let mut policy = room_policy(&shop);
    policy.rooms[0].claim_window = Span::secs(60);
    let gate = Gate::start(&policy).await;
    let first = once(gate.addr(), get("/drop", &[JSON])).await;
    let cookies = cookie_line(&first);
    let extend = |headers: Vec<(&'static str, String)>| {
        let headers: Vec<(&str, String)> = headers;
        let cookies = cookies.clone();
        let addr = gate.addr();
        async move {
            let mut all: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (*k, v.as_str())).collect();
            all.push(("cookie", &cookies));
            once(addr, request("POST", "/.tidegate/extend", &all, "room=drop&to=%2Fdrop")).await
        }
    };
    let json = || vec![("accept", "application/json".to_owned())];
    let called = until(&gate, &cookies, "called").await.json();
    assert_eq!(called["claim"]["extend"]["url"], "/.tidegate/extend");
    gate.shared.clock.advance(40_000);
    let more = extend(json()).await;
    assert_eq!((more.status, more.json()["state"].as_str()), (200, Some("called")));
    assert!(more.json()["claim"]["expires_in_s"].as_u64().unwrap() >= 59, "{}", more.body);
    let html = vec![("accept", "text/html".to_owned()), ("origin", "http://shop.example".to_owned())];
    let page = extend(html).await;
    assert_eq!((page.status, page.header("location")), (303, Some("/drop")), "works without JavaScript");
    let evil = vec![("accept", "text/html".to_owned()), ("origin", "https://evil.example".to_owned())];
    assert_eq!(extend(evil).await.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_only_look_are_told_the_truth_with_the_chosen_status() {
    let shop = Shop::start().await;
    let mut policy = room_policy(&shop);
    let bot = ("user-agent", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)");
    for status in [503, 429] {
        policy.rooms[0].status_for_crawlers = status;
        let gate = Gate::start(&policy).await;
        for (method, headers) in
            [("GET", vec![HTML, bot]), ("HEAD", vec![HTML]), ("GET", vec![HTML, ("sec-purpose", "prefetch")])]
        {
            let mut client = Client::connect(gate.addr()).await;
            client.send(request(method, "/drop", &headers, "")).await;
            let head = read_until(&mut client, "\r\n\r\n").await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{method}: {head}");
            let lower = head.to_lowercase();
            assert!(lower.contains("retry-after: ") && lower.contains("tidegate-reason: people_wait"), "{head}");
            assert!(!lower.contains("set-cookie"), "nobody of them waits: {head}");
        }
        assert_eq!(room(&gate, |r| r.stats(gate.shared.clock.now())).arrived, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_waits_in_two_rooms_and_the_one_that_names_a_route_wins() {
    let shop = Shop::start().await;
    let mut policy = room_policy(&shop);
    policy
        .routes
        .insert(0, serde_json::from_value(serde_json::json!({ "name": "drop", "match": { "prefix": "/drop" } })).unwrap());
    let second = tidegate_filters::seats::room::RoomSettings { name: "narrow".into(), ..policy.rooms[0].clone() };
    policy.rooms.push(second);
    // Below the room that covers everything: the more specific one wins all the same.
    policy
        .filters
        .push(serde_json::from_value(serde_json::json!({ "waiting_room": { "room": "narrow", "routes": ["drop"] } })).unwrap());
    let gate = Gate::start(&policy).await;
    let narrow = once(gate.addr(), get("/drop/shoes", &[JSON])).await;
    assert_eq!(narrow.json()["room"], "narrow");
    let cookies = cookie_line(&narrow);
    let wide = once(gate.addr(), get("/other", &[JSON, ("cookie", &cookies)])).await;
    assert_eq!(wide.json()["room"], "drop");
    let both = format!("{cookies}; {}", cookie_line(&wide));
    for (name, target) in [("narrow", "/drop/shoes"), ("drop", "/other")] {
        let called = loop {
            let status = once(gate.addr(), get(&format!("/.tidegate/status?room={name}"), &[JSON, ("cookie", &both)])).await;
            if status.json()["state"] == "called" {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(called.json()["room"], name);
        let form = format!("room={name}");
        let claim = once(gate.addr(), request("POST", "/.tidegate/claim", &[JSON, ("cookie", &both)], &form)).await;
        let pass = cookie_line(&claim);
        assert!(pass.contains(&format!("tidegate-pass-{name}=")), "{claim:?}");
        let inside = once(gate.addr(), request("POST", target, &[("cookie", &pass)], "x")).await;
        assert_eq!(inside.body.lines().next(), Some(format!("POST {target} 1").as_str()));
        let other = if name == "narrow" { "/other" } else { "/drop/shoes" };
        assert_eq!(once(gate.addr(), request("POST", other, &[("cookie", &pass)], "x")).await.status, 403, "a pass of one room");
    }
}
