//! Closed-loop load over raw sockets: prebuilt requests, answers parsed only as far as needed to know that they are right.

use std::{cell::Cell, io, net::SocketAddr, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Connections of one run, kept alive; the next request leaves when the answer is there.
pub const CONNECTIONS: usize = 64;
/// Longest head of an answer.
const HEAD_MAX: usize = 16 << 10;
/// Size of the upstream's page.
const PAGE_BYTES: usize = 1024;

/// What is asked of whom, and what must come back.
#[derive(Clone, Debug)]
pub struct Target {
    /// On loopback.
    pub address: SocketAddr,
    /// Whole requests; connection `i` repeats number `i % len`.
    pub requests: Vec<Vec<u8>>,
    /// Anything else is an error.
    pub status: u16,
}

/// One round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// Right answers.
    pub answers: u64,
    /// Wrong statuses, broken answers, closed connections.
    pub errors: u64,
    /// What the server burnt meanwhile.
    pub cpu: Duration,
}

impl Round {
    /// Microseconds of the server's CPU for each answer.
    pub fn us_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.answers.max(1) as f64
    }
}

/// Warms up for a fifth of the time, then measures. `cpu` is asked at both ends.
pub fn round(target: &Target, measured: Duration, cpu: impl Fn() -> io::Result<Duration>) -> io::Result<Round> {
    if !target.address.ip().is_loopback() {
        return Err(io::Error::other(format!("{} is not this machine: load is for loopback only", target.address)));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let counts = Rc::new(Counts::default());
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|i| {
                tokio::task::spawn_local(client(
                    target.address,
                    target.requests[i % target.requests.len()].clone(),
                    target.status,
                    counts.clone(),
                ))
            })
            .collect();
        tokio::time::sleep(measured / 5).await;
        let (answers, errors, before) = (counts.answers.get(), counts.errors.get(), cpu()?);
        tokio::time::sleep(measured).await;
        let (after, end) = (cpu()?, counts.answers.get());
        clients.iter().for_each(tokio::task::JoinHandle::abort);
        // Errors of the warm-up count too: a server that starts wrong is not measured.
        let _ = errors;
        Ok(Round { answers: end - answers, errors: counts.errors.get(), cpu: after.saturating_sub(before) })
    })
}

#[derive(Default)]
struct Counts {
    answers: Cell<u64>,
    errors: Cell<u64>,
}

/// Repeats one request for ever; after an error on a new connection.
async fn client(address: SocketAddr, request: Vec<u8>, status: u16, counts: Rc<Counts>) {
    loop {
        if let Err(_broken) = talk(address, &request, status, &counts).await {
            counts.errors.set(counts.errors.get() + 1);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn talk(address: SocketAddr, request: &[u8], status: u16, counts: &Counts) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buf = vec![0u8; HEAD_MAX];
    loop {
        stream.write_all(request).await?;
        let mut filled = 0;
        let head = loop {
            let n = stream.read(&mut buf[filled..]).await?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += n;
            match parse(&buf[..filled]) {
                Parsed::Partial if filled == buf.len() => return Err(io::Error::other("head too long")),
                Parsed::Partial => {}
                Parsed::Bad => return Err(io::Error::other("no HTTP/1.1 answer with Content-Length")),
                Parsed::Head(head) => break head,
            }
        };
        let mut left = (head.len + head.body).checked_sub(filled).ok_or_else(|| io::Error::other("more than was announced"))?;
        while left > 0 {
            let n = stream.read(&mut buf).await?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left = left.checked_sub(n).ok_or_else(|| io::Error::other("more than was announced"))?;
        }
        if head.status != status {
            return Err(io::Error::other(format!("status {}", head.status)));
        }
        counts.answers.set(counts.answers.get() + 1);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    len: usize,
    body: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Partial,
    Bad,
    Head(Head),
}

fn parse(bytes: &[u8]) -> Parsed {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Parsed::Partial };
    let head = &bytes[..end];
    let digits = |b: &[u8]| std::str::from_utf8(b).ok()?.trim().parse::<usize>().ok();
    let status = head.get(9..12).filter(|_| head.starts_with(b"HTTP/1.1 ")).and_then(digits);
    const NAME: &[u8] = b"content-length:";
    let length = head.split(|b| *b == b'\n').find(|l| l.len() > NAME.len() && l[..NAME.len()].eq_ignore_ascii_case(NAME));
    match (status, length.and_then(|l| digits(&l[NAME.len()..]))) {
        (Some(status), Some(body)) => Parsed::Head(Head { status: status as u16, len: end + 4, body }),
        _ => Parsed::Bad,
    }
}

/// The shop behind every proxy: one prebuilt page of 1 KiB, on a thread of this process until it ends.
pub fn upstream() -> io::Result<SocketAddr> {
    let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let page = format!(
        "HTTP/1.1 200 OK\r\nServer: shop\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: max-age=60\r\n\
         Content-Length: {PAGE_BYTES}\r\nConnection: keep-alive\r\n\r\n{}",
        "x".repeat(PAGE_BYTES)
    );
    let page: &'static [u8] = page.into_bytes().leak();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("upstream".into()).spawn(move || {
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let Ok(listener) = TcpListener::from_std(socket) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(serve_page(stream, page));
            }
        });
    })?;
    Ok(address)
}

async fn serve_page(mut stream: TcpStream, page: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buf = vec![0u8; HEAD_MAX];
    let mut filled = 0;
    loop {
        let n = stream.read(&mut buf[filled..]).await?;
        if n == 0 {
            return Ok(());
        }
        filled += n;
        // One request at a time and none has a body.
        if buf[..filled].ends_with(b"\r\n\r\n") {
            stream.write_all(page).await?;
            filled = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn heads_are_understood() {
        let whole = b"HTTP/1.1 429 Too Many Requests\r\nX: y\r\ncontent-Length: 15\r\n\r\nbody";
        assert_eq!(parse(whole), Parsed::Head(Head { status: 429, len: whole.len() - 4, body: 15 }));
        assert_eq!(parse(&whole[..40]), Parsed::Partial);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), Parsed::Bad);
        assert_eq!(parse(b"SSH-2.0\r\n\r\n"), Parsed::Bad);
    }

    fn target(status: u16) -> Target {
        Target { address: upstream().unwrap(), requests: vec![b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()], status }
    }

    #[test]
    fn right_answers_are_counted_and_wrong_ones_spoil_the_round() {
        let burnt = Cell::new(0);
        let cpu = || Ok(Duration::from_millis(burnt.replace(burnt.get() + 100)));
        let good = round(&target(200), Duration::from_millis(100), cpu).unwrap();
        assert!(good.answers > 0);
        assert_eq!((good.errors, good.cpu), (0, Duration::from_millis(100)));
        let wrong = round(&target(204), Duration::from_millis(50), || Ok(Duration::ZERO)).unwrap();
        assert!(wrong.errors > 0 && wrong.answers == 0);
    }

    #[test]
    fn other_machines_are_left_alone() {
        let far = Target { address: "192.0.2.1:80".parse().unwrap(), requests: vec![vec![]], status: 200 };
        assert!(round(&far, Duration::from_millis(1), || Ok(Duration::ZERO)).unwrap_err().to_string().contains("loopback"));
    }
}
