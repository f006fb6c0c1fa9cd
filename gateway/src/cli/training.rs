//! The body of `tidegate train forecast`.

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tidegate_filters::rule::bot_gate::Runtime;
use tidegate_models::forecast::{
    data::Series,
    evaluate::{evaluate, horizons, method},
    inputs::Planned,
    net::ForecastNet,
    train::{Arch, Device, Effort, Select, Settings, Told, TrainError, Trained, train, write},
};

use super::{Failure, Outcome, evaluate::progress, fail, note, say, train::Forecast};

/// Epochs without a better held-out loss before it stops.
const PATIENCE: usize = 5;

pub(super) fn run(f: &Forecast) -> Outcome {
    let Some(arch) = Arch::ALL.into_iter().find(|a| a.name() == f.arch) else {
        return Err(fail(Failure::Usage, &format!("--arch {} is unknown; write mlp, gru, lstm or tcn", f.arch)));
    };
    let device = device(&f.device)?;
    if !(1..=1_000).contains(&f.epochs) || f.folds > 10 {
        return Err(fail(Failure::Usage, "--epochs is 1 to 1000, --folds 0 to 10"));
    }
    let series = f.from.iter().map(|p| f.read.read(p).map(|i| i.series)).collect::<Result<Vec<_>, _>>()?;
    let settings = Settings {
        device,
        arch,
        select: if f.all_inputs { Select::All } else { Select::Counts },
        effort: Effort { epochs_max: f.epochs, patience: PATIENCE, seed: f.seed },
        train_until: 0.6,
        valid_until: 0.7,
        folds: f.folds,
        name: f.out.file_stem().map_or_else(|| "forecast".into(), |s| s.to_string_lossy().into_owned()),
        program: concat!("tidegate ", env!("TIDEGATE_VERSION")).into(),
    };
    let bar = ProgressBar::new(1_000);
    if let Ok(style) = ProgressStyle::with_template("{msg:<44} [{bar:30}] {percent} %  {eta} left at most") {
        bar.set_style(style);
    }
    let mut tell = |t: Told| {
        let p = t.progress;
        let what = if t.fold > 0 { format!("fold {}", t.fold) } else { "model".into() };
        bar.set_message(format!("{what}, epoch {}/{}, held-out loss {:.4}", p.epoch, p.epochs_max, p.best));
        bar.set_position(((p.epoch as f64 - 1.0 + p.share) / p.epochs_max as f64 * 1_000.0) as u64);
        true
    };
    let trained = train(&series, &settings, &mut tell);
    bar.finish_and_clear();
    let mut trained = trained.map_err(|e| match e {
        TrainError::Device(why) => fail(Failure::Runtime, &format!("--device {}: {why}", f.device)),
        e => fail(Failure::Check, &e.to_string()),
    })?;
    judge(&series, &mut trained)?;
    let card = write(&f.out, &trained).map_err(|e| fail(Failure::Runtime, &e.to_string()))?;
    if f.json {
        return say(&serde_json::to_string(&trained.card).map_err(|e| fail(Failure::Runtime, &e.to_string()))?);
    }
    let epochs: String =
        trained.curve.iter().enumerate().map(|(i, e)| format!("  {:>3}  {:.5}  {:.5}\n", i + 1, e.train, e.valid)).collect();
    let folds: String = trained
        .folds
        .iter()
        .enumerate()
        .map(|(i, f)| format!("  fold {}: loss {:.4}, as it is now {:.4}\n", i + 1, f[0], f[1]))
        .collect();
    say(&format!(
        "rolling origin\n{folds}epoch, loss on what it learnt from, loss held out\n{epochs}runtime and trainer differ by at most {:.1e}\n{} and {}\n\
         judge it: tidegate evaluate forecast {} DATA…",
        trained.parity,
        f.out.display(),
        card.display(),
        f.out.display()
    ))
}

fn device(name: &str) -> Result<Device, Failure> {
    let why = match name {
        "cuda" => {
            "this program was built without training on NVIDIA cards; build one that has it: \
                   cargo build --release -p tidegate-gateway --features train-cuda"
        }
        _ => "unknown; write cpu or cuda",
    };
    Device::named(name).ok_or_else(|| fail(Failure::Usage, &format!("--device {name}: {why}")))
}

/// What it is worth on the part it never saw, into the card.
fn judge(series: &[Series], trained: &mut Trained) -> Outcome {
    let failed = |e: tidegate_models::ModelError| fail(Failure::Check, &e.to_string());
    let name = trained.card.name.clone();
    let (mut net, _) =
        ForecastNet::of(std::path::Path::new(&name), &trained.onnx, trained.card.clone(), Runtime::Builtin).map_err(failed)?;
    let mut judged = Vec::new();
    for s in series {
        let minutes = s.coarser((60 / s.step_s).max(1) as usize);
        let bar = progress(&format!("judging on {}", s.name));
        let mut ask = |h: &_| net.says(h, &Planned::default());
        let e = evaluate(&minutes, &horizons(minutes.step_s), Some(&mut ask), &mut |share| {
            bar.set_position((share * 1_000.0) as u64)
        });
        bar.finish_and_clear();
        for score in e.scores.iter().filter(|s| [method::NET, method::RLS, method::USED].contains(&s.method.as_str())) {
            judged.push(json!({
                "series": score.series, "horizon_s": score.horizon_s, "method": score.method,
                "mae_relative_to_naive": (score.relative * 1e4).round() / 1e4, "coverage_99": (score.coverage_99 * 1e4).round() / 1e4,
            }));
            note(&format!("{}, {} s ahead, {}: MAE {:.3} of naive", score.series, score.horizon_s, score.method, score.relative));
        }
    }
    if let Some(metrics) = trained.card.metrics.as_object_mut() {
        metrics.insert("last_30_percent".into(), judged.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_in_the_build_or_refused() {
        assert!(matches!(device("cpu"), Ok(Device::Cpu)));
        assert_eq!(device("cuda").is_ok(), cfg!(feature = "train-cuda"));
        assert!(matches!(device("gpu"), Err(Failure::Usage)));
    }
}
