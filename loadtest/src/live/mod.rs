//! The crowd over real HTTP. Open loop: a request is due when its visitor wants it, and its latency counts from then,
//! whether or not the machine got round to sending it.

mod answer;
mod jar;
mod target;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::Instant,
};

pub use target::{Target, TargetError};

pub use self::jar::Jar;
use crate::{
    crowd::{Answer, AnswerKind, Crowd, Kind, Outcome, Request, Scenario, Step, Visitor},
    events::{EVENTS_MAX, Event, Events},
};

/// Most requests under way, so most sockets: far below the usual limit of open files of the three processes together.
pub const SOCKETS_MAX: usize = 4_000;
/// Most bytes read of one answer.
const BODY_MAX: usize = 256 * 1024;

/// Counters that whoever shows progress may read at any time.
#[derive(Debug, Default)]
pub struct Progress {
    /// Requests sent.
    pub requests: AtomicU64,
    /// Orders placed.
    pub orders: AtomicU64,
    /// People who have gone home.
    pub people_home: AtomicU64,
    /// Answers that failed.
    pub failures: AtomicU64,
}

struct Field {
    target: Target,
    client: HttpClient,
    sockets: Semaphore,
    start: Instant,
    start_unix_ms: u64,
    ends_at_ms: u64,
    events: Mutex<Events>,
    progress: Arc<Progress>,
    people: u64,
    everybody_home: Notify,
}

/// A pooling HTTP/1.1 client.
pub type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// A client that keeps up to [`SOCKETS_MAX`] connections.
pub fn client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(SOCKETS_MAX)
        .http1_title_case_headers(true)
        .build(connector)
}

/// Runs a scenario against a target and returns everything that happened. Ends when the last person has gone home, or at
/// the scenario's end.
pub async fn run(scenario: &Scenario, seed: u64, target: &Target, progress: Arc<Progress>) -> Events {
    let crowd = Crowd::new(scenario, seed);
    let people = crowd.visitors.iter().filter(|v| v.kind() == Kind::Person).count() as u64;
    let start = Instant::now();
    let start_unix_ms = crate::unix_ms();
    let field = Arc::new(Field {
        target: target.clone(),
        client: client(),
        sockets: Semaphore::new(SOCKETS_MAX),
        start,
        start_unix_ms,
        ends_at_ms: scenario.ends_at.ms(),
        events: Mutex::new(Events::new(scenario, seed, start_unix_ms)),
        progress,
        people,
        everybody_home: Notify::new(),
    });
    let mut tasks = JoinSet::new();
    for visitor in crowd.visitors {
        tasks.spawn(visit(field.clone(), visitor));
    }
    let end = start + Duration::from_millis(scenario.ends_at.ms());
    let home = async {
        if people > 0 {
            field.everybody_home.notified().await;
        } else {
            while tasks.join_next().await.is_some() {}
        }
    };
    drop(tokio::time::timeout_at(end, home).await);
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    let mut events = std::mem::take(&mut *field.events.lock().unwrap_or_else(PoisonError::into_inner));
    events.duration_ms = field.now_ms();
    events
}

async fn visit(field: Arc<Field>, mut visitor: Visitor) {
    let mut jar = Jar::default();
    let mut step = visitor.start();
    let outcome = loop {
        let (at_ms, request) = match step {
            Step::Leave(outcome) => break outcome,
            Step::Send { at_ms, request } => (at_ms, request),
        };
        if at_ms >= field.ends_at_ms {
            return;
        }
        tokio::time::sleep_until(field.start + Duration::from_millis(at_ms)).await;
        let answer = field.send(&visitor, at_ms, &request, &mut jar).await;
        if answer.kind == AnswerKind::Page && !request.assets.is_empty() {
            visitor.assets_fetched();
            request.assets.iter().for_each(|path| fetch_asset(&field, &visitor, path, &request, &jar));
        }
        if let Some(style) = answer.style.as_deref().filter(|_| visitor.has_browser()) {
            fetch_asset(&field, &visitor, style, &request, &jar);
        }
        step = visitor.next(&answer, field.now_ms());
    };
    field.left(&visitor, outcome);
}

/// Beside others and beside whatever comes next, as a browser does.
fn fetch_asset(field: &Arc<Field>, visitor: &Visitor, path: &str, page: &Request, jar: &Jar) {
    let at_ms = field.now_ms();
    let (field, visitor, mut jar) = (field.clone(), visitor.clone(), jar.clone());
    let request = visitor.asset(path, page);
    tokio::spawn(async move { field.send(&visitor, at_ms, &request, &mut jar).await });
}

impl Field {
    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    async fn send(&self, visitor: &Visitor, at_ms: u64, request: &Request, jar: &mut Jar) -> Answer {
        let due = self.start + Duration::from_millis(at_ms);
        let deadline = due + Duration::from_millis(request.patience_ms);
        let sent_ms = self.now_ms();
        self.progress.requests.fetch_add(1, Relaxed);
        let exchange = tokio::time::timeout_at(deadline, self.exchange(request, jar)).await;
        let answer = match exchange {
            Ok(Ok((parts, body))) => {
                if request.cookies {
                    jar.take(&parts.headers);
                }
                answer::classify(request.action, &parts, &body)
            }
            Ok(Err(())) => Answer::of(AnswerKind::Failed, 0),
            // Dropping the exchange closes the connection: the visitor has reloaded or left.
            Err(_) => Answer::of(AnswerKind::Timeout, 0),
        };
        if answer.kind == AnswerKind::Ordered {
            self.progress.orders.fetch_add(1, Relaxed);
        }
        if answer.kind.is_failure() {
            self.progress.failures.fetch_add(1, Relaxed);
        }
        let note = answer.note.as_ref();
        self.record(Event {
            at_ms,
            sent_ms,
            latency_us: due.elapsed().as_micros() as u64,
            shop_us: answer.shop_us,
            visitor: visitor.id(),
            kind: visitor.kind(),
            action: request.action,
            status: answer.status,
            answer: answer.kind,
            verdict: answer.verdict,
            state: note.map(|n| n.state.clone()).unwrap_or_default(),
            place: note.and_then(|n| n.place),
            wait_s: note.and_then(|n| n.wait_s),
            pass: answer.pass,
        });
        answer
    }

    async fn exchange(&self, request: &Request, jar: &Jar) -> Result<(hyper::http::response::Parts, Bytes), ()> {
        let _socket = self.sockets.acquire().await.map_err(drop)?;
        let body = request.body.clone().unwrap_or_default();
        let mut message = hyper::Request::builder()
            .method(request.method)
            .uri(format!("http://{}{}", self.target.authority(), request.path))
            .body(Full::new(Bytes::from(body)))
            .map_err(drop)?;
        *message.headers_mut() = self.headers(request, jar);
        let response = self.client.request(message).await.map_err(drop)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, BODY_MAX).collect().await.map_err(drop)?.to_bytes();
        Ok((parts, body))
    }

    fn headers(&self, request: &Request, jar: &Jar) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(request.headers.len());
        for (name, value) in request.headers {
            let value = match *name {
                "host" => HeaderValue::from_str(self.target.authority()).ok(),
                "x-forwarded-for" => HeaderValue::from_str(&request.address.to_string()).ok(),
                "cookie" => jar.header(),
                "origin" => HeaderValue::from_str(&format!("http://{}", self.target.authority())).ok(),
                "referer" => request
                    .referer
                    .and_then(|path| HeaderValue::from_str(&format!("http://{}{path}", self.target.authority())).ok()),
                // Typed, or from a bookmark.
                "sec-fetch-site" if request.referer.is_none() => Some(HeaderValue::from_static("none")),
                "content-length" => Some(HeaderValue::from(request.body.as_ref().map_or(0, String::len))),
                _ => Some(HeaderValue::from_static(value)),
            };
            if let Some(value) = value {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        headers
    }

    fn record(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.list.len() < EVENTS_MAX {
            events.list.push(event);
        } else {
            events.dropped += 1;
        }
    }

    fn left(&self, visitor: &Visitor, outcome: Outcome) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        *events.outcomes.entry((visitor.kind(), outcome)).or_default() += 1;
        drop(events);
        if visitor.kind() == Kind::Person && self.progress.people_home.fetch_add(1, Relaxed) + 1 == self.people {
            self.everybody_home.notify_one();
        }
    }
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Field").field("target", &self.target).field("start_unix_ms", &self.start_unix_ms).finish()
    }
}
