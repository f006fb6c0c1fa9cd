//! The kinds of models, alike from outside: fitted, calibrated, exported.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{
    bots::{
        Sample, mlp,
        part::{Part, log_loss},
        svm, trees,
    },
    features::Features,
    onnx_write,
};

/// What kind of model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// A small net with one hidden layer.
    Mlp,
    /// Boosted trees.
    Gbdt,
    /// A random forest.
    Forest,
    /// A support-vector machine, linear or on random features.
    Svm,
}

impl Arch {
    /// All of them.
    pub const ALL: [Arch; 4] = [Arch::Mlp, Arch::Gbdt, Arch::Forest, Arch::Svm];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Mlp => "mlp",
            Arch::Gbdt => "gbdt",
            Arch::Forest => "forest",
            Arch::Svm => "svm",
        }
    }

    /// The built-in runtime is a thousand times too slow for it.
    pub fn needs_onnxruntime(self) -> bool {
        matches!(self, Arch::Gbdt | Arch::Forest)
    }
}

/// A model in the trainer's hands.
pub(super) enum Fitted {
    Mlp(mlp::Mlp, usize),
    Trees(trees::Ensemble),
    Svm(svm::Svm),
}

impl Fitted {
    /// Log-odds of one row.
    pub(super) fn logit(&self, row: &Features) -> f32 {
        match self {
            Fitted::Mlp(net, _) => net.logit(row),
            Fitted::Trees(trees) => trees.logit(row),
            Fitted::Svm(svm) => svm.logit(row),
        }
    }

    fn calibrate(&mut self, (scale, shift): (f32, f32)) {
        match self {
            Fitted::Mlp(net, _) => net.calibrate(scale, shift),
            Fitted::Trees(trees) => trees.calibrate(scale, shift),
            Fitted::Svm(svm) => svm.calibrate(scale, shift),
        }
    }

    /// As an ONNX file.
    pub(super) fn onnx(&self, metadata: &[(&str, &str)]) -> Vec<u8> {
        match self {
            Fitted::Mlp(net, _) => onnx_write::mlp(&net.layers, metadata),
            Fitted::Trees(trees) => trees.onnx(metadata),
            Fitted::Svm(svm) => svm.onnx(metadata),
        }
    }

    /// What came out, in words.
    pub(super) fn describe(&self) -> String {
        match self {
            Fitted::Mlp(net, epochs) => {
                let widths: Vec<String> = net.layers.iter().map(|l| l.outputs.to_string()).collect();
                format!("dense, ReLU, sigmoid: {}-{}, best after {epochs} epochs", net.layers[0].inputs, widths.join("-"))
            }
            Fitted::Trees(trees) => format!("{} trees", trees.len()),
            Fitted::Svm(svm) => svm.describe(),
        }
    }
}

/// Fits on `learn`, stops and calibrates by `stop`. Gives the model and its log loss there.
pub(super) fn fit(arch: Arch, learn: &[&Sample], stop: &[&Sample], seed: u64, tell: &mut dyn FnMut(f64)) -> (Fitted, f64) {
    let (train, held_out) = (Part::balanced(learn), Part::balanced(stop));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut fitted = match arch {
        Arch::Mlp => {
            let fit = mlp::train(&train, &held_out, &mut rng, tell);
            Fitted::Mlp(fit.mlp, fit.epochs)
        }
        Arch::Gbdt => Fitted::Trees(trees::boost(&train, &held_out, &mut rng, tell).0),
        Arch::Forest => Fitted::Trees(trees::forest(&train, &mut rng, tell)),
        Arch::Svm => Fitted::Svm(svm::train(&train, &held_out, &mut rng, tell).0),
    };
    fitted.calibrate(platt(&held_out, |row| fitted.logit(row)));
    let loss = log_loss(&held_out, |row| fitted.logit(row));
    (fitted, loss)
}

/// Scale and shift that make a score log-odds (Platt): a logistic regression on one input, by Newton's method. Labels are
/// drawn in by one visit of each kind, so that separable ones give no infinite scale.
pub(in crate::bots) fn platt(part: &Part<'_>, logit: impl Fn(&Features) -> f32) -> (f32, f32) {
    let rows: Vec<(f64, f64, f64)> =
        part.iter().map(|(row, bot, w)| (f64::from(logit(row)), f64::from(u8::from(bot)), f64::from(w))).collect();
    let class = |y: f64| rows.iter().filter(|r| r.1 == y).map(|r| r.2).sum::<f64>();
    let (programs, people) = (class(1.0), class(0.0));
    let aim = |y: f64| if y > 0.5 { (programs + 1.0) / (programs + 2.0) } else { 1.0 / (people + 2.0) };
    // Scores of any unit: begin with one that spans a few nats.
    let size = (rows.iter().map(|r| r.2 * r.0 * r.0).sum::<f64>() / (programs + people).max(f64::MIN_POSITIVE)).sqrt();
    let unit = 1.0 / size.max(1e-9);
    let loss = |a: f64, b: f64| {
        let term = |(z, y, w): &(f64, f64, f64)| {
            let u = a * z * unit + b;
            w * (u.max(0.0) + (-u.abs()).exp().ln_1p() - aim(*y) * u)
        };
        rows.iter().map(term).sum::<f64>()
    };
    let (mut a, mut b) = (1.0, 0.0);
    let mut now = loss(a, b);
    for _ in 0..50 {
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, 1e-9, 0.0, 1e-9);
        for (z, y, w) in &rows {
            let z = z * unit;
            let p = 1.0 / (1.0 + (-(a * z + b)).exp());
            let (d, h) = (w * (p - aim(*y)), w * p * (1.0 - p));
            (ga, gb) = (ga + d * z, gb + d);
            (haa, hab, hbb) = (haa + h * z * z, hab + h * z, hbb + h);
        }
        let det = (haa * hbb - hab * hab).max(1e-12);
        let step = ((hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det);
        let tried = (0..20).map(|k| 0.5f64.powi(k)).find_map(|t| {
            let (x, y) = (a - t * step.0, b - t * step.1);
            let next = loss(x, y);
            (next < now).then_some((x, y, next))
        });
        let Some((x, y, next)) = tried else { break };
        let gained = now - next;
        (a, b, now) = (x, y, next);
        if gained < 1e-10 * now.abs() {
            break;
        }
    }
    // A model that knows nothing is not turned round.
    ((a.max(0.0) * unit) as f32, b as f32)
}
