//! `tidegate-loadtest sim`

use std::{
    io::Write as _,
    ops::Range,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use crate::{
    checkers::judge,
    crowd::Scenario,
    sim::{Outcome, ShopModel, World, random_world, run},
};

/// Seeds one call runs at most.
const SEEDS_MAX: u64 = 10_000_000;

/// Arguments of `sim`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  tidegate-loadtest sim random --seeds 0..1000\n  \
    tidegate-loadtest sim drop-day --policy drop-day.yaml --seeds 7")]
pub struct SimArgs {
    /// `random` (another world for each seed), drop-day, calm-day, or the path of a scenario file.
    scenario: String,
    /// One seed, or a range without its end: 0..100.
    #[arg(long, default_value = "0..100", value_parser = parse_seeds)]
    seeds: Range<u64>,
    /// A policy file to put in force; its first sale opens when the scenario says so. Not with `random`.
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What came of all seeds.
#[derive(Debug, Default, Serialize)]
struct Report {
    scenario: String,
    seeds: u64,
    visitors: u64,
    requests: u64,
    passes: u64,
    sold: u64,
    oversold: u64,
    units_to_people: u64,
    events: u64,
    /// Of one seed only: the same seed gives the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_hash: Option<String>,
    failures: Vec<Failure>,
}

#[derive(Debug, Serialize)]
struct Failure {
    seed: u64,
    replay: String,
    violations: Vec<String>,
}

/// Runs the seeds on all cores and judges each; fails when a promise was broken.
pub fn run_seeds(args: &SimArgs) -> anyhow::Result<ExitCode> {
    let fixed = world(args)?;
    let started = Instant::now();
    let report = Mutex::new(Report { scenario: args.scenario.clone(), ..Report::default() });
    each_seed(args.seeds.clone(), |seed| {
        let outcome = run(fixed.as_ref().unwrap_or(&random_world(seed)), seed);
        add(&mut report.lock().unwrap_or_else(PoisonError::into_inner), args, seed, &outcome);
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.failures.sort_by_key(|f| f.seed);
    if report.seeds > 1 {
        report.log_hash = None;
    }
    let text =
        if args.json { serde_json::to_string_pretty(&report)? } else { in_words(&report, started.elapsed().as_secs_f64()) };
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does it for each seed, on all cores.
pub(crate) fn each_seed(seeds: Range<u64>, act: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds.end) {
                    act(seed);
                }
            });
        }
    });
}

fn world(args: &SimArgs) -> anyhow::Result<Option<World>> {
    if args.scenario == "random" {
        if args.policy.is_some() {
            bail!("--policy goes with a scenario; `random` makes its own policies");
        }
        return Ok(None);
    }
    let scenario = Scenario::load(&args.scenario)?;
    let Some(file) = &args.policy else { return Ok(Some(World::drop(&scenario, ShopModel::default()))) };
    let loaded = tidegate_config::load(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(Some(World::new(&scenario, loaded.policy.pipeline_settings(), ShopModel::default())))
}

fn add(report: &mut Report, args: &SimArgs, seed: u64, outcome: &Outcome) {
    let violations: Vec<String> = judge(&outcome.log).iter().map(ToString::to_string).collect();
    report.seeds += 1;
    report.visitors += outcome.visitors as u64;
    report.requests += outcome.requests;
    report.sold += u64::from(outcome.sold);
    report.oversold += u64::from(outcome.oversold);
    report.units_to_people += u64::from(outcome.units_to_people);
    report.events += outcome.log.events.len() as u64;
    let counts = outcome.log.rooms.iter().filter_map(|r| r.counts);
    report.passes += counts.map(|c| c.seated + c.walk_ins).sum::<u64>();
    report.log_hash = Some(format!("{:016x}", outcome.log.hash()));
    if !violations.is_empty() {
        let policy = args.policy.as_ref().map_or(String::new(), |p| format!(" --policy {}", p.display()));
        let replay = format!("tidegate-loadtest sim {}{policy} --seeds {seed}", args.scenario);
        report.failures.push(Failure { seed, replay, violations });
    }
}

fn in_words(r: &Report, seconds: f64) -> String {
    let mut text = format!(
        "{}: {} seeds, {} visitors, {} requests, {} passes, {} units sold ({} to people, {} oversold), {} events, in {seconds:.1} s",
        r.scenario, r.seeds, r.visitors, r.requests, r.passes, r.sold, r.units_to_people, r.oversold, r.events
    );
    if let Some(hash) = &r.log_hash {
        text.push_str(&format!("\nlog {hash}"));
    }
    if r.failures.is_empty() {
        text.push_str("\nevery promise was kept");
    }
    for f in &r.failures {
        text.push_str(&format!("\nseed {} broke a promise; again: {}", f.seed, f.replay));
        f.violations.iter().for_each(|v| text.push_str(&format!("\n  {v}")));
    }
    text
}

pub(crate) fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let bad = || format!("`{text}`: write one seed, or a range without its end: 0..100");
    let number = |s: &str| s.parse::<u64>().map_err(|_| bad());
    let range = match text.split_once("..") {
        Some((from, to)) => number(from)?..number(to)?,
        None => {
            let seed = number(text)?;
            seed..seed.checked_add(1).ok_or_else(bad)?
        }
    };
    match range.end.checked_sub(range.start) {
        Some(1..=SEEDS_MAX) => Ok(range),
        Some(0) | None => Err(bad()),
        Some(_) => Err(format!("`{text}`: at most {SEEDS_MAX} seeds at once")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_one_or_a_range() {
        assert_eq!(parse_seeds("7"), Ok(7..8));
        assert_eq!(parse_seeds("0..100"), Ok(0..100));
        for bad in ["", "x", "5..5", "9..3", "1..", "..4", "-1", "0..99999999999", "18446744073709551615"] {
            assert!(parse_seeds(bad).is_err(), "{bad}");
        }
    }
}
