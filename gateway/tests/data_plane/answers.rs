//! Answers of the gate itself on HTTP/1 come from the door, before there is a proxy session.

use std::sync::atomic::Ordering;

use crate::support::{Client, Gate, Shop, get, plain_policy, request};

const HEALTH: &str = "/.tidegate/health";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_answers_and_forwarded_ones_take_turns_on_one_connection() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    let mut client = Client::connect(gate.addr()).await;
    for turn in 0..3 {
        let own = client.ask(get(HEALTH, &[])).await;
        assert_eq!((own.status, own.header("tidegate-verdict")), (200, Some("own")), "turn {turn}");
        assert_eq!(own.header("content-length"), Some(own.body.len().to_string().as_str()));
        assert_eq!(own.header("cache-control"), Some("no-store, private"));
        let forwarded = client.ask(request("POST", "/x", &[], "body")).await;
        assert_eq!((forwarded.status, forwarded.header("tidegate-verdict")), (200, None), "turn {turn}");
    }
    assert_eq!(shop.state.requests.load(Ordering::SeqCst), 3);
    let rows = gate.rows(6).await;
    assert_eq!(gate.shared.counts.parsed.get(), 6);
    assert!(rows.iter().all(|r| r.status == 200 && r.total_us > 0), "one whole row each: {rows:?}");
    assert_eq!(rows[0].path, HEALTH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_ends_when_the_client_wants_it_to() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    for text in [get(HEALTH, &[("connection", "Upgrade, Close")]), format!("GET {HEALTH} HTTP/1.0\r\nhost: a\r\n\r\n")] {
        let mut client = Client::connect(gate.addr()).await;
        let reply = client.ask(&text).await;
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")), "{text:?}");
        assert!(client.is_closed().await, "{text:?}");
    }
    let mut kept = Client::connect(gate.addr()).await;
    assert_eq!(kept.ask(get(HEALTH, &[("connection", "keep-alive")])).await.header("connection"), None);
    assert_eq!(kept.ask(get(HEALTH, &[])).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_says_how_long_the_body_would_be_and_sends_none() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    let mut client = Client::connect(gate.addr()).await;
    client.send(request("HEAD", HEALTH, &[], "")).await;
    let mut bytes = vec![0; 4_096];
    let n = tokio::io::AsyncReadExt::read(&mut client.stream, &mut bytes).await.unwrap();
    let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    assert!(text.contains("content-length: 15\r\n"), "{text}");
    assert_eq!(client.ask(get(HEALTH, &[])).await.status, 200, "nothing is left over on the connection");
}

/// A body before an own answer, and a request on the heels of another: neither may become a request nobody checked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_and_pipelined_requests_never_become_answers_of_their_own() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    let smuggled = get("/smuggled", &[]);
    let mut client = Client::connect(gate.addr()).await;
    let reply = client.ask(request("POST", HEALTH, &[], &smuggled)).await;
    assert_eq!(reply.status, 405);
    assert_eq!(client.ask(get(HEALTH, &[])).await.header("tidegate-verdict"), Some("own"), "the body was drained");
    assert_eq!(shop.state.requests.load(Ordering::SeqCst), 0);
    assert!(gate.rows(2).await.iter().all(|r| r.path == HEALTH));
}

/// Requests in one packet are each read, checked and answered, in order; an empty line behind a body is nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_on_the_heels_of_another_are_answered_in_order() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    let mut client = Client::connect(gate.addr()).await;
    let post = request("POST", "/up", &[], "hello");
    client.send(format!("{}{}{post}\r\n{}", get("/a", &[]), get(HEALTH, &[]), get("/b", &[]))).await;
    let mut first_lines = Vec::new();
    for _ in 0..4 {
        let reply = client.reply().await.unwrap();
        assert_eq!(reply.status, 200);
        first_lines.push(reply.body.lines().next().unwrap_or_default().to_owned());
    }
    assert_eq!(
        (first_lines[0].as_str(), first_lines[2].as_str(), first_lines[3].as_str()),
        ("GET /a 0", "POST /up 5", "GET /b 0")
    );
    let paths: Vec<_> = gate.rows(4).await.iter().map(|r| r.path.clone()).collect();
    assert_eq!(paths, ["/a", HEALTH, "/up", "/b"]);
    let mut client = Client::connect(gate.addr()).await;
    client.send("\r\n".repeat(8) + &get("/c", &[])).await;
    assert_eq!(client.reply().await.map(|r| r.status), Some(400), "more empty lines are no HTTP");
}
