//! How much of what the shop can take is really given away while many of those called never come.
#![allow(clippy::expect_used, clippy::print_stdout)]

use super::{
    line::{Line, Terms},
    queue::{Lane, Place, State},
    seat::Seats,
};
use crate::{bucket::Bucket, time::Now};

const TICK_MS: u64 = 100;

/// What somebody who waits does.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    /// Polls, and claims so many milliseconds after it saw the call.
    Comes(u64),
    /// Polls for ever, and never claims: a forgotten tab.
    Forgets,
    /// Closed the page at once.
    Gone,
}

struct Person {
    place: Place,
    habit: Habit,
    polls_at_ms: u64,
    claims_at_ms: u64,
}

/// Numbers that look random, the same each time.
fn scatter(n: u64) -> u64 {
    let x = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

struct Outcome {
    /// Of the tokens that were minted.
    share: f64,
    /// The most passes of any window beyond what was minted in it.
    beyond: f64,
}

/// `refill` passes a second for half an hour, with more people waiting than can be served.
fn run(refill: f64, burst: f64, never: u64, poll_ms: u64, think_ms: u64) -> Outcome {
    let minutes = 30;
    let (line, seats, bucket) = (Line::default(), Seats::default(), Bucket::new(Now::at(0, 0)));
    bucket.set_rate(refill, burst, Now::at(0, 0));
    let count = (refill * 60.0 * minutes as f64 * 1.8) as u64 + 100;
    let mut people: Vec<Person> = (0..count)
        .map(|i| {
            let habit = match scatter(i) % 100 {
                p if p < never / 2 => Habit::Gone,
                p if p < never => Habit::Forgets,
                _ => Habit::Comes(scatter(i ^ 0xffff) % (2 * think_ms + 1)),
            };
            let number = line.lane(Lane::Main).take(60, u32::MAX).expect("there is room");
            let place = Place { lane: Lane::Main, number };
            Person { place, habit, polls_at_ms: scatter(i ^ 0xff) % poll_ms, claims_at_ms: u64::MAX }
        })
        .collect();
    let (mut given, mut lowest, mut beyond) = (0u64, 0.0f64, 0.0f64);
    for now_ms in (0..minutes * 60_000).step_by(TICK_MS as usize) {
        let (now, now_s) = (Now::at(0, now_ms), (now_ms / 1_000) as u32 + 1);
        let behind = line.lane(Lane::Main).frontier() as usize;
        // Whoever is far behind the frontier has been served or never comes.
        for p in people.iter_mut().skip(behind.saturating_sub(20_000)).take(24_000).filter(|p| p.habit != Habit::Gone) {
            if now_ms >= p.polls_at_ms {
                p.polls_at_ms += poll_ms;
                line.lane(Lane::Main).touch(p.place.number, now_s + (poll_ms / 1_000) as u32 + 15);
                if let (State::Called { .. }, Habit::Comes(think)) = (line.state(p.place), p.habit) {
                    p.claims_at_ms = p.claims_at_ms.min(now_ms + think);
                }
            }
            if now_ms >= p.claims_at_ms && line.claim(p.place) == Ok(true) {
                p.claims_at_ms = u64::MAX;
            }
        }
        bucket.refill(now);
        seats.sweep(now_s);
        let terms = Terms {
            units: u32::MAX,
            seats_max: 100_000,
            seat_expires_s: now_s + 60,
            seat_ends_s: now_s + 60,
            claim_window_s: 120,
            kept_s: 120,
            refill_per_s: refill,
            slow_lane_percent: 5,
            closed: false,
            keeps: false,
        };
        let answers = line.tick(now_s, now, terms, &seats, &bucket);
        given += answers.iter().filter(|a| a.seat.is_some()).count() as u64;
        // The strictest window that ends now begins where `given - minted` was lowest.
        let ahead = given as f64 - refill * now_ms as f64 / 1_000.0;
        beyond = beyond.max(ahead - lowest);
        lowest = lowest.min(ahead);
    }
    Outcome { share: given as f64 / (refill * 60.0 * minutes as f64), beyond }
}

#[test]
fn admissions_reach_the_refill_though_three_in_ten_never_come() {
    for (refill, burst, poll_ms, think_ms) in
        [(2.0, 2.0, 5_000, 4_000), (10.0, 10.0, 5_000, 4_000), (10.0, 10.0, 10_000, 20_000), (0.2, 1.0, 5_000, 4_000)]
    {
        let outcome = run(refill, burst, 30, poll_ms, think_ms);
        println!(
            "refill {refill}/s, burst {burst}, polls every {poll_ms} ms, {think_ms} ms to react, 30 % never come: {:.2} % of the \
             refill given, at most {:.2} in any window beyond it",
            100.0 * outcome.share,
            outcome.beyond
        );
        assert!(outcome.share >= 0.98, "{:.4} of the refill at {refill}/s", outcome.share);
        assert!(outcome.beyond <= burst + 1e-6, "{:.3} beyond the refill, burst {burst}", outcome.beyond);
    }
}
