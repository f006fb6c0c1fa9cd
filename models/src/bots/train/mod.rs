//! `tidegate train bots`: labelled visits in, an ONNX file with its card out, believed only when the runtime says what the
//! trainer said. In folds, what shares a network is never both learnt from and judged.

mod card;
mod fitted;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::Serialize;
use tidegate_filters::rule::bot_gate::Runtime;

pub use self::fitted::Arch;
pub(super) use self::fitted::platt;
use self::fitted::{Fitted, fit};
use super::{
    Sample,
    data::Told,
    judge::{Band, Judgement, Scored, band, judge},
    mlp::sigmoid,
    part::{folds, split},
};
use crate::{
    card::{ModelCard, write_both},
    error::ModelError,
    inspect::inspect_bytes,
    session::Engine,
};

/// Farthest that the runtime may be from the trainer.
pub const PARITY_MAX: f32 = 1e-4;
/// Rows on which the two are compared.
const PARITY_ROWS: usize = 2_000;
/// Of so many networks one stops training.
const STOP_ONE_IN: usize = 5;
/// Networks of either class below which nothing is learnt.
const NETWORKS_MIN: usize = 10;
/// Visits of either class below which nothing is learnt.
const VISITS_MIN: usize = 50;
/// Most suspected labels that are named.
const SUSPECTS_MAX: usize = 20;
/// Visitors are suspected of a wrong label when what is out of their fold says the other with this probability.
const SUSPECT_FROM: f32 = 0.95;

/// Name of what the cross-validation judged.
pub const FOLDS: &str = "folds by network";

/// What a whole part is left out by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldOut {
    /// Each site once, judged by a model of the others.
    EachSite,
    /// Each family of programs once.
    EachFamily,
    /// This site, for good.
    Site(String),
    /// This family, for good.
    Family(String),
}

/// How to train.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What kind of model.
    pub arch: Arch,
    /// Folds of the cross-validation; 0 for none.
    pub folds: usize,
    /// What is left out besides.
    pub hold_out: Vec<HoldOut>,
    /// The threshold that F1 and fairness are told at.
    pub at: f32,
    /// Same seed, same data, same model.
    pub seed: u64,
    /// Name of the model.
    pub name: String,
    /// Program and revision, for the card.
    pub program: String,
    /// The command line, for the card.
    pub command: String,
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The data is no good for it.
    #[error("{0}")]
    Data(String),
    /// The runtime says something else than the trainer.
    #[error("the runtime differs from the trainer by {0:e}, more than {PARITY_MAX:e}; the model is refused")]
    Parity(f32),
    /// The model cannot be loaded or written.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A figure of a part that was left out.
#[derive(Clone, Debug, Serialize)]
pub struct LeftOut {
    /// `folds by network`, `site NAME`, `family NAME`.
    pub name: String,
    /// How it was judged by models that had not seen it.
    pub judged: Judgement,
}

/// A visitor whose label may be wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Suspect {
    /// Site.
    pub site: String,
    /// As in the journal, hex.
    pub visitor: String,
    /// Labelled as a program.
    pub labelled_program: bool,
    /// What models that had not seen its network say, the middle of its visits.
    pub score: f32,
    /// Its visits.
    pub visits: usize,
}

/// A model that passed.
pub struct Trained {
    /// The file.
    pub onnx: Vec<u8>,
    /// Its card.
    pub card: ModelCard,
    /// What was judged, folds first.
    pub left_out: Vec<LeftOut>,
    /// Labels worth another look.
    pub suspects: Vec<Suspect>,
    /// Farthest difference between runtime and trainer.
    pub parity: f32,
    /// The runtime it was compared with.
    pub runtime: Runtime,
}

/// Hears what is being trained, and the share that is done of it.
pub type Tell<'t> = &'t mut dyn FnMut(&str, f64);

/// Trains, judges on what was left out, and compares with the runtime. `told` is for the card.
pub fn train(samples: &[Sample], told: &[Told], settings: &Settings, tell: Tell<'_>) -> Result<Trained, TrainError> {
    let engine = runtime_for(settings.arch)?;
    let everything: Vec<&Sample> = samples.iter().collect();
    let (learn, kept_out) = kept_out(&everything, &settings.hold_out)?;
    check(&learn)?;
    let mut left_out = vec![];
    let mut out_of_fold = vec![];
    if settings.folds > 0 {
        out_of_fold = cross_validate(&learn, settings, tell)?;
        left_out.push(LeftOut { name: FOLDS.into(), judged: judge(&out_of_fold, settings.at) });
    }
    left_out.extend(each_left_out(&learn, settings, tell)?);
    let model = Trainer { settings, label: "model" }.run(&learn, tell);
    for (name, part) in &kept_out {
        left_out.push(LeftOut { name: name.clone(), judged: judge(&model.scored(part), settings.at) });
    }
    let hash = crate::features::hash();
    let onnx = model.fitted.onnx(&[("features_sha256", hash), ("made_by", "tidegate"), ("arch", settings.arch.name())]);
    let parity = parity(&engine, &onnx, &model.fitted, &learn)?;
    let card = card::card(&card::Made {
        settings,
        onnx: &onnx,
        learn: &learn,
        told,
        model: &model,
        left_out: &left_out,
        out_of_fold: &out_of_fold,
        parity,
    });
    Ok(Trained { onnx, card, suspects: suspects(&out_of_fold), left_out, parity, runtime: engine.runtime() })
}

/// Writes model and card, card last: a file without its card is not used.
pub fn write(out: &Path, trained: &Trained) -> Result<PathBuf, ModelError> {
    write_both(out, &trained.onnx, &trained.card)
}

/// Trees need ONNX Runtime: better said before training than after.
fn runtime_for(arch: Arch) -> Result<Engine, TrainError> {
    let wanted = if arch.needs_onnxruntime() { Runtime::Onnxruntime } else { Runtime::Auto };
    Engine::choose(wanted).map_err(|e| {
        let hint =
            if arch.needs_onnxruntime() { format!("--arch {} is run by ONNX Runtime: ", arch.name()) } else { String::new() };
        TrainError::Data(format!("{hint}{e}"))
    })
}

/// What may be learnt from, and the named parts that never are.
type Parts<'a> = (Vec<&'a Sample>, Vec<(String, Vec<&'a Sample>)>);

fn kept_out<'a>(samples: &[&'a Sample], hold_out: &[HoldOut]) -> Result<Parts<'a>, TrainError> {
    let mut learn: Vec<&Sample> = samples.to_vec();
    let mut parts = vec![];
    for h in hold_out {
        let name = match h {
            HoldOut::Site(s) => format!("site {s}"),
            HoldOut::Family(f) => format!("family {f}"),
            _ => continue,
        };
        let is_in = |x: &Sample| match h {
            HoldOut::Site(s) => *x.site == **s,
            HoldOut::Family(f) => x.bot && *x.family == **f,
            _ => false,
        };
        let (mut part, rest): (Vec<&Sample>, Vec<&Sample>) = learn.iter().partition(|s| is_in(s));
        if part.is_empty() {
            let all = |of: fn(&Sample) -> &str| samples.iter().map(|s| of(s)).filter(|n| !n.is_empty()).collect::<BTreeSet<_>>();
            let known = if matches!(h, HoldOut::Site(_)) { all(|s| &s.site) } else { all(|s| &s.family) };
            let known: Vec<_> = known.into_iter().take(30).collect();
            return Err(TrainError::Data(format!("there is no {name}; there are: {}", known.join(", "))));
        }
        learn = rest;
        if matches!(h, HoldOut::Family(_)) {
            // A family is judged beside people that were not learnt from either.
            let fold = folds(&learn, STOP_ONE_IN, 0x6f75_7400);
            let (beside, rest) = split(&learn, &fold, 0);
            part.extend(beside.into_iter().filter(|s| !s.bot));
            learn = rest;
        }
        parts.push((name, part));
    }
    Ok((learn, parts))
}

fn check(learn: &[&Sample]) -> Result<(), TrainError> {
    for (bot, name) in [(false, "people"), (true, "programs")] {
        let of = || learn.iter().filter(|s| s.bot == bot);
        let networks = of().map(|s| s.network).collect::<BTreeSet<_>>().len();
        if of().count() < VISITS_MIN || networks < NETWORKS_MIN {
            let why = format!(
                "{} visits of {name} from {networks} networks; at least {VISITS_MIN} from {NETWORKS_MIN} are needed: label more of them, or make up more (worlds:12)",
                of().count()
            );
            return Err(TrainError::Data(why));
        }
    }
    let first = &learn[0].features;
    if learn.iter().all(|s| s.features == *first) {
        return Err(TrainError::Data("all visits have the same features: there is nothing to learn".into()));
    }
    Ok(())
}

/// A model with the borders that were chosen on what stopped it.
struct Model {
    fitted: Fitted,
    band: Band,
    loss: f64,
    learnt_from: usize,
    stopped_by: usize,
}

impl Model {
    fn score(&self, s: &Sample) -> f32 {
        sigmoid(self.fitted.logit(&s.features))
    }

    fn scored<'a>(&self, part: &[&'a Sample]) -> Vec<Scored<'a>> {
        part.iter().map(|s| Scored { sample: s, score: self.score(s), band: self.band }).collect()
    }
}

struct Trainer<'s> {
    settings: &'s Settings,
    label: &'s str,
}

impl Trainer<'_> {
    fn run(&self, learn: &[&Sample], tell: Tell<'_>) -> Model {
        let seed = self.settings.seed;
        let fold = folds(learn, STOP_ONE_IN, seed);
        let (stop, rest) = split(learn, &fold, 0);
        let (fitted, loss) = fit(self.settings.arch, &rest, &stop, seed, &mut |share| tell(self.label, share));
        let band = band(stop.iter().map(|s| (sigmoid(fitted.logit(&s.features)), s.bot, s.visit)));
        Model { fitted, band, loss, learnt_from: rest.len(), stopped_by: stop.len() }
    }
}

fn cross_validate<'a>(learn: &[&'a Sample], settings: &Settings, tell: Tell<'_>) -> Result<Vec<Scored<'a>>, TrainError> {
    let fold = folds(learn, settings.folds, settings.seed ^ 0x666f_6c64);
    let mut all = vec![];
    for k in 0..settings.folds {
        let (test, rest) = split(learn, &fold, k);
        let label = format!("fold {} of {}", k + 1, settings.folds);
        check(&rest).map_err(|e| TrainError::Data(format!("{label}: {e}, or --folds 0 to train without judging")))?;
        all.extend(Trainer { settings, label: &label }.run(&rest, tell).scored(&test));
    }
    Ok(all)
}

/// Each site, each family in turn, judged by a model that has not seen it.
fn each_left_out(learn: &[&Sample], settings: &Settings, tell: Tell<'_>) -> Result<Vec<LeftOut>, TrainError> {
    let mut out = vec![];
    for h in &settings.hold_out {
        let of: fn(&Sample) -> &str = match h {
            HoldOut::EachSite => |s| &s.site,
            HoldOut::EachFamily => |s| if s.bot { &s.family } else { "" },
            _ => continue,
        };
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        learn.iter().filter(|s| !of(s).is_empty()).for_each(|s| *counts.entry(of(s)).or_default() += 1);
        if counts.len() < 2 {
            let what = if *h == HoldOut::EachSite { "site" } else { "family" };
            return Err(TrainError::Data(format!("--hold-out {what} needs at least two of them, there are {}", counts.len())));
        }
        for name in counts.into_iter().filter(|(_, n)| *n >= VISITS_MIN).map(|(name, _)| name) {
            let one = if *h == HoldOut::EachSite { HoldOut::Site(name.into()) } else { HoldOut::Family(name.into()) };
            let (rest, parts) = kept_out(learn, &[one])?;
            check(&rest).map_err(|e| TrainError::Data(format!("without {name}: {e}")))?;
            for (label, part) in parts {
                let model = Trainer { settings, label: &format!("without {label}") }.run(&rest, tell);
                out.push(LeftOut { name: label, judged: judge(&model.scored(&part), settings.at) });
            }
        }
    }
    Ok(out)
}

/// Loads the file in the gate's own runtime and compares.
fn parity(engine: &Engine, onnx: &[u8], fitted: &Fitted, learn: &[&Sample]) -> Result<f32, TrainError> {
    let inspection = inspect_bytes(Path::new("the new model"), onnx)?;
    let mut session = engine.load(onnx, &inspection)?;
    let mut worst = 0.0f32;
    for s in learn.iter().step_by(learn.len().div_ceil(PARITY_ROWS).max(1)) {
        let said = session.run(&s.features).map_err(|e| TrainError::Data(format!("the new model fails on a row: {e}")))?;
        let off = (said - sigmoid(fitted.logit(&s.features))).abs();
        worst = if off.is_finite() { worst.max(off) } else { f32::INFINITY };
    }
    if worst > PARITY_MAX { Err(TrainError::Parity(worst)) } else { Ok(worst) }
}

/// Visitors of whom models that had not seen their network are sure that the label is wrong; most visits first.
fn suspects(out_of_fold: &[Scored<'_>]) -> Vec<Suspect> {
    let mut visitors: BTreeMap<(&str, u64, bool), Vec<f32>> = BTreeMap::new();
    for s in out_of_fold {
        visitors.entry((&s.sample.site, s.sample.visitor, s.sample.bot)).or_default().push(s.score);
    }
    let suspect = |((site, visitor, bot), mut scores): ((&str, u64, bool), Vec<f32>)| {
        scores.sort_by(f32::total_cmp);
        let score = scores[scores.len() / 2];
        let wrong = if bot { score <= 1.0 - SUSPECT_FROM } else { score >= SUSPECT_FROM };
        wrong.then(|| Suspect {
            site: site.to_owned(),
            visitor: format!("{visitor:016x}"),
            labelled_program: bot,
            score,
            visits: scores.len(),
        })
    };
    let mut found: Vec<Suspect> = visitors.into_iter().filter_map(suspect).collect();
    found.sort_by(|a, b| b.visits.cmp(&a.visits).then(a.visitor.cmp(&b.visitor)));
    found.truncate(SUSPECTS_MAX);
    found
}

#[cfg(test)]
mod tests;
