//! A toy shop that says what it saw, gates from YAML, and a client that speaks plain HTTP/1.1 with cookies.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

pub use tidegate_gateway::gate::Gate;
use tidegate_gateway::gate::GateOptions;

/// Longest wait for any answer in a test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Records that a test did not run; an error when `TIDEGATE_REQUIRE` names what is missing.
pub fn skip(what: &str, why: &str) {
    let required = std::env::var("TIDEGATE_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|r| r == what), "required by TIDEGATE_REQUIRE but missing: {what} ({why})");
    println!("SKIPPED: {what}: {why}");
    if let Ok(log) = std::env::var("TIDEGATE_SKIP_LOG") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(log);
        writeln!(file.unwrap(), "{what}: {why}").unwrap();
    }
}

/// One request as the shop saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// A shop on a thread a connection: keeps what it saw; `/sold` reports a unit.
pub struct Shop {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Shop {
    pub fn start() -> Shop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let seen2 = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = seen2.clone();
                std::thread::spawn(move || serve(stream, &seen));
            }
        });
        Shop { address, seen }
    }

    /// Requests so far, health checks left out.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<Seen>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(request) = read_request(&mut reader) {
        let path = request.line.split(' ').nth(1).unwrap_or("/").to_owned();
        seen.lock().unwrap().push(request);
        let extra = if path == "/sold" { "tidegate-sold: 1\r\n" } else { "" };
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n{extra}\r\nhello {:3}", path.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

pub fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let headers = read_headers(reader)?;
    let mut seen = Seen { line: line.trim_end().to_owned(), headers, body: Vec::new() };
    let len: usize = seen.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    seen.body = vec![0; len];
    reader.read_exact(&mut seen.body).ok()?;
    Some(seen)
}

fn read_headers(reader: &mut BufReader<TcpStream>) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
            None => return Some(headers),
        }
    }
}

/// A gate from policy text: `{shop}` becomes the shop's address, `{dir}` the folder.
pub fn gate(yaml: &str, shop: SocketAddr, dir: &Path) -> Gate {
    let text = yaml.replace("{shop}", &shop.to_string()).replace("{dir}", &dir.display().to_string());
    let file = dir.join("policy.yaml");
    std::fs::write(&file, text).unwrap();
    let loaded = tidegate_config::load(&file).unwrap_or_else(|e| panic!("{e}"));
    let gate = Gate::start(GateOptions { file: Some(file), ..GateOptions::new(loaded) });
    gate.unwrap_or_else(|e| panic!("{e}"))
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// A client that keeps cookies and opens a connection a request.
#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub headers: Vec<(String, String)>,
    pub cookies: BTreeMap<String, String>,
}

impl Client {
    /// An app: asks for JSON.
    pub fn app(address: SocketAddr) -> Client {
        Client { address, headers: vec![("accept".into(), "application/json".into())], cookies: BTreeMap::new() }
    }

    /// A browser that navigates.
    pub fn browser(address: SocketAddr) -> Client {
        let headers = [
            ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            ("accept-language", "en"),
            ("accept-encoding", "identity"),
            ("sec-fetch-dest", "document"),
            ("sec-fetch-mode", "navigate"),
        ];
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Client { address, headers, cookies: BTreeMap::new() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Client {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, "")
    }

    pub fn post(&mut self, path: &str, form: &str) -> Answer {
        self.send("POST", path, form)
    }

    pub fn send(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n");
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.cookies.is_empty() {
            let cookies: Vec<String> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
            head += &format!("cookie: {}\r\n", cookies.join("; "));
        }
        if method == "POST" {
            head += &format!("content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n", body.len());
        }
        let answer = raw(self.address, format!("{head}\r\n{body}").as_bytes());
        for (_, cookie) in answer.headers.iter().filter(|(n, _)| n == "set-cookie") {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        answer
    }

    /// Polls until the turn comes, then claims. `None` when that takes longer than the patience of a test.
    pub fn wait_and_claim(&mut self, room: &str) -> Option<Answer> {
        let start = std::time::Instant::now();
        while start.elapsed() < PATIENCE {
            let status = self.get(&format!("/.tidegate/status?room={room}"));
            if status.json()["state"] == "called" || status.json()["state"] == "next" {
                let answer = self.post("/.tidegate/claim", &format!("room={room}&to=/"));
                if answer.status == 200 {
                    return Some(answer);
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }
}

/// Sends bytes, reads one answer.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let headers = read_headers(&mut reader).unwrap_or_default();
    let len = headers.iter().find(|(n, _)| n == "content-length").and_then(|(_, l)| l.parse::<u64>().ok());
    let mut body = Vec::new();
    // Without a length the connection's end is the body's.
    let _ = reader.take(len.unwrap_or(1 << 20)).read_to_end(&mut body);
    Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
}

/// The admin API, with the token in `dir`.
pub fn admin(gate: &Gate, dir: &Path, method: &str, path: &str, body: &str) -> Answer {
    admin_at(gate.admin_address().unwrap(), dir, method, path, body)
}

/// The same of a gate in another process.
pub fn admin_at(address: SocketAddr, dir: &Path, method: &str, path: &str, body: &str) -> Answer {
    let token = std::fs::read_to_string(dir.join("admin.token")).unwrap();
    let (token, length) = (token.trim(), body.len());
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    raw(address, format!("{head}{body}").as_bytes())
}
