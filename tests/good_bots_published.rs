//! Lists and key directories that others publish, fetched over real TLS beside the requests.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tidegate_gateway::gate::Gate;

use crate::{
    good_bots::{from, jwks, reason, signed},
    program::{run, text},
    support::{PATIENCE, Shop, admin, gate},
};

const POLICY: &str = r#"
version: 1
listen: [ { address: 127.0.0.1:0 } ]
admin: { address: 127.0.0.1:0, token_file: "{dir}/admin.token" }
shop: { upstreams: [ { address: "{shop}" } ] }
routes: [ { name: open, match: { prefix: /open } }, { name: shop } ]
trusted_proxies: [ 127.0.0.0/8 ]
filters:
  - good_bots:
      bots:
        - { name: listed, user_agent: Listed, networks_file: "https://localhost:{port}/listed.json" }
        - { name: agent, keys: "https://localhost:{port}/directory" }
      impostors: refuse
      authorities: "{dir}/authority.pem"
      refresh: 1h
  - bot_gate: { challenge_at: 0.000001, when_unscored: challenge, runtime: builtin }
  - waiting_room: { room: drop, routes: [shop] }
rooms: [ { name: drop, arm: always, order: fifo } ]
state: { directory: "{dir}/state" }
keys: { directory: "{dir}/keys" }
"#;

/// Says the same to whoever asks by https, until it says something else.
struct Publisher {
    address: SocketAddr,
    says: Arc<Mutex<Vec<(&'static str, String)>>>,
    asked: Arc<Mutex<u32>>,
}

impl Publisher {
    fn start(dir: &Path) -> Publisher {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        std::fs::write(dir.join("authority.pem"), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
        let publisher = Publisher { address: listener.local_addr().unwrap(), says: Arc::default(), asked: Arc::default() };
        let (says, asked) = (publisher.says.clone(), publisher.asked.clone());
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let tls = rustls::StreamOwned::new(rustls::ServerConnection::new(config.clone()).unwrap(), tcp);
                let mut reader = BufReader::new(tls);
                let mut line = String::new();
                if reader.read_line(&mut line).is_err() {
                    continue;
                }
                while reader.read_line(&mut String::new()).is_ok_and(|n| n > 2) {}
                *asked.lock().unwrap() += 1;
                let path = line.split(' ').nth(1).unwrap_or_default();
                let known = says.lock().unwrap().iter().find(|(p, _)| *p == path).map(|(_, answer)| answer.clone());
                let answer = known.unwrap_or_else(|| "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into());
                let tls = reader.get_mut();
                let _ = tls.write_all(answer.as_bytes());
                tls.conn.send_close_notify();
                let _ = tls.flush();
            }
        });
        publisher
    }

    fn says(&self, path: &'static str, answer: &str) {
        let mut says = self.says.lock().unwrap();
        says.retain(|(p, _)| *p != path);
        says.push((path, answer.to_owned()));
    }

    fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }

    fn publishes(&self, path: &'static str, body: &str) {
        self.says(path, &format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    }
}

fn start(publisher: &Publisher, dir: &Path, shop: &Shop) -> Gate {
    gate(&POLICY.replace("{port}", &publisher.address.port().to_string()), shop.address, dir)
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for so many lists that are `fresh`, `old` and `missing`.
fn until_lists(gate: &Gate, dir: &Path, wanted: [u32; 3]) {
    until(&format!("{wanted:?} lists"), || {
        let metrics = admin(gate, dir, "GET", "/metrics", "").body;
        let of = |state: &str| {
            let line = format!("tidegate_bot_lists{{state=\"{state}\"}} ");
            metrics.lines().find_map(|l| l.strip_prefix(&line)).and_then(|n| n.parse().ok())
        };
        ["fresh", "old", "missing"].map(of) == wanted.map(Some)
    });
}

#[test]
fn lists_are_fetched_kept_and_never_lost() {
    let (shop, dir) = (Shop::start(), tempfile::tempdir().unwrap());
    let publisher = Publisher::start(dir.path());
    let ask = |gate: &Gate, ip: &str| reason(&from(gate, ip, "Listed/1").get("/open")).to_owned();
    let signs = |gate: &Gate, nonce: &str| reason(&signed(from(gate, "198.51.100.77", "curl/8"), nonce).get("/open")).to_owned();

    // Never fetched: nobody is an impostor, and nobody is it.
    let first = start(&publisher, dir.path(), &shop);
    until_lists(&first, dir.path(), [0, 0, 2]);
    assert_eq!(ask(&first, "203.0.113.9"), "SCORE_CHALLENGE");
    assert_eq!(signs(&first, "a"), "SCORE_CHALLENGE");

    publisher.publishes("/listed.json", r#"{"prefixes":[{"ipv4Prefix":"203.0.113.0/24"}]}"#);
    publisher.publishes("/directory", &jwks());
    // Whoever has mended the way there loads the policy again.
    first.control().reload().unwrap();
    until_lists(&first, dir.path(), [2, 0, 0]);
    until("the list is in use", || ask(&first, "203.0.113.9") == "forwarded");
    assert_eq!((ask(&first, "203.0.113.9"), ask(&first, "198.51.100.9")), ("forwarded".into(), "FALSE_CRAWLER".into()));
    assert_eq!(signs(&first, "b"), "forwarded");

    // What is published now is no list, everybody, too large, elsewhere, packed or away: the last one stays.
    let large = format!("HTTP/1.1 200 OK\r\n\r\n{}", "1".repeat(2 << 20));
    let everybody = r#"{"prefixes":[{"ipv4Prefix":"0.0.0.0/0"}]}"#;
    let everybody = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{everybody}", everybody.len());
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        &everybody,
        &large,
        "HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 13\r\n\r\n203.0.113.0/24",
        "SSH-2.0",
    ] {
        publisher.says("/listed.json", answer);
        let asked = publisher.asked();
        first.control().shared.clock.advance(3_700_000);
        until("both are asked for again", || publisher.asked() >= asked + 2);
        until_lists(&first, dir.path(), [1, 1, 0]);
        assert_eq!((ask(&first, "203.0.113.9"), ask(&first, "198.51.100.9")), ("forwarded".into(), "FALSE_CRAWLER".into()));
    }
    // Keys that are left out are taken back.
    publisher.publishes("/directory", r#"{"keys":[]}"#);
    first.control().shared.clock.advance(3_700_000);
    until("the key is taken back", || signs(&first, &first.control().shared.clock.now().mono_ms().to_string()) != "forwarded");
    publisher.publishes("/directory", &jwks());
    first.control().shared.clock.advance(3_700_000);
    until("and given again", || signs(&first, &first.control().shared.clock.now().mono_ms().to_string()) == "forwarded");
    first.stop().unwrap();

    // A start while nobody publishes: what was fetched before.
    publisher.says.lock().unwrap().clear();
    let second = gate(&std::fs::read_to_string(dir.path().join("policy.yaml")).unwrap(), shop.address, dir.path());
    assert_eq!((ask(&second, "203.0.113.9"), signs(&second, "c")), ("forwarded".into(), "forwarded".into()));
    until_lists(&second, dir.path(), [0, 2, 0]);
    second.stop().unwrap();

    // Copies that the disk has spoilt are none: nobody is called an impostor for it.
    for copy in std::fs::read_dir(dir.path().join("state/published")).unwrap() {
        std::fs::write(copy.unwrap().path(), "{\"prefixes\":[{").unwrap();
    }
    let third = gate(&std::fs::read_to_string(dir.path().join("policy.yaml")).unwrap(), shop.address, dir.path());
    assert_eq!((ask(&third, "203.0.113.9"), ask(&third, "198.51.100.9")), ("SCORE_CHALLENGE".into(), "SCORE_CHALLENGE".into()));
    third.stop().unwrap();
}

#[test]
fn only_https_of_a_known_authority_is_believed() {
    let (shop, dir) = (Shop::start(), tempfile::tempdir().unwrap());
    let publisher = Publisher::start(dir.path());
    publisher.publishes("/listed.json", "203.0.113.0/24\n");
    publisher.publishes("/directory", &jwks());
    let other = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    std::fs::write(dir.path().join("authority.pem"), other.cert.pem()).unwrap();
    let gate = start(&publisher, dir.path(), &shop);
    until_lists(&gate, dir.path(), [0, 0, 2]);
    assert_eq!(publisher.asked(), 0);
    drop(gate);
    let file = dir.path().join("policy.yaml");
    let policy = std::fs::read_to_string(&file).unwrap();
    for (from, to, said) in [
        ("https://localhost", "http://localhost", "anybody on the way can change"),
        ("https://localhost", "https://me@localhost", "no address of a list"),
        ("https://localhost", "https://localhost:99999/", "no address of a list"),
        ("https://localhost", "HTTPS://localhost", "in lower case"),
        ("refresh: 1h", "refresh: 1s", "write 1m to 7d"),
        ("authority.pem", "none.pem", "good_bots.authorities"),
    ] {
        std::fs::write(&file, policy.replace(from, to)).unwrap();
        let out = run(&["check", &file.display().to_string()]);
        assert!(!out.status.success() && text(&out).contains(said), "{to}: {}", text(&out));
    }
    std::fs::write(&file, &policy).unwrap();
    assert!(text(&run(&["explain", &file.display().to_string()])).contains("fetched every 1h"));
}
