//! Requests to the shop and back: what is added, taken out, bounded, retried and said when the shop fails.

use std::{sync::atomic::Ordering, time::Duration};

use tidegate_config::{ByteRate, Health, Upstream};
use tidegate_filters::{ByteSize, Reason, Span};
use tokio::io::AsyncReadExt as _;

use crate::support::{Client, Gate, SOON, Shop, eventually, get, once, plain_policy, raw_shop, request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_ours_leaks_and_nothing_can_be_spoofed() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    let headers = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=6.6.6.6"),
        ("tidegate-pass", "yes"),
        ("cookie", "sid=9; tidegate-visitor=abc; __Host-tidegate-pass-drop=def"),
        ("authorization", "Tidegate abc, def"),
        ("connection", "x-secret"),
        ("x-secret", "1"),
        ("x-kept", "1"),
    ];
    let body = once(gate.addr(), get("/x", &headers)).await.body;
    for line in [
        "x-forwarded-for: 127.0.0.1",
        "x-real-ip: 127.0.0.1",
        "x-forwarded-proto: http",
        "cookie: sid=9",
        "x-kept: 1",
        "host: shop.example",
    ] {
        assert!(body.lines().any(|l| l == line), "{line} in {body}");
    }
    for gone in ["6.6.6.6", "tidegate", "authorization", "x-secret", "forwarded: for"] {
        assert!(!body.contains(gone), "{gone} in {body}");
    }
    let reply = once(gate.addr(), get("/x", &[("connection", "host")])).await;
    assert_eq!(reply.status, 400, "a header that routing depends on cannot be nominated away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_proxy_names_the_client() {
    let shop = Shop::start().await;
    let mut policy = plain_policy(shop.addr);
    policy.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let gate = Gate::start(&policy).await;
    let body =
        once(gate.addr(), get("/x", &[("x-forwarded-for", "1.1.1.1, 203.0.113.9"), ("x-forwarded-proto", "https")])).await.body;
    assert!(body.contains("x-forwarded-for: 203.0.113.9\n"), "{body}");
    assert!(body.contains("x-forwarded-proto: https\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_cleaned_and_streamed_whole() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    let reply = once(gate.addr(), get("/sold", &[])).await;
    assert_eq!((reply.status, reply.header("set-cookie")), (200, Some("sid=1")));
    assert!(reply.headers.iter().all(|(k, _)| !k.to_lowercase().starts_with("tidegate-")), "{reply:?}");
    assert_eq!(once(gate.addr(), get("/big", &[])).await.body.len(), 1 << 20);
    let rows = gate.rows(2).await;
    assert_eq!((rows[0].sold, rows[1].bytes), (3, 1 << 20));
    let body = "b".repeat(300_000);
    let reply = once(gate.addr(), request("POST", "/up", &[], &body)).await;
    assert_eq!(reply.body.lines().next(), Some("POST /up 300000"));
    let chunked = "POST /up HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(once(gate.addr(), chunked).await.body.lines().next(), Some("POST /up 5"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_http_1_0_gets_no_chunks() {
    let chunked = raw_shop(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").await;
    let gate = Gate::start(&plain_policy(chunked)).await;
    let reply = once(gate.addr(), "GET /x HTTP/1.0\r\nhost: shop.example\r\n\r\n").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "hello"), "{reply:?}");
    assert_eq!((reply.header("transfer-encoding"), reply.header("connection")), (None, Some("close")));
    let echo = Gate::start(&plain_policy(Shop::start().await.addr)).await;
    let reply = once(echo.addr(), "GET /x HTTP/1.0\r\n\r\n").await;
    assert!(reply.body.contains("\nhost: 127.0.0.1:"), "HTTP/1.1 must have a Host: {}", reply.body);
    let newer = once(gate.addr(), get("/x", &[("connection", "close")])).await;
    assert_eq!(newer.header("transfer-encoding"), Some("chunked"), "HTTP/1.1 does");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_are_bounded_declared_or_not() {
    let shop = Shop::start().await;
    let mut policy = plain_policy(shop.addr);
    policy.limits_of_a_request.body_bytes = ByteSize(1_000);
    let gate = Gate::start(&policy).await;
    let reply = once(gate.addr(), request("POST", "/up", &[], &"b".repeat(1_001))).await;
    assert_eq!((reply.status, reply.header("tidegate-reason")), (413, Some("BODY_TOO_LARGE")));
    assert_eq!(shop.state.requests.load(Ordering::SeqCst), 0);
    let mut client = Client::connect(gate.addr()).await;
    client.send("POST /up HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n").await;
    client.send(format!("{:x}\r\n{}\r\n", 2_000, "b".repeat(2_000))).await;
    assert_eq!(client.reply().await.map(|r| r.status), Some(413));
    let rows = gate.rows(2).await;
    assert!(rows.iter().all(|r| r.reason == Some(Reason::BodyTooLarge) && r.status == 413), "{rows:?}");
    assert_eq!(gate.shared.in_flight.observe().held, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_drips_and_a_request_without_end_are_cut_off() {
    let shop = Shop::start().await;
    let head = "POST /up HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 1000\r\n\r\n";
    let mut policy = plain_policy(shop.addr);
    let gate = Gate::start(&policy).await;
    let mut client = Client::connect(gate.addr()).await;
    client.send(format!("{head}abc")).await;
    eventually(|| gate.shared.counts.parsed.get() == 1).await;
    gate.shared.clock.advance(60_000);
    client.send("def").await;
    let reply = client.reply().await.unwrap();
    assert_eq!((reply.status, reply.header("tidegate-reason")), (408, Some("BAD_REQUEST")), "1 KiB/s is the least");
    policy.limits_of_a_request.body_min_rate = ByteRate(0);
    let gate = Gate::start(&policy).await;
    let mut client = Client::connect(gate.addr()).await;
    client.send(format!("{head}abc")).await;
    eventually(|| gate.shared.counts.parsed.get() == 1).await;
    gate.shared.clock.advance(60_000);
    client.send("def").await;
    gate.shared.clock.advance(300_000);
    client.send("ghi").await;
    assert_eq!(client.reply().await.map(|r| r.status), Some(408));
    assert_eq!(shop.state.requests.load(Ordering::SeqCst), 0, "it never heard of either");
    assert_eq!(gate.shared.in_flight.observe().held, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_are_denied_and_a_shop_that_upgrades_anyway_is_an_error() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    let ws = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ];
    let reply = once(gate.addr(), get("/ws", &ws)).await;
    assert_eq!(reply.status, 200);
    assert!(!reply.body.contains("upgrade:"), "{}", reply.body);
    let eager = raw_shop(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nsecret").await;
    let gate = Gate::start(&plain_policy(eager)).await;
    let reply = once(gate.addr(), get("/ws", &ws)).await;
    assert_eq!(reply.status, 502);
    assert!(!reply.body.contains("secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_that_answers_rubbish_is_a_502() {
    for rubbish in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"HTTP/1.1 banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"",
    ] {
        let gate = Gate::start(&plain_policy(raw_shop(Box::leak(rubbish.to_vec().into_boxed_slice())).await)).await;
        let reply = once(gate.addr(), get("/x", &[("accept", "text/html")])).await;
        assert_eq!((reply.status, reply.header("tidegate-verdict")), (502, Some("refuse")), "{rubbish:?}");
        assert!(reply.header("retry-after").is_some_and(|v| v.parse::<u32>().is_ok_and(|n| n >= 1)));
        assert!(reply.body.contains("<h1>"), "a page for a browser");
        assert_eq!(gate.rows(1).await.len(), 1);
        assert_eq!(gate.shared.in_flight.observe().held, 0);
        assert_eq!(gate.shared.active.load().meter.drain()[0].errors, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_shop_is_a_504_and_overload() {
    let shop = Shop::start().await;
    let mut policy = plain_policy(shop.addr);
    policy.shop.timeouts.first_byte = Span(200);
    let gate = Gate::start(&policy).await;
    let reply = once(gate.addr(), get("/hold", &[])).await;
    assert_eq!(reply.status, 504);
    let lane = gate.shared.active.load().meter.drain()[0];
    assert_eq!((lane.timeouts, lane.completed, lane.errors), (1, 0, 0));
    assert_eq!(gate.shared.in_flight.observe().held, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_server_is_left_out_and_the_next_one_asked() {
    let shop = Shop::start().await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead_addr = dead.local_addr().unwrap();
    drop(dead);
    let mut policy = plain_policy(shop.addr);
    policy.shop.upstreams = vec![Upstream::plain(dead_addr), Upstream::plain(shop.addr)];
    // Checks are too rare to help: the retry must.
    policy.shop.health = Health { every: Span::secs(3_600), unhealthy_after: 100, ..Health::default() };
    let gate = Gate::start(&policy).await;
    for _ in 0..4 {
        let reply = once(gate.addr(), request("POST", "/up", &[], "abc")).await;
        assert_eq!(reply.body.lines().next(), Some("POST /up 3"), "nothing had been sent to the dead one");
    }
    assert_eq!(shop.state.requests.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_servers_are_down_it_is_said_at_once_and_noticed_when_they_return() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let mut policy = plain_policy(addr);
    policy.shop.health = Health { every: Span(100), unhealthy_after: 1, healthy_after: 1, ..Health::default() };
    let gate = Gate::start(&policy).await;
    eventually(|| !gate.shared.active.load().upstreams.any_healthy()).await;
    let mut client = Client::connect(gate.addr()).await;
    let reply = client.ask(get("/x", &[])).await;
    assert_eq!((reply.status, reply.header("tidegate-reason")), (503, Some("SHOP_DOWN")));
    assert!(reply.header("retry-after").is_some());
    let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
    let app = axum::Router::new().fallback(|| async { "back" });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    eventually(|| gate.shared.active.load().upstreams.any_healthy()).await;
    assert_eq!(client.ask(get("/x", &[])).await.body, "back", "on the same connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_gives_its_permit_back_and_leaves_one_row() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    let mut client = Client::connect(gate.addr()).await;
    client.send(get("/hold", &[])).await;
    eventually(|| shop.state.in_flight.load(Ordering::SeqCst) == 1).await;
    assert_eq!(gate.shared.in_flight.observe().held, 1);
    drop(client);
    eventually(|| gate.shared.in_flight.observe().held == 0).await;
    assert_eq!(gate.rows(1).await.len(), 1);
    tokio::time::timeout(Duration::from_secs(5), gate.shared.caps.idle()).await.unwrap();
    assert_eq!(gate.rows.0.lock().len(), 1);
}

/// Whoever waits to be told to go on is told, whatever the size; other expectations are none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_is_told_to_go_on() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    for length in [1_000usize, 200_000] {
        let mut client = Client::connect(gate.addr()).await;
        client.send(request("POST", "/up", &[("expect", "100-continue"), ("content-length", &length.to_string())], "")).await;
        let mut told = vec![0; 25];
        tokio::time::timeout(SOON, client.stream.read_exact(&mut told)).await.expect("told").unwrap();
        assert_eq!(told, b"HTTP/1.1 100 Continue\r\n\r\n", "{length}");
        let answer = client.ask(vec![b'x'; length]).await;
        assert_eq!(answer.status, 200, "{length}: {answer:?}");
    }
}
