//! What the shop answers. Work waits while it holds its connection, and goes on when the client has left.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Form, Json, Router,
    extract::{Path, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;

use super::{
    Busy, Inner, PRODUCT, Reading,
    store::{self, Checkout},
};

type Shared = State<Arc<Inner>>;

const CSS: &str = "body{font:16px/1.5 system-ui;margin:2rem auto;max-width:60rem}.sold{color:#a00}button{padding:.6rem 1.2rem}";
const JS: &str =
    "document.querySelectorAll('form').forEach(f=>f.addEventListener('submit',()=>f.querySelector('button').disabled=true));";
/// A transparent pixel.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\x9cc\0\x01\0\0\x05\0\x01\r\n-\xb4\0\0\0\0IEND\xaeB`\x82";

pub(super) fn router(shop: Arc<Inner>) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/product/{id}", get(product))
        .route("/cart", post(cart))
        .route("/checkout", post(checkout))
        .route("/orders/{number}", get(order))
        .route_layer(from_fn(timed))
        .route("/static/{name}", get(asset))
        .route("/healthz", get(|| async { "ok" }))
        .route("/admin/stats", get(stats))
        .route("/admin/load", get(load))
        .fallback(|| async { (StatusCode::NOT_FOUND, Html("<h1>Not found</h1>")) })
        .with_state(shop)
}

/// What a request came to without a good answer.
enum Failed {
    Busy(Busy),
    Sql,
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let (status, text) = match &self {
            Failed::Busy(Busy::Full) => (StatusCode::SERVICE_UNAVAILABLE, "<h1>503 Service Unavailable</h1>"),
            Failed::Busy(Busy::TooLong) => (StatusCode::INTERNAL_SERVER_ERROR, "<h1>500 No database connection in time</h1>"),
            Failed::Sql => (StatusCode::INTERNAL_SERVER_ERROR, "<h1>500 Database error</h1>"),
        };
        // Out of its depth, but sure of one thing: a request that got no connection sold nothing.
        match self {
            Failed::Busy(_) => (status, [(SOLD, "0")], Html(text)).into_response(),
            Failed::Sql => (status, Html(text)).into_response(),
        }
    }
}

/// Counts a client that left before its answer.
struct Client(Arc<Inner>, bool);

impl Drop for Client {
    fn drop(&mut self) {
        if !self.1 {
            self.0.left.fetch_add(1, Relaxed);
        }
    }
}

/// Runs a request's work on a task of its own, as a thread of a legacy server would: nobody tells it that its client left.
async fn work<T, F>(shop: &Arc<Inner>, job: F) -> Result<T, Failed>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failed>> + Send + 'static,
{
    shop.requests.fetch_add(1, Relaxed);
    let mut client = Client(shop.clone(), false);
    let mut stay = shop.meter.enter();
    let worked = tokio::spawn(async move {
        let done = job.await;
        if matches!(done, Err(Failed::Busy(Busy::Full))) {
            stay.turned_away();
        }
        done
    });
    let done = worked.await.map_err(|_| Failed::Sql);
    client.1 = true;
    done?
}

/// Waits as long as the work takes now. The connection is held meanwhile.
async fn hold(shop: &Inner, ms: u64) {
    let ms = ms as f64 * shop.jitter() * shop.pool.slowdown();
    tokio::time::sleep(Duration::from_secs_f64(ms / 1000.0)).await;
}

/// One page: a connection, some SQL, some waiting.
async fn page<T: Send + 'static>(
    shop: Arc<Inner>,
    sql: impl FnOnce(&mut rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Failed> {
    let inner = shop.clone();
    work(&shop, async move {
        let mut lease = inner.pool.lease().await.map_err(Failed::Busy)?;
        let rows = lease.sql(sql).await.map_err(|_| Failed::Sql)?;
        hold(&inner, inner.settings.work_ms).await;
        drop(lease);
        Ok(rows)
    })
    .await
}

async fn home(State(shop): Shared) -> Result<Html<String>, Failed> {
    let list = page(shop, |db| store::products(db)).await?;
    let items: String = list.iter().map(|(id, name)| format!("<li><a href=\"/product/{id}\">{name}</a></li>")).collect();
    Ok(html("Sneakers", &format!("<ul>{items}</ul>")))
}

async fn product(State(shop): Shared, Path(id): Path<u32>) -> Result<Response, Failed> {
    let Some((name, cents, stock)) = page(shop, move |db| store::product(db, id)).await? else {
        return Ok((StatusCode::NOT_FOUND, Html("<h1>No such product</h1>")).into_response());
    };
    let buy = if stock > 0 {
        format!(
            "<p>{stock} left</p><form method=\"post\" action=\"/cart\"><input name=\"buyer\"><input type=\"hidden\" \
             name=\"product\" value=\"{id}\"><button>Put in cart</button></form>"
        )
    } else {
        "<p class=\"sold\" id=\"sold-out\">Sold out</p>".into()
    };
    let price = format!("{}.{:02}", cents / 100, cents % 100);
    Ok(html(&name, &format!("<img src=\"/static/shoe.png\" alt=\"{name}\"><p>{price} EUR</p>{buy}")).into_response())
}

#[derive(Deserialize)]
struct CartForm {
    buyer: String,
    product: u32,
}

async fn cart(State(shop): Shared, Form(form): Form<CartForm>) -> Result<Html<String>, Failed> {
    page(shop, move |db| store::put_in_cart(db, &form.buyer, form.product, now_ms())).await?;
    let form = "<form method=\"post\" action=\"/checkout\"><input name=\"buyer\"><button>Pay</button></form>";
    Ok(html("Your cart", form))
}

#[derive(Deserialize)]
struct CheckoutForm {
    buyer: String,
}

async fn checkout(State(shop): Shared, Form(form): Form<CheckoutForm>) -> Result<Response, Failed> {
    let inner = shop.clone();
    let outcome = work(&shop, async move { buy(&inner, form.buyer).await }).await?;
    Ok(match outcome {
        Checkout::Ordered(number) => {
            let to = format!("/orders/{number}");
            (StatusCode::SEE_OTHER, [(header::LOCATION, to.as_str()), (SOLD, "1")]).into_response()
        }
        Checkout::SoldOut => {
            (StatusCode::CONFLICT, [(SOLD, "0")], html("Sold out", "<p id=\"sold-out\">Sold out</p>")).into_response()
        }
    })
}

/// How the shop tells whoever stands in front of it that a unit was sold.
const SOLD: HeaderName = HeaderName::from_static("tidegate-sold");
/// How long the shop took, as servers tell browsers.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Says how long an answer took here.
async fn timed(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let mut response = next.run(request).await;
    if let Ok(took) = HeaderValue::from_str(&format!("shop;dur={:.3}", began.elapsed().as_secs_f64() * 1e3)) {
        response.headers_mut().insert(SERVER_TIMING, took);
    }
    response
}

async fn buy(shop: &Inner, buyer: String) -> Result<Checkout, Failed> {
    let mut lease = shop.pool.lease().await.map_err(Failed::Busy)?;
    let stock = lease.sql(|db| store::read_stock(db)).await.map_err(|_| Failed::Sql)?;
    if stock <= 0 {
        return Ok(Checkout::SoldOut);
    }
    // The payment provider answers; meanwhile others read the same stock.
    hold(shop, shop.settings.checkout_ms).await;
    let number = {
        use rand::Rng as _;
        let mut rng = shop.jitter.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        format!("{:012x}", rng.random::<u64>() >> 16)
    };
    let row = number.clone();
    lease.sql(move |db| store::write_order(db, &buyer, &row, stock, now_ms())).await.map_err(|_| Failed::Sql)?;
    Ok(Checkout::Ordered(number))
}

async fn order(State(shop): Shared, Path(number): Path<String>) -> Result<Response, Failed> {
    let shown = number.clone();
    Ok(match page(shop, move |db| store::order(db, &number)).await? {
        Some(_) => html("Thank you", &format!("<p>Order {shown}</p>")).into_response(),
        None => (StatusCode::NOT_FOUND, Html("<h1>No such order</h1>")).into_response(),
    })
}

async fn asset(Path(name): Path<String>) -> Response {
    let (kind, body): (&str, &'static [u8]) = match name.as_str() {
        "shop.css" => ("text/css", CSS.as_bytes()),
        "shop.js" => ("text/javascript", JS.as_bytes()),
        "shoe.png" => ("image/png", PNG),
        _ => return (StatusCode::NOT_FOUND, "").into_response(),
    };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=3600")], body).into_response()
}

async fn stats(State(shop): Shared) -> Response {
    match shop.stats() {
        Ok(stats) => Json(stats).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

async fn load(State(shop): Shared) -> Json<Reading> {
    Json(shop.meter.reading())
}

fn html(title: &str, body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><link rel=\"stylesheet\" \
         href=\"/static/shop.css\"><script src=\"/static/shop.js\" defer></script><h1>{title}</h1>{body}\
         <p><a href=\"/product/{PRODUCT}\">The drop</a></p></html>"
    ))
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}
