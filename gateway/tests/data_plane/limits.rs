//! The limit on requests in flight, quotas, and routes with a limit of their own.

use std::sync::atomic::Ordering;

use tidegate_filters::{
    FilterSettings, Rate, Span,
    plan::InFlightMax,
    route::{MatchSettings, RouteFilters, RouteSettings},
    rule::visitor_rate::{OnMissingKey, RateKey, VisitorRateSettings},
};

use crate::support::{Client, Gate, Shop, eventually, get, once, plain_policy, request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shop_never_sees_more_than_the_limit_and_overflow_is_told_when_to_come_back() {
    let shop = Shop::start().await;
    let mut policy = plain_policy(shop.addr);
    policy.shop.in_flight.max = InFlightMax::Fixed(2);
    policy.shop.in_flight.queue = 1;
    policy.shop.in_flight.wait_max = Span::secs(30);
    let gate = Gate::start(&policy).await;
    let mut held = Vec::new();
    for n in 1..=2 {
        let mut client = Client::connect(gate.addr()).await;
        client.send(get("/hold", &[])).await;
        eventually(|| shop.state.in_flight.load(Ordering::SeqCst) == n).await;
        held.push(client);
    }
    let mut queued = Client::connect(gate.addr()).await;
    queued.send(get("/queued", &[])).await;
    eventually(|| gate.shared.in_flight.observe().waiting == 1).await;
    let mut over = Client::connect(gate.addr()).await;
    let reply = over.ask(get("/over", &[])).await;
    assert_eq!((reply.status, reply.header("tidegate-reason")), (503, Some("SHOP_BUSY")));
    assert!(reply.header("retry-after").is_some_and(|v| v.parse::<u32>().is_ok_and(|n| n >= 1)));
    assert_eq!(reply.header("connection"), Some("keep-alive"));
    shop.state.release.notify_waiters();
    assert_eq!(queued.reply().await.map(|r| r.status), Some(200));
    for client in &mut held {
        assert_eq!(client.reply().await.map(|r| r.body), Some("released".into()));
    }
    assert_eq!(over.ask(get("/over", &[])).await.status, 200, "the same connection, later");
    assert_eq!(shop.state.in_flight_max.load(Ordering::SeqCst), 2);
    let queued_row = gate.rows(5).await.into_iter().find(|r| r.path == "/queued").unwrap();
    assert!(queued_row.queued_us > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_may_have_a_limit_of_its_own_and_a_reload_keeps_its_queue() {
    let shop = Shop::start().await;
    let mut policy = plain_policy(shop.addr);
    let matches = MatchSettings { prefix: Some("/hold".into()), ..MatchSettings::default() };
    policy.routes.insert(
        0,
        RouteSettings { name: "checkout".into(), matches, filters: RouteFilters::All, in_flight_max: Some(1), needs: None },
    );
    policy.shop.in_flight.wait_max = Span::secs(30);
    let gate = Gate::start(&policy).await;
    let mut first = Client::connect(gate.addr()).await;
    first.send(get("/hold", &[])).await;
    eventually(|| shop.state.in_flight.load(Ordering::SeqCst) == 1).await;
    let mut second = Client::connect(gate.addr()).await;
    second.send(get("/hold", &[])).await;
    let limit = gate.shared.active.load().route_limits[0].clone().unwrap();
    eventually(|| limit.observe().waiting == 1).await;
    assert_eq!(once(gate.addr(), get("/other", &[])).await.status, 200, "other routes go on");
    gate.shared.activate(crate::support::active(&policy, Some(&gate.shared)));
    assert_eq!(gate.shared.active.load().route_limits[0].as_ref().unwrap().observe().waiting, 1);
    shop.state.release.notify_waiters();
    assert_eq!(first.reply().await.map(|r| r.status), Some(200));
    eventually(|| shop.state.in_flight.load(Ordering::SeqCst) == 1).await;
    shop.state.release.notify_waiters();
    assert_eq!(second.reply().await.map(|r| r.status), Some(200));
}

/// One visitor with one pass and many connections has a share, and the others the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_visitor_cannot_take_the_shop_from_the_others() {
    let shop = Shop::start().await;
    let mut policy = crate::room::room_policy(&shop);
    policy.rooms[0].arm = tidegate_filters::seats::room::Arm::Auto;
    policy.shop.in_flight.max = InFlightMax::Fixed(4);
    policy.shop.in_flight.wait_max = Span::secs(30);
    let gate = Gate::start(&policy).await;
    let pass = crate::room::cookie_line(&once(gate.addr(), get("/x", &[])).await);
    let mut greedy = Vec::new();
    for _ in 0..5 {
        let mut client = Client::connect(gate.addr()).await;
        client.send(get("/hold", &[("cookie", &pass)])).await;
        greedy.push(client);
    }
    eventually(|| gate.shared.in_flight.observe().waiting == 3).await;
    assert_eq!(shop.state.in_flight.load(Ordering::SeqCst), 2, "half of four");
    assert_eq!(once(gate.addr(), get("/x", &[])).await.status, 200, "another visitor goes past who waits for himself");
    for _ in 0..3 {
        shop.state.release.notify_waiters();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for client in &mut greedy {
        assert_eq!(client.reply().await.map(|r| r.body), Some("released".into()));
    }
    assert_eq!(gate.shared.in_flight.observe().held, 0);
}

/// A buyer who sends an order byte by byte must not keep the others from ordering.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_upload_holds_no_place_at_the_shop() {
    let shop = Shop::start().await;
    let mut policy = plain_policy(shop.addr);
    policy.shop.in_flight.max = InFlightMax::Fixed(1);
    policy.shop.in_flight.wait_max = Span(50);
    let gate = Gate::start(&policy).await;
    let head = |length: &str| format!("POST /x HTTP/1.1\r\nhost: shop.example\r\n{length}\r\n\r\n");
    let mut declared = Client::connect(gate.addr()).await;
    declared.send(format!("{}0123456789", head("content-length: 30"))).await;
    let mut chunked = Client::connect(gate.addr()).await;
    chunked.send(format!("{}a\r\n0123456789\r\n", head("transfer-encoding: chunked"))).await;
    eventually(|| gate.shared.counts.parsed.get() == 2).await;
    for _ in 0..3 {
        assert_eq!(once(gate.addr(), request("POST", "/x", &[], "order")).await.status, 200);
    }
    assert_eq!(gate.shared.in_flight.observe().held, 0);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    declared.send("01234567890123456789").await;
    chunked.send("14\r\n01234567890123456789\r\n0\r\n\r\n").await;
    for client in [&mut declared, &mut chunked] {
        let reply = client.reply().await.unwrap();
        assert!(reply.status == 200 && reply.body.starts_with("POST /x 30\n"), "{reply:?}");
        assert_eq!(client.ask(get("/y", &[])).await.status, 200, "the connection is kept");
    }
    let uploads: Vec<_> = gate.rows(7).await.into_iter().filter(|r| r.total_us > 250_000).collect();
    assert_eq!(uploads.len(), 2);
    assert!(uploads.iter().all(|r| r.shop_us < 250_000), "the client's time is not the shop's: {uploads:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_arrive_whole_whatever_was_read_ahead() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    let mut client = Client::connect(gate.addr()).await;
    for size in [1, 60_000, 65_535, 65_536, 65_537, 70_000, 300_000] {
        let reply = client.ask(request("POST", "/x", &[], &"b".repeat(size))).await;
        assert!(reply.status == 200 && reply.body.starts_with(&format!("POST /x {size}\n")), "{size}: {reply:?}");
    }
    // Without a length, in two halves with a pause: more than is remembered, and not over yet.
    let half = |n: usize| format!("{n:x}\r\n{}\r\n", "c".repeat(n));
    client.send("POST /x HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n").await;
    client.send(half(50_000)).await;
    client.send(half(50_000)).await;
    eventually(|| gate.shared.in_flight.observe().held == 1).await;
    client.send("0\r\n\r\n").await;
    assert!(client.reply().await.unwrap().body.starts_with("POST /x 100000\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_with_a_limit_of_its_own_takes_no_large_uploads() {
    let shop = Shop::start().await;
    let mut policy = plain_policy(shop.addr);
    policy.routes.insert(
        0,
        RouteSettings {
            name: "checkout".into(),
            matches: MatchSettings { prefix: Some("/checkout".into()), ..MatchSettings::default() },
            in_flight_max: Some(1),
            ..policy.routes[0].clone()
        },
    );
    let gate = Gate::start(&policy).await;
    let large = "b".repeat(70_000);
    assert_eq!(once(gate.addr(), request("POST", "/checkout", &[], &large)).await.status, 413);
    assert_eq!(once(gate.addr(), request("POST", "/checkout", &[], "order")).await.status, 200);
    assert_eq!(once(gate.addr(), request("POST", "/other", &[], &large)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_no_http_is_the_clients_fault() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    for chunk in ["ZZ\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n", "ffffffffffffffffffff\r\nhello"] {
        let text = format!("POST /x HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n{chunk}");
        let reply = once(gate.addr(), text).await;
        assert_eq!((reply.status, reply.header("tidegate-reason")), (400, Some("BAD_REQUEST")), "{chunk:?} {reply:?}");
    }
    assert_eq!(shop.state.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_up_quota_is_a_429_with_headers_on_a_kept_connection() {
    let shop = Shop::start().await;
    let mut policy = plain_policy(shop.addr);
    policy.filters.push(FilterSettings::VisitorRate(VisitorRateSettings {
        name: "per-visitor".into(),
        key: RateKey::Visitor,
        rate: Rate { events: 1, per_ms: 60_000 },
        burst: 2,
        keys_max: 1_000,
        ipv6_prefix: 64,
        on_missing_key: OnMissingKey::Shared,
        shadow: false,
    }));
    let gate = Gate::start(&policy).await;
    let mut client = Client::connect(gate.addr()).await;
    for _ in 0..2 {
        assert_eq!(client.ask(get("/x", &[])).await.status, 200);
    }
    let reply = client.ask(request("POST", "/x", &[], "body")).await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.header("tidegate-verdict"), Some("throttle"));
    assert_eq!(reply.header("ratelimit-policy"), Some("\"per-visitor\";q=2;w=120"));
    assert!(reply.header("ratelimit").is_some_and(|v| v.starts_with("\"per-visitor\";r=0;t=")), "{reply:?}");
    assert!(reply.header("retry-after").is_some_and(|v| v.parse::<u32>().is_ok_and(|n| n >= 1)));
    assert_eq!(reply.header("cache-control"), Some("no-store, private"));
    assert_eq!(reply.json()["reason"], "RATE_EXCEEDED");
    let again = client.ask(get("/x", &[("accept", "text/html")])).await;
    assert_eq!(again.status, 429);
    assert!(again.body.contains("<html lang"), "a page for a browser, on the same connection");
    assert_eq!(shop.state.requests.load(Ordering::SeqCst), 2);
    let rows = gate.rows(4).await;
    assert_eq!((rows[2].verdict, &*rows[2].filter), ("throttle", "per-visitor"));
}
