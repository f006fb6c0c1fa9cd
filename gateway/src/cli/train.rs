//! `tidegate train`: models from your own data. Forecasts need a program built with `--features train`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Outcome, data::Read, train_bots::TrainBots};

/// Arguments of `train`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Train {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidegate train forecast --from arrivals.csv --out forecast.onnx
  tidegate train forecast --from a.csv --from tidegate-data/journal --arch gru --out forecast.onnx
  tidegate train forecast --list-inputs            what a model made elsewhere gets to see
  tidegate train bots --from tidegate-data/journal --labels labels.csv --out bots.onnx
  tidegate train bots --from access.log --from other.log --hold-out site --arch gbdt --out bots.onnx
  tidegate train bots --from visits.parquet --html bots.html      columns named as features, and `label`
  tidegate train bots --list-features              what a model made elsewhere gets to see

Training a forecast needs a program built for it: cargo build --release -p tidegate-gateway --features train
With --features train-cuda it can train on an NVIDIA card, too: --device cuda, where CUDA's driver, its run-time compiler
(libnvrtc) and its headers (CUDA_PATH) are.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Trains the forecast of minutes: 1, 2, 3, 5 and 10 ahead.
    Forecast(Forecast),
    /// Trains the bot score on labelled visits: judged by network, then written with its card.
    Bots(TrainBots),
}

/// Arguments of `train forecast`.
#[derive(Debug, Args)]
pub(super) struct Forecast {
    /// What to learn from: anything that `tidegate data import` reads; several times for several series
    #[arg(long = "from", required_unless_present = "list_inputs")]
    pub(super) from: Vec<PathBuf>,
    /// The model; its card is written beside it
    #[arg(long, default_value = "forecast.onnx")]
    pub(super) out: PathBuf,
    /// Kind of net: mlp, gru, lstm, tcn
    #[arg(long, default_value = "mlp")]
    pub(super) arch: String,
    /// Look at level, calendar and the usual day too, not at the counts before alone: better on a site whose days repeat,
    /// worse where the future is no past
    #[arg(long)]
    pub(super) all_inputs: bool,
    /// Where to compute: cpu, cuda
    #[arg(long, default_value = "cpu")]
    pub(super) device: String,
    /// Most epochs; it stops earlier when it gets no better
    #[arg(long, default_value_t = 30)]
    pub(super) epochs: usize,
    /// Rolling-origin folds that are trained and judged first
    #[arg(long, default_value_t = 2)]
    pub(super) folds: usize,
    /// Same seed, same data, same model, on a CPU bit for bit
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Prints the inputs of a model and the SHA-256 its card must name
    #[arg(long)]
    pub(super) list_inputs: bool,
    #[command(flatten)]
    pub(super) read: Read,
    /// The card, as JSON on standard output
    #[arg(long)]
    pub(super) json: bool,
}

impl Train {
    pub(super) fn run(self) -> Outcome {
        match self.command {
            Command::Forecast(f) if f.list_inputs => list_inputs(),
            Command::Forecast(f) => run(&f),
            Command::Bots(b) => b.run(),
        }
    }
}

fn list_inputs() -> Outcome {
    use tidegate_models::forecast::inputs;
    let names: String = inputs::names().iter().enumerate().map(|(i, n)| format!("{i:>3}  {n}\n")).collect();
    super::say(&format!("{names}inputs_sha256 {}", inputs::hash()))
}

#[cfg(not(feature = "train"))]
fn run(f: &Forecast) -> Outcome {
    let (unknown, feature) = match f.device.as_str() {
        "cpu" => (String::new(), "train"),
        "cuda" => (String::new(), "train-cuda"),
        other => (format!("--device {other}: unknown; write cpu or cuda. And "), "train (cpu alone), or train-cuda"),
    };
    let what = format!(
        "{unknown}this program was built without the training of forecasts, to be lean; build one that has it: \
         cargo build --release -p tidegate-gateway --features {feature}"
    );
    Err(super::fail(super::Failure::Usage, &what))
}

#[cfg(feature = "train")]
fn run(f: &Forecast) -> Outcome {
    super::training::run(f)
}
