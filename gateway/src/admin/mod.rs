//! The admin API on its own listener and its own small runtime, so that a flood of visits cannot keep the operator out.
//!
//! `/healthz`, `/readyz` and the dashboard's page need no token; everything else needs `Authorization: Bearer TOKEN`.

use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use thiserror::Error;
use tokio::sync::watch;

use crate::{control::Control, keys::KeyError};

mod api;
mod appeals;
mod bots;
mod listener;
mod sales;
mod token;

pub use api::{BODY_MAX, Fault};
pub use listener::{CONNECTIONS_MAX, SILENCE_MAX};
pub use token::{TOKEN_MIN, Token};

/// An answer that takes longer is given up; a policy with a model on trial may take this long.
pub const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Answers under way at the end are waited for this long.
const LINGER: Duration = Duration::from_secs(1);

/// Why there is no admin API.
#[derive(Debug, Error)]
pub enum AdminError {
    /// The address cannot be bound.
    #[error("admin listener {address}: {error}; choose another address or stop what uses it")]
    Bind {
        /// As in the policy.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The token cannot be used.
    #[error("admin token: {0}")]
    Token(#[from] KeyError),
}

/// The bound socket and the token, before anything runs.
#[derive(Debug)]
pub struct Admin {
    socket: std::net::TcpListener,
    address: SocketAddr,
    token: Option<Token>,
}

#[derive(Clone)]
struct App {
    control: Arc<Control>,
    token: Option<Token>,
}

impl Admin {
    /// Binds and reads the token; errors come now, not later.
    pub fn bind(settings: &tidegate_config::Admin) -> Result<Admin, AdminError> {
        let bind = |error| AdminError::Bind { address: settings.address, error };
        let token = settings.token_file.as_deref().map(Token::open).transpose()?;
        let socket = std::net::TcpListener::bind(settings.address).map_err(bind)?;
        socket.set_nonblocking(true).map_err(bind)?;
        let address = socket.local_addr().map_err(bind)?;
        Ok(Admin { socket, address, token })
    }

    /// The real address: port 0 has become a port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves on a thread of its own until `stop` is true.
    pub fn serve(self, control: Arc<Control>, mut stop: watch::Receiver<bool>) -> std::io::Result<thread::JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
        let app = router(App { control, token: self.token });
        thread::Builder::new().name("admin".into()).spawn(move || {
            runtime.block_on(async move {
                let socket = match tokio::net::TcpListener::from_std(self.socket) {
                    Ok(socket) => socket,
                    Err(error) => return tracing::error!(%error, "the admin API cannot run"),
                };
                let mut stopped = stop.clone();
                let graceful = async move { drop(stopped.wait_for(|s| *s).await) };
                let serve = axum::serve(listener::Listener::new(socket), app).with_graceful_shutdown(graceful);
                let late = async move {
                    let _ = stop.wait_for(|s| *s).await;
                    tokio::time::sleep(LINGER).await;
                };
                tokio::select! {
                    _ = serve.into_future() => {}
                    () = late => {}
                }
            });
            runtime.shutdown_background();
        })
    }
}

use std::future::IntoFuture as _;

fn router(app: App) -> Router {
    let protected = Router::new()
        .route("/metrics", get(api::metrics))
        .route("/v1/status", get(api::status))
        .route("/v1/rooms", get(api::rooms))
        .route("/v1/rooms/{name}/{action}", post(api::act_on_room))
        .route("/v1/sales/{name}/{action}", post(api::act_on_sale))
        .route("/v1/bypass", post(api::bypass))
        .route("/v1/sales", get(sales::list))
        .route("/v1/sales/{name}", get(sales::one))
        .route("/v1/sales/{name}/sold", post(sales::sold))
        .route("/v1/sales/{name}/restock", post(sales::restock))
        .route("/v1/sales/{name}/holds/{hold}", post(sales::resolve))
        .route("/v1/appeals", get(appeals::list))
        .route("/v1/appeals/{reference}", post(appeals::decide))
        .route("/v1/bots/promote", post(bots::promote))
        .route("/v1/bots/rollback", post(bots::roll_back))
        .route("/v1/clock/accept", post(api::clock_accept))
        .route("/v1/beacon", post(api::beacon))
        .route("/v1/policy", get(api::policy))
        .route("/v1/policy/check", post(api::policy_check))
        .route("/v1/policy/apply", post(api::policy_apply))
        .route("/v1/policy/reload", post(api::policy_reload))
        .route_layer(from_fn_with_state(app.clone(), authorize));
    Router::new()
        .route("/", get(api::dashboard))
        .route("/healthz", get(api::health))
        .route("/readyz", get(api::ready))
        .merge(protected)
        .fallback(api::no_such_path)
        .method_not_allowed_fallback(api::no_such_method)
        .layer(from_fn_with_state(app.clone(), dress))
        .with_state(app)
}

async fn authorize(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(token) = &app.token else {
        let instead = "write `token_file` below `admin` in the policy (the file is made when missing) and restart";
        return Fault::new(StatusCode::FORBIDDEN, "NO_TOKEN_FILE", "this gate has no admin token", instead).into_response();
    };
    let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    if token.is_in(authorization) {
        return next.run(request).await;
    }
    let what = if authorization.is_some() { "this is not the token of this gate" } else { "a token is needed" };
    let instead = "send `Authorization: Bearer TOKEN` with the first line of the policy's admin.token_file";
    let mut response = Fault::new(StatusCode::UNAUTHORIZED, "TOKEN_NEEDED", what, instead).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// The deadline and the headers of every answer.
async fn dress(State(_): State<App>, request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(ANSWER_MAX, next.run(request)).await;
    let mut response = answer.unwrap_or_else(|_| {
        let what = format!("no answer within {} s", ANSWER_MAX.as_secs());
        Fault::new(StatusCode::SERVICE_UNAVAILABLE, "TOO_SLOW", &what, "try again; GET /v1/status says what is in force")
            .into_response()
    });
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, private"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let csp = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; form-action 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(csp));
    response
}

#[cfg(test)]
mod forecast_tests;
#[cfg(test)]
mod tests;
