//! The one table at the end.

use std::collections::BTreeMap;

use super::{DemoResult, DrawProof, RunResult};
use crate::{
    capacity::{Capacity, Rung},
    fairness::Fairness,
};

/// The rows: name, without, with.
pub fn rows(result: &DemoResult) -> Vec<[String; 3]> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: &dyn Fn(&RunResult) -> String| {
        let cell = |run: &RunResult| if run.generator_bound() { "generator-bound".into() } else { value(run) };
        rows.push([name.to_owned(), cell(&result.without), cell(&result.with)]);
    };
    row("orders completed", &|r| r.shop.orders.to_string());
    row("units oversold", &|r| r.shop.oversold.to_string());
    row("units in stock that went to people", &|r| {
        let share = 100.0 * f64::from(r.units_to_people()) / f64::from(r.units_delivered().max(1));
        format!("{} of {} ({share:.0} %)", r.units_to_people(), r.units_delivered())
    });
    row("people's failed requests", &|r| format!("{} ({:.1} %)", r.summary.failures(), 100.0 * r.summary.failure_share()));
    row("people who gave up after errors", &|r| {
        r.summary.people_outcomes.get("gave up after errors").copied().unwrap_or(0).to_string()
    });
    row("shoppers' pages that came: p50 / p99", &|r| {
        format!("{} / {}", time(r.summary.page.p50_ms), time(r.summary.page.p99_ms))
    });
    row("of these, checkouts: p50 / p99", &|r| {
        format!("{} / {}", time(r.summary.checkout.p50_ms), time(r.summary.checkout.p99_ms))
    });
    row("waiting time once open: p50 / p99", &|r| match r.summary.waiting.count {
        0 => "–".into(),
        _ => format!("{} / {}", time(r.summary.waiting.p50_ms), time(r.summary.waiting.p99_ms)),
    });
    row("people whose turn came within the time first shown / last shown", &|r| {
        let share = |s: Option<f64>| s.map_or("–".to_owned(), |s| format!("{:.0} %", 100.0 * s));
        r.fairness.as_ref().map_or("–".into(), |f| format!("{} / {}", share(f.kept_share()), share(f.kept_last_share())))
    });
    row("in the drum: arrival against place (rank correlation)", &|r| {
        r.fairness.as_ref().and_then(|f| f.correlation).map_or("–".into(), |c| format!("{c:.2}"))
    });
    row("first places (as many as units): people", &|r| {
        let (people, all) = r.fairness.as_ref().map_or((0, 0), Fairness::top_people);
        if all == 0 { "–".into() } else { format!("{people} of {all}") }
    });
    row("told to wait: people / bots", &|r| {
        let n = |m: &BTreeMap<String, u64>| m.get("wait").copied().unwrap_or(0);
        format!("{} / {}", n(&r.summary.turned_away_people), n(&r.summary.turned_away_bots))
    });
    row("refused or throttled: people / bots", &|r| {
        let n =
            |m: &BTreeMap<String, u64>| m.iter().filter(|(k, _)| *k != "wait" && *k != "sold_out").map(|(_, n)| n).sum::<u64>();
        format!("{} / {}", n(&r.summary.turned_away_people), n(&r.summary.turned_away_bots))
    });
    row("requests that reached the shop's database", &|r| r.shop.requests.to_string());
    row("CPU of shop / gate / crowd / machine", &|r| {
        let l = &r.load;
        format!("{:.0} / {:.0} / {:.0} / {:.0} %", l.shop_percent, l.gate_percent, l.crowd_percent, l.machine_percent)
    });
    if let Some(draw) = &result.with.draw {
        // Whatever the machine did: this is no figure.
        rows.push(["draw, recomputed by a stranger".into(), "–".into(), proof(draw)]);
    }
    rows
}

/// What a stranger found, in one line.
pub(super) fn proof(draw: &DrawProof) -> String {
    match (draw.holds, draw.faults.first()) {
        (true, _) => format!("holds: {} entries, {} places", draw.entries, draw.places),
        (false, why) => format!("DOES NOT HOLD: {}", why.map_or("no reason given", String::as_str)),
    }
}

/// The table as text.
pub fn comparison(result: &DemoResult) -> String {
    let mut rows = rows(result);
    rows.insert(0, ["".into(), "without".into(), "with Tidegate".into()]);
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let rule = format!("─{}─┼─{}─┼─{}─", "─".repeat(widths[0]), "─".repeat(widths[1]), "─".repeat(widths[2]));
    let mut out = String::new();
    for (i, r) in rows.iter().enumerate() {
        out += &format!(" {:<a$} │ {:>b$} │ {:>c$} \n", r[0], r[1], r[2], a = widths[0], b = widths[1], c = widths[2]);
        if i == 0 {
            out += &rule;
            out.push('\n');
        }
    }
    out
}

/// A ramp as text: one line a rung, then the capacity.
pub fn ramp(capacity: &Capacity) -> String {
    let mut lines: Vec<String> = capacity.ramp.iter().map(rung).collect();
    if let Some(peak) = capacity.peak() {
        lines.push(format!("     capacity: {:.0} good answers/s, with {} requests under way", peak.good_per_s, peak.workers));
    }
    lines.join("\n")
}

fn rung(r: &Rung) -> String {
    format!(
        "     {:>4} at a time: {:>4.0} good/s, {:>4.0} errors/s, mean {}",
        r.workers,
        r.good_per_s,
        r.errors_per_s,
        time(r.mean_ms)
    )
}

/// One line a run.
pub(super) fn headline(r: &RunResult) -> String {
    let bound = if r.generator_bound() { " – GENERATOR-BOUND, not a result" } else { "" };
    format!(
        "     {:.0} s, {} requests (peak {}/s): {} orders, {} oversold, {} units to people, {} failed requests of people; machine {:.0} %{bound}",
        r.summary.seconds,
        r.summary.requests,
        r.summary.requests_per_s_peak,
        r.shop.orders,
        r.shop.oversold,
        r.units_to_people(),
        r.summary.failures(),
        r.load.machine_percent,
    )
}

fn time(ms: f64) -> String {
    match ms {
        ms if ms >= 10_000.0 => format!("{:.0} s", ms / 1_000.0),
        ms if ms >= 1_000.0 => format!("{:.1} s", ms / 1_000.0),
        ms => format!("{ms:.0} ms"),
    }
}
