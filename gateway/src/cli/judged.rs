//! How a judged bot model is shown: tables for a terminal, a page with plots.

use std::fmt::Write as _;

use tidegate_models::{
    bots::{
        judge::{FAIR_RATIO_MAX, Group, Interval, Judgement, Marks, SLICE_MIN, SliceMark},
        train::{FOLDS, LeftOut},
    },
    plot,
};

/// Where suspects begin in the shipped policies.
pub(super) const AT: f32 = 0.85;
/// Lines of one table.
const LINES_MAX: usize = 24;

const HEAD: [&str; 8] = ["", "people", "programs", "AUC", "avg precision", "F1", "recall at 0.1 %", "recall at 1 %"];

fn interval(v: Option<Interval>) -> String {
    v.map_or_else(|| "-".into(), |[v, low, high]| format!("{v:.3} ({low:.3}–{high:.3})"))
}

fn cells(name: &str, m: &Marks) -> Vec<String> {
    let figures = [m.auc, m.average_precision, m.f1, m.recall_at_01pct, m.recall_at_1pct];
    let counts = [name.to_owned(), m.people.to_string(), m.programs.to_string()];
    counts.into_iter().chain(figures.map(interval)).collect()
}

fn rows(j: &Judgement) -> Vec<(&'static str, Vec<Vec<String>>)> {
    let groups = |all: &[Group]| all.iter().take(LINES_MAX).map(|g| cells(&g.name, &g.marks)).collect::<Vec<_>>();
    let mut parts = vec![("", vec![cells("all visits", &j.all), cells("first visits", &j.first_visit)])];
    let by = [
        ("by number of the visit", &j.by_visit),
        ("by family of programs, beside all people", &j.families),
        ("by site", &j.sites),
    ];
    parts.extend(by.into_iter().filter(|(_, g)| g.len() > 1).map(|(name, g)| (name, groups(g))));
    parts
}

fn slice_cells(s: &SliceMark) -> Vec<String> {
    let [share, low, high] = s.above.map(|v| v * 100.0);
    let ratio = s.ratio.map_or_else(|| "-".into(), |r| format!("{r:.2}"));
    let note = if s.judged { "" } else { "too few" };
    vec![s.name.clone(), s.people.to_string(), format!("{share:.2} % ({low:.2}–{high:.2})"), ratio, note.into()]
}

fn words(j: &Judgement) -> String {
    let d = &j.decided;
    let undecided: Vec<String> = d.undecided_after.iter().map(|(n, share)| format!("{n}: {:.1} %", 100.0 * share)).collect();
    format!(
        "{} networks. Undecided after visits {} of {} visitors (usually decided at visit {}; wrong of those decided by the third: \
         people {:.1} %, programs {:.1} %).\nCalibration: off by {:.3} on average, Brier score {:.3}.",
        j.all.networks,
        undecided.join(", "),
        d.visitors,
        d.median_visits,
        100.0 * d.people_wrong,
        100.0 * d.programs_wrong,
        j.calibration_error,
        j.brier
    )
}

fn fairness(j: &Judgement) -> String {
    let [share, low, high] = j.fairness.above.map(|v| v * 100.0);
    let verdict = if j.fairness.fair { "fair" } else { "NOT FAIR" };
    format!(
        "people at or above {}: {share:.2} % ({low:.2}–{high:.2}); worst slice of {SLICE_MIN} visits or more {:.2} times that, allowed {FAIR_RATIO_MAX}: {verdict}",
        j.at, j.fairness.worst
    )
}

/// For a terminal.
pub(super) fn table(name: &str, j: &Judgement) -> String {
    let mut t = format!("\n{name}\n{}\n", words(j));
    for (i, (title, rows)) in rows(j).into_iter().enumerate() {
        if !title.is_empty() {
            let _ = writeln!(t, " {title}");
        }
        if i == 0 {
            t.push_str(&line(&HEAD.map(String::from)));
        }
        rows.iter().for_each(|r| t.push_str(&line(r)));
    }
    let _ = writeln!(t, " {}", fairness(j));
    for s in j.fairness.slices.iter().take(LINES_MAX) {
        let c = slice_cells(s);
        let _ = writeln!(t, "  {:<26}{:>8}  {:<28}{:>6}  {}", c[0], c[1], c[2], c[3], c[4]);
    }
    t
}

/// All that was judged: the folds in full, other parts in a line each.
pub(super) fn tables(parts: &[LeftOut]) -> String {
    let (folds, others): (Vec<&LeftOut>, Vec<&LeftOut>) = parts.iter().partition(|l| l.name == FOLDS);
    let mut t: String = folds.iter().map(|l| table(&l.name, &l.judged)).collect();
    if !others.is_empty() {
        let _ = write!(t, "\nleft out of learning (all visits, then first visits)\n{}", line(&HEAD.map(String::from)));
    }
    for l in others {
        t.push_str(&line(&cells(&l.name, &l.judged.all)));
        t.push_str(&line(&cells("", &l.judged.first_visit)));
    }
    t
}

fn line(c: &[String]) -> String {
    let rest: String = c[3..].iter().map(|c| format!("{c:>21}")).collect();
    format!("  {:<26}{:>8}{:>9}{rest}\n", c[0], c[1], c[2])
}

/// A page of all that was judged.
pub(super) fn page(title: &str, parts: &[LeftOut]) -> String {
    let html: Vec<String> = parts.iter().map(section).collect();
    plot::page(title, &html)
}

fn section(part: &LeftOut) -> String {
    let j = &part.judged;
    let mut out = format!("<h2>{}</h2><p>{}</p>", plot::escape(&part.name), plot::escape(&words(j)));
    for (title, rows) in rows(j) {
        let head: String = HEAD.iter().map(|h| format!("<th>{h}</th>")).collect();
        let _ =
            write!(out, "<h3>{title}</h3><table><tr>{head}</tr>{}</table>", rows.iter().map(|r| html_row(r)).collect::<String>());
    }
    let slices: String = j.fairness.slices.iter().map(|s| html_row(&slice_cells(s))).collect();
    let head = "<tr><th>slice of people</th><th>visits</th><th>at or above</th><th>ratio</th><th></th></tr>";
    let _ = write!(out, "<h3>{}</h3><table>{head}{slices}</table>", plot::escape(&fairness(j)));
    out.push_str(&plots(j));
    out
}

fn html_row(cells: &[String]) -> String {
    let cells: String = cells.iter().map(|c| format!("<td>{}</td>", plot::escape(c))).collect();
    format!("<tr>{cells}</tr>")
}

fn plots(j: &Judgement) -> String {
    let some = |points: &[(f64, f64)]| points.iter().map(|p| (p.0, Some(p.1))).collect::<Vec<_>>();
    let line = |name: &str, colour, points| plot::Line { name: name.into(), colour, points };
    let even = || vec![(0.0, Some(0.0)), (1.0, Some(1.0))];
    let roc = [line("model", plot::BLUE, some(&j.curves.roc)), line("by chance", plot::INK, even())];
    let precision = [line("model", plot::BLUE, some(&j.curves.precision))];
    let said = [
        line("was", plot::BLUE, j.calibration.iter().map(|b| (b.said, Some(b.was[0]))).collect()),
        line("if it were exact", plot::INK, even()),
    ];
    let area = plot::Area {
        name: "95 %".into(),
        colour: plot::BLUE,
        points: j.calibration.iter().map(|b| (b.said, b.was[1], b.was[2])).collect(),
    };
    let steps = |shares: &[f64]| -> Vec<(f64, Option<f64>)> {
        let wide = 1.0 / shares.len().max(1) as f64;
        shares.iter().enumerate().flat_map(|(i, s)| [(i as f64 * wide, Some(*s)), ((i + 1) as f64 * wide, Some(*s))]).collect()
    };
    let scores = [line("people", plot::GREEN, steps(&j.curves.people)), line("programs", plot::RED, steps(&j.curves.programs))];
    [
        plot::lines("Programs found against people hurt (ROC)", "share of people above", "share of programs above", &roc, &[]),
        plot::lines(
            "Precision against recall",
            "share of programs above",
            "share of programs among those above",
            &precision,
            &[],
        ),
        plot::lines("Calibration", "probability that was said", "share that were programs", &said, &[area]),
        plot::lines("Scores", "score", "share of visits", &scores, &[]),
    ]
    .concat()
}
