//! The waiting page in a real browser, driven through WebDriver: with JavaScript and without.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{Client, Gate, Shop, gate, raw, skip};

const POLICY: &str = r#"
version: 1
listen: [ { address: 127.0.0.1:0 } ]
shop: { upstreams: [ { address: "{shop}" } ] }
filters: [ { waiting_room: { room: drop } } ]
rooms: [ { name: drop, seats: { max: 5 }, admission: { fixed: 50/s }, arm: always } ]
"#;

/// A chromedriver with one session; both end with it.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
}

impl Browser {
    pub fn start(javascript: bool) -> Option<Browser> {
        Browser::with(javascript, &[])
    }

    fn with(javascript: bool, more: &[&str]) -> Option<Browser> {
        let found = |name: &str| Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
        if !found("chromedriver") || !found("chromium") {
            skip("browser", "chromium and chromium-driver are not installed");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut driver = Command::new("chromedriver");
        driver.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let mut browser =
            Browser { driver: driver.spawn().unwrap(), address: ([127, 0, 0, 1], port).into(), session: String::new() };
        for _ in 0..200 {
            if std::net::TcpStream::connect(browser.address).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut args = vec![
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ];
        args.extend(more);
        // 2: blocked, as for people who switch scripts off.
        let scripts = if javascript { 1 } else { 2 };
        let prefs = json!({ "profile.managed_default_content_settings.javascript": scripts });
        let options = json!({ "args": args, "prefs": prefs });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let made = browser.call("POST", "/session", &wanted);
        browser.session = format!("/session/{}", made["sessionId"].as_str().unwrap_or_else(|| panic!("{made}")));
        Some(browser)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        raw(self.address, format!("{head}{body}").as_bytes()).json()["value"].clone()
    }

    pub fn open(&self, url: &str) {
        self.call("POST", &format!("{}/url", self.session), &json!({ "url": url }));
    }

    pub fn source(&self) -> String {
        self.call("GET", &format!("{}/source", self.session), &Value::Null).as_str().unwrap_or_default().to_owned()
    }

    /// Runs a script in the page; `return` gives its value.
    fn run(&self, script: &str) -> Value {
        self.call("POST", &format!("{}/execute/sync", self.session), &json!({ "script": script, "args": [] }))
    }

    /// The same for a script that calls `done(value)`.
    fn run_until_done(&self, script: &str) -> Value {
        let script = format!("const done = arguments[arguments.length - 1]; {script}");
        self.call("POST", &format!("{}/execute/async", self.session), &json!({ "script": script, "args": [] }))
    }

    /// Waits until a script returns true.
    fn until(&self, what: &str, script: &str) {
        for _ in 0..200 {
            if self.run(script) == true {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{what}: never in: {}", self.source());
    }

    /// Clicks the first visible element of a selector, as a person would. `false`: there is none.
    pub fn click(&self, selector: &str) -> bool {
        let found =
            self.call("POST", &format!("{}/elements", self.session), &json!({ "using": "css selector", "value": selector }));
        let ids = found.as_array().into_iter().flatten().filter_map(|e| e.as_object()?.values().next()?.as_str());
        ids.map(str::to_owned).any(|id| {
            let shown = self.call("GET", &format!("{}/element/{id}/displayed", self.session), &Value::Null);
            shown == true && self.call("POST", &format!("{}/element/{id}/click", self.session), &json!({})).is_null()
        })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            self.call("DELETE", &self.session, &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// The rules of axe for WCAG 2.2 AA, and what it calls best practice; brought by `.ci/test` where npm is there.
fn axe() -> Option<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/axe");
    let directory = std::env::var_os("TIDEGATE_AXE").map_or(here, PathBuf::from);
    let script = std::fs::read_to_string(directory.join("node_modules/axe-core/axe.min.js")).ok();
    if script.is_none() {
        skip("axe", "npm install --prefix target/axe axe-core brings the accessibility rules");
    }
    script
}

/// What axe finds wrong with the page, one line a rule.
fn faults(browser: &Browser, axe: &str) -> Vec<String> {
    browser.run(axe);
    let tags = json!(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]);
    let found = browser.run_until_done(&format!(
        "axe.run(document, {{ runOnly: {tags}, resultTypes: ['violations'] }}).then(r => done({{ passes: r.passes.length, \
         faults: r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html + ' ' + n.failureSummary).join('; ')) }}))"
    ));
    assert!(found["passes"].as_u64().is_some_and(|n| n > 5), "axe has looked: {found}");
    found["faults"].as_array().unwrap().iter().map(|f| f.as_str().unwrap().to_owned()).collect()
}

const ROOMS: &str = r#"
version: 1
listen: [ { address: 127.0.0.1:0 } ]
shop: { upstreams: [ { address: "{shop}" } ] }
routes:
  - { name: waiting, match: { prefix: /waiting } }
  - { name: prequeue, match: { prefix: /prequeue } }
  - { name: called, match: { prefix: /called } }
  - { name: full, match: { prefix: /full } }
  - { name: sale, match: { prefix: /sale } }
  - { name: work, match: { prefix: /work } }
  - { name: gone, match: { prefix: /gone } }
  - { name: off, match: { prefix: /off } }
  - { name: drawn, match: { prefix: /drawn } }
  - { name: rest }
filters:
  - sale_window: { sale: drop, routes: [sale] }
  - sale_window: { sale: old, routes: [off] }
  - bot_gate: { challenge_at: 0.000001, challenge_work: { bits: 24, bits_max: 24 }, when_unscored: challenge, runtime: builtin, routes: [work] }
  - waiting_room: { room: waiting, routes: [waiting] }
  - waiting_room: { room: prequeue, routes: [prequeue] }
  - waiting_room: { room: called, routes: [called] }
  - waiting_room: { room: full, routes: [full] }
  - waiting_room: { room: gone, routes: [gone] }
  - waiting_room: { room: drawn, routes: [drawn] }
rooms:
  - { name: waiting, arm: always, seats: { max: 1 }, admission: { fixed: 50/s } }
  - { name: prequeue, arm: always, order: fifo }
  - { name: called, arm: always, admission: { fixed: 50/s } }
  - { name: full, arm: always, entries_max: 1 }
  - { name: gone, arm: always }
  - { name: drawn, order: draw_then_fifo, visitor: { work_bits: 0 } }
sales:
  - { name: drop, room: prequeue, prequeue_opens_at: {before}, opens_at: {soon}, closes_at: {later}, stock: 500 }
  - { name: gone, room: gone, opens_at: {before}, closes_at: {later}, stock: 1 }
  - { name: old, room: drawn, prequeue_opens_at: {before}, opens_at: {soon}, closes_at: {later}, cancelled: The <roof> leaks }
  - { name: lots, room: drawn, prequeue_opens_at: {before}, opens_at: {soon}, closes_at: {later}, redraws: old }
state: { directory: "{dir}/state" }
keys: { directory: "{dir}/keys" }
"#;

/// The rooms above, with a sale that opens in a while.
fn rooms(shop: SocketAddr, dir: &Path) -> Gate {
    let hours = |h: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(h)).to_string();
    gate(&ROOMS.replace("{before}", &hours(-1)).replace("{soon}", &hours(2)).replace("{later}", &hours(4)), shop, dir)
}

/// Every page that a visitor can meet, through axe: in two languages, one from right to left, light and dark.
#[test]
fn the_pages_meet_wcag_2_2_aa() {
    let Some(axe) = axe() else { return };
    for (language, more) in [("en", vec![]), ("ar", vec!["--force-dark-mode"])] {
        let lang = format!("--accept-lang={language}");
        let more: Vec<&str> = more.into_iter().chain([lang.as_str()]).collect();
        let Some(browser) = Browser::with(true, &more) else { return };
        let dir = tempfile::tempdir().unwrap();
        let shop = Shop::start();
        let gate = rooms(shop.address, dir.path());
        let address = gate.addresses()[0];
        let mut first = Client::app(address);
        first.get("/waiting");
        first.wait_and_claim("waiting").expect("the only seat");
        Client::app(address).get("/full");
        gate.control().message("waiting", Some("Back in <ten> minutes".into())).unwrap();
        gate.control().message("drawn", Some("We are <sorry>".into())).unwrap();
        let active = gate.control().shared.active.load_full();
        let sold = active.pipeline.rooms().iter().find_map(|r| r.stock("gone")).unwrap().with(|l| l.ask(1));
        assert_eq!(sold, Ok(()));
        let host = format!("http://{address}");
        browser.open(&format!("{host}/waiting/"));
        browser.run("sessionStorage.setItem('tidegate-called0stay', 1)");
        let rooms = ["/waiting", "/prequeue", "/called", "/full", "/sale", "/work", "/gone", "/off", "/drawn"];
        for page in rooms.into_iter().chain(["/.tidegate/draw?sale=lots", "/.tidegate/draw?sale=old", "/.tidegate/nothing"]) {
            browser.open(&format!("{host}{page}"));
            if page == "/called" {
                browser.until("the turn", "return !document.getElementById('turn').hidden");
            }
            browser.run("document.querySelectorAll('details').forEach(d => d.open = true)");
            let seen = browser.run("return [document.documentElement.lang, getComputedStyle(document.body).direction, \
                matchMedia('(prefers-color-scheme: dark)').matches, document.title, performance.getEntriesByType('resource').length, \
                performance.getEntriesByType('navigation')[0].transferSize, document.documentElement.scrollWidth <= innerWidth]");
            let titles = [("/gone", "Sold out"), ("/off", "The sale does not take place"), ("/.tidegate/nothing", "Not found")];
            let said = titles.iter().find(|(at, _)| *at == page).filter(|_| language == "en");
            assert!(said.is_none_or(|(_, title)| seen[3] == *title), "{page}: {seen}");
            assert_eq!(seen[0], language, "{page}: {seen}");
            assert_eq!((seen[1] == "rtl", seen[2] == true), (language == "ar", language == "ar"), "{page}: {seen}");
            assert!(seen[5].as_u64().unwrap() <= 15 << 10, "{page}: {seen}");
            assert_eq!(seen[6], true, "{page}: nothing sticks out");
            assert_eq!(faults(&browser, &axe), Vec::<String>::new(), "{language} {page}: {seen}");
        }
    }
}

/// That the check above can fail.
#[test]
fn axe_finds_what_is_wrong() {
    let Some(axe) = axe() else { return };
    let Some(browser) = Browser::start(true) else { return };
    let dir = tempfile::tempdir().unwrap();
    let shop = Shop::start();
    let gate = rooms(shop.address, dir.path());
    browser.open(&format!("http://{}/prequeue", gate.addresses()[0]));
    let spoil = "document.documentElement.removeAttribute('lang'); document.getElementById('text').style.color = '#ccc'; \
                 document.querySelector('#sound input').parentNode.replaceWith(document.querySelector('#sound input'))";
    browser.run(spoil);
    let found = faults(&browser, &axe).join("\n");
    for rule in ["html-has-lang", "color-contrast", "label"] {
        assert!(found.contains(rule), "{rule} is missing in: {found}");
    }
}

/// Operator's word, numbers and turn reach the page as it is, without a reload.
#[test]
fn the_live_page_follows_the_room() {
    let Some(browser) = Browser::start(true) else { return };
    let dir = tempfile::tempdir().unwrap();
    let shop = Shop::start();
    let gate = rooms(shop.address, dir.path());
    let address = gate.addresses()[0];
    let mut first = Client::app(address);
    first.get("/waiting");
    first.wait_and_claim("waiting").expect("the only seat");
    let mut second = Client::app(address);
    second.get("/waiting");
    browser.open(&format!("http://{address}/waiting/shoes?size=42"));
    browser.run("window.mark = 1; sessionStorage.setItem('tidegate-waiting2stay', 1)");
    browser.until(
        "the stream",
        "return performance.getEntriesByType('resource').length >= 0 && document.getElementById('ahead').textContent === '1'",
    );
    gate.control().message("waiting", Some("Ten more <b>pairs</b>".into())).unwrap();
    browser.until("the message", "return document.getElementById('message').textContent === 'Ten more <b>pairs</b>'");
    gate.control().message("waiting", None).unwrap();
    browser.until("it is taken back", "return document.getElementById('news').hidden");
    // The seat comes free twice: the second visitor goes in and out, then it is the page's turn.
    first.post("/.tidegate/leave", "room=waiting");
    second.wait_and_claim("waiting").expect("the seat");
    second.post("/.tidegate/leave", "room=waiting");
    browser.until("the turn", "return !document.getElementById('turn').hidden && document.title.startsWith('\u{25cf}')");
    let now = browser.run(
        "return [window.mark, document.activeElement.id, document.getElementById('left').textContent, \
        document.getElementById('extend').hidden]",
    );
    assert_eq!(
        (&now[0], &now[1], &now[3]),
        (&1.into(), &"title".into(), &false.into()),
        "no reload, and the words are read out: {now}"
    );
    assert!(now[2].as_str().unwrap().contains("2\u{a0}min"), "{now}");
    browser.click("#extend button");
    browser.until("the page again", "return window.mark === undefined && !document.getElementById('turn').hidden");
    assert!(browser.click("#claim button"));
    browser.until("the shop", "return document.body.textContent.includes('hello')");
    assert!(shop.seen().iter().any(|s| s.line == "GET /waiting/shoes?size=42 HTTP/1.1"));
}

/// Seats are full, a person waits, a seat comes free, the turn comes, one click and the shop is there.
fn a_person_gets_in(javascript: bool) {
    let Some(browser) = Browser::start(javascript) else { return };
    let dir = tempfile::tempdir().unwrap();
    let shop = Shop::start();
    let running: Gate = gate(POLICY, shop.address, dir.path());
    let address = running.addresses()[0];
    let mut others: Vec<Client> = (0..5).map(|_| Client::app(address)).collect();
    for other in &mut others {
        other.get("/");
        other.wait_and_claim("drop").expect("five seats");
    }
    browser.open(&format!("http://{address}/product/1"));
    let page = browser.source();
    assert!(page.contains("<form") && !page.contains("hello"), "the waiting page: {page}");
    assert!(!page.contains("http://cdn") && !page.contains("https://"), "no third party");
    assert_eq!(others[0].post("/.tidegate/leave", "room=drop").json()["state"], "left");
    for _ in 0..300 {
        browser.click("#claim button");
        if browser.source().contains("hello") {
            assert!(shop.seen().iter().any(|s| s.line == "GET /product/1 HTTP/1.1"));
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the turn never came: {}", browser.source());
}

#[test]
fn the_waiting_page_lets_a_person_in() {
    a_person_gets_in(true);
}

#[test]
fn the_waiting_page_works_without_javascript() {
    a_person_gets_in(false);
}

const CHALLENGED: &str = r#"
version: 1
listen: [ { address: 127.0.0.1:0 } ]
shop: { upstreams: [ { address: "{shop}" } ] }
filters:
  - bot_gate: { challenge_at: 0.000001, challenge_work: { bits: 16, bits_max: 16 }, when_unscored: challenge, runtime: builtin }
"#;

/// With a script the page works and goes on by itself; without one a button leads the slow way, also by itself.
fn a_person_gets_past_a_challenge(javascript: bool) {
    let Some(browser) = Browser::start(javascript) else { return };
    let dir = tempfile::tempdir().unwrap();
    let shop = Shop::start();
    let running: Gate = gate(CHALLENGED, shop.address, dir.path());
    browser.open(&format!("http://{}/product/1?size=42", running.addresses()[0]));
    if !javascript {
        assert!(browser.source().contains("SCORE_CHALLENGE"), "{}", browser.source());
        assert!(browser.click("form button"));
    }
    for _ in 0..600 {
        if browser.source().contains("hello") {
            assert!(shop.seen().iter().any(|s| s.line == "GET /product/1?size=42 HTTP/1.1"));
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("still challenged: {}", browser.source());
}

#[test]
fn a_challenge_is_work_that_a_browser_does_by_itself() {
    a_person_gets_past_a_challenge(true);
}

#[test]
fn a_challenge_can_be_gone_around_without_javascript() {
    a_person_gets_past_a_challenge(false);
}
