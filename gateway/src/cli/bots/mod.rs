//! `tidegate bots`: thresholds and models tried on the journal before they act.

pub(super) mod blocks;
mod facts;
mod page;
mod print;
mod promote;

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use tidegate_filters::{Rate, Row, reference::Reference, rule::bot_gate::Runtime};
use tidegate_models::{
    Scorer,
    scorer::BUILTIN,
    tune::{self, Book, Explainer, GateAt, Gates, Label, Labels, Thresholds, Visitor},
};

use crate::appeal::Appeal;
use blocks::Rescored;

use super::{
    Failure, Outcome, fail,
    journal::{each_row, files},
    note, say,
};

/// Most rows one reference is looked for in after it was found: two gates may share a directory.
const SAME_REFERENCE_MAX: usize = 8;
/// Most of a list of appeals that is read, bytes.
const APPEALS_BYTES_MAX: u64 = 64 << 20;

/// Arguments of `bots`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Bots {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = r#"Examples:
  tidegate bots explain 7K3M-2PQ7-XW0A --from /var/lib/tidegate/journal
  tidegate bots what-if --from JOURNAL --policy drop-day.yaml --refuse-at 0.95
  tidegate bots what-if --from JOURNAL --to-the-back-at 0.85 --model new.onnx --json
  tidegate bots what-if --from JOURNAL --throttle-at 0.8 --throttle-to 20/min
  tidegate bots label --from JOURNAL --labels labels.csv
  tidegate bots label --from JOURNAL --labels labels.csv --facts
  tidegate bots label --labels labels.csv --set 09f3a1c2b4d5e6f7=person --note "wrote to us"
  curl -H "Authorization: Bearer $(cat admin.token)" http://127.0.0.1:9900/v1/appeals | tidegate bots label --labels labels.csv --appeals -
  tidegate bots curve --from JOURNAL --labels labels.csv --policy drop-day.yaml --html curve.html
  tidegate bots promote new.onnx --policy drop-day.yaml --labels labels.csv
  tidegate bots rollback live.onnx"#;

#[derive(Debug, Subcommand)]
enum Command {
    /// Computes one decision again from the journal, and says why.
    Explain {
        /// What the refused visitor quotes
        reference: Reference,
        /// The policy's journal.directory
        #[arg(long)]
        from: PathBuf,
        /// The model of then, when it is not the built-in one
        #[arg(long, default_value = BUILTIN)]
        model: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Says who would newly be stopped by other thresholds or another model.
    WhatIf {
        /// The policy's journal.directory
        #[arg(long)]
        from: PathBuf,
        #[command(flatten)]
        by: By,
        /// Visitors shown by name
        #[arg(long, default_value_t = 10)]
        examples: usize,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Plots the threshold against people hurt and programs passed, by your labels.
    Curve {
        /// The policy's journal.directory
        #[arg(long)]
        from: PathBuf,
        #[command(flatten)]
        by: By,
        /// `visitor,label,note` lines, as `bots label` writes them
        #[arg(long)]
        labels: PathBuf,
        /// A page with plots
        #[arg(long)]
        html: Option<PathBuf>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Puts a model in the place of the live one when it has shown on the journal that it may.
    Promote(promote::Promote),
    /// Puts the model before back in place; once more puts the later one back.
    Rollback {
        /// The live model, as the policy names it
        model: PathBuf,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Shows the visitors worth a look, or writes down what one is.
    Label {
        /// The policy's journal.directory: shows whom to label
        #[arg(long, required_unless_present_any = ["set", "appeals"])]
        from: Option<PathBuf>,
        #[command(flatten)]
        by: By,
        /// Where labels are kept
        #[arg(long)]
        labels: PathBuf,
        /// VISITOR=person or VISITOR=program; may be repeated
        #[arg(long, value_name = "VISITOR=LABEL")]
        set: Vec<String>,
        /// What `GET /v1/appeals` answered (`-`: standard input): decided appeals become labels
        #[arg(long, value_name = "FILE", conflicts_with_all = ["set", "from"])]
        appeals: Option<PathBuf>,
        /// What is known for sure becomes labels: visitors of honeypots, verified bots, false crawlers. Labels that are there stay
        #[arg(long, requires = "from", conflicts_with = "set")]
        facts: bool,
        /// Goes with what is set
        #[arg(long, default_value = "", requires = "set")]
        note: String,
        /// How many to show
        #[arg(short = 'n', long, default_value_t = 20)]
        visitors: usize,
        /// One JSON array
        #[arg(long)]
        json: bool,
    },
}

/// What a journal is judged by.
#[derive(Debug, Args)]
struct By {
    /// Thresholds of this policy's bot gates, route by route, where the options below do not say others. A gate in shadow
    /// counts as if it acted
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Another model (its card beside it); the journal's own scores when left out
    #[arg(long)]
    model: Option<String>,
    /// What runs it: auto, onnxruntime, onnxruntime-cuda or builtin
    #[arg(long, default_value = "auto", requires = "model", value_parser = runtime)]
    runtime: Runtime,
    /// From this score on: the challenge
    #[arg(long, value_parser = threshold)]
    challenge_at: Option<f32>,
    /// From this score on: the slow lane
    #[arg(long, value_parser = threshold)]
    to_the_back_at: Option<f32>,
    /// From this score on: a quota
    #[arg(long, value_parser = threshold)]
    throttle_at: Option<f32>,
    /// The quota, such as 10/min
    #[arg(long, value_name = "RATE")]
    throttle_to: Option<Rate>,
    /// From this score on: refused
    #[arg(long, value_parser = threshold)]
    refuse_at: Option<f32>,
}

pub(super) fn runtime(name: &str) -> Result<Runtime, String> {
    let words = || Runtime::ALL.map(Runtime::name).join(", ");
    Runtime::named(name).ok_or_else(|| format!("one of {}", words()))
}

pub(super) fn threshold(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err("a score is a number from 0 to 1, such as 0.95".into()),
    }
}

impl Bots {
    pub(super) fn run(self) -> Outcome {
        match self.command {
            Command::Explain { reference, from, model, json } => explain(reference, &from, &model, json),
            Command::WhatIf { from, by, examples, json } => what_if(&from, &by, examples, json),
            Command::Curve { from, by, labels, html, json } => curve(&from, &by, &labels, html.as_deref(), json),
            Command::Promote(promote) => promote.run(),
            Command::Rollback { model, json } => promote::roll_back(&model, json),
            Command::Label { from: Some(from), labels, facts: true, .. } => facts::label(&labels, &from),
            Command::Label { from: Some(from), by, labels, set, visitors, json, .. } if set.is_empty() => {
                queue(&from, &by, &labels, visitors, json)
            }
            Command::Label { labels, appeals: Some(appeals), .. } => label_appeals(&labels, &appeals),
            Command::Label { labels, set, note, .. } => set_labels(&labels, &set, &note),
        }
    }
}

fn explain(reference: Reference, from: &Path, model: &str, json: bool) -> Outcome {
    let scorer = open(model, Runtime::Auto)?;
    let mut found: Vec<Row> = Vec::new();
    for file in files(from)? {
        each_row(&file, |row| {
            if found.len() < SAME_REFERENCE_MAX && Reference::of(&row) == reference {
                found.push(row);
            }
        });
    }
    if found.is_empty() {
        let what = format!(
            "no row of {} has the reference {reference}; rows can be read once their file is closed, and old files are removed",
            from.display()
        );
        return Err(fail(Failure::Check, &what));
    }
    let all: Vec<_> = found.iter().map(|row| Explainer { scorer: &scorer }.explain(row)).collect();
    if json {
        return print::json(&all);
    }
    say(&all.iter().map(print::explained).collect::<Vec<_>>().join("\n"))
}

fn what_if(from: &Path, by: &By, examples: usize, json: bool) -> Outcome {
    let gates = by.gates()?;
    if gates.set().next().is_none() {
        let what = "no threshold: give --challenge-at, --to-the-back-at, --throttle-at, --refuse-at, or --policy with a bot_gate that has some";
        return Err(fail(Failure::Usage, what));
    }
    let (visitors, read) = by.visitors(from, &gates)?;
    let answer = tune::what_if(&visitors, examples);
    if json {
        let told = print::WhatIfTold { thresholds: &gates, read: &read, what_if: &answer, counted: print::COUNTED };
        return print::json(&told);
    }
    say(&print::what_if(&gates, &read, &answer))
}

fn curve(from: &Path, by: &By, labels: &Path, html: Option<&Path>, json: bool) -> Outcome {
    let labels = Labels::read(labels).map_err(|e| fail(Failure::Usage, &e.to_string()))?;
    let gates = by.gates()?;
    let (visitors, _) = by.visitors(from, &gates)?;
    let curve = tune::curve(&visitors, &labels);
    if curve.people == 0 || curve.programs == 0 {
        let what = format!(
            "{} people and {} programs with labels are in this journal ({} labels are of others): label some of each",
            curve.people, curve.programs, curve.unknown
        );
        return Err(fail(Failure::Check, &what));
    }
    if let Some(html) = html {
        super::data::write(html, &page::curve(&curve, &gates))?;
    }
    if json { print::json(&curve) } else { say(&print::curve(&curve)) }
}

fn queue(from: &Path, by: &By, labels: &Path, n: usize, json: bool) -> Outcome {
    let labels = read_or_new(labels)?;
    let gates = by.gates()?;
    let (visitors, _) = by.visitors(from, &gates)?;
    let all = tune::queue(&visitors, &labels, &gates, n);
    if json { print::json(&all) } else { say(&print::queue(&all, &labels)) }
}

fn set_labels(file: &Path, set: &[String], text: &str) -> Outcome {
    let pair = |pair: &String| {
        let wrong = |why: String| fail(Failure::Usage, &format!("--set {pair}: {why}"));
        let (visitor, label) = pair.split_once('=').ok_or_else(|| wrong("write VISITOR=person or VISITOR=program".into()))?;
        let label: Label = label.parse().map_err(wrong)?;
        Ok((tune::visitor(visitor).map_err(wrong)?, label))
    };
    let pairs = set.iter().map(pair).collect::<Result<Vec<_>, Failure>>()?;
    let labels = change(file, |labels| pairs.iter().for_each(|(visitor, label)| labels.set(*visitor, *label, text)))?;
    say(&format!("{}: {} labels", file.display(), labels.len()))
}

/// Granted: a person. Rejected: a program.
fn label_appeals(file: &Path, appeals: &Path) -> Outcome {
    let wrong = |why: String| fail(Failure::Usage, &format!("{}: {why}", appeals.display()));
    let mut text = String::new();
    let read = match appeals.as_os_str() == "-" {
        true => io::stdin().take(APPEALS_BYTES_MAX).read_to_string(&mut text),
        false => File::open(appeals).and_then(|f| f.take(APPEALS_BYTES_MAX).read_to_string(&mut text)),
    };
    read.map_err(|e| wrong(e.to_string()))?;
    let list: Vec<Appeal> =
        serde_json::from_str(&text).map_err(|e| wrong(format!("{e}; this is not what GET /v1/appeals answers")))?;
    let all = list.len();
    let decided = list.into_iter().filter_map(|a| Some((a.outcome?.granted, a.visitor, a.reference)));
    let decided = decided
        .map(|(granted, visitor, reference)| {
            Ok((tune::visitor(&visitor).map_err(wrong)?, granted, format!("appeal {reference}")))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let labels = change(file, |labels| {
        for (visitor, granted, note) in &decided {
            labels.set(*visitor, if *granted { Label::Person } else { Label::Program }, note);
        }
    })?;
    say(&format!("{}: {} labels; {} of {all} appeals are decided", file.display(), labels.len(), decided.len()))
}

/// Changes a file of labels while nobody else does.
pub(super) fn change(file: &Path, how: impl FnOnce(&mut Labels)) -> Result<Labels, Failure> {
    Labels::change(file, how).map_err(|e| {
        let how = if matches!(e, tune::LabelError::Line { .. }) { Failure::Usage } else { Failure::Runtime };
        fail(how, &e.to_string())
    })
}

fn read_or_new(file: &Path) -> Result<Labels, Failure> {
    if !file.exists() {
        return Ok(Labels::default());
    }
    Labels::read(file).map_err(|e| fail(Failure::Usage, &e.to_string()))
}

/// Opens `builtin`, or a file that was tried in a process of its own first.
fn open(model: &str, runtime: Runtime) -> Result<Scorer, Failure> {
    tried(model, runtime)?;
    Scorer::open(model, runtime, 1).map_err(|e| fail(Failure::Usage, &e.to_string()))
}

/// A file is tried in a process of its own: what crashes there does not crash this one.
fn tried(model: &str, runtime: Runtime) -> Result<(), Failure> {
    if model == BUILTIN {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(|e| fail(Failure::Runtime, &format!("cannot find this program: {e}")))?;
    crate::deep::try_in_child(&program, model, runtime).map_err(|why| fail(Failure::Usage, &why))
}

/// How much of a journal was judged.
#[derive(Debug, serde::Serialize)]
struct Read {
    /// Visits with a score.
    scored: u64,
    /// Without one.
    unscored: u64,
    /// Of visitors for whom there was no room.
    over: u64,
}

impl By {
    fn gates(&self) -> Result<Gates, Failure> {
        let gates = match &self.policy {
            Some(file) => gates(file)?,
            None => Gates::everywhere(Thresholds::default()),
        };
        let with = |g: &GateAt| GateAt {
            routes: g.routes.clone(),
            at: Thresholds {
                challenge_at: self.challenge_at.or(g.at.challenge_at),
                to_the_back_at: self.to_the_back_at.or(g.at.to_the_back_at),
                throttle_at: self.throttle_at.or(g.at.throttle_at),
                throttle_to: self.throttle_to.unwrap_or(g.at.throttle_to),
                refuse_at: self.refuse_at.or(g.at.refuse_at),
            },
        };
        let gates = Gates::new(gates.each().iter().map(with).collect());
        gates.in_order().map_err(|why| fail(Failure::Usage, &why))?;
        Ok(gates)
    }

    fn visitors(&self, from: &Path, gates: &Gates) -> Result<(Vec<Visitor>, Read), Failure> {
        let model = self.model.as_deref().map(|m| blocks::open(m, self.runtime)).transpose()?;
        let mut rescored = model.map(Rescored::by);
        let files = files(from)?;
        let mut book = Book::new(gates.clone());
        for (i, file) in files.iter().enumerate() {
            if files.len() > 10 && i % 10 == 0 {
                note(&format!("reading file {} of {}", i + 1, files.len()));
            }
            each_row(file, |row| match &mut rescored {
                Some(rescored) => rescored.take(row, &mut book),
                None => book.take(&row, None),
            });
        }
        if let Some(rescored) = &mut rescored {
            rescored.flush(&mut book);
        }
        let read = Read { scored: book.scored, unscored: book.unscored, over: book.over };
        let visitors = book.close();
        if visitors.is_empty() {
            let what = format!(
                "no scored visit in {}: the policy needs a bot_gate and a journal, whose rows can be read once their file is closed",
                from.display()
            );
            return Err(fail(Failure::Check, &what));
        }
        Ok((visitors, read))
    }
}

/// The gates of a policy.
fn gates(file: &Path) -> Result<Gates, Failure> {
    let loaded = tidegate_config::load(file).map_err(|e| fail(Failure::Usage, &e.to_string()))?;
    let gates = Gates::of(crate::scoring::gates(&loaded.policy));
    match gates.each() {
        [] => Err(fail(Failure::Usage, &format!("{} has no bot_gate", file.display()))),
        _ => Ok(gates),
    }
}
