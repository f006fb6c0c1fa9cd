//! Every interleaving of a few steps (loom), and many random ones of more (shuttle): who holds what, who wins.
//!
//! `cargo test -p tidegate-filters --lib --features loom model`, the same with `shuttle`.
#![allow(clippy::unwrap_used)]

use super::{
    draw::slots::{Slots, Standing, Written},
    ledger::{Buyer, Denied, Holder, Outcome, Want},
    line::{CLAIM_WAIT_MS, Line, Terms},
    queue::{Lane, Place, Queue, State},
    seat::{SeatRef, Seats},
    stock::Stock,
};
use crate::{bucket::Bucket, rule::bot_gate::Class, time::Now};

#[cfg(feature = "loom")]
mod run {
    pub(super) use loom::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        thread,
    };

    /// Three preemptions find all known kinds of such bugs, and keep a test in seconds.
    pub(super) fn model(f: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(f);
    }
    /// Threads beside the first.
    pub(super) const MORE: usize = 1;
}

#[cfg(all(feature = "shuttle", not(feature = "loom")))]
mod run {
    pub(super) use std::sync::Arc;

    pub(super) use shuttle::{
        sync::atomic::{AtomicU32, Ordering},
        thread,
    };

    pub(super) fn model(f: impl Fn() + Send + Sync + 'static) {
        shuttle::check_random(f, 3_000);
    }
    /// Threads beside the first.
    pub(super) const MORE: usize = 4;
}

use run::{Arc, AtomicU32, MORE, Ordering, model, thread};

/// A flag a seat, raised while somebody holds it.
struct Held(Vec<AtomicU32>);

impl Held {
    fn new() -> Self {
        Held((0..super::seat::SEATS_MAX).map(|_| AtomicU32::new(0)).collect())
    }

    fn take(&self, seat: SeatRef) {
        assert_eq!(self.0[seat.index as usize].swap(1, Ordering::AcqRel), 0, "two holders of seat {}", seat.index);
    }

    fn give(&self, seat: SeatRef) {
        self.0[seat.index as usize].store(0, Ordering::Release);
    }
}

#[test]
fn model_a_seat_has_one_holder_and_live_stays_within_max() {
    model(|| {
        let state = Arc::new((Seats::default(), Held::new()));
        let work = |s: &(Seats, Held)| {
            if let Some(seat) = s.0.acquire(1, None, 10, 20) {
                assert!(s.0.live() <= 1, "more live than max");
                s.1.take(seat);
                s.1.give(seat);
                assert!(s.0.release(seat));
            }
        };
        let more: Vec<_> = (0..MORE).map(|_| state.clone()).map(|s| thread::spawn(move || work(&s))).collect();
        work(&state);
        more.into_iter().for_each(|h| h.join().unwrap());
        assert_eq!(state.0.live(), 0);
        assert!(state.0.acquire(1, None, 10, 20).is_some(), "nothing is lost");
    });
}

/// Two seats: the free list is popped and pushed at once, which is where a list without tags breaks.
#[test]
fn model_the_free_list_gives_no_seat_twice() {
    model(|| {
        let state = Arc::new((Seats::default(), Held::new()));
        let first: Vec<SeatRef> = (0..2).map(|_| state.0.acquire(2, None, 10, 20).unwrap()).collect();
        first.into_iter().for_each(|s| assert!(state.0.release(s)));
        let work = |s: &(Seats, Held)| {
            let Some(a) = s.0.acquire(2, None, 10, 20) else { return };
            s.1.take(a);
            s.1.give(a);
            assert!(s.0.release(a));
        };
        let more: Vec<_> = (0..MORE).map(|_| state.clone()).map(|s| thread::spawn(move || work(&s))).collect();
        work(&state);
        more.into_iter().for_each(|h| h.join().unwrap());
        let (a, b) = (state.0.acquire(2, None, 10, 20).unwrap(), state.0.acquire(2, None, 10, 20).unwrap());
        assert_ne!(a.index, b.index);
        assert!(state.0.acquire(2, None, 10, 20).is_none());
    });
}

#[test]
fn model_a_renewed_seat_is_not_swept_and_a_swept_one_is_not_renewed() {
    model(|| {
        let seats = Arc::new(Seats::default());
        let seat = seats.acquire(1, None, 10, 100).unwrap();
        let other = seats.clone();
        // The holder is here at 9, the sweep comes at 10: whoever is first, both must agree.
        let holder = thread::spawn(move || other.renew(seat, 9, 50));
        let swept = seats.sweep(10);
        let renewed = holder.join().unwrap();
        assert!(renewed != (swept == 1), "renewed {renewed}, swept {swept}");
        assert_eq!(seats.live(), u32::from(renewed));
        assert_eq!(seats.renew(seat, 11, 60), renewed, "a pass fits its own seat only");
    });
}

#[test]
fn model_a_seat_is_given_back_once_and_an_old_pass_never_fits() {
    model(|| {
        let seats = Arc::new(Seats::default());
        let seat = seats.acquire(1, None, 10, 100).unwrap();
        let hs: Vec<_> = (0..MORE).map(|_| seats.clone()).map(|s| thread::spawn(move || s.release(seat))).collect();
        let here = seats.release(seat);
        let there = hs.into_iter().filter(|_| true).map(|h| h.join().unwrap()).filter(|b| *b).count();
        assert_eq!(there + usize::from(here), 1, "given back once");
        let next = seats.acquire(1, None, 10, 100).unwrap();
        assert!(next.index == seat.index && next.generation != seat.generation);
        assert!(!seats.renew(seat, 1, 5) && !seats.release(seat));
    });
}

#[test]
fn model_a_claim_has_one_winner_and_who_leaves_does_not_win() {
    model(|| {
        let q = Arc::new(Queue::default());
        let n = q.take(10, 4).unwrap();
        assert!(q.call(n, 20));
        let claims: Vec<_> = (0..MORE).map(|_| q.clone()).map(|q| thread::spawn(move || q.begin_claim(n).is_some())).collect();
        let left = q.leave(n).is_some();
        let won = claims.into_iter().map(|h| h.join().unwrap()).filter(|w| *w).count();
        assert_eq!(won + usize::from(left), 1, "claimed {won}, left {left}");
        q.end_claim(n, true);
        assert_eq!(q.state(n), if left { State::Left } else { State::Seated });
    });
}

#[test]
fn model_a_call_is_not_undone_by_presence() {
    model(|| {
        let q = Arc::new(Queue::default());
        let n = q.take(10, 4).unwrap();
        let visitor = q.clone();
        let h = thread::spawn(move || visitor.touch(n, 99));
        let called = q.call(n, 20);
        h.join().unwrap();
        assert!(called, "a present visitor is called");
        assert_eq!(q.state(n), State::Called { deadline_s: 20 });
    });
}

#[test]
fn model_numbers_are_given_once() {
    model(|| {
        let q = Arc::new(Queue::default());
        // The first one makes the segment.
        let first = q.take(5, 16).unwrap();
        let hs: Vec<_> = (0..MORE).map(|_| q.clone()).map(|q| thread::spawn(move || q.take(7, 16).unwrap())).collect();
        let mut all = vec![first, q.take(9, 16).unwrap()];
        all.extend(hs.into_iter().map(|h| h.join().unwrap()));
        let taken = all.len() as u32;
        all.sort_unstable();
        assert!(all.iter().enumerate().all(|(i, n)| i as u32 == *n), "{all:?}");
        assert_eq!(q.taken(), taken);
        assert!(all.iter().all(|n| matches!(q.state(*n), State::Waiting { .. })), "a taken number has its word");
    });
}

/// A room's line at work: a bucket with two tokens, seats, and what a tick gives out.
struct Work {
    line: Line,
    seats: Seats,
    bucket: Bucket,
}

impl Work {
    fn new() -> Self {
        let bucket = Bucket::new(Now::at(0, 0));
        bucket.set_rate(1.0, 2.0, Now::at(0, 0));
        bucket.fill();
        Work { line: Line::default(), seats: Seats::default(), bucket }
    }

    fn join(&self) -> Place {
        Place { lane: Lane::Main, number: self.line.lane(Lane::Main).take(9, 4).unwrap() }
    }

    fn tick(&self) -> Vec<SeatRef> {
        self.tick_at(0, 2)
    }

    fn tick_at(&self, now_ms: u64, seats_max: u32) -> Vec<SeatRef> {
        let terms = Terms {
            units: u32::MAX,
            seats_max,
            seat_expires_s: 9,
            seat_ends_s: 9,
            claim_window_s: 2,
            kept_s: 2,
            refill_per_s: 0.0,
            slow_lane_percent: 5,
            closed: false,
            keeps: false,
        };
        self.line.tick(1, Now::at(0, now_ms), terms, &self.seats, &self.bucket).into_iter().filter_map(|c| c.seat).collect()
    }
}

#[test]
fn model_a_place_is_claimed_by_many_and_seated_once() {
    model(|| {
        let work = Arc::new(Work::new());
        let place = work.join();
        assert!(work.tick().is_empty());
        let claims: Vec<_> =
            (0..MORE).map(|_| work.clone()).map(|w| thread::spawn(move || w.line.claim(place) == Ok(true))).collect();
        let mut seats = work.tick();
        let won = claims.into_iter().map(|h| h.join().unwrap()).filter(|w| *w).count();
        seats.extend(work.tick());
        assert_eq!((won, seats.len()), (1, 1));
        assert_eq!((work.line.state(place), work.line.counts().1), (State::Seated, 1));
        assert_eq!((work.seats.live(), work.bucket.available()), (1, 1), "one seat and one token");
    });
}

#[test]
fn model_who_leaves_while_the_line_ticks_is_counted_once() {
    model(|| {
        let work = Arc::new(Work::new());
        let place = work.join();
        let other = work.clone();
        let leaver = thread::spawn(move || other.line.leave(place));
        work.tick();
        let left = leaver.join().unwrap();
        work.tick();
        assert!(left && work.line.state(place) == State::Left);
        assert_eq!((work.line.counts(), work.line.outstanding()), ((1, 0, 1), 0), "nobody is waited for who left");
    });
}

#[test]
fn model_who_is_next_leaves_or_has_a_seat() {
    model(|| {
        let work = Arc::new(Work::new());
        let place = work.join();
        work.tick();
        assert_eq!(work.line.claim(place), Ok(true));
        assert!(work.tick_at(0, 0).is_empty() && work.tick_at(CLAIM_WAIT_MS, 0).is_empty());
        assert!(matches!(work.line.state(place), State::Next { .. }));
        let other = work.clone();
        let leaver = thread::spawn(move || {
            other.line.touch(place, 99);
            other.line.leave(place)
        });
        let mut seats = work.tick_at(CLAIM_WAIT_MS, 2);
        let left = leaver.join().unwrap();
        seats.extend(work.tick_at(CLAIM_WAIT_MS, 2));
        assert_eq!(left, seats.is_empty(), "one or the other");
        assert_eq!(work.line.state(place), if left { State::Left } else { State::Seated });
        assert_eq!(u64::from(work.seats.live()) + work.bucket.available(), 2, "no token and no seat is lost");
        assert_eq!(work.line.owed(), 0);
    });
}

#[test]
fn model_a_longer_call_and_a_claim_agree() {
    model(|| {
        let work = Arc::new(Work::new());
        let place = work.join();
        work.tick();
        let other = work.clone();
        let extends = thread::spawn(move || other.line.extend(place, 4));
        let claimed = work.line.claim(place) == Ok(true);
        extends.join().unwrap();
        assert!(claimed, "a called place is claimed whatever its deadline");
        assert_eq!(work.line.outstanding(), 0, "and waited for no more");
        assert_eq!(work.tick().len(), 1);
    });
}

#[test]
fn model_tokens_are_neither_made_nor_lost() {
    model(|| {
        let bucket = Arc::new(Bucket::new(Now::at(0, 0)));
        bucket.set_rate(1.0, 2.0, Now::at(0, 0));
        bucket.fill();
        let take = |b: &Bucket| b.take() && b.take();
        let more: Vec<_> = (0..MORE).map(|_| bucket.clone()).map(|b| thread::spawn(move || take(&b))).collect();
        bucket.refill(Now::at(0, 1_000));
        bucket.put_back();
        let taken: u32 = more.into_iter().map(|h| u32::from(h.join().unwrap())).sum();
        // Two were there, one was made if there was room, one was put back: never more than the burst at a time.
        assert!(bucket.available() <= 2 && f64::from(2 * taken) <= bucket.minted() + 1.0, "{taken} pairs of {}", bucket.minted());
    });
}

fn buyer(n: u64) -> Buyer {
    Buyer { holder: Holder::Seat(n), visitor: None }
}

const WANT: Want = Want { units: 1, per_visitor_max: None, may_take: true, expires_s: 9 };

#[test]
fn model_the_last_unit_has_one_buyer_and_gone_is_gone() {
    model(|| {
        let stock = Arc::new(Stock::new(Some(1), 1));
        let buy = |s: &Stock, n: u64| match s.begin(buyer(n), WANT, 1) {
            Ok(id) => {
                assert!(!s.is_gone(), "what is at the shop may come back");
                s.end(id, Outcome::Sold(1), 2);
                assert!(s.is_gone());
                1
            }
            Err(Denied::SoldOut | Denied::AllHeld { .. }) => 0,
            Err(other) => panic!("{other:?}"),
        };
        let more: Vec<_> =
            (0..MORE as u64).map(|n| (n, stock.clone())).map(|(n, s)| thread::spawn(move || buy(&s, n + 1))).collect();
        let here = buy(&stock, 0);
        let there: u32 = more.into_iter().map(|h| h.join().unwrap()).sum();
        assert_eq!((here + there, stock.units().sold), (1, 1));
    });
}

#[test]
fn model_a_unit_that_comes_back_is_seen() {
    model(|| {
        let stock = Arc::new(Stock::new(Some(1), 1));
        let id = stock.begin(buyer(1), WANT, 1).unwrap();
        let other = stock.clone();
        let shop = thread::spawn(move || {
            other.end(id, Outcome::NotSold, 2);
            other.with(|l| l.leave(Holder::Seat(1)));
        });
        let early = stock.begin(buyer(2), WANT, 3);
        shop.join().unwrap();
        let u = stock.units();
        assert_eq!(u.held + u.in_flight + u.free.unwrap(), 1, "{u:?}");
        assert!(early.is_ok() || stock.begin(buyer(2), WANT, 3).is_ok(), "nothing is lost");
    });
}

/// Somebody enters, or goes away before it is written, while the list is closed.
fn enters_while_the_list_closes() {
    let list = Arc::new(Slots::default());
    list.reserve(8).unwrap();
    list.settle(0, Standing::Void);
    let enter = |list: &Slots| {
        if let Ok(index) = list.reserve(8) {
            assert!(list.settle(index, Standing::Written(Written { present_until_s: 1, ..Written::default() })));
        }
    };
    let hs: Vec<_> = (0..MORE).map(|_| list.clone()).map(|l| thread::spawn(move || enter(&l))).collect();
    let frozen = list.close().then(|| list.taken());
    hs.into_iter().for_each(|h| h.join().unwrap());
    let settled = (0..list.taken()).all(|i| matches!(list.standing(i), Standing::Written(_) | Standing::Void));
    assert!(settled, "an index is neither written nor void");
    assert!(frozen.is_none_or(|n| n == list.taken()), "the list grew after it was frozen");
    assert!(list.close() && list.reserve(8).is_err(), "the list grew after it was frozen");
}

#[test]
fn model_a_frozen_list_never_changes() {
    model(enters_while_the_list_closes);
}

/// The models can fail: the same rules over seats with a bug in them.
#[cfg(feature = "sabotage")]
mod with_a_bug {
    use super::*;
    use crate::sabotage::{Bug, in_this_thread};

    #[test]
    #[should_panic(expected = "more live than max")]
    fn model_sees_a_seat_too_many() {
        model(|| {
            in_this_thread(Some(Bug::SeatsIgnoreMax));
            let seats = Arc::new(Seats::default());
            let other = seats.clone();
            let h = thread::spawn(move || other.acquire(1, None, 10, 20).is_some());
            seats.acquire(1, None, 10, 20).unwrap();
            h.join().unwrap();
            assert!(seats.live() <= 1, "more live than max");
        });
    }

    #[test]
    #[should_panic(expected = "the list grew after it was frozen")]
    fn model_sees_a_list_that_grows() {
        model(|| {
            in_this_thread(Some(Bug::ListNotClosed));
            enters_while_the_list_closes();
        });
    }

    #[test]
    #[should_panic(expected = "an old pass fits")]
    fn model_sees_an_old_pass() {
        model(|| {
            in_this_thread(Some(Bug::GenerationNotBumped));
            let seats = Arc::new(Seats::default());
            let seat = seats.acquire(1, None, 10, 20).unwrap();
            let other = seats.clone();
            let h = thread::spawn(move || other.release(seat) && other.acquire(1, None, 10, 20).is_some());
            assert!(h.join().unwrap());
            assert!(!seats.renew(seat, 1, 5), "an old pass fits");
        });
    }
}
