//! How long a gate takes to come back with a room full of people, after `kill -9`: over HTTP, as it would be lived through.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::{
    gate::request,
    load::{self, Target},
    process::{Server, free_address},
};

/// Most places asked for: as many as a lane has.
pub const PLACES_MAX: u32 = 16_000_000;
/// The room is looked at after each such time of load.
const ROUND: Duration = Duration::from_secs(2);
/// A gate that takes longer does not come back.
const READY_MAX: Duration = Duration::from_secs(120);
const ASK_MAX: Duration = Duration::from_secs(5);
const TOKEN: &str = "bench-restart-token-0123456789";

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Restart {
    /// Places given before the kill.
    pub places: u64,
    /// Places known after it: none is lost, the next block of reserved numbers may come on top.
    pub back: u64,
    /// From the start of the process to the first 200 of `/readyz`, milliseconds.
    pub ready_ms: f64,
    /// Size of the state's directory, bytes.
    pub state_bytes: u64,
}

/// Fills a room with at least so many places, kills the gate, starts it again.
pub fn run(program: &Path, places: u32, dir: &Path, say: &mut dyn FnMut(&str)) -> anyhow::Result<Restart> {
    let (address, admin, upstream) = (free_address()?, free_address()?, load::upstream()?);
    let file = dir.join("restart.yaml");
    fs::write(&file, policy(address, admin, upstream, places, dir))?;
    let mut token = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(dir.join("token"))?;
    writeln!(token, "{TOKEN}")?;
    let (server, _) = start(program, &file, address, admin, dir)?;
    let target = Target { address, requests: vec![request("/product/1", "application/json", "")], status: 200 };
    let mut given = 0;
    while given < u64::from(places) {
        let round = load::round(&target, ROUND, || server.cpu())?;
        if round.answers == 0 {
            bail!("the gate gives no places; its words are in {}", dir.join("restart.log").display());
        }
        given = arrived(admin)?;
        say(&format!("{given} places given"));
    }
    // A tick and its batch, so that who was promised something is not the last who came.
    std::thread::sleep(Duration::from_secs(1));
    let given = arrived(admin)?;
    server.kill()?;
    let state_bytes = size(&dir.join("state"))?;
    let (_server, ready) = start(program, &file, address, admin, dir)?;
    Ok(Restart { places: given, back: arrived(admin)?, ready_ms: ready.as_secs_f64() * 1e3, state_bytes })
}

fn start(program: &Path, file: &Path, address: SocketAddr, admin: SocketAddr, dir: &Path) -> anyhow::Result<(Server, Duration)> {
    let mut command = Command::new(program);
    command.arg("serve").arg("--policy").arg(file);
    let begun = Instant::now();
    let server = Server::start(command, address, &dir.join("restart.log"))?;
    while !ask(admin, "/readyz").is_ok_and(|(status, _)| status == 200) {
        if begun.elapsed() > READY_MAX {
            bail!("the gate is not ready; its words are in {}", dir.join("restart.log").display());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok((server, begun.elapsed()))
}

/// The room's own count.
fn arrived(admin: SocketAddr) -> anyhow::Result<u64> {
    let (status, body) = ask(admin, "/v1/rooms")?;
    let rooms: serde_json::Value = serde_json::from_str(&body).with_context(|| format!("/v1/rooms answers {status}: {body}"))?;
    rooms[0]["arrived"].as_u64().context("/v1/rooms names no `arrived`")
}

fn ask(admin: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(ASK_MAX))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer)?;
    let status = answer.get(9..12).and_then(|s| s.parse().ok()).context("no HTTP/1.1 answer")?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, b)| b);
    // Chunked or not: JSON begins and ends with its own brackets.
    let json = body.find(['[', '{']).zip(body.rfind([']', '}'])).and_then(|(a, b)| body.get(a..=b));
    Ok((status, json.unwrap_or_default().to_owned()))
}

fn size(dir: &Path) -> anyhow::Result<u64> {
    let files = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    Ok(files.flatten().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum())
}

/// A room in which everybody waits and nobody is called.
fn policy(address: SocketAddr, admin: SocketAddr, upstream: SocketAddr, places: u32, dir: &Path) -> String {
    let at = |name: &str| dir.join(name).display().to_string();
    format!(
        "version: 1\nthreads: 1\nlisten: [ {{ address: {address} }} ]\nadmin: {{ address: {admin}, token_file: '{}' }}\n\
         shop: {{ upstreams: [ {{ address: {upstream} }} ] }}\nfilters: [ {{ waiting_room: {{ room: drop }} }} ]\n\
         rooms: [ {{ name: drop, arm: always, admission: {{ fixed: 1/h }}, seats: {{ max: 1 }}, entries_max: {} }} ]\n\
         state: {{ directory: '{}', budget: 10s }}\nkeys: {{ directory: '{}' }}\n",
        at("token"),
        places.saturating_add(400_000).min(PLACES_MAX),
        at("state"),
        at("keys"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_policy_has_no_mistakes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let text = policy(at(1), at(2), at(3), 1_000_000, dir.path());
        tidegate_config::parse(&text, "restart.yaml").unwrap_or_else(|e| panic!("{e}\n{text}"));
    }
}
