//! What the shop can take: a closed ramp of workers, each of which sends its next request when it has its answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::Instant};

use crate::live::{self, Target};

/// Workers of each step. The last ones show what overload does.
pub const WORKERS: [u32; 8] = [1, 2, 4, 8, 16, 32, 64, 200];
/// What a worker sends, over and over: the way of a shopper. After it comes the page of the order.
const WALK: [(&str, &str, &str); 4] = [
    ("GET", "/", ""),
    ("GET", "/product/42", ""),
    ("POST", "/cart", "buyer=ramp-1&product=42"),
    ("POST", "/checkout", "buyer=ramp-1"),
];

/// One step of the ramp.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// Requests under way at the same time.
    pub workers: u32,
    /// Good answers a second.
    pub good_per_s: f64,
    /// Orders a second: each worker walks the whole way of a shopper.
    pub orders_per_s: f64,
    /// Errors a second.
    pub errors_per_s: f64,
    /// Mean time of a good answer.
    pub mean_ms: f64,
}

/// What a ramp found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Step by step.
    pub ramp: Vec<Rung>,
}

impl Capacity {
    /// Most good answers a second at any step, and with how many workers.
    pub fn peak(&self) -> Option<Rung> {
        self.ramp.iter().copied().max_by(|a, b| a.good_per_s.total_cmp(&b.good_per_s))
    }

    /// Most orders a second at any step.
    pub fn orders_per_s(&self) -> f64 {
        self.ramp.iter().map(|r| r.orders_per_s).fold(0.0, f64::max)
    }
}

/// Climbs the ramp, `step` at each rung. Buys units: point it at a shop whose stock does not matter.
pub async fn measure(target: &Target, step: Duration) -> Capacity {
    let client = live::client();
    let mut ramp = Vec::new();
    for workers in WORKERS {
        ramp.push(rung(&client, target, workers, step).await);
    }
    Capacity { ramp }
}

/// One worker: how an unloaded shop does.
pub async fn alone(target: &Target, step: Duration) -> Rung {
    rung(&live::client(), target, 1, step).await
}

#[derive(Default)]
struct Count {
    good: AtomicU64,
    orders: AtomicU64,
    bad: AtomicU64,
    good_us: AtomicU64,
    over: AtomicBool,
}

async fn rung(client: &live::HttpClient, target: &Target, workers: u32, step: Duration) -> Rung {
    let count = Arc::new(Count::default());
    let mut tasks = JoinSet::new();
    for worker in 0..workers {
        // Workers start at different points of the walk.
        tasks.spawn(walk(client.clone(), target.clone(), count.clone(), worker as usize % WALK.len()));
    }
    let began = Instant::now();
    tokio::time::sleep(step).await;
    let seconds = began.elapsed().as_secs_f64();
    count.over.store(true, Relaxed);
    let (good, bad, orders) = (count.good.load(Relaxed), count.bad.load(Relaxed), count.orders.load(Relaxed));
    // The shop finishes what it has begun, so that the next rung starts from rest.
    while tasks.join_next().await.is_some() {}
    Rung {
        workers,
        good_per_s: good as f64 / seconds,
        orders_per_s: orders as f64 / seconds,
        errors_per_s: bad as f64 / seconds,
        mean_ms: count.good_us.load(Relaxed) as f64 / 1_000.0 / good.max(1) as f64,
    }
}

async fn walk(client: live::HttpClient, target: Target, count: Arc<Count>, from: usize) {
    for (method, path, body) in WALK.iter().cycle().skip(from) {
        let mut next = Some((*method, (*path).to_owned(), *body));
        while let Some((method, path, body)) = next.take() {
            if count.over.load(Relaxed) {
                return;
            }
            let began = Instant::now();
            let answer = request(&client, &target, method, &path, body).await;
            if count.over.load(Relaxed) {
                return;
            }
            let Some(location) = answer else {
                count.bad.fetch_add(1, Relaxed);
                // A closed ramp of errors would only measure how fast errors are.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            count.good.fetch_add(1, Relaxed);
            count.good_us.fetch_add(began.elapsed().as_micros() as u64, Relaxed);
            if let Some(order) = location {
                count.orders.fetch_add(1, Relaxed);
                next = Some(("GET", order, ""));
            }
        }
    }
}

/// `None`: no good answer; else where it leads, if anywhere.
async fn request(
    client: &live::HttpClient,
    target: &Target,
    method: &str,
    path: &str,
    body: &'static str,
) -> Option<Option<String>> {
    let message = hyper::Request::builder()
        .method(method)
        .uri(format!("{target}{path}"))
        .header(hyper::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from_static(body.as_bytes())));
    let response = client.request(message.ok()?).await.ok()?;
    let good = response.status().as_u16() < 400;
    let location = response.headers().get(hyper::header::LOCATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
    (response.into_body().collect().await.is_ok() && good).then_some(location)
}
