//! The curve of thresholds as a page with plots.

use tidegate_models::{
    plot::{self, Area, Line},
    tune::{Curve, Gates, Point},
};

use super::print::shares;

/// Thresholds of the second plot: where gates act.
const CLOSE_FROM: f32 = 0.8;

pub(super) fn curve(c: &Curve, gates: &Gates) -> String {
    let f = &c.figures;
    let told = format!(
        "<p>{} people and {} programs with labels, each by its highest score ({} labels are of nobody in this journal). AUC {:.3}, \
         average precision {:.3}, recall at 1 % of people {:.3}. Bands and brackets: 95 % (Wilson).</p>",
        c.people, c.programs, c.unknown, f.auc, f.average_precision, f.recall_at_1pct_fpr
    );
    let close: Vec<Point> = c.points.iter().filter(|p| p.at >= CLOSE_FROM).copied().collect();
    let parts = [told, drawn("By threshold", &c.points), drawn("The same, closer", &close), table(c, gates)];
    plot::page("Thresholds: people hurt, programs passed", &parts)
}

/// One of the two curves.
struct Side {
    name: &'static str,
    colour: plot::Colour,
    of: fn(&Point) -> [f64; 3],
}

const SIDES: [Side; 2] = [
    Side { name: "people hurt", colour: plot::RED, of: |p| p.people_hurt },
    Side { name: "programs passed", colour: plot::BLUE, of: |p| p.programs_passed },
];

fn drawn(title: &str, points: &[Point]) -> String {
    let line = |s: &Side| Line {
        name: s.name.into(),
        colour: s.colour,
        points: points.iter().map(|p| (f64::from(p.at), Some((s.of)(p)[0]))).collect(),
    };
    let band = |s: &Side| Area {
        name: format!("{}, 95 %", s.name),
        colour: s.colour,
        points: points.iter().map(|p| (f64::from(p.at), (s.of)(p)[1], (s.of)(p)[2])).collect(),
    };
    plot::lines(title, "threshold", "share", &SIDES.each_ref().map(line), &SIDES.each_ref().map(band))
}

/// Every fifth threshold, the high ones, and those nearest to the gates' own, which are set apart.
fn table(c: &Curve, gates: &Gates) -> String {
    let own = |p: &Point| gates.set().any(|at| (at - p.at).abs() <= 0.005);
    let rows = c.points.iter().filter(|p| super::print::is_told(p) || own(p)).map(|p| {
        let class = if own(p) { " class=\"best\"" } else { "" };
        format!("<tr{class}><td>{:.2}</td><td>{}</td><td>{}</td></tr>", p.at, shares(p.people_hurt), shares(p.programs_passed))
    });
    let own = if gates.set().next().is_some() { "<p>Bold: where the gates act.</p>" } else { "" };
    format!(
        "<table><tr><th>from</th><th>people hurt (95 %)</th><th>programs passed (95 %)</th></tr>{}</table>{own}",
        rows.collect::<String>()
    )
}
