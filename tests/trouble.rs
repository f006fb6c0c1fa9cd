//! A disk that is full, refuses or hangs, and clocks that step: what each room declared happens, and nobody has to help.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tidegate_gateway::{
    gate::GateOptions,
    store::{Batch, Commit, Local, Store, StoreCounts, StoreError, Table},
};
use tokio::sync::oneshot;

use crate::support::{Answer, Client, Gate, Shop, skip};

const BUDGET: Duration = Duration::from_millis(300);
/// The budget, a tick and a busy machine.
const SOON: Duration = Duration::from_millis(2_300);
const HANGS: Duration = Duration::from_secs(5);

const POLICY: &str = r#"
version: 1
listen: [ { address: 127.0.0.1:0 } ]
admin: { address: 127.0.0.1:0, token_file: "{dir}/admin.token" }
shop: { upstreams: [ { address: "{shop}" } ] }
filters: [ { waiting_room: { room: drop } } ]
rooms:
  - { name: drop, seats: { max: 2 }, admission: { fixed: 100/s }, arm: always, on_failure: {on_failure} }
{more}
keys: { directory: "{dir}/keys" }
state: { directory: "{state}", budget: 300ms }
"#;

/// A store in front of a real one: it refuses, or passes on what it gets after a long time.
#[derive(Debug)]
struct Bad {
    under: Arc<Local>,
    refuses: AtomicBool,
    hangs: Arc<AtomicBool>,
    waiting_since: Arc<std::sync::Mutex<Option<Instant>>>,
    terms: AtomicU64,
    line: mpsc::Sender<(Batch, oneshot::Sender<Result<(), StoreError>>)>,
}

impl Bad {
    fn over(under: Local) -> Arc<Bad> {
        let (line, jobs) = mpsc::channel::<(Batch, oneshot::Sender<_>)>();
        let (hangs, waiting_since, under) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::new(under));
        let bad = Bad {
            under: under.clone(),
            refuses: AtomicBool::new(false),
            hangs: Arc::clone(&hangs),
            waiting_since: Arc::clone(&waiting_since),
            terms: AtomicU64::new(0),
            line,
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            for (batch, answer) in jobs {
                if hangs.load(Ordering::Relaxed) {
                    *waiting_since.lock().unwrap() = Some(Instant::now());
                    std::thread::sleep(HANGS);
                    *waiting_since.lock().unwrap() = None;
                }
                let _ = answer.send(runtime.block_on(under.commit(batch).durable()));
            }
        });
        Arc::new(bad)
    }

    fn late(&self) -> bool {
        self.waiting_since.lock().unwrap().is_some_and(|s| s.elapsed() > BUDGET)
    }
}

impl Store for Bad {
    fn commit(&self, batch: Batch) -> Commit {
        let refuse = |e| {
            if batch.term().is_some_and(|t| t == self.term()) {
                self.terms.fetch_add(1, Ordering::AcqRel);
            }
            Commit::now(Err(e))
        };
        if self.refuses.load(Ordering::Relaxed) {
            return refuse(StoreError::Refused("no space left, says the test".into()));
        }
        if batch.term().is_some_and(|t| t != self.term()) {
            return refuse(StoreError::TermOver);
        }
        if self.late() {
            return refuse(StoreError::Late(BUDGET));
        }
        let (answer, answered) = oneshot::channel();
        self.line.send((batch.in_term(None), answer)).unwrap();
        Commit::later(answered, BUDGET)
    }

    fn scan(&self, table: Table<'_>, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        self.under.scan(table, each)
    }

    fn term(&self) -> u64 {
        self.under.term() + self.terms.load(Ordering::Acquire)
    }

    fn trouble(&self) -> Option<Arc<str>> {
        (self.refuses.load(Ordering::Relaxed) || self.late()).then(|| "the test says so".into())
    }

    fn keeps(&self) -> bool {
        true
    }

    fn close(&self) {
        self.under.close();
    }

    fn counts(&self) -> StoreCounts {
        self.under.counts()
    }
}

pub struct Stage {
    dir: TempDir,
    shop: Shop,
    on_failure: &'static str,
    more: &'static str,
}

impl Stage {
    pub fn new(on_failure: &'static str, more: &'static str) -> Stage {
        Stage { dir: tempfile::tempdir().unwrap(), shop: Shop::start(), on_failure, more }
    }

    pub fn text(&self, state: &std::path::Path) -> String {
        let dir = self.dir.path().display().to_string();
        let text = POLICY.replace("{shop}", &self.shop.address.to_string()).replace("{dir}", &dir).replace("{more}", self.more);
        text.replace("{on_failure}", self.on_failure).replace("{state}", &state.display().to_string())
    }

    fn start(&self, store: Option<Arc<dyn Store>>) -> Gate {
        let state = self.dir.path().join("state");
        let loaded = tidegate_config::parse(&self.text(&state), "policy.yaml").unwrap_or_else(|e| panic!("{e}"));
        Gate::start(GateOptions { store, ..GateOptions::new(loaded) }).unwrap_or_else(|e| panic!("{e}"))
    }

    fn bad_store(&self) -> Arc<Bad> {
        Bad::over(Local::open(&self.dir.path().join("state"), BUDGET).unwrap())
    }
}

pub fn timed(what: &str, ask: impl FnOnce() -> Answer) -> Answer {
    let start = Instant::now();
    let answer = ask();
    assert!(start.elapsed() < SOON, "{what} took {:?}: {answer:?}", start.elapsed());
    answer
}

pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..200 {
        if is() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}: not within 10 s");
}

fn status(who: &mut Client) -> String {
    who.get("/.tidegate/status?room=drop").json()["state"].as_str().unwrap_or_default().to_owned()
}

fn claim(who: &mut Client) -> Answer {
    who.post("/.tidegate/claim", "room=drop&to=/")
}

/// One seat taken, one visitor called for the other one, one waiting; then the disk turns bad.
fn declared(on_failure: &'static str, break_it: impl Fn(&Bad), mend_it: impl Fn(&Bad)) {
    let stage = Stage::new(on_failure, "");
    let bad = stage.bad_store();
    let gate = stage.start(Some(bad.clone()));
    let address = gate.addresses()[0];
    let (mut inside, mut called, mut waiting) = (Client::app(address), Client::app(address), Client::app(address));
    inside.get("/");
    inside.wait_and_claim("drop").unwrap();
    called.get("/");
    eventually("called", || status(&mut called) == "called");
    waiting.get("/");
    let place = waiting.get("/").json()["place"].clone();
    break_it(&bad);
    // Somebody is the first to find out.
    timed("a newcomer, unsuspecting", || Client::app(address).get("/"));
    timed("a claim, unsuspecting", || claim(&mut waiting.clone()));
    eventually("it is known", || bad.trouble().is_some());
    std::thread::sleep(Duration::from_millis(200));

    assert_eq!(timed("a page inside", || inside.get("/page")).status, 200, "those inside stay");
    let newcomer = timed("a newcomer", || Client::app(address).get("/"));
    let claimed = timed("a claim", || claim(&mut called));
    match on_failure {
        "closed" => {
            assert_eq!((newcomer.status, newcomer.header("tidegate-reason")), (503, Some("ROOM_DOWN")), "{newcomer:?}");
            assert!(newcomer.header("retry-after").is_some());
        }
        _ => assert!(newcomer.status == 200 && newcomer.json()["place"].is_number(), "{on_failure}: {newcomer:?}"),
    }
    match on_failure {
        "open_bounded" => assert_eq!(claimed.json()["state"], "seated", "{claimed:?}"),
        _ => assert_eq!((claimed.status, claimed.header("tidegate-reason")), (503, Some("NOT_KEPT")), "{claimed:?}"),
    }
    assert_eq!(waiting.get("/").json()["place"], place, "places are kept");

    mend_it(&bad);
    eventually("it works again", || bad.trouble().is_none());
    if on_failure != "open_bounded" {
        called.wait_and_claim("drop").expect("the claim stayed good");
    }
    assert_eq!(called.get("/page").status, 200);
    let late = Client::app(address).get("/");
    assert!(late.json()["place"].is_number(), "{late:?}");
    std::thread::sleep(Duration::from_millis(300));
    // What was given out, also while the disk was away, outlives a restart by now.
    gate.stop().unwrap();
    let gate = stage.start(None);
    for (who, name) in [(&inside, "inside"), (&called, "called")] {
        let mut who = Client { address: gate.addresses()[0], ..who.clone() };
        assert_eq!(who.get("/page").body, "hello   5", "{name} keeps the pass");
    }
    let again = Client { address: gate.addresses()[0], ..waiting }.get("/").json();
    assert_eq!((&again["place"], &again["restarted"]), (&place, &false.into()));
}

fn refuses(on_failure: &'static str) {
    declared(on_failure, |b| b.refuses.store(true, Ordering::Relaxed), |b| b.refuses.store(false, Ordering::Relaxed));
}

fn hangs(on_failure: &'static str) {
    declared(on_failure, |b| b.hangs.store(true, Ordering::Relaxed), |b| b.hangs.store(false, Ordering::Relaxed));
}

#[test]
fn a_disk_that_refuses_closes_a_room_that_says_closed() {
    refuses("closed");
}

#[test]
fn a_disk_that_refuses_freezes_a_room_that_says_freeze() {
    refuses("freeze");
}

#[test]
fn a_disk_that_refuses_leaves_a_room_open_that_says_so() {
    refuses("open_bounded");
}

#[test]
fn a_disk_that_hangs_closes_a_room_that_says_closed() {
    hangs("closed");
}

#[test]
fn a_disk_that_hangs_freezes_a_room_that_says_freeze() {
    hangs("freeze");
}

#[test]
fn a_disk_that_hangs_leaves_a_room_open_that_says_so() {
    hangs("open_bounded");
}

/// Somebody with a seat, somebody with a place, and that place.
pub fn one_inside_and_one_waiting(gate: &Gate) -> (Client, Client, serde_json::Value) {
    let address = gate.addresses()[0];
    let mut inside = Client::app(address);
    inside.get("/");
    inside.wait_and_claim("drop").unwrap();
    let mut waiting = Client::app(address);
    let place = waiting.get("/").json()["place"].clone();
    (inside, waiting, place)
}

/// A real disk without room: a small file system in memory.
pub struct Small(TempDir);

impl Small {
    pub fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    pub fn mount(bytes: &str) -> Option<Small> {
        let dir = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|o| o.status.success()).then(|| Small(dir))
    }

    pub fn fill(&self) {
        // What did not fit stays as far as it went: 20 files of any size fill 2 MiB.
        for n in 0..20 {
            let _ = std::fs::write(self.0.path().join(format!("filler-{n}")), vec![0u8; 1 << (20 - n)]);
        }
    }

    /// Fills it until the gate's store has no room: its file has some of its own, so something grows until then.
    pub fn run_out(&self, gate: &Gate) {
        self.fill();
        let store = gate.control().shared.store.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let grows = |n: u32| {
            let mut batch = Batch::new();
            batch.put(Table { kind: "test", of: "" }, &n.to_be_bytes(), vec![1; 200_000]);
            runtime.block_on(store.commit(batch).durable())
        };
        assert!((0..50).map(grows).any(|kept| kept.is_err()), "2 MiB take no 10 MB");
    }

    pub fn empty(&self) {
        for entry in std::fs::read_dir(self.0.path()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("filler") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_disk_without_room_is_survived_and_mends_itself() {
    let Some(disk) = Small::mount("2m") else { return skip("mount", "a small file system cannot be mounted here") };
    let stage = Stage::new("closed", "");
    let state = disk.0.path().join("state");
    let start = || {
        let loaded = tidegate_config::parse(&stage.text(&state), "policy.yaml").unwrap_or_else(|e| panic!("{e}"));
        Gate::start(GateOptions::new(loaded)).unwrap_or_else(|e| panic!("{e}"))
    };
    let gate = start();
    let address = gate.addresses()[0];
    let (mut inside, mut waiting, place) = one_inside_and_one_waiting(&gate);
    disk.run_out(&gate);
    eventually("the room is closed", || {
        assert_eq!(timed("a page inside", || inside.get("/page")).status, 200);
        timed("a newcomer", || Client::app(address).get("/")).header("tidegate-reason") == Some("ROOM_DOWN")
    });
    disk.empty();
    eventually("the room is open again", || Client::app(address).get("/").json()["place"].is_number());
    waiting.wait_and_claim("drop").unwrap();
    gate.stop().unwrap();
    let gate = start();
    for mut who in [inside, waiting] {
        who = Client { address: gate.addresses()[0], ..who };
        assert_eq!(who.get("/page").body, "hello   5");
    }
    assert!(place.is_number());
    drop(gate);
}

#[test]
fn clocks_that_step_by_an_hour_change_nothing() {
    let now = jiff::Timestamp::now();
    let at = |minutes: i64| (now + jiff::SignedDuration::from_mins(minutes)).to_string();
    let more = format!(
        "sales: [ {{ name: s, room: drop, prequeue_opens_at: {}, opens_at: {}, closes_at: {} }} ]",
        at(-90),
        at(30),
        at(90)
    );
    let stage = Stage::new("closed", more.leak());
    let gate = stage.start(None);
    let mut early = Client::app(gate.addresses()[0]);
    let place = early.get("/").json()["place"].clone();
    let clock = || &gate.control().shared.clock;
    for hour in [3_600_000, -7_200_000, 3_600_000] {
        clock().step(hour);
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(60));
            let told = early.get("/").json();
            assert_eq!((&told["state"], &told["place"]), (&"prequeue".into(), &place), "after a step: {told}");
            let opens = told["opens_in_s"].as_u64().unwrap();
            assert!((1_700..=1_800).contains(&opens), "{told}");
        }
    }
    clock().step(3_600_000);
    early.get("/");
    assert!(gate.control().shared.troubles().iter().any(|t| t.contains("+3600.0 s")), "{:?}", gate.control().shared.troubles());
    let token = std::fs::read_to_string(stage.dir.path().join("admin.token")).unwrap();
    let mut operator = Client::app(gate.admin_address().unwrap()).with("authorization", &format!("Bearer {}", token.trim()));
    assert_eq!(operator.get("/v1/status").json()["troubles"].as_array().unwrap().len(), 1);
    let accepted = operator.post("/v1/clock/accept", "");
    assert_eq!(accepted.json()["troubles"].as_array().map(Vec::len), Some(0), "{accepted:?}");
    eventually("an operator may say that it is an hour later", || early.get("/").json()["state"] == "called");
}

#[test]
fn seats_live_through_a_step_and_a_restart() {
    let stage = Stage::new("closed", "");
    let gate = stage.start(None);
    let mut inside = Client::app(gate.addresses()[0]);
    inside.get("/");
    inside.wait_and_claim("drop").unwrap();
    for hour in [3_600_000, -7_200_000] {
        gate.control().shared.clock.step(hour);
        std::thread::sleep(Duration::from_millis(250));
        assert_eq!(inside.get("/page").body, "hello   5");
    }
    let before = gate.control().shared.clock.now().wall_ms;
    gate.stop().unwrap();
    let gate = stage.start(None);
    let mut inside = Client { address: gate.addresses()[0], ..inside };
    assert_eq!(inside.get("/page").body, "hello   5");
    assert!(gate.control().shared.clock.now().wall_ms >= before, "time does not run back");
}
