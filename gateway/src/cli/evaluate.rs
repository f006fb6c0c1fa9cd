//! `tidegate evaluate`: how good a forecast is, beside those that need no training; bot models are judged in `evaluate_bots`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tidegate_filters::rule::bot_gate::Runtime;
use tidegate_models::{
    forecast::{
        card::ForecastCard,
        data::Series,
        evaluate::{Evaluation, TEST_SHARE, evaluate, horizons, method},
        inputs::{Planned, STEP_S},
        net::ForecastNet,
        score::Score,
    },
    plot,
};

use super::{
    Failure, Outcome,
    data::{Read, write},
    evaluate_bots::EvaluateBots,
    fail, note, say,
};

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Evaluate {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidegate evaluate forecast requests.csv                           last value, EWMA, Holt, RLS, their combination
  tidegate evaluate forecast model.onnx a.csv b.csv --html out.html  and a trained net, with plots
  tidegate evaluate forecast access.log --step 1s --json | jq .scores
  tidegate evaluate bots builtin access.log                         the shipped bot model on your log
  tidegate evaluate bots bots.onnx other.log --html out.html --require-auc 0.8 --require-fair

Of forecasts the last 30 % of each series is judged; what is forecast there was learnt from what came before.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Judges forecasts on series of counts.
    Forecast {
        /// A model (.onnx), and anything that `tidegate data import` reads
        #[arg(required_unless_present = "from")]
        files: Vec<PathBuf>,
        /// Series, the same as among FILES
        #[arg(long, value_name = "DATA")]
        from: Vec<PathBuf>,
        /// A page with table and plots
        #[arg(long)]
        html: Option<PathBuf>,
        /// Steps ahead; default: 1 s to 10 min, as the length of a step allows
        #[arg(long, value_delimiter = ',')]
        horizons: Vec<usize>,
        /// What runs the model: auto, onnxruntime or builtin
        #[arg(long, default_value = "auto", value_parser = super::bots::runtime)]
        runtime: Runtime,
        #[command(flatten)]
        read: Read,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Judges a bot model on labelled visits: by family, site, slice, with intervals.
    Bots(EvaluateBots),
}

impl Evaluate {
    pub(super) fn run(self) -> Outcome {
        let (files, html, asked, runtime, read, json) = match self.command {
            Command::Bots(bots) => return bots.run(),
            Command::Forecast { files, from, html, horizons, runtime, read, json } => {
                ([files, from].concat(), html, horizons, runtime, read, json)
            }
        };
        let is_model = |f: &&PathBuf| f.extension().is_some_and(|e| e == "onnx");
        let (models, data): (Vec<&PathBuf>, Vec<&PathBuf>) = files.iter().partition(is_model);
        if data.is_empty() || models.len() > 1 {
            let what = "give at most one model and at least one series: tidegate evaluate forecast [MODEL.onnx] DATA…";
            return Err(fail(Failure::Usage, what));
        }
        if asked.iter().any(|h| !(1..=10_000).contains(h)) {
            return Err(fail(Failure::Usage, "--horizons are numbers of steps, from 1 to 10000"));
        }
        let mut net = models.first().map(|m| open(m, runtime)).transpose()?;
        let mut all: Vec<(Series, Evaluation)> = Vec::new();
        for file in data {
            let series = read.read(file)?.series;
            if series.len() < STEPS_MIN {
                let what =
                    format!("{}: {} steps are too few to judge a forecast on; {STEPS_MIN} or more", file.display(), series.len());
                return Err(fail(Failure::Check, &what));
            }
            if let Some(net) = net.as_ref().filter(|_| series.step_s != STEP_S) {
                let (model, step) = (&net.card().name, series.step_s);
                note(&format!(
                    "note: {}: its steps are {step} s and the net `{model}` speaks on {STEP_S} s: it is left out",
                    file.display()
                ));
            }
            let horizons = if asked.is_empty() { horizons(series.step_s) } else { asked.clone() };
            let bar = progress(&series.name);
            let mut ask = net.as_mut().map(|net| |h: &_| net.says(h, &Planned::default()));
            let ask = ask.as_mut().map(|a| a as &mut dyn FnMut(&_) -> Option<Vec<_>>);
            let evaluation = evaluate(&series, &horizons, ask, &mut |share| bar.set_position((share * 1_000.0) as u64));
            bar.finish_and_clear();
            all.push((series, evaluation));
        }
        if json {
            let scores: Vec<&Score> = all.iter().flat_map(|(_, e)| &e.scores).collect();
            let on: Vec<_> = all.iter().map(|(s, e)| json!({ "series": s.name, "on": e.on })).collect();
            say(&json!({ "model": net.as_ref().map(|n| n.card().name.clone()), "scores": scores, "on": on }).to_string())?;
        } else {
            say(&table(&all))?;
        }
        match html {
            Some(path) => write(&path, &page(&all, net.as_ref().map(ForecastNet::card))),
            None => Ok(()),
        }
    }
}

/// Steps of a series without which there is nothing to learn from and to judge.
const STEPS_MIN: usize = 20;

/// A model for evaluation.
pub(super) fn open(path: &Path, runtime: Runtime) -> Result<ForecastNet, Failure> {
    ForecastNet::open(path, runtime).map_err(|e| fail(Failure::Check, &e.to_string()))
}

/// A bar for one series.
pub(super) fn progress(name: &str) -> ProgressBar {
    let bar = ProgressBar::new(1_000);
    if let Ok(style) = ProgressStyle::with_template("{msg:<32} [{bar:40}] {percent} %") {
        bar.set_style(style);
    }
    bar.set_message(name.to_owned());
    bar
}

const HEAD: [&str; 14] =
    ["method", "n", "MAE", "/naive", "MASE", "RMSE", "p50", "p90", "p95", "p99", "cov95", "cov99", "jump95", "jump99"];

fn cells(s: &Score) -> Vec<String> {
    let mut cells = vec![
        s.method.clone(),
        s.n.to_string(),
        short(s.mae),
        format!("{:.3}", s.relative),
        format!("{:.3}", s.mase),
        short(s.rmse),
    ];
    cells.extend(s.pinball.map(short));
    cells.extend([s.coverage_95, s.coverage_99].map(|v| format!("{v:.4}")));
    cells.extend([s.jumps_95, s.jumps_99].map(|v| format!("{v:.3}")));
    cells
}

fn short(v: f64) -> String {
    if v.abs() >= 1_000.0 {
        format!("{v:.0}")
    } else if v.abs() >= 10.0 {
        format!("{v:.1}")
    } else {
        format!("{v:.3}")
    }
}

/// For a terminal.
fn table(all: &[(Series, Evaluation)]) -> String {
    let mut t = String::new();
    for (series, e) in all {
        for (horizon_s, on) in &e.on {
            let _ = writeln!(
                t,
                "\n{}, {horizon_s} s ahead, last {:.0} % of {} steps of {} s; on {:.0} % of it",
                series.name,
                100.0 * TEST_SHARE,
                series.len(),
                series.step_s,
                100.0 * on
            );
            let line = |c: &[String]| {
                let rest: String = c[1..].iter().map(|c| format!("{c:>8}")).collect();
                format!("  {:<18}{rest}\n", c[0])
            };
            t.push_str(&line(&HEAD.map(String::from)));
            for s in e.scores.iter().filter(|s| s.horizon_s == *horizon_s) {
                t.push_str(&line(&cells(s)));
            }
        }
    }
    t.push_str("\n/naive: MAE over that of the last value. p50…p99: pinball loss. cov: share at or below the quantile; jump: the same\nin the 2 % largest upward moves.\n");
    t
}

fn page(all: &[(Series, Evaluation)], card: Option<&ForecastCard>) -> String {
    let mut parts = Vec::new();
    if let Some(card) = card.filter(|c| !c.loss_curve.is_empty()) {
        let line = |name: &str, colour, i: usize| plot::Line {
            name: name.into(),
            colour,
            points: card.loss_curve.iter().enumerate().map(|(e, l)| (e as f64 + 1.0, Some(f64::from(l[i])))).collect(),
        };
        let lines = [line("learnt from", plot::BLUE, 0), line("held out", plot::RED, 1)];
        parts.push(format!("<h2>{}</h2>", plot::escape(&card.name)));
        parts.push(plot::lines("Training", "epoch", "pinball loss", &lines, &[]));
    }
    for (series, e) in all {
        parts.push(format!("<h2>{}</h2>", plot::escape(&series.name)));
        for curve in &e.curves {
            parts.push(format!("<h3>{} s ahead</h3>", curve.horizon_s));
            parts.push(html_table(&e.scores.iter().filter(|s| s.horizon_s == curve.horizon_s).collect::<Vec<_>>()));
            let x = |i: usize| (curve.from + i) as f64;
            let band = |lo: usize, hi: usize| {
                let point = |(i, f): (usize, &Option<[f64; 4]>)| f.map(|f| (x(i), f[lo], f[hi]));
                curve.forecast.iter().enumerate().filter_map(point).collect()
            };
            let areas = [
                plot::Area { name: "0.1 to 0.99".into(), colour: plot::ORANGE, points: band(0, 3) },
                plot::Area { name: "0.1 to 0.95".into(), colour: plot::BLUE, points: band(0, 2) },
            ];
            let actual = curve.actual.iter().enumerate().map(|(i, c)| (x(i), *c)).collect();
            let middle = curve.forecast.iter().enumerate().map(|(i, f)| (x(i), f.map(|f| f[1]))).collect();
            let lines = [
                plot::Line { name: "came".into(), colour: plot::INK, points: actual },
                plot::Line { name: "forecast".into(), colour: plot::BLUE, points: middle },
            ];
            parts.push(plot::lines("Around the largest jump", "step", "count", &lines, &areas));
            parts.push(plot::scatter("Forecast against actual", &curve.dots));
        }
    }
    plot::page("Forecasts, judged", &parts)
}

fn html_table(scores: &[&Score]) -> String {
    let best = scores.iter().map(|s| s.mae).fold(f64::INFINITY, f64::min);
    let head: String = HEAD.iter().map(|h| format!("<th>{h}</th>")).collect();
    let row = |s: &&Score| {
        let class = if s.mae <= best { " class=\"best\"" } else { "" };
        let cells: String = cells(s).iter().map(|c| format!("<td>{}</td>", plot::escape(c))).collect();
        format!("<tr{class}>{cells}</tr>")
    };
    format!(
        "<table><tr>{head}</tr>{}</table><p>Used by the gate: <em>{}</em>.</p>",
        scores.iter().map(row).collect::<String>(),
        method::USED
    )
}
