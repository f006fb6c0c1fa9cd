//! The challenge: work that a visitor's browser does by itself, made for who asked and good once; or, without a script, a
//! slower way that leads to the back of the line.

use std::{
    collections::{HashSet, VecDeque},
    hash::Hasher as _,
};

use parking_lot::Mutex;
use serde_json::json;
use tidegate_filters::{
    Decision, Filter, Reason, Score, Wants,
    record::Kind as RowKind,
    reference::Reference,
    seats::{
        draw::{
            digest::{hex, unhex},
            work::Work,
        },
        token::{Kind, Token},
    },
};

use crate::{
    counts::Challenged,
    form::{destination, get},
    own,
    pages::{self, Refusal},
    reply::{self, Answer},
    state::Shared,
    trace::Trace,
};

/// Past a challenge for this long, milliseconds.
const CLEARANCE_MS: u64 = 30 * 60_000;
/// A challenge is good in the window it was made in and in the next one, milliseconds.
const WINDOW_MS: u64 = 10 * 60_000;
/// Windows a challenge is good in.
const WINDOWS: u64 = 2;
/// The slow way takes this long, seconds: as long as a page works at most.
const DETOUR_S: u64 = 20;
/// Most answered challenges remembered, 16 bytes each; a challenge as old as that many answers could be answered again.
const SPENT_MAX: usize = 1 << 16;

/// What a visitor is asked: who was not asked cannot make it, and nobody else can use it.
struct Challenge {
    work: Work,
    nonce: u64,
}

impl Challenge {
    fn new(trace: &Trace, bits: u8) -> Option<Self> {
        getrandom::u64().ok().map(|nonce| Self::of(trace, nonce, bits, 0))
    }

    /// As it was made for this network and program so many windows ago.
    fn of(trace: &Trace, nonce: u64, bits: u8, windows_ago: u64) -> Self {
        let mut h = trace.keyed(b"challenge");
        h.write_u64(nonce);
        h.write_u8(bits);
        h.write_u64(trace.row.network);
        h.write_u64(trace.intake.fingerprint);
        h.write_u64((trace.started.wall_ms / WINDOW_MS).saturating_sub(windows_ago));
        let mut challenge = [0; 16];
        challenge[..8].copy_from_slice(&nonce.to_be_bytes());
        challenge[8..].copy_from_slice(&h.finish().to_be_bytes());
        Challenge { work: Work { challenge, bits }, nonce }
    }

    /// Of a form; `None` when it was not made here, for this visitor, lately.
    fn read(trace: &Trace, proof: &str) -> Option<Self> {
        let [bits, given @ ..]: [u8; 17] = unhex(proof)?;
        let nonce = u64::from_be_bytes(*given.first_chunk()?);
        let made = (0..WINDOWS).map(|ago| Self::of(trace, nonce, bits, ago));
        made.into_iter().find(|made| bool::from(subtle::ConstantTimeEq::ct_eq(&made.work.challenge[..], &given[..])))
    }

    /// Two hex digits for the bits, 32 for the challenge.
    fn proof(&self) -> String {
        format!("{:02x}{}", self.work.bits, hex(&self.work.challenge))
    }
}

/// The challenges that were answered, in order: each is good once.
#[derive(Debug, Default)]
pub struct Spent(Mutex<Answered>);

#[derive(Debug, Default)]
struct Answered {
    known: HashSet<u64>,
    /// When, Unix milliseconds, and which.
    order: VecDeque<(u64, u64)>,
}

impl Spent {
    /// Whether it is the first answer.
    fn first(&self, nonce: u64, wall_ms: u64) -> bool {
        let Answered { known, order } = &mut *self.0.lock();
        let old = |at: u64| at.saturating_add(WINDOWS * WINDOW_MS) < wall_ms;
        while order.front().is_some_and(|(at, _)| old(*at)) || order.len() >= SPENT_MAX {
            let Some((_, gone)) = order.pop_front() else { break };
            known.remove(&gone);
        }
        let first = known.insert(nonce);
        if first {
            order.push_back((wall_ms, nonce));
        }
        first
    }
}

/// Asks whether somebody is there.
pub fn ask(trace: &Trace, decision: &Decision) -> Answer {
    let reason = decision.reason;
    let Some(challenge) = Challenge::new(trace, bits(trace, decision)) else {
        return reply::refusal(trace, 503, "refuse", reason);
    };
    let (work, proof) = (challenge.work, challenge.proof());
    let reference = Reference::of(&trace.row);
    let url = own::url(trace, "challenge");
    if trace.intake.wants == Wants::Html {
        let asked = pages::Asked { url: &url, to: &trace.intake.target(), proof: &proof, work, work_s: DETOUR_S };
        let page = pages::challenge(trace.intake.accept_language.as_str(), &asked, &reply::quoted(reason.code(), reference));
        return Answer::page(403, "challenge", reason.code(), page);
    }
    let detail = "do the work of `challenge`, send its answer, then ask again";
    let mut value = reply::problem_value(Some(reference), 403, reason.code(), detail);
    value["challenge"] = json!({ "method": "POST", "url": url, "proof": proof });
    if work.bits > 0 {
        value["challenge"]["work"] = json!({ "challenge": hex(&work.challenge), "bits": work.bits });
        value["challenge"]["slowly"] = json!({ "wait_s": DETOUR_S });
    }
    Answer::problem_of(403, "challenge", reason.code(), &value)
}

/// What the gate that challenges asks for; a room only wants to know that somebody is there.
fn bits(trace: &Trace, decision: &Decision) -> u8 {
    let score = if trace.row.score.is_nan() { Score::Unknown } else { Score::Known(trace.row.score) };
    match reply::filter_of(trace, decision) {
        Some(Filter::BotGate(gate)) => gate.work_bits(score),
        _ => 0,
    }
}

/// Answers `POST challenge`: `proof`, `answer` (a decimal number) or `slowly`, `to`.
pub fn take(shared: &Shared, trace: &mut Trace, form: &[(String, String)]) -> Answer {
    trace.own(RowKind::Own, "own", Reason::Own);
    let now = shared.clock.now();
    let challenge = get(form, "proof").and_then(|proof| Challenge::read(trace, proof));
    let slowly = challenge.as_ref().is_some_and(|c| c.work.bits > 0) && get(form, "slowly").is_some();
    let answer: Option<u64> = get(form, "answer").and_then(|n| n.parse().ok());
    let done = |c: &Challenge| answer.map_or(c.work.bits == 0, |n| c.work.is_done(n));
    let passed = challenge.filter(|c| slowly || done(c)).filter(|c| shared.challenges.first(c.nonce, now.wall_ms));
    let Some(visitor) = passed.and_then(|_| own::named(shared, trace)) else {
        shared.counts.challenged(Challenged::Refused);
        return reply::failure(trace, 403, "own", Reason::Own.code(), Refusal::StaleChallenge);
    };
    let to = destination(get(form, "to"));
    if !slowly {
        shared.counts.challenged(Challenged::Worked);
        let token = Token::of_gate(Kind::Clearance, &trace.intake.host, visitor.0, CLEARANCE_MS, now.wall_ms);
        trace.cookies.push(own::cookie(shared, trace.intake.https, "clearance", &token));
        return match trace.intake.wants {
            Wants::Html => Answer::see(303, "own", Reason::Own.code(), to),
            _ => Answer::json(200, "own", Reason::Own.code(), &json!({ "state": "cleared" })),
        };
    }
    shared.counts.challenged(Challenged::Slowly);
    let token = Token::of_gate(Kind::Detour, &trace.intake.host, visitor.0, CLEARANCE_MS, now.wall_ms);
    let token = Token { not_before_ms: now.wall_ms + DETOUR_S * 1_000, ..token };
    trace.cookies.push(own::cookie(shared, trace.intake.https, "detour", &token));
    match trace.intake.wants {
        Wants::Html => {
            let page = pages::detour(trace.intake.accept_language.as_str());
            // A second more than it takes: clocks and networks are not exact. Works without a script.
            Answer::page(200, "own", Reason::Own.code(), page).with("refresh", format!("{};url={to}", DETOUR_S + 1))
        }
        _ => Answer::json(200, "own", Reason::Own.code(), &json!({ "state": "slowly", "wait_s": DETOUR_S })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_spent_once_and_forgotten_when_nobody_could_use_it() {
        let spent = Spent::default();
        assert!(spent.first(7, 0) && !spent.first(7, 1));
        assert!(!spent.first(7, WINDOWS * WINDOW_MS), "as long as it is good");
        assert!(spent.first(8, WINDOWS * WINDOW_MS + 1));
        assert_eq!(spent.0.lock().order.len(), 1, "the first is forgotten");
        for nonce in 0..2 * SPENT_MAX as u64 {
            spent.first(100 + nonce, WINDOWS * WINDOW_MS + 2);
        }
        let Answered { known, order } = &*spent.0.lock();
        assert_eq!((known.len(), order.len()), (SPENT_MAX, SPENT_MAX));
    }
}
