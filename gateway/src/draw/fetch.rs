//! Asks a relay for a beacon round. Plain HTTP: the round carries its own signature, which is checked before it is used.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

use serde_json::Value;
use tidegate_filters::seats::draw::{
    beacon::{BeaconRound, QUICKNET},
    digest::unhex,
};

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Largest answer, bytes: a round has a few hundred.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// `GET {from}/public/{round}`.
pub(super) fn fetch(from: &str, source: &str, round: u64) -> Result<BeaconRound, String> {
    let rest = from.strip_prefix("http://").ok_or("only http:// is spoken")?;
    let (authority, path) =
        rest.split_once('/').map_or((rest, String::new()), |(a, p)| (a, format!("/{}", p.trim_end_matches('/'))));
    let with_port = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let address = with_port.to_socket_addrs().map_err(|e| format!("{authority}: {e}"))?.next();
    let address = address.ok_or_else(|| format!("{authority} has no address"))?;
    let io = |e: std::io::Error| format!("{authority}: {e}");
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(io)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(io)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(io)?;
    // HTTP/1.0: the answer ends with the connection and has no chunks.
    let request = format!("GET {path}/public/{round} HTTP/1.0\r\nHost: {authority}\r\nAccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(io)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(io)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{authority}: no answer that makes sense"))?;
    let status = head.split(' ').nth(1).unwrap_or("none");
    if status != "200" {
        return Err(format!("{authority} answers {status} for round {round}"));
    }
    read(body, source).ok_or_else(|| format!("{authority}: the answer is no beacon round"))
}

/// A round as drand writes it, or as this program does.
pub fn read(text: &str, source: &str) -> Option<BeaconRound> {
    let value: Value = serde_json::from_str(text).ok()?;
    if let Some(randomness) = value.get("randomness").and_then(Value::as_str) {
        let named = value.get("source").and_then(Value::as_str);
        let source = if source.is_empty() { named.unwrap_or(QUICKNET) } else { source };
        let signature = value.get("signature")?.as_str()?.to_owned();
        return Some(BeaconRound {
            source: source.into(),
            round: value.get("round")?.as_u64()?,
            value: unhex(randomness)?,
            signature,
        });
    }
    serde_json::from_value(value).ok()
}
