//! Thresholds tried on a real journal, and a refusal that its visitor can ask about.

use serde_json::Value;

use crate::{
    program::{run, text},
    support::{Client, Shop, gate},
};

const POLICY: &str = r#"
version: 1
listen: [ { address: 127.0.0.1:0 } ]
shop: { upstreams: [ { address: "{shop}" } ] }
routes:
  - { name: forbidden, match: { prefix: /forbidden } }
  - { name: unsure, match: { prefix: /unsure } }
  - { name: shop }
filters:
  - bot_gate: { refuse_at: 0.000001, when_unscored: admit, runtime: builtin, routes: [forbidden] }
  - bot_gate: { challenge_at: 0.000001, when_unscored: admit, runtime: builtin, routes: [unsure] }
  - bot_gate: { to_the_back_at: 0.99, when_unscored: admit, runtime: builtin, routes: [shop] }
journal: { directory: "{dir}/journal" }
"#;

fn json(out: &std::process::Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(out)))
}

#[test]
fn who_is_refused_can_quote_a_reference_and_thresholds_are_tried_on_the_journal() {
    let (shop, dir) = (Shop::start(), tempfile::tempdir().unwrap());
    let policy = POLICY.replace("{dir}", &dir.path().display().to_string());
    let gate = gate(&policy, shop.address, dir.path());
    let address = gate.addresses()[0];
    let mut person = Client::browser(address);
    assert_eq!(person.get("/").status, 200);
    let told = Client::app(address).get("/forbidden").json();
    let page = person.get("/forbidden");
    assert_eq!((page.status, &told["reason"]), (403, &"SCORE_REFUSE".into()));
    let reference = told["reference"].as_str().unwrap().to_owned();
    let on_page = page.body.split("SCORE_REFUSE ").nth(1).map(|rest| rest[..14].to_owned()).expect("the page shows one");
    let challenged = person.get("/unsure");
    assert_eq!(challenged.header("tidegate-verdict"), Some("challenge"), "{challenged:?}");
    let on_challenge = challenged.body.split("SCORE_CHALLENGE ").nth(1).map(|rest| rest[..14].to_owned()).expect("one there too");
    drop(gate);

    let journal = dir.path().join("journal").display().to_string();
    let explained = json(&run(&["bots", "explain", &reference.to_lowercase(), "--from", &journal, "--json"]));
    assert_eq!((&explained[0]["path"], &explained[0]["verdict"]), (&"/forbidden".into(), &"refuse".into()));
    assert_eq!(explained[0]["same"], true, "the score again, to the bit: {explained}");
    let words = run(&["bots", "explain", &on_page, "--from", &journal]);
    assert!(text(&words).contains("again    the same, to the bit"), "{}", text(&words));
    let challenge = json(&run(&["bots", "explain", &on_challenge, "--from", &journal, "--json"]));
    assert_eq!(challenge[0]["reason"], "SCORE_CHALLENGE");
    let unknown = run(&["bots", "explain", "0000-0000-0000", "--from", &journal]);
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown));

    let answer = json(&run(&["bots", "what-if", "--from", &journal, "--refuse-at", "0", "--json"]));
    let (visitors, would) = (&answer["what_if"]["visitors"], &answer["what_if"]["would"]["refuse"]);
    assert!(*visitors == 2 && visitors == would, "everybody scores at least 0: {answer}");
    assert!(answer["counted"]["visitors"].as_str().unwrap().contains("each visitor once"), "{answer}");
    let nobody = json(&run(&["bots", "what-if", "--from", &journal, "--refuse-at", "1", "--json"]));
    assert_eq!(nobody["what_if"]["would"]["refuse"], 0);
    assert_eq!(run(&["bots", "what-if", "--from", &journal]).status.code(), Some(2), "no threshold");
    let file = dir.path().join("policy.yaml").display().to_string();
    std::fs::write(&file, policy.replace("{shop}", "127.0.0.1:1")).unwrap();
    let by_route = json(&run(&["bots", "what-if", "--from", &journal, "--policy", &file, "--json"]));
    let would = &by_route["what_if"]["would"];
    assert_eq!((&would["refuse"], &by_route["thresholds"][1]["routes"][0]), (&2.into(), &"unsure".into()), "{by_route}");
    assert_eq!(by_route["thresholds"][2]["to_the_back_at"], 0.99, "as it was written: {by_route}");
    let words = text(&run(&["bots", "what-if", "--from", &journal, "--policy", &file, "--throttle-to", "7/min"]));
    assert!(words.contains("with: challenge from 0.000001 on unsure"), "{words}");
    assert!(words.contains("each by the strongest of all its visits"), "{words}");

    // Another model is run in blocks; this one says what it said visit by visit, whatever runs it.
    let rescored =
        |more: &[&str]| run(&[&["bots", "what-if", "--from", &journal, "--refuse-at", "0.5", "--json"], more].concat());
    let told = json(&rescored(&[]));
    let again = json(&rescored(&["--model", "builtin", "--runtime", "builtin"]));
    assert_eq!((&again["what_if"], &again["read"]), (&told["what_if"], &told["read"]));
    assert_eq!(rescored(&["--runtime", "builtin"]).status.code(), Some(2), "of which model?");
    assert_eq!(rescored(&["--model", "builtin", "--runtime", "cuda"]).status.code(), Some(2));
    if tidegate_models::session::Engine::choose(tidegate_filters::rule::bot_gate::Runtime::Onnxruntime).is_ok() {
        let device = rescored(&["--model", "builtin", "--runtime", "onnxruntime-cuda"]);
        let said = String::from_utf8_lossy(&device.stderr);
        assert!(said.contains("no CUDA device can be used") != said.is_empty(), "{said}");
        assert_eq!(json(&device)["what_if"]["would"], told["what_if"]["would"]);
    }

    let labels = dir.path().join("labels.csv").display().to_string();
    let queue = json(&run(&["bots", "label", "--from", &journal, "--labels", &labels, "--json"]));
    let ids: Vec<&str> = queue.as_array().unwrap().iter().map(|c| c["visitor"].as_str().unwrap()).collect();
    let (person, program) = (format!("{}=person", ids[0]), format!("{}=program", ids[1]));
    assert!(
        run(&["bots", "label", "--labels", &labels, "--set", &person, "--set", &program, "--note", "known"]).status.success()
    );
    let wrong = run(&["bots", "label", "--labels", &labels, "--set", "12=person"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
    let page = dir.path().join("curve.html").display().to_string();
    let curve =
        json(&run(&["bots", "curve", "--from", &journal, "--labels", &labels, "--policy", &file, "--json", "--html", &page]));
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!((page.matches("<svg").count(), page.contains("cannot be drawn")), (2, false), "{page}");
    assert!(page.contains("class=\"best\"><td>0.99</td>"), "where the policy acts: {page}");
    assert_eq!((&curve["people"], &curve["programs"]), (&1.into(), &1.into()));
}
