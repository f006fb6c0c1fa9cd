//! What goes wrong on purpose: requests that nobody planned, and tokens that nobody issued.

use std::net::{IpAddr, Ipv4Addr};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use tidegate_filters::{
    Score, Wants,
    seats::token::{Keyring, Kind, Token},
};

use super::{
    client::Jar,
    gate::{Gate, HOST, Incoming, Ruling},
};

/// A request outside of a visitor's own plan.
#[derive(Clone, Debug)]
pub(super) enum Extra {
    /// A claim that is sent again.
    Claim(Jar, usize),
    /// A burnt ticket or a pass that was given back is used again, alone.
    Replay(String, usize),
    /// A place or seat is given back.
    Leave(Jar, usize),
    /// No HTTP.
    Garbage,
}

const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

fn incoming<'a>(tokens: &'a [Token], method: &'a str, host: &'a str) -> Incoming<'a> {
    Incoming {
        method,
        host,
        path: "/product/42",
        address: STRANGER,
        visitor: 1 << 50,
        by_cookie: false,
        wants: Wants::Html,
        score: Score::Known(0.1),
        tokens,
    }
}

/// Sends it. What comes of it interests nobody but the log.
pub(super) fn send(extra: &Extra, gate: &mut Gate, at_us: u64) {
    match extra {
        Extra::Claim(jar, room) => {
            let tokens = jar.tokens(&gate.keys);
            gate.claim(at_us, *room, &incoming(&tokens, "POST", HOST));
        }
        Extra::Leave(jar, room) => {
            let tokens = jar.tokens(&gate.keys);
            gate.leave(at_us, *room, &incoming(&tokens, "POST", HOST));
        }
        Extra::Replay(text, room) => {
            let tokens: Vec<Token> = gate.keys.open(text).into_iter().collect();
            if let Ruling::Claiming { .. } = gate.claim(at_us, *room, &incoming(&tokens, "POST", HOST)) {
                return;
            }
            // A form never joins: only a live pass gets through.
            gate.visit(at_us, &incoming(&tokens, "POST", HOST));
        }
        Extra::Garbage => gate.garbage("framing"),
    }
}

/// Shows the gate a token that is not what it says. `keys` are the gate's own: what an earlier life of it has signed.
pub(super) fn forge(text: &str, rng: &mut ChaCha8Rng, foreign: &Keyring, gate: &mut Gate, at_us: u64) {
    let Ok(good) = gate.keys.open(text) else { return };
    let Some(room) = gate.room(&good.room) else { return };
    let rooms = gate.rooms().len();
    let wall_ms = gate.now(at_us).wall_ms;
    let sealed = |t: &Token| gate.keys.seal(t);
    let (how, shown, host, ask) = match rng.random_range(0..8) {
        0 => ("changed", flipped(text, &good), HOST, room),
        1 => ("signed by another key", foreign.seal(&good), HOST, room),
        2 => ("issued for another host", text.to_owned(), "other.example", room),
        3 => ("of an earlier life of the room", sealed(&Token { epoch: good.epoch ^ 4, ..good }), HOST, room),
        4 => ("over", sealed(&Token { expires_at_ms: wall_ms, ..good }), HOST, room),
        5 => ("not yet good", sealed(&Token { not_before_ms: wall_ms + 1, ..good }), HOST, room),
        6 if rooms > 1 => ("of another room", text.to_owned(), HOST, (room + 1) % rooms),
        6 => ("of another room", sealed(&Token { room: "other".into(), ..good }), HOST, room),
        _ => ("of another kind", sealed(&Token { kind: Kind::Visitor, ..good }), HOST, room),
    };
    let tokens: Vec<Token> = gate.keys.open(&shown).into_iter().collect();
    gate.believes(at_us, ask, &incoming(&tokens, "GET", host), how);
}

/// The token with the lowest bit of its number turned over.
fn flipped(text: &str, token: &Token) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // version, kind, key id; three names with a length of 4 bytes each; epoch; then the number, 8 bytes, low byte last.
    let names = token.room.len() + token.sale.len() + token.host.len() + 12;
    let bit = (3 + names + 8 + 7) * 8 + 7;
    let mut bytes = text.as_bytes().to_vec();
    let (at, mask) = (bit / 6, 1u8 << (5 - bit % 6));
    if let Some(value) = bytes.get(at).and_then(|c| ALPHABET.iter().position(|a| a == c)) {
        bytes[at] = ALPHABET[value ^ usize::from(mask)];
    }
    String::from_utf8(bytes).unwrap_or_default()
}
