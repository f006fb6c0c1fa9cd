//! `tidegate train forecast`: series in, an ONNX file with its card out, believed only when the runtime says what the trainer
//! said.

#[cfg(feature = "train-cuda")]
mod cuda;
mod dataset;
mod device;
mod export;
mod fit;
mod net;

use std::path::{Path, PathBuf};

use burn::{
    backend::{Autodiff, ndarray::NdArrayDevice},
    tensor::backend::Backend,
};
use serde_json::json;
use tidegate_filters::{forecast::QUANTILES, rule::bot_gate::Runtime, units::as_written};

pub use self::{
    dataset::Select,
    device::Device,
    fit::{Effort, Epoch, Progress},
    net::Arch,
};
use self::{
    dataset::{Scaler, Split},
    device::{Cpu, Place},
    fit::Fit,
};
use super::{
    card::{ForecastCard, Kind},
    data::Series,
    inputs::{self, HORIZONS, STEP_S},
    net::ForecastNet,
};
use crate::{
    card::{sha256_hex, write_both},
    error::ModelError,
};

/// Farthest that the runtime may be from the trainer.
pub const PARITY_MAX: f64 = 1e-4;
/// Rows on which the two are compared.
const PARITY_ROWS: usize = 500;
/// Rows below which nothing is learnt.
const ROWS_MIN: usize = 2_000;

/// How to train.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is computed.
    pub device: Device,
    /// What kind of net.
    pub arch: Arch,
    /// What it looks at.
    pub select: Select,
    /// How long.
    pub effort: Effort,
    /// Share of each series that weights are learnt from; the first.
    pub train_until: f64,
    /// Share up to which it is used for stopping. What follows is never seen.
    pub valid_until: f64,
    /// Rolling-origin folds inside the training part that are trained and judged first; 0 for none.
    pub folds: usize,
    /// Name of the model.
    pub name: String,
    /// Program and revision, for the card.
    pub program: String,
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A series is no good for it.
    #[error("{name}: {why}")]
    Series {
        /// Its name.
        name: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// Too little, or it learnt nothing.
    #[error("{0}")]
    Nothing(String),
    /// The runtime says something else than the trainer.
    #[error("the runtime differs from the trainer by {0:e}, more than {PARITY_MAX:e}; the model is refused")]
    Parity(f64),
    /// The device is not there, not ready, or gave up.
    #[error("{0}")]
    Device(String),
    /// The model cannot be loaded or written.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A model that passed.
pub struct Trained {
    /// The file.
    pub onnx: Vec<u8>,
    /// Its card; the caller may add metrics.
    pub card: ForecastCard,
    /// Loss by epoch.
    pub curve: Vec<Epoch>,
    /// Held-out loss of each fold, and of saying "as it is now" there.
    pub folds: Vec<[f32; 2]>,
    /// Farthest difference between runtime and trainer.
    pub parity: f64,
}

/// A phase and how far it is.
pub struct Told {
    /// Fold number from 1; 0 for the model itself.
    pub fold: usize,
    /// See [`Progress`].
    pub progress: Progress,
}

/// Trains on series of minutes. `tell` hears how far it is; `false` from it ends training early.
pub fn train(series: &[Series], settings: &Settings, tell: &mut dyn FnMut(Told) -> bool) -> Result<Trained, TrainError> {
    match settings.device {
        Device::Cpu => train_on::<Cpu>(series, settings, &NdArrayDevice::default(), "cpu", tell),
        #[cfg(feature = "train-cuda")]
        Device::Cuda => cuda::train(series, settings, tell),
    }
}

fn train_on<B: Place>(
    series: &[Series],
    settings: &Settings,
    device: &B::Device,
    device_name: &str,
    tell: &mut dyn FnMut(Told) -> bool,
) -> Result<Trained, TrainError> {
    let minutes = series.iter().map(minutes).collect::<Result<Vec<_>, _>>()?;
    let mut folds = Vec::new();
    for fold in 1..=settings.folds {
        // Each fold learns from more and is judged on the next part; all of it lies before the part that stops training.
        let part = settings.train_until / (settings.folds + 1) as f64;
        let (split, _, _) = prepared(&minutes, settings.select, part * fold as f64, part * (fold + 1) as f64)?;
        let fit = fit::fit::<Autodiff<B>>(settings.arch, &split.train, &split.valid, &settings.effort, device, &mut |p| {
            tell(Told { fold, progress: p })
        });
        folds.push([fit.best_loss, naive_loss(&split)]);
    }
    let (split, scaler, cut) = prepared(&minutes, settings.select, settings.train_until, settings.valid_until)?;
    let fit = fit::fit::<Autodiff<B>>(settings.arch, &split.train, &split.valid, &settings.effort, device, &mut |p| {
        tell(Told { fold: 0, progress: p })
    });
    if !fit.best_loss.is_finite() {
        return Err(TrainError::Nothing("training gave no finite loss; the model is refused".into()));
    }
    let hash = inputs::hash();
    let onnx = export::onnx(settings.arch, &fit.net, &scaler, &[("inputs_sha256", hash), ("arch", settings.arch.name())]);
    let card = card(settings, device_name, &minutes, &onnx, &scaler, &split, &fit, &folds, cut);
    let parity = parity(&onnx, &card, &fit, &split, device)?;
    Ok(Trained { onnx, card, curve: fit.curve, folds, parity })
}

/// Writes model and card, card last: a file without its card is not used.
pub fn write(out: &Path, trained: &Trained) -> Result<PathBuf, ModelError> {
    write_both(out, &trained.onnx, &trained.card)
}

fn minutes(series: &Series) -> Result<Series, TrainError> {
    let fail = |why: String| Err(TrainError::Series { name: series.name.clone(), why });
    if !STEP_S.is_multiple_of(series.step_s) {
        return fail(format!("steps of {} s; training is on minutes: give steps that a minute is made of", series.step_s));
    }
    let series = series.coarser((STEP_S / series.step_s) as usize);
    let first = series.known().next().unwrap_or(0.0);
    if series.known().all(|c| c == first) {
        return fail("all counts are the same: there is nothing to learn".into());
    }
    Ok(series)
}

fn prepared(
    minutes: &[Series],
    select: Select,
    train_until: f64,
    valid_until: f64,
) -> Result<(Split, Scaler, usize), TrainError> {
    let (mut split, mut cut) = (Split::default(), 0);
    for s in minutes {
        let (clean, n) = dataset::winsorise(s, train_until);
        cut += n;
        dataset::add(&mut split, &clean, train_until, valid_until);
    }
    if split.train.len() < ROWS_MIN || split.valid.is_empty() {
        let why = format!(
            "{} minutes to learn from and {} to stop by; at least {ROWS_MIN} and 1 are needed: give longer series",
            split.train.len(),
            split.valid.len()
        );
        return Err(TrainError::Nothing(why));
    }
    let scaler = Scaler::of(&split.train, select);
    scaler.apply(&mut split.train);
    scaler.apply(&mut split.valid);
    Ok((split, scaler, cut))
}

/// Pinball loss of "as it is now" without any band, in the same units.
fn naive_loss(split: &Split) -> f32 {
    let rows = &split.valid;
    let (mut sum, mut n) = (0.0, 0.0f32);
    for (y, w) in rows.targets.iter().zip(&rows.weights) {
        for v in y {
            for q in QUANTILES {
                let (q, middle) = (q as f32, if q == 0.5 { fit::MEDIAN_WEIGHT } else { 1.0 });
                n += 1.0;
                if v.is_finite() {
                    sum += w * middle * if *v > 0.0 { q * v } else { (q - 1.0) * v };
                }
            }
        }
    }
    sum / n.max(1.0)
}

/// Loads the file in the gate's own runtime and compares on rows from training and stopping.
fn parity<B: Backend>(
    onnx: &[u8],
    card: &ForecastCard,
    fit: &Fit<B>,
    split: &Split,
    device: &B::Device,
) -> Result<f64, TrainError> {
    let every = (split.valid.len() / PARITY_ROWS).max(1);
    let take = |rows: &[[f32; inputs::N]]| rows.iter().step_by(every).copied().collect::<Vec<_>>();
    let raw = take(&split.valid.raw);
    let trainer = fit::outputs(&fit.net, &take(&split.valid.inputs), device);
    let (mut loaded, _) = ForecastNet::of(Path::new(&card.name), onnx, card.clone(), Runtime::Builtin)?;
    let mut worst = 0.0f64;
    for (row, said) in raw.iter().zip(&trainer) {
        let unit = dataset::volatility(row);
        let got = loaded.raw(row).map_err(TrainError::Nothing)?;
        for (a, b) in got.iter().zip(said) {
            let off = f64::from((a - b * unit).abs());
            worst = if off.is_finite() { worst.max(off) } else { f64::INFINITY };
        }
    }
    if worst > PARITY_MAX { Err(TrainError::Parity(worst)) } else { Ok(worst) }
}

#[allow(clippy::too_many_arguments)]
fn card<B: Backend>(
    settings: &Settings,
    device_name: &str,
    minutes: &[Series],
    onnx: &[u8],
    scaler: &Scaler,
    split: &Split,
    fit: &Fit<B>,
    folds: &[[f32; 2]],
    cut: usize,
) -> ForecastCard {
    let data: Vec<_> = minutes
        .iter()
        .map(|s| {
            let end = |share: f64| s.at_s((s.len() as f64 * share) as usize);
            json!({ "series": s.name, "minutes": s.len(), "from_s": s.start_s, "learnt_until_s": end(settings.train_until),
                "stopped_by_until_s": end(settings.valid_until) })
        })
        .collect();
    ForecastCard {
        kind: Kind::Forecast,
        name: settings.name.clone(),
        model_sha256: sha256_hex(onnx),
        inputs_sha256: inputs::hash().to_owned(),
        horizons: HORIZONS.to_vec(),
        quantiles: QUANTILES.to_vec(),
        inputs: inputs::names(),
        scaler: json!({ "mean": scaler.mean.to_vec(), "factor": scaler.factor.to_vec() }),
        made_by: json!({
            "program": settings.program, "device": device_name,
            "arch": settings.arch.name(), "weights": fit::size(&fit.net), "seed": settings.effort.seed,
            "epochs": fit.curve.len(), "best_epoch": fit.best_epoch,
        }),
        training: json!({
            "series": data, "minutes_learnt_from": split.train.len(), "minutes_stopped_by": split.valid.len(),
            "outliers_cut": cut, "muted": scaler.muted(),
        }),
        metrics: json!({
            "held_out_loss": as_written(fit.best_loss),
            "rolling_origin": folds.iter().map(|f| json!({ "loss": as_written(f[0]), "as_it_is_now": as_written(f[1]) })).collect::<Vec<_>>(),
        }),
        loss_curve: fit.curve.iter().map(|e| [e.train, e.valid]).collect(),
        limits: vec![
            "Minutes only; what happens within a minute is the online experts' business.".into(),
            "It is one expert among others and is weighed by what it gets wrong here, today.".into(),
        ],
    }
}

#[cfg(test)]
mod tests;
