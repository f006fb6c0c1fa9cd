//! A model takes the place of the live one in a running gate, and goes back.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tidegate_gateway::gate::Gate;

use crate::{
    draw_live::{enter, policy, until},
    program::{run, text},
    support::{Client, Shop, admin, gate},
};

const POLICY: &str = r#"
version: 1
listen: [ { address: 127.0.0.1:0 } ]
admin: { address: 127.0.0.1:0, token_file: "{dir}/admin.token" }
shop: { upstreams: [ { address: "{shop}" } ] }
filters: [ { bot_gate: { model: "{dir}/live.onnx", refuse_at: 1.0, when_unscored: admit, runtime: builtin } } ]
journal: { directory: "{dir}/journal" }
"#;

/// A small model; its path and the first digits of its hash.
fn train(dir: &Path, name: &str, seed: &str) -> (String, String) {
    let (path, table) = (dir.join(name).display().to_string(), dir.join("visits.csv"));
    let visit = |i: u32| match i % 2 {
        0 => format!("person,{},{}.5,0.5,1\n", i % 40, i % 7),
        _ => format!("bot,{},{}.1,3,-1\n", 100 + i % 40, i % 5),
    };
    let visits: String = (0..400).map(visit).collect();
    fs::write(&table, format!("label,network,gap_last,visits_1min,accept_language\n{visits}")).unwrap();
    let table = table.display().to_string();
    let out = run(&["train", "bots", "--from", &table, "--folds", "0", "--arch", "svm", "--seed", seed, "--out", &path]);
    assert!(out.status.success(), "{}", text(&out));
    let card: Value = serde_json::from_str(&fs::read_to_string(path.replace(".onnx", ".json")).unwrap()).unwrap();
    (path, card["model_sha256"].as_str().unwrap()[..16].to_owned())
}

fn scorer(gate: &Gate, dir: &Path) -> String {
    admin(gate, dir, "GET", "/v1/status", "").json()["policy"]["scorer"].as_str().unwrap().to_owned()
}

/// Visits of one person and of one program.
fn visits(gate: &Gate) {
    assert_eq!(Client::browser(gate.addresses()[0]).get("/").status, 200);
    assert_eq!(Client::app(gate.addresses()[0]).get("/api").status, 200);
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let of = |name: &str| (name.to_owned(), fs::read(dir.join(name)).unwrap_or_default());
    ["live.onnx", "live.json", "live.previous.onnx", "live.previous.json", "live.next.onnx"].map(of).into()
}

#[test]
fn a_running_gate_takes_a_promoted_model_and_the_one_before_again() {
    let (shop, dir) = (Shop::start(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    let ((live, old), (new, young)) = (train(dir, "live.onnx", "4"), train(dir, "new.onnx", "5"));
    assert_ne!(old, young);
    let first = gate(POLICY, shop.address, dir);
    visits(&first);
    let before = files(dir);
    let empty = admin(&first, dir, "POST", "/v1/bots/promote", &json!({ "model": new }).to_string()).json();
    assert!(empty["code"] == "UNCOMPARED" && empty["what"].as_str().unwrap().contains("no scored visit"), "{empty}");
    drop(first);

    let second = gate(POLICY, shop.address, dir);
    let post = |path: &str, body: &Value| admin(&second, dir, "POST", path, &body.to_string());
    let promote = |body: Value| post("/v1/bots/promote", &body).json();
    fs::write(dir.join("hostile.onnx"), b"rubbish").unwrap();
    fs::copy(&new, dir.join("cardless.onnx")).unwrap();
    fs::copy(&new, dir.join("other.onnx")).unwrap();
    let card = fs::read_to_string(dir.join("new.json")).unwrap();
    let mut other: Value = serde_json::from_str(&card).unwrap();
    other["features_sha256"] = "00".into();
    fs::write(dir.join("other.json"), other.to_string()).unwrap();
    fs::write(dir.join("strangers.csv"), "00000000000000aa,person\n00000000000000ab,program\n").unwrap();
    let path = |name: &str| dir.join(name).display().to_string();
    for (body, code, part) in [
        (json!({ "model": path("none.onnx"), "force": true }), "MODEL", "none.onnx: cannot read the model"),
        (json!({ "model": path("hostile.onnx"), "force": true }), "MODEL", "cannot read the model's card"),
        (json!({ "model": path("cardless.onnx"), "force": true }), "MODEL", "cardless.json: cannot read the model's card"),
        (json!({ "model": path("other.onnx"), "force": true }), "MODEL", "was made for the feature list 00"),
        (json!({ "model": new, "labels": path("strangers.csv") }), "NOT_PROMOTED", "0 people and 0 programs are in this journal"),
        (json!({ "model": new, "labels": path("none.csv") }), "LABELS", "cannot read the labels"),
        (json!({ "model": new, "hurt_max": 2 }), "HURT_MAX", "a share"),
        (json!({ "models": new }), "NOT_JSON", "unknown field"),
        (json!({ "model": live }), "USELESS", "the live model already"),
    ] {
        let said = promote(body.clone());
        assert!(said["code"] == code && said["what"].as_str().unwrap().contains(part), "{body}: {said}");
    }
    assert_eq!(post("/v1/bots/rollback", &json!({})).json()["code"], "NO_FILE", "there is none before");
    assert!(files(dir) == before && scorer(&second, dir).contains(&old), "nothing has changed");

    let done = promote(json!({ "model": new }));
    assert_eq!((&done["was"], &done["model"]), (&json!(old), &json!(young)), "{done}");
    assert_eq!((&done["compared"]["visits"], &done["compared"]["worse"]), (&json!(2), &json!(0)));
    assert!(scorer(&second, dir).contains(&young));
    visits(&second);
    assert_eq!(post("/v1/bots/rollback", &json!({ "model": new })).json()["code"], "NO_VALUE");
    assert_eq!(post("/v1/bots/rollback", &json!({})).json()["model"], *old);
    assert!(scorer(&second, dir).contains(&old));
    assert_eq!(files(dir)[..2], before[..2], "back to the byte");
    visits(&second);

    // The same by hand, taken at the next load.
    let policy = path("policy.yaml");
    let refused = run(&["bots", "promote", &new, "--policy", &policy, "--labels", &path("strangers.csv")]);
    assert!(refused.status.code() == Some(1) && text(&refused).contains("the live model stays"), "{}", text(&refused));
    let out = run(&["bots", "promote", &new, "--policy", &policy, "--json"]);
    let promoted: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&out)));
    assert_eq!(promoted["model"], *young);
    assert!(scorer(&second, dir).contains(&old), "not before a load");
    assert_eq!(post("/v1/policy/reload", &json!({})).status, 200);
    assert!(scorer(&second, dir).contains(&young));
    let back = run(&["bots", "rollback", &live]);
    assert!(text(&back).contains("live.previous.onnx"), "{}", text(&back));
    assert_eq!(post("/v1/policy/reload", &json!({})).status, 200);
    assert!(scorer(&second, dir).contains(&old));
    assert_eq!(run(&["bots", "rollback", &path("none.onnx")]).status.code(), Some(1));
    drop(second);

    let tail = run(&["journal", "tail", "-n", "1000", "--json", &path("journal")]);
    let rows: Vec<Value> = text(&tail).lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let mut models: Vec<&str> = rows.iter().filter_map(|r| r["model"].as_str().filter(|m| !m.is_empty())).collect();
    models.dedup();
    assert_eq!(models, [&*old, &*young, &*old], "who scored the visits");
    let operator = rows.iter().filter(|r| r["kind"] == "operator" && r["method"] == "ADMIN").map(|r| r["path"].as_str().unwrap());
    let audited: Vec<&str> = operator.collect();
    assert_eq!(audited, [format!("bots promote: {old} -> {young}"), format!("bots rollback: {young} -> {old}")]);
}

#[test]
fn the_shipped_model_has_no_file_until_one_is_put_in_place() {
    let (shop, dir) = (Shop::start(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    let shipped = POLICY.replace("{dir}/live.onnx", "builtin");
    let running = gate(&shipped, shop.address, dir);
    visits(&running);
    let said = admin(&running, dir, "POST", "/v1/bots/promote", r#"{"model": "x.onnx"}"#).json();
    assert_eq!(said["code"], "NO_FILE", "{said}");
    drop(running);
    let ((new, _), live) = (train(dir, "new.onnx", "5"), dir.join("live.onnx").display().to_string());
    let policy = dir.join("policy.yaml").display().to_string();
    let out = run(&["bots", "promote", &new, "--policy", &policy, "--to", &live]);
    assert!(out.status.success() && text(&out).contains("worse for 0"), "{}", text(&out));
    assert!(fs::exists(&live).unwrap() && !fs::exists(dir.join("live.previous.onnx")).unwrap());
}

#[test]
fn a_draw_that_people_have_entered_keeps_its_model() {
    let (shop, dir) = (Shop::start(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    let ((_, old), (new, young)) = (train(dir, "live.onnx", "4"), train(dir, "new.onnx", "5"));
    let scored =
        "bot_gate: { model: '{dir}/live.onnx', challenge_at: 1.0, when_unscored: wait, runtime: builtin } }, { waiting_room:";
    let drawn = policy("draw_then_fifo", "none").replace("waiting_room:", scored);
    let admin_api = "\nadmin: { address: 127.0.0.1:0, token_file: '{dir}/admin.token' }\n";
    let gate = gate(&(drawn + admin_api), shop.address, dir);
    until(&gate, "open", "");
    let promote = || admin(&gate, dir, "POST", "/v1/bots/promote", &json!({ "model": new, "force": true }).to_string()).json();
    assert_eq!(promote()["model"], *young, "nobody has entered: the promise is made anew");
    assert_eq!(admin(&gate, dir, "POST", "/v1/bots/rollback", "").json()["model"], *old);
    until(&gate, "open", "");
    enter(&gate, "person");
    let before = files(dir);
    let said = promote();
    assert!(
        said["code"] == "PROMISED" && said["what"].as_str().unwrap().contains("bot_gate.model (SHA-256): promised"),
        "{said}"
    );
    assert!(files(dir) == before && scorer(&gate, dir).contains(&old), "nothing has changed");
}

#[test]
fn a_shadow_model_scores_the_same_visits_and_acts_on_none() {
    let (shop, dir) = (Shop::start(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    let ((live, old), (new, young)) = (train(dir, "live.onnx", "4"), train(dir, "new.onnx", "5"));
    let beside = |model: &str| POLICY.replace("live.onnx\"", &format!("live.onnx\", shadow_model: \"{model}\""));
    let running = gate(&beside(&new), shop.address, dir);
    visits(&running);
    let told = scorer(&running, dir);
    assert!(told.contains(&old) && told.contains("in its shadow") && told.contains(&young), "{told}");
    let metrics = || admin(&running, dir, "GET", "/metrics", "").body;
    let counted = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        metrics().contains("tidegate_shadow_score_count 2")
    });
    assert!(counted, "{}", metrics());
    let explained = text(&run(&["explain", &dir.join("policy.yaml").display().to_string()]));
    assert!(explained.contains("new.onnx scores, which changes nothing"), "{explained}");
    drop(running);
    let tail = run(&["journal", "tail", "--json", &dir.join("journal").display().to_string()]);
    let rows: Vec<Value> = text(&tail).lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let scored: Vec<&Value> = rows.iter().filter(|r| r["kind"] == "visit").collect();
    assert_eq!(scored.len(), 2);
    for row in scored {
        assert_eq!((&row["model"], &row["shadow_model"]), (&json!(old), &json!(young)), "{row}");
        let [score, shadow] = ["score", "shadow_score"].map(|k| row[k].as_f64().unwrap_or_else(|| panic!("{k}: {row}")));
        assert!(score != shadow && (0.0..=1.0).contains(&shadow), "each says its own: {row}");
    }
    // A file that cannot be used is refused like the live one's.
    for (model, part) in
        [(dir.join("none.onnx").display().to_string(), "shadow_model"), (live.replace("onnx", "json"), "shadow_model")]
    {
        fs::write(
            dir.join("bad.yaml"),
            beside(&model).replace("{shop}", "127.0.0.1:1").replace("{dir}", &dir.display().to_string()),
        )
        .unwrap();
        let out = run(&["check", &dir.join("bad.yaml").display().to_string()]);
        assert!(out.status.code() == Some(1) && text(&out).contains(part), "{}", text(&out));
    }
}
