//! The run as text, which is Markdown: one table for each load, then bursts, then what was aimed at.

use std::fmt::Write as _;

use super::{
    Report,
    cell::{Base, Cell},
};

/// Heads of the columns.
pub(super) const HEADS: [&str; 10] = [
    "before the shop",
    "orders, % of capacity",
    "shop time p50 / p99, × unloaded",
    "queue before it, p99",
    "wait p50 / p99",
    "refused / failed, % of requests",
    "needless waits or refusals",
    "first come, first served",
    "CPU proxy / shop / all, %",
    "",
];

/// Everything.
pub fn text(r: &Report) -> String {
    let mut out = preface(r);
    for load in loads(r) {
        let seconds = r.cells.iter().find(|c| c.load == load).map_or(0.0, |c| c.seconds);
        let _ = writeln!(out, "\n### {}, measured over {seconds:.1} s\n", load.name());
        let rows: Vec<Vec<String>> = r.cells.iter().filter(|c| c.load == load).map(row).collect();
        out += &grid(&HEADS, &rows);
    }
    if !r.bursts.is_empty() {
        let _ = writeln!(out, "\n### Burst sizes, {:.1} times as much scatter as Poisson (simulated)\n", dispersion(r));
        out += &grid(&BURST_HEADS, &burst_rows(r));
    }
    let _ = writeln!(out, "\n### What was aimed at\n");
    let rows: Vec<Vec<String>> = r.verdicts.iter().map(|v| vec![v.aim.clone(), v.found.clone(), kept(v.kept).into()]).collect();
    out += &grid(&["aim", "found", ""], &rows);
    out
}

/// Heads of the table of bursts.
pub(super) const BURST_HEADS: [&str; 4] = ["burst", "told to wait", "of these needlessly, % of all who came", "shop time p99"];

/// Rows of the table of bursts.
pub(super) fn burst_rows(r: &Report) -> Vec<Vec<String>> {
    let row = |b: &super::BurstRow| {
        vec![
            b.rule.name().to_owned(),
            format!("{} of {}", b.waits, b.people),
            format!("{:.2}", 100.0 * b.needless_share()),
            format!("{:.1} ms", b.shop_p99_ms),
        ]
    };
    r.bursts.iter().map(row).collect()
}

pub(super) fn dispersion(r: &Report) -> f64 {
    r.bursts.iter().map(|b| b.dispersion).sum::<f64>() / r.bursts.len().max(1) as f64
}

/// Loads in the order they were run.
pub(super) fn loads(r: &Report) -> Vec<super::Load> {
    let mut loads: Vec<super::Load> = Vec::new();
    for c in &r.cells {
        if !loads.contains(&c.load) {
            loads.push(c.load);
        }
    }
    loads
}

pub(super) fn kept(kept: Option<bool>) -> &'static str {
    match kept {
        Some(true) => "kept",
        Some(false) => "MISSED",
        None => "machine-bound, not judged",
    }
}

/// Where, when, against what.
pub(super) fn preface(r: &Report) -> String {
    let Base { orders_per_s, p50_ms, p99_ms, pool } = &r.base;
    let peak = r.capacity.peak();
    let mut out = format!(
        "{}; {}; load average {:.2} before, {:.2} after; seed {}.\n\
         The shop ({pool} connections) takes {orders_per_s:.1} orders and {:.0} good answers a second, with {} requests under way; \
         unloaded p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms. Before each load some seconds at 0.7×.\n",
        r.machine,
        r.versions.join(", "),
        r.load_average.0,
        r.load_average.1,
        r.seed,
        peak.map_or(0.0, |p| p.good_per_s),
        peak.map_or(0, |p| p.workers),
    );
    for why in &r.left_out {
        let _ = writeln!(out, "{why}");
    }
    out
}

/// A cell as words.
pub(super) fn row(c: &Cell) -> Vec<String> {
    let percent = |n: u64, of: u64| 100.0 * n as f64 / of.max(1) as f64;
    let time = |ms: f64| if ms >= 1_000.0 { format!("{:.1} s", ms / 1_000.0) } else { format!("{ms:.0} ms") };
    let waits = match c.wait_ms {
        (_, 0.0) => "–".to_owned(),
        (p50, p99) => format!("{} / {}", time(p50), time(p99)),
    };
    let remark = match (c.generator_bound(), c.disturbed()) {
        (true, _) => format!("MACHINE-BOUND ({:.0} %)", c.cpu.machine_percent),
        (false, true) => format!("others used {:.0} %", c.others_percent()),
        (false, false) => String::new(),
    };
    vec![
        c.tier.name().to_owned(),
        format!("{:.1}", 100.0 * c.orders_ratio),
        format!("{:.2} / {:.2}", c.p50_ratio, c.p99_ratio),
        time(c.queue_p99_ms),
        waits,
        format!("{:.1} / {:.1}", percent(c.refused, c.requests), percent(c.failed, c.requests)),
        format!("{} of {}", c.needless.0, c.needless.1),
        c.correlation.map_or("–".into(), |r| format!("{r:.2}")),
        format!("{:.0} / {:.0} / {:.0}", c.cpu.gate_percent, c.cpu.shop_percent, c.cpu.machine_percent),
        remark,
    ]
}

/// A Markdown table whose columns are aligned for those who read it as it is.
fn grid(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count());
        cells.chain([heads[i].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(c, w)| format!("{c:<w$}", w = *w)).collect();
        format!("| {} |\n", padded.join(" | "))
    };
    let mut out = line(&mut heads.iter().copied());
    let rule: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
    out += &line(&mut rule.iter().map(String::as_str));
    for row in rows {
        out += &line(&mut row.iter().map(String::as_str));
    }
    out
}
