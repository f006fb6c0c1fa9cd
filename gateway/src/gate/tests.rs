#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
};

use tidegate_models::journal;

use super::*;
use crate::testing::{Bench, call, save_by_renaming, until};

fn start_error(policy: &str) -> String {
    let loaded = tidegate_config::parse(policy, "test").unwrap();
    Gate::start(GateOptions::new(loaded)).err().map(|e| e.to_string()).expect("an error")
}

#[test]
fn several_gates_run_side_by_side_and_share_nothing() {
    let (one, two) = (Bench::new(), Bench::new());
    let (a, b) = (one.start(""), two.start(""));
    for _ in 0..3 {
        assert_eq!(call(a.addresses()[0], "GET", "/", "", b"").status, 200);
    }
    assert_eq!(call(b.addresses()[0], "GET", "/", "", b"").status, 200);
    let (ended, _) = (a.stop().unwrap(), call(b.addresses()[0], "GET", "/", "", b""));
    assert_eq!(ended.left, 0);
    let rows = |bench: &Bench| {
        let files = journal::list(&bench.journal()).unwrap();
        files.iter().map(|f| journal::read(f).unwrap().len()).sum::<usize>()
    };
    assert_eq!(rows(&one), 3, "the journal is whole when stop returns");
    b.stop().unwrap();
    assert_eq!(rows(&two), 2);
}

#[test]
fn a_stop_lets_the_request_under_way_end_and_takes_no_new_one() {
    let bench = Bench::new();
    let gate = bench.start("");
    let to = gate.addresses()[0];
    let mut slow = TcpStream::connect(to).unwrap();
    write!(slow, "GET /slow HTTP/1.1\r\nHost: shop\r\n\r\n").unwrap();
    until("it is at the shop", || gate.control().shared.counts.parsed.get() == 1);
    let admin = gate.admin_address().unwrap();
    gate.control().shared.stop();
    assert_eq!(call(admin, "GET", "/readyz", "", b"").status, 503, "readiness goes first");
    let drained = gate.stop().unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello\n"), "{answer}");
    assert_eq!(drained.left, 0);
    assert!(TcpStream::connect(to).is_err(), "nobody listens any more");
    assert!(TcpStream::connect(admin).is_err());
}

#[test]
fn what_cannot_work_fails_at_the_start() {
    let bench = Bench::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = taken.local_addr().unwrap();
    let policy = bench.policy("");
    let listener = policy.replace("listen: [{ address: 127.0.0.1:0 }]", &format!("listen: [{{ address: {busy} }}]"));
    assert!(start_error(&listener).contains("another program listens there"), "listener");
    let admin = policy.replace("admin: { address: 127.0.0.1:0", &format!("admin: {{ address: {busy}"));
    assert!(start_error(&admin).contains(&format!("admin listener {busy}")), "admin");
    fs::create_dir(bench.dir.path().join("keys")).unwrap();
    fs::write(bench.dir.path().join("keys/001.key"), "rubbish").unwrap();
    let keys = start_error(&policy);
    assert!(keys.contains("chmod") || keys.contains("64 hexadecimal digits"), "{keys}");
}

#[test]
fn a_saved_file_is_loaded_and_a_bad_one_keeps_the_old_policy() {
    let bench = Bench::new();
    let gate = bench.start("");
    let visit = || call(gate.addresses()[0], "GET", "/", "", b"");
    let pass = visit().head;
    let cookie = pass.lines().find_map(|l| l.strip_prefix("set-cookie: ")).and_then(|c| c.split(';').next()).map(str::to_owned);
    assert!(cookie.is_some_and(|c| c.starts_with("tidegate-")));
    let before = gate.control().rooms()[0].clone();
    assert_eq!(before.walk_ins, 1);

    save_by_renaming(&bench.file(), &bench.policy("own_prefix: /gate/\n"));
    until("the file is loaded", || gate.control().in_force().text.contains("/gate/"));
    assert_eq!(gate.control().rooms()[0].walk_ins, 1, "the room's state is carried over");

    fs::write(bench.file(), bench.policy("own_prefix: nonsense\n")).unwrap();
    until("the refusal is told", || gate.control().in_force().last_refusal.is_some());
    let in_force = gate.control().in_force();
    assert!(in_force.text.contains("/gate/") && in_force.last_refusal.unwrap().contains("policy.yaml:9:"));
    assert_eq!(visit().status, 200);
    let metrics = bench.admin(&gate, "GET", "/metrics", "").body;
    assert!(metrics.contains("tidegate_policy_loads_total{outcome=\"refused\"} 1"), "{metrics}");
    assert!(metrics.contains("tidegate_policy_loads_total{outcome=\"applied\"} 1"), "{metrics}");

    fs::write(bench.file(), bench.policy("")).unwrap();
    until("the mended file is loaded", || !gate.control().in_force().text.contains("/gate/"));
    assert_eq!(gate.control().in_force().last_refusal, None);
}

#[test]
fn a_log_beside_the_policy_does_not_keep_it_from_being_loaded() {
    let bench = Bench::new();
    let gate = bench.start("");
    let (log, over) = (bench.file().with_file_name("other.log"), Arc::new(AtomicBool::new(false)));
    let writer = std::thread::spawn({
        let over = over.clone();
        move || {
            while !over.load(Ordering::Relaxed) {
                fs::write(&log, "a line").unwrap();
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    });
    std::thread::sleep(Duration::from_millis(200));
    fs::write(bench.file(), bench.policy("own_prefix: /gate/\n")).unwrap();
    until("the file is loaded", || gate.control().in_force().text.contains("/gate/"));
    over.store(true, Ordering::Relaxed);
    writer.join().unwrap();
}

#[test]
fn a_reload_on_demand_reads_keys_and_certificates_too() {
    let bench = Bench::new();
    let gate = bench.start("");
    crate::keys::Keys::rotate(&bench.dir.path().join("keys")).unwrap();
    let pass = || {
        let head = call(gate.addresses()[0], "GET", "/", "", b"").head;
        let cookie = head.lines().find_map(|l| l.strip_prefix("set-cookie: tidegate-pass-drop=")).unwrap();
        cookie.to_owned()
    };
    // Version, kind and key id are the first three bytes: 4 characters of base64 (lower-cased here).
    assert_eq!(&pass()[..4], "aqib");
    gate.reload();
    until("the new key signs", || &pass()[..4] == "aqic");
}
