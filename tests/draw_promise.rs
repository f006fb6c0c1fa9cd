//! A draw runs under the rules that were promised, or not at all: over loads and over restarts.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use tidegate_gateway::gate::{Gate, GateOptions};

use crate::{
    draw_live::{ahead, enter, policy, receipt, relay, save, until, until_sale},
    program::{run, text},
    support::{Shop, gate},
};

/// Why a gate does not start with this policy.
pub fn refused(yaml: &str, dir: &Path) -> String {
    let file = dir.join("policy.yaml");
    std::fs::write(&file, yaml).unwrap();
    let loaded = tidegate_config::load(&file).unwrap_or_else(|e| panic!("{e}"));
    match Gate::start(GateOptions { file: Some(file), ..GateOptions::new(loaded) }) {
        Ok(_) => panic!("it starts with:\n{yaml}"),
        Err(why) => why.to_string(),
    }
}

/// The text with one thing in it changed.
pub fn with(yaml: &str, from: &str, to: &str) -> String {
    assert!(yaml.contains(from), "{from} is not in:\n{yaml}");
    yaml.replacen(from, to, 1)
}

pub fn written(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("policy.yaml")).unwrap()
}

/// The instant of a key of the sale, as it is written.
fn instant(yaml: &str, key: &str) -> String {
    yaml.split(&format!(" {key}: ")).nth(1).unwrap().split([',', ' ']).next().unwrap().to_owned()
}

/// `key: INSTANT` of the sale moved by seconds.
fn moved(yaml: &str, key: &str, by_s: i64) -> String {
    let was = instant(yaml, key);
    let is = was.parse::<jiff::Timestamp>().unwrap() + jiff::SignedDuration::from_secs(by_s);
    with(yaml, &format!(" {key}: {was}"), &format!(" {key}: {is}"))
}

fn commitment(draw: &Value) -> String {
    draw["promise"]["commitment"].as_str().unwrap().to_owned()
}

#[test]
fn before_the_first_entry_another_policy_makes_another_promise() {
    let (shop, dir, (source, from)) = (Shop::start(), TempDir::new().unwrap(), relay());
    let beacon = format!("{{ source: '{source}', delay: 10s, from: '{from}' }}");
    let mut now = gate(&policy("draw_then_fifo", &beacon), shop.address, dir.path());
    let mut seen = vec![commitment(&until(&now, "open", ""))];
    let mut yaml = written(dir.path());
    for (change, to, promised) in [
        ("    beacon:", "    weights: { human: 12, unsure: 8 }\n    beacon:", r#""human":12"#),
        ("delay: 10s", "delay: 14s", r#""delay_s":14"#),
        ("entries_per_network: 30", "entries_per_network: 31", r#""per_network":31"#),
        ("cookie: login", "cookie: account", r#""identity":{"cookie":"account"}"#),
        ("cookie: account", "cookie: login", r#""identity":{"cookie":"login"}"#),
    ] {
        yaml = with(&yaml, change, to);
        now.control().apply(&yaml).unwrap();
        let new = until_sale(&now, "sneaker", |d| {
            d["state"] == "open" && d["promise"]["rules_json"].as_str().unwrap().contains(promised)
        });
        assert!(!seen.contains(&commitment(&new)), "a promise of its own for {to}");
        seen.push(commitment(&new));
    }
    // While the gate is stopped as well.
    now.stop().unwrap();
    yaml = with(&yaml, "human: 12", "human: 11");
    now = gate(&yaml, shop.address, dir.path());
    let last = until(&now, "open", "");
    assert!(last["promise"]["rules_json"].as_str().unwrap().contains(r#""human":11"#), "{last}");
    assert!(!seen.contains(&commitment(&last)));

    let mut person = enter(&now, "person");
    assert!(receipt(&mut person).body.contains(&commitment(&last)), "the receipt is of the promise in force");
    let late = now.control().apply(&with(&yaml, "human: 11", "human: 10")).unwrap_err().to_string();
    assert!(late.contains("weights.human: promised 11, written 10"), "{late}");
    ahead(&now, 545);
    until(&now, "frozen", "");
    ahead(&now, 20);
    let transcript = save(&now, dir.path(), &until(&now, "drawn", ""));
    let out = run(&["draw", "verify", &transcript, "--commitment", &commitment(&last)]);
    assert!(out.status.success(), "{}", text(&out));
    let out = run(&["draw", "verify", &transcript, "--commitment", &seen[0]]);
    assert!(!out.status.success(), "the first promise counts no more: {}", text(&out));
    now.stop().unwrap();
}

#[test]
fn another_schedule_before_the_first_entry_is_the_schedule_of_the_list() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    for order in ["draw_then_fifo", "{ draw_every: 60s }"] {
        let dir = dir.path().join(order.len().to_string());
        std::fs::create_dir(&dir).unwrap();
        let gate = gate(&policy(order, "none"), shop.address, &dir);
        let old = until(&gate, "open", "");
        gate.control().apply(&moved(&moved(&written(&dir), "opens_at", 30), "prequeue_opens_at", -30)).unwrap();
        let new = until_sale(&gate, "sneaker", |d| d["promise"]["commitment"].is_string() && commitment(d) != commitment(&old));
        let later = new["freezes_at"].as_i64().unwrap() - old["freezes_at"].as_i64().unwrap();
        assert!(if order == "draw_then_fifo" { later == 30 } else { later % 60 != 0 }, "{order}: {later}");
        gate.stop().unwrap();
    }
}

#[test]
fn a_policy_edited_while_the_gate_is_stopped_does_not_start() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let first = gate(&policy("draw_then_fifo", "none"), shop.address, dir.path());
    until(&first, "open", "");
    let mine = receipt(&mut enter(&first, "person")).body;
    first.stop().unwrap();
    let good = written(dir.path());
    let local = format!("{{ source: 'ed25519:{}', delay: 10s }}", "ab".repeat(32));
    for (from, to, rule) in [
        ("    beacon:", "    weights: { human: 12 }\n    beacon:", "weights.human: promised 16, written 12".to_owned()),
        ("beacon: none", &format!("beacon: {local}"), "beacon: promised none".into()),
        ("    beacon:", "    freeze_before: 50s\n    beacon:", "freeze_before: promised 60 s, written 50 s".into()),
        ("order: draw_then_fifo", "order: fifo", "order: promised draw_then_fifo, written fifo".into()),
        ("order: draw_then_fifo", "order: { draw_every: 60s }", "order: promised draw_then_fifo, written draw_every".into()),
        ("entries_per_network: 30", "entries_per_network: 3", "visitor.entries_per_network: promised 30, written 3".into()),
        ("work_bits: 0", "work_bits: 9", "visitor.work_bits: promised 0, written 9".into()),
        ("work_bits: 0", "work_bits: 0, entries_max: 9", "visitor.entries_max: promised 1000000, written 9".into()),
        ("cookie: login", "cookie: account", r#"visitor.key: promised {"cookie":"login"}, written {"cookie":"account"}"#.into()),
        ("name: sneaker", "name: boots", "promised sale `sneaker`, written no such sale".into()),
        ("room: drop,", "room: drop, stock: 5,", "stock: promised none, written 5".into()),
        (
            "filters: [",
            "filters: [ { bot_gate: { challenge_at: 0.6, when_unscored: admit } },",
            "bot_gate.challenge_at: promised none, written 0.6".into(),
        ),
    ] {
        let why = refused(&with(&good, from, to), dir.path());
        assert!(why.contains("sale `sneaker`") && why.contains(&rule), "{to}: {why}");
        assert!(why.contains("`cancelled: REASON`") && why.contains("redraws: sneaker"), "{to}: {why}");
    }
    for (key, by_s) in [("opens_at", 30), ("opens_at", -30), ("closes_at", 60), ("prequeue_opens_at", 10)] {
        let why = refused(&moved(&good, key, by_s), dir.path());
        let promised = format!("{key}: promised {}", &instant(&good, key)[..19]);
        assert!(why.contains(&promised), "{why}\nlacks {promised}");
    }
    // As a program, too.
    let file = dir.path().join("policy.yaml");
    std::fs::write(&file, with(&good, "cookie: login", "cookie: account")).unwrap();
    let out = run(&["serve", "--policy", &file.display().to_string()]);
    assert!(!out.status.success() && text(&out).contains("visitor.key: promised"), "{}", text(&out));
    // Another signing key: the receipts would be nobody's.
    let (keys, aside) = (dir.path().join("keys"), dir.path().join("aside"));
    std::fs::rename(&keys, &aside).unwrap();
    assert!(refused(&good, dir.path()).contains("statement.key"));
    std::fs::remove_dir_all(&keys).unwrap();
    std::fs::rename(&aside, &keys).unwrap();

    let again = gate(&good, shop.address, dir.path());
    until(&again, "open", "");
    assert_eq!(receipt(&mut enter(&again, "person")).body, mine, "nothing is lost by all this");
    again.stop().unwrap();
}

#[test]
fn a_sale_called_off_while_the_gate_is_stopped_is_published_under_its_promised_rules() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let first = gate(&policy("draw_then_fifo", "none"), shop.address, dir.path());
    let promised = until(&first, "open", "");
    drop(enter(&first, "person"));
    first.stop().unwrap();
    let good = written(dir.path());
    let off = with(&good, "name: sneaker,", "name: sneaker, cancelled: we made a mistake,");
    let other = with(&off, "    beacon:", "    weights: { human: 12, unsure: 7 }\n    beacon:");
    assert!(refused(&with(&off, "order: draw_then_fifo", "order: fifo"), dir.path()).contains("a cancelled sale keeps these"));
    let second = gate(&other, shop.address, dir.path());
    let told = until_sale(&second, "sneaker", |d| d["amendments"][0]["text"].is_string());
    assert_eq!(told["amendments"][0]["text"], "cancelled: we made a mistake", "signed at the start");
    ahead(&second, 545);
    let transcript = save(&second, dir.path(), &until(&second, "drawn", ""));
    let out = run(&["draw", "verify", &transcript, "--commitment", &commitment(&promised)]);
    assert!(out.status.success(), "{}", text(&out));
    second.stop().unwrap();
    let why = refused(&good, dir.path());
    assert!(why.contains("was cancelled (\"we made a mistake\") and people were told so"), "{why}");
    let third = gate(&other, shop.address, dir.path());
    assert_eq!(until(&third, "drawn", "")["amendments"].as_array().unwrap().len(), 1, "signed once");
    third.stop().unwrap();
    let gone = other.lines().filter(|l| !l.contains("name: sneaker")).collect::<Vec<_>>().join("\n").replace("sales:\n", "");
    gate(&gone, shop.address, dir.path()).stop().unwrap();
}

#[test]
fn an_amended_opening_counts_after_a_restart_and_the_list_closes_when_it_was_promised_to() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let first = gate(&policy("draw_then_fifo", "none"), shop.address, dir.path());
    let promised = until(&first, "open", "");
    drop(enter(&first, "person"));
    let good = written(dir.path());
    let later = moved(&good, "opens_at", 90);
    first.control().apply(&later).unwrap();
    // Answered is on the disk: what a kill at this moment would leave behind.
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(dir.path().join("state/state.redb"), copy.join("state.redb")).unwrap();
    let why = refused(&with(&good, "/state'", "/copy'"), dir.path());
    assert!(why.contains("opens_at: promised"), "what was amended counts over a kill: {why}");
    until_sale(&first, "sneaker", |d| d["amendments"][0]["text"].is_string());
    first.stop().unwrap();
    let why = refused(&format!("{good}# changed\n"), dir.path());
    assert!(why.contains("opens_at: promised"), "what was amended counts: {why}");
    let second = gate(&later, shop.address, dir.path());
    let again = until(&second, "open", "");
    assert_eq!((&again["freezes_at"], commitment(&again)), (&promised["freezes_at"], commitment(&promised)));
    second.stop().unwrap();
}
