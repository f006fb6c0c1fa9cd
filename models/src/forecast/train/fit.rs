//! The loop: pinball loss, AdamW, a falling rate, early stopping by what training never saw.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::{
    grad_clipping::GradientClippingConfig,
    module::{AutodiffModule, Module},
    optim::{AdamWConfig, GradientsParams, Optimizer},
    tensor::{Tensor, TensorData, activation, backend::AutodiffBackend, backend::Backend},
};
use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use tidegate_filters::forecast::{Q, QUANTILES};

use super::{
    dataset::Rows,
    device::Place,
    net::{Arch, H, Net},
};
use crate::forecast::inputs::N;

const BATCH: usize = 512;
/// Rows of a batch that is only looked at.
const LOOKED_AT: usize = 4_096;
const RATE: f64 = 3e-3;
const RATE_LAST: f64 = 1e-4;
const WEIGHT_DECAY: f32 = 1e-3;
/// The middle counts more: the mean absolute error is its loss.
pub(super) const MEDIAN_WEIGHT: f32 = 3.0;

/// How long to train.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Most epochs.
    pub epochs_max: usize,
    /// Epochs without a better held-out loss before it stops.
    pub patience: usize,
    /// For weights, dropout and order.
    pub seed: u64,
}

/// One epoch of the loss curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Epoch {
    /// Pinball loss on what it learnt from.
    pub train: f32,
    /// Pinball loss on what it did not.
    pub valid: f32,
}

/// What a progress bar shows.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// From 1.
    pub epoch: usize,
    /// Most epochs.
    pub epochs_max: usize,
    /// Share of the epoch that is done.
    pub share: f64,
    /// Best held-out loss so far.
    pub best: f32,
}

/// A net and how it came about.
pub(super) struct Fit<B: Backend> {
    /// At its best epoch.
    pub(super) net: Net<B>,
    /// All epochs.
    pub(super) curve: Vec<Epoch>,
    /// The best one, from 1.
    pub(super) best_epoch: usize,
    /// Its held-out loss.
    pub(super) best_loss: f32,
}

/// Held by who learns. A process trains one net at a time: burn's seed is one for all threads, and what one thread clears up
/// after its backward pass can be what another is still to learn from (seen once: a gradient was missing).
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static LEARNING: Mutex<()> = Mutex::new(());
    LEARNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Trains. `tell` may end it early by giving `false`; what was best so far is kept.
pub(super) fn fit<B: AutodiffBackend + Place>(
    arch: Arch,
    train: &Rows,
    valid: &Rows,
    effort: &Effort,
    device: &B::Device,
    tell: &mut dyn FnMut(Progress) -> bool,
) -> Fit<B::InnerBackend> {
    let _alone = alone();
    B::seed(device, effort.seed);
    let mut rng = ChaCha8Rng::seed_from_u64(effort.seed);
    let mut net = Net::<B>::new(arch, device);
    let clipping = GradientClippingConfig::Norm(1.0);
    let mut optimiser = AdamWConfig::new().with_weight_decay(WEIGHT_DECAY).with_grad_clipping(Some(clipping)).init();
    // A step of a sequence costs as much as a whole dense net: the slow kinds learn from every third row.
    let every = if arch == Arch::Mlp { 1 } else { 3 };
    let mut order: Vec<usize> = (0..train.len()).step_by(every).collect();
    let batches = order.len().div_ceil(BATCH);
    let mut out = Fit { net: net.valid(), curve: Vec::new(), best_epoch: 0, best_loss: f32::INFINITY };
    'epochs: for epoch in 1..=effort.epochs_max {
        order.shuffle(&mut rng);
        let mut sum = 0.0;
        for (i, batch) in order.chunks(BATCH).enumerate() {
            let done = ((epoch - 1) * batches + i) as f64 / (effort.epochs_max * batches) as f64;
            let rate = RATE_LAST + 0.5 * (RATE - RATE_LAST) * (1.0 + (std::f64::consts::PI * done).cos());
            let loss = loss_of(&net, train, batch, device);
            sum += loss.clone().into_scalar_f32();
            let gradients = GradientsParams::from_grads(loss.backward(), &net);
            net = optimiser.step(rate, net, gradients);
            let share = (i + 1) as f64 / batches as f64;
            if i % 8 == 0 && !tell(Progress { epoch, epochs_max: effort.epochs_max, share, best: out.best_loss }) {
                break 'epochs;
            }
        }
        let still = net.valid();
        let held_out = mean_loss(&still, valid, device);
        out.curve.push(Epoch { train: sum / batches.max(1) as f32, valid: held_out });
        if held_out < out.best_loss {
            (out.net, out.best_epoch, out.best_loss) = (still, epoch, held_out);
        } else if epoch >= out.best_epoch + effort.patience {
            break;
        }
    }
    out
}

/// Mean pinball loss.
pub(super) fn mean_loss<B: Backend>(net: &Net<B>, rows: &Rows, device: &B::Device) -> f32 {
    let all: Vec<usize> = (0..rows.len()).collect();
    let (mut sum, mut n) = (0.0, 0.0f32);
    for part in all.chunks(LOOKED_AT) {
        sum += loss_of(net, rows, part, device).into_scalar_f32() * part.len() as f32;
        n += part.len() as f32;
    }
    sum / n.max(1.0)
}

/// What the net says about rows, `[H·Q]` each.
pub(super) fn outputs<B: Backend>(net: &Net<B>, rows: &[[f32; N]], device: &B::Device) -> Vec<Vec<f32>> {
    let flat: Vec<f32> = rows.iter().flatten().copied().collect();
    let x = Tensor::<B, 2>::from_data(TensorData::new(flat, [rows.len(), N]), device);
    let data = net.forward(x).into_data().convert::<f32>();
    data.as_slice::<f32>().map(|v| v.chunks(H * Q).map(<[f32]>::to_vec).collect()).unwrap_or_default()
}

trait Scalar {
    fn into_scalar_f32(self) -> f32;
}

impl<B: Backend> Scalar for Tensor<B, 1> {
    fn into_scalar_f32(self) -> f32 {
        self.into_data().convert::<f32>().as_slice::<f32>().ok().and_then(|s| s.first().copied()).unwrap_or(f32::NAN)
    }
}

fn loss_of<B: Backend>(net: &Net<B>, rows: &Rows, batch: &[usize], device: &B::Device) -> Tensor<B, 1> {
    let n = batch.len();
    let tensor = |v: Vec<f32>, width: usize| Tensor::<B, 2>::from_data(TensorData::new(v, [n, width]), device);
    let x = tensor(batch.iter().flat_map(|i| rows.inputs[*i]).collect(), N);
    let (mut y, mut w) = (Vec::with_capacity(n * H * Q), Vec::with_capacity(n * H * Q));
    for i in batch {
        for target in rows.targets[*i] {
            for q in QUANTILES {
                let there = target.is_finite();
                y.push(if there { target } else { 0.0 });
                let middle = if q == 0.5 { MEDIAN_WEIGHT } else { 1.0 };
                w.push(if there { rows.weights[*i] * middle } else { 0.0 });
            }
        }
    }
    let q: Vec<f32> = QUANTILES.iter().map(|q| *q as f32).cycle().take(H * Q).collect();
    let q = Tensor::<B, 1>::from_floats(q.as_slice(), device).reshape([1, H * Q]);
    let off = tensor(y, H * Q) - net.forward(x);
    let loss = activation::relu(off.clone()) * q.clone() + activation::relu(off.neg()) * (q.neg() + 1.0);
    (loss * tensor(w, H * Q)).mean()
}

/// Weights in all.
pub(super) fn size<B: Backend>(net: &Net<B>) -> usize {
    net.num_params()
}
