//! `tidegate evaluate bots`: how good a bot model is on labelled visits, and for whom it is not.

use std::{fmt::Write as _, path::PathBuf};

use clap::Args;
use serde::Serialize;
use tidegate_filters::rule::bot_gate::Runtime;
use tidegate_models::{
    Blocks,
    bots::{
        Sample,
        data::Told,
        judge::{Band, Judgement, Scored, band, judge},
        train::LeftOut,
    },
};

use super::{
    Failure, Outcome,
    bots::blocks::{BLOCK_ROWS, open},
    evaluate::progress,
    fail, judged, note, say,
    train_bots::ReadBots,
};

/// Arguments of `evaluate bots`.
#[derive(Debug, Args)]
pub(super) struct EvaluateBots {
    /// `builtin`, or a model (.onnx) with its card
    model: String,
    /// Anything that `tidegate train bots --from` reads; each is a site
    #[arg(required_unless_present = "from")]
    data: Vec<String>,
    /// The same as DATA
    #[arg(long, value_name = "DATA")]
    from: Vec<String>,
    #[command(flatten)]
    read: ReadBots,
    /// The threshold that F1 and fairness are told at
    #[arg(long, default_value_t = judged::AT, value_parser = super::bots::threshold)]
    at: f32,
    /// What runs the model: auto, onnxruntime, onnxruntime-cuda or builtin
    #[arg(long, default_value = "auto", value_parser = super::bots::runtime)]
    runtime: Runtime,
    /// A page with tables and plots
    #[arg(long)]
    html: Option<PathBuf>,
    /// Exit with 1 when the AUC's lower bound is below
    #[arg(long, value_parser = share, value_name = "AUC")]
    require_auc: Option<f64>,
    /// Exit with 1 when the recall at 1 % of people, of all or of any family, is below
    #[arg(long, value_parser = share, value_name = "SHARE")]
    require_recall: Option<f64>,
    /// Exit with 1 when a slice of 500 visits of people or more fares worse than 1.25 times all people
    #[arg(long)]
    require_fair: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` answers.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    sha256: &'a str,
    read: &'a [Told],
    judged: &'a Judgement,
}

impl EvaluateBots {
    pub(super) fn run(mut self) -> Outcome {
        self.data.append(&mut self.from);
        let mut scorer = open(&self.model, self.runtime)?;
        let visits = self.read.read(&self.data)?;
        let (scores, unscored) = scores(&mut scorer, &visits.samples);
        if unscored > 0 {
            note(&format!("warning: the model gave no score for {unscored} visits; they are left out"));
        }
        let band = self.band(&scorer, &scores);
        let scored: Vec<Scored<'_>> = scores.into_iter().map(|(sample, score)| Scored { sample, score, band }).collect();
        let judged = judge(&scored, self.at);
        if let Some(html) = &self.html {
            let part = LeftOut { name: scorer.card().name.clone(), judged: judged.clone() };
            super::data::write(html, &judged::page("A bot model, judged", std::slice::from_ref(&part)))?;
        }
        if self.json {
            let (model, sha256) = (&scorer.card().name, &scorer.card().model_sha256);
            let told = Report { model, sha256, read: &visits.told, judged: &judged };
            say(&serde_json::to_string(&told).map_err(|e| fail(Failure::Runtime, &e.to_string()))?)?;
        } else {
            say(&judged::table(&format!("{} on {}", scorer.card().name, self.data.join(", ")), &judged))?;
        }
        self.required(&judged)
    }

    /// The card's borders, chosen before this data was seen; else this data's own, and that is said.
    fn band(&self, scorer: &Blocks, scores: &[(&Sample, f32)]) -> Band {
        let told = &scorer.card().metrics["decides"];
        if !told.is_object() {
            note("note: the card says nothing about where scores decide; the borders are chosen on this very data");
            return band(scores.iter().map(|(s, p)| (*p, s.bot, s.visit)));
        }
        // A border that no score reaches is infinite, which JSON cannot say: null.
        let border = |key: &str, never: f32| told[key].as_f64().map_or(never, |v| v as f32);
        Band { person_below: border("person_below", f32::NEG_INFINITY), program_from: border("program_from", f32::INFINITY) }
    }

    fn required(&self, j: &Judgement) -> Outcome {
        let mut broken = String::new();
        let value = |v: Option<[f64; 3]>, i: usize| v.map_or(0.0, |v| v[i]);
        if let Some(least) = self.require_auc.filter(|l| value(j.all.auc, 1) < *l) {
            let _ = writeln!(broken, "AUC: its lower bound {:.3} is below {least}", value(j.all.auc, 1));
        }
        if let Some(least) = self.require_recall {
            let parts = std::iter::once(("all programs", &j.all)).chain(j.families.iter().map(|g| (g.name.as_str(), &g.marks)));
            for (name, marks) in parts.filter(|(_, m)| value(m.recall_at_1pct, 0) < least) {
                let _ =
                    writeln!(broken, "recall at 1 % of people, {name}: {:.3} is below {least}", value(marks.recall_at_1pct, 0));
            }
        }
        if self.require_fair && !j.fairness.fair {
            let _ = writeln!(
                broken,
                "fairness: the worst slice is above the threshold {:.2} times as often as all people",
                j.fairness.worst
            );
        }
        if broken.is_empty() { Ok(()) } else { Err(fail(Failure::Check, &broken)) }
    }
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    text.parse::<f64>().ok().filter(|p| (0.0..=1.0).contains(p)).ok_or_else(|| "a number from 0 to 1, such as 0.8".into())
}

/// Scores of all visits, and how many got none.
fn scores<'a>(model: &mut Blocks, samples: &'a [Sample]) -> (Vec<(&'a Sample, f32)>, usize) {
    let bar = progress("scoring");
    let mut all = Vec::with_capacity(samples.len());
    for (i, block) in samples.chunks(BLOCK_ROWS).enumerate() {
        let rows: Vec<f32> = block.iter().flat_map(|s| s.features).collect();
        all.extend(block.iter().zip(model.scores(&rows)).filter_map(|(s, p)| Some((s, p?))));
        bar.set_position((1_000 * i * BLOCK_ROWS / samples.len()) as u64);
    }
    bar.finish_and_clear();
    let unscored = samples.len() - all.len();
    (all, unscored)
}
