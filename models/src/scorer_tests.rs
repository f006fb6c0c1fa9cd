//! Scores, failures that become `Unknown`, reasons, and both runtimes on the same model.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::Path};

use tidegate_filters::Now;

use super::*;
use crate::{
    features::{Agent, Features, HeaderFacts, Http, Method, Referer, Target, VisitFacts, Windows, hash, path_hash},
    testing,
};

fn builtin() -> Scorer {
    Scorer::open(BUILTIN, Runtime::Builtin, 2).unwrap()
}

/// A library that hammers the till every half second.
fn script() -> Features {
    let w = Windows::new(8);
    let mut f = [0.0; N];
    for i in 0..20 {
        let headers = [("host", "s"), ("user-agent", "python-requests/2.32"), ("accept", "*/*"), ("connection", "keep-alive")];
        let headers = HeaderFacts::read("s", headers.iter().map(|(n, v)| (*n, v.as_bytes())));
        let facts = VisitFacts {
            visitor: 5,
            by_cookie: Some(false),
            network: 6,
            fingerprint: headers.fingerprint(1),
            method: Method::Change,
            target: Target::Page,
            path: path_hash("/checkout"),
            sale: Some(true),
            http: Some(Http::One1),
            tls: Some(false),
            headers,
            ..VisitFacts::default()
        };
        f = w.observe_and_extract(&facts, Now::at(0, 1000 + i * 500));
    }
    f
}

/// A browser that looks around.
fn shopper() -> Features {
    let w = Windows::new(8);
    let yes = Some(true);
    let mut f = [0.0; N];
    let mut t = 1000;
    for (i, gap) in [9_000u64, 14_000, 3_000, 21_000, 6_500].into_iter().enumerate() {
        let headers = HeaderFacts {
            count: Some(14),
            accept: yes,
            language: yes,
            encoding: yes,
            cookie: yes,
            referer: Referer::Same,
            agent: Agent::Chromium,
            ..HeaderFacts::default()
        };
        let page = VisitFacts {
            visitor: 7,
            by_cookie: Some(i > 0),
            network: 8,
            fingerprint: 9,
            path: path_hash(&format!("/p/{i}")),
            sale: Some(false),
            http: Some(Http::One1),
            tls: Some(false),
            headers,
            ..VisitFacts::default()
        };
        f = w.observe_and_extract(&page, Now::at(0, t));
        for a in 0..6 {
            let asset = VisitFacts { target: Target::Asset, path: a, by_cookie: yes, ..page };
            w.observe_and_extract(&asset, Now::at(0, t + 100 + u64::from(a) * 30));
        }
        t += gap;
    }
    f
}

fn known(s: Score) -> f32 {
    match s {
        Score::Known(p) => p,
        Score::Unknown => panic!("no score"),
    }
}

#[test]
fn the_builtin_model_tells_a_script_from_a_shopper() {
    let s = builtin();
    let (bot, person) = (known(s.score(&script())), known(s.score(&shopper())));
    assert!(bot > 0.85 && person < 0.2, "script {bot}, shopper {person}");
    assert_eq!(s.score(&script()), s.score(&script()), "deterministic");
    assert!(s.describe().contains("built-in") && s.describe().contains(s.model()), "{}", s.describe());
    assert_eq!(s.model().len(), 16);
    assert!(s.card().model_sha256.starts_with(s.model()));
}

#[test]
fn reasons_are_few_ordered_and_only_for_the_suspicious() {
    let s = builtin();
    let reasons = s.reasons(&script());
    assert!((1..=REASONS_MAX).contains(&reasons.len()), "{reasons:?}");
    assert!(reasons.windows(2).all(|w| w[0].1 >= w[1].1) && reasons.iter().all(|r| r.1 >= REASON_MIN));
    assert!(reasons[0].1 > s.reasons(&shopper()).first().map_or(0.0, |r| r.1), "{reasons:?}");
    assert!(s.reasons(&[0.0; 3]).is_empty());
}

#[test]
fn a_row_of_the_wrong_width_is_unknown() {
    let s = builtin();
    assert_eq!(s.score(&[0.0; 3]), Score::Unknown);
    assert_eq!(s.score(&[]), Score::Unknown);
    assert_eq!(s.counts(), ScorerCounts { wrong_width: 2, ..ScorerCounts::default() });
}

#[test]
fn nan_and_out_of_range_are_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let path = testing::put(dir.path(), &testing::log_of_first(), |c| c);
    let s = Scorer::open(path.to_str().unwrap(), Runtime::Builtin, 1).unwrap();
    let row = |first: f32| {
        let mut r = [0.0; N];
        r[0] = first;
        s.score(&r)
    };
    assert!((known(row(1.5)) - 1.5f32.ln()).abs() < 1e-6);
    assert_eq!(row(-1.0), Score::Unknown, "NaN");
    assert_eq!(row(0.0), Score::Unknown, "minus infinity");
    assert_eq!(row(30.0), Score::Unknown, "3.4");
    assert_eq!(s.counts(), ScorerCounts { scored: 1, out_of_range: 3, ..ScorerCounts::default() });
}

#[test]
fn a_model_that_cannot_score_an_ordinary_visit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = testing::put(dir.path(), &testing::log_of_first(), |c| c.replace("\"baseline\": [1,", "\"baseline\": [-1,"));
    let e = Scorer::open(path.to_str().unwrap(), Runtime::Builtin, 1).err().unwrap();
    assert!(e.to_string().contains("NaN is no probability"), "{e}");
}

#[test]
fn panics_are_caught_and_a_model_that_keeps_panicking_is_switched_off() {
    let s = Scorer { sessions: Box::new([Mutex::new(Session::that_panics(N))]), ..builtin() };
    for _ in 0..PANICS_MAX + 3 {
        assert_eq!(s.score(&[0.0; N]), Score::Unknown);
    }
    assert_eq!(s.counts(), ScorerCounts { panicked: PANICS_MAX, switched_off: 3, ..ScorerCounts::default() });
}

#[test]
fn when_every_session_is_taken_the_visit_is_unscored() {
    let s = builtin();
    let held: Vec<_> = s.sessions.iter().map(|s| s.lock().unwrap()).collect();
    assert_eq!(s.score(&shopper()), Score::Unknown);
    drop(held);
    assert_ne!(s.score(&shopper()), Score::Unknown);
    assert_eq!((s.counts().busy, s.counts().scored), (1, 1));
}

#[test]
fn many_threads_get_the_same_answer() {
    let s = Scorer::open(BUILTIN, Runtime::Builtin, 4).unwrap();
    let (row, want) = (script(), known(s.score(&script())));
    std::thread::scope(|t| {
        for _ in 0..4 {
            t.spawn(|| (0..500).for_each(|_| assert_eq!(known(s.score(&row)), want)));
        }
    });
    assert_eq!(s.counts().scored, 2001);
}

#[test]
fn cards_must_fit() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = testing::log_of_first();
    let open = |card: &dyn Fn(String) -> String| {
        let path = testing::put(dir.path(), &bytes, card);
        Scorer::open(path.to_str().unwrap(), Runtime::Builtin, 1).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(open(&|c| c), "");
    assert!(open(&|c| c.replace(hash(), &"0".repeat(64))).contains("train it anew"));
    assert!(open(&|c| c.replacen("sha256\": \"", "sha256\": \"00", 1)).contains("is about a model with SHA-256 00"));
    assert!(open(&|c| c.replace("[1,", "[1,1,")).contains("`baseline` has"));
    assert!(open(&|c| c.replace("{", "{\"typo\": 1, ")).contains("not a model card"));
    let path = testing::put(dir.path(), &bytes, |c| c);
    fs::remove_file(path.with_extension("json")).unwrap();
    let e = Scorer::open(path.to_str().unwrap(), Runtime::Builtin, 1).err().unwrap().to_string();
    assert!(e.contains("the least one is") && e.contains(hash()), "{e}");
}

#[test]
fn both_runtimes_say_the_same() {
    if testing::onnxruntime().is_none() {
        return;
    }
    let (ours, ort) = (builtin(), Scorer::open(BUILTIN, Runtime::Onnxruntime, 2).unwrap());
    assert!(ort.describe().contains("ONNX Runtime ("), "{}", ort.describe());
    for row in [script(), shopper(), [0.0; N], [1.0; N], [-3.0; N]] {
        let (a, b) = (known(ours.score(&row)), known(ort.score(&row)));
        assert!((a - b).abs() < 1e-5, "{a} against {b}");
    }
    assert_eq!(ort.score(&[0.0; 5]), Score::Unknown);
    assert_eq!(
        ours.reasons(&script()).iter().map(|r| r.0).collect::<Vec<_>>(),
        ort.reasons(&script()).iter().map(|r| r.0).collect::<Vec<_>>()
    );
}

/// Made by `models/foreign/bots.py`, with what each library says itself.
#[test]
fn models_of_other_libraries_say_here_what_they_say_there() {
    #[derive(serde::Deserialize)]
    struct Expected {
        rows: Vec<Vec<f32>>,
        said: std::collections::BTreeMap<String, Vec<f32>>,
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign");
    let expected: Expected = serde_json::from_str(&fs::read_to_string(folder.join("bots-expected.json")).unwrap()).unwrap();
    assert_eq!(expected.said.len(), 4);
    for (name, said) in &expected.said {
        let path = folder.join(format!("{name}.onnx")).display().to_string();
        let trees_or_machine = name != "bots-torch";
        let mut runtimes = vec![];
        match Scorer::open(&path, Runtime::Builtin, 1) {
            Ok(scorer) => runtimes.push(scorer),
            Err(e) => assert!(trees_or_machine && e.to_string().contains("install ONNX Runtime"), "{e}"),
        }
        assert_eq!(runtimes.is_empty(), trees_or_machine, "{name}");
        if testing::onnxruntime().is_some() {
            runtimes.push(Scorer::open(&path, Runtime::Onnxruntime, 1).unwrap());
        }
        for scorer in &runtimes {
            for (row, want) in expected.rows.iter().zip(said) {
                let Score::Known(got) = scorer.score(row) else { panic!("{}: unscored", scorer.describe()) };
                assert!((got - want).abs() < 1e-4, "{}: {got}, the library says {want}", scorer.describe());
            }
        }
    }
}
