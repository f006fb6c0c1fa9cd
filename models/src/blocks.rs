//! A model for many rows at a time: what-if, evaluation, comparison. On a device where one is wanted and works.

use tidegate_filters::rule::bot_gate::Runtime;

use crate::{
    batch::BATCH_ROWS_MAX,
    card::ModelCard,
    device::{Backed, Device},
    error::ModelError,
    features::N,
    opened::{Opened, no_device, without_device},
    scorer::in_range,
    session::RunError,
};

/// Most rows that a runtime gets at once: 13.5 MiB of input, which keeps a device busy and fits every memory.
pub const BLOCK_ROWS_MAX: usize = 65_536;

/// A loaded model; one thread at a time.
pub struct Blocks {
    models: Backed,
    card: ModelCard,
    no_device: Option<String>,
    raw: Vec<f32>,
}

impl Blocks {
    /// Opens `builtin` or the path of an `.onnx` file with its card. Where a device is wanted and cannot be used, the CPU
    /// scores: see [`Blocks::warning`].
    pub fn open(model: &str, runtime: Runtime) -> Result<Blocks, ModelError> {
        let opened = Opened::read(model, runtime)?;
        let device = (runtime == Runtime::OnnxruntimeCuda).then(|| opened.device());
        let (device, why) = device.map_or((None, None), |d| d.map_or_else(|why| (None, Some(why)), |d| (Some(d), None)));
        let models = Backed::new(device, opened.block_session()?, N);
        Ok(Blocks { models, card: opened.card, no_device: why, raw: Vec::new() })
    }

    /// Scores of rows that lie one after the other, [`N`] numbers each; `None` where the model says no probability.
    pub fn scores(&mut self, rows: &[f32]) -> Vec<Option<f32>> {
        let mut scores = Vec::with_capacity(rows.len() / N);
        // A processor is fastest while a block and its layers lie in its cache, a device when it has much to do.
        let most = if self.on_device() { BLOCK_ROWS_MAX } else { BATCH_ROWS_MAX };
        for block in rows.chunks(most * N) {
            match self.models.run_block(block, &mut self.raw) {
                Ok(()) => scores.extend(self.raw.iter().map(|p| in_range(*p))),
                // One bad row does not take the others with it.
                Err(_) => scores.extend(block.chunks_exact(N).map(|row| self.one(row))),
            }
        }
        scores
    }

    fn one(&mut self, row: &[f32]) -> Option<f32> {
        self.models.run_block(row, &mut self.raw).ok().and_then(|()| in_range(*self.raw.first()?))
    }

    /// The model's card.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// A device scores now.
    pub fn on_device(&self) -> bool {
        self.models.on_device()
    }

    /// Why the CPU scores though a device was wanted, and what to do.
    pub fn warning(&self) -> Option<String> {
        self.why().map(no_device)
    }

    /// The same in two: what is wrong, what to do.
    pub fn without_device(&self) -> Option<(String, &'static str)> {
        self.why().map(without_device)
    }

    fn why(&self) -> Option<&str> {
        self.no_device.as_deref().or(self.models.lost.as_deref())
    }
}

impl Device for Blocks {
    fn run_block(&mut self, rows: &[f32], out: &mut Vec<f32>) -> Result<(), RunError> {
        self.models.run_block(rows, out)
    }
}
