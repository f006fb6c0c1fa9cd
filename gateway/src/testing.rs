//! For tests of the control plane: a shop on a real socket, a policy file, a bare HTTP client.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tidegate_config::{Checks, load_with};

use crate::{
    deep::Deep,
    gate::{Gate, GateOptions},
};

/// A shop that answers `hello` to everything, until the test ends.
pub(crate) fn shop() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            if String::from_utf8_lossy(&head).contains("/slow") {
                thread::sleep(Duration::from_millis(300));
            }
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n").is_err() {
                return;
            }
            head.clear();
        }
    }
}

/// A gate from a policy file in a directory of its own, with admin API, journal and keys.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) shop: SocketAddr,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Bench { dir: tempfile::tempdir().unwrap(), shop: shop() }
    }

    pub(crate) fn policy(&self, more: &str) -> String {
        let dir = self.dir.path().display();
        format!(
            "version: 1\nlisten: [{{ address: 127.0.0.1:0 }}]\nadmin: {{ address: 127.0.0.1:0, token_file: {dir}/admin.token }}\n\
             shop: {{ upstreams: [{{ address: {} }}] }}\njournal: {{ directory: {dir}/journal }}\nkeys: {{ directory: {dir}/keys }}\n\
             rooms: [{{ name: drop }}]\nfilters: [{{ waiting_room: {{ room: drop }} }}]\n{more}",
            self.shop
        )
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("policy.yaml")
    }

    pub(crate) fn start(&self, more: &str) -> Gate {
        fs::write(self.file(), self.policy(more)).unwrap();
        let loaded = load_with(self.file(), &Checks { deep: Some(&Deep::default()), ..Checks::default() });
        let loaded = loaded.unwrap_or_else(|e| panic!("{e}"));
        Gate::start(GateOptions { file: Some(self.file()), ..GateOptions::new(loaded) }).unwrap()
    }

    pub(crate) fn token(&self) -> String {
        fs::read_to_string(self.dir.path().join("admin.token")).unwrap().trim().to_owned()
    }

    /// An admin request with the right token.
    pub(crate) fn admin(&self, gate: &Gate, method: &str, path: &str, body: &str) -> Answer {
        let authorization = format!("Authorization: Bearer {}\r\n", self.token());
        call(gate.admin_address().unwrap(), method, path, &authorization, body.as_bytes())
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }
}

/// One request on one connection.
pub(crate) fn call(to: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // A server that refuses early may close before the body is through.
    let _ = stream.write_all(body);
    read(stream)
}

/// Sends bytes on one connection, reads the answer.
pub(crate) fn raw(to: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    read(stream)
}

fn read(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// Asks until it is so; fails after ten seconds.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if so() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: not within 10 s");
}

/// Replaces a file as careful editors do.
pub(crate) fn save_by_renaming(file: &Path, text: &str) {
    let draft = file.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, file).unwrap();
}
