//! The plots. Colours are told apart by most colour-blind eyes (Okabe and Ito) and every line is named beside it.

use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    drawing::IntoDrawingArea as _,
    element::{Circle, PathElement, Rectangle},
    series::LineSeries,
    style::{BLACK, Color as _, RGBColor, WHITE},
};
use plotters::{coord::combinators::IntoLogRange as _, prelude::SVGBackend};

use super::ReportError;
use crate::{
    fairness::{Fairness, Point},
    measure::{Second, Summary},
};

const SIZE: (u32, u32) = (900, 320);
pub(crate) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(crate) const ORANGE: RGBColor = RGBColor(230, 159, 0);
pub(crate) const GREEN: RGBColor = RGBColor(0, 158, 115);
pub(crate) const RED: RGBColor = RGBColor(213, 94, 0);

/// A line with its name.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) colour: RGBColor,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What the axes of a chart count.
#[derive(Clone, Copy)]
pub(crate) struct Axes {
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    /// The upright one is logarithmic.
    pub(crate) logarithmic: bool,
}

const fn over_time(y: &'static str) -> Axes {
    Axes { x: "seconds since the start", y, logarithmic: false }
}

/// Answers a second by what they were.
pub(super) fn requests(title: &str, s: &Summary) -> Result<String, ReportError> {
    let line = |name, colour, f: fn(&Second) -> u32| Line {
        name,
        colour,
        points: s.series.iter().enumerate().map(|(t, x)| (t as f64, f64::from(f(x)))).collect(),
    };
    let lines = [
        line("from the shop", GREEN, |x| x.forwarded),
        line("a place to wait", BLUE, |x| x.waiting),
        line("turned away", ORANGE, |x| x.refused),
        line("failed", RED, |x| x.failed),
    ];
    chart("answers a second", title, over_time("answers/s"), &lines)
}

/// Page time of shoppers over time.
pub(super) fn latency(without: &Summary, with: &Summary) -> Result<String, ReportError> {
    let line = |name, colour, s: &Summary| Line {
        name,
        colour,
        // Seconds without a page have no latency.
        points: s.series.iter().enumerate().filter(|(_, x)| x.p99_ms > 0.0).map(|(t, x)| (t as f64, x.p99_ms)).collect(),
    };
    let lines = [line("without", RED, without), line("with Tidegate", GREEN, with)];
    chart("latency", "Shoppers' pages, 99th percentile", Axes { logarithmic: true, ..over_time("ms") }, &lines)
}

/// Orders so far.
pub(super) fn orders(without: &Summary, with: &Summary) -> Result<String, ReportError> {
    let line = |name, colour, s: &Summary, f: fn(&Second) -> u32| {
        let mut sum = 0.0;
        let points = s.series.iter().enumerate().map(|(t, x)| {
            sum += f64::from(f(x));
            (t as f64, sum)
        });
        Line { name, colour, points: points.collect() }
    };
    let lines = [
        line("people, without", ORANGE, without, |x| x.orders_people),
        line("bots, without", RED, without, |x| x.orders_bots),
        line("people, with Tidegate", GREEN, with, |x| x.orders_people),
        line("bots, with Tidegate", BLUE, with, |x| x.orders_bots),
    ];
    chart("orders", "Orders so far", over_time("orders"), &lines)
}

/// How many waited how long.
pub(super) fn waits(s: &Summary) -> Result<String, ReportError> {
    let longest = s.waits_s.iter().copied().max().unwrap_or(0);
    // About thirty bars whatever the longest wait was.
    let bar = (longest / 30).max(1);
    let mut counts = vec![0_u32; (longest / bar + 1) as usize];
    for w in &s.waits_s {
        counts[(w / bar) as usize] += 1;
    }
    let top = f64::from(counts.iter().copied().max().unwrap_or(0)).max(1.0) * 1.1;
    let end = f64::from((longest / bar + 1) * bar);
    draw("waiting time", |svg| {
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(text)?;
        let mut chart = builder(&area, "Time in the waiting room, once the sale was open")
            .build_cartesian_2d(0.0..end, 0.0..top)
            .map_err(text)?;
        chart.configure_mesh().disable_x_mesh().x_desc("seconds").y_desc("people").draw().map_err(text)?;
        let bars = counts.iter().enumerate().map(|(i, n)| {
            let from = f64::from(i as u32 * bar);
            Rectangle::new([(from, 0.0), (from + f64::from(bar) * 0.9, f64::from(*n))], BLUE.filled())
        });
        chart.draw_series(bars).map_err(text)?;
        area.present().map_err(text)
    })
}

/// Places against arrival: each dot is somebody. In order of arrival the dots would be one line.
pub(super) fn places(f: &Fairness) -> Result<String, ReportError> {
    // The slow lane counts for itself and would lie on top of the others.
    let shown: Vec<&Point> = f.points.iter().filter(|p| p.place <= u64::from(u32::MAX)).collect();
    let end = shown.iter().map(|p| p.arrival).max().map_or(1.0, |n| f64::from(n) + 1.0);
    let top = shown.iter().map(|p| p.place).max().map_or(1.0, |n| n as f64 + 1.0) * 1.2;
    draw("places", |svg| {
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(text)?;
        let mut chart = builder(&area, "Places against arrival").build_cartesian_2d(0.0..end, 0.0..top).map_err(text)?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(WHITE).x_desc("came as number").y_desc("place").draw().map_err(text)?;
        let kinds = [
            ("person, drawn", GREEN, true, true),
            ("bot, drawn", RED, false, true),
            ("person, after the draw", BLUE, true, false),
            ("bot, after the draw", ORANGE, false, false),
        ];
        for (name, colour, person, drawn) in kinds {
            let dots = shown.iter().filter(|p| p.person == person && p.drawn == drawn);
            let dots = dots.map(|p| Circle::new((f64::from(p.arrival), p.place as f64), 2, colour.filled()));
            let series = chart.draw_series(dots).map_err(text)?;
            series.label(name).legend(move |(x, y)| Circle::new((x + 9, y), 3, colour.filled()));
        }
        let mut names = chart.configure_series_labels();
        names.position(SeriesLabelPosition::UpperRight).background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.2));
        names.draw().map_err(text)?;
        area.present().map_err(text)
    })
}

/// Lines over each other, named.
pub(crate) fn chart(plot: &'static str, title: &str, axes: Axes, lines: &[Line]) -> Result<String, ReportError> {
    let logarithmic = axes.logarithmic;
    let points = || lines.iter().flat_map(|l| l.points.iter());
    let end = points().map(|p| p.0).fold(1.0, f64::max);
    // Room for the names of the lines.
    let top = points().map(|p| p.1).fold(1.0, f64::max) * if logarithmic { 4.0 } else { 1.35 };
    draw(plot, |svg| {
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(text)?;
        // The two kinds of axes are different types; what is drawn on them is the same.
        macro_rules! draw_on {
            ($range:expr) => {{
                let mut chart = builder(&area, title).build_cartesian_2d(0.0..end, $range).map_err(text)?;
                chart.configure_mesh().light_line_style(WHITE).x_desc(axes.x).y_desc(axes.y).draw().map_err(text)?;
                for line in lines {
                    let style = line.colour.stroke_width(2);
                    let name = chart.draw_series(LineSeries::new(line.points.iter().copied(), style)).map_err(text)?;
                    name.label(line.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
                }
                let mut names = chart.configure_series_labels();
                names.position(SeriesLabelPosition::UpperRight).background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.2));
                names.draw().map_err(text)?;
            }};
        }
        if logarithmic {
            draw_on!((1.0..top.max(10.0)).log_scale());
        } else {
            draw_on!(0.0..top);
        }
        area.present().map_err(text)
    })
}

fn builder<'a, 'b, DB: plotters::prelude::DrawingBackend>(
    area: &'a plotters::drawing::DrawingArea<DB, plotters::coord::Shift>,
    title: &str,
) -> ChartBuilder<'a, 'b, DB> {
    let mut b = ChartBuilder::on(area);
    b.margin(12).x_label_area_size(40).y_label_area_size(60);
    b.caption(title, ("sans-serif", 18));
    b
}

fn draw(plot: &'static str, job: impl FnOnce(&mut String) -> Result<(), String>) -> Result<String, ReportError> {
    let mut svg = String::new();
    job(&mut svg).map_err(|message| ReportError { plot, message })?;
    Ok(svg)
}

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}
