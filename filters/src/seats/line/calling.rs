//! Who is called, and how many at once.

use super::{Line, SCAN_MAX, SPARE, Terms, Tick, window};
use crate::{
    bucket::Bucket,
    sabotage::{self, Bug},
    seats::{
        queue::{Lane, Place, State},
        response::SHARE_MIN,
        seat::Seats,
        sync::Ordering,
    },
};

impl Line {
    pub(super) fn call(&self, t: &mut Tick, now_s: u32, terms: Terms, seats: &Seats, bucket: &Bucket) {
        let mut calls = self.wanted(t, now_s, terms, seats, bucket);
        let deadline_s = now_s + window(terms);
        let mut scans = SCAN_MAX;
        while calls > 0 && scans > 0 {
            t.slow_credit = (t.slow_credit + f64::from(terms.slow_lane_percent) / 100.0).min(1.0);
            let slow_first = t.slow_credit >= 1.0;
            let order = if slow_first { [Lane::Slow, Lane::Main] } else { [Lane::Main, Lane::Slow] };
            let Some(lane) = order.into_iter().find(|l| self.call_one(t, *l, now_s, deadline_s, &mut scans)) else { return };
            if lane == Lane::Slow {
                t.slow_credit = 0.0;
            }
            calls -= 1;
        }
    }

    /// How many to call: so that those who will claim find a token, a seat and a unit, and no token waits for them. A claim takes
    /// a while, so the tokens that come meanwhile are given away as well; and of those called only some will come.
    fn wanted(&self, t: &Tick, now_s: u32, terms: Terms, seats: &Seats, bucket: &Bucket) -> usize {
        let seats = f64::from(terms.seats_max.saturating_sub(seats.live()).min(terms.units));
        let tokens = bucket.available() as f64;
        let meanwhile = terms.refill_per_s.max(0.0) * t.response.delay_s();
        let room = seats.min(tokens + meanwhile + SPARE * meanwhile.sqrt());
        let window_s = window(terms);
        let silent = |age: u32| f64::from(self.silent(now_s, window_s, age as usize)) * t.response.still(age as usize);
        let mut coming: f64 = (0..=window_s).map(silent).sum();
        if sabotage::is(Bug::CallsNeverExpire) {
            coming = f64::from(self.outstanding());
        }
        let more = (room - coming - t.claims() as f64) / t.response.share();
        // Never more than would be called if only the least share came.
        let under_way = self.outstanding() as usize + t.claims();
        let most = (((tokens + seats) / SHARE_MIN) as usize).saturating_sub(under_way);
        // Units do not come back by the second as tokens do: each is for one person until that call is over, however late that
        // one comes.
        let units = (terms.units as usize).saturating_sub(under_way);
        // A hair below a whole person is a person: 0.8 tokens a second times 1.25 s.
        ((more + 1e-6).max(0.0) as usize).min(most).min(units)
    }

    /// People called `age` seconds ago who have not claimed.
    pub(super) fn silent(&self, now_s: u32, window_s: u32, age: usize) -> u32 {
        let Some(left_s) = window_s.checked_sub(age as u32) else { return 0 };
        self.outstanding[(now_s + left_s) as usize % self.outstanding.len()].load(Ordering::Acquire)
    }

    /// Calls the next present visitor of a lane; absent ones on the way are passed over but stay called.
    fn call_one(&self, t: &mut Tick, lane: Lane, now_s: u32, deadline_s: u32, scans: &mut u32) -> bool {
        let queue = self.lane(lane);
        while *scans > 0 && queue.frontier() < queue.taken() {
            *scans -= 1;
            let mut n = queue.frontier();
            if sabotage::is(Bug::CallsOutOfOrder) && n | 7 < queue.taken() {
                n ^= 7;
            }
            if sabotage::is(Bug::FrontierSkipsPresent) && n % 16 == 3 {
                queue.advance();
                continue;
            }
            let slot = &self.outstanding[deadline_s as usize % self.outstanding.len()];
            let present = match queue.state(n) {
                // The number is taken and its word will be there in nanoseconds: the next tick sees it.
                State::Unwritten => return false,
                State::Waiting { present_until_s } if present_until_s >= now_s => {
                    // Counted first: whoever claims or leaves at once takes this count back, not one that is not there yet.
                    slot.fetch_add(1, Ordering::AcqRel);
                    let called = queue.call(n, deadline_s);
                    if !called {
                        slot.fetch_sub(1, Ordering::AcqRel);
                    }
                    called
                }
                State::Waiting { .. } => {
                    queue.call(n, 0);
                    false
                }
                _ => false,
            };
            queue.advance();
            let old = t.present_share.unwrap_or(1.0);
            t.present_share = Some(old + 0.02 * (f64::from(u8::from(present)) - old));
            if present {
                t.calls_this_s += 1;
                self.promises.settle(Place { lane, number: n }, now_s);
                return true;
            }
        }
        false
    }
}
