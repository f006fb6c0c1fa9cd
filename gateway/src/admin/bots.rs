//! A trained model becomes the live one, and the one before comes back.

use std::{path::PathBuf, sync::Arc};

use axum::{Json, body::Body, extract::State, http::StatusCode};
use serde::Deserialize;
use tidegate_models::tune::HURT_MAX;

use super::{
    App,
    api::{Answer, Fault, aside, json, no_value},
};
use crate::{
    control::Control,
    promote::{PromoteError, Promoted, Wish},
};

const PROMOTE: &str = r#"send {"model": "/path/of/the/new.onnx"}, a file on the gate's machine with its card; "labels": FILE, "hurt_max": 0.01 and "force": true as with `tidegate bots promote`"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Promote {
    model: PathBuf,
    labels: Option<PathBuf>,
    #[serde(default = "hurt_max")]
    hurt_max: f64,
    #[serde(default)]
    force: bool,
}

fn hurt_max() -> f64 {
    HURT_MAX
}

impl From<PromoteError> for Fault {
    fn from(e: PromoteError) -> Self {
        let (status, code, instead) = match e {
            PromoteError::Load(e) => return e.into(),
            PromoteError::NoSeat(_) => {
                (StatusCode::CONFLICT, "NO_FILE", "the policy's bot_gate names the file of the live model")
            }
            PromoteError::Unfit(_) => (StatusCode::UNPROCESSABLE_ENTITY, "MODEL", "mend the file, or train it anew"),
            PromoteError::Labels(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "LABELS", "name a file as `tidegate bots label` writes it")
            }
            PromoteError::Uncompared(_) => {
                (StatusCode::CONFLICT, "UNCOMPARED", "compare the models on a journal, or send `\"force\": true`")
            }
            PromoteError::Refused(_) => (
                StatusCode::CONFLICT,
                "NOT_PROMOTED",
                "`tidegate bots promote` shows the comparison; `\"force\": true` does it all the same",
            ),
            PromoteError::Same => (StatusCode::CONFLICT, "USELESS", "GET /v1/status says which model is live"),
        };
        Fault::new(status, code, &e.to_string(), instead)
    }
}

pub(super) async fn promote(State(app): State<App>, body: Body) -> Answer<Json<Promoted>> {
    let Promote { model, labels, hurt_max, force } = json(body, PROMOTE).await?;
    if !(0.0..=1.0).contains(&hurt_max) {
        return Err(Fault::new(StatusCode::BAD_REQUEST, "HURT_MAX", "hurt_max is a share from 0 to 1", PROMOTE));
    }
    let wish = Wish { model, labels, hurt_max, force };
    replace(app.control, move |c| c.promote(&wish)).await
}

pub(super) async fn roll_back(State(app): State<App>, body: Body) -> Answer<Json<Promoted>> {
    no_value(body, "send it without a body").await?;
    replace(app.control, |c| c.roll_back()).await
}

async fn replace(
    control: Arc<Control>,
    act: impl FnOnce(&Control) -> Result<Promoted, PromoteError> + Send + 'static,
) -> Answer<Json<Promoted>> {
    let instead = "see the log; GET /v1/status says which model is live";
    aside(control, act, "the promotion broke off", instead).await.map(Json)
}
