//! Orders, not requests: what a shop completes behind the gate, behind what others put there, and alone, when more people
//! come than it can serve. One shop, one crowd, one run; every tier gets the same people at the same moments.

mod burst;
mod cell;
mod envoy;
mod load;
mod page;
mod paper;
mod table;
mod tier;
mod verdict;
mod watch;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

pub use self::{
    burst::{BurstRow, burst_sizes},
    cell::{Base, Cell},
    envoy::find as find_envoy,
    load::{Load, Timing},
    page::html,
    paper::{PaperCell, paper_cell},
    table::text,
    tier::{Known, Programs, Tier},
    verdict::{Verdict, verdicts},
};
use self::{
    cell::Seen,
    tier::Front,
    watch::{Watch, between},
};
use crate::{
    bench::{self, Workplace, process::Server, rivals},
    capacity::{self, Capacity},
    demo::{process::Process, process::Reading, stage},
    judge,
    live::{self, Progress, Target},
    shop::ShopSettings,
};

/// Length of each rung of the capacity ramp.
const RUNG: Duration = Duration::from_millis(1_500);
/// An unloaded shop is looked at for so long.
const UNLOADED: Duration = Duration::from_secs(3);
/// What a cell needs besides the crowd: starting and stopping two programs.
const CELL_EXTRA_MS: u64 = 1_300;
/// What a run needs besides its cells.
const RUN_EXTRA_MS: u64 = 30_000;
/// A cell of weight one is not shorter and not longer than this.
const CELL_MS: (f64, f64) = (5_000.0, 40_000.0);
/// Fixed at half and at double the right rate is looked at where it shows: at this load.
const MISSIZED_AT: Load = Load::Times(4);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The programs.
    pub programs: Programs,
    /// This program: it is the shop, too.
    pub own: PathBuf,
    /// Seed of the crowd.
    pub seed: u64,
    /// What stands before the shop.
    pub tiers: Vec<Tier>,
    /// What is offered.
    pub loads: Vec<Load>,
    /// The whole run takes about this long at most.
    pub budget: Duration,
    /// The shop, the same in every cell, with units enough.
    pub shop: ShopSettings,
}

/// Everything of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where this was.
    pub machine: String,
    /// Of others, too.
    pub versions: Vec<String>,
    /// The system's load average over a minute, before and after.
    pub load_average: (f64, f64),
    /// Seed of the crowd.
    pub seed: u64,
    /// The ramp.
    pub capacity: Capacity,
    /// What everything is compared with.
    pub base: Base,
    /// Cell by cell.
    pub cells: Vec<Cell>,
    /// What could not be run, and why.
    pub left_out: Vec<String>,
    /// Burst sizes, in simulation.
    pub bursts: Vec<BurstRow>,
    /// What was aimed at, and what became of it.
    pub verdicts: Vec<Verdict>,
}

/// Runs everything.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let load_before = load_average();
    let (tiers, left_out) = present(options);
    let mut cells: Vec<(Tier, Load)> = Vec::new();
    // All tiers under one load after each other: whatever else the machine does hits neighbours alike.
    for load in &options.loads {
        let wanted = |t: &&Tier| !matches!(t, Tier::FixedHalf | Tier::FixedDouble) || *load == MISSIZED_AT || tiers.len() <= 2;
        cells.extend(tiers.iter().filter(wanted).map(|t| (*t, *load)));
    }
    let unit_ms = unit_ms(options.budget, &cells);
    let bar = bar(cells.len() as u64);
    bar.set_message("what the shop can take");
    let (capacity, base) = measure_shop(options).await?;
    let mut done = Vec::new();
    for (tier, load) in cells {
        bar.set_message(format!("{}, {}", load.name(), tier.name()));
        let timing = Timing::of((unit_ms * load.weight()) as u64);
        done.push(one(options, tier, load, timing, &capacity, &base).await.with_context(|| tier.name())?);
        bar.inc(1);
    }
    bar.set_message("burst sizes, in simulation");
    let seed = options.seed;
    let bursts = tokio::task::spawn_blocking(move || burst_sizes(seed)).await?;
    bar.finish_and_clear();
    let verdicts = verdicts(&done, &bursts);
    Ok(Report {
        machine: bench::machine(),
        versions: versions(&tiers),
        load_average: (load_before, load_average()),
        seed: options.seed,
        capacity,
        base,
        cells: done,
        left_out,
        bursts,
        verdicts,
    })
}

fn present(options: &Options) -> (Vec<Tier>, Vec<String>) {
    let mut left_out = Vec::new();
    let mut there = Vec::new();
    for tier in &options.tiers {
        match tier.missing(&options.programs) {
            Some(why) => left_out.push(format!("{}: left out: {why}", tier.name())),
            None => there.push(*tier),
        }
    }
    (there, left_out)
}

/// Length of a cell of weight one, as the budget allows.
fn unit_ms(budget: Duration, cells: &[(Tier, Load)]) -> f64 {
    let extra = RUN_EXTRA_MS + CELL_EXTRA_MS * cells.len() as u64;
    let weights: f64 = cells.iter().map(|(_, load)| load.weight()).sum();
    let each = (budget.as_millis() as u64).saturating_sub(extra) as f64 / weights.max(0.1);
    each.clamp(CELL_MS.0, CELL_MS.1)
}

/// A closed ramp, then the same walk by one worker: an unloaded shop.
async fn measure_shop(options: &Options) -> anyhow::Result<(Capacity, Base)> {
    let (shop, target) = stage::shop(&options.own, &options.shop).await?;
    let capacity = capacity::measure(&target, RUNG).await;
    let watch = Watch::start(&target);
    capacity::alone(&target, UNLOADED).await;
    let looks = watch.stop();
    shop.stop(Duration::from_secs(5)).await?;
    let unloaded = between(&looks, 0, u64::MAX);
    let base = Base {
        orders_per_s: capacity.orders_per_s(),
        p50_ms: unloaded.quantile_ms(0.5).context("the unloaded shop answered nothing")?,
        p99_ms: unloaded.quantile_ms(0.99).context("the unloaded shop answered nothing")?,
        pool: options.shop.pool,
    };
    anyhow::ensure!(base.orders_per_s >= 1.0, "the shop takes {:.1} orders a second: too few to compare", base.orders_per_s);
    Ok((capacity, base))
}

async fn one(o: &Options, tier: Tier, load: Load, timing: Timing, capacity: &Capacity, base: &Base) -> anyhow::Result<Cell> {
    let dir = Workplace::new()?;
    let (shop, shop_target) = stage::shop(&o.own, &o.shop).await?;
    let address: SocketAddr = shop_target.authority().parse()?;
    let peak = capacity.peak().context("an empty ramp")?;
    let known = Known { answers_per_s: peak.good_per_s, orders_per_s: base.orders_per_s, workers: peak.workers };
    let (programs, at) = (o.programs.clone(), dir.0.clone());
    let front = tokio::task::spawn_blocking(move || tier.start(&programs, address, &known, &at)).await??;
    let cell = storm(o, tier, load, timing, base, (&shop, &shop_target), &front).await;
    // Stopping may take a moment, and no other task is to wait for it.
    tokio::task::spawn_blocking(move || drop(front)).await?;
    shop.stop(Duration::from_secs(5)).await?;
    cell
}

async fn storm(
    o: &Options,
    tier: Tier,
    load: Load,
    timing: Timing,
    base: &Base,
    (shop, shop_target): (&Process, &Target),
    front: &Front,
) -> anyhow::Result<Cell> {
    let plans = match &front.admin {
        Some((admin, token)) => Some(watch_plans(Target::at(*admin)?, token).await?),
        None => None,
    };
    let target = Target::at(front.address)?;
    let scenario = load.scenario(base.orders_per_s, timing);
    let front_cpu_s = || front.server.as_ref().map_or(0.0, cpu_s);
    let before = Reading::take(shop, front_cpu_s());
    let watch = Watch::start(shop_target);
    let events = live::run(&scenario, o.seed, &target, Arc::new(Progress::default())).await;
    let looks = watch.stop();
    let cpu = Reading::take(shop, front_cpu_s()).since(&before);
    let plans = match plans {
        Some(plans) => plans.stop().await?.plans,
        None => Vec::new(),
    };
    Ok(Cell::of(tier, load, timing, base, &Seen { events: &events, looks: &looks, plans: &plans, cpu }))
}

/// The gate's admin listener may come up a moment after the other.
async fn watch_plans(admin: Target, token: &str) -> anyhow::Result<judge::Watch> {
    for _ in 0..40 {
        if let Ok(watch) = judge::Watch::start(admin.clone(), token.to_owned()).await {
            return Ok(watch);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(judge::Watch::start(admin, token.to_owned()).await?)
}

fn cpu_s(server: &Server) -> f64 {
    server.cpu().map_or(0.0, |d| d.as_secs_f64())
}

fn bar(cells: u64) -> ProgressBar {
    let bar = ProgressBar::new(cells);
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} [{elapsed} of about {duration}] {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

fn versions(tiers: &[Tier]) -> Vec<String> {
    let of = |name: &str| rivals::find(name).map(|p| rivals::version(&p));
    let mut versions = vec![format!("Tidegate {}", env!("CARGO_PKG_VERSION"))];
    versions.extend(tiers.iter().filter_map(|t| match t {
        Tier::Nginx => of("nginx"),
        Tier::Haproxy => of("haproxy"),
        _ => None,
    }));
    versions
}

fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(f64::NAN)
}

/// Writes `goodput.json` and `goodput.html`; gives the page's path.
pub fn write(out: &Path, report: &Report) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let put = |name: &str, text: String| {
        let file = out.join(name);
        std::fs::write(&file, text).with_context(|| format!("writing {}", file.display())).map(|()| file)
    };
    put("goodput.json", serde_json::to_string_pretty(report)?)?;
    put("goodput.html", html(report)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_keeps_to_its_budget() {
        let cells: Vec<(Tier, Load)> = Tier::ALL.iter().flat_map(|t| Load::ALL.map(|l| (*t, l))).collect();
        for (minutes, cells) in [(10, &cells[..51]), (30, &cells), (2, &cells[..8])] {
            let budget = Duration::from_secs(minutes * 60);
            let unit = unit_ms(budget, cells);
            let length = |load: Load| Timing::of((unit * load.weight()) as u64).ends_ms() + CELL_EXTRA_MS;
            let all = RUN_EXTRA_MS + cells.iter().map(|c| length(c.1)).sum::<u64>();
            assert!(all <= budget.as_millis() as u64 + 5_000, "{minutes} min, {} cells: {all} ms", cells.len());
        }
    }
}
