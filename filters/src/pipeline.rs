//! The order of filters: first opinion wins, shared tokens are spent last.

use crate::{
    filter::{Filter, FilterSettings},
    plan::{CapacitySettings, InFlightSettings, Planner},
    route::{Needs, RouteSettings, Routes},
    rule::{
        address::Address,
        bot_gate::{BotGate, BotGateSettings, Class},
        fact::Then,
        good_bots::GoodBots,
        honeypot::Honeypot,
        pass::cleared,
        sale_window::{Sale, SaleWindow},
        visitor_rate::VisitorRate,
    },
    sabotage::{self, Bug},
    seats::{
        hold::Held,
        ledger::Holder,
        queue::Place,
        room::{Entrance, Room, RoomSettings},
        seat::SeatRef,
    },
    time::Now,
    verdict::{Decision, Notes, Quota, Reason, Verdict},
    visit::{Bot, Score, Visit},
};

/// Everything the filters need from a policy, already validated.
#[derive(Clone, Debug, Default)]
pub struct PipelineSettings {
    /// In order.
    pub routes: Vec<RouteSettings>,
    /// In order.
    pub filters: Vec<FilterSettings>,
    /// By name.
    pub rooms: Vec<RoomSettings>,
    /// By name, times resolved.
    pub sales: Vec<Sale>,
    /// Bounds of the capacity estimator.
    pub capacity: CapacitySettings,
    /// The limit on requests in flight.
    pub in_flight: InFlightSettings,
}

/// What must be unpredictable, handed in by the shell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seed {
    /// Key of the hash tables, so that nobody can aim for a collision.
    pub hash_key: (u64, u64),
    /// Epoch of rooms that are new in this pipeline.
    pub epoch: u64,
}

/// The compiled policy and the state of its filters.
#[derive(Debug)]
pub struct Pipeline {
    routes: Routes,
    filters: Vec<(Filter, bool)>,
    rooms: Vec<Room>,
}

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimAnswer {
    /// Index of the room.
    pub room: usize,
    /// Who claimed.
    pub place: Place,
    /// What came of it.
    pub outcome: ClaimOutcome,
}

/// What came of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// A seat; the ticket is burnt.
    Seated(SeatRef),
    /// Nothing was free: next. The claim stays good.
    Next,
    /// Nobody came for a seat that was given: it is taken back, and the place is called.
    Withdrawn(SeatRef),
}

type Opinion = (Verdict, Reason);

impl Pipeline {
    /// Compiles validated settings; names that do not exist match nothing.
    pub fn new(settings: &PipelineSettings, seed: Seed, now: Now) -> Self {
        let routes = Routes::new(&settings.routes);
        let room = |(i, s)| Room::new(i, s, &settings.sales, seed.epoch, now);
        let rooms: Vec<Room> = settings.rooms.iter().enumerate().map(room).collect();
        let compile = |s: &FilterSettings| {
            let filter = match s {
                FilterSettings::Address(s) => Filter::Address(Address::new(s)),
                FilterSettings::SaleWindow(s) => Filter::SaleWindow(SaleWindow::new(s, &routes, &settings.sales)?),
                FilterSettings::VisitorRate(s) => Filter::VisitorRate(VisitorRate::new(s, seed.hash_key)),
                FilterSettings::Honeypot(s) => Filter::Honeypot(Honeypot::new(s)),
                FilterSettings::GoodBots(s) => Filter::GoodBots(GoodBots::new(s)),
                FilterSettings::BotGate(s) => Filter::BotGate(Box::new(BotGate::new(s, &routes, seed.hash_key))),
                FilterSettings::WaitingRoom(s) => Filter::WaitingRoom {
                    room: rooms.iter().position(|r| r.name() == s.room)?,
                    routes: s.routes.iter().filter_map(|n| routes.index(n)).collect(),
                },
            };
            Some((filter, s.shadow()))
        };
        let mut filters: Vec<(Filter, bool)> = settings.filters.iter().filter_map(compile).collect();
        specific_rooms_win(&mut filters, &routes);
        let plans = Planner::new(settings).first();
        rooms.iter().zip(&plans.rooms).for_each(|(room, plan)| room.open(plan, now));
        Pipeline { routes, filters, rooms }
    }

    /// Takes over limiter tables, lines, seats and tokens of what has the same name. Call before it is put in force.
    pub fn carry_over(&mut self, old: &Pipeline) {
        for room in self.rooms.iter_mut().filter(|_| !sabotage::is(Bug::CarryOverForgets)) {
            if let Some(old) = old.rooms.iter().find(|o| o.name() == room.name()) {
                room.carry_over(old);
            }
        }
        for rate in self.filters.iter_mut().flat_map(|(f, _)| f.quotas_mut()) {
            old.filters.iter().flat_map(|(f, _)| f.quotas()).for_each(|old| rate.carry_over(old));
        }
    }

    /// Rooms for the shell to bring back to life before the first visit.
    pub fn rooms_mut(&mut self) -> &mut [Room] {
        &mut self.rooms
    }

    /// The routes.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The rooms, by index.
    pub fn rooms(&self) -> &[Room] {
        &self.rooms
    }

    /// The index of a room's name.
    pub fn room(&self, name: &str) -> Option<usize> {
        self.rooms.iter().position(|r| r.name() == name)
    }

    /// The filters in order, and whether each is a shadow.
    pub fn filters(&self) -> impl Iterator<Item = (&Filter, bool)> {
        self.filters.iter().map(|(f, s)| (f, *s))
    }

    /// The name of a filter for journal and headers: a quota's own name, else the kind.
    pub fn filter_name(&self, index: u8) -> &str {
        match self.filters.get(usize::from(index)) {
            Some((Filter::VisitorRate(r), _)) => &r.settings().name,
            Some((f, _)) => f.kind(),
            None => "",
        }
    }

    /// The gate whose model must score visits of this route; `None`: do not score.
    pub fn scored_by(&self, route: Option<usize>) -> Option<&BotGateSettings> {
        if !self.is_filtered(route) {
            return None;
        }
        self.filters.iter().find_map(|(f, _)| match f {
            Filter::BotGate(g) if g.scores(route) => Some(g.settings()),
            _ => None,
        })
    }

    /// The cheap filters, before the score: routing, address, sale window, quotas. `Some` is final.
    pub fn screen(&self, visit: &Visit<'_>, now: Now, notes: &mut Notes) -> Option<Decision> {
        match visit.route.and_then(|r| self.routes.get(r)) {
            None => return decided(Verdict::Refuse { retry_after_s: None }, Reason::NoRoute, None),
            Some(r) if !r.filtered => return decided(Verdict::Forward(Entrance::Free), Reason::Unfiltered, None),
            Some(_) => {}
        }
        for (i, (filter, shadow)) in self.filters.iter().enumerate() {
            let index = i as u8;
            let opinion = match filter {
                // An operator who granted this visitor's appeal knew of the list.
                Filter::Address(f) => f.check(visit).filter(|o| o.1 != Reason::AddressDenied || !visit.known.granted),
                Filter::SaleWindow(f) => f.check(visit, now),
                Filter::VisitorRate(f) => quota_opinion(f.check(visit, index, now), *shadow, notes),
                Filter::Honeypot(f) => f.check(visit),
                Filter::GoodBots(_) => filter.fact(visit).and_then(|(then, reason)| then.opinion(reason)),
                Filter::BotGate(_) | Filter::WaitingRoom { .. } => None,
            };
            if let Some(decision) = enforce(opinion, index, *shadow, notes) {
                return Some(decision);
            }
        }
        None
    }

    /// The filters that need the score, then the room. Always answers.
    pub fn admit(&self, visit: &Visit<'_>, score: Score, now: Now, notes: &mut Notes) -> Decision {
        let mut class = Class::Human;
        for (i, (filter, shadow)) in self.filters.iter().enumerate() {
            let index = i as u8;
            if let Some((Then::ToTheBack, reason)) = filter.fact(visit) {
                match shadow {
                    true => _ = notes.shadow.get_or_insert((index, "to_the_back", reason)),
                    false => class = Class::Suspect,
                }
            }
            let opinion = match filter {
                Filter::BotGate(gate) if gate.scores(visit.route) && visit.known.bot != Bot::Good => {
                    let (given, opinion) = gate.check(score, cleared(visit, now));
                    let opinion = match opinion {
                        Some((Verdict::Refuse { .. }, _)) => opinion,
                        milder => gate.throttle(visit, score, index, now).or(milder),
                    };
                    notes.class = Some(class.max(given));
                    if !shadow {
                        class = class.max(given);
                    } else if given == Class::Suspect && opinion.is_none() && notes.shadow.is_none() {
                        notes.shadow = Some((index, "to_the_back", Reason::ScoreToTheBack));
                    }
                    opinion
                }
                // A room in shadow would have to give out places to know: it only says whether it covers the visit.
                Filter::WaitingRoom { .. } if *shadow => None,
                Filter::WaitingRoom { room, routes } if covers(routes, visit.route) => {
                    self.rooms.get(*room).map(|r| r.visit(visit, class, now))
                }
                _ => None,
            };
            if let Some(decision) = enforce(opinion, index, *shadow, notes) {
                return decision;
            }
        }
        Decision { verdict: Verdict::Forward(Entrance::Free), reason: Reason::NoObjection, filter: None }
    }

    /// The last step of a visit that is about to be forwarded: the unit of stock its route needs. `None`: it needs none.
    /// Shared by all and scarce, so it is taken after everything else agreed.
    pub fn hold(&self, visit: &Visit<'_>, decision: &Decision, now: Now) -> Result<Option<Held>, Decision> {
        let Some(needs) = visit.route.and_then(|r| self.routes.get(r)).and_then(|r| r.needs.as_ref()) else { return Ok(None) };
        if !Needs::asks(visit.method) {
            return Ok(None);
        }
        let refused = |(verdict, reason)| Decision { verdict, reason, filter: None };
        let no_pass = || refused((Verdict::Refuse { retry_after_s: None }, Reason::NoPass));
        let room = self.rooms.iter().position(|r| r.sales().any(|s| *s.name == *needs.hold)).ok_or_else(no_pass)?;
        // Whoever asks: with a pass there would be nothing to buy either.
        if self.rooms[room].sales().any(|s| s.cancelled && *s.name == *needs.hold) {
            return Err(refused((Verdict::Refuse { retry_after_s: None }, Reason::SaleCancelled)));
        }
        let holder = match decision.verdict {
            Verdict::Forward(Entrance::Inside { room: r, seat } | Entrance::Seated { room: r, seat }) if r == room => {
                Holder::seat(seat)
            }
            // Let through by an address list: staff and partners buy from the same stock.
            Verdict::Forward(Entrance::Free) if decision.reason == Reason::AddressAllowed => {
                Holder::Visitor(visit.visitor.ok_or_else(no_pass)?)
            }
            _ => return Err(no_pass()),
        };
        self.rooms[room].hold(visit, holder, needs, now).map(Some).map_err(refused)
    }

    /// Claims are answered, people called, seats expired. Ten times a second.
    pub fn tick(&self, now: Now) -> Vec<ClaimAnswer> {
        let answer = |room: usize, c: crate::seats::line::Claimed| ClaimAnswer {
            room,
            place: c.place,
            outcome: c.seat.map_or(ClaimOutcome::Next, ClaimOutcome::Seated),
        };
        let withdrawn = |room: usize, (place, seat)| ClaimAnswer { room, place, outcome: ClaimOutcome::Withdrawn(seat) };
        let mut answers = Vec::new();
        for (i, room) in self.rooms.iter().enumerate() {
            answers.extend(room.withdraw(now).into_iter().map(|w| withdrawn(i, w)));
            answers.extend(room.tick(now).into_iter().map(|c| answer(i, c)));
        }
        answers
    }

    fn is_filtered(&self, route: Option<usize>) -> bool {
        route.and_then(|r| self.routes.get(r)).is_some_and(|r| r.filtered)
    }
}

/// A room that names its routes wins over one that covers all of them, wherever it stands.
fn specific_rooms_win(filters: &mut Vec<(Filter, bool)>, routes: &Routes) {
    let named: Vec<usize> = filters
        .iter()
        .filter_map(|(f, shadow)| match f {
            Filter::WaitingRoom { routes, .. } if !shadow => Some(routes.as_slice()),
            _ => None,
        })
        .flatten()
        .copied()
        .collect();
    let rest: Vec<usize> = (0..routes.iter().count()).filter(|r| !named.contains(r)).collect();
    if named.is_empty() {
        return;
    }
    for (filter, _) in filters.iter_mut() {
        if let Filter::WaitingRoom { routes, .. } = filter
            && routes.is_empty()
        {
            routes.clone_from(&rest);
        }
    }
    // What is left without a route covers none, not all.
    filters.retain(|(f, _)| !matches!(f, Filter::WaitingRoom { routes, .. } if routes.is_empty()));
}

fn covers(routes: &[usize], route: Option<usize>) -> bool {
    routes.is_empty() || route.is_some_and(|r| routes.contains(&r))
}

fn quota_opinion(checked: Result<Quota, (Verdict, Reason, Quota)>, shadow: bool, notes: &mut Notes) -> Option<Opinion> {
    let (quota, opinion) = match checked {
        Ok(quota) => (quota, None),
        Err((verdict, reason, quota)) => (quota, Some((verdict, reason))),
    };
    // A shadow quota must not show: the client would obey what is not enforced.
    if !shadow && notes.quota.is_none_or(|q| quota.remaining < q.remaining) {
        notes.quota = Some(quota);
    }
    opinion
}

/// An opinion becomes the decision, unless its filter is a shadow: then it is noted.
fn enforce(opinion: Option<Opinion>, index: u8, shadow: bool, notes: &mut Notes) -> Option<Decision> {
    let (verdict, reason) = opinion?;
    if shadow {
        notes.shadow.get_or_insert((index, verdict.name(), reason));
        return None;
    }
    decided(verdict, reason, Some(index))
}

fn decided(verdict: Verdict, reason: Reason, filter: Option<u8>) -> Option<Decision> {
    Some(Decision { verdict, reason, filter })
}
