//! `tidegate train bots`: a model of the bot score from your own labels.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tidegate_models::{
    bots::{
        data::{self, Options, Told, Visits},
        train::{Arch, HoldOut, Settings, TrainError, Trained, train, write},
    },
    features::{features_doc, hash},
};

use super::{Failure, Outcome, data::unread, fail, judged, note, say};

/// Arguments of `train bots`.
#[derive(Debug, Args)]
pub(super) struct TrainBots {
    /// What to learn from, each a site: a journal (with --labels), combined access logs (self-declared programs are the
    /// labels), a CSV or Parquet with columns named as features and a column `label`, or `worlds:N`, N made-up sales
    #[arg(long = "from", required_unless_present = "list_features")]
    from: Vec<String>,
    #[command(flatten)]
    read: ReadBots,
    /// Kind of model: `mlp`, a small net, or `svm`, a support-vector machine, linear or on random features, run anywhere;
    /// `gbdt`, boosted trees, and `forest`, a random forest, need ONNX Runtime at the gate
    #[arg(long, value_parser = arch, default_value = "mlp")]
    arch: Arch,
    /// The model; its card is written beside it
    #[arg(long, default_value = "bots.onnx")]
    out: PathBuf,
    /// Folds of the cross-validation by network; 0 for none
    #[arg(long, default_value_t = 5)]
    folds: usize,
    /// `site` or `family`: leave out each in turn and judge it; `site=NAME` or `family=NAME`: never learn from that one
    #[arg(long, value_parser = hold_out, value_name = "WHAT[=NAME]")]
    hold_out: Vec<HoldOut>,
    /// The threshold that F1 and fairness are told at
    #[arg(long, default_value_t = judged::AT, value_parser = super::bots::threshold)]
    at: f32,
    /// Same seed, same data, same model
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A page with plots
    #[arg(long)]
    html: Option<PathBuf>,
    /// Prints the features a table may have as columns, and the SHA-256 that a card must name
    #[arg(long)]
    list_features: bool,
    /// Writes the labelled visits as a CSV instead of training: for trainers made elsewhere
    #[arg(long, value_name = "FILE")]
    to_table: Option<PathBuf>,
    /// The card, as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// How labelled visits are read; shared with `evaluate bots`.
#[derive(Clone, Debug, Args)]
pub(super) struct ReadBots {
    /// Labels of a journal's visitors: `visitor,label,note,family` lines, as `tidegate bots label` writes them
    #[arg(long)]
    labels: Option<PathBuf>,
    /// A table's column of labels: person or program, 0 or 1
    #[arg(long)]
    label_column: Option<String>,
    /// A table's column that says what belongs together; default: `network`
    #[arg(long)]
    group_column: Option<String>,
}

/// What whoever asks for a recurrent net is told.
const GRU_MEASURED: &str = "a recurrent net over each visitor's visits was measured and is not offered: AUC 0.95 at the first visit \
                            like mlp's, and 0.93 on a site never seen beside 0.92, which does not pay for a state of every visitor; \
                            write mlp, svm, gbdt or forest";

fn arch(text: &str) -> Result<Arch, String> {
    match text {
        "gru" => Err(GRU_MEASURED.into()),
        _ => Arch::ALL.into_iter().find(|a| a.name() == text).ok_or_else(|| "write mlp, svm, gbdt or forest".into()),
    }
}

fn hold_out(text: &str) -> Result<HoldOut, String> {
    match text.split_once('=') {
        None if text == "site" => Ok(HoldOut::EachSite),
        None if text == "family" => Ok(HoldOut::EachFamily),
        Some(("site", name)) if !name.is_empty() => Ok(HoldOut::Site(name.into())),
        Some(("family", name)) if !name.is_empty() => Ok(HoldOut::Family(name.into())),
        _ => Err("write site, family, site=NAME or family=NAME".into()),
    }
}

impl ReadBots {
    /// Reads, and says what is odd.
    pub(super) fn read(&self, sources: &[String]) -> Result<Visits, Failure> {
        let options = Options {
            labels: self.labels.clone(),
            label_column: self.label_column.clone(),
            group_column: self.group_column.clone(),
        };
        let visits = data::read(sources, &options).map_err(|e| unread(&e))?;
        for told in &visits.told {
            note(&format!("{} ({}): {} rows, {} labelled visits kept", told.site, told.kind, told.rows, told.visits));
            told.notes.iter().for_each(|n| note(&format!("  note: {n}")));
        }
        data::contradictions(&visits.samples).iter().for_each(|n| note(&format!("warning: {n}")));
        Ok(visits)
    }
}

impl TrainBots {
    pub(super) fn run(self) -> Outcome {
        if self.list_features {
            return say(&format!("{}\nfeatures_sha256 {}", features_doc(), hash()));
        }
        if self.folds == 1 || self.folds > 20 {
            return Err(fail(Failure::Usage, "--folds is 0, or 2 to 20"));
        }
        let Visits { samples, told } = self.read.read(&self.from)?;
        if let Some(table) = &self.to_table {
            super::data::write(table, &data::to_csv(&samples))?;
            return say(&format!("{}: {} labelled visits", table.display(), samples.len()));
        }
        let silent = data::silent(&samples);
        if !silent.is_empty() {
            note(&format!("{} features never change here: {}", silent.len(), silent.join(", ")));
        }
        let trained = self.train(&samples, &told)?;
        let card = write(&self.out, &trained).map_err(|e| fail(Failure::Runtime, &e.to_string()))?;
        if let Some(html) = &self.html {
            super::data::write(html, &judged::page(&trained.card.name, &trained.left_out))?;
        }
        if self.json {
            return say(&serde_json::to_string(&trained.card).map_err(|e| fail(Failure::Runtime, &e.to_string()))?);
        }
        say(&format!(
            "{}{}\n{}, runtime and trainer differ by at most {:.1e}\n{} and {}\njudge it on other data: tidegate evaluate bots {} DATA…",
            judged::tables(&trained.left_out),
            suspects(&trained),
            trained.card.made_by["model"].as_str().unwrap_or_default(),
            trained.parity,
            self.out.display(),
            card.display(),
            self.out.display()
        ))
    }

    fn train(&self, samples: &[tidegate_models::bots::Sample], told: &[Told]) -> Result<Trained, Failure> {
        let settings = Settings {
            arch: self.arch,
            folds: self.folds,
            hold_out: self.hold_out.clone(),
            at: self.at,
            seed: self.seed,
            name: self.out.file_stem().map_or_else(|| "bots".into(), |s| s.to_string_lossy().into_owned()),
            program: concat!("tidegate ", env!("TIDEGATE_VERSION")).into(),
            command: command(),
        };
        let bar = ProgressBar::new(1_000);
        if let Ok(style) = ProgressStyle::with_template("{msg:<32} [{bar:30}] {percent} % at most") {
            bar.set_style(style);
        }
        let mut tell = |what: &str, share: f64| {
            bar.set_message(what.to_owned());
            bar.set_position((share * 1_000.0) as u64);
        };
        let trained = train(samples, told, &settings, &mut tell).map_err(|e| {
            let how = if matches!(e, TrainError::Model(_)) { Failure::Runtime } else { Failure::Check };
            fail(how, &e.to_string())
        });
        bar.finish_and_clear();
        trained
    }
}

/// As it was typed, without folders: a card tells how, not where.
fn command() -> String {
    let bare = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    let word = |a: std::ffi::OsString| {
        let a = a.to_string_lossy();
        match a.split_once('=').filter(|(flag, _)| flag.starts_with("--")) {
            Some((flag, value)) => format!("{flag}={}", bare(value)),
            None => bare(&a),
        }
    };
    std::env::args_os().map(word).collect::<Vec<_>>().join(" ")
}

fn suspects(trained: &Trained) -> String {
    if trained.suspects.is_empty() {
        return String::new();
    }
    let line = |s: &tidegate_models::bots::train::Suspect| {
        let label = if s.labelled_program { "program" } else { "person" };
        format!("  {} {}  labelled {label}, scored {:.3} over {} visits\n", s.site, s.visitor, s.score, s.visits)
    };
    format!(
        "\nlabels worth another look (models that had not seen the network are sure of the other):\n{}",
        trained.suspects.iter().map(line).collect::<String>()
    )
}
