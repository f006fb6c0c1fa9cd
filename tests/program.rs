//! The program as a user types it.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use tidegate_filters::rule::bot_gate::Runtime;
use tidegate_models::{Scorer, scorer::BUILTIN, session::Engine};

use crate::support::{Client, Shop, skip};

/// The binary beside this test's own: `cargo test --workspace` builds it.
pub fn tidegate() -> Command {
    let mut dir = std::env::current_exe().unwrap();
    dir.pop();
    dir.pop();
    let binary = dir.join("tidegate");
    assert!(binary.exists(), "{binary:?} is not built: run `cargo test --workspace`, or `cargo build -p tidegate-gateway` first");
    Command::new(binary)
}

pub fn run(args: &[&str]) -> Output {
    tidegate().args(args).output().unwrap()
}

pub fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn policies() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../config/policies")
}

#[test]
fn every_example_policy_is_checked_and_explained() {
    for entry in std::fs::read_dir(policies()).unwrap().map(|e| e.unwrap().path()) {
        let file = entry.display().to_string();
        let checked = run(&["check", &file]);
        assert!(checked.status.success(), "{file}: {}", text(&checked));
        let explained = run(&["explain", &file]);
        assert!(explained.status.success() && explained.stdout.len() > 200, "{}", text(&explained));
    }
}

/// What a start would fail for, or warn of, `check` says.
#[test]
fn check_looks_at_what_runs_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml").display().to_string();
    let text_of = "version: 1\nlisten: [ { address: 127.0.0.1:0 } ]\nshop: { upstreams: [ { address: 127.0.0.1:1 } ] }\n\
                   filters: [ { bot_gate: { challenge_at: 0.5, when_unscored: admit, runtime: onnxruntime-cuda } } ]\n";
    std::fs::write(&file, text_of).unwrap();
    let missing = tidegate().args(["check", &file]).env("TIDEGATE_ONNXRUNTIME", dir.path().join("none.so")).output().unwrap();
    let said = text(&missing);
    assert!(missing.status.code() == Some(1) && said.contains("filters[0].bot_gate.runtime: "), "{said}");
    assert!(said.contains("none.so (TIDEGATE_ONNXRUNTIME): ONNX Runtime cannot be loaded: "), "{said}");
    if Engine::choose(Runtime::Onnxruntime).is_err() {
        return skip("onnxruntime", "no ONNX Runtime (make onnxruntime, or set TIDEGATE_ONNXRUNTIME)");
    }
    if Scorer::open(BUILTIN, Runtime::OnnxruntimeCuda, 1).unwrap().runs_on() == Runtime::OnnxruntimeCuda {
        return skip("no-cuda", "this machine has a device");
    }
    let said = text(&run(&["check", &file]));
    assert!(said.contains("good, 2 warnings") && said.contains("no CUDA device can be used ("), "{said}");
    assert!(!text(&run(&["check", "--skip-files", &file])).contains("no CUDA device"));
}

#[test]
fn check_says_where_what_and_what_instead() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    std::fs::write(&file, "version: 1\nlisten: [ { address: 127.0.0.1:0 } ]\nshop:\n  upstreams: [ { adress: 127.0.0.1:1 } ]\n")
        .unwrap();
    let out = run(&["check", &file.display().to_string()]);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    let said = text(&out);
    assert!(said.contains("bad.yaml:4:18") && said.contains("address"), "{said}");
    let json = run(&["check", "--json", &file.display().to_string()]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json.to_string().contains("adress"), "{json}");
}

#[test]
fn help_has_examples_and_schema_is_json() {
    for args in [&["--help"][..], &["serve", "--help"], &["check", "--help"], &["explain", "--help"], &["journal", "--help"]] {
        let out = run(args);
        assert!(out.status.success() && text(&out).contains("tidegate "), "{args:?}: {}", text(&out));
        assert!(text(&out).to_lowercase().contains("example"), "{args:?} shows no example");
    }
    let schema: serde_json::Value = serde_json::from_slice(&run(&["schema"]).stdout).unwrap();
    assert!(schema["properties"]["listen"].is_object(), "{schema}");
}

#[test]
fn a_port_in_use_is_an_error_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let out = run(&["serve", "--upstream", "http://127.0.0.1:9", "--listen", &address]);
    assert!(!out.status.success());
    assert!(text(&out).contains(&address), "{}", text(&out));
}

#[test]
fn serve_without_a_policy_forwards_and_stops_gracefully() {
    let shop = Shop::start();
    let upstream = format!("http://{}", shop.address);
    let mut command = tidegate();
    command.args(["serve", "--upstream", &upstream, "--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (tx, rx) = std::sync::mpsc::channel();
    for stream in
        [Box::new(child.stdout.take().unwrap()) as Box<dyn std::io::Read + Send>, Box::new(child.stderr.take().unwrap())]
    {
        let tx = tx.clone();
        std::thread::spawn(move || BufReader::new(stream).lines().map_while(Result::ok).for_each(|l| drop(tx.send(l))));
    }
    drop(tx);
    let mut said = Vec::new();
    let address = rx.iter().find_map(|line| {
        said.push(line.clone());
        let at = line.find("127.0.0.1:")?;
        let rest: String = line[at..].chars().take_while(|c| c.is_ascii_digit() || *c == '.' || *c == ':').collect();
        rest.parse().ok().filter(|a: &std::net::SocketAddr| a.port() != 0 && *a != shop.address)
    });
    let address = address.unwrap_or_else(|| panic!("it says where it listens: {said:?}"));
    let mut browser = Client::browser(address);
    let page = browser.get("/");
    assert_eq!((page.status, page.body.as_str()), (200, "hello   1"), "{page:?}");
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(child.wait().unwrap().success(), "{:?}", rx.iter().collect::<Vec<_>>());
}

#[test]
fn pages_are_printed_changed_checked_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    std::fs::create_dir(file("words")).unwrap();
    let words = String::from_utf8(run(&["page", "words"]).stdout).unwrap();
    std::fs::write(file("words/pt.json"), words.replace("You are in line", "Está na fila")).unwrap();
    let template = String::from_utf8(run(&["page", "template"]).stdout).unwrap();
    let own = template.replace("<body>", "<body><p>Sneakers &amp; Co</p>");
    std::fs::write(file("own.html"), &own).unwrap();
    let path = dir.path().display().to_string();
    let policy = format!(
        "version: 1\nlisten: [ {{ address: 127.0.0.1:0 }} ]\nshop: {{ upstreams: [ {{ address: \"{{shop}}\" }} ] }}\n\
         filters: [ {{ waiting_room: {{ room: drop }} }} ]\nrooms:\n  - name: drop\n    arm: always\n    \
         page: {{ languages: [pt], translations: {path}/words, template: {path}/own.html }}\n"
    );
    let shop = Shop::start();
    let written = policy.replace("{shop}", &shop.address.to_string());
    std::fs::write(file("policy.yaml"), &written).unwrap();
    let check = || run(&["check", &file("policy.yaml").display().to_string()]);
    assert!(check().status.success(), "{}", text(&check()));
    let running = crate::support::gate(&policy, shop.address, dir.path());
    let page = Client::browser(running.addresses()[0]).get("/").body;
    assert!(page.contains("<html lang=\"pt\"") && page.contains("Está na fila") && page.contains("Sneakers &amp; Co"), "{page}");
    // A template that would let a value out is refused, with its line.
    std::fs::write(file("own.html"), own.replace("<body>", "<body><a href=\"{{ message }}\">more</a>")).unwrap();
    let refused = text(&check());
    assert!(refused.contains("rooms[0].page") && refused.contains("own.html: line ") && refused.contains("urls."), "{refused}");
    assert_eq!(run(&["page", "words", "xx"]).status.code(), Some(2));
}

#[test]
fn a_bypass_from_the_command_line_goes_past_the_room() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys").display().to_string();
    let make = |more: &[&str]| run(&[&["keys", "bypass", &keys, "--host", "shop.example"], more].concat());
    let nowhere = make(&[]);
    assert_eq!(nowhere.status.code(), Some(2), "no gate has keys that this would make");
    assert!(text(&nowhere).contains("has no keys") && !dir.path().join("keys").exists(), "{}", text(&nowhere));
    assert!(run(&["keys", "rotate", &keys, "--first"]).status.success());
    let made: serde_json::Value = serde_json::from_slice(&make(&["--room", "drop", "--for", "1h", "--json"]).stdout).unwrap();
    let policy = "version: 1\nlisten: [ { address: 127.0.0.1:0 } ]\nshop: { upstreams: [ { address: \"{shop}\" } ] }\n\
                  filters: [ { waiting_room: { room: drop } } ]\nrooms: [ { name: drop, arm: always } ]\nkeys: { directory: \"{dir}/keys\" }\n";
    let shop = Shop::start();
    let gate = crate::support::gate(policy, shop.address, dir.path());
    let address = gate.addresses()[0];
    assert_eq!(Client::app(address).get("/").json()["state"], "waiting");
    let mut staff = Client::app(address);
    assert_eq!(staff.get(made["path"].as_str().unwrap()).status, 303);
    assert!(staff.get("/stock").body.starts_with("hello") && shop.seen().len() == 1);
    assert!(!shop.seen()[0].headers.iter().any(|(_, v)| v.contains("tidegate")), "the token stops at the gate");
    let said = text(&make(&[]));
    assert!(said.contains("https://shop.example/.tidegate/bypass?token=") && said.contains("id "), "{said}");
    assert_eq!(make(&["--for", "100d"]).status.code(), Some(2));
}

#[test]
fn series_that_cannot_be_judged_and_files_that_would_be_lost_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let write = |name: &str, step: u64, rows: u64| {
        let rows: String = (0..rows).map(|i| format!("{},{}\n", 1_700_000_000 + i * step, 5 + i % 3)).collect();
        std::fs::write(at(name), format!("time,count\n{rows}")).unwrap();
    };
    write("short.csv", 60, 2);
    write("five.csv", 300, 60);
    let short = run(&["evaluate", "forecast", &at("short.csv")]);
    assert!(!short.status.success() && text(&short).contains("2 steps are too few"), "{}", text(&short));
    let runtime = run(&["evaluate", "forecast", &at("five.csv"), "--runtime", "foo"]);
    assert!(!runtime.status.success() && text(&runtime).contains("one of auto, onnxruntime"), "{}", text(&runtime));
    let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/foreign/sklearn.onnx").display().to_string();
    let other = run(&["evaluate", "forecast", &model, &at("five.csv"), "--runtime", "builtin"]);
    assert!(other.status.success() && text(&other).contains("its steps are 300 s and the net"), "{}", text(&other));
    let before = std::fs::read(at("five.csv")).unwrap();
    let over = run(&["data", "import", &at("five.csv"), "--out", &format!("{}/./five.csv", dir.path().display())]);
    assert!(!over.status.success() && text(&over).contains("would be overwritten"), "{}", text(&over));
    assert_eq!(std::fs::read(at("five.csv")).unwrap(), before);
}

#[test]
fn a_damaged_forecast_model_does_not_keep_the_gate_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("f.onnx");
    std::fs::write(&model, b"no model").unwrap();
    let shop = Shop::start();
    let policy = dir.path().join("p.yaml");
    let text_of = format!(
        "version: 1\nlisten: [ {{ address: 127.0.0.1:0 }} ]\nshop: {{ upstreams: [ {{ address: {} }} ] }}\n\
         filters: [ {{ waiting_room: {{ room: drop }} }} ]\nrooms: [ {{ name: drop, admission: forecast }} ]\n\
         forecast: {{ model: {} }}\n",
        shop.address,
        model.display()
    );
    std::fs::write(&policy, text_of).unwrap();
    let policy = policy.display().to_string();
    let checked = run(&["check", &policy]);
    assert!(!checked.status.success() && text(&checked).contains("forecast.model"), "{}", text(&checked));
    // It ends by itself when the line never comes.
    let mut bounded = Command::new("timeout");
    bounded.arg("30").arg(tidegate().get_program()).args(["serve", "--policy", &policy]);
    let mut gate = bounded.stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(gate.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut said = String::new();
    for line in lines {
        said += &line;
        said.push('\n');
        if line.contains("the forecast's model is refused") {
            break;
        }
    }
    Command::new("kill").args(["-TERM", &gate.id().to_string()]).status().unwrap();
    gate.wait().unwrap();
    assert!(said.contains("experts go on alone") && said.contains("visitors come in"), "{said}");
}
