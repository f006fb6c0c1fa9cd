//! A crowd that writes down what it was told, and a judge who knows nothing of the gate's insides.

use std::{
    collections::{BTreeMap, HashMap},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tidegate_filters::seats::token::{Keyring, Token};

const PATIENCE: Duration = Duration::from_secs(20);

/// What one visitor was told, and when, from the start of the run.
#[derive(Clone, Debug)]
enum Told {
    /// A place, by a ticket.
    Place(u64),
    /// Not called yet; when the question was asked.
    Waiting(u64),
    /// Called; when the answer was there.
    Called(u64),
    /// A pass for a place (`None`: walked in), a seat and its generation.
    Pass { place: Option<u64>, seat: u64, issued_at_ms: u64 },
    /// From here on the seat may be somebody else's: its holder asked to leave.
    Left { seat: u64 },
}

/// What the crowd was told.
pub struct Book {
    keyring: Keyring,
    seats: u32,
    rate: u32,
    start: Instant,
    told: Mutex<Vec<(Duration, Told)>>,
    faults: Mutex<Vec<String>>,
    epochs: Mutex<BTreeMap<u64, u64>>,
    kills: AtomicU64,
    cut_off: AtomicU64,
    answered: AtomicU64,
}

impl Book {
    pub fn new(keyring: Keyring, seats: u32, rate: u32) -> Book {
        Book {
            keyring,
            seats,
            rate,
            start: Instant::now(),
            told: Mutex::default(),
            faults: Mutex::default(),
            epochs: Mutex::default(),
            kills: AtomicU64::new(0),
            cut_off: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        }
    }

    pub fn killed(&self) {
        self.kills.fetch_add(1, Ordering::Relaxed);
    }

    /// Places, passes, requests without an answer.
    pub fn sums(&self) -> (u64, u64, u64) {
        let told = self.told.lock().unwrap();
        let count = |f: fn(&Told) -> bool| told.iter().filter(|(_, t)| f(t)).count() as u64;
        let places = count(|t| matches!(t, Told::Place(_)));
        (places, count(|t| matches!(t, Told::Pass { .. })), self.cut_off.load(Ordering::Relaxed))
    }

    /// Requests with an answer.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    fn told_at(&self, at: Instant, told: Told) {
        self.told.lock().unwrap().push((at - self.start, told));
    }

    fn fault(&self, what: String) {
        self.faults.lock().unwrap().push(format!(
            "at {:?}, after {} kills: {what}",
            self.start.elapsed(),
            self.kills.load(Ordering::Relaxed)
        ));
    }

    fn open(&self, text: &str) -> Token {
        let token = self.keyring.open(text).expect("a token of the gate");
        *self.epochs.lock().unwrap().entry(token.epoch).or_default() += 1;
        token
    }

    /// Everything that must not be; empty when all is well.
    pub fn judge(&self) -> Vec<String> {
        let mut faults = self.faults.lock().unwrap().clone();
        let epochs = self.epochs.lock().unwrap();
        if epochs.len() != 1 {
            faults.push(format!("more than one life of the room: {epochs:?}"));
        }
        let mut told = self.told.lock().unwrap().clone();
        told.sort_by_key(|(at, _)| *at);
        once(&told, &mut faults);
        in_order(&told, &mut faults);
        seats(&told, self.seats as usize, &mut faults);
        admissions(&told, self.rate, &mut faults);
        faults
    }
}

/// A place has one holder, a place buys one seat, a seat is given once.
fn once(told: &[(Duration, Told)], faults: &mut Vec<String>) {
    let (mut places, mut bought, mut given) = (HashMap::new(), HashMap::new(), HashMap::new());
    for (at, t) in told {
        match t {
            Told::Place(p) => {
                if let Some(before) = places.insert(*p, *at) {
                    faults.push(format!("place {p} was given twice, at {before:?} and {at:?}"));
                }
            }
            Told::Pass { place: Some(place), seat, .. } => {
                if bought.insert(*place, *seat).is_some_and(|s| s != *seat) {
                    faults.push(format!("place {place} bought two seats, the second at {at:?}"));
                }
                if given.insert(*seat, Some(*place)).is_some_and(|p| p != Some(*place)) {
                    faults.push(format!("seat {seat:x} was given twice, the second time at {at:?}"));
                }
            }
            Told::Pass { place: None, seat, .. } if given.insert(*seat, None).is_some() => {
                faults.push(format!("seat {seat:x} was given twice, the second time at {at:?} to a walk-in"));
            }
            _ => {}
        }
    }
}

/// Who asks after somebody behind was told of a call is called as well.
fn in_order(told: &[(Duration, Told)], faults: &mut Vec<String>) {
    let mut highest = None;
    for (at, t) in told {
        match t {
            Told::Called(p) => highest = highest.max(Some(*p)),
            Told::Waiting(p) if highest > Some(*p) => {
                faults.push(format!("at {at:?} place {p} waits although {highest:?} was called"))
            }
            _ => {}
        }
    }
}

/// Seats between a pass and the wish to leave.
fn seats(told: &[(Duration, Told)], max: usize, faults: &mut Vec<String>) {
    let mut live = std::collections::BTreeSet::new();
    for (at, t) in told {
        match t {
            Told::Pass { seat, .. } => drop(live.insert(*seat)),
            Told::Left { seat } => drop(live.remove(seat)),
            _ => {}
        }
        if live.len() > max {
            faults.push(format!("{} people hold a pass at {at:?}, seats are {max}", live.len()));
            return;
        }
    }
}

/// Passes in any window, by the gate's own time, are at most what accrues in it and the largest burst: one second's worth.
fn admissions(told: &[(Duration, Told)], rate: u32, faults: &mut Vec<String>) {
    let mut issued: Vec<u64> = HashMap::<u64, u64>::from_iter(told.iter().filter_map(|(_, t)| match t {
        Told::Pass { seat, issued_at_ms, .. } => Some((*seat, *issued_at_ms)),
        _ => None,
    }))
    .into_values()
    .collect();
    issued.sort_unstable();
    for (i, from) in issued.iter().enumerate() {
        for (n, to) in issued[i..].iter().enumerate() {
            let allowed = f64::from(rate) * ((to - from) as f64 / 1_000.0 + 1.0) + 1.0;
            if n as f64 + 1.0 > allowed + LATE_ANSWERS {
                faults.push(format!("{} passes in {} ms, {allowed:.0} allowed", n + 1, to - from));
                return;
            }
        }
    }
}

/// A pass is stamped when it is answered, up to a tick and an fsync after its token was taken.
const LATE_ANSWERS: f64 = 12.0;

/// Somebody who comes, waits, claims, looks around and leaves, whatever happens to the gate meanwhile.
pub fn visitor(address: SocketAddr, i: usize, book: &Book, stop: &AtomicBool) {
    let mut cookies = BTreeMap::new();
    let patience = Instant::now();
    let mut place = None;
    while patience.elapsed() < PATIENCE && !stop.load(Ordering::Relaxed) {
        let called = match place {
            None => {
                let Some(page) = ask(address, "GET", "/", &mut cookies, book) else { continue };
                if let Some(ticket) = cookies.get("tidegate-ticket-drop") {
                    let number = book.open(ticket).number;
                    book.told_at(page.answered, Told::Place(number));
                    place = Some(number);
                } else if let Some(pass) = cookies.get("tidegate-pass-drop").cloned() {
                    return inside(address, i, None, &pass, page.answered, &mut cookies, book);
                }
                page.state() == "called"
            }
            Some(place) => {
                let Some(status) = ask(address, "GET", "/.tidegate/status?room=drop", &mut cookies, book) else { continue };
                if status.status == 429 {
                    // Asked before it was told to: no news.
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
                match status.state().as_str() {
                    "waiting" => book.told_at(status.asked, Told::Waiting(place)),
                    "called" | "next" => book.told_at(status.answered, Told::Called(place)),
                    "paused" => {}
                    other => return book.fault(format!("place {place} is lost: {other:?} {}", status.body)),
                }
                status.state() == "called" || status.state() == "next"
            }
        };
        if let (Some(place), true) = (place, called) {
            let Some(claim) = ask(address, "POST", "/.tidegate/claim", &mut cookies, book) else { continue };
            if let Some(pass) = cookies.get("tidegate-pass-drop").cloned() {
                return inside(address, i, Some(place), &pass, claim.answered, &mut cookies, book);
            }
            if !matches!(claim.state().as_str(), "called" | "next" | "paused") {
                return book.fault(format!("the claim of place {place} came to nothing: {} {}", claim.status, claim.body));
            }
        }
        std::thread::sleep(Duration::from_millis(15));
    }
}

fn inside(
    address: SocketAddr,
    i: usize,
    place: Option<u64>,
    pass: &str,
    at: Instant,
    cookies: &mut BTreeMap<String, String>,
    book: &Book,
) {
    let pass = book.open(pass);
    let seat = pass.number;
    book.told_at(at, Told::Pass { place, seat, issued_at_ms: pass.issued_at_ms });
    let mut looks = 0;
    while looks < 2 + i % 4 {
        let Some(page) = ask(address, "GET", "/look", cookies, book) else { continue };
        if page.status != 200 || !page.body.starts_with("hello") {
            book.fault(format!("the pass of seat {seat:x} (place {place:?}) is lost: {} {}", page.status, page.body));
            break;
        }
        looks += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    book.told_at(Instant::now(), Told::Left { seat });
    // Whether it is heard or not: nobody holds this pass any more.
    while ask(address, "POST", "/.tidegate/leave", cookies, book).is_none() {}
}

struct Heard {
    status: u16,
    body: String,
    asked: Instant,
    answered: Instant,
}

impl Heard {
    fn state(&self) -> String {
        let json: Value = serde_json::from_str(&self.body).unwrap_or_default();
        json["state"].as_str().unwrap_or_default().to_owned()
    }
}

/// One request on one connection; `None`: the gate is away or died over it, so the answer is not known.
fn ask(address: SocketAddr, method: &str, path: &str, cookies: &mut BTreeMap<String, String>, book: &Book) -> Option<Heard> {
    let asked = Instant::now();
    let form = if method == "POST" { "room=drop&to=/" } else { "" };
    let jar: Vec<String> = cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\naccept: application/json\r\n\
         cookie: {}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        jar.join("; "),
        form.len()
    );
    let exchange = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = exchange().map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    let whole = text.split_once("\r\n\r\n").filter(|(head, body)| {
        let length = head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length:").map(str::to_owned));
        length.and_then(|l| l.trim().parse().ok()) == Some(body.len())
    });
    let Some((head, body)) = whole else {
        book.cut_off.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(10));
        return None;
    };
    book.answered.fetch_add(1, Ordering::Relaxed);
    for line in head.lines().filter(|l| l.to_lowercase().starts_with("set-cookie:")) {
        let pair = line["set-cookie:".len()..].split(';').next().unwrap().trim();
        let (name, value) = pair.split_once('=').unwrap();
        cookies.insert(name.to_owned(), value.to_owned());
    }
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Heard { status, body: body.to_owned(), asked, answered: Instant::now() })
}
