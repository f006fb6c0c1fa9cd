//! The demo's report: one HTML file without anything from elsewhere, plots inside as SVG.

mod fair;
pub(crate) mod plots;

use std::fmt::Write as _;

use crate::{
    demo::{Broken, DemoResult, RunResult, rows},
    measure::Summary,
};

/// The report could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("drawing {plot}: {message}")]
pub struct ReportError {
    /// Which plot.
    pub plot: &'static str,
    /// What the plotting library said.
    pub message: String,
}

pub(crate) const STYLE: &str = "
:root{color-scheme:light dark}body{font:16px/1.55 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%;margin:1rem 0}th,td{padding:.35rem .6rem;border-bottom:1px solid #8886;text-align:right}
th:first-child,td:first-child{text-align:left}caption{text-align:left;font-weight:600;padding:.4rem 0}
figure{margin:1.5rem 0}figure svg{width:100%;height:auto;background:#fff;border-radius:6px}figcaption{font-size:.92rem}
.kept{border-left:.4rem solid #2a7d4f;padding:.5rem 1rem}.broken{border-left:.4rem solid #b3261e;padding:.5rem 1rem}";

/// The whole page.
pub fn html(result: &DemoResult, broken: &[Broken]) -> Result<String, ReportError> {
    let s = &result.with.summary;
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>A flash sale, without and with Tidegate</title><style>{STYLE}</style></head><body>\
         <h1>A flash sale, without and with Tidegate</h1>\
         <p>The same crowd ({}, seed {}, {} people and their bots) at the same shop ({} units), on this machine.</p>",
        escape(&s.scenario),
        s.seed,
        s.people,
        result.with.shop.stock,
    );
    page += &verdict(broken);
    page += &table(result);
    page += &capacity(result);
    for figure in figures(result)? {
        page += &figure;
    }
    page += &fair::section(&result.with)?;
    page += &details(result);
    page += "</body></html>\n";
    Ok(page)
}

fn verdict(broken: &[Broken]) -> String {
    if broken.is_empty() {
        return "<p class=\"kept\" role=\"status\">Every promise was kept.</p>".into();
    }
    let items: String = broken.iter().map(|b| format!("<li>{}: {}</li>", escape(b.promise), escape(&b.found))).collect();
    format!("<div class=\"broken\" role=\"alert\"><p>Broken promises:</p><ul>{items}</ul></div>")
}

fn table(result: &DemoResult) -> String {
    let body: String = rows(result)
        .iter()
        .map(|[name, a, b]| {
            format!("<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td></tr>", escape(name), escape(a), escape(b))
        })
        .collect();
    format!(
        "<table><caption>The sale in figures</caption><thead><tr><td></td><th scope=\"col\">without</th>\
         <th scope=\"col\">with Tidegate</th></tr></thead><tbody>{body}</tbody></table>"
    )
}

fn capacity(result: &DemoResult) -> String {
    let body: String = result
        .capacity
        .ramp
        .iter()
        .map(|r| {
            format!(
                "<tr><td>{}</td><td>{:.0}</td><td>{:.0}</td><td>{:.0} ms</td></tr>",
                r.workers, r.good_per_s, r.errors_per_s, r.mean_ms
            )
        })
        .collect();
    format!(
        "<table><caption>What the shop can take: a closed ramp, straight at the shop</caption><thead><tr>\
         <th scope=\"col\">requests under way</th><th scope=\"col\">good answers a second</th>\
         <th scope=\"col\">errors a second</th><th scope=\"col\">mean time</th></tr></thead><tbody>{body}</tbody></table>"
    )
}

fn figures(result: &DemoResult) -> Result<Vec<String>, ReportError> {
    let (without, with) = (&result.without.summary, &result.with.summary);
    Ok(vec![
        figure(plots::requests("Straight at the shop", without)?, &requests_alt("without the gate", without)),
        figure(plots::requests("Through the gate", with)?, &requests_alt("with the gate", with)),
        figure(
            plots::latency(without, with)?,
            &format!(
                "99th percentile of the time shoppers wait for a page of the shop, second by second, on a logarithmic scale. \
                 Over the whole run it is {:.0} ms without and {:.0} ms with the gate.",
                without.page.p99_ms, with.page.p99_ms
            ),
        ),
        figure(plots::orders(without, with)?, &orders_alt(&result.without, &result.with)),
        figure(
            plots::waits(with)?,
            &format!(
                "How long people with a seat had waited for it. Half waited less than {:.0} s, all but one in a hundred less than {:.0} s.",
                with.waiting.p50_ms / 1_000.0,
                with.waiting.p99_ms / 1_000.0
            ),
        ),
    ])
}

fn requests_alt(which: &str, s: &Summary) -> String {
    let sum = |f: fn(&crate::measure::Second) -> u32| s.series.iter().map(|x| u64::from(f(x))).sum::<u64>();
    format!(
        "Answers a second {which}, assets left out: {} from the shop, {} with a place in the waiting room, {} turned away, {} failed.",
        sum(|x| x.forwarded),
        sum(|x| x.waiting),
        sum(|x| x.refused),
        sum(|x| x.failed)
    )
}

fn orders_alt(without: &RunResult, with: &RunResult) -> String {
    let sum =
        |s: &Summary| s.series.iter().fold((0, 0), |(p, b), x| (p + u64::from(x.orders_people), b + u64::from(x.orders_bots)));
    let ((p0, b0), (p1, b1)) = (sum(&without.summary), sum(&with.summary));
    format!(
        "Orders confirmed to buyers over time. Without the gate: {p0} to people, {b0} to bots. With the gate: {p1} to people, {b1} to \
         bots. The stock is {} units.",
        with.shop.stock
    )
}

pub(crate) fn figure(svg: String, alt: &str) -> String {
    let labelled = svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{}\" ", escape(alt)), 1);
    format!("<figure>{labelled}<figcaption>{}</figcaption></figure>", escape(alt))
}

fn details(result: &DemoResult) -> String {
    let mut out = String::from("<h2>What people saw</h2>");
    for run in [&result.without, &result.with] {
        let list = |m: &std::collections::BTreeMap<String, u64>| -> String {
            m.iter().map(|(k, n)| format!("<li>{}: {n}</li>", escape(k))).collect()
        };
        let _ = write!(
            out,
            "<h3>{}</h3><p>How people went home:</p><ul>{}</ul><p>Failed requests of people:</p><ul>{}</ul>\
             <p>Orders by buyer: {}. Requests were sent at most {:.0} ms late (99 %).</p>",
            escape(&run.name),
            list(&run.summary.people_outcomes),
            list(&run.summary.people_failures),
            run.shop.by_kind.iter().map(|(k, n)| format!("{} {n}", escape(k))).collect::<Vec<_>>().join(", "),
            run.summary.lag_p99_ms,
        );
    }
    out
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        capacity::{Capacity, Rung},
        demo::Load,
        measure::{Second, Times},
        shop::Stats,
    };

    fn result() -> DemoResult {
        let summary = Summary {
            scenario: "<drop & day>".into(),
            page: Times { count: 9, p50_ms: 40.0, p90_ms: 90.0, p99_ms: 1_234.0, max_ms: 2_000.0 },
            waits_s: vec![1, 4, 4, 9],
            series: (0..20)
                .map(|n| Second {
                    forwarded: n,
                    waiting: 20 - n,
                    p99_ms: f64::from(n) * 10.0,
                    orders_people: n,
                    ..Second::default()
                })
                .collect(),
            ..Summary::default()
        };
        let run = |name: &str| RunResult {
            name: name.into(),
            summary: summary.clone(),
            shop: Stats { stock: 500, ..Stats::default() },
            load: Load::default(),
            judged: Default::default(),
            fairness: Some(fair::tests::fairness()),
            draw: Some(fair::tests::proof()),
        };
        let rung = Rung { workers: 4, good_per_s: 201.0, orders_per_s: 40.0, errors_per_s: 0.0, mean_ms: 20.0 };
        DemoResult { capacity: Capacity { ramp: vec![rung] }, without: run("without Tidegate"), with: run("with Tidegate") }
    }

    #[test]
    fn the_page_is_whole_and_needs_nothing_else() {
        let broken = [Broken { promise: "nothing is sold twice", found: "3 units oversold".into() }];
        let page = html(&result(), &broken).unwrap();
        assert_eq!(page.matches("<svg ").count(), 6);
        assert_eq!(page.matches("role=\"img\" aria-label=\"").count(), 6, "every plot says what it shows");
        assert!(page.contains("3 units oversold") && page.contains("&lt;drop &amp; day&gt;") && page.contains("1.2 s"));
        // Namespaces are the only addresses: nothing is loaded.
        for (i, _) in page.match_indices("http") {
            assert!(page[i..].starts_with("http://www.w3.org/"), "{}", &page[i..i + 40]);
        }
        assert!(html(&result(), &[]).unwrap().contains("Every promise was kept"));
    }

    #[test]
    fn an_empty_run_can_be_drawn() {
        let mut result = result();
        result.with.summary = Summary::default();
        result.without.summary = Summary::default();
        (result.with.fairness, result.with.draw) = (Some(Default::default()), None);
        assert!(html(&result, &[]).is_ok());
    }
}
