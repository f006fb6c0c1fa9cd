//! The gate is killed at random moments under load; what it told people before stays true after it.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tidegate_gateway::{
    keys::Keys,
    tally::{Of, Tally},
};
use tidegate_models::journal::{self, JournalReader};

use crate::{
    crowd::{Book, visitor},
    program::tidegate,
    support::Shop,
};

const SEATS: u32 = 12;
const RATE: u32 = 60;
/// At the same time; each leaves after a short visit and comes back as somebody else.
const VISITORS: usize = 24;

const POLICY: &str = r#"
version: 1
listen: [ { address: "{listen}" } ]
shop: { upstreams: [ { address: "{shop}" } ] }
connections: { per_network_max: 10000 }
filters: [ { waiting_room: { room: drop } } ]
rooms:
  - { name: drop, seats: { max: 12, pass_idle: 4s, pass_age_max: 8s }, admission: { fixed: 60/s }, arm: {arm}, on_failure: freeze }
journal: { directory: "{dir}/journal" }
keys: { directory: "{dir}/keys" }
state: { directory: "{dir}/state", budget: 3s }
"#;

/// The program, and the line of its log that says it is ready.
pub fn start(policy: &Path) -> Child {
    let mut child = tidegate().args(["serve", "--policy"]).arg(policy).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut said = Vec::new();
    let ready = lines.by_ref().inspect(|l| said.push(l.clone())).any(|l| l.contains("ready"));
    assert!(ready, "it does not start: {said:#?}");
    // Nobody reads on: the pipe must not fill up.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn policy(dir: &Path, listen: SocketAddr, shop: SocketAddr, arm: &str) -> std::path::PathBuf {
    let text = POLICY.replace("{listen}", &listen.to_string()).replace("{shop}", &shop.to_string());
    let text = text.replace("{dir}", &dir.display().to_string()).replace("{arm}", arm);
    let file = dir.join("policy.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

/// A port nobody else uses now: the gate comes back on the same one.
pub fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// xorshift64*: which moments are tried is in the message of a failure.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % n
    }
}

fn kill_under_load(kills: u64, seed: u64, arm: &str) {
    let dir = tempfile::tempdir().unwrap();
    let shop = Shop::start();
    let address = free_port();
    let policy = policy(dir.path(), address, shop.address, arm);
    let mut random = Random(seed);
    let mut gate = start(&policy);
    let keyring = Keys::open(&dir.path().join("keys")).unwrap().ring;
    let book = Arc::new(Book::new(keyring, SEATS, RATE));
    let stop = Arc::new(AtomicBool::new(false));
    let crowd: Vec<_> = (0..VISITORS)
        .map(|i| {
            let (book, stop) = (book.clone(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    visitor(address, i, &book, &stop);
                }
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(60 + random.below(500)));
        gate.kill().unwrap();
        gate.wait().unwrap();
        book.killed();
        let since = Instant::now();
        gate = start(&policy);
        slowest = slowest.max(since.elapsed());
    }
    std::thread::sleep(Duration::from_millis(1_500));
    stop.store(true, Ordering::Relaxed);
    crowd.into_iter().for_each(|t| t.join().unwrap());
    gate.kill().unwrap();
    gate.wait().unwrap();
    every_request_has_a_row_or_is_counted(dir.path(), &policy, &book);
    let faults = book.judge();
    assert!(
        faults.is_empty(),
        "seed {seed}, {kills} kills: {} faults, first ones:\n{}",
        faults.len(),
        faults[..faults.len().min(10)].join("\n")
    );
    let (places, passes, unanswered) = book.sums();
    println!(
        "{kills} kills, seed {seed}: {places} places, {passes} passes, {unanswered} requests cut off; slowest start {slowest:?}"
    );
    assert!(places > 4 * kills && passes > 3 * kills && unanswered > 0, "{places} places, {passes} passes, {unanswered} cut off");
}

/// One more life settles the last kill and ends well; then the sums must agree.
fn every_request_has_a_row_or_is_counted(dir: &Path, policy: &Path, book: &Book) {
    let mut gate = start(policy);
    Command::new("kill").args(["-TERM", &gate.id().to_string()]).status().unwrap();
    assert!(gate.wait().unwrap().success());
    let journal = dir.join("journal");
    let (tally, lost) = Tally::open(&journal).unwrap();
    assert_eq!(lost, 0, "a graceful stop loses nothing");
    let files = journal::list(&journal).unwrap();
    let rows: u64 = files.iter().map(|f| JournalReader::open(f).unwrap().rows_total()).sum();
    let [parsed, dropped, killed] = [Of::Parsed, Of::Dropped, Of::Killed].map(|of| tally.get(of));
    assert_eq!(rows + dropped + killed, parsed, "{rows} rows, {dropped} dropped, {killed} killed");
    assert!(killed > 0 && parsed >= book.answered(), "{killed} killed, {parsed} parsed, {} answered", book.answered());
}

fn kills() -> u64 {
    std::env::var("TIDEGATE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

#[test]
fn nothing_told_is_lost_when_the_gate_is_killed() {
    kill_under_load(kills().div_ceil(2), 42, "always");
}

#[test]
fn nor_when_people_walk_in() {
    kill_under_load(kills() / 2, 43, "auto");
}

#[test]
fn a_second_gate_on_the_same_state_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let shop = Shop::start();
    let mut first = start(&policy(dir.path(), free_port(), shop.address, "always"));
    let second = policy(dir.path(), free_port(), shop.address, "always");
    let out = Command::new(tidegate().get_program()).args(["serve", "--policy"]).arg(second).output().unwrap();
    assert!(!out.status.success());
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("another gate uses it"), "{said}");
    first.kill().unwrap();
    first.wait().unwrap();
}
