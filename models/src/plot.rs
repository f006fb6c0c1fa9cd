//! Plots as SVG inside one HTML file that needs nothing else. Colours are told apart by most colour-blind eyes (Okabe and Ito).

use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    drawing::IntoDrawingArea as _,
    element::{Circle, PathElement, Polygon},
    prelude::SVGBackend,
    series::LineSeries,
    style::{BLACK, Color as _, RGBColor, WHITE},
};

const SIZE: (u32, u32) = (960, 320);
const SQUARE: (u32, u32) = (420, 420);
/// Points of one line; more are thinned by keeping the extremes.
const POINTS_MAX: usize = 2_000;
/// Points of a scatter plot.
const DOTS_MAX: usize = 3_000;

/// What lines and bands have.
pub type Colour = RGBColor;

/// Blue.
pub const BLUE: RGBColor = RGBColor(0, 114, 178);
/// Orange.
pub const ORANGE: RGBColor = RGBColor(230, 159, 0);
/// Green.
pub const GREEN: RGBColor = RGBColor(0, 158, 115);
/// Red.
pub const RED: RGBColor = RGBColor(213, 94, 0);
/// Black.
pub const INK: RGBColor = RGBColor(40, 40, 40);

/// One named line; `None` breaks it.
pub struct Line {
    /// Shown beside it.
    pub name: String,
    /// Its colour.
    pub colour: RGBColor,
    /// x and y.
    pub points: Vec<(f64, Option<f64>)>,
}

/// A filled band between two curves.
pub struct Area {
    /// Shown beside it.
    pub name: String,
    /// Its colour.
    pub colour: RGBColor,
    /// x, lower, upper.
    pub points: Vec<(f64, f64, f64)>,
}

/// Lines over time, bands behind them. What cannot be drawn is said in words.
pub fn lines(title: &str, x: &str, y: &str, lines: &[Line], areas: &[Area]) -> String {
    let ys = lines.iter().flat_map(|l| l.points.iter().filter_map(|p| p.1));
    let top = ys.chain(areas.iter().flat_map(|a| a.points.iter().map(|p| p.2))).fold(1e-9, f64::max) * 1.2;
    let xs =
        || lines.iter().flat_map(|l| l.points.iter().map(|p| p.0)).chain(areas.iter().flat_map(|a| a.points.iter().map(|p| p.0)));
    let (from, to) = (xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max));
    if !(from.is_finite() && to > from) {
        return format!("<p>{title}: nothing to draw</p>");
    }
    drawn(title, |svg| {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(text)?;
        let mut builder = ChartBuilder::on(&root);
        builder.margin(12).x_label_area_size(40).y_label_area_size(70).caption(title, ("sans-serif", 18));
        let mut chart = builder.build_cartesian_2d(from..to, 0.0..top).map_err(text)?;
        chart.configure_mesh().light_line_style(WHITE).x_desc(x).y_desc(y).draw().map_err(text)?;
        for a in areas {
            let upper = a.points.iter().map(|p| (p.0, p.2));
            let lower = a.points.iter().rev().map(|p| (p.0, p.1));
            let style = a.colour.mix(0.25).filled();
            let shape = Polygon::new(upper.chain(lower).collect::<Vec<_>>(), style);
            let named = chart.draw_series([shape]).map_err(text)?;
            named.label(a.name.clone()).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style.stroke_width(6)));
        }
        for l in lines {
            let style = l.colour.stroke_width(1);
            let mut named = false;
            for part in thinned(&l.points).split(|p| p.1.is_none()).filter(|p| !p.is_empty()) {
                let part = part.iter().filter_map(|p| Some((p.0, p.1?)));
                let drawn = chart.draw_series(LineSeries::new(part, style)).map_err(text)?;
                if !named {
                    named = true;
                    drawn
                        .label(l.name.clone())
                        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style.stroke_width(3)));
                }
            }
        }
        let mut names = chart.configure_series_labels();
        names.position(SeriesLabelPosition::UpperRight).background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.2));
        names.draw().map_err(text)?;
        root.present().map_err(text)
    })
}

/// Predicted against actual, with the line where both agree.
pub fn scatter(title: &str, dots: &[(f64, f64)]) -> String {
    let top = dots.iter().map(|d| d.0.max(d.1)).fold(1e-9, f64::max) * 1.05;
    let every = dots.len().div_ceil(DOTS_MAX).max(1);
    drawn(title, |svg| {
        let root = SVGBackend::with_string(svg, SQUARE).into_drawing_area();
        root.fill(&WHITE).map_err(text)?;
        let mut builder = ChartBuilder::on(&root);
        builder.margin(12).x_label_area_size(40).y_label_area_size(60).caption(title, ("sans-serif", 16));
        let mut chart = builder.build_cartesian_2d(0.0..top, 0.0..top).map_err(text)?;
        chart.configure_mesh().light_line_style(WHITE).x_desc("actual").y_desc("forecast").draw().map_err(text)?;
        chart.draw_series(dots.iter().step_by(every).map(|d| Circle::new(*d, 2, BLUE.mix(0.35).filled()))).map_err(text)?;
        chart.draw_series(LineSeries::new([(0.0, 0.0), (top, top)], RED.stroke_width(1))).map_err(text)?;
        root.present().map_err(text)
    })
}

/// A page of parts that are HTML already.
pub fn page(title: &str, parts: &[String]) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title><style>body{{font:15px/1.5 \
         system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}}table{{border-collapse:collapse;\
         font-size:13px}}td,th{{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #ddd}}td:first-child,\
         th:first-child{{text-align:left}}pre{{font-size:13px}}svg{{max-width:100%;height:auto}}.best{{font-weight:700}}\
         </style><h1>{0}</h1>\n{1}\n</html>\n",
        escape(title),
        parts.join("\n")
    )
}

/// Text that is safe in HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Keeps the lowest and the highest of each part.
fn thinned(points: &[(f64, Option<f64>)]) -> Vec<(f64, Option<f64>)> {
    let part = points.len().div_ceil(POINTS_MAX / 2).max(1);
    if part == 1 {
        return points.to_vec();
    }
    let mut out = Vec::with_capacity(POINTS_MAX);
    for p in points.chunks(part) {
        let known = || p.iter().enumerate().filter_map(|(i, p)| Some((i, p.1?)));
        let low = known().min_by(|a, b| a.1.total_cmp(&b.1));
        let high = known().max_by(|a, b| a.1.total_cmp(&b.1));
        match (low, high) {
            (Some(a), Some(b)) => out.extend([p[a.0.min(b.0)], p[a.0.max(b.0)]]),
            _ => out.push((p[0].0, None)),
        }
    }
    out
}

fn drawn(title: &str, job: impl FnOnce(&mut String) -> Result<(), String>) -> String {
    let mut svg = String::new();
    match job(&mut svg) {
        Ok(()) => svg,
        Err(why) => format!("<p>{}: cannot be drawn: {}</p>", escape(title), escape(&why)),
    }
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_are_pictures_and_gaps_stay_gaps() {
        let points: Vec<_> =
            (0..10_000).map(|i| (f64::from(i), (i % 1000 != 7 && !(4_000..5_000).contains(&i)).then_some(1.0))).collect();
        assert!(thinned(&points).len() <= POINTS_MAX + 1 && thinned(&points).iter().any(|p| p.1.is_none()));
        let line = Line { name: "a < b".into(), colour: BLUE, points };
        let svg = lines(
            "t",
            "x",
            "y",
            &[line],
            &[Area { name: "band".into(), colour: BLUE, points: vec![(0.0, 1.0, 2.0), (9.0, 1.0, 3.0)] }],
        );
        assert!(svg.starts_with("<svg") && svg.contains("polygon") && !svg.contains("a < b"), "{}", &svg[..200]);
        assert!(lines("t", "x", "y", &[], &[]).contains("nothing to draw"));
        assert!(scatter("s", &[(1.0, 2.0)]).starts_with("<svg"));
        assert!(page("<x>", &["p".into()]).contains("&lt;x&gt;"));
    }
}
