//! The gate under measurement: one process for each thing that is measured, and the cookies of visitors it knows.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{
    load::CONNECTIONS,
    process::{Server, free_address},
    rivals::THREADS,
};

/// A ready gate answers this soon or never.
const READY_MAX: Duration = Duration::from_secs(20);
/// Time for one question outside the measurement.
const ASK_MAX: Duration = Duration::from_secs(5);

/// What one gate process is set up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Every filter but the score, limits nobody reaches, a pass held.
    Filters,
    /// The same with the built-in model on the built-in runtime.
    Scored,
    /// The same with the built-in model on ONNX Runtime.
    ScoredOnnx,
    /// As [`Setting::Scored`], with the journal written.
    Journal,
    /// A room in which everybody waits.
    Waiting,
    /// A quota that is used up.
    Quota,
}

/// A gate that said it is ready.
#[derive(Debug)]
pub struct Gate {
    /// The process.
    pub server: Server,
    /// From the start of the process to the first 200 of `/readyz`.
    pub ready_after: Duration,
}

impl Gate {
    /// Starts one.
    pub fn start(program: &Path, setting: Setting, upstream: SocketAddr, dir: &Path) -> anyhow::Result<Gate> {
        let (address, admin) = (free_address()?, free_address()?);
        let name = format!("{setting:?}").to_lowercase();
        let policy = dir.join(format!("{name}.yaml"));
        fs::write(&policy, self::policy(setting, address, admin, upstream, dir))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--policy").arg(&policy);
        let begun = Instant::now();
        let server = Server::start(command, address, &dir.join(format!("{name}.log")))?;
        while !ask(admin, &request("/readyz", "application/json", "")).is_ok_and(|a| a.status == 200) {
            if begun.elapsed() > READY_MAX {
                bail!("the gate is not ready; its words are in {}", dir.join(format!("{name}.log")).display());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Gate { ready_after: begun.elapsed(), server })
    }

    /// One request a connection, each of a visitor with cookies of this gate; the first answer must have the status and
    /// the verdict (`None`: it was forwarded).
    pub fn requests(&self, accept: &str, status: u16, verdict: Option<&str>) -> anyhow::Result<Vec<Vec<u8>>> {
        let known = |_| {
            let first = ask(self.server.address, &request("/product/1", accept, ""))?;
            let request = request("/product/1", accept, &first.cookies.join("; "));
            let answer = ask(self.server.address, &request)?;
            if answer.status != status || answer.verdict.as_deref() != verdict {
                bail!("the gate answered {} {:?} where {status} {verdict:?} is measured", answer.status, answer.verdict);
            }
            Ok(request)
        };
        (0..CONNECTIONS).map(known).collect()
    }
}

/// The head a browser sends, with or without cookies.
pub fn request(path: &str, accept: &str, cookies: &str) -> Vec<u8> {
    let cookies = if cookies.is_empty() { String::new() } else { format!("Cookie: {cookies}\r\n") };
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: keep-alive\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
         Accept: {accept}\r\nAccept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\n\
         Referer: http://shop.example/\r\n{cookies}\r\n"
    );
    head.into_bytes()
}

/// A path of its own and a file for each setting.
fn policy(setting: Setting, address: SocketAddr, admin: SocketAddr, upstream: SocketAddr, dir: &Path) -> String {
    let runtime = if setting == Setting::ScoredOnnx { "onnxruntime" } else { "builtin" };
    let scored = matches!(setting, Setting::Scored | Setting::ScoredOnnx | Setting::Journal);
    // In shadow the model runs on every request all the same, and its opinion of this crowd cannot spoil a run.
    let gate = format!("  - bot_gate: {{ to_the_back_at: 0.85, when_unscored: admit, runtime: {runtime}, shadow: true }}\n");
    let quota = if setting == Setting::Quota { "rate: 1/h, burst: 1" } else { "rate: 1000000/s, burst: 1000000" };
    let room = match setting {
        Setting::Waiting => "arm: always, admission: { fixed: 1/h }, seats: { max: 1 }",
        _ => "arm: auto, admission: { fixed: 10000/s }, seats: { max: 100000, pass_idle: 1h, pass_age_max: 1h }",
    };
    let journal = match setting {
        Setting::Journal => format!("journal: {{ directory: \"{}\" }}\n", dir.join("journal").display()),
        _ => String::new(),
    };
    format!(
        "version: 1\nthreads: {THREADS}\nlisten:\n  - {{ address: {address} }}\nadmin: {{ address: {admin} }}\n\
         shop:\n  upstreams:\n    - {{ address: {upstream} }}\n  in_flight: {{ max: {{ fixed: 256 }} }}\n\
         routes:\n  - {{ name: shop, match: {{ prefix: / }} }}\n\
         filters:\n  - address: {{ deny: [192.0.2.0/24] }}\n\
         \x20 - visitor_rate: {{ name: per-visitor, key: visitor, rate: 1000000/s, burst: 1000000 }}\n\
         \x20 - visitor_rate: {{ name: per-network, key: network, {quota} }}\n{}\
         \x20 - waiting_room: {{ room: drop }}\n\
         rooms:\n  - {{ name: drop, {room} }}\n{journal}",
        if scored { gate } else { String::new() },
    )
}

struct Answer {
    status: u16,
    verdict: Option<String>,
    cookies: Vec<String>,
}

/// One question on a connection of its own.
fn ask(address: SocketAddr, request: &[u8]) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ASK_MAX))?;
    stream.write_all(request)?;
    let mut head = Vec::new();
    let mut buf = [0u8; 4096];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = stream.read(&mut buf)?;
        if n == 0 {
            bail!("{address} closed the connection without an answer");
        }
        head.extend_from_slice(&buf[..n]);
    }
    let head = String::from_utf8_lossy(&head);
    let head = head.split("\r\n\r\n").next().unwrap_or_default();
    let status = head.get(9..12).and_then(|s| s.parse().ok()).context("no HTTP/1.1 answer")?;
    let values = |name: &str| -> Vec<String> {
        let pairs = head.lines().filter_map(|l| l.split_once(':'));
        pairs.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned()).collect()
    };
    let pair = |v: String| v.split(';').next().unwrap_or_default().to_owned();
    let cookies = values("set-cookie").into_iter().map(pair).collect();
    Ok(Answer { status, verdict: values("tidegate-verdict").pop(), cookies })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_setting_is_a_policy_without_mistakes() {
        let a = "127.0.0.1:1".parse().unwrap();
        let b = "127.0.0.1:2".parse().unwrap();
        let c = "127.0.0.1:3".parse().unwrap();
        for setting in
            [Setting::Filters, Setting::Scored, Setting::ScoredOnnx, Setting::Journal, Setting::Waiting, Setting::Quota]
        {
            let text = policy(setting, a, b, c, Path::new("bench"));
            tidegate_config::parse(&text, "bench.yaml").unwrap_or_else(|e| panic!("{setting:?}: {e}\n{text}"));
        }
    }
}
