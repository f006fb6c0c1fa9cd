//! How fair a sale was: places against arrival, who holds the first ones, and whether shown times were kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_filters::{Row, record::Kind as RowKind};

use crate::{
    crowd::{Crowd, Kind, Scenario},
    events::{Event, Events},
};

/// A second is the finest time that is shown; a turn is seen when an answer says so, and those are timed to the millisecond.
const ROUNDING_MS: u64 = 1_000;

/// The figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fairness {
    /// Of everybody who was told a place: rank of arrival, place, and whether it is a person. In order of arrival.
    pub points: Vec<Point>,
    /// Spearman's rank correlation of arrival and place among those who were in the drum (of all, without one): 0 where
    /// arrival decides nothing, 1 where it decides everything. `None` with fewer than three.
    pub correlation: Option<f64>,
    /// How many were in the drum.
    pub drawn: usize,
    /// How many of the first places are looked at: as many as there are units.
    pub top: u64,
    /// Holders by what they are: of all places, and of the first ones.
    pub by_kind: BTreeMap<String, Share>,
    /// The same by /24 network.
    pub by_network: BTreeMap<String, Share>,
    /// The same by the class that the gate gave them.
    pub by_class: BTreeMap<String, Share>,
    /// People who were shown a time and whose turn came.
    pub promises: u64,
    /// Those whose turn came within the first interval they were shown.
    pub kept_first: u64,
    /// Those whose turn came within the interval they were shown last.
    pub kept_last: u64,
}

/// One visitor's arrival and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// How many came before.
    pub arrival: u32,
    /// The place, from 0.
    pub place: u64,
    /// Not a bot.
    pub person: bool,
    /// Came out of the drum.
    pub drawn: bool,
}

/// Holders of places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Of all places.
    pub all: u64,
    /// Of the first ones.
    pub top: u64,
}

impl Fairness {
    /// Shown times that were kept, the first ones, as a share; `None` when nobody was shown one.
    pub fn kept_share(&self) -> Option<f64> {
        (self.promises > 0).then(|| self.kept_first as f64 / self.promises as f64)
    }

    /// The same for the times shown last.
    pub fn kept_last_share(&self) -> Option<f64> {
        (self.promises > 0).then(|| self.kept_last as f64 / self.promises as f64)
    }

    /// Holders of the first places, and how many of them are people.
    pub fn top_people(&self) -> (u64, u64) {
        let people = self.by_kind.get(Kind::Person.name()).map_or(0, |s| s.top);
        (people, self.by_kind.values().map(|s| s.top).sum())
    }
}

/// What one visitor lived through.
#[derive(Clone, Debug, Default)]
struct Story {
    /// First answer of the gate that knows of a place or of the wait for one.
    came_ms: Option<u64>,
    place: Option<u64>,
    /// The first and the last interval shown before the turn, as instants.
    shown: Option<[(u64, u64); 2]>,
    turn_ms: Option<u64>,
}

/// The figures of a run; `top` places are looked at closely, places below `drawn` came out of the drum; `rows` is the gate's
/// journal.
pub fn fairness(scenario: &Scenario, events: &Events, rows: &[Row], top: u64, drawn: Option<u64>) -> Fairness {
    let crowd = Crowd::new(scenario, events.seed);
    let mut stories = vec![Story::default(); crowd.visitors.len()];
    for e in &events.list {
        if let Some(story) = stories.get_mut(e.visitor as usize) {
            story.hear(e);
        }
    }
    let freeze_ms = scenario.freezes_at.map(|s| s.ms());
    let mut out = Fairness { top, ..Fairness::default() };
    let classes = class_by_place(rows, freeze_ms.map(|ms| events.start_unix_ms + ms));
    let mut by_arrival: Vec<usize> = (0..stories.len()).filter(|i| stories[*i].place.is_some()).collect();
    by_arrival.sort_by_key(|i| (stories[*i].came_ms, *i));
    for (arrival, i) in (0u32..).zip(by_arrival) {
        let (story, visitor) = (&stories[i], &crowd.visitors[i]);
        let place = story.place.unwrap_or_default();
        let person = visitor.kind() == Kind::Person;
        out.points.push(Point { arrival, place, person, drawn: drawn.is_some_and(|n| place < n) });
        let class = classes.get(&place).copied().unwrap_or("not scored");
        let shares = [
            out.by_kind.entry(visitor.kind().name().to_owned()),
            out.by_network.entry(visitor.network()),
            out.by_class.entry(class.to_owned()),
        ];
        for share in shares {
            let share = share.or_default();
            share.all += 1;
            share.top += u64::from(place < top);
        }
    }
    let compared: Vec<&Point> = out.points.iter().filter(|p| p.drawn || drawn.is_none()).collect();
    out.drawn = out.points.iter().filter(|p| p.drawn).count();
    out.correlation = spearman(&compared.iter().map(|p| p.place).collect::<Vec<_>>());
    for (story, visitor) in stories.iter().zip(&crowd.visitors) {
        let (Some([first, last]), Some(turn), Kind::Person) = (story.shown, story.turn_ms, visitor.kind()) else { continue };
        let kept = |(from, to): (u64, u64)| u64::from((from..=to).contains(&turn));
        out.promises += 1;
        out.kept_first += kept(first);
        out.kept_last += kept(last);
    }
    out
}

impl Story {
    fn hear(&mut self, e: &Event) {
        if e.state.is_empty() {
            return;
        }
        self.came_ms.get_or_insert(e.sent_ms);
        self.place = self.place.or(e.place);
        if self.turn_ms.is_none() && matches!(e.state.as_str(), "called" | "next" | "seated") {
            self.turn_ms = Some(e.done_ms());
        }
        // The interval of somebody whose sale is not open says nothing yet, and the page does not show it.
        if let (None, "waiting", Some((low, high))) = (self.turn_ms, e.state.as_str(), e.wait_s) {
            let now = e.done_ms();
            let until = |s: u32| now + u64::from(s) * 1_000;
            let shown = (until(low).saturating_sub(ROUNDING_MS), until(high) + ROUNDING_MS);
            self.shown = Some([self.shown.map_or(shown, |s| s[0]), shown]);
        }
    }
}

/// The worst class the gate gave the holder of each place, before the list was frozen where it was.
fn class_by_place(rows: &[Row], freeze_unix_ms: Option<u64>) -> BTreeMap<u64, &'static str> {
    let rank = |class: &str| ["human", "unsure", "suspect"].iter().position(|c| *c == class);
    let mut of_visitor: BTreeMap<u64, &'static str> = BTreeMap::new();
    let mut holders: BTreeMap<u64, u64> = BTreeMap::new();
    for row in rows.iter().filter(|r| r.visitor != 0) {
        let counts = row.kind == RowKind::Visit && !row.class.is_empty() && freeze_unix_ms.is_none_or(|f| row.at_ms < f);
        if counts {
            let worst = of_visitor.entry(row.visitor).or_insert(row.class);
            if rank(row.class) > rank(worst) {
                *worst = row.class;
            }
        }
        if row.place != u64::MAX {
            holders.entry(row.place).or_insert(row.visitor);
        }
    }
    holders.into_iter().filter_map(|(place, visitor)| Some((place, *of_visitor.get(&visitor)?))).collect()
}

/// Rank correlation of a list with its own order.
pub(crate) fn spearman(places: &[u64]) -> Option<f64> {
    let n = places.len();
    if n < 3 {
        return None;
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|i| (places[*i], *i));
    let d2: f64 = (0..n).map(|rank| (order[rank] as f64 - rank as f64).powi(2)).sum();
    let n = n as f64;
    Some(1.0 - 6.0 * d2 / (n * (n * n - 1.0)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::crowd::{Action, AnswerKind};

    fn scenario() -> Scenario {
        Scenario::builtin("drop-day").unwrap()
    }

    fn event(visitor: u32, at_ms: u64, state: &str, place: Option<u64>) -> Event {
        Event { state: state.into(), place, ..Event::of_a_person(visitor, at_ms, Action::Poll, AnswerKind::Waiting) }
    }

    #[test]
    fn correlation_is_one_in_order_of_arrival_and_none_in_a_drum() {
        assert_eq!(spearman(&[0, 1, 2, 3, 9]), Some(1.0));
        assert_eq!(spearman(&[9, 4, 2, 1]), Some(-1.0));
        assert_eq!(spearman(&[1, 0]), None);
        let mixed: Vec<u64> = (0..2_000).map(tidegate_filters::seats::draw::rehearse::mix).collect();
        assert!(spearman(&mixed).unwrap().abs() < 0.1);
    }

    #[test]
    fn a_shown_time_is_kept_when_the_turn_comes_within_it() {
        let shown =
            |visitor, at_ms, wait| Event { wait_s: Some(wait), ..event(visitor, at_ms, "waiting", Some(u64::from(visitor))) };
        let list = vec![
            shown(0, 10_000, (5, 10)),
            event(0, 18_000, "called", Some(0)),
            // Too late for the first interval, within the last.
            shown(1, 10_000, (5, 10)),
            shown(1, 20_000, (1, 30)),
            event(1, 40_000, "called", Some(1)),
            // Too early.
            shown(2, 10_000, (50, 60)),
            event(2, 20_000, "called", Some(2)),
            // Never called: nothing to compare with. Before the opening nothing is shown.
            shown(3, 10_000, (50, 60)),
            Event { wait_s: Some((1, 2)), ..event(4, 10_000, "prequeue", Some(4)) },
            event(4, 60_000, "called", Some(4)),
        ];
        let f = fairness(&scenario(), &Events { list, ..Events::default() }, &[], 2, None);
        assert_eq!((f.promises, f.kept_first, f.kept_last), (3, 1, 2));
        assert_eq!(f.top_people(), (2, 2));
    }

    #[test]
    fn shares_are_of_places_and_classes_are_the_gates() {
        let scenario = scenario();
        let bot = scenario.people.count;
        let early = scenario.freezes_at.unwrap().ms() - 1;
        let late = early + 2;
        let list = vec![
            event(0, early - 5, "prequeue", None),
            event(bot, early - 3, "prequeue", None),
            event(1, late, "waiting", Some(2)),
            event(0, late + 9, "waiting", Some(1)),
            event(bot, late + 9, "waiting", Some(0)),
        ];
        let row = |visitor, at_ms, class, place| Row { visitor, at_ms, class, place, ..Row::default() };
        let rows =
            [row(7, 1, "suspect", u64::MAX), row(7, 2, "human", 0), row(8, 2, "human", 1), row(8, 1_000_000, "suspect", 1)];
        let f = fairness(&scenario, &Events { list, ..Events::default() }, &rows, 1, Some(2));
        assert_eq!(
            f.points.iter().map(|p| (p.place, p.person, p.drawn)).collect::<Vec<_>>(),
            [(1, true, true), (0, false, true), (2, true, false)]
        );
        assert_eq!((f.by_kind["person"], f.by_kind["plain_script"]), (Share { all: 2, top: 0 }, Share { all: 1, top: 1 }));
        assert_eq!(
            (f.by_class["suspect"], f.by_class["human"].all, f.by_class["not scored"].all),
            (Share { all: 1, top: 1 }, 1, 1)
        );
        assert_eq!(f.by_network.len(), 2, "{:?}", f.by_network);
    }
}
