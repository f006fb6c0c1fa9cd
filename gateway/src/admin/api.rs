//! What the admin API answers.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{Path, State},
    http::{HeaderName, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tidegate_config::Problem;
use tidegate_filters::{
    Rate, Span,
    seats::{
        operate::{Action, MESSAGE_MAX},
        room::RoomStats,
    },
};

use super::App;
use crate::{
    canonical,
    control::{Applied, Control, InForce, LoadError},
    draw::Unwanted,
    forecasting::ForecastStatus,
    operate::{By, Bypass, OperateError, SaleStatus, Target},
};

/// Largest body, bytes: as large as a policy file may be.
pub const BODY_MAX: usize = 1 << 20;
/// How a bypass is asked for.
const BYPASS_INSTEAD: &str =
    r#"send {"host": "shop.example", "room": "drop", "for": "8h"}; without a room it is for all of them"#;

pub(super) type Answer<T> = Result<T, Fault>;

/// What went wrong, and what to do.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    #[serde(skip)]
    status: StatusCode,
    /// Stable, for programs.
    code: &'static str,
    /// For people.
    what: String,
    /// What to do.
    instead: String,
    /// Problems of a policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Problem>,
    /// What is doubtful in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Problem>,
}

impl Fault {
    pub(super) fn new(status: StatusCode, code: &'static str, what: &str, instead: &str) -> Self {
        Fault { status, code, what: what.into(), instead: instead.into(), errors: Vec::new(), warnings: Vec::new() }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

impl From<OperateError> for Fault {
    fn from(e: OperateError) -> Self {
        let (status, code, instead) = match &e {
            OperateError::Unknown { what: "sale", .. } => (StatusCode::NOT_FOUND, "NO_SALE", "GET /v1/sales lists the sales"),
            OperateError::Unknown { .. } => (StatusCode::NOT_FOUND, "NO_ROOM", "GET /v1/rooms lists the rooms"),
            OperateError::Useless { .. } => (StatusCode::CONFLICT, "USELESS", "GET /v1/rooms and /v1/sales say how they are"),
            OperateError::Drawn { .. } => (
                StatusCode::CONFLICT,
                "DRAWN",
                "before the first entry apply a policy with an earlier `opens_at`; after it call the sale off with `cancelled: REASON` and write one that `redraws` it",
            ),
            OperateError::Bypass(_) => (StatusCode::BAD_REQUEST, "BYPASS", BYPASS_INSTEAD),
            OperateError::Entropy(_) => (StatusCode::INTERNAL_SERVER_ERROR, "ENTROPY", "mend the system's random source"),
        };
        Fault::new(status, code, &e.to_string(), instead)
    }
}

impl From<LoadError> for Fault {
    fn from(e: LoadError) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        match e {
            LoadError::Policy(p) => Fault {
                errors: p.errors,
                warnings: p.warnings,
                ..Fault::new(status, "POLICY", "the policy has errors; the old one stays in force", "mend what `errors` lists")
            },
            LoadError::Promised(_) => Fault::new(
                StatusCode::CONFLICT,
                "PROMISED",
                &e.to_string(),
                "keep what people were promised, as `what` says; GET /v1/policy is the policy that does",
            ),
            LoadError::Model(_) => Fault::new(status, "MODEL", &e.to_string(), "write `model: builtin`, or mend the file"),
            LoadError::Bots(_) => Fault::new(status, "GOOD_BOTS", &e.to_string(), "mend the file, or name another"),
            LoadError::NoFile => {
                Fault::new(StatusCode::CONFLICT, "NO_FILE", &e.to_string(), "POST the policy to /v1/policy/apply")
            }
            LoadError::Store(_) => {
                Fault::new(StatusCode::SERVICE_UNAVAILABLE, "STATE", &e.to_string(), "try again once the state's disk works")
            }
            LoadError::Entropy(_) => {
                Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "ENTROPY", &e.to_string(), "mend the system's random source")
            }
        }
    }
}

/// `/v1/status`.
#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    ready: bool,
    uptime_s: u64,
    troubles: Vec<String>,
    policy: InForce,
    connections: u32,
    in_flight: InFlight,
    capacity_per_s: f64,
    forecast: Option<ForecastStatus>,
    upstreams: Vec<Server>,
    rooms: Vec<RoomStats>,
    sales: Vec<SaleStatus>,
    verdicts: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct InFlight {
    limit: u32,
    held: u32,
    waiting: u32,
    peak: u32,
    bound: bool,
}

#[derive(Serialize)]
struct Server {
    address: String,
    weight: u16,
    healthy: bool,
}

pub(super) async fn dashboard() -> Html<&'static str> {
    Html(include_str!("dashboard.html"))
}

pub(super) async fn health() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(app): State<App>) -> (StatusCode, &'static str) {
    match app.control.shared.is_stopping() {
        false => (StatusCode::OK, "ready\n"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}

pub(super) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.control.metrics_text())
}

pub(super) async fn status(State(app): State<App>) -> Json<impl Serialize> {
    Json(status_of(&app.control))
}

fn status_of(control: &Control) -> Status {
    let shared = &control.shared;
    let seen = control.seen();
    let active = shared.active.load();
    let servers = active.upstreams.states().into_iter();
    Status {
        version: env!("TIDEGATE_VERSION"),
        ready: !shared.is_stopping(),
        uptime_s: shared.clock.now().mono_s(),
        troubles: shared.troubles(),
        policy: control.in_force(),
        connections: shared.caps.open(),
        in_flight: InFlight {
            limit: seen.in_flight.limit,
            held: seen.in_flight.held,
            waiting: seen.in_flight.waiting,
            peak: seen.in_flight.peak,
            bound: seen.in_flight.bound,
        },
        capacity_per_s: seen.capacity_per_s,
        forecast: control.forecast(),
        upstreams: servers.map(|s| Server { address: s.address.to_string(), weight: s.weight, healthy: s.healthy }).collect(),
        rooms: control.rooms(),
        sales: control.sales(),
        verdicts: control.metrics.verdicts().into_iter().collect(),
    }
}

/// The system's clock is right: believed from now on.
pub(super) async fn clock_accept(State(app): State<App>) -> Json<Status> {
    let clock = &app.control.shared.clock;
    tracing::warn!(stepped_ms = clock.doubt_ms(), "an operator accepted the system's clock");
    clock.accept();
    Json(status_of(&app.control))
}

pub(super) async fn rooms(State(app): State<App>) -> Json<Vec<RoomStats>> {
    Json(app.control.rooms())
}

pub(super) async fn act_on_room(
    State(app): State<App>,
    Path((room, action)): Path<(String, String)>,
    body: Body,
) -> Answer<Json<RoomStats>> {
    let action = action_of(&action, body).await?;
    let done = app.control.operate(Target::Room(&room), &action, By::Admin)?;
    kept(&app, done).await
}

/// An answer is a promise: what an operator did holds over a kill right after it.
async fn kept(app: &App, done: RoomStats) -> Answer<Json<RoomStats>> {
    let active = app.control.shared.active.load_full();
    if let Some(room) = active.pipeline.rooms().iter().find(|r| r.name() == done.name) {
        app.control.shared.keep_now(room).await.map_err(|e| {
            let what = format!("done, but it is not on the disk: {e}; a restart now would undo it");
            Fault::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "NOT_KEPT",
                &what,
                "mend the disk of `state`; it is written by itself then",
            )
        })?;
    }
    Ok(Json(done))
}

pub(super) async fn act_on_sale(
    State(app): State<App>,
    Path((sale, action)): Path<(String, String)>,
    body: Body,
) -> Answer<Json<RoomStats>> {
    let action = action_of(&action, body).await?;
    let done = app.control.operate(Target::Sale(&sale), &action, By::Admin)?;
    kept(&app, done).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Slow {
    rate: Option<Rate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    /// Null takes it back; left out is a mistake.
    #[serde(deserialize_with = "Option::deserialize")]
    text: Option<String>,
}

/// The action a path names, with its value from the body.
async fn action_of(name: &str, body: Body) -> Answer<Action> {
    match name {
        "slow" => {
            let instead = r#"send {"rate": "10/s"}, or {"rate": null} to lift the cap"#;
            let Slow { rate } = json(body, instead).await?;
            if rate.is_some_and(|r| r.as_per_s() <= 0.0) {
                let what = "a room that lets nobody in is paused";
                return Err(Fault::new(StatusCode::BAD_REQUEST, "NO_RATE", what, "POST …/pause, or send a rate above 0"));
            }
            Ok(Action::Slow(rate))
        }
        "message" => {
            let instead = r#"send {"text": "at most 500 characters"}, or {"text": null} to take it back"#;
            let Message { text } = json(body, instead).await?;
            if text.as_ref().is_some_and(|t| t.chars().count() > MESSAGE_MAX) {
                let what = "the message is longer than 500 characters";
                return Err(Fault::new(StatusCode::BAD_REQUEST, "TOO_LONG", what, instead));
            }
            if text.as_ref().is_some_and(|t| t.chars().any(canonical::is_invisible)) {
                let what = "the message has a control character: everybody who waits reads it as one line";
                return Err(Fault::new(StatusCode::BAD_REQUEST, "CONTROL_CHARACTER", what, instead));
            }
            Ok(Action::Message(text))
        }
        name => {
            let action = Action::named(name).ok_or_else(|| {
                let instead = "actions are: pause, resume, drain, close, open, as_written, slow, message";
                Fault::new(StatusCode::NOT_FOUND, "NO_ACTION", "there is no such action", instead)
            })?;
            no_value(body, "send it without a body; only slow and message take one").await?;
            Ok(action)
        }
    }
}

/// A value sent along was meant for something: `pause` with a duration would surprise by never ending.
pub(super) async fn no_value(body: Body, instead: &str) -> Answer<()> {
    match bytes(body).await?.trim_ascii() {
        b"" | b"{}" => Ok(()),
        _ => Err(Fault::new(StatusCode::BAD_REQUEST, "NO_VALUE", "this action takes no value", instead)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MakeBypass {
    #[serde(default)]
    room: String,
    host: String,
    #[serde(rename = "for")]
    for_: Span,
}

pub(super) async fn bypass(State(app): State<App>, body: Body) -> Answer<Json<Bypass>> {
    let MakeBypass { room, host, for_ } = json(body, BYPASS_INSTEAD).await?;
    Ok(Json(app.control.bypass(&room, &host, for_.ms())?))
}

pub(super) async fn policy(State(app): State<App>) -> impl IntoResponse {
    let in_force = app.control.in_force();
    let sha256 = (HeaderName::from_static("tidegate-policy-sha256"), in_force.sha256);
    let kind = (header::CONTENT_TYPE, "application/yaml; charset=utf-8".to_owned());
    ([kind, sha256], in_force.text.to_string())
}

/// What check and apply answer when there is nothing to mend.
#[derive(Serialize)]
struct Checked {
    applied: bool,
    #[serde(flatten)]
    outcome: Applied,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

pub(super) async fn policy_check(State(app): State<App>, body: Body) -> Answer<Json<impl Serialize>> {
    let text = text(body).await?;
    let outcome = load(app.control, move |c| c.check(&text)).await?;
    Ok(Json(Checked { applied: false, outcome, note: None }))
}

pub(super) async fn policy_apply(State(app): State<App>, body: Body) -> Answer<Json<impl Serialize>> {
    let text = text(body).await?;
    let outcome = load(app.control, move |c| c.apply(&text)).await?;
    let note = match outcome.kept {
        true => {
            "in force, over a restart as well: the policy file is as it was, and counts again once it is changed or loaded again; write this text to it"
        }
        false => {
            "in force in memory only, since this gate keeps nothing (`state`, a policy file): the policy file counts again at the next reload or restart; write this text to it"
        }
    };
    Ok(Json(Checked { applied: true, outcome, note: Some(note) }))
}

pub(super) async fn policy_reload(State(app): State<App>) -> Answer<Json<impl Serialize>> {
    let outcome = load(app.control, |c| c.reload()).await?;
    Ok(Json(Checked { applied: true, outcome, note: None }))
}

pub(super) async fn no_such_path() -> Fault {
    let instead = "GET /healthz /readyz /metrics /v1/status /v1/rooms /v1/sales /v1/appeals /v1/policy; POST /v1/rooms/NAME/ACTION, \
                   /v1/sales/NAME/ACTION (pause resume drain close open as_written slow message), \
                   /v1/sales/NAME/sold restock holds/NUMBER, /v1/appeals/REFERENCE, /v1/bots/promote rollback, /v1/bypass, /v1/beacon, /v1/policy/check apply reload";
    Fault::new(StatusCode::NOT_FOUND, "NO_SUCH_PATH", "there is nothing at this path", instead)
}

/// A beacon round that a frozen list waits for, as drand's API answers it. Its signature is checked.
pub(super) async fn beacon(State(app): State<App>, body: Body) -> Answer<Json<serde_json::Value>> {
    let text = text(body).await?;
    let wrong = |why: Unwanted| Fault::new(StatusCode::UNPROCESSABLE_ENTITY, "BEACON", &why.to_string(), &why.instead());
    let round = crate::draw::read_round(&text, "").ok_or_else(|| wrong(Unwanted::Wrong("this is no beacon round".into())))?;
    let (source, number) = (round.source.clone(), round.round);
    let draws = app.control.clone();
    // A pairing takes milliseconds: not on the thread that answers health checks.
    let checked = tokio::task::spawn_blocking(move || draws.shared.draws.bring(&draws.shared.active.load(), round)).await;
    let gone = |_| Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "FAILED", "the check broke off", "see the log and try again");
    checked.map_err(gone)?.map_err(wrong)?;
    Ok(Json(serde_json::json!({ "source": source, "round": number })))
}

pub(super) async fn no_such_method() -> Fault {
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, "NO_SUCH_METHOD", "this path has another method", "GET reads, POST acts")
}

async fn load(
    control: Arc<Control>,
    act: impl FnOnce(&Control) -> Result<Applied, LoadError> + Send + 'static,
) -> Answer<Applied> {
    aside(control, act, "the load broke off", "see the log; the old policy stays").await
}

/// What reads files and tries models is not done on the thread that answers health checks.
pub(super) async fn aside<T: Send + 'static, E: Into<Fault> + Send + 'static>(
    control: Arc<Control>,
    act: impl FnOnce(&Control) -> Result<T, E> + Send + 'static,
    broken: &'static str,
    instead: &'static str,
) -> Answer<T> {
    let done = tokio::task::spawn_blocking(move || act(&control)).await;
    let gone = |_| Fault::new(StatusCode::INTERNAL_SERVER_ERROR, "FAILED", broken, instead);
    done.map_err(gone)?.map_err(Into::into)
}

async fn bytes(body: Body) -> Answer<Vec<u8>> {
    let instead = "send a body of at most 1 MiB";
    let bytes = to_bytes(body, BODY_MAX).await;
    let bytes =
        bytes.map_err(|_| Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY", "the body is too large or broke off", instead))?;
    Ok(bytes.into())
}

async fn text(body: Body) -> Answer<String> {
    let instead = "send the policy as YAML: curl --data-binary @policy.yaml";
    let text = String::from_utf8(bytes(body).await?);
    let text = text.map_err(|_| Fault::new(StatusCode::BAD_REQUEST, "NOT_TEXT", "the body is not UTF-8", instead))?;
    if text.trim().is_empty() {
        return Err(Fault::new(StatusCode::BAD_REQUEST, "EMPTY", "the body is empty", instead));
    }
    Ok(text)
}

pub(super) async fn json<T: DeserializeOwned>(body: Body, instead: &str) -> Answer<T> {
    let bytes = bytes(body).await?;
    serde_json::from_slice(&bytes).map_err(|e| Fault::new(StatusCode::BAD_REQUEST, "NOT_JSON", &e.to_string(), instead))
}
