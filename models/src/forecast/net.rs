//! A trained forecast, loaded: inputs in, counts by horizon and quantile out. Whatever goes wrong is silence, and the experts
//! go on without it.

use std::path::{Path, PathBuf};

use tidegate_filters::{
    forecast::{History, MEDIAN, NetSays, Q},
    rule::bot_gate::Runtime,
};

use super::{
    card::{ForecastCard, GROWTH_MAX},
    inputs::{self, N, Planned},
};
use crate::{
    card::sha256_hex,
    error::ModelError,
    inspect::{Inspection, inspect_forecast, read_model},
    session::{Engine, Session},
    trial::Trial,
};

/// Runs in a row that may fail before it is not asked any more.
const FAILURES_MAX: u32 = 8;
/// Rows of a trial.
const ROWS: usize = 3;

/// A loaded net.
pub struct ForecastNet {
    session: Session,
    card: ForecastCard,
    engine: Engine,
    name: String,
    short: String,
    failures: u32,
    last_failure: String,
}

impl ForecastNet {
    /// Opens an `.onnx` file with its card. A foreign file should have passed a trial in a child process first.
    pub fn open(path: &Path, runtime: Runtime) -> Result<Self, ModelError> {
        let bytes = read_model(path)?;
        let card = ForecastCard::read_for(path, &bytes)?;
        Self::of(path, &bytes, card, runtime).map(|n| n.0)
    }

    /// The same for a file and card already read.
    pub fn of(path: &Path, bytes: &[u8], card: ForecastCard, runtime: Runtime) -> Result<(Self, Inspection), ModelError> {
        let unfit = |why: String| ModelError::Unfit { path: path.to_owned(), why };
        let inspection = inspect_forecast(path, bytes)?;
        if inspection.features != N {
            return Err(unfit(format!("takes {} inputs; this program computes {N}", inspection.features)));
        }
        let engine = Engine::choose(runtime)?;
        inspection.fits(engine.runtime()).map_err(unfit)?;
        let session = engine.load(bytes, &inspection)?;
        let mut short = sha256_hex(bytes);
        short.truncate(16);
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let mut net = ForecastNet { session, card, engine, name, short, failures: 0, last_failure: String::new() };
        for row in 0..ROWS {
            let said = net.raw(&made_up(row)).map_err(|why| ModelError::Unfit { path: path.to_owned(), why })?;
            if let Some(bad) = said.iter().find(|v| !is_growth(**v)) {
                let why = format!("says {bad} about an ordinary minute; growth is between -{GROWTH_MAX} and {GROWTH_MAX}");
                return Err(unfit(why));
            }
        }
        Ok((net, inspection))
    }

    /// What the model gives for a row of inputs, columns as its card says.
    pub fn raw(&mut self, row: &[f32]) -> Result<Vec<f32>, String> {
        let said = self.session.run_all(row).map_err(|e| e.to_string())?;
        match said.len() == self.card.columns() {
            true => Ok(said),
            false => Err(format!(
                "gave {} values for one row; its card says {} horizons and {} quantiles, so {}",
                said.len(),
                self.card.horizons.len(),
                self.card.quantiles.len(),
                self.card.columns()
            )),
        }
    }

    /// Counts expected from here: horizons in minutes and quantiles. `None`: too little is known yet, or the model failed.
    pub fn says(&mut self, history: &History, planned: &Planned) -> Option<Vec<(usize, [f64; Q])>> {
        if self.failures >= FAILURES_MAX || history.step_s() != u64::from(inputs::STEP_S) {
            return None;
        }
        let x = inputs::inputs(history, planned)?;
        let said = match self.raw(&x) {
            Ok(said) if said.iter().all(|v| is_growth(*v)) => said,
            Ok(_) => return self.fail(format!("a value that is no growth: beyond {GROWTH_MAX}, or no number")),
            Err(why) => return self.fail(why),
        };
        self.failures = 0;
        let latest = history.ago(0);
        let mut out = Vec::with_capacity(self.card.horizons.len());
        for (h, said) in self.card.horizons.iter().zip(said.chunks(self.card.quantiles.len())) {
            let mut quantiles = [inputs::count_of(f64::from(said[0]), latest); Q];
            if self.card.is_whole() {
                for (q, v) in quantiles.iter_mut().zip(said) {
                    *q = inputs::count_of(f64::from(*v), latest);
                }
                // Another maker's quantiles may cross; the middle is what the experts are weighed by.
                let middle = quantiles[MEDIAN];
                quantiles.sort_by(f64::total_cmp);
                quantiles.iter_mut().take(MEDIAN).for_each(|q| *q = q.min(middle));
                quantiles.iter_mut().skip(MEDIAN + 1).for_each(|q| *q = q.max(middle));
                quantiles[MEDIAN] = middle;
            }
            out.push((*h, quantiles));
        }
        Some(out)
    }

    fn fail<T>(&mut self, why: String) -> Option<T> {
        self.failures += 1;
        self.last_failure = why;
        None
    }

    /// Why it is silent, once it is not asked any more.
    pub fn broken(&self) -> Option<&str> {
        (self.failures >= FAILURES_MAX).then_some(self.last_failure.as_str())
    }

    /// Its card.
    pub fn card(&self) -> &ForecastCard {
        &self.card
    }

    /// First 8 bytes of its SHA-256, hex.
    pub fn short(&self) -> &str {
        &self.short
    }

    /// One line for the log.
    pub fn describe(&self) -> String {
        format!(
            "forecast: model {} ({}), horizons {:?} min, {}",
            self.name,
            self.short,
            self.card.horizons,
            self.engine.describe()
        )
    }
}

fn is_growth(value: f32) -> bool {
    // No number compares with nothing.
    value.abs() <= GROWTH_MAX
}

/// What the experts are told of it.
pub fn medians(says: &[(usize, [f64; Q])]) -> Vec<NetSays> {
    says.iter().map(|(horizon, q)| NetSays { horizon: *horizon, median: q[MEDIAN] }).collect()
}

/// Loads a forecast and asks it about three made-up minutes, in this process: the body of the child of a trial.
pub fn try_forecast(path: &Path, runtime: Runtime) -> Result<Trial, ModelError> {
    let path = PathBuf::from(path);
    let bytes = read_model(&path)?;
    let card = ForecastCard::read_for(&path, &bytes)?;
    let (mut net, inspection) = ForecastNet::of(&path, &bytes, card, runtime)?;
    let mut scores = Vec::new();
    for row in 0..ROWS {
        let said = net.raw(&made_up(row)).map_err(|why| ModelError::Unfit { path: path.clone(), why })?;
        scores.extend(said.first());
    }
    Ok(Trial { runtime: net.engine.runtime(), inspection, scores })
}

fn made_up(row: usize) -> Vec<f32> {
    (0..N).map(|i| ((i * 37 + row * 101) % 17) as f32 / 8.0 - 1.0).collect()
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
