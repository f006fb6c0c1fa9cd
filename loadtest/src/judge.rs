//! Watches a live gate over its admin listener while it works, and judges it afterwards by its journal.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::AUTHORIZATION;
use serde_json::Value;
use tidegate_filters::{Row, units::Span};
use tidegate_models::journal::{self, JournalError};

use crate::{
    checkers::{Accounts, Counts, LiveRoom, LiveRun, PlanSample, Violation, judge, metric_sum, metrics_by_label},
    live::{self, Target},
};

/// Time between two looks at the plans. They change once a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looks kept: an hour and a half.
const LOOKS_MAX: usize = 10_800;
/// A row is written when its answer is over; on a busy machine that is later than the decision.
const ROW_SLACK: Span = Span(750);
/// A plan is in force up to one look before it is seen, and the gate's step may be late.
const PLAN_SLACK: Span = Span(1_500);
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a run could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The admin listener did not answer as it should.
    #[error("the gate's admin listener: {0}; is its token right?")]
    Admin(String),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Looks at a gate until it is told to stop.
#[derive(Debug)]
pub struct Watch {
    admin: Target,
    token: String,
    plans: Arc<Mutex<Vec<PlanSample>>>,
    looking: tokio::task::JoinHandle<()>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Plans in the order they were seen.
    pub plans: Vec<PlanSample>,
    /// Of each room, its own numbers at the end.
    pub counts: Vec<(String, Counts)>,
    /// The last metrics.
    pub metrics: String,
}

impl Watch {
    /// Begins; the first look is over when it returns, so begin before the crowd comes.
    pub async fn start(admin: Target, token: String) -> Result<Self, JudgeError> {
        let plans = Arc::new(Mutex::new(look(&admin, &token).await?.0));
        let (to, from, with) = (plans.clone(), admin.clone(), token.clone());
        let looking = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let Ok((samples, _)) = look(&from, &with).await else { continue };
                let mut plans = to.lock().unwrap_or_else(PoisonError::into_inner);
                if plans.len() < LOOKS_MAX {
                    plans.extend(samples);
                }
            }
        });
        Ok(Watch { admin, token, plans, looking })
    }

    /// The last look. Call when the crowd has gone, before the gate stops.
    pub async fn stop(self) -> Result<Seen, JudgeError> {
        self.looking.abort();
        let (last, counts) = look(&self.admin, &self.token).await?;
        let mut plans = std::mem::take(&mut *self.plans.lock().unwrap_or_else(PoisonError::into_inner));
        plans.extend(last);
        let metrics = ask(&self.admin, &self.token, "/metrics").await?;
        Ok(Seen { plans, counts, metrics: String::from_utf8_lossy(&metrics).into_owned() })
    }
}

/// Judges a run by its journal. Call when the gate has stopped: the last file is whole then. `answers`: what the crowd
/// got from the gate. Gives the journal's rows, and what is wrong.
pub fn judge_run(
    rooms: Vec<LiveRoom>,
    journal: &Path,
    seen: &Seen,
    answers: Option<u64>,
) -> Result<(Vec<Row>, Vec<Violation>), JudgeError> {
    let mut rows: Vec<Row> = Vec::new();
    for file in journal::list(journal)? {
        rows.extend(journal::read(&file)?);
    }
    rows.sort_by_key(|r| r.mono_ns);
    let counts = |name: &str| seen.counts.iter().find(|(n, _)| n == name).map(|(_, c)| *c);
    let rooms = rooms.into_iter().map(|r| LiveRoom { counts: counts(&r.name), ..r }).collect();
    let run = LiveRun {
        rows: &rows,
        rooms,
        plans: &seen.plans,
        accounts: accounts(&seen.metrics, answers),
        slack: ROW_SLACK,
        plan_slack: PLAN_SLACK,
    };
    let violations = judge(&run.log());
    Ok((rows, violations))
}

fn accounts(metrics: &str, answers: Option<u64>) -> Accounts {
    let heads_refused = metrics_by_label(metrics, "tidegate_refused_heads_total", "reason");
    Accounts {
        rows_dropped: metric_sum(metrics, "tidegate_journal_rows_dropped_total").unwrap_or(0),
        parsed: metric_sum(metrics, "tidegate_requests_parsed_total"),
        heads_refused_total: metric_sum(metrics, "tidegate_refused_heads_total"),
        heads_refused,
        answers,
        ..Accounts::default()
    }
}

async fn look(admin: &Target, token: &str) -> Result<(Vec<PlanSample>, Vec<(String, Counts)>), JudgeError> {
    let body = ask(admin, token, "/v1/rooms").await?;
    let rooms: Value = serde_json::from_slice(&body).map_err(|e| JudgeError::Admin(format!("/v1/rooms: {e}")))?;
    let rooms = rooms.as_array().map_or(&[] as &[Value], Vec::as_slice);
    let now = crate::unix_ms();
    let counts = |r: &Value| Some((r.get("name")?.as_str()?.to_owned(), Counts::from_stats(r)?));
    Ok((rooms.iter().filter_map(|r| PlanSample::from_stats(now, r)).collect(), rooms.iter().filter_map(counts).collect()))
}

async fn ask(admin: &Target, token: &str, path: &str) -> Result<Bytes, JudgeError> {
    let uri = format!("{admin}{path}");
    let wrong = |e: String| JudgeError::Admin(format!("{path}: {e}"));
    let request = hyper::Request::get(&uri).header(AUTHORIZATION, format!("Bearer {token}"));
    let request = request.body(Full::new(Bytes::new())).map_err(|e| wrong(e.to_string()))?;
    let exchange = async {
        let response = live::client().request(request).await.map_err(|e| wrong(e.to_string()))?;
        if !response.status().is_success() {
            return Err(wrong(response.status().to_string()));
        }
        let body = response.into_body().collect().await.map_err(|e| wrong(e.to_string()))?;
        Ok(body.to_bytes())
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(wrong("no answer in 5 s".into())))
}
