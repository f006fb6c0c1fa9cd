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
