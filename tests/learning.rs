//! Bot models from the command line: trained, judged, refused.

use std::{fs, path::Path};

use serde_json::Value;

use crate::program::{run, text};

fn json(out: &std::process::Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(out)))
}

fn path(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).display().to_string()
}

#[test]
fn a_model_is_trained_on_a_table_judged_elsewhere_and_gates_decide() {
    let dir = tempfile::tempdir().unwrap();
    let (table, model, page) = (path(&dir, "visits.csv"), path(&dir, "shop-bots.onnx"), path(&dir, "page.html"));
    assert!(run(&["train", "bots", "--from", "worlds:16@3", "--to-table", &table]).status.success());
    let out = run(&[
        "train",
        "bots",
        "--from",
        &table,
        "--folds",
        "0",
        "--hold-out",
        "family=many_addresses",
        "--arch",
        "svm",
        "--seed",
        "4",
        "--out",
        &model,
        "--html",
        &page,
    ]);
    let said = text(&out);
    assert!(out.status.success(), "{said}");
    for part in ["visits (table):", "left out of learning", "family many_addresses"] {
        assert!(said.to_lowercase().contains(&part.to_lowercase()), "{part} is missing in {said}");
    }
    let card: Value = serde_json::from_str(&fs::read_to_string(path(&dir, "shop-bots.json")).unwrap()).unwrap();
    assert_eq!(
        (&card["name"], &card["made_by"]["seed"], &card["made_by"]["arch"]),
        (&"shop-bots".into(), &4.into(), &"svm".into())
    );
    assert!(!card.to_string().contains(&dir.path().display().to_string()), "a card tells how, not where");
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.matches("<svg").count() == 4 && html.contains("Calibration"), "four plots: {html}");

    let judged = json(&run(&["evaluate", "bots", &model, "worlds:6@99", "--json"]));
    assert_eq!(judged["judged"]["at"], 0.85, "as it is written in a policy");
    let auc = judged["judged"]["all"]["auc"][0].as_f64().unwrap();
    assert!(auc > 0.85, "{judged}");
    assert_eq!(judged["sha256"], card["model_sha256"]);
    let families = judged["judged"]["families"].as_array().unwrap();
    assert_eq!(families.len(), 6, "every family of the made-up worlds");

    let fails = |args: &[&str], part: &str| {
        let out = run(&[&["evaluate", "bots", &model, "worlds:6@99"], args].concat());
        assert!(out.status.code() == Some(1) && text(&out).contains(part), "{args:?}: {}", text(&out));
    };
    fails(&["--require-auc", "0.9999"], "is below 0.9999");
    fails(&["--require-recall", "1"], "recall at 1 % of people, jittered_mimic");
    let passes = run(&["evaluate", "bots", &model, "worlds:6@99", "--require-auc", "0.8", "--html", &page]);
    assert!(passes.status.success() && Path::new(&page).exists(), "{}", text(&passes));
    let builtin = run(&["evaluate", "bots", "builtin", "--from", "worlds:2@99"]);
    assert!(text(&builtin).contains("the borders are chosen on this very data"), "{}", text(&builtin));
}

#[test]
fn what_cannot_be_trained_or_judged_says_why_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (table, model) = (path(&dir, "t.csv"), path(&dir, "m.onnx"));
    fs::write(&table, "label,gap_last\nbot,1\nperson,2\n").unwrap();
    let train = |args: &[&str]| run(&[&["train", "bots", "--out", &model], args].concat());
    for (args, code, part) in [
        (&["--from", &table][..], 1, "1 visits of people from 1 networks; at least 50 from 10 are needed"),
        (&["--from", &table, "--folds", "1"], 2, "--folds is 0, or 2 to 20"),
        (&["--from", &table, "--arch", "gru"], 2, "was measured and is not offered"),
        (&["--from", &table, "--arch", "lstm"], 2, "write mlp, svm, gbdt or forest"),
        (&["--from", "worlds:x"], 1, "write worlds:N or worlds:N@SEED"),
        (&["--from", "nowhere.csv"], 3, "nowhere.csv: cannot read it"),
        (&["--from", "worlds:12", "--folds", "2"], 1, "fold 1 of 2: "),
        (&["--from", "worlds:12", "--hold-out", "family=nobody"], 1, "there is no family nobody; there are:"),
        (&["--from", "worlds:12", "--hold-out", "moon"], 2, "write site, family, site=NAME or family=NAME"),
        (&["--from", &table, "--label-column", "x"], 1, "has no column `x`"),
        (&[], 2, "--from"),
    ] {
        let out = train(args);
        assert!(out.status.code() == Some(code) && text(&out).contains(part), "{args:?}: {}", text(&out));
    }
    assert!(!Path::new(&model).exists());
    let out = run(&["evaluate", "bots", &table, "worlds:1"]);
    assert!(out.status.code() == Some(2) && text(&out).contains("not an ONNX file"), "{}", text(&out));
    let listed = text(&run(&["train", "bots", "--list-features"]));
    assert!(listed.contains("| `gap_last` |") && listed.contains("features_sha256 "), "{listed}");
}

/// The program that serves trains no forecasts; it says which build does.
#[test]
fn a_device_that_is_not_in_the_build_names_the_build() {
    for (device, feature) in [("cpu", "train\n"), ("cuda", "train-cuda\n"), ("tpu", "train (cpu alone), or train-cuda\n")] {
        let out = run(&["train", "forecast", "--from", "arrivals.csv", "--device", device]);
        let build = format!("cargo build --release -p tidegate-gateway --features {feature}");
        assert!(out.status.code() == Some(2) && text(&out).contains(&build), "{device}: {}", text(&out));
    }
    assert!(text(&run(&["train", "forecast", "--help"])).contains("Where to compute: cpu, cuda"));
}

#[test]
fn thresholds_out_of_order_are_refused_and_labels_survive_two_hands() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().display().to_string();
    let out = run(&["bots", "what-if", "--from", &folder, "--to-the-back-at", "0.95", "--refuse-at", "0.9"]);
    assert!(
        out.status.code() == Some(2) && text(&out).contains("to_the_back_at (0.95) is above refuse_at (0.9)"),
        "{}",
        text(&out)
    );

    let labels = path(&dir, "labels.csv");
    // A file from a spreadsheet: a mark at its start, quotes, another order.
    fs::write(
        &labels,
        "\u{feff}\"label\",\"visitor\",\"note\"\r\n\"bot\",\"00000000000000aa\",\"said \"\"hi\"\", then left\"\r\n",
    )
    .unwrap();
    std::thread::scope(|s| {
        for i in 0..8u64 {
            let labels = &labels;
            s.spawn(move || {
                let set = format!("{i:016x}=person");
                let out = run(&["bots", "label", "--labels", labels, "--set", &set]);
                assert!(out.status.success(), "{}", text(&out));
            });
        }
    });
    let kept = fs::read_to_string(&labels).unwrap();
    assert_eq!(kept.lines().count(), 10, "a header, one that was there, eight that were set at once: {kept}");
    assert!(kept.contains("00000000000000aa,program,\"said \"\"hi\"\", then left\","), "{kept}");
}
