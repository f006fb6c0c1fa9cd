#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::{
    Scorer,
    bots::{data, part::Part},
    features::N,
    testing,
};

fn settings(arch: Arch) -> Settings {
    Settings {
        arch,
        folds: 0,
        hold_out: vec![],
        at: 0.85,
        seed: 3,
        name: "m".into(),
        program: "tidegate test".into(),
        command: "train bots".into(),
    }
}

fn visits() -> data::Visits {
    data::read(&["worlds:24@5".into()], &data::Options::default()).unwrap()
}

fn quick(arch: Arch, samples: &[Sample]) -> Result<Trained, TrainError> {
    train(samples, &[], &settings(arch), &mut |_, _| ())
}

/// Every twelfth visit, all worlds.
fn some(samples: &[Sample]) -> Vec<Sample> {
    samples.iter().step_by(12).cloned().collect()
}

#[test]
fn every_kind_learns_loads_and_is_believed_by_the_gate() {
    let visits = visits();
    let (learn, test): (Vec<Sample>, Vec<Sample>) = {
        let last = visits.samples.last().unwrap().network;
        visits.samples.iter().cloned().partition(|s| s.network != last)
    };
    let learn = some(&learn);
    for arch in Arch::ALL {
        if arch.needs_onnxruntime() && testing::onnxruntime().is_none() {
            continue;
        }
        let trained = quick(arch, &learn).unwrap();
        assert!(trained.parity <= PARITY_MAX);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.onnx");
        write(&path, &trained).unwrap();
        let scorer = Scorer::open(path.to_str().unwrap(), trained.runtime, 1).unwrap();
        assert_eq!(scorer.card().made_by["arch"], arch.name());
        let score = |s: &Sample| match scorer.score(&s.features) {
            tidegate_filters::Score::Known(p) => p,
            tidegate_filters::Score::Unknown => panic!("{}: unscored", arch.name()),
        };
        let scored: Vec<Scored<'_>> = test.iter().map(|s| Scored { sample: s, score: score(s), band: Band::default() }).collect();
        let auc = judge(&scored, 0.85).all.auc.unwrap()[0];
        assert!(auc > 0.9, "{}: {auc}", arch.name());
        let card = &trained.card;
        assert_eq!(card.model_sha256, crate::card::sha256_hex(&trained.onnx));
        assert_eq!((card.baseline.len(), card.made_by["seed"].as_u64()), (N, Some(3)));
        // The same seed, the same file.
        if arch != Arch::Forest {
            assert_eq!(quick(arch, &learn).unwrap().onnx, trained.onnx, "{}", arch.name());
        }
    }
}

#[test]
fn folds_and_what_is_left_out_are_judged_by_models_that_had_not_seen_it() {
    let visits = visits();
    let samples = some(&visits.samples);
    let hold_out = vec![HoldOut::Family("jittered_mimic".into()), HoldOut::EachFamily];
    let settings = Settings { folds: 3, hold_out, ..settings(Arch::Mlp) };
    let trained = train(&samples, &visits.told, &settings, &mut |_, _| ()).unwrap();
    let names: Vec<&str> = trained.left_out.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names[0], FOLDS);
    assert_eq!(names.last(), Some(&"family jittered_mimic"));
    assert!(names.contains(&"family slow_and_low") && names.len() == 7, "{names:?}");
    let of = |name: &str| &trained.left_out.iter().find(|l| l.name == name).unwrap().judged;
    let folds = of(FOLDS);
    let (programs, mimics) =
        (samples.iter().filter(|s| s.bot).count(), samples.iter().filter(|s| &*s.family == "jittered_mimic").count());
    assert_eq!(of("family jittered_mimic").all.programs, mimics);
    assert!(folds.all.programs < programs && folds.families.iter().all(|g| g.name != "jittered_mimic"));
    assert!(folds.all.auc.unwrap()[0] > 0.85, "{:?}", folds.all);
    let card = &trained.card;
    assert_eq!(card.training["sources"][0]["kind"], "worlds");
    let learnt = &card.training["families"];
    assert!(learnt.get("jittered_mimic").is_none() && learnt["people"].as_u64() > Some(100), "{learnt}");
    assert!(card.metrics["thresholds"]["score"][1].as_f64().unwrap() > 0.5);
    assert!(card.metrics["left_out"]["family jittered_mimic"]["all_visits"]["auc"][0].is_number());
    assert_eq!(card.metrics["left_out"][FOLDS]["at"], 0.85, "as it was written");
}

#[test]
fn a_family_left_out_is_judged_beside_people_that_were_not_learnt_from() {
    let visits = visits();
    let all: Vec<&Sample> = visits.samples.iter().collect();
    let (learn, parts) = kept_out(&all, &[HoldOut::Family("slow_and_low".into())]).unwrap();
    let networks: BTreeSet<u64> = learn.iter().map(|s| s.network).collect();
    assert!(learn.iter().all(|s| &*s.family != "slow_and_low"));
    assert!(parts[0].1.iter().filter(|s| !s.bot).all(|s| !networks.contains(&s.network)));
    assert!(parts[0].1.iter().any(|s| !s.bot) && parts[0].1.iter().filter(|s| s.bot).all(|s| &*s.family == "slow_and_low"));
    let said = kept_out(&all, &[HoldOut::Site("mars".into())]).err().unwrap().to_string();
    assert_eq!(said, "there is no site mars; there are: made up");
    assert!(kept_out(&all, &[HoldOut::Family("x".into())]).err().unwrap().to_string().contains("plain_script"));
}

#[test]
fn what_nothing_can_be_learnt_from_is_refused_in_words() {
    let visits = visits();
    let said = |samples: &[Sample]| quick(Arch::Mlp, samples).err().unwrap().to_string();
    let people: Vec<Sample> = visits.samples.iter().filter(|s| !s.bot).cloned().collect();
    assert!(said(&people).starts_with("0 visits of programs from 0 networks; at least 50 from 10 are needed"));
    let mut few = some(&visits.samples);
    few.iter_mut().for_each(|s| s.network %= 4);
    assert!(said(&few).contains("networks; at least 50 from 10 are needed: label more of them"));
    let mut same = some(&visits.samples);
    same.iter_mut().for_each(|s| s.features = [0.5; N]);
    assert!(said(&same).contains("all visits have the same features"));
    let settings = Settings { hold_out: vec![HoldOut::EachSite], ..settings(Arch::Mlp) };
    let e = train(&visits.samples, &[], &settings, &mut |_, _| ()).err().unwrap().to_string();
    assert_eq!(e, "--hold-out site needs at least two of them, there are 1");
}

#[test]
fn labels_that_were_turned_round_are_found_by_models_that_had_not_seen_them() {
    let visits = visits();
    let mut samples: Vec<Sample> = visits.samples.into_iter().step_by(4).collect();
    // The visitor whose programs are plainest: a script's, with many visits.
    let victim = samples.iter().filter(|s| &*s.family == "plain_script" && s.visit >= 16).map(|s| s.visitor).next().unwrap();
    samples.iter_mut().filter(|s| s.visitor == victim).for_each(|s| s.bot = false);
    let settings = Settings { folds: 3, ..settings(Arch::Mlp) };
    let trained = train(&samples, &[], &settings, &mut |_, _| ()).unwrap();
    let found = trained.suspects.iter().find(|s| s.visitor == format!("{victim:016x}"));
    assert!(found.is_some_and(|s| !s.labelled_program && s.score > 0.95), "{:?}", trained.suspects);
}

#[test]
fn platts_line_turns_any_unit_into_log_odds() {
    let rows: Vec<[f32; N]> = (0..4000).map(|i| [((i % 40) as f32 - 20.0) * 5.0; N]).collect();
    // True log-odds: x / 25 - 0.4.
    let truth = |x: f32| 1.0 / (1.0 + (-(x / 25.0 - 0.4)).exp());
    let bots = rows.iter().enumerate().map(|(i, r)| ((i / 40) as f32 + 0.5) / 100.0 < truth(r[0])).collect();
    let part = Part { rows: rows.iter().collect(), bots, weights: vec![1.0; rows.len()] };
    let (scale, shift) = platt(&part, |r| r[0]);
    assert!((scale - 0.04).abs() < 0.002 && (shift + 0.4).abs() < 0.03, "{scale} {shift}");
    let (scale, _) = platt(&part, |r| -r[0]);
    assert!(scale.abs() < 1e-3, "a model that says the opposite is silenced, not turned round: {scale}");
    let (scale, shift) = platt(&Part { bots: rows.iter().map(|r| r[0] > 0.0).collect(), ..part }, |r| r[0]);
    assert!(scale.is_finite() && shift.is_finite() && scale > 0.5, "separable: {scale} {shift}");
}
