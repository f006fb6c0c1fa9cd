//! `pass`: whether a visit is inside a room. Only marks: rate and score apply inside too.

use crate::{
    seats::{
        seat::SeatRef,
        token::{Kind, Token},
    },
    time::Now,
    visit::Visit,
};

/// The visit's token of a kind for a room, of this epoch and host, inside its times.
pub fn token_for<'v>(visit: &Visit<'v>, kind: Kind, room: &str, epoch: u64, now: Now) -> Option<&'v Token> {
    let good = |t: &&Token| {
        t.kind == kind
            && *t.room == *room
            && t.epoch == epoch
            && *t.host == *visit.host
            && t.not_before_ms <= now.wall_ms
            && now.wall_ms < t.expires_at_ms
    };
    visit.tokens.iter().find(good)
}

/// The seat a pass names.
pub fn seat_of(token: &Token) -> SeatRef {
    SeatRef::from_bits(token.number)
}
