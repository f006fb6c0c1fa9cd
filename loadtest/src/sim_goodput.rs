//! `tidegate-loadtest sim-goodput`

use std::{
    fmt::Write as _,
    ops::Range,
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use clap::Args;
use serde::Serialize;

use crate::{
    goodput::{Load, PaperCell, paper_cell},
    sim_cli::{each_seed, parse_seeds},
};

/// Arguments of `sim-goodput`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  tidegate-loadtest sim-goodput --seeds 0..240 --loads step,4")]
pub struct SimGoodputArgs {
    /// One seed, or a range without its end: another crowd each.
    #[arg(long, default_value = "0..120", value_parser = parse_seeds)]
    seeds: Range<u64>,
    /// `forecast`, `measured`.
    #[arg(long, value_delimiter = ',', default_value = "forecast,measured")]
    admissions: Vec<String>,
    /// As those of `goodput`.
    #[arg(long, value_delimiter = ',', default_value = "step,2,4,10")]
    loads: Vec<Load>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// A load before a gate, over all seeds.
#[derive(Clone, Debug, Serialize)]
struct Row {
    load: String,
    admission: String,
    cells: usize,
    broken: Vec<String>,
    /// Medians, and what one in twenty seeds is worse than.
    orders: (f64, f64),
    p99: (f64, f64),
    in_flight_s: (f64, f64),
    refill_s: (f64, f64),
    /// Shares of the seeds that kept each aim.
    kept: [f64; 4],
}

/// Runs the seeds on all cores; fails when a promise was broken.
pub fn run(args: &SimGoodputArgs, say: fn(&str)) -> anyhow::Result<ExitCode> {
    let mut rows = Vec::new();
    for load in &args.loads {
        for admission in &args.admissions {
            let cells = Mutex::new(Vec::new());
            each_seed(args.seeds.clone(), |seed| {
                let cell = paper_cell(*load, admission, seed);
                cells.lock().unwrap_or_else(PoisonError::into_inner).extend(cell);
            });
            let cells = cells.into_inner().unwrap_or_else(PoisonError::into_inner);
            anyhow::ensure!(!cells.is_empty(), "`{admission}` is no admission: forecast, measured, {{ fixed: 40/s }}");
            rows.push(row(*load, admission, &cells));
        }
    }
    say(&if args.json { serde_json::to_string_pretty(&rows)? } else { in_words(&rows) });
    Ok(if rows.iter().all(|r| r.broken.is_empty()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn row(load: Load, admission: &str, cells: &[PaperCell]) -> Row {
    let figures = |of: &dyn Fn(&PaperCell) -> f64, worse: f64| {
        let mut all: Vec<f64> = cells.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        (all[all.len() / 2], all[((all.len() - 1) as f64 * worse).round() as usize])
    };
    let share = |good: &dyn Fn(&PaperCell) -> bool| cells.iter().filter(|c| good(c)).count() as f64 / cells.len() as f64;
    let within = |s: Option<f64>, most: f64| s.is_some_and(|s| s <= most);
    let never = f64::INFINITY;
    Row {
        load: load.name(),
        admission: admission.to_owned(),
        cells: cells.len(),
        broken: cells.iter().flat_map(|c| c.broken.clone()).collect(),
        orders: figures(&|c| c.orders_ratio, 0.05),
        p99: figures(&|c| c.p99_ratio, 0.95),
        in_flight_s: figures(&|c| c.settled_in_flight_s.unwrap_or(never), 0.95),
        refill_s: figures(&|c| c.settled_refill_s.unwrap_or(never), 0.95),
        kept: [
            share(&|c| c.orders_ratio >= 0.95),
            share(&|c| c.p99_ratio <= 1.5),
            share(&|c| within(c.settled_in_flight_s, 1.0)),
            share(&|c| within(c.settled_refill_s, 5.0)),
        ],
    }
}

fn in_words(rows: &[Row]) -> String {
    let mut out = String::from(
        "Median, one in twenty is worse than, share of the seeds that keep the aim.\n\n\
         | load | admission | orders | p99 × unloaded | in flight settled, s | refill settled, s |\n|---|---|---:|---:|---:|---:|",
    );
    for r in rows {
        let figure = |(median, worse): (f64, f64), kept: f64| format!("{median:.2}, {worse:.2}, {kept:.2}");
        let _ =
            write!(out, "\n| {} | {} | {} | {} |", r.load, r.admission, figure(r.orders, r.kept[0]), figure(r.p99, r.kept[1]));
        let steps = r.load.starts_with("step");
        for (settled, kept) in [(r.in_flight_s, r.kept[2]), (r.refill_s, r.kept[3])] {
            let _ = write!(out, " {} |", if steps { figure(settled, kept) } else { "–".into() });
        }
    }
    let broken: usize = rows.iter().map(|r| r.broken.len()).sum();
    let _ = write!(out, "\n\n{} cells a row, {broken} promises broken.", rows.first().map_or(0, |r| r.cells));
    out
}
