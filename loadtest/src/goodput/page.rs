//! The run as one HTML file, plots inside.

use std::fmt::Write as _;

use plotters::style::RGBColor;

use super::{
    Report,
    cell::Cell,
    load::Load,
    table::{self, BURST_HEADS, HEADS},
    tier::Tier,
};
use crate::report::{
    ReportError, STYLE, escape, figure,
    plots::{Axes, BLUE, GREEN, Line, ORANGE, RED, chart},
};

const SKY: RGBColor = RGBColor(86, 180, 233);
const PURPLE: RGBColor = RGBColor(204, 121, 167);
const BLACK: RGBColor = RGBColor(0, 0, 0);
const GREY: RGBColor = RGBColor(120, 120, 120);
const SAND: RGBColor = RGBColor(170, 150, 60);

/// The whole page.
pub fn html(r: &Report) -> Result<String, ReportError> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Orders under overload</title><style>{STYLE}body{{max-width:80rem}}table{{font-size:.88rem}}</style></head><body>\
         <h1>Orders under overload</h1>{}",
        table::preface(r).lines().map(|l| format!("<p>{}</p>", escape(l))).collect::<String>()
    );
    let missed = r.verdicts.iter().filter(|v| v.kept == Some(false)).count();
    let (class, role) = if missed == 0 { ("kept", "status") } else { ("broken", "alert") };
    let _ = write!(page, "<p class=\"{class}\" role=\"{role}\">{missed} of {} aims missed.</p>", r.verdicts.len());
    let aims = r.verdicts.iter().map(|v| vec![v.aim.clone(), v.found.clone(), table::kept(v.kept).into()]);
    page += &html_table("What was aimed at", &["aim", "found", ""], aims);
    page += &steady(r)?;
    for load in table::loads(r) {
        page += &html_table(&load.name(), &HEADS, r.cells.iter().filter(|c| c.load == load).map(table::row));
        page += &over_time(r, load)?;
    }
    let title = format!("Burst sizes, {:.1} times as much scatter as Poisson (simulated)", table::dispersion(r));
    page += &html_table(&title, &BURST_HEADS, table::burst_rows(r).into_iter());
    page += "</body></html>\n";
    Ok(page)
}

fn html_table(caption: &str, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head: String = heads.iter().map(|h| format!("<th scope=\"col\">{}</th>", escape(h))).collect();
    let row = |cells: Vec<String>| {
        let cell = |(i, c): (usize, &String)| match i {
            0 => format!("<th scope=\"row\">{}</th>", escape(c)),
            _ => format!("<td>{}</td>", escape(c)),
        };
        format!("<tr>{}</tr>", cells.iter().enumerate().map(cell).collect::<String>())
    };
    let body: String = rows.map(row).collect();
    format!("<table><caption>{}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", escape(caption))
}

/// Orders and shop time over what is offered.
fn steady(r: &Report) -> Result<String, ReportError> {
    let lines = |value: fn(&Cell) -> f64| {
        let points = |tier: Tier| -> Vec<(f64, f64)> {
            let of = |c: &Cell| match c.load {
                Load::Times(n) if c.tier == tier => Some((f64::from(n), value(c))),
                _ => None,
            };
            r.cells.iter().filter_map(of).collect()
        };
        let line = |tier: Tier| Line { name: tier.name(), colour: colour(tier), points: points(tier) };
        Tier::ALL.into_iter().map(line).filter(|l| l.points.len() > 1).collect::<Vec<_>>()
    };
    let orders = lines(|c| 100.0 * c.orders_ratio);
    if orders.is_empty() {
        return Ok(String::new());
    }
    let x = "offered, times what the shop takes";
    let plot = chart("orders", "Orders", Axes { x, y: "% of capacity", logarithmic: false }, &orders)?;
    let mut out = figure(plot, "Orders completed over what the shop completes at its measured capacity, by what is offered.");
    let axes = Axes { x, y: "× unloaded", logarithmic: true };
    let plot = chart("shop time", "Time at the shop, 99th percentile", axes, &lines(|c| c.p99_ratio.max(1.0)))?;
    out += &figure(plot, "99th percentile of the time at the shop over that of the unloaded shop, by what is offered.");
    Ok(out)
}

/// Orders and requests at the shop, second by second.
fn over_time(r: &Report, load: Load) -> Result<String, ReportError> {
    let lines = |value: fn(&super::cell::Point) -> f64| -> Vec<Line> {
        let cells = r.cells.iter().filter(|c| c.load == load);
        let points = |c: &Cell| c.series.iter().enumerate().map(|(t, p)| (t as f64, value(p))).collect();
        cells.map(|c| Line { name: c.tier.name(), colour: colour(c.tier), points: points(c) }).collect()
    };
    let x = "seconds since the start";
    let name = load.name();
    let axes = Axes { x, y: "orders/s", logarithmic: false };
    let orders = chart("orders over time", &format!("Orders a second, {name}"), axes, &lines(|p| f64::from(p.orders)))?;
    let axes = Axes { x, y: "requests", logarithmic: true };
    let in_flight = chart("in flight", &format!("Requests at the shop, {name}"), axes, &lines(|p| p.in_flight.max(1.0)))?;
    Ok(figure(orders, &format!("Orders confirmed in each second, {name}."))
        + &figure(in_flight, &format!("Mean requests at the shop in each second, {name}, on a logarithmic scale.")))
}

fn colour(tier: Tier) -> RGBColor {
    match tier {
        Tier::Forecast => GREEN,
        Tier::Measured => BLUE,
        Tier::FixedRight => SKY,
        Tier::FixedHalf => SAND,
        Tier::FixedDouble => GREY,
        Tier::Nginx => ORANGE,
        Tier::Haproxy => PURPLE,
        Tier::Envoy => BLACK,
        Tier::Bare => RED,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        capacity::Capacity,
        demo::process,
        goodput::{Base, BurstRow, cell::Point, verdicts},
        sim::BurstRule,
    };

    fn report() -> Report {
        let cell = |tier, load, orders_ratio| Cell {
            tier,
            load,
            seconds: 8.0,
            orders: (320.0 * orders_ratio) as u64,
            orders_ratio,
            people: 9,
            requests: 100,
            refused: 25,
            failed: 0,
            shop_p50_ms: 15.0,
            shop_p99_ms: 60.0,
            p50_ratio: 1.0,
            p99_ratio: 1.5,
            queue_p99_ms: 1_500.0,
            wait_ms: (0.0, 0.0),
            needless: (1, 7),
            correlation: None,
            cpu: process::Load { machine_percent: 95.0 * f64::from(u8::from(tier == Tier::Bare)), ..process::Load::default() },
            settled_in_flight_s: None,
            settled_refill_s: None,
            series: vec![Point { orders: 3, in_flight: 4.0 }; 9],
        };
        let mut cells = Vec::new();
        for load in [Load::Times(1), Load::Times(4), Load::Times(10)] {
            cells.extend([(Tier::Forecast, 0.96), (Tier::Haproxy, 0.97), (Tier::Bare, 0.4)].map(|(t, r)| cell(t, load, r)));
        }
        let burst = |rule, needless| BurstRow { rule, people: 1_000, waits: 90, needless, shop_p99_ms: 50.0, dispersion: 13.0 };
        let bursts = vec![burst(BurstRule::Drain, 10), burst(BurstRule::Poisson, 5)];
        Report {
            machine: "m & n".into(),
            versions: vec!["Tidegate".into()],
            load_average: (0.1, 0.9),
            seed: 1,
            capacity: Capacity { ramp: vec![] },
            base: Base { orders_per_s: 40.0, p50_ms: 15.0, p99_ms: 40.0, pool: 4 },
            verdicts: verdicts(&cells, &bursts),
            cells,
            left_out: vec!["Envoy adaptive: left out: envoy is not installed".into()],
            bursts,
        }
    }

    #[test]
    fn losses_are_said() {
        let r = report();
        let text = table::text(&r);
        let line = |part: &str| text.lines().find(|l| l.contains(part)).unwrap_or_else(|| panic!("{part}\n{text}")).to_owned();
        assert!(line("at 4× more orders than HAProxy").contains("MISSED"));
        assert!(line("at 4× at least 95 %").contains("kept"));
        assert!(line("best in needless waits").contains("MISSED"));
        assert!(text.contains("left out") && text.contains("MACHINE-BOUND (95 %)") && text.contains("1 of 7"));
    }

    #[test]
    fn the_page_is_whole_and_needs_nothing_else() {
        let page = html(&report()).unwrap();
        assert_eq!(page.matches("<svg ").count(), 2 + 2 * 3);
        assert_eq!(page.matches("role=\"img\" aria-label=\"").count(), 8, "every plot says what it shows");
        assert!(page.contains("m &amp; n") && page.contains("MISSED"));
        for (i, _) in page.match_indices("http") {
            assert!(page[i..].starts_with("http://www.w3.org/"), "{}", &page[i..i + 40]);
        }
    }
}
