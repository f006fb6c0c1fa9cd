//! The waiting page in a real browser, driven through WebDriver: with JavaScript and without.

use std::{
    net::{SocketAddr, TcpListener},
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
struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
}

impl Browser {
    fn start(javascript: bool) -> Option<Browser> {
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
        let args = [
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

    fn open(&self, url: &str) {
        self.call("POST", &format!("{}/url", self.session), &json!({ "url": url }));
    }

    fn source(&self) -> String {
        self.call("GET", &format!("{}/source", self.session), &Value::Null).as_str().unwrap_or_default().to_owned()
    }

    /// Clicks the first visible element of a selector, as a person would. `false`: there is none.
    fn click(&self, selector: &str) -> bool {
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
