//! Tokens on every path of a room: those it gave open what they say, and nothing that was changed, moved or kept too long
//! opens anything.
#![allow(clippy::unwrap_used)]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::{
    queue::Place,
    room::*,
    seat::SeatRef,
    token::{Keyring, Kind, Token},
};
use crate::{
    plan::Plan,
    rule::{bot_gate::Class, sale_window::Sale},
    time::Now,
    verdict::{Reason, Verdict},
    visit::{Network, Visit, VisitorId, Wants},
};

const HOST: &str = "shop.example";
const START_MS: u64 = 1_800_000_000_000;
const EPOCH: u64 = 7;
/// Mutations in the suite; `make soak` runs a million.
const MUTATIONS: u64 = 50_000;

fn at(ms: u64) -> Now {
    Now::at(START_MS, ms)
}

fn room(name: &str, binding: Binding) -> Room {
    let json = format!(r#"{{"name":"{name}","arm":"always","seats":{{"max":10}}}}"#);
    let settings = RoomSettings { binding, ..serde_json::from_str(&json).unwrap() };
    let sale = Sale {
        name: "sale".into(),
        room: name.into(),
        prequeue_opens_ms: START_MS,
        opens_ms: START_MS,
        closes_ms: START_MS + 100_000_000,
        ..Sale::default()
    };
    let room = Room::new(0, &settings, &[sale], EPOCH, at(0));
    room.open(&Plan { refill_per_s: 100.0, burst: 100.0, seats: 10, armed: false, reason: String::new() }, at(0));
    room
}

fn visit<'a>(method: &'a str, tokens: &'a [Token]) -> Visit<'a> {
    Visit {
        method,
        host: HOST,
        path: "/",
        route: Some(0),
        network: Some(Network::new([192, 0, 2, 7].into())),
        visitor: Some(VisitorId(1)),
        visitor_by_cookie: true,
        identity: Some(11),
        hello: 22,
        wants: Wants::Html,
        tokens,
        ..Visit::default()
    }
}

/// A ticket that was called and a pass, of two people.
fn tokens(room: &Room, binding: u64) -> (Token, Token) {
    let join = || match room.visit(&visit("GET", &[]), Class::Human, at(0)) {
        (Verdict::Wait(Waiting { place: Some(place), .. }), _) => room.ticket_token(place, HOST, at(0)),
        other => panic!("{other:?}"),
    };
    let (first, second) = (Token { binding, ..join() }, Token { binding, ..join() });
    room.tick(at(100));
    assert!(matches!(room.claim(&visit("POST", std::slice::from_ref(&first)), at(100)), Claim::Pending(_)));
    let seat = room.tick(at(200))[0].seat.unwrap();
    (second, Token { binding, ..room.pass_token(seat, HOST, at(200)) })
}

/// Every path that a token opens: what it opened, by name.
fn opens(room: &Room, v: &Visit<'_>, now: Now) -> Vec<&'static str> {
    let post = Visit { method: "POST", ..v.clone() };
    let mut opened = Vec::new();
    let mut see = |name, open: bool| opened.extend(open.then_some(name));
    see("visit", room.visit(&post, Class::Human, now).1 == Reason::Pass);
    // A GET with a good ticket gets no new place.
    let waits = |w: Waiting| !w.fresh && w.place.is_some();
    see("place", matches!(room.visit(v, Class::Human, now).0, Verdict::Wait(w) if waits(w)));
    see("status", room.status(v, now) != RoomStatus::None);
    see("extend", room.extend(&post, now).1 != RoomStatus::None);
    see("claim", room.claim(&post, now) != Claim::NoTicket);
    see("leave", room.leave(&post, now).is_some());
    opened
}

fn fresh() -> (Room, Token, Token) {
    let room = room("drop", Binding::None);
    let (ticket, pass) = tokens(&room, 0);
    (room, ticket, pass)
}

#[test]
fn what_a_room_gave_opens_what_it_says() {
    let (room, ticket, pass) = fresh();
    let with_ticket = opens(&room, &visit("GET", std::slice::from_ref(&ticket)), at(300));
    assert_eq!(with_ticket, ["place", "status", "extend", "claim"], "a claim under way is not given back");
    assert_eq!(
        opens(&room, &visit("GET", std::slice::from_ref(&pass)), at(300)),
        ["visit", "status", "extend", "claim", "leave"]
    );
    assert_eq!(opens(&room, &visit("GET", std::slice::from_ref(&pass)), at(301)), [""; 0], "given back is gone");
}

/// Fields of a good token, changed one at a time and signed by the right key.
fn moved(t: &Token) -> Vec<(&'static str, Token)> {
    let seat = SeatRef::from_bits(t.number);
    vec![
        ("another room", Token { room: "other".into(), ..t.clone() }),
        ("no room", Token { room: "".into(), ..t.clone() }),
        ("another sale", Token { sale: "other".into(), ..t.clone() }),
        ("another host", Token { host: "evil.example".into(), ..t.clone() }),
        ("no host", Token { host: "".into(), ..t.clone() }),
        ("another epoch", Token { epoch: EPOCH + 1, ..t.clone() }),
        ("no epoch", Token { epoch: 0, ..t.clone() }),
        ("not yet good", Token { not_before_ms: START_MS + 301, ..t.clone() }),
        ("over", Token { expires_at_ms: START_MS + 300, ..t.clone() }),
        ("another kind", Token { kind: if t.kind == Kind::Pass { Kind::Visitor } else { Kind::Clearance }, ..t.clone() }),
        ("a number nobody has", Token { number: u64::MAX, ..t.clone() }),
        ("another lane", Token { number: t.number | 1 << 32 | 5 << 33, ..t.clone() }),
        (
            "another generation",
            Token { number: SeatRef { generation: seat.generation.wrapping_add(9), index: 9_999_999 }.to_bits(), ..t.clone() },
        ),
    ]
}

#[test]
fn a_token_that_was_moved_opens_nothing_on_any_path() {
    let (room, ticket, pass) = fresh();
    for t in [&ticket, &pass] {
        for (how, t) in moved(t) {
            assert_eq!(opens(&room, &visit("GET", &[t]), at(300)), [""; 0], "{how}");
        }
    }
    let elsewhere = self::room("other", Binding::None);
    for t in [ticket, pass] {
        assert_eq!(opens(&elsewhere, &visit("GET", std::slice::from_ref(&t)), at(300)), [""; 0], "another room");
        let v = Visit { host: "other.example", ..visit("GET", std::slice::from_ref(&t)) };
        assert_eq!(opens(&room, &v, at(300)), [""; 0], "another host");
        assert_eq!(opens(&room, &visit("GET", &[t]), Now::at(START_MS, 86_400_001)), [""; 0], "a day later");
    }
}

#[test]
fn a_bound_token_is_challenged_elsewhere_and_never_lost() {
    for binding in [Binding::Network, Binding::Tls, Binding::Key] {
        let room = room("drop", binding);
        let here = room.binding_of(&visit("GET", &[]));
        assert_ne!(here, 0);
        let (ticket, pass) = tokens(&room, here);
        for t in [ticket, pass] {
            let own = [t];
            let moved = |tokens| Visit {
                network: Some(Network::new([198, 51, 100, 7].into())),
                identity: Some(12),
                hello: 23,
                ..visit("GET", tokens)
            };
            assert_eq!(
                room.visit(&moved(&own), Class::Human, at(300)),
                (Verdict::Challenge, Reason::TokenElsewhere),
                "{binding:?}"
            );
            assert_eq!(opens(&room, &moved(&own), at(300)), [""; 0], "{binding:?}");
            let cleared = Token { kind: Kind::Clearance, room: "".into(), sale: "".into(), number: 1, ..own[0].clone() };
            let both = [own[0].clone(), cleared];
            assert_ne!(room.status(&moved(&both), at(300)), RoomStatus::None, "{binding:?}: shown that somebody is there");
            assert_ne!(room.status(&visit("GET", &own), at(300)), RoomStatus::None, "{binding:?}: where it was given");
        }
        let near = Visit { network: Some(Network::new([192, 0, 2, 99].into())), ..visit("GET", &[]) };
        assert_eq!(room.binding_of(&near), here, "{binding:?}: the same network, program and login");
        let unknown = Visit { network: None, identity: None, hello: 0, ..visit("GET", &[]) };
        assert_eq!(room.binding_of(&unknown), 0, "what is not known binds nothing");
    }
}

#[test]
fn keys_turn_over_and_no_place_is_lost() {
    let room = room("drop", Binding::None);
    let (ticket, pass) = tokens(&room, 0);
    let key = |id: u8| (id, [id; 32]);
    let mut ring = Keyring::new(&[key(1)]).unwrap();
    let texts = [ring.seal(&ticket), ring.seal(&pass)];
    for newest in 2..=16u8 {
        let keys: Vec<_> = (1..=newest).rev().map(key).collect();
        ring = Keyring::new(&keys).unwrap();
        for text in &texts {
            let token = ring.open(text).unwrap();
            let v = [token.clone()];
            assert_ne!(room.status(&visit("GET", &v), at(300)), RoomStatus::None, "key {newest}");
            // What is given from now on is signed by the newest key alone.
            let renewed = ring.seal(&token);
            assert!(Keyring::new(&[key(newest)]).unwrap().open(&renewed).is_ok());
            assert!(Keyring::new(&[key(newest)]).unwrap().open(text).is_err());
        }
    }
}

/// One changed text of a token: bits, bytes, cuts, joins, other spellings.
fn mutate(texts: &[String], r: &mut impl FnMut(u64) -> u64) -> String {
    let text = texts[r(texts.len() as u64) as usize].clone();
    let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
    let n = bytes.len() as u64;
    let encode = |b: &[u8]| URL_SAFE_NO_PAD.encode(b);
    match r(12) {
        0 => bytes[r(n) as usize] ^= 1 << r(8),
        1 => bytes[r(n) as usize] = r(256) as u8,
        2 => bytes.truncate(r(n) as usize),
        3 => bytes.extend((0..=r(40)).map(|i| i as u8)),
        4 => drop(bytes.remove(r(n) as usize)),
        5 => bytes.insert(r(n) as usize, r(256) as u8),
        6 => bytes.swap(r(n) as usize, r(n) as usize),
        // The head of one with the tail of another.
        7 => {
            let other = URL_SAFE_NO_PAD.decode(&texts[r(texts.len() as u64) as usize]).unwrap();
            let at = r(n.min(other.len() as u64)) as usize;
            bytes.truncate(at);
            bytes.extend_from_slice(&other[at..]);
        }
        8 => (0..=r(6)).for_each(|_| bytes[r(n) as usize] ^= r(255) as u8 + 1),
        // Spellings of the same bytes.
        9 => return format!("{text}{}", ["=", "==", "A", " ", "\n", ".", "-"][r(7) as usize]),
        10 => return text.replace(['-', '_'], if r(2) == 0 { "+" } else { "/" }),
        _ => {
            let mut chars: Vec<char> = text.chars().collect();
            let i = r(chars.len() as u64) as usize;
            chars[i] = ['A', 'z', '-', '_', '=', '/', 'é', '\0'][r(8) as usize];
            return chars.into_iter().collect();
        }
    }
    encode(&bytes)
}

/// xorshift64.
fn random(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % n.max(1)
    }
}

/// Nothing but the texts themselves opens, so no path of a room ever sees a changed token.
fn mutations(count: u64) {
    let ring = Keyring::new(&[(2, [7; 32]), (1, [9; 32])]).unwrap();
    let room = room("drop", Binding::Network);
    let (ticket, pass) = tokens(&room, room.binding_of(&visit("GET", &[])));
    let mut all = vec![ticket.clone(), pass.clone()];
    all.extend([Kind::Visitor, Kind::Clearance].map(|kind| Token { kind, room: "".into(), ..pass.clone() }));
    all.push(Token { host: "a-much-longer-host.of-a-shop.example".into(), ..ticket });
    let texts: Vec<String> = all.iter().map(|t| ring.seal(t)).collect();
    let mut r = random(0x1234_5678_9abc_def1);
    let mut changed = 0;
    for _ in 0..count {
        let text = mutate(&texts, &mut r);
        if texts.contains(&text) {
            continue;
        }
        changed += 1;
        if let Ok(token) = ring.open(&text) {
            panic!("a changed text opens: {text} as {token:?}");
        }
    }
    assert!(changed > count * 8 / 10, "{changed} of {count}");
}

#[test]
fn no_changed_text_opens() {
    mutations(MUTATIONS);
}

#[test]
#[ignore = "a million of them: make soak"]
fn no_changed_text_of_a_million_opens() {
    mutations(1_000_000);
}

/// Tokens on their way through every path of a room: visit, place, status, extend, claim and renew, leave and revoke. What is
/// signed by a key the gate does not have, or by its own for another room, sale, host, kind, life, time or seat, or brought from
/// another network, program or login, opens none of them.
fn paths(count: u64) {
    let ring = Keyring::new(&[(2, [7; 32]), (1, [9; 32])]).unwrap();
    // The ids of our keys, and keys that differ in one bit.
    let strangers: Vec<Keyring> = (0..64u8)
        .map(|bit| {
            let mut key = [7; 32];
            key[usize::from(bit) / 2] ^= 1 << (bit % 8);
            Keyring::new(&[(2, key), (1, key)]).unwrap()
        })
        .collect();
    let bindings = [Binding::Network, Binding::Tls, Binding::Key].map(|binding| {
        let room = room("drop", binding);
        let own = tokens(&room, room.binding_of(&visit("GET", &[])));
        (room, own)
    });
    let (mut room, ticket, pass) = fresh();
    let mut revoked = 0;
    let mut r = random(0x9e37_79b9_7f4a_7c15);
    for n in 0..count {
        let mine = if r(2) == 0 { &ticket } else { &pass };
        match r(8) {
            0 => {
                let text = strangers[r(64) as usize].seal(mine);
                assert!(ring.open(&text).is_err(), "another key: {mine:?}");
            }
            1 => {
                let (room, (ticket, pass)) = &bindings[r(3) as usize];
                let own = [if r(2) == 0 { ticket.clone() } else { pass.clone() }];
                let moved = Visit {
                    network: Some(Network::new([198, 51, r(256) as u8, 7].into())),
                    identity: Some(1_000 + r(1_000)),
                    hello: 1_000 + r(1_000),
                    ..visit("GET", &own)
                };
                assert_eq!(opens(room, &moved, at(300)), [""; 0], "elsewhere: {own:?}");
            }
            // Given back, it is gone, on every path; a seat of the same index comes back with another generation.
            2 if n % 1_024 == 0 => {
                let (fresh_room, _, pass) = fresh();
                assert!(fresh_room.leave(&visit("POST", std::slice::from_ref(&pass)), at(300)).is_some());
                assert_eq!(opens(&fresh_room, &visit("GET", &[pass]), at(300)), [""; 0], "revoked");
                revoked += 1;
            }
            _ => {
                let all = moved(mine);
                let (how, mut odd) = all[r(all.len() as u64) as usize].clone();
                if r(4) == 0 {
                    odd.binding = r(u64::MAX);
                }
                // As it comes from the wire: sealed by our own newest key, opened, and used.
                let opened = ring.open(&ring.seal(&odd)).unwrap();
                assert_eq!(opened, odd);
                assert_eq!(opens(&room, &visit("GET", &[opened]), at(300)), [""; 0], "{how}: {odd:?}");
            }
        }
        if n % 200_000 == 199_999 {
            // The room is full of newcomers by now.
            room = fresh().0;
        }
    }
    assert!(revoked > 0);
    let (room, ticket, pass) = fresh();
    for real in [ticket, pass] {
        let again = ring.open(&ring.seal(&real)).unwrap();
        assert!(opens(&room, &visit("GET", &[again]), at(300)).len() >= 4, "and the real ones open");
    }
}

#[test]
fn no_stranger_passes_any_path() {
    paths(MUTATIONS / 2);
}

#[test]
#[ignore = "a million of them: make soak"]
fn no_stranger_of_a_million_passes_any_path() {
    paths(1_000_000);
}

proptest! {
    /// A token with any one thing of another room, sale, host, life or time, signed by the right key.
    #[test]
    fn no_stranger_fits(room_name in "[a-z]{0,8}", host in "[a-z.]{0,12}", epoch: u64, number: u64, before in 0u64..1_000, after in 0u64..1_000, which in 0u8..6) {
        let (room, ticket, pass) = fresh();
        for t in [ticket, pass] {
            let odd = match which {
                0 => Token { room: room_name.as_str().into(), ..t },
                1 => Token { host: host.as_str().into(), ..t },
                2 => Token { epoch, ..t },
                3 => Token { not_before_ms: START_MS + 301 + before, ..t },
                4 => Token { expires_at_ms: START_MS + 300 - after.min(300), ..t },
                _ => Token { number, ..t },
            };
            let is_real = which == 0 && room_name == "drop" || which == 1 && host == HOST || which == 2 && epoch == EPOCH;
            let in_use = which == 5 && (number >> 32 == 0 && number < 2 || Place::from_bits(number).is_some_and(|p| p.number < 2));
            if !is_real && !in_use {
                prop_assert_eq!(opens(&room, &visit("GET", &[odd]), at(300)), Vec::<&str>::new());
            }
        }
    }
}

#[cfg(feature = "sabotage")]
#[test]
fn broken_rules_are_seen() {
    use crate::sabotage::{Bug, in_this_thread};
    type Test = fn();
    let bugs: [(Bug, Test); 9] = [
        (Bug::TagNotChecked, no_changed_text_opens),
        (Bug::TagNotChecked, no_stranger_passes_any_path),
        (Bug::ForeignHostAccepted, no_stranger_passes_any_path),
        (Bug::BindingNotChecked, no_stranger_passes_any_path),
        (Bug::ForeignRoomAccepted, a_token_that_was_moved_opens_nothing_on_any_path),
        (Bug::ForeignHostAccepted, a_token_that_was_moved_opens_nothing_on_any_path),
        (Bug::OldEpochAccepted, a_token_that_was_moved_opens_nothing_on_any_path),
        (Bug::ExpiryNotChecked, a_token_that_was_moved_opens_nothing_on_any_path),
        (Bug::BindingNotChecked, a_bound_token_is_challenged_elsewhere_and_never_lost),
    ];
    for (bug, test) in bugs {
        let seen = std::thread::spawn(move || {
            in_this_thread(Some(bug));
            test();
        });
        assert!(seen.join().is_err(), "{bug:?} goes unseen");
    }
}
