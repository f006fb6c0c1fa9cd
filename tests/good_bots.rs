//! Programs that are welcome are known by their address or their signature; who says falsely to be one is known, too.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use tidegate_gateway::gate::Gate;

use crate::{
    facts::rows,
    program::{run, text},
    support::{Answer, Client, PATIENCE, Shop, admin, gate},
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
        - { name: findbot, user_agent: FindBot, domains: [find.example] }
        - { name: listed, user_agent: Listed, networks: [ 203.0.113.0/24 ], networks_file: "{dir}/listed.json" }
        - { name: monitor, keys: "{dir}/monitor.jwks" }
      resolver: {resolver}{more}
  - honeypot: { paths: [ /trap ] }
  - bot_gate: { challenge_at: 0.000001, when_unscored: challenge, runtime: builtin }
  - waiting_room: { room: drop, routes: [shop] }
rooms: [ { name: drop, arm: always, order: fifo } ]
journal: { directory: "{dir}/journal" }
"#;

/// What a name server says: names of an address, or addresses of a name.
#[derive(Clone)]
enum Says {
    /// These records.
    Records(Vec<String>),
    /// There is no such name.
    Nothing,
    /// It is broken.
    Failed,
    /// No answer.
    Silence,
    /// These records, after a while.
    Late(Duration, Vec<String>),
}

/// A name server on loopback. What it does not know does not exist.
struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    zone: Arc<Mutex<BTreeMap<String, Says>>>,
}

impl NameServer {
    fn start() -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = NameServer { address: socket.local_addr().unwrap(), asked: Arc::default(), zone: Arc::default() };
        let (asked, zone) = (server.asked.clone(), server.zone.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 1_500];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                let question = buffer[..n].to_vec();
                asked.lock().unwrap().push(name_of(&question));
                let said = zone.lock().unwrap().get(&name_of(&question)).cloned().unwrap_or(Says::Nothing);
                let answer = |code, records: &[String]| {
                    let _ = socket.send_to(&reply(&question, code, records), from);
                };
                match said {
                    Says::Records(records) => answer(0, &records),
                    Says::Nothing => answer(3, &[]),
                    Says::Failed => answer(2, &[]),
                    Says::Silence => {}
                    Says::Late(after, records) => {
                        let (socket, question) = (socket.try_clone().unwrap(), question.clone());
                        std::thread::spawn(move || {
                            std::thread::sleep(after);
                            let _ = socket.send_to(&reply(&question, 0, &records), from);
                        });
                    }
                }
            }
        });
        server
    }

    fn says(&self, name: &str, says: Says) {
        self.zone.lock().unwrap().insert(name.to_owned(), says);
    }

    /// The address has a name, and the name has addresses.
    fn names(&self, ip: &str, name: &str, back: &str) {
        self.says(&reverse(ip), Says::Records(vec![name.to_owned()]));
        self.says(name, Says::Records(vec![back.to_owned()]));
    }
}

fn reverse(ip: &str) -> String {
    match ip.parse::<IpAddr>().unwrap() {
        IpAddr::V4(a) => {
            let [a, b, c, d] = a.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(a) => {
            let digits: Vec<String> = a.octets().iter().rev().map(|b| format!("{:x}.{:x}", b & 15, b >> 4)).collect();
            format!("{}.ip6.arpa", digits.join("."))
        }
    }
}

fn name_of(question: &[u8]) -> String {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase());
        at = end;
    }
    labels.join(".")
}

fn reply(question: &[u8], code: u8, records: &[String]) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|b| *b == 0).unwrap() + 5;
    let kind = &question[end - 4..end - 2];
    let mut out = question[..2].to_vec();
    out.extend([0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    out.extend(&question[12..end]);
    for record in records {
        let data = match record.parse::<IpAddr>() {
            Ok(IpAddr::V4(a)) => a.octets().to_vec(),
            Ok(IpAddr::V6(a)) => a.octets().to_vec(),
            Err(_) => {
                let labels = record.split('.').flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat());
                labels.chain([0]).collect()
            }
        };
        out.extend([0xc0, 12, kind[0], kind[1], 0, 1, 0, 0, 1, 0x2c, 0, data.len() as u8]);
        out.extend(data);
    }
    out
}

fn start(names: &NameServer, dir: &Path, shop: &Shop, more: &str) -> Gate {
    std::fs::write(dir.join("listed.json"), r#"{"prefixes":[{"ipv6Prefix":"2001:db8::/32"}]}"#).unwrap();
    std::fs::write(dir.join("monitor.jwks"), jwks()).unwrap();
    gate(&POLICY.replace("{resolver}", &names.address.to_string()).replace("{more}", more), shop.address, dir)
}

fn secret() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

/// The public half, as a directory has it.
pub fn jwks() -> String {
    let x = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret().verifying_key().as_bytes());
    format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#)
}

/// What is signed, and its lines.
const AUTHORITY: (&str, &str) = ("\"@authority\"", "\"@authority\": shop.example\n");

/// A client whose requests are signed for this shop.
pub fn signed(client: Client, nonce: &str) -> Client {
    signed_over(client, AUTHORITY, nonce)
}

fn signed_over(client: Client, (covers, values): (&str, &str), nonce: &str) -> Client {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (expires, id) = (now_s + 80_000, thumbprint());
    let params = format!(r#"({covers});created={now_s};expires={expires};keyid="{id}";nonce="{nonce}";tag="web-bot-auth""#);
    let signature = secret().sign(format!("{values}\"@signature-params\": {params}").as_bytes());
    client
        .with("signature-input", &format!("sig={params}"))
        .with("signature", &format!("sig=:{}:", STANDARD.encode(signature.to_bytes())))
}

pub fn from(gate: &Gate, ip: &str, agent: &str) -> Client {
    Client::app(gate.addresses()[0]).with("x-forwarded-for", ip).with("user-agent", agent)
}

pub fn reason(answer: &Answer) -> &str {
    answer.header("tidegate-reason").unwrap_or("forwarded")
}

/// Asks until the gate knows; what it answers then.
fn once_known(client: &mut Client, path: &str, unknown: &str) -> String {
    let began = Instant::now();
    loop {
        let answer = client.get(path);
        if reason(&answer) != unknown || began.elapsed() > PATIENCE {
            return reason(&answer).to_owned();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn who_may_say_so_is_let_alone_and_who_may_not_goes_to_the_back() {
    let (names, shop, dir) = (NameServer::start(), Shop::start(), tempfile::tempdir().unwrap());
    let gate = start(&names, dir.path(), &shop, "");
    const AGENT: &str = "Mozilla/5.0 (compatible; findBOT/2.1)";
    // Its own name, confirmed; a name it gave itself; a name elsewhere; none; a family of its own.
    names.names("198.51.100.1", "crawl-1.find.example", "198.51.100.1");
    names.names("198.51.100.2", "crawl-1.find.example", "198.51.100.1");
    names.names("198.51.100.3", "find.example.evil.example", "198.51.100.3");
    names.names("2001:db9::5", "crawl-6.find.example", "2001:db9::5");
    names.says(&reverse("198.51.100.5"), Says::Failed);
    names.says(&reverse("198.51.100.6"), Says::Silence);
    names.says(&reverse("198.51.100.7"), Says::Late(Duration::from_secs(9), vec!["crawl-7.find.example".into()]));
    names.says("crawl-7.find.example", Says::Records(vec!["198.51.100.7".into()]));
    names.says(&reverse("198.51.100.8"), Says::Late(Duration::from_millis(300), vec!["crawl-8.find.example".into()]));
    names.says("crawl-8.find.example", Says::Records(vec!["198.51.100.8".into()]));

    // Until it is known a crawler is what it is without this: challenged here, and no place.
    for (ip, known) in [
        ("198.51.100.1", "forwarded"),
        ("2001:db9::5", "forwarded"),
        ("198.51.100.8", "forwarded"),
        ("198.51.100.2", "SCORE_CHALLENGE"),
        ("198.51.100.3", "SCORE_CHALLENGE"),
        ("198.51.100.4", "SCORE_CHALLENGE"),
    ] {
        let mut bot = from(&gate, ip, AGENT);
        assert_eq!(reason(&bot.get("/open")), "SCORE_CHALLENGE", "{ip}: nobody waits for a name server");
        if known == "forwarded" {
            assert_eq!(once_known(&mut bot, "/open", "SCORE_CHALLENGE"), known, "{ip}");
            assert_eq!(reason(&bot.get("/")), "PEOPLE_WAIT", "{ip}: never a place");
            assert_eq!(reason(&from(&gate, ip, "curl/8").get("/open")), "SCORE_CHALLENGE", "{ip}: who does not say so is not");
            bot.get("/trap");
            assert_eq!(reason(&bot.get("/open")), "forwarded", "{ip}: no honeypot for it");
        }
    }
    let asked = || names.asked.lock().unwrap().iter().filter(|n| **n == reverse("198.51.100.1")).count();
    assert_eq!(asked(), 1);
    (0..50).for_each(|_| drop(from(&gate, "198.51.100.1", AGENT).get("/open")));
    assert_eq!(asked(), 1, "what is known is not asked again");
    for ip in ["198.51.100.5", "198.51.100.6", "198.51.100.7"] {
        assert_eq!(reason(&from(&gate, ip, AGENT).get("/open")), "SCORE_CHALLENGE", "{ip}");
    }

    // By published networks alone: at once, either way.
    for (ip, known) in [("203.0.113.9", "forwarded"), ("2001:db8::1", "forwarded"), ("198.51.100.1", "SCORE_CHALLENGE")] {
        assert_eq!(reason(&from(&gate, ip, "Listed/1").get("/open")), known, "{ip}");
    }
    let lookups = |outcome: &str| {
        let metrics = admin(&gate, dir.path(), "GET", "/metrics", "").body;
        let line = format!("tidegate_bot_lookups_total{{outcome=\"{outcome}\"}} ");
        metrics.lines().find_map(|l| l.strip_prefix(&line)).unwrap_or_else(|| panic!("{metrics}")).to_owned()
    };
    let began = Instant::now();
    while lookups("silent") != "3" && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!((lookups("good"), lookups("impostor"), lookups("silent")), ("3".into(), "3".into(), "3".into()));
    for ip in ["198.51.100.5", "198.51.100.6", "198.51.100.7"] {
        assert_eq!(reason(&from(&gate, ip, AGENT).get("/open")), "SCORE_CHALLENGE", "{ip}: still unknown, never good");
    }
    for ip in ["198.51.100.2", "198.51.100.3", "198.51.100.4"] {
        from(&gate, ip, AGENT).get("/open");
    }
    drop(gate);
    let (journal, labels) = (dir.path().join("journal"), dir.path().join("labels.csv"));
    let (journal, labels) = (journal.display().to_string(), labels.display().to_string());
    let said = run(&["bots", "label", "--from", &journal, "--labels", &labels, "--facts"]);
    assert!(said.status.success(), "{}", text(&said));
    let lines = std::fs::read_to_string(&labels).unwrap();
    for family in ["findbot", "listed", "false crawler"] {
        assert!(lines.contains(&format!(",program,known for sure,{family}")), "{family}: {lines}");
    }
    let rows = rows(dir.path());
    let known = |fact: &str| rows.iter().filter(|r| r.facts == fact).count();
    assert_eq!(known("false_crawler=findbot"), 3, "{:?}", rows.iter().map(|r| &r.facts).collect::<Vec<_>>());
    for fact in ["good_bot=findbot", "good_bot=listed", "false_crawler=listed", "claims=findbot"] {
        assert!(known(fact) > 0, "{fact}: {:?}", rows.iter().map(|r| &r.facts).collect::<Vec<_>>());
    }
    assert!(rows.iter().filter(|r| r.facts.starts_with("good_bot")).all(|r| r.score.is_nan()), "not scored");
}

#[test]
fn an_impostor_waits_at_the_back_or_is_refused_or_only_watched() {
    for (more, said, class, shadow) in [
        ("", "SCORE_CHALLENGE", "suspect", ""),
        ("\n      impostors: refuse", "FALSE_CRAWLER", "", ""),
        ("\n      impostors: log", "SCORE_CHALLENGE", "unsure", ""),
        ("\n      shadow: true", "SCORE_CHALLENGE", "unsure", "good_bots:to_the_back:FALSE_CRAWLER"),
    ] {
        let (names, shop, dir) = (NameServer::start(), Shop::start(), tempfile::tempdir().unwrap());
        let gate = start(&names, dir.path(), &shop, more);
        let answer = from(&gate, "198.51.100.9", "Mozilla/5.0 (compatible; Listed/2)").get("/");
        assert_eq!((answer.status, reason(&answer)), (403, said), "{more}: {answer:?}");
        assert_eq!(answer.json()["appeal"].is_object(), said == "FALSE_CRAWLER", "{answer:?}");
        drop(gate);
        let (reference, journal) = (answer.json()["reference"].as_str().unwrap().to_owned(), dir.path().join("journal"));
        let explained = run(&["bots", "explain", &reference, "--from", &journal.display().to_string()]);
        assert!(text(&explained).contains("facts    false_crawler=listed"), "{}", text(&explained));
        let row = rows(dir.path()).into_iter().find(|r| r.path == "/").unwrap();
        assert_eq!((&*row.facts, row.class, &*row.shadow), ("false_crawler=listed", class, shadow), "{more}");
    }
}

#[test]
fn who_signs_is_known_whatever_it_says_and_once() {
    let (names, shop, dir) = (NameServer::start(), Shop::start(), tempfile::tempdir().unwrap());
    let gate = start(&names, dir.path(), &shop, "");
    let signed = |path: &str, covers: &str, values: &str, nonce: &str| {
        let mut client = signed_over(from(&gate, "198.51.100.77", "curl/8"), (covers, values), nonce);
        reason(&client.get(path)).to_owned()
    };
    let authority = AUTHORITY;
    assert_eq!(signed("/open", authority.0, authority.1, "a"), "forwarded");
    assert_eq!(signed("/open", authority.0, authority.1, "a"), "SCORE_CHALLENGE", "the nonce was used");
    assert_eq!(signed("/open", authority.0, authority.1, "b"), "forwarded");
    assert_eq!(signed("/", authority.0, authority.1, "c"), "PEOPLE_WAIT", "never a place");
    let path = ("\"@authority\" \"@path\"", "\"@authority\": shop.example\n\"@path\": /open\n");
    assert_eq!(signed("/open", path.0, path.1, "d"), "forwarded");
    assert_eq!(signed("/open/else", path.0, path.1, "e"), "SCORE_CHALLENGE", "another path than was signed");
    let other = "\"@authority\": other.example\n";
    assert_eq!(signed("/open", authority.0, other, "f"), "SCORE_CHALLENGE", "for another shop");
    let metrics = admin(&gate, dir.path(), "GET", "/metrics", "").body;
    for line in ["good\"} 4", "replayed\"} 1", "wrong\"} 2"] {
        assert!(metrics.contains(&format!("tidegate_bot_signatures_total{{outcome=\"{line}")), "{line}: {metrics}");
    }
    drop(gate);
    let facts: Vec<String> = rows(dir.path()).into_iter().map(|r| r.facts.into_owned()).collect();
    for fact in ["good_bot=monitor", "signature=replayed", "signature=wrong"] {
        assert!(facts.iter().any(|f| f == fact), "{fact}: {facts:?}");
    }
}

fn thumbprint() -> String {
    use sha2::{Digest as _, Sha256};
    let url = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let x = url.encode(secret().verifying_key().as_bytes());
    url.encode(Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)))
}
