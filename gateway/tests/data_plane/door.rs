//! Connections: caps, the PROXY protocol, ports, redirects, stopping.

use std::sync::atomic::Ordering;

use tidegate_config::ProxyProtocol;
use tidegate_gateway::{
    counts::Turned,
    serve::{Bound, ServeError},
};

use crate::support::{Client, Gate, Shop, eventually, get, once, plain_policy};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caps_hold_and_give_back() {
    let shop = Shop::start().await;
    let mut policy = plain_policy(shop.addr);
    policy.connections.max = 3;
    let gate = Gate::start(&policy).await;
    let mut held = Vec::new();
    for n in 1..=3 {
        held.push(Client::connect(gate.addr()).await);
        eventually(|| gate.shared.caps.open() == n).await;
    }
    assert!(Client::connect(gate.addr()).await.is_closed().await);
    assert_eq!(gate.shared.counts.turned_away(Turned::Full), 1);
    assert_eq!(held[0].ask(get("/x", &[])).await.status, 200, "those inside are served");
    drop(held);
    eventually(|| gate.shared.caps.open() == 0).await;
    assert_eq!(once(gate.addr(), get("/x", &[])).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_network_cannot_take_all_and_a_proxy_of_ours_may() {
    let shop = Shop::start().await;
    let mut policy = plain_policy(shop.addr);
    policy.connections.per_network_max = 1;
    let gate = Gate::start(&policy).await;
    let mut first = Client::connect(gate.addr()).await;
    assert_eq!(first.ask(get("/x", &[])).await.status, 200);
    assert!(Client::connect(gate.addr()).await.is_closed().await);
    assert_eq!(gate.shared.counts.turned_away(Turned::NetworkFull), 1);
    policy.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let gate = Gate::start(&policy).await;
    let mut all = [Client::connect(gate.addr()).await, Client::connect(gate.addr()).await];
    for client in &mut all {
        assert_eq!(client.ask(get("/x", &[])).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_protocol_is_read_from_listed_networks_only() {
    let shop = Shop::start().await;
    let mut policy = plain_policy(shop.addr);
    let v1 = "PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n";
    policy.listen[0].proxy_protocol = Some(ProxyProtocol { from: vec!["127.0.0.0/8".parse().unwrap()] });
    let gate = Gate::start(&policy).await;
    let mut client = Client::connect(gate.addr()).await;
    client.send(v1).await;
    for _ in 0..2 {
        let reply = client.ask(get("/x", &[])).await;
        assert!(reply.body.contains("x-forwarded-for: 203.0.113.9\n"), "{}", reply.body);
    }
    let v2 =
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x0a\x7f\0\0\x01\x12\x67\0\x50"[..], get("/x", &[]).as_bytes()].concat();
    assert!(once(gate.addr(), v2).await.body.contains("x-forwarded-for: 203.0.113.10\n"));
    let mut without = Client::connect(gate.addr()).await;
    without.send(get("/x", &[])).await;
    assert!(without.is_closed().await);
    assert_eq!(gate.shared.counts.turned_away(Turned::BadProxyHeader), 1);
    policy.listen[0].proxy_protocol = Some(ProxyProtocol { from: vec!["192.0.2.0/24".parse().unwrap()] });
    let gate = Gate::start(&policy).await;
    let reply = once(gate.addr(), format!("{v1}{}", get("/x", &[]))).await;
    assert_eq!(reply.header("tidegate-verdict"), Some("refuse"), "not from a listed network: it is a bad request line");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_a_clear_error_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut policy = plain_policy("127.0.0.1:1".parse().unwrap());
    policy.listen[0].address = taken.local_addr().unwrap();
    let error = Bound::new(&policy).unwrap_err();
    assert!(matches!(error, ServeError::Bind { .. }));
    let text = error.to_string();
    assert!(text.contains(&taken.local_addr().unwrap().to_string()) && text.contains("another program"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirecting_listener_redirects_everything() {
    let shop = Shop::start().await;
    let mut policy = plain_policy(shop.addr);
    policy.listen[0].redirect = Some("https:8443".parse().unwrap());
    let gate = Gate::start(&policy).await;
    let reply = once(gate.addr(), get("/a//b?c=d", &[])).await;
    assert_eq!((reply.status, reply.header("location")), (308, Some("https://shop.example:8443/a/b?c=d")));
    assert_eq!(once(gate.addr(), "GET / HTTP/1.0\r\n\r\n").await.status, 400);
    assert_eq!(shop.state.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_cuts_nobody_off_and_ends_as_soon_as_all_are_gone() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    let addr = gate.addr();
    let mut busy = Client::connect(addr).await;
    busy.send(get("/hold", &[])).await;
    let (mut idle, mut silent) = (Client::connect(addr).await, Client::connect(addr).await);
    assert_eq!(idle.ask(get("/x", &[])).await.status, 200);
    assert_eq!(silent.ask(get("/x", &[])).await.status, 200);
    eventually(|| shop.state.in_flight.load(Ordering::SeqCst) == 1).await;
    gate.begin_stop();
    eventually(|| gate.shared.is_stopping()).await;
    let last = idle.ask(get("/x", &[])).await;
    assert_eq!((last.status, last.header("connection")), (200, Some("close")), "a request that was on its way");
    assert!(idle.is_closed().await);
    assert!(silent.is_closed().await, "idle connections close soon");
    eventually(|| std::net::TcpStream::connect(addr).is_err()).await;
    assert!(gate.shared.is_stopping());
    shop.state.release.notify_waiters();
    assert_eq!(busy.reply().await.map(|r| r.body), Some("released".into()));
    assert_eq!(gate.stopped().await.left, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_longer_than_the_policy_says() {
    let shop = Shop::start().await;
    let mut policy = plain_policy(shop.addr);
    policy.connections.drain_max = tidegate_filters::Span(100);
    let gate = Gate::start(&policy).await;
    let mut busy = Client::connect(gate.addr()).await;
    busy.send(get("/hold", &[])).await;
    eventually(|| shop.state.in_flight.load(Ordering::SeqCst) == 1).await;
    assert_eq!(gate.stopped().await.left, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_gates_run_side_by_side() {
    let shop = Shop::start().await;
    let gates = [Gate::start(&plain_policy(shop.addr)).await, Gate::start(&plain_policy(shop.addr)).await];
    assert_ne!(gates[0].addr(), gates[1].addr());
    let [a, b] = gates;
    let b_addr = b.addr();
    assert_eq!(a.stopped().await.left, 0);
    assert_eq!(once(b_addr, get("/x", &[])).await.status, 200, "one ends, the other goes on");
}
