//! Heads that can be read in two ways are answered by the door and never reach the shop.

use std::sync::atomic::Ordering;

use tidegate_filters::Span;
use tidegate_gateway::counts::HeadFault;

use crate::support::{Client, Gate, Shop, get, once, plain_policy, request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_heads_are_refused_counted_and_the_connection_is_closed() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    let post = |headers: &str| format!("POST /x HTTP/1.1\r\nhost: shop.example\r\n{headers}\r\n\r\n0\r\n\r\n");
    let cases = [
        (post("content-length: 5\r\ntransfer-encoding: chunked"), 400, HeadFault::LengthAndEncoding),
        (post("transfer-encoding: gzip\r\ntransfer-encoding: chunked"), 400, HeadFault::BadEncoding),
        (post("transfer-encoding: identity"), 400, HeadFault::BadEncoding),
        (post("content-length: 5\r\ncontent-length: 6"), 400, HeadFault::BadLength),
        ("POST /x HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".into(), 400, HeadFault::OldEncoding),
        ("GET /x HTTP/1.1\r\n\r\n".into(), 400, HeadFault::NoHost),
        ("GET /x HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".into(), 400, HeadFault::ManyHosts),
        ("GET http://b/x HTTP/1.1\r\nhost: a\r\n\r\n".into(), 400, HeadFault::BadHost),
        ("GET /x HTTP/1.1\nhost: a\n\n".into(), 400, HeadFault::BareLf),
        ("GET /x HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n".into(), 400, HeadFault::ObsFold),
        ("GET /\u{1} HTTP/1.1\r\nhost: a\r\n\r\n".into(), 400, HeadFault::ControlByte),
        ("GET /x HTTP/1.1\r\nhost: a\r\nx_y: 1\r\n\r\n".into(), 400, HeadFault::DoubtfulName),
        ("GET /a%2fb HTTP/1.1\r\nhost: a\r\n\r\n".into(), 400, HeadFault::BadPath),
        ("GET /a<b HTTP/1.1\r\nhost: a\r\n\r\n".into(), 400, HeadFault::BadTarget),
        ("get /x HTTP/1.1\r\nhost: a\r\n\r\n".into(), 400, HeadFault::BadMethod),
        ("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n".into(), 405, HeadFault::MethodRefused),
        ("GET /x HTTP/3.0\r\nhost: a\r\n\r\n".into(), 505, HeadFault::BadVersion),
        (get("/x", &[("x", &"y".repeat(20_000))]), 431, HeadFault::TooLarge),
        (get("/x", &vec![("x", "y"); 101]), 431, HeadFault::TooManyHeaders),
    ];
    for (text, status, fault) in cases {
        let before = gate.shared.counts.heads(fault);
        let mut client = Client::connect(gate.addr()).await;
        let reply = client.ask(&text).await;
        let shown = &text[..text.len().min(80)];
        assert_eq!(reply.status, status, "{shown:?} {reply:?}");
        assert_eq!(reply.header("tidegate-reason"), Some(fault.name()), "{shown:?}");
        assert_eq!(reply.header("tidegate-verdict"), Some("refuse"));
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        assert!(client.is_closed().await, "{shown:?}: a request behind it must not be parsed");
        assert_eq!(gate.shared.counts.heads(fault), before + 1, "{shown:?}");
    }
    assert_eq!(shop.state.requests.load(Ordering::SeqCst), 0, "the shop saw nothing");
    assert_eq!(gate.shared.counts.parsed.get(), 0);
    assert!(gate.rows.0.lock().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_head_gets_408_however_it_drips() {
    let shop = Shop::start().await;
    let mut policy = plain_policy(shop.addr);
    policy.limits_of_a_request.header_deadline = Span(300);
    let gate = Gate::start(&policy).await;
    let mut silent = Client::connect(gate.addr()).await;
    let mut dripping = Client::connect(gate.addr()).await;
    let drip = async {
        for b in "GET / HTTP/1.1\r\nhost: shop.example\r\nx: yyyyyyyyyyyyyyyyyyyyyyyyyy".bytes() {
            if tokio::io::AsyncWriteExt::write_all(&mut dripping.stream, &[b]).await.is_err() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let (reply, ()) = tokio::join!(silent.reply(), drip);
    assert_eq!(reply.map(|r| r.status), Some(408));
    assert_eq!(dripping.reply().await.map(|r| r.status), Some(408));
    assert_eq!(gate.shared.counts.heads(HeadFault::TooSlow), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_kept_and_paths_are_forwarded_in_one_spelling() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    let mut client = Client::connect(gate.addr()).await;
    for (sent, got) in [
        ("/a//b/../%63?q=%2F..", "GET /a/c?q=%2F.. 0"),
        ("http://shop.example/x", "GET /x 0"),
        ("/caf%c3%a9;v=1", "GET /caf%C3%A9;v=1 0"),
    ] {
        let reply = client.ask(get(sent, &[])).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.body.lines().next(), Some(got));
    }
    let rows = gate.rows(3).await;
    assert_eq!(rows[0].path, "/a/c");
    assert_eq!((rows[0].verdict, rows[0].status, &*rows[0].route), ("forward", 200, "shop"));
    assert!(rows.iter().all(|r| r.shop_us > 0 && r.total_us > 0 && r.bytes > 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_never_lets_a_hidden_request_through() {
    let shop = Shop::start().await;
    let mut policy = plain_policy(shop.addr);
    policy.routes[0].matches.prefix = Some("/shop".into());
    let gate = Gate::start(&policy).await;
    let hidden = "GET /shop/hidden HTTP/1.1\r\nhost: shop.example\r\n\r\n";
    // A small declared body is drained: the connection stays, and the next request is the next request.
    let mut client = Client::connect(gate.addr()).await;
    let reply = client.ask(request("POST", "/elsewhere", &[], hidden)).await;
    assert_eq!(reply.status, 404);
    assert_eq!(client.ask(get("/shop/real", &[])).await.body.lines().next(), Some("GET /shop/real 0"));
    // A large or chunked one closes.
    let mut client = Client::connect(gate.addr()).await;
    client.send(format!("POST /elsewhere HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 1000000\r\n\r\n{hidden}")).await;
    assert_eq!(client.reply().await.map(|r| r.status), Some(404));
    assert!(client.is_closed().await);
    let chunked = "POST /elsewhere HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut client = Client::connect(gate.addr()).await;
    assert_eq!(client.ask(chunked).await.status, 404);
    assert!(client.is_closed().await);
    assert_eq!(shop.state.requests.load(Ordering::SeqCst), 1, "only the real one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_without_host_is_served_and_closed() {
    let shop = Shop::start().await;
    let gate = Gate::start(&plain_policy(shop.addr)).await;
    let reply = once(gate.addr(), "GET /x HTTP/1.0\r\n\r\n").await;
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
}
