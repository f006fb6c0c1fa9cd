//! `tidegate-loadtest sim-admission`

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    ops::Range,
    path::PathBuf,
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use anyhow::{anyhow, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tidegate_models::forecast::data::{Options, import};

use crate::{
    sim::contest::{Heat, Mode, Trouble, heat},
    sim_cli::{each_seed, parse_seeds},
};

/// Broken promises that are spelt out.
const BROKEN_SHOWN: usize = 5;

/// Arguments of `sim-admission`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  tidegate-loadtest sim-admission arrivals.csv --seeds 0..600\n  \
    tidegate-loadtest sim-admission access.log elb.csv --seeds 0..60 --json")]
pub struct SimAdmissionArgs {
    /// Series of arrivals, as `tidegate data import` reads them: CSV, access logs, a journal.
    #[arg(required = true)]
    series: Vec<PathBuf>,
    /// One seed, or a range without its end. The seed picks series, hour, load (1, 2 or 4 times what the shop takes), trouble.
    #[arg(long, default_value = "0..120", value_parser = parse_seeds)]
    seeds: Range<u64>,
    /// Which of `measured`, `forecast`, `fixed`, `forecast of noise`, …; the first is what the others are compared with.
    #[arg(long, value_delimiter = ',', value_parser = |s: &str| Mode::named(s).ok_or("no such mode"))]
    modes: Vec<Mode>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// A trouble in a mode.
#[derive(Clone, Debug, Serialize)]
struct Cell {
    trouble: &'static str,
    mode: &'static str,
    sales: usize,
    orders: u64,
    /// Orders over those in the first mode.
    to_first: f64,
    /// Median of the sales' 99th percentiles of time at the shop, milliseconds.
    shop_p99_ms: f64,
}

/// What came of all seeds.
#[derive(Clone, Debug, Serialize)]
struct Report {
    sales: usize,
    broken: Vec<String>,
    cells: Vec<Cell>,
}

/// Runs the seeds on all cores; fails when a promise was broken.
pub fn run(args: &SimAdmissionArgs, say: fn(&str)) -> anyhow::Result<ExitCode> {
    let series = args
        .series
        .iter()
        .map(|p| import(p, &Options::default()).map(|i| i.series).map_err(|e| anyhow!("{e}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let modes = if args.modes.is_empty() { Mode::ALL.to_vec() } else { args.modes.clone() };
    let bar = ProgressBar::new(args.seeds.end - args.seeds.start);
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} sales, {eta} left") {
        bar.set_style(style);
    }
    let heats = Mutex::new(Vec::new());
    each_seed(args.seeds.clone(), |seed| {
        // Every trouble meets every series.
        let which = (seed / Trouble::ALL.len() as u64) as usize % series.len();
        let heat = heat(&series[which].counts, seed, &modes);
        heats.lock().unwrap_or_else(PoisonError::into_inner).extend(heat);
        bar.inc(1);
    });
    bar.finish_and_clear();
    let heats = heats.into_inner().unwrap_or_else(PoisonError::into_inner);
    if heats.is_empty() {
        bail!("no series has 48 known steps in a row with somebody in them; `tidegate data describe` shows gaps and zeros");
    }
    let report = report(&heats, &modes);
    say(&if args.json { serde_json::to_string_pretty(&report)? } else { in_words(&report, &modes) });
    Ok(if report.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(heats: &[Heat], modes: &[Mode]) -> Report {
    let mut cells = Vec::new();
    for trouble in Trouble::ALL {
        let of: Vec<_> = heats.iter().filter(|h| h.trouble == trouble).collect();
        let orders = |i: usize| of.iter().map(|h| u64::from(h.orders[i])).sum::<u64>();
        for (i, mode) in modes.iter().enumerate().filter(|_| !of.is_empty()) {
            let mut p99: Vec<f64> = of.iter().map(|h| h.shop_p99_ms[i]).collect();
            p99.sort_by(f64::total_cmp);
            cells.push(Cell {
                trouble: trouble.name(),
                mode: mode.name(),
                sales: of.len(),
                orders: orders(i),
                to_first: orders(i) as f64 / orders(0).max(1) as f64,
                shop_p99_ms: p99[p99.len() / 2],
            });
        }
    }
    Report { sales: heats.len(), broken: heats.iter().flat_map(|h| h.broken.clone()).collect(), cells }
}

/// Markdown: a row a trouble, a column a mode.
fn in_words(r: &Report, modes: &[Mode]) -> String {
    let mut rows: BTreeMap<usize, Vec<&Cell>> = BTreeMap::new();
    for cell in &r.cells {
        let row = Trouble::ALL.iter().position(|t| t.name() == cell.trouble).unwrap_or_default();
        rows.entry(row).or_default().push(cell);
    }
    let modes: Vec<_> = modes.iter().map(|m| m.name()).collect();
    let mut out = format!(
        "{} sales in each mode, {} promises broken. Orders over those in the first; in brackets p99 of shop time, ms.\n\n\
         | the shop's trouble | sales | {} |\n|---|---:|{}",
        r.sales,
        r.broken.len(),
        modes.join(" | "),
        "---:|".repeat(modes.len())
    );
    let broken = r.broken.iter().take(BROKEN_SHOWN).map(|b| format!("{b}\n"));
    out.insert_str(0, &broken.collect::<String>());
    for cells in rows.values() {
        let Some(first) = cells.first() else { continue };
        let _ = write!(out, "\n| {} | {} |", first.trouble, first.sales);
        for c in cells {
            let _ = write!(out, " {:.3} ({:.0}) |", c.to_first, c.shop_p99_ms);
        }
    }
    out
}
