//! Appeals of refused visitors, and what becomes of them.

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use tidegate_filters::reference::Reference;

use super::{
    App,
    api::{Answer, Fault, json},
};
use crate::{
    appeal::{Appeal, TEXT_MAX},
    canonical,
};

const DECIDE: &str = r#"send {"grant": true} or {"grant": false}, and {"say": "at most 500 characters"} for the visitor"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decide {
    grant: bool,
    #[serde(default)]
    say: String,
}

/// All of them, undecided ones first.
pub(super) async fn list(State(app): State<App>) -> Json<Vec<Appeal>> {
    Json(app.control.shared.appeals.list())
}

/// Decides one, also again.
pub(super) async fn decide(State(app): State<App>, Path(reference): Path<String>, body: Body) -> Answer<Json<Appeal>> {
    let Decide { grant, say } = json(body, DECIDE).await?;
    if say.chars().count() > TEXT_MAX || say.chars().any(canonical::is_invisible) {
        let what = "what is said to the visitor is too long, or has a control character";
        return Err(Fault::new(StatusCode::BAD_REQUEST, "SAY", what, DECIDE));
    }
    // As people type it.
    let reference = reference.parse::<Reference>().map_or(reference, |r| r.to_string());
    let decided = app.control.decide_appeal(&reference, grant, say).await.map_err(|e| {
        Fault::new(StatusCode::NOT_FOUND, "NO_APPEAL", &e.to_string(), "GET /v1/appeals lists them with their references")
    })?;
    decided.map(Json).map_err(|e| {
        let what = format!("decided, but it is not on the disk: {e}; a restart now would undo it");
        Fault::new(StatusCode::SERVICE_UNAVAILABLE, "NOT_KEPT", &what, "mend the disk of `state`, then send it again")
    })
}
