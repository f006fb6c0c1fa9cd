//! Stock behind a real gate: in front of the demo shop with its oversell race, and of one that loses every kind of answer.

use std::{
    io::{BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tidegate_config::Timestamp;
use tidegate_loadtest::shop::{Shop as DemoShop, ShopSettings};

use crate::support::{Client, Gate, admin, gate, read_request};

/// A sale that is on, with a hold on the checkout and no limit on how many are at the shop.
pub fn policy(stock: u32, more: &str) -> String {
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let at = |ms: u64| Timestamp::from_unix_ms(ms).unwrap();
    let (opens, closes) = (at(now_ms - 60_000), at(now_ms + 3_600_000));
    format!(
        r#"
version: 1
listen: [ {{ address: 127.0.0.1:0 }} ]
admin: {{ address: 127.0.0.1:0, token_file: "{{dir}}/admin.token" }}
shop:
  upstreams: [ {{ address: "{{shop}}" }} ]
  in_flight: {{ max: {{ fixed: 100 }}, queue: 100, wait_max: 5s }}
  timeouts: {{ first_byte: 1s }}
  {more}
routes:
  - {{ name: checkout, match: {{ prefix: /checkout }}, needs: {{ hold: drop-1, take_on: [POST], expires: 2s }} }}
  - {{ name: shop }}
filters:
  - waiting_room: {{ room: drop }}
rooms:
  - {{ name: drop, seats: {{ max: 200 }}, admission: {{ fixed: 1000/s }}, arm: always }}
sales:
  - {{ name: drop-1, room: drop, opens_at: "{opens}", closes_at: "{closes}", stock: {stock}, per_visitor_max: 1 }}
journal: {{ directory: "{{dir}}/journal" }}
keys: {{ directory: "{{dir}}/keys" }}
"#
    )
}

pub const BY_HEADER: &str = "reports_sales_by: { header: Tidegate-Sold }";

pub fn inside(address: SocketAddr) -> Client {
    let mut c = Client::app(address);
    c.get("/");
    c.wait_and_claim("drop").expect("a seat");
    c
}

pub fn units(gate: &Gate, dir: &Path) -> Value {
    admin(gate, dir, "GET", "/v1/sales/drop-1", "").json()["units"].clone()
}

pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Statuses of everybody's checkouts, two at once each: people press twice.
fn everybody_buys(buyers: &[Client]) -> Vec<u16> {
    std::thread::scope(|s| {
        let buy = |i: usize, c: &Client| {
            let (mut c, form) = (c.clone(), format!("buyer=person-{i}"));
            move || loop {
                let answer = c.post("/checkout", &form);
                match answer.header("tidegate-reason") {
                    // Every unit is in somebody's hands, or the own one is on its way: once more.
                    Some("ALL_HELD" | "HOLD_IN_FLIGHT") => std::thread::sleep(Duration::from_millis(100)),
                    _ => return answer.status,
                }
            }
        };
        let both = buyers.iter().enumerate().flat_map(|(i, c)| [buy(i, c), buy(i, c)]);
        let all: Vec<_> = both.map(|job| s.spawn(job)).collect();
        all.into_iter().map(|h| h.join().unwrap()).collect()
    })
}

#[test]
fn the_race_of_the_demo_shop_oversells_without_the_gate_and_never_behind_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let settings = ShopSettings { stock: 6, pool: 8, checkout_ms: 40, thrash: 0.0, ..ShopSettings::default() };
    let open = |s: &ShopSettings| runtime.block_on(DemoShop::start(s.clone(), "127.0.0.1:0".parse().unwrap())).unwrap();

    let bare = open(&settings);
    let straight: Vec<_> = (0..24).map(|_| Client::app(bare.address())).collect();
    everybody_buys(&straight);
    let without = bare.stats().unwrap();
    assert!(without.oversold > 0, "the race is there: {without:?}");

    let (shop, dir) = (open(&settings), tempfile::tempdir().unwrap());
    let gate = gate(&policy(settings.stock, BY_HEADER), shop.address(), dir.path());
    let buyers: Vec<_> = (0..24).map(|_| inside(gate.addresses()[0])).collect();
    let statuses = everybody_buys(&buyers);
    let with = shop.stats().unwrap();
    assert_eq!((with.orders, with.oversold), (settings.stock, 0), "{statuses:?}");
    assert_eq!(statuses.iter().filter(|s| **s == 303).count(), 6);
    assert!(statuses.iter().all(|s| matches!(s, 303 | 410 | 403)), "sold, sold out or enough: {statuses:?}");
    let u = units(&gate, dir.path());
    assert_eq!((&u["sold"], &u["free"], &u["uncertain"], &u["over"]), (&6.into(), &0.into(), &0.into(), &0.into()), "{u}");
    println!("without the gate {} of {} sold too many, behind it {}", without.oversold, without.stock, with.oversold);
    gate.stop().unwrap();
}

#[test]
fn a_unit_is_set_aside_for_whoever_is_let_in_however_slow() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let settings = ShopSettings { stock: 2, ..ShopSettings::default() };
    let shop = runtime.block_on(DemoShop::start(settings, "127.0.0.1:0".parse().unwrap())).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let text = policy(2, BY_HEADER).replace("per_visitor_max: 1", "per_visitor_max: 1, reserve: 3s")
        + &format!("state: {{ directory: \"{}/state\" }}\n", dir.path().display());
    let gate_1 = gate(&text, shop.address(), dir.path());
    let address = gate_1.addresses()[0];
    let (mut slow, mut never) = (inside(address), inside(address));
    let of = |u: &Value| (u["free"].clone(), u["reserved"].clone());
    assert_eq!(of(&units(&gate_1, dir.path())), (2.into(), 2.into()));

    // The third is quick and finds a line, for there are seats but no unit; its page says what it will get.
    let mut third = Client::app(address);
    let told = third.get("/");
    assert_eq!(told.json()["state"], "waiting", "{}", told.body);
    assert!(Client::browser(address).get("/").body.contains("a unit is set aside for you for"), "the rules say it");
    gate_1.stop().unwrap();

    // Over a restart as well.
    let gate_2 = gate(&text, shop.address(), dir.path());
    let address = gate_2.addresses()[0];
    for c in [&mut slow, &mut never, &mut third] {
        c.address = address;
    }
    until("what was set aside is again", || units(&gate_2, dir.path())["reserved"] == 2);
    assert_eq!(slow.post("/checkout", "buyer=person-1").status, 303);
    assert_eq!(of(&units(&gate_2, dir.path())), (1.into(), 1.into()));
    // Who never buys keeps nobody waiting for longer than was said.
    assert!(third.wait_and_claim("drop").is_some());
    let refused = never.post("/checkout", "buyer=person-2");
    assert_eq!((refused.status, refused.header("tidegate-reason")), (503, Some("ALL_HELD")), "{}", refused.body);
    assert_eq!(third.post("/checkout", "buyer=person-3").status, 303);
    gate_2.stop().unwrap();
}

#[test]
fn who_was_told_next_gets_the_unit_that_comes_back_without_another_click() {
    let (shop, dir) = (Forgetful::start(), tempfile::tempdir().unwrap());
    let text = policy(2, BY_HEADER).replace("per_visitor_max: 1", "per_visitor_max: 1, reserve: 1m")
        + &format!("state: {{ directory: \"{}/state\" }}\n", dir.path().display());
    let gate = gate(&text, shop.address, dir.path());
    let address = gate.addresses()[0];
    let post = |path: &str| admin(&gate, dir.path(), "POST", path, r#"{"units": 1}"#).status;
    let _one = inside(address);
    let [mut first, mut second] = [Client::app(address), Client::app(address)];
    let state = |c: &mut Client| c.get("/.tidegate/status?room=drop").json()["state"].as_str().unwrap_or_default().to_owned();
    first.get("/");
    until("called for the unit that is left", || state(&mut first) == "called");
    assert_eq!(post("/v1/sales/drop-1/sold"), 200, "another channel takes it");
    let told = first.post("/.tidegate/claim", "room=drop");
    assert_eq!((told.status, &told.json()["state"]), (409, &"next".into()), "{}", told.body);
    assert_eq!(second.get("/").json()["state"], "waiting");
    assert_eq!(post("/v1/sales/drop-1/restock"), 200);
    until("the seat is there", || units(&gate, dir.path())["reserved"] == 2);
    assert_eq!(second.post("/.tidegate/claim", "room=drop").status, 409, "who is behind is not called for it");
    let mut told = Value::Null;
    until("its holder hears of it, when it may ask again", || {
        told = first.get("/.tidegate/status?room=drop").json();
        told["state"] == "called"
    });
    let kept_s = told["claim"]["expires_in_s"].as_u64().unwrap();
    assert!((1..=60).contains(&kept_s), "kept for as long as was said: {told}");
    assert_eq!(first.post("/.tidegate/claim", "room=drop").status, 200);
    assert_eq!(state(&mut first), "seated");
    gate.stop().unwrap();
}

#[test]
fn a_seat_that_nobody_comes_for_goes_to_the_next_in_line() {
    let (shop, dir) = (Forgetful::start(), tempfile::tempdir().unwrap());
    let text = policy(2, BY_HEADER).replace("per_visitor_max: 1", "per_visitor_max: 1, reserve: 1m")
        + &format!("state: {{ directory: \"{}/state\" }}\n", dir.path().display());
    let text = text.replace("  - { name: drop, seats", "  - { name: drop, claim_window: 3s, seats");
    let gate = gate(&text, shop.address, dir.path());
    let address = gate.addresses()[0];
    let post = |path: &str| admin(&gate, dir.path(), "POST", path, r#"{"units": 1}"#).status;
    let state = |c: &mut Client| c.get("/.tidegate/status?room=drop").json()["state"].as_str().unwrap_or_default().to_owned();
    let _one = inside(address);
    let [mut gone, mut here] = [Client::app(address), Client::app(address)];
    gone.get("/");
    until("called for the unit that is left", || state(&mut gone) == "called");
    assert_eq!(post("/v1/sales/drop-1/sold"), 200, "another channel takes it");
    assert_eq!(gone.post("/.tidegate/claim", "room=drop").json()["state"], "next");
    assert_eq!(post("/v1/sales/drop-1/restock"), 200);
    until("a seat is kept, and the unit with it", || units(&gate, dir.path())["reserved"] == 2);
    here.get("/");
    // The minute of `reserve` counts from when somebody comes in.
    until("it is taken back", || units(&gate, dir.path())["reserved"] == 1);
    assert!(here.wait_and_claim("drop").is_some(), "whoever is there has it");
    assert_eq!(here.post("/checkout", "how=quick&buyer=person-1").status, 303);
    assert_eq!(state(&mut gone), "called", "its place is its own, and the other unit somebody else's");
    gate.stop().unwrap();
}

#[test]
fn what_a_client_sends_while_its_order_is_at_the_shop_waits_its_turn() {
    let (shop, dir) = (Forgetful::start(), tempfile::tempdir().unwrap());
    let gate = gate(&policy(4, BY_HEADER).replace("per_visitor_max: 1", "per_visitor_max: 4"), shop.address, dir.path());
    let cookies = inside(gate.addresses()[0]).cookies.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ");
    let head = |line: &str, more: &str| format!("{line} HTTP/1.1\r\nhost: shop.example\r\ncookie: {cookies}\r\n{more}\r\n");
    let order = head("POST /checkout", "content-length: 8\r\n");
    let next = head("GET /next", "connection: close\r\n");
    for (now, later) in [
        (format!("{order}how=slow"), format!("\r\n{next}")),
        (format!("{order}how=slow{next}"), String::new()),
        (format!("{order}how="), format!("slow{next}")),
    ] {
        let mut stream = TcpStream::connect(gate.addresses()[0]).unwrap();
        stream.write_all(now.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        stream.write_all(later.as_bytes()).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|a| &a[..3]).collect();
        assert_eq!(statuses, ["303", "200"], "{now} {later}: {answers}");
    }
    let u = units(&gate, dir.path());
    assert_eq!((&u["sold"], &u["uncertain"]), (&3.into(), &0.into()), "{u}");
    gate.stop().unwrap();
}

/// A shop that makes an order of every checkout, and then answers as the form says.
pub struct Forgetful {
    pub address: SocketAddr,
    orders: Arc<AtomicU32>,
}

impl Forgetful {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, orders) = (listener.local_addr().unwrap(), Arc::new(AtomicU32::new(0)));
        let count = orders.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let count = count.clone();
                std::thread::spawn(move || forget(stream, &count));
            }
        });
        Forgetful { address, orders }
    }
}

fn forget(mut stream: TcpStream, orders: &AtomicU32) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read_request(&mut reader) {
        let how = String::from_utf8_lossy(&request.body).into_owned();
        let answer = match how.as_str() {
            "how=declined" => "HTTP/1.1 402 Payment Required\r\ncontent-length: 0\r\n\r\n",
            "" => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            made => {
                assert!(request.header("tidegate-hold").is_some_and(|h| h.starts_with("drop-1/")), "{request:?}");
                orders.fetch_add(1, SeqCst);
                match made {
                    "how=crash" => return,
                    "how=half" => "HTTP/1.1 303 See Oth",
                    "how=quiet" => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                    "how=error" => "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
                    "how=silent" => {
                        std::thread::sleep(Duration::from_millis(2_500));
                        return;
                    }
                    "how=slow" => {
                        std::thread::sleep(Duration::from_millis(500));
                        "HTTP/1.1 303 See Other\r\nlocation: /thanks/1\r\ntidegate-sold: 1\r\ncontent-length: 0\r\n\r\n"
                    }
                    _ => "HTTP/1.1 303 See Other\r\nlocation: /thanks/1\r\ntidegate-sold: 1\r\ncontent-length: 0\r\n\r\n",
                }
            }
        };
        if stream.write_all(answer.as_bytes()).is_err() || how == "how=half" {
            return;
        }
    }
}

#[test]
fn whatever_answer_is_lost_nothing_is_sold_twice_and_an_operator_puts_it_right() {
    let (shop, dir) = (Forgetful::start(), tempfile::tempdir().unwrap());
    let gate = gate(&policy(7, BY_HEADER), shop.address, dir.path());
    let at = gate.addresses()[0];
    let mut buyers: Vec<_> = (0..9).map(|_| inside(at)).collect();
    let mut waiting = Client::app(at);
    assert!(waiting.get("/").json()["stock_percent"].is_number(), "who waits hears of the chance");

    assert_eq!(buyers[0].post("/checkout", "how=declined").status, 402);
    assert_eq!(units(&gate, dir.path())["held"], 1, "kept for the next try");
    let lost = [("how=crash", 502), ("how=half", 502), ("how=error", 500), ("how=silent", 504), ("how=quiet", 200)];
    for (i, (how, status)) in lost.iter().enumerate() {
        assert_eq!(buyers[i].post("/checkout", how).status, *status, "{how}");
        let mut again = buyers[i].post("/checkout", "how=sold");
        // The answer may be here a moment before the gate has closed its books on it.
        while again.header("tidegate-reason") == Some("HOLD_IN_FLIGHT") {
            std::thread::sleep(Duration::from_millis(20));
            again = buyers[i].post("/checkout", "how=sold");
        }
        assert_eq!((again.status, again.header("tidegate-reason")), (403, Some("VISITOR_LIMIT")), "it may have been bought");
    }
    // A client that goes away before the answer: the unit is sold all the same, and known to be.
    let mut gone = TcpStream::connect(at).unwrap();
    let cookies: Vec<String> = buyers[5].cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let head =
        format!("POST /checkout HTTP/1.1\r\nhost: shop.example\r\ncookie: {}\r\ncontent-length: 8\r\n\r\n", cookies.join("; "));
    gone.write_all(format!("{head}how=slow").as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    drop(gone);
    // And one that stops halfway through its form: nothing was taken for it.
    let mut half = TcpStream::connect(at).unwrap();
    half.write_all(format!("{head}how=").as_bytes()).unwrap();
    drop(half);
    until("the shop's word is heard", || units(&gate, dir.path())["sold"] == 1);
    assert_eq!(buyers[6].post("/checkout", "how=sold").status, 303);
    let sale = admin(&gate, dir.path(), "GET", "/v1/sales/drop-1", "").json();
    let u = &sale["units"];
    assert_eq!((&u["sold"], &u["uncertain"], &u["free"], &u["held"]), (&2.into(), &5.into(), &0.into(), &0.into()), "{sale}");
    assert_eq!(shop.orders.load(SeqCst), 7, "as many orders as there are units");

    // Nothing can be sold now: everybody hears it at once, places are kept.
    let told = buyers[7].post("/checkout", "how=sold");
    assert_eq!((told.status, told.header("tidegate-reason")), (410, Some("STOCK_GONE")));
    let told = waiting.get("/");
    let json = told.json();
    assert_eq!((told.status, told.header("tidegate-verdict")), (410, Some("sold_out")));
    assert_eq!((&json["state"], &json["place"]), (&"sold_out".into(), &9.into()), "{json}");
    assert!(json["stock_percent"].is_null() && json["because"].is_null(), "no chance and no cause: {json}");
    assert!(json["poll_after_s"].as_u64() >= Some(150) && json["waitingRoom"]["refreshIntervalSeconds"] == json["poll_after_s"]);
    let newcomer = Client::app(at).get("/").json();
    assert_eq!((&newcomer["state"], &newcomer["place"]), (&"sold_out".into(), &serde_json::Value::Null), "{newcomer}");
    let page_of = |cookies| Client { cookies, ..Client::browser(at) }.get("/").body;
    let (mine, new) = (page_of(waiting.cookies.clone()), page_of(Default::default()));
    assert!(
        mine.contains("not known yet whether they were completed") && mine.contains("your place in the line is kept"),
        "{mine}"
    );
    assert!(new.contains("places are given again") && !new.contains("your place in the line is kept"), "{new}");

    let doubts = sale["uncertain"].as_array().unwrap();
    assert_eq!(doubts.len(), 5);
    let path = format!("/v1/sales/drop-1/holds/{}", doubts[0]["hold"]);
    let typo = admin(&gate, dir.path(), "POST", &path, r#"{"sold": 5}"#);
    assert_eq!((typo.status, &typo.json()["code"]), (409, &"TOO_MANY".into()), "a hold of one unit sold no five");
    let resolve = |i: usize, sold: u32| {
        let path = format!("/v1/sales/drop-1/holds/{}", doubts[i]["hold"]);
        admin(&gate, dir.path(), "POST", &path, &format!("{{\"sold\":{sold}}}")).status
    };
    assert_eq!((resolve(0, 1), resolve(1, 0), resolve(1, 0)), (200, 200, 404));
    let again = waiting.get("/").json();
    assert_eq!(&again["place"], 9, "the place was kept");
    assert!(matches!(again["state"].as_str(), Some("waiting" | "called")), "{again}");
    assert_eq!(buyers[7].post("/checkout", "how=sold").status, 303);
    gate.stop().unwrap();
}

#[test]
fn other_channels_restock_and_a_reload() {
    let (shop, dir) = (Forgetful::start(), tempfile::tempdir().unwrap());
    let text = policy(3, "reports_sales_by: { route: checkout, status: 303, location: /thanks }");
    let gate = gate(&text, shop.address, dir.path());
    let post = |path: &str, body: &str| admin(&gate, dir.path(), "POST", path, body);
    let mut buyers: Vec<_> = (0..4).map(|_| inside(gate.addresses()[0])).collect();
    assert_eq!(buyers[0].post("/checkout", "how=sold").status, 303);
    assert_eq!(units(&gate, dir.path())["sold"], 1, "a status and a place tell of a sale");

    assert_eq!(post("/v1/sales/drop-1/sold", r#"{"units": 3}"#).status, 409, "two are free");
    assert_eq!(post("/v1/sales/drop-1/sold", r#"{"units": 2}"#).json()["units"]["free"], 0);
    assert_eq!(buyers[1].post("/checkout", "how=sold").status, 410);
    assert_eq!(post("/v1/sales/drop-1/restock", r#"{"units": 2}"#).json()["units"]["stock"], 5);
    let page = Client::browser(gate.addresses()[0]).get("/").body;
    assert!(page.contains("Units on sale: 5"), "as many as there are now: {page}");
    assert_eq!(buyers[1].post("/checkout", "how=sold").status, 303);
    let over = post("/v1/sales/drop-1/sold", r#"{"units": 2, "already": true}"#).json();
    assert_eq!((&over["units"]["over"], &over["units"]["sold"]), (&1.into(), &6.into()), "what happened is told: {over}");
    assert_eq!(post("/v1/sales/drop-1/restock", r#"{"units": -1}"#).json()["code"], "NOT_FREE");
    for units in [99_999_999_999i64, 10_000_000, 0, i64::MIN] {
        let refused = post("/v1/sales/drop-1/restock", &format!("{{\"units\": {units}}}"));
        assert_eq!((refused.status, &refused.json()["code"]), (400, &"UNITS".into()), "{units}");
    }
    assert_eq!(units(&gate, dir.path())["stock"], 5, "nothing was cut to fit");
    assert_eq!(post("/v1/sales/drop-1/holds/x", r#"{"sold": 1}"#).json()["code"], "NO_HOLD");
    assert_eq!(post("/v1/sales/drop-2/restock", r#"{"units": 1}"#).json()["code"], "NO_SALE");
    assert_eq!(buyers[2].post("/checkout", "how=sold").status, 410);

    let file = dir.path().join("policy.yaml");
    let written = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, written.replace("stock: 3,", "stock: 5,")).unwrap();
    gate.reload();
    until("the reload", || units(&gate, dir.path())["stock"] == 7);
    assert_eq!(units(&gate, dir.path())["sold"], 6, "a reload forgets nothing");
    assert_eq!(buyers[2].post("/checkout", "how=sold").status, 303);
    assert_eq!(buyers[3].get("/checkout").status, 200, "a GET needs no unit and takes none");
    gate.stop().unwrap();
}

#[test]
fn a_restart_forgets_no_unit() {
    let (shop, dir) = (Forgetful::start(), tempfile::tempdir().unwrap());
    let text = policy(6, BY_HEADER) + "state: { directory: \"{dir}/state\" }\n";
    let first = gate(&text, shop.address, dir.path());
    let mut buyers: Vec<_> = (0..4).map(|_| inside(first.addresses()[0])).collect();
    assert_eq!(buyers[0].post("/checkout", "how=sold").status, 303);
    assert_eq!(buyers[1].post("/checkout", "how=crash").status, 502);
    assert_eq!(buyers[2].post("/checkout", "how=declined").status, 402);
    let sold = admin(&first, dir.path(), "POST", "/v1/sales/drop-1/sold", r#"{"units": 1}"#);
    assert_eq!(sold.json()["units"]["free"], 2, "{sold:?}");
    // One more is at the shop while the gate dies: its order is made, and nobody will hear of it.
    let at = first.addresses()[0];
    let cookies: Vec<String> = buyers[3].cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let head =
        format!("POST /checkout HTTP/1.1\r\nhost: shop.example\r\ncookie: {}\r\ncontent-length: 10\r\n\r\n", cookies.join("; "));
    let mut last = TcpStream::connect(at).unwrap();
    last.write_all(format!("{head}how=silent").as_bytes()).unwrap();
    until("it is at the shop", || units(&first, dir.path())["in_flight"] == 1);
    // What a killed process leaves behind: the files as they are at this moment.
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for file in std::fs::read_dir(dir.path().join("state")).unwrap().map(|f| f.unwrap().path()) {
        std::fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
    }
    drop(first);

    let second = gate(&text.replace("{dir}/state", "{dir}/copy"), shop.address, dir.path());
    let u = units(&second, dir.path());
    let uncertain = u["uncertain"].as_u64().unwrap();
    assert_eq!((&u["sold"], uncertain, &u["in_flight"], &u["over"]), (&2.into(), 2, &0.into(), &0.into()), "{u}");
    assert_eq!(u["free"].as_u64().unwrap() + u["held"].as_u64().unwrap(), 2, "{u}");
    second.stop().unwrap();
}
