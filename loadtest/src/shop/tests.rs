//! The shop over HTTP: what makes it a legacy shop must really happen.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use tokio::task::JoinSet;

use super::{Shop, ShopSettings};
use crate::live;

async fn shop(settings: ShopSettings) -> Shop {
    Shop::start(settings, "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

async fn send(client: &live::HttpClient, shop: &str, method: &str, path: &str, body: String) -> (u16, String) {
    let request = hyper::Request::builder()
        .method(method)
        .uri(format!("{shop}{path}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = client.request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// The statuses of `n` requests that are sent at the same time.
async fn at_once(shop: &Shop, n: u32, method: &'static str, path: &'static str) -> Vec<u16> {
    let (client, url) = (live::client(), format!("http://{}", shop.address()));
    let mut tasks = JoinSet::new();
    for i in 0..n {
        let (client, url) = (client.clone(), url.clone());
        tasks.spawn(async move { send(&client, &url, method, path, format!("buyer=person-{i}&product=42")).await.0 });
    }
    tasks.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkouts_side_by_side_sell_what_is_not_there_and_one_by_one_they_do_not() {
    let racing = shop(ShopSettings { stock: 5, pool: 4, checkout_ms: 40, thrash: 0.0, ..ShopSettings::default() }).await;
    let sold = at_once(&racing, 24, "POST", "/checkout").await.iter().filter(|s| **s == 303).count();
    let stats = racing.stats().unwrap();
    assert_eq!(stats.orders as usize, sold, "every confirmation is an order");
    assert!(stats.oversold > 0, "{stats:?}");
    assert_eq!(stats.oversold, stats.orders - 5);

    let calm = shop(ShopSettings { stock: 5, checkout_ms: 2, ..ShopSettings::default() }).await;
    let (client, url) = (live::client(), format!("http://{}", calm.address()));
    let mut statuses = vec![];
    for i in 0..7 {
        statuses.push(send(&client, &url, "POST", "/checkout", format!("buyer=person-{i}")).await.0);
    }
    assert_eq!(statuses, [303, 303, 303, 303, 303, 409, 409]);
    assert_eq!(calm.stats().unwrap().oversold, 0);
    let (_, page) = send(&client, &url, "GET", "/product/42", String::new()).await;
    assert!(page.contains("id=\"sold-out\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_bounds_what_is_done_and_what_waits() {
    let busy = ShopSettings { pool: 2, work_ms: 80, waiting_max: 4, thrash: 0.0, ..ShopSettings::default() };
    let small = shop(busy.clone()).await;
    let began = Instant::now();
    let statuses = at_once(&small, 20, "GET", "/").await;
    let count = |code: u16| statuses.iter().filter(|s| **s == code).count();
    assert_eq!((count(200), count(503)), (6, 14), "two at work, four waiting, the others turned away: {statuses:?}");
    // Three rounds of two, each at least 0.7 × 80 ms: latency grows with the queue.
    assert!(began.elapsed() >= Duration::from_millis(168), "{:?}", began.elapsed());
    assert_eq!((small.stats().unwrap().turned_away, small.stats().unwrap().waiting_peak), (14, 4));

    let slow = shop(ShopSettings { pool: 1, work_ms: 400, pool_wait: tidegate_filters::units::Span(50), ..busy }).await;
    let statuses = at_once(&slow, 3, "GET", "/").await;
    assert_eq!(statuses.iter().filter(|s| **s == 500).count(), 2, "waited in vain: {statuses:?}");
    assert_eq!(slow.stats().unwrap().timed_out, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_goes_on_when_the_client_has_left() {
    let shop = shop(ShopSettings { checkout_ms: 150, ..ShopSettings::default() }).await;
    let url = format!("http://{}", shop.address());
    let client = live::client();
    let gone =
        tokio::time::timeout(Duration::from_millis(60), send(&client, &url, "POST", "/checkout", "buyer=person-1".into())).await;
    assert!(gone.is_err(), "the client was to leave before the answer");
    let deadline = Instant::now() + Duration::from_secs(10);
    while shop.stats().unwrap().orders == 0 {
        assert!(Instant::now() < deadline, "the order was lost with its client");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(shop.stats().unwrap().left, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_requests_make_the_others_slower() {
    let pool = super::Pool::open(
        &super::Store::create(tempfile::tempdir().unwrap().path(), 1).unwrap(),
        &ShopSettings { pool: 1, thrash: 0.5, ..ShopSettings::default() },
    )
    .unwrap();
    let pool = std::sync::Arc::new(pool);
    let held = pool.lease().await.unwrap();
    assert!((pool.slowdown() - 1.0).abs() < 1e-9);
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.lease().await.is_ok() }
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    while (pool.slowdown() - 1.5).abs() > 1e-9 {
        assert!(Instant::now() < deadline, "nobody waits");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(held);
    assert!(waiter.await.unwrap());
    assert!((pool.slowdown() - 1.0).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_how_long_answers_took_and_how_busy_it_is() {
    let shop = shop(ShopSettings { pool: 1, work_ms: 40, thrash: 0.0, ..ShopSettings::default() }).await;
    let (client, url) = (live::client(), format!("http://{}", shop.address()));
    let page = hyper::Request::get(format!("{url}/")).body(Full::new(Bytes::new())).unwrap();
    let page = client.request(page).await.unwrap();
    let timing = page.headers()["server-timing"].to_str().unwrap().to_owned();
    assert!(timing.strip_prefix("shop;dur=").unwrap().parse::<f64>().unwrap() >= 28.0, "{timing}");
    at_once(&shop, 2, "GET", "/").await;
    let (status, body) = send(&client, &url, "GET", "/admin/load", String::new()).await;
    let load: super::Reading = serde_json::from_str(&body).unwrap();
    assert_eq!((status, load.in_flight, load.times.iter().sum::<u64>()), (200, 0, 3));
    assert!(load.quantile_ms(1.0).unwrap() > 1.3 * load.quantile_ms(0.3).unwrap(), "of two at once one waits");
    assert!(load.in_flight_us > load.busy_us && load.busy_us >= 3 * 28_000, "{load:?}");
}
