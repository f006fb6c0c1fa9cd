//! Small nets on small series: that they learn, load and agree.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use super::*;
use crate::forecast::{evaluate, inputs::Planned};

/// A day that repeats itself, with noise.
fn days(n: usize) -> Series {
    let mut state = 7u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    let shape = |t: usize| 300.0 + 200.0 * (t as f64 / 240.0 * std::f64::consts::TAU).sin();
    Series {
        name: "days".into(),
        step_s: 60,
        start_s: 0,
        counts: (0..n).map(|t| Some((shape(t) * (0.8 + 0.4 * draw())).floor())).collect(),
    }
}

fn settings(arch: Arch, epochs_max: usize) -> Settings {
    Settings {
        device: Device::Cpu,
        arch,
        select: Select::All,
        effort: Effort { epochs_max, patience: 3, seed: 1 },
        train_until: 0.6,
        valid_until: 0.7,
        folds: 0,
        name: arch.name().into(),
        program: String::new(),
    }
}

#[test]
fn every_kind_learns_loads_and_agrees_with_the_runtime() {
    let series = days(5_000);
    for arch in Arch::ALL {
        let trained = train(std::slice::from_ref(&series), &settings(arch, 3), &mut |_| true).unwrap();
        println!("{}: parity {:e}, {:?}", arch.name(), trained.parity, trained.curve);
        assert!(trained.parity < PARITY_MAX);
        assert_eq!(trained.card.made_by["device"], "cpu");
        assert!(trained.curve.last().unwrap().train < trained.curve[0].train, "{}: it learns: {:?}", arch.name(), trained.curve);
        let (mut net, _) = ForecastNet::of(Path::new("x"), &trained.onnx, trained.card.clone(), Runtime::Builtin).unwrap();
        let mut f = tidegate_filters::forecast::Forecaster::new(60, &[1]);
        for (t, c) in series.counts.iter().enumerate() {
            f.observe(series.at_s(t), *c);
        }
        let says = net.says(f.history(), &Planned::default()).unwrap();
        assert_eq!(says.iter().map(|s| s.0).collect::<Vec<_>>(), HORIZONS);
        assert!(says.iter().all(|(_, q)| q.windows(2).all(|w| w[0] <= w[1]) && q[0] >= 0.0 && q[4] < 5_000.0), "{says:?}");
        // The card survives being written and read.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.onnx");
        write(&path, &trained).unwrap();
        assert_eq!(ForecastNet::open(&path, Runtime::Builtin).unwrap().card(), &trained.card);
    }
}

/// Stands for a device whose own products are not exact.
type Other = burn::backend::NdArray<f64>;

impl Place for Other {
    const EXACT: bool = false;
}

#[test]
fn training_is_the_same_on_another_backend() {
    let series = [days(5_000)];
    for arch in [Arch::Mlp, Arch::Gru] {
        let trained = train_on::<Other>(&series, &settings(arch, 3), &NdArrayDevice::default(), "other", &mut |_| true).unwrap();
        assert!(trained.parity < PARITY_MAX && trained.card.made_by["device"] == "other");
        assert!(trained.curve.last().unwrap().train < trained.curve[0].train, "{}: {:?}", arch.name(), trained.curve);
    }
}

#[test]
fn a_trained_net_beats_naive_where_there_is_something_to_learn() {
    let series = days(12_000);
    let trained = train(std::slice::from_ref(&series), &Settings { folds: 2, ..settings(Arch::Mlp, 12) }, &mut |_| true).unwrap();
    assert!(trained.folds.iter().all(|[net, naive]| net < naive), "{:?}", trained.folds);
    let (mut net, _) = ForecastNet::of(Path::new("x"), &trained.onnx, trained.card, Runtime::Builtin).unwrap();
    let mut ask = |h: &tidegate_filters::forecast::History| net.says(h, &Planned::default());
    let e = evaluate::evaluate(&series, &[1, 5], Some(&mut ask), &mut |_| {});
    let of = |m: &str| e.scores.iter().filter(|s| s.method == m).map(|s| s.relative).collect::<Vec<_>>();
    assert!(of(evaluate::method::NET).iter().all(|r| *r < 0.85), "{:?}", of(evaluate::method::NET));
}

#[test]
fn another_runtime_result_is_refused() {
    let series = days(5_000);
    let minutes = vec![series];
    let (split, scaler, _) = prepared(&minutes, Select::All, 0.6, 0.7).unwrap();
    let device = NdArrayDevice::default();
    let s = settings(Arch::Mlp, 1);
    let fit = fit::fit::<Autodiff<Cpu>>(s.arch, &split.train, &split.valid, &s.effort, &device, &mut |_| true);
    let mut other = scaler.clone();
    other.mean[3] += 0.1;
    let onnx = export::onnx(s.arch, &fit.net, &other, &[]);
    let card = card(&s, "cpu", &minutes, &onnx, &scaler, &split, &fit, &[], 0);
    assert!(matches!(parity(&onnx, &card, &fit, &split, &device), Err(TrainError::Parity(_))));
    let onnx = export::onnx(s.arch, &fit.net, &scaler, &[]);
    let card = ForecastCard { model_sha256: sha256_hex(&onnx), ..card };
    assert!(parity(&onnx, &card, &fit, &split, &device).unwrap() < PARITY_MAX);
}

#[test]
fn what_cannot_be_learnt_from_is_told() {
    let fail = |s: Series| train(&[s], &settings(Arch::Mlp, 1), &mut |_| true).err().unwrap().to_string();
    assert!(fail(days(500)).contains("give longer series"));
    assert!(fail(Series { step_s: 300, ..days(5_000) }).contains("training is on minutes"));
    assert!(fail(Series { counts: vec![Some(4.0); 9_000], ..days(10) }).contains("nothing to learn"));
    let stopped = train(&[days(5_000)], &settings(Arch::Mlp, 5), &mut |t| t.progress.epoch < 2);
    assert!(stopped.is_ok(), "ended early, what was best is kept");
}
