//! `pass`: whether a visit is inside a room. Only marks: rate and score apply inside too.

use crate::{
    sabotage::{self, Bug},
    seats::{
        seat::SeatRef,
        token::{Kind, Token},
    },
    time::Now,
    visit::Visit,
};

/// The visit's token of a kind for a room, of this epoch and host, inside its times. A token of a sale is foreign while
/// another sale is on: `sale` is the one that is.
pub fn token_for<'v>(visit: &Visit<'v>, kind: Kind, room: &str, epoch: u64, sale: Option<&str>, now: Now) -> Option<&'v Token> {
    let good = |t: &&Token| {
        t.kind == kind
            && (*t.room == *room || sabotage::is(Bug::ForeignRoomAccepted))
            && (t.epoch == epoch || sabotage::is(Bug::OldEpochAccepted))
            && (*t.host == *visit.host || sabotage::is(Bug::ForeignHostAccepted))
            && (t.sale.is_empty() || sale.is_none_or(|s| *t.sale == *s))
            && t.not_before_ms <= now.wall_ms
            && (now.wall_ms < t.expires_at_ms || sabotage::is(Bug::ExpiryNotChecked))
    };
    visit.tokens.iter().find(good)
}

/// The seat a pass names.
pub fn seat_of(token: &Token) -> SeatRef {
    SeatRef::from_bits(token.number)
}

/// How somebody got past a challenge or a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cleared {
    /// Went the slow way: to the back.
    Slowly,
    /// Did what was asked.
    Worked,
    /// An operator granted an appeal: scores no longer count.
    Granted,
}

/// Whether this visitor got past a challenge or a score of this host lately. Who copies the cookies of a visitor is that visitor, and
/// shares its quotas.
pub fn cleared(visit: &Visit<'_>, now: Now) -> Option<Cleared> {
    if visit.known.granted {
        return Some(Cleared::Granted);
    }
    let visitor = visit.visitor?.0;
    let way = |t: &Token| {
        let way = match t.kind {
            Kind::Clearance => Cleared::Worked,
            Kind::Detour => Cleared::Slowly,
            _ => return None,
        };
        let good =
            t.number == visitor && *t.host == *visit.host && t.not_before_ms <= now.wall_ms && now.wall_ms < t.expires_at_ms;
        good.then_some(way)
    };
    visit.tokens.iter().filter_map(way).max()
}
