//! A policy that was applied through the admin API counts until the policy file says something new: over loads and restarts.

use std::path::Path;

use tempfile::TempDir;
use tidegate_gateway::{
    control::{InForce, Source},
    gate::{Gate, GateOptions},
};

use crate::{
    draw_live::{enter, policy, receipt, until, until_sale},
    draw_promise::{refused, with, written},
    support::{Shop, admin, gate},
};

/// A gate with the policy file as it lies there.
fn again(dir: &Path) -> Gate {
    let file = dir.join("policy.yaml");
    let loaded = tidegate_config::load(&file).unwrap();
    Gate::start(GateOptions { file: Some(file), ..GateOptions::new(loaded) }).unwrap_or_else(|e| panic!("{e}"))
}

/// What counts after a restart.
fn restarted(gate: Gate, dir: &Path) -> (Gate, InForce) {
    gate.stop().unwrap();
    let gate = again(dir);
    let in_force = gate.control().in_force();
    (gate, in_force)
}

#[test]
fn an_applied_policy_counts_over_a_restart_until_the_file_is_another_one() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let first = gate(&policy("fifo", "none"), shop.address, dir.path());
    let (file, aside) = (written(dir.path()), dir.path().join("state/draws/applied-policy.old.yaml"));
    let slower = with(&file, "fixed: 1000/s", "fixed: 900/s");
    assert!(first.control().apply(&slower).unwrap().kept);
    let (second, in_force) = restarted(first, dir.path());
    assert_eq!((in_force.source, &*in_force.text), (Source::Api, &*slower), "the last word counts");
    assert!(in_force.file.ends_with("applied-policy.yaml"), "and is found: {}", in_force.file);
    let (third, in_force) = restarted(second, dir.path());
    assert_eq!((in_force.source, &*in_force.text), (Source::Api, &*slower), "again");
    assert!(!aside.exists());

    // Loaded by hand: the file, though it is as it was.
    third.control().reload().unwrap();
    assert!(std::fs::read_to_string(&aside).unwrap().ends_with(&slower), "nothing is lost by that");
    let (fourth, in_force) = restarted(third, dir.path());
    assert_eq!((in_force.source, &*in_force.text), (Source::File, &*file));

    // Changed while the gate was stopped: newer than what was applied.
    let even_slower = with(&file, "fixed: 1000/s", "fixed: 800/s");
    assert!(fourth.control().apply(&even_slower).unwrap().kept);
    std::fs::write(dir.path().join("policy.yaml"), with(&file, "fixed: 1000/s", "fixed: 700/s")).unwrap();
    let (fifth, in_force) = restarted(fourth, dir.path());
    assert_eq!(in_force.source, Source::File);
    assert!(in_force.text.contains("700/s") && std::fs::read_to_string(&aside).unwrap().ends_with(&even_slower));

    // What cannot be used any more gives way, and does not keep the gate from starting.
    fifth.control().apply(&slower).unwrap();
    let kept = dir.path().join("state/draws/applied-policy.yaml");
    let broken = with(&std::fs::read_to_string(&kept).unwrap(), "rooms:", "roms:");
    std::fs::write(&kept, broken).unwrap();
    let (sixth, in_force) = restarted(fifth, dir.path());
    assert_eq!(in_force.source, Source::File);
    sixth.stop().unwrap();
}

#[test]
fn who_entered_under_an_applied_policy_is_drawn_under_it() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let first = gate(&policy("draw_then_fifo", "none"), shop.address, dir.path());
    until(&first, "open", "");
    let file = written(dir.path());
    let applied = with(&file, "    beacon:", "    weights: { human: 12, unsure: 8 }\n    beacon:");
    first.control().apply(&applied).unwrap();
    let is_new = |d: &serde_json::Value| d["promise"]["rules_json"].as_str().is_some_and(|r| r.contains(r#""human":12"#));
    until_sale(&first, "sneaker", is_new);
    let mine = receipt(&mut enter(&first, "person")).body;
    let (second, _) = restarted(first, dir.path());
    until_sale(&second, "sneaker", is_new);
    assert_eq!(receipt(&mut enter(&second, "person")).body, mine, "as if nothing had been");
    second.stop().unwrap();

    let changed = format!("{file}# changed\n");
    let why = refused(&changed, dir.path());
    let kept = dir.path().join("state/draws/applied-policy.yaml");
    assert!(why.contains("weights.human: promised 12, written 16") && why.contains("applied through the admin API"), "{why}");
    assert!(why.contains(&kept.display().to_string()) && why.contains("`cancelled: REASON`"), "both ways out: {why}");
    // Started with as it lies there, it stays; as the policy file it is needed no more.
    let loaded = tidegate_config::load(&kept).unwrap();
    Gate::start(GateOptions { file: Some(kept.clone()), ..GateOptions::new(loaded) }).unwrap().stop().unwrap();
    assert!(kept.exists());
    let third = gate(&applied, shop.address, dir.path());
    until(&third, "open", "");
    assert_eq!(receipt(&mut enter(&third, "person")).body, mine, "nothing is lost by it");
    third.stop().unwrap();
    assert!(!kept.exists(), "the file says it all");
}

#[test]
fn a_check_says_what_applying_would() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let yaml = policy("draw_then_fifo", "none") + "admin: { address: 127.0.0.1:0, token_file: '{dir}/admin.token' }\n";
    let gate = gate(&yaml, shop.address, dir.path());
    until(&gate, "open", "");
    let other = with(&written(dir.path()), "    beacon:", "    weights: { human: 12, unsure: 8 }\n    beacon:");
    let ask = |what: &str, text: &str| admin(&gate, dir.path(), "POST", &format!("/v1/policy/{what}"), text);
    assert_eq!(ask("check", &other).status, 200, "nobody has entered");
    drop(enter(&gate, "person"));
    let (checked, applied) = (ask("check", &other), ask("apply", &other));
    assert_eq!((checked.status, &checked.json()["code"]), (409, &"PROMISED".into()), "{checked:?}");
    assert_eq!(checked.body, applied.body);
    assert_eq!(ask("check", &written(dir.path())).status, 200);
    gate.stop().unwrap();
}
