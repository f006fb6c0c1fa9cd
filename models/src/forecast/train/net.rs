//! The nets: small, with heads whose quantiles cannot cross.

use burn::{
    module::Module,
    nn::{
        Dropout, DropoutConfig, Linear, LinearConfig, PaddingConfig1d,
        conv::{Conv1d, Conv1dConfig},
    },
    tensor::{Tensor, activation, backend::Backend},
};
use tidegate_filters::forecast::Q;

use super::device::Place;
use crate::forecast::inputs::{HORIZONS, LAGS, N};

/// Horizons.
pub(super) const H: usize = HORIZONS.len();
/// Counts that recurrent and convolving nets read one by one, latest last; what lies before is their business no more.
pub(super) const SEQUENCE: usize = 30;
/// Inputs that are no sequence.
const TAIL: usize = N - LAGS;
/// Width of the last layer before the heads.
const JOINED: usize = 32;
/// Width of the first layer of `mlp`.
const WIDE: usize = 64;
/// Hidden state of the recurrent nets.
pub(super) const HIDDEN: usize = 24;
/// Channels and kernel of `tcn`; each layer looks twice as far as the one before.
const CHANNELS: usize = 16;
const KERNEL: usize = 3;
const DILATIONS: [usize; 4] = [1, 2, 4, 8];
const DROPOUT: f64 = 0.1;

/// What kind of net.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// Dense layers over everything.
    Mlp,
    /// A gated recurrent layer over the counts.
    Gru,
    /// A long short-term memory over the counts.
    Lstm,
    /// Dilated causal convolutions over the counts.
    Tcn,
}

impl Arch {
    /// All of them.
    pub const ALL: [Arch; 4] = [Arch::Mlp, Arch::Gru, Arch::Lstm, Arch::Tcn];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Mlp => "mlp",
            Arch::Gru => "gru",
            Arch::Lstm => "lstm",
            Arch::Tcn => "tcn",
        }
    }

    /// Gates of the recurrent cell, in ONNX's order; 0 for the others.
    pub(super) fn gates(self) -> usize {
        match self {
            Arch::Gru => 3,
            Arch::Lstm => 4,
            Arch::Mlp | Arch::Tcn => 0,
        }
    }
}

/// A net. Which parts it has follows from its kind.
#[derive(Module, Debug)]
pub(super) struct Net<B: Backend> {
    gates: usize,
    /// See [`Place::EXACT`].
    exact: bool,
    dropout: Dropout,
    /// `mlp`: everything into a wide layer.
    pub(super) wide: Option<Linear<B>>,
    /// Recurrent: a count into all gates, and the state into all gates.
    pub(super) from_input: Option<Linear<B>>,
    /// See above.
    pub(super) from_state: Option<Linear<B>>,
    /// `tcn`.
    pub(super) convolutions: Vec<Conv1d<B>>,
    /// What the body found, and the inputs that are no sequence.
    pub(super) join: Linear<B>,
    /// Middle of each horizon.
    pub(super) median: Linear<B>,
    /// Distances between quantiles before they are made positive.
    pub(super) spread: Linear<B>,
}

impl<B: Backend> Net<B> {
    /// With fresh weights; the backend was seeded before.
    pub(super) fn new(arch: Arch, device: &B::Device) -> Self
    where
        B: Place,
    {
        let linear = |i: usize, o: usize| LinearConfig::new(i, o).init(device);
        let gates = arch.gates();
        let recurrent = gates > 0;
        let layer = |(i, d): (usize, &usize)| {
            let from = if i == 0 { 1 } else { CHANNELS };
            let causal = PaddingConfig1d::Explicit((KERNEL - 1) * d, 0);
            Conv1dConfig::new(from, CHANNELS, KERNEL).with_dilation(*d).with_padding(causal).init(device)
        };
        let convolutions = if arch == Arch::Tcn { DILATIONS.iter().enumerate().map(layer).collect() } else { Vec::new() };
        let body = match arch {
            Arch::Mlp => WIDE,
            Arch::Gru | Arch::Lstm => HIDDEN + TAIL,
            Arch::Tcn => CHANNELS + TAIL,
        };
        Net {
            gates,
            exact: B::EXACT,
            dropout: DropoutConfig::new(DROPOUT).init(),
            wide: (arch == Arch::Mlp).then(|| linear(N, WIDE)),
            from_input: recurrent.then(|| linear(1, gates * HIDDEN)),
            from_state: recurrent.then(|| linear(HIDDEN, gates * HIDDEN)),
            convolutions,
            join: linear(body, JOINED),
            median: linear(JOINED, H),
            spread: linear(JOINED, H * (Q - 1)),
        }
    }

    /// `[n, N]` standardised inputs to `[n, H·Q]`, horizon by horizon.
    pub(super) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let body = match &self.wide {
            Some(wide) => self.dropout.forward(activation::relu(self.dense(wide, x))),
            None => {
                let [n, _] = x.dims();
                let tail = x.clone().slice([0..n, LAGS..N]);
                // Oldest first.
                let counts = x.slice([0..n, 0..SEQUENCE]).flip([1]).reshape([n, SEQUENCE, 1]);
                let found = if self.gates > 0 { self.recurrent(counts) } else { self.convolved(counts) };
                Tensor::cat(vec![found, tail], 1)
            }
        };
        let joined = self.dropout.forward(activation::relu(self.dense(&self.join, body)));
        let median = self.dense(&self.median, joined.clone());
        self.heads(median, activation::softplus(self.dense(&self.spread, joined), 1.0))
    }

    fn dense(&self, layer: &Linear<B>, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match &layer.bias {
            Some(bias) if !self.exact => spelt_out(x, layer.weight.val()) + bias.val().unsqueeze::<2>(),
            _ => layer.forward(x),
        }
    }

    fn heads(&self, median: Tensor<B, 2>, distances: Tensor<B, 2>) -> Tensor<B, 2> {
        let device = median.device();
        let fixed = |v: Vec<f32>, rows: usize| Tensor::<B, 1>::from_floats(v.as_slice(), &device).reshape([rows, H * Q]);
        let product = |a: Tensor<B, 2>, b| if self.exact { a.matmul(b) } else { spelt_out(a, b) };
        product(median, fixed(median_matrix(), H)) + product(distances, fixed(spread_matrix(), H * (Q - 1)))
    }

    fn recurrent(&self, counts: Tensor<B, 3>) -> Tensor<B, 2> {
        let [n, _, _] = counts.dims();
        let device = counts.device();
        let mut h = Tensor::<B, 2>::zeros([n, HIDDEN], &device);
        let mut c = h.clone();
        let (Some(from_input), Some(from_state)) = (&self.from_input, &self.from_state) else { return h };
        let all = match &from_input.bias {
            // One input into each gate: there is nothing to sum.
            Some(bias) if !self.exact => counts * from_input.weight.val().unsqueeze::<3>() + bias.val().unsqueeze::<3>(),
            _ => from_input.forward(counts),
        };
        for t in 0..SEQUENCE {
            let x = all.clone().slice([0..n, t..t + 1, 0..self.gates * HIDDEN]).reshape([n, self.gates * HIDDEN]);
            let s = self.dense(from_state, h.clone());
            let gate = |v: &Tensor<B, 2>, k: usize| v.clone().slice([0..n, k * HIDDEN..(k + 1) * HIDDEN]);
            let open = |k: usize| activation::sigmoid(gate(&x, k) + gate(&s, k));
            if self.gates == 3 {
                let (z, r) = (open(0), open(1));
                let new = activation::tanh(gate(&x, 2) + r * gate(&s, 2));
                h = new.clone() + z * (h - new);
            } else {
                let (i, o, f) = (open(0), open(1), open(2));
                c = f * c + i * activation::tanh(gate(&x, 3) + gate(&s, 3));
                h = o * activation::tanh(c.clone());
            }
        }
        h
    }

    fn convolved(&self, counts: Tensor<B, 3>) -> Tensor<B, 2> {
        let [n, _, _] = counts.dims();
        let mut x = counts.swap_dims(1, 2);
        for c in &self.convolutions {
            x = activation::relu(c.forward(x));
        }
        x.slice([0..n, 0..CHANNELS, SEQUENCE - 1..SEQUENCE]).reshape([n, CHANNELS])
    }
}

/// Where the middles go: `[H, H·Q]`, row by row.
pub(super) fn median_matrix() -> Vec<f32> {
    let mut m = vec![0.0; H * H * Q];
    for h in 0..H {
        m[h * H * Q + h * Q..][..Q].fill(1.0);
    }
    m
}

/// Where the distances go: below the middle, and summed upwards above it; `[H·(Q−1), H·Q]`.
pub(super) fn spread_matrix() -> Vec<f32> {
    let mut m = vec![0.0; H * (Q - 1) * H * Q];
    for h in 0..H {
        let row = |d: usize| (h * (Q - 1) + d) * H * Q + h * Q;
        m[row(0)] = -1.0;
        for d in 1..Q - 1 {
            m[row(d) + d + 1..][..Q - 1 - d].fill(1.0);
        }
    }
    m
}

/// `a · b` as single products and their sums, which no backend rounds to fewer than 32 bits. It takes more memory, but the nets
/// are small.
fn spelt_out<B: Backend>(a: Tensor<B, 2>, b: Tensor<B, 2>) -> Tensor<B, 2> {
    let ([n, _], [_, o]) = (a.dims(), b.dims());
    (a.unsqueeze_dim::<3>(2) * b.unsqueeze_dim::<3>(0)).sum_dim(1).reshape([n, o])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use burn::{backend::Autodiff, tensor::Distribution};

    use super::{super::device::Cpu, *};

    #[test]
    fn spelt_out_products_say_and_teach_the_same() {
        type Learner = Autodiff<Cpu>;
        let _alone = super::super::fit::alone();
        let device = Default::default();
        let x = Tensor::<Learner, 2>::random([9, N], Distribution::Normal(0.0, 1.0), &device);
        for arch in Arch::ALL {
            let mut net = Net::<Learner>::new(arch, &device);
            net.dropout.prob = 0.0;
            let mut run = |exact: bool| -> Vec<f32> {
                net.exact = exact;
                let out = net.forward(x.clone());
                let gradients = out.clone().sin().sum().backward();
                let layers = [&net.wide, &net.from_input, &net.from_state].into_iter().flatten().chain([&net.join, &net.spread]);
                let taught = layers.flat_map(|l| l.weight.val().grad(&gradients).unwrap().into_data().to_vec::<f32>().unwrap());
                out.into_data().to_vec::<f32>().unwrap().into_iter().chain(taught).collect()
            };
            let (a, b) = (run(true), run(false));
            let far = a.iter().zip(&b).map(|(a, b)| (a - b).abs() / (1.0 + a.abs())).fold(0.0, f32::max);
            assert!(a.len() == b.len() && far < 1e-5, "{arch:?}: {far:e}");
            assert!(a != b, "{arch:?}: the two ways sum in another order, or there is one way only");
        }
    }

    #[test]
    fn quantiles_cannot_cross() {
        // 0.1 below the middle, 0.9, 0.95 and 0.99 above, each above the one before, whatever the distances.
        let (m, s) = (median_matrix(), spread_matrix());
        let out = |mid: [f32; H], d: [f32; H * (Q - 1)]| -> Vec<f32> {
            (0..H * Q)
                .map(|o| {
                    let a: f32 = mid.iter().enumerate().map(|(i, v)| v * m[i * H * Q + o]).sum();
                    a + d.iter().enumerate().map(|(i, v)| v * s[i * H * Q + o]).sum::<f32>()
                })
                .collect()
        };
        let got = out([1.0, 2.0, 3.0, 4.0, 5.0], std::array::from_fn(|i| (i % 4 + 1) as f32));
        assert_eq!(&got[..Q], [0.0, 1.0, 3.0, 6.0, 10.0]);
        assert!(got.chunks(Q).all(|q| q.windows(2).all(|w| w[0] <= w[1])), "{got:?}");
    }
}
