//! The demo: the same shop and the same crowd, once without and once with the gate.

mod audit;
mod beacon;
mod policy;
pub(crate) mod process;
mod promises;
pub(crate) mod stage;
mod table;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

pub use audit::DrawProof;
pub use policy::Defence;
pub use process::Load;
pub use promises::{Broken, GENERATOR_BOUND_PERCENT, promises};
pub use table::{comparison, ramp, rows};

use crate::{
    capacity::{self, Capacity},
    checkers::LiveRoom,
    crowd::Scenario,
    events::Events,
    fairness::{Fairness, fairness},
    judge::{self, JudgeError, Watch},
    live::{self, Progress, Target},
    measure::{Summary, summarise},
    report,
    shop::{ShopSettings, Stats},
};
use audit::Auditor;
use beacon::Relay;
use process::Reading;

/// What the demo is run with.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// The `tidegate` program.
    pub gate: PathBuf,
    /// This program: it is the shop, too.
    pub own: PathBuf,
    /// Where reports, logs and the gate's files go.
    pub out: PathBuf,
    /// The scenario.
    pub scenario: Scenario,
    /// Seed of the crowd.
    pub seed: u64,
    /// The shop, the same in every run.
    pub shop: ShopSettings,
    /// What the gate does about bots.
    pub defence: Defence,
}

/// One of the two runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// `without Tidegate` or `with Tidegate`.
    pub name: String,
    /// What the crowd met.
    pub summary: Summary,
    /// What the shop's database says.
    pub shop: Stats,
    /// How busy the machine was.
    pub load: Load,
    /// What the checkers make of the gate's journal.
    #[serde(default)]
    pub judged: Judged,
    /// Who got which place; `None` where there were none.
    #[serde(default)]
    pub fairness: Option<Fairness>,
    /// What a stranger made of the draw; `None` where nothing was drawn.
    #[serde(default)]
    pub draw: Option<DrawProof>,
}

/// What the checkers make of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Rows of the journal.
    pub rows: usize,
    /// Broken rules, in words.
    pub violations: Vec<String>,
}

impl RunResult {
    /// The machine was the limit, so the run says little about the shop.
    pub fn generator_bound(&self) -> bool {
        self.load.machine_percent > GENERATOR_BOUND_PERCENT
    }

    /// Units sold and in stock.
    pub fn units_delivered(&self) -> u32 {
        self.shop.orders.min(self.shop.stock)
    }

    /// Those of them that people got.
    pub fn units_to_people(&self) -> u32 {
        self.shop.delivered_by_kind.get("person").copied().unwrap_or(0)
    }
}

/// Everything the demo found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DemoResult {
    /// The shop's capacity.
    pub capacity: Capacity,
    /// Straight at the shop.
    pub without: RunResult,
    /// Through the gate.
    pub with: RunResult,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file, a socket or a program.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A child did not say where it listens.
    #[error("the {name} did not say where it listens; run `tidegate-loadtest shop` by hand to see why")]
    Silent {
        /// Which.
        name: &'static str,
    },
    /// A child did not end.
    #[error("the {name} did not stop within {seconds} s and was killed")]
    Stuck {
        /// Which.
        name: &'static str,
        /// How long it was asked.
        seconds: u64,
    },
    /// The gate did not start.
    #[error("the gate is not ready: {why}; its log is {}", log.display())]
    GateNotReady {
        /// What was seen last.
        why: String,
        /// Its log.
        log: PathBuf,
    },
    /// The shop's own account cannot be read.
    #[error("the shop's account: {0}")]
    Account(String),
    /// The run through the gate could not be judged.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// The draw could not be looked at.
    #[error("the draw: {0}")]
    Draw(String),
    /// The report could not be drawn.
    #[error(transparent)]
    Report(#[from] report::ReportError),
}

impl DemoError {
    fn io(what: String, source: std::io::Error) -> Self {
        DemoError::Io { what, source }
    }
}

/// Length of each rung of the capacity ramp.
const STEP: Duration = Duration::from_millis(1_200);

/// Runs everything; `say` gets each line meant for the user.
pub async fn run(options: &DemoOptions, say: &mut dyn FnMut(&str)) -> Result<DemoResult, DemoError> {
    std::fs::create_dir_all(&options.out).map_err(|e| DemoError::io(format!("making {}", options.out.display()), e))?;
    say("1/3  What the shop can take: a closed ramp of workers");
    let capacity = find_capacity(options).await?;
    say(&ramp(&capacity));
    say(&format!("2/3  The crowd of {} goes straight to the shop", options.scenario.name));
    let without = straight(options).await?;
    say(&table::headline(&without));
    say("3/3  The same crowd, through Tidegate");
    let with = gated(options, &capacity).await?;
    say(&table::headline(&with));
    Ok(DemoResult { capacity, without, with })
}

pub(crate) async fn find_capacity(options: &DemoOptions) -> Result<Capacity, DemoError> {
    // The same shop with more units than the ramp can buy: stock is not what is measured here.
    let settings = ShopSettings { stock: 1_000_000, ..options.shop.clone() };
    let (shop, target) = stage::shop(&options.own, &settings).await?;
    let capacity = capacity::measure(&target, STEP).await;
    shop.stop(Duration::from_secs(5)).await?;
    Ok(capacity)
}

async fn straight(options: &DemoOptions) -> Result<RunResult, DemoError> {
    let (shop, target) = stage::shop(&options.own, &options.shop).await?;
    let before = Reading::take(&shop, 0.0);
    let events = storm(options, &target, "crowd-events-without.jsonl").await?;
    let load = Reading::take(&shop, 0.0).since(&before);
    let account = stage::account(&target).await?;
    shop.stop(Duration::from_secs(5)).await?;
    let summary = summarise(&events);
    let name = "without Tidegate".into();
    Ok(RunResult { name, summary, shop: account, load, judged: Judged::default(), fairness: None, draw: None })
}

/// The crowd, through the gate.
pub(crate) async fn gated(options: &DemoOptions, capacity: &Capacity) -> Result<RunResult, DemoError> {
    let (shop, shop_target) = stage::shop(&options.own, &options.shop).await?;
    let capacity_per_s = capacity.peak().map_or(0.0, |r| r.good_per_s);
    let relay = Relay::start().await.map_err(|e| DemoError::io("listening as a beacon".into(), e))?;
    let gate = stage::gate(options, &shop_target, capacity_per_s, &relay).await?;
    // The sale opens at the scenario's minute: the policy was written for this very start.
    let token = std::fs::read_to_string(&gate.token_file).map_err(|e| DemoError::io("reading the admin token".into(), e))?;
    let watch = Watch::start(gate.admin.clone(), token.trim().to_owned()).await?;
    let mut auditor = match options.scenario.freezes_at {
        Some(_) => Some(Auditor::enter(&gate.target, &options.out.join("draw")).await?),
        None => None,
    };
    tokio::time::sleep_until(gate.crowd_starts).await;
    let before = Reading::take(&shop, gate.process.cpu_s());
    let events = storm(options, &gate.target, "crowd-events.jsonl").await?;
    let load = Reading::take(&shop, gate.process.cpu_s()).since(&before);
    let account = stage::account(&shop_target).await?;
    let draw = match &mut auditor {
        Some(auditor) => Some(auditor.check(&options.gate).await?),
        None => None,
    };
    let seen = watch.stop().await?;
    gate.process.stop(Duration::from_secs(15)).await?;
    shop.stop(Duration::from_secs(5)).await?;
    let policy = tidegate_config::load(&gate.policy).map_err(|e| DemoError::Account(e.to_string()))?.policy;
    let rooms = LiveRoom::all(&policy.pipeline_settings());
    let answers = events.list.iter().filter(|e| e.status > 0).count() as u64 + auditor.map_or(0, |a| a.answers);
    let (rows, violations) = judge::judge_run(rooms, &gate.journal, &seen, Some(answers))?;
    let judged = Judged { rows: rows.len(), violations: violations.iter().map(ToString::to_string).collect() };
    let fairness = Some(fairness(&options.scenario, &events, &rows, options.shop.stock.into(), draw.as_ref().map(|d| d.places)));
    let (name, summary) = ("with Tidegate".into(), summarise(&events));
    Ok(RunResult { name, summary, shop: account, load, judged, fairness, draw })
}

/// What the crowd met.
async fn storm(options: &DemoOptions, target: &Target, file: &str) -> Result<Events, DemoError> {
    let progress = Arc::new(Progress::default());
    let shown = tokio::spawn(show(progress.clone(), options.scenario.ends_at.ms()));
    let events = live::run(&options.scenario, options.seed, target, progress).await;
    shown.abort();
    drop(shown.await);
    let path = options.out.join(file);
    events.write(&path).map_err(|e| DemoError::io(format!("writing {}", path.display()), e))?;
    Ok(events)
}

/// A bar on a terminal; nothing elsewhere (indicatif hides it), where the headlines tell the story.
async fn show(progress: Arc<Progress>, ends_at_ms: u64) {
    use std::sync::atomic::Ordering::Relaxed;
    let bar = ProgressBar::new(ends_at_ms / 100);
    if let Ok(style) = ProgressStyle::with_template("     {bar:32} {msg}") {
        bar.set_style(style);
    }
    loop {
        bar.set_message(format!(
            "{} requests, {} orders, {} failed, {} people home",
            progress.requests.load(Relaxed),
            progress.orders.load(Relaxed),
            progress.failures.load(Relaxed),
            progress.people_home.load(Relaxed),
        ));
        bar.inc(1);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Writes `report.html` and `result.json`; returns the report's path.
pub fn write_report(out: &Path, result: &DemoResult, broken: &[Broken]) -> Result<PathBuf, DemoError> {
    let json = out.join("result.json");
    let text = serde_json::to_string_pretty(&serde_json::json!({ "result": result, "broken": broken })).unwrap_or_default();
    std::fs::write(&json, text).map_err(|e| DemoError::io(format!("writing {}", json.display()), e))?;
    let path = out.join("report.html");
    let html = report::html(result, broken)?;
    std::fs::write(&path, html).map_err(|e| DemoError::io(format!("writing {}", path.display()), e))?;
    Ok(path)
}
