//! A gate, a shop that says what it got, and a client that sends exactly the bytes it is told to.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Request, http::HeaderMap, response::IntoResponse, routing::any};
use parking_lot::Mutex;
use tidegate_config::{Policy, ReportsSalesBy, Upstream};
use tidegate_filters::{Pipeline, Row, pipeline::Seed, seats::token::Keyring};
use tidegate_gateway::{
    serve::{Bound, Drained, run},
    state::{Active, RowSink, Shared},
    store::Memory,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, watch},
    task::JoinHandle,
};

/// Longest wait for anything that must happen.
pub const SOON: Duration = Duration::from_secs(10);

/// Rows as they come.
#[derive(Default)]
pub struct Rows(pub Mutex<Vec<Row>>);

impl RowSink for Rows {
    fn row(&self, row: Row) {
        self.0.lock().push(row);
    }
}

/// A running gate.
pub struct Gate {
    pub addresses: Vec<SocketAddr>,
    pub shared: Arc<Shared>,
    pub rows: Arc<Rows>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Drained>,
    ticks: JoinHandle<()>,
}

/// What a reload does: the same code as at the start, with the old state.
pub fn active(policy: &Policy, shared: Option<&Shared>) -> Active {
    let now = shared.map_or_else(|| tidegate_gateway::clock::Clock::new().now(), |s| s.clock.now());
    let seed = Seed { hash_key: (3, 4), epoch: 77 };
    let mut pipeline = Pipeline::new(&policy.pipeline_settings(), seed, now);
    let old = shared.map(|s| s.active.load_full());
    if let Some(old) = &old {
        pipeline.carry_over(&old.pipeline);
    }
    Active::new(policy.clone(), pipeline, "0123456789abcdef00".into(), old.as_deref())
}

impl Gate {
    pub async fn start(policy: &Policy) -> Gate {
        let bound = Bound::new(policy).unwrap();
        let rows = Arc::new(Rows::default());
        let keyring = Keyring::new(&[(1, [7; 32])]).unwrap();
        let shared = Shared::new(
            active(policy, None),
            keyring,
            (1, 2),
            rows.clone(),
            Arc::new(Memory),
            tidegate_gateway::appeal::Appeals::default(),
            tidegate_gateway::draw::Draws::new(&tidegate_gateway::keys::StatementKey([7; 32]), std::path::Path::new(".")),
        );
        let (stop, stopped) = watch::channel(false);
        let addresses = bound.addresses();
        let task = tokio::spawn({
            let shared = shared.clone();
            async move { run(shared, bound, stopped).await.unwrap() }
        });
        let ticks = tokio::spawn({
            let shared = shared.clone();
            async move {
                let mut every = tokio::time::interval(Duration::from_millis(20));
                loop {
                    every.tick().await;
                    shared.tick();
                }
            }
        });
        Gate { addresses, shared, rows, stop, task, ticks }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub fn begin_stop(&self) {
        self.stop.send(true).unwrap();
    }

    pub async fn stopped(self) -> Drained {
        let _ = self.stop.send(true);
        self.ticks.abort();
        tokio::time::timeout(SOON, self.task).await.expect("the gate ends").unwrap()
    }

    /// Rows so far, once there are `n`.
    pub async fn rows(&self, n: usize) -> Vec<Row> {
        eventually(|| self.rows.0.lock().len() >= n).await;
        self.rows.0.lock().clone()
    }
}

/// Waits for a condition; fails when it does not come.
pub async fn eventually(mut what: impl FnMut() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.expect("it happens");
}

/// A policy without filters and rooms in front of a shop.
pub fn plain_policy(shop: SocketAddr) -> Policy {
    let mut policy = Policy::zero_config(vec![Upstream::plain(shop)], "127.0.0.1:0".parse().unwrap());
    policy.filters.clear();
    policy.rooms.clear();
    policy.shop.reports_sales_by = Some(ReportsSalesBy::header("Tidegate-Sold"));
    policy
}

/// The demo shop of these tests.
#[derive(Default)]
pub struct ShopState {
    pub requests: AtomicU32,
    pub in_flight: AtomicU32,
    pub in_flight_max: AtomicU32,
    /// Requests to `/hold` wait for this.
    pub release: Notify,
}

pub struct Shop {
    pub addr: SocketAddr,
    pub state: Arc<ShopState>,
}

impl Shop {
    pub async fn start() -> Shop {
        let state = Arc::new(ShopState::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let s = state.clone();
        let app = Router::new().fallback(any(move |r: Request| serve(s.clone(), r)));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Shop { addr, state }
    }
}

async fn serve(state: Arc<ShopState>, request: Request) -> axum::response::Response {
    state.requests.fetch_add(1, Ordering::SeqCst);
    let now = state.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
    state.in_flight_max.fetch_max(now, Ordering::SeqCst);
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap_or_default();
    let answer = match parts.uri.path() {
        "/hold" => {
            state.release.notified().await;
            "released".into_response()
        }
        "/sold" => ([("tidegate-sold", "3"), ("tidegate-verdict", "forged"), ("set-cookie", "sid=1")], "sold").into_response(),
        "/big" => "x".repeat(1 << 20).into_response(),
        "/error" => (axum::http::StatusCode::INTERNAL_SERVER_ERROR, "broken").into_response(),
        _ => echo(&parts.method, &parts.uri, &parts.headers, body.len()).into_response(),
    };
    state.in_flight.fetch_sub(1, Ordering::SeqCst);
    answer
}

/// First line: method, target, body length. Then the headers, sorted.
fn echo(method: &axum::http::Method, uri: &axum::http::Uri, headers: &HeaderMap, body: usize) -> String {
    let mut lines: Vec<String> = headers.iter().map(|(k, v)| format!("{k}: {}", v.to_str().unwrap_or("?"))).collect();
    lines.sort();
    format!("{method} {uri} {body}\n{}\n", lines.join("\n"))
}

/// A shop of raw bytes: every connection gets `answer` after its first request head, then is closed.
pub async fn raw_shop(answer: &'static [u8]) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buf = Vec::new();
                while !buf.windows(4).any(|w| w == b"\r\n\r\n") {
                    if stream.read_buf(&mut buf).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    addr
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// `name=value` of every cookie it sets.
    pub fn cookies(&self) -> Vec<&str> {
        let set = self.headers.iter().filter(|(k, _)| k.eq_ignore_ascii_case("set-cookie"));
        set.filter_map(|(_, v)| v.split(';').next()).collect()
    }
}

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    buf: Vec<u8>,
}

impl Client {
    pub async fn connect(addr: SocketAddr) -> Client {
        Client { stream: TcpStream::connect(addr).await.unwrap(), buf: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer; `None` when the connection ends first.
    pub async fn reply(&mut self) -> Option<Reply> {
        tokio::time::timeout(SOON, self.read_reply()).await.expect("an answer or an end")
    }

    async fn read_reply(&mut self) -> Option<Reply> {
        let head_len = loop {
            match self.buf.windows(4).position(|w| w == b"\r\n\r\n") {
                Some(i) => break i + 4,
                None if self.stream.read_buf(&mut self.buf).await.unwrap_or(0) == 0 => return None,
                None => {}
            }
        };
        let head: Vec<u8> = self.buf.drain(..head_len).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.split("\r\n");
        let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<_> = lines.filter_map(|l| l.split_once(": ")).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let mut reply = Reply { status, headers, body: String::new() };
        let length = reply.header("content-length").and_then(|v| v.parse::<usize>().ok());
        while self.buf.len() < length.unwrap_or(usize::MAX) {
            if self.stream.read_buf(&mut self.buf).await.unwrap_or(0) == 0 {
                break;
            }
        }
        let body: Vec<u8> = self.buf.drain(..length.unwrap_or(self.buf.len()).min(self.buf.len())).collect();
        reply.body = String::from_utf8_lossy(&body).into_owned();
        Some(reply)
    }

    pub async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Reply {
        self.send(bytes).await;
        self.reply().await.expect("an answer")
    }

    /// Nothing more comes: the other side has closed.
    pub async fn is_closed(&mut self) -> bool {
        self.reply().await.is_none()
    }
}

/// One request on a connection of its own.
pub async fn once(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> Reply {
    Client::connect(addr).await.ask(bytes).await
}

/// A request line and headers for `shop.example`.
pub fn get(target: &str, headers: &[(&str, &str)]) -> String {
    request("GET", target, headers, "")
}

/// The same for any method, with a body.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nhost: shop.example\r\n");
    for (k, v) in headers {
        text.push_str(&format!("{k}: {v}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text + "\r\n" + body
}
