//! A beacon for a machine without a network: it stands in for a public one, publishes a round a second and none early.

use std::{io, net::SocketAddr};

use tidegate_filters::seats::draw::beacon::{LocalBeacon, Schedule};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Longest request line that is looked at, bytes.
const LINE_BYTES_MAX: u64 = 1_024;

/// A beacon that answers `GET /public/ROUND` until it is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    /// Its name, as in the policy.
    pub(super) source: String,
    /// Where the gate asks for rounds.
    pub(super) address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Relay {
    /// Starts with a key that nobody else has.
    pub(super) async fn start() -> io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|e| io::Error::other(e.to_string()))?;
        let beacon = LocalBeacon::new(&secret);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (source, address) = (beacon.source(), listener.local_addr()?);
        let serving = tokio::spawn(async move {
            // One client, the gate, one round now and then: in turn is enough.
            while let Ok((stream, _)) = listener.accept().await {
                drop(answer(stream, &beacon).await);
            }
        });
        Ok(Relay { source, address, serving })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(stream: TcpStream, beacon: &LocalBeacon) -> io::Result<()> {
    use tokio::io::AsyncReadExt as _;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(LINE_BYTES_MAX)).lines();
    let line = lines.next_line().await?.unwrap_or_default();
    let path = line.split(' ').nth(1).unwrap_or_default();
    let round = path.strip_prefix("/public/").and_then(|r| r.parse().ok());
    let body = round.and_then(|r| published(beacon, r, crate::unix_ms() / 1_000));
    let (status, body) = body.map_or(("404 Not Found", String::new()), |b| ("200 OK", b));
    // Until the empty line: what is left unread when the socket closes would reset it.
    while lines.next_line().await?.is_some_and(|l| !l.is_empty()) {}
    write.write_all(format!("HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    write.shutdown().await
}

/// A round as it is published; `None` before its time.
fn published(beacon: &LocalBeacon, round: u64, now_s: u64) -> Option<String> {
    let due = Schedule::of(&beacon.source())?.time_of(round);
    if round == 0 || now_s < due {
        return None;
    }
    serde_json::to_string(&beacon.round(round)).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tidegate_filters::seats::draw::beacon::{BeaconCheck, BeaconRound, check_local};
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[test]
    fn a_round_is_signed_and_never_early() {
        let beacon = LocalBeacon::new(&[5; 32]);
        let round: BeaconRound = serde_json::from_str(&published(&beacon, 900, 900).unwrap()).unwrap();
        assert_eq!(check_local(&round), Some(BeaconCheck::Proven));
        assert!(published(&beacon, 901, 900).is_none() && published(&beacon, 0, 900).is_none());
    }

    #[tokio::test]
    async fn the_relay_speaks_http() {
        let relay = Relay::start().await.unwrap();
        let ask = async |path: &str| {
            let mut stream = TcpStream::connect(relay.address).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        assert!(ask("/public/7").await.contains("\"round\":7"));
        assert!(ask("/public/99999999999").await.starts_with("HTTP/1.0 404"));
        assert!(ask("/other").await.starts_with("HTTP/1.0 404"));
    }
}
