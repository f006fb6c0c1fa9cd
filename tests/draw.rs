//! The draw as strangers meet it: files, the program, and a verifier in another language that shares no code with us.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tidegate_filters::seats::draw::{
    beacon::LocalBeacon,
    entries,
    rehearse::{Rehearsal, RehearsalBeacon, mix, published_round},
    verify::{Published, verify},
};

use crate::{
    program::{run, text},
    support::skip,
};

/// Sales in the suite; `TIDEGATE_SEEDS` says more (at most this many).
const SALES: u64 = 120;
const SALES_MAX: u64 = 10_000;

fn python() -> Option<PathBuf> {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        skip("python3", "the independent verifier of the draw is written in it");
    }
    found.then(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("verify_draw.py"))
}

/// An invented sale, on disk; every third one bent in one place. Returns whether it is right.
fn write_sale(seed: u64, dir: &Path) -> bool {
    let random = mix(seed);
    let beacon = match random % 3 {
        0 => RehearsalBeacon::None,
        1 => RehearsalBeacon::Local,
        _ => RehearsalBeacon::Published(published_round()),
    };
    let window = (random >> 8).is_multiple_of(4).then_some(random >> 16 & 31);
    let sale = Rehearsal { entries: (random >> 24) as usize % 60, seed, beacon, window }.run();
    let (mut t, mut listed) = (sale.transcript, sale.listed);
    let live = listed.entries.iter().position(|e| !e.is_void());
    let bend = if seed.is_multiple_of(3) { random >> 32 & 7 } else { 8 };
    match (bend, live) {
        (0, _) => t.secret[5] ^= 1,
        (1, _) => t.rules_json = t.rules_json.replace("\"stock\":500", "\"stock\":501"),
        (2, _) => t.seed[0] ^= 1,
        (3, _) => t.n += 1,
        (4, Some(i)) => listed.entries[i].id[0] ^= 1,
        (5, Some(i)) => listed.entries[i].weight = if listed.entries[i].weight == 16 { 8 } else { 16 },
        (6, Some(i)) => listed.places[i] = listed.places[i].map(|p| p + 1),
        (7, _) if t.beacon.is_some() => t.beacon.as_mut().unwrap().round += 1,
        _ => {}
    }
    let ours = verify(&t, &listed, Published::default(), &tidegate_gateway::beacon::check);
    fs::create_dir(dir).unwrap();
    fs::write(dir.join("entries.csv"), entries::write(&listed.entries, &listed.places)).unwrap();
    fs::write(dir.join("transcript.json"), serde_json::to_string(&t).unwrap()).unwrap();
    ours.faults.is_empty()
}

#[test]
fn an_independent_verifier_agrees_on_random_sales() {
    let Some(script) = python() else { return };
    let sales = std::env::var("TIDEGATE_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(SALES).min(SALES_MAX);
    let dir = tempfile::tempdir().unwrap();
    let name = |seed: u64| dir.path().join(seed.to_string());
    let ours: Vec<bool> = (0..sales).map(|seed| write_sale(seed, &name(seed))).collect();
    let mut bent = 0;
    for chunk in (0..sales).collect::<Vec<_>>().chunks(500) {
        let paths = chunk.iter().map(|s| name(*s).join("transcript.json"));
        let out = Command::new("python3").arg(&script).args(paths).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert_eq!(said.lines().count(), chunk.len(), "{}", text(&out));
        for (seed, line) in chunk.iter().zip(said.lines()) {
            assert_eq!(line.ends_with(": good"), ours[*seed as usize], "seed {seed}: {line}");
            bent += u32::from(!ours[*seed as usize]);
        }
    }
    assert!(bent > sales as u32 / 5, "only {bent} of {sales} sales were bent");
}

/// A rehearsed sale in a new directory.
fn rehearsed(dir: &Path, more: &[&str]) -> PathBuf {
    let out = dir.join("sale");
    let out_text = out.display().to_string();
    let args = [&["draw", "rehearse", "--entries", "400", "--seed", "9", "--out", &out_text], more].concat();
    let made = run(&args);
    assert!(made.status.success(), "{}", text(&made));
    out
}

fn verify_file(dir: &Path, more: &[&str]) -> Output {
    let transcript = dir.join("transcript.json").display().to_string();
    run(&[&["draw", "verify", &transcript], more].concat())
}

#[test]
fn the_program_verifies_and_says_what_the_randomness_is_worth() {
    let base = tempfile::tempdir().unwrap();
    for (beacon, word, code) in [
        ("local", "good: rehearsal-9, 400 entries", 0),
        ("quicknet", "round 123 of drand-quicknet and every place hold", 0),
        ("none", "the operator could have chosen this outcome", 0),
    ] {
        let dir = rehearsed(&base.path().join(beacon), &["--beacon", beacon]);
        let out = verify_file(&dir, &[]);
        assert!(text(&out).contains(word) && out.status.code() == Some(code), "{beacon}: {}", text(&out));
        let json: serde_json::Value = serde_json::from_slice(&verify_file(&dir, &["--json"]).stdout).unwrap();
        assert_eq!(
            (json["ok"].as_bool(), json["operator_could_have_chosen"].as_bool()),
            (Some(true), Some(beacon != "quicknet"))
        );
    }
    let out = base.path().join("empty").display().to_string();
    let empty = run(&["draw", "rehearse", "--entries", "0", "--seed", "9", "--out", &out]);
    assert!(empty.status.code() == Some(2) && text(&empty).contains("0 is not in 1..=10000000"), "{}", text(&empty));
    // A source whose signatures nobody here can check: everything else is recomputed, but nothing is proven.
    let dir = base.path().join("none/sale");
    let bent = fs::read_to_string(dir.join("transcript.json")).unwrap();
    let moon = r#""beacon": {"source":"moon","round":5,"value":"00","signature":""}"#
        .replace("\"00\"", &format!("\"{}\"", "00".repeat(32)));
    fs::write(dir.join("transcript.json"), bent.replace("\"beacon\": null", &moon)).unwrap();
    let out = verify_file(&dir, &[]);
    assert!(text(&out).contains("UNPROVEN beacon: this program cannot check") && out.status.code() == Some(1), "{}", text(&out));
}

#[test]
fn every_substitution_in_the_files_is_named() {
    let base = tempfile::tempdir().unwrap();
    let dir = rehearsed(base.path(), &[]);
    let (transcript, list) = (dir.join("transcript.json"), dir.join("entries.csv"));
    let (good, good_list) = (fs::read_to_string(&transcript).unwrap(), fs::read_to_string(&list).unwrap());
    let json: serde_json::Value = serde_json::from_str(&good).unwrap();
    let word = |key: &str| json[key].as_str().unwrap().to_owned();
    let flip = |hex: &str| format!("{}{}", if hex.starts_with('0') { "1" } else { "0" }, &hex[1..]);
    let row = good_list.lines().find(|l| l.contains(",16,")).unwrap();
    let fields: Vec<&str> = row.split(',').collect();
    let other_place = if fields[3] == "0" { "1" } else { "0" };
    let round = json["beacon"]["round"].to_string();
    let cases = [
        (good.replace(&word("secret"), &flip(&word("secret"))), good_list.clone(), "the secret was substituted"),
        (good.replace("\\\"stock\\\":500", "\\\"stock\\\":900"), good_list.clone(), "rules_json was changed"),
        (good.replace(&format!("\"round\": {round}"), "\"round\": 99"), good_list.clone(), "the round was substituted"),
        (good.clone(), good_list.replace(row, &row.replace(",16,", ",8,")), "an entry or a weight was substituted"),
        (good.clone(), good_list.replace(fields[1], &flip(fields[1])), "an entry or a weight was substituted"),
        (
            good.clone(),
            good_list.replace(row, &format!("{},{},16,{other_place}", fields[0], fields[1])),
            "the place was substituted",
        ),
    ];
    for (t, l, word) in cases {
        assert!(t != good || l != good_list, "{word}: nothing was bent");
        fs::write(&transcript, t).unwrap();
        fs::write(&list, l).unwrap();
        let out = verify_file(&dir, &[]);
        assert!(text(&out).contains(word) && out.status.code() == Some(1), "{word}: {}", text(&out));
    }
    fs::write(&transcript, &good).unwrap();
    fs::write(&list, &good_list).unwrap();
    let other = verify_file(&dir, &["--commitment", &flip(&word("commitment"))]);
    assert!(text(&other).contains("published before the sale") && other.status.code() == Some(1), "{}", text(&other));
    assert!(verify_file(&dir, &["--commitment", &word("commitment"), "--public-key", &word("public_key")]).status.success());
}

#[test]
fn a_receipt_is_proven_and_a_dropped_one_convicts() {
    let base = tempfile::tempdir().unwrap();
    let dir = rehearsed(base.path(), &[]);
    let receipt =
        fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).find(|p| p.display().to_string().contains("receipt")).unwrap();
    let (transcript, receipt) = (dir.join("transcript.json").display().to_string(), receipt.display().to_string());
    let proof = run(&["draw", "receipt", &transcript, &receipt]);
    let proof: serde_json::Value = serde_json::from_slice(&proof.stdout).unwrap();
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&transcript).unwrap()).unwrap();
    assert!(proof["root"] == json["root"] && proof["path"].as_array().unwrap().len() == 9 && proof["place"].is_number());
    assert!(text(&verify_file(&dir, &["--receipt", &receipt])).contains("is in the list, place"));
    let list = fs::read_to_string(dir.join("entries.csv")).unwrap();
    let id = proof["entry_id"].as_str().unwrap();
    fs::write(dir.join("entries.csv"), list.replace(id, &"ab".repeat(16))).unwrap();
    let out = run(&["draw", "receipt", &transcript, &receipt]);
    assert!(text(&out).contains("This receipt proves it") && out.status.code() == Some(1), "{}", text(&out));
}

#[test]
fn a_draw_by_hand_waits_for_its_round_and_freezes_once() {
    let base = tempfile::tempdir().unwrap();
    let path = |name: &str| base.path().join(name).display().to_string();
    let beacon = LocalBeacon::new(&[4; 32]);
    let rules = format!(
        r#"{{"order":"draw_then_fifo","weights":{{"human":16,"unsure":8}},"beacon":{{"source":"{}","delay_s":10}}}}"#,
        beacon.source()
    );
    fs::write(path("rules.json"), rules).unwrap();
    let dir = path("drop");
    let promise = run(&["draw", "commit", "--sale", "drop", "--rules", &path("rules.json"), "--dir", &dir]);
    let promise: serde_json::Value = serde_json::from_slice(&promise.stdout).unwrap();
    let again = run(&["draw", "commit", "--sale", "drop", "--rules", &path("rules.json"), "--dir", &dir]);
    assert!(text(&again).contains("a promise is made once"), "{}", text(&again));
    let mut list = format!("{}\n", entries::HEADER);
    for index in 0..5 {
        let receipt = run(&["draw", "issue", &dir, &index.to_string()]);
        fs::write(path(&format!("{index}.json")), &receipt.stdout).unwrap();
        let receipt: serde_json::Value = serde_json::from_slice(&receipt.stdout).unwrap();
        list += &format!("{index},{},{},\n", receipt["entry_id"].as_str().unwrap(), if index < 3 { 16 } else { 8 });
    }
    fs::write(path("list.csv"), &list).unwrap();
    fs::write(path("other.csv"), list.replace(",8,", ",16,")).unwrap();
    let frozen = run(&["draw", "run", &dir, "--entries", &path("list.csv")]);
    let frozen: serde_json::Value = serde_json::from_slice(&frozen.stdout).unwrap();
    let round = frozen["frozen"]["round"].as_u64().unwrap();
    let other = run(&["draw", "run", &dir, "--entries", &path("other.csv")]);
    assert!(text(&other).contains("a list is frozen once"), "{}", text(&other));
    let draw = |round: u64| {
        fs::write(path("round.json"), serde_json::to_string(&beacon.round(round)).unwrap()).unwrap();
        run(&["draw", "run", &dir, "--entries", &path("list.csv"), "--beacon", &path("round.json")])
    };
    assert!(text(&draw(round + 1)).contains(&format!("promised is round {round}")));
    assert!(draw(round).status.success());
    let commitment = promise["commitment"].as_str().unwrap();
    let out = verify_file(&base.path().join("drop"), &["--commitment", commitment, "--receipt", &path("4.json")]);
    assert!(out.status.success() && text(&out).contains("entry 4 is in the list"), "{}", text(&out));
}

/// Promises by hand in `base/drop`.
fn commit(base: &Path, sale: &str, rules: &str) -> Output {
    let (file, dir) = (base.join("rules.json").display().to_string(), base.join("drop").display().to_string());
    fs::write(&file, rules).unwrap();
    run(&["draw", "commit", "--sale", sale, "--rules", &file, "--dir", &dir])
}

#[test]
fn a_weight_that_verify_would_call_wrong_is_refused_before_the_freeze() {
    let (person, void) = ("0b".repeat(16), "00".repeat(16));
    let table = r#"{"human":16,"unsure":8,"crowded":2,"suspect":1}"#;
    let with_zero = r#"{"human":16,"suspect":0}"#;
    for (table, bad, good) in [
        (table, vec![(&person, 5), (&person, 0)], [(&person, 8), (&void, 0)]),
        (with_zero, vec![(&person, 8)], [(&person, 0), (&void, 0)]),
    ] {
        let base = tempfile::tempdir().unwrap();
        let (dir, file) = (base.path().join("drop"), base.path().join("list.csv").display().to_string());
        let made = commit(base.path(), "drop", &format!(r#"{{"order":"draw_then_fifo","weights":{table}}}"#));
        assert!(made.status.success(), "{}", text(&made));
        let draw = |rows: &[(&String, u8)]| {
            let rows = (1..).zip(rows).map(|(i, (id, weight))| format!("{i},{id},{weight},\n")).collect::<String>();
            fs::write(&file, format!("{}\n0,{},16,\n{rows}", entries::HEADER, "0a".repeat(16))).unwrap();
            run(&["draw", "run", &dir.display().to_string(), "--entries", &file])
        };
        for (id, weight) in bad {
            // The last of three: neither the first line nor the first entry.
            let out = draw(&[good[0], (id, weight)]);
            let (said, place) = (text(&out), format!("{file}: line 4: entry 2: weight {weight} is not in the rules' table"));
            let instead = if table == with_zero { "write one of 16, 0" } else { "write one of 16, 8, 2, 1" };
            assert!(said.contains(&place) && said.contains(instead) && out.status.code() == Some(1), "{said}");
            for left in ["frozen.json", "entries.csv", "transcript.json"] {
                assert!(!dir.join(left).exists(), "weight {weight} of {table}: {left} was written");
            }
        }
        let out = draw(&good);
        assert!(out.status.success(), "{}", text(&out));
        let out = verify_file(&dir, &[]);
        assert!(out.status.success(), "{}", text(&out));
    }
}

#[test]
fn rules_that_nobody_can_draw_by_are_not_promised() {
    let base = tempfile::tempdir().unwrap();
    let rules = |order: &str, weights: &str| format!(r#"{{"order":{order},"weights":{weights}}}"#);
    let drawn = |weights: &str| rules(r#""draw_then_fifo""#, weights);
    let cases = [
        (rules(r#""x""#, r#"{"human":16}"#), r#"`order` is "x"; write "draw_then_fifo""#),
        (rules(r#""draw_every 0s""#, r#"{"human":16}"#), r#"`order` is "draw_every 0s"; write"#),
        (rules("5", r#"{"human":16}"#), "`order` is 5; write"),
        (r#"{"weights":{"human":16}}"#.into(), "`order` is missing; write"),
        (r#"{"order":"fifo"}"#.into(), "`weights` is missing; write the balls of each class, 0 to 16"),
        (drawn("[16]"), "`weights` is [16]; write"),
        (drawn(r#"{"human":99999999999}"#), "`weights.human` is 99999999999; write a whole number from 0 to 16"),
        (drawn(r#"{"human":16,"other":17}"#), "`weights.other` is 17; write"),
        (drawn(r#"{"human":-1}"#), "`weights.human` is -1; write"),
        (drawn(r#"{"human":1.5}"#), "`weights.human` is 1.5; write"),
        (drawn(r#"{"human":"16"}"#), r#"`weights.human` is "16"; write"#),
        (drawn(r#"{"human":null}"#), "`weights.human` is null; write"),
        (drawn(r#"{"human":0}"#), "`weights` has none above 0: nobody would have a ball in the drum"),
        (drawn("{}"), "`weights` has none above 0: nobody would have a ball in the drum"),
        ("[]".into(), "rules are a JSON object; write"),
    ];
    for (rules, wanted) in cases {
        let out = commit(base.path(), "drop", &rules);
        let said = text(&out);
        assert!(said.contains(&format!("rules.json: {wanted}")), "{rules}: {said}");
        assert!(out.status.code() == Some(2) && !base.path().join("drop").exists(), "{rules}: {said}");
    }
    let long = "x".repeat(65);
    for name in ["h 3/../x", "", "a#1", "a.b", "käse", long.as_str()] {
        let out = commit(base.path(), name, &drawn(r#"{"human":16}"#));
        let wanted = format!("--sale: `{name}` is not a name; write letters, digits, `-` and `_`, 1 to 64 of them");
        assert!(text(&out).contains(&wanted) && out.status.code() == Some(2), "{name}: {}", text(&out));
        assert!(!base.path().join("drop").exists(), "{name}");
    }
}

#[test]
fn rules_of_the_gate_and_further_promises_are_taken() {
    let invented = |beacon, window| Rehearsal { entries: 0, seed: 5, beacon, window }.run().transcript.rules_json;
    for rules in [
        invented(RehearsalBeacon::None, None),
        invented(RehearsalBeacon::Local, Some(3)),
        invented(RehearsalBeacon::Published(published_round()), None),
        r#"{"order":"fifo","weights":{"human":16.0,"friend":0},"note":{"two":"a person"},"beacon":null}"#.into(),
        r#"{"order":"draw_every 1h","weights":{"everybody":1}}"#.into(),
    ] {
        let base = tempfile::tempdir().unwrap();
        let out = commit(base.path(), &"Drop_1-x".repeat(8), &rules);
        assert!(out.status.success() && base.path().join("drop/secret.json").exists(), "{rules}: {}", text(&out));
    }
}

#[test]
fn no_receipt_is_signed_for_an_entry_outside_the_frozen_list() {
    // Frozen and waiting for its round, and drawn at once.
    for beacon in [r#"{"source":"drand-quicknet","delay_s":10}"#, "null"] {
        let base = tempfile::tempdir().unwrap();
        let made =
            commit(base.path(), "drop", &format!(r#"{{"order":"draw_then_fifo","weights":{{"human":16}},"beacon":{beacon}}}"#));
        assert!(made.status.success(), "{}", text(&made));
        let (dir, file) = (base.path().join("drop").display().to_string(), base.path().join("list.csv").display().to_string());
        let issue = |index: &str| run(&["draw", "issue", &dir, index]);
        let mut list = format!("{}\n", entries::HEADER);
        for index in 0..2 {
            let receipt: serde_json::Value = serde_json::from_slice(&issue(&index.to_string()).stdout).unwrap();
            list += &format!("{index},{},16,\n", receipt["entry_id"].as_str().unwrap());
        }
        let last = issue("1");
        assert!(issue("2").status.success(), "nothing is frozen: it may still enter");
        fs::write(&file, list).unwrap();
        let out = run(&["draw", "run", &dir, "--entries", &file]);
        assert!(out.status.success(), "{}", text(&out));
        for index in ["2", "18446744073709551615"] {
            let out = issue(index);
            let said = text(&out);
            assert!(said.contains(&format!("entry {index} is not in the list")) && said.contains("has 2 entries"), "{said}");
            assert!(out.status.code() == Some(1) && out.stdout.is_empty(), "{said}");
        }
        assert!(last.status.success() && issue("1").stdout == last.stdout, "an entry of the list gets its receipt again");
    }
}

#[test]
fn grinding_is_shown() {
    let out = run(&["draw", "grind", "--entries", "2000", "--among", "5", "--json"]);
    let ground: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(ground["place_without_beacon"].as_u64().unwrap() < 5, "{ground}");
}
