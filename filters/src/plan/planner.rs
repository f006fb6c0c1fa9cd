//! The planner: capacity, promised load, the policy and what is expected become a plan for each room, every second.

use std::fmt::Write as _;

use super::{
    Admission, Plan,
    capacity::{Capacity, Second},
    contract::{self, Trust},
    load::LoadModel,
    stock::{self, Conversion},
    tide::Outlook,
    window::ShopWindow,
};
use crate::{pipeline::PipelineSettings, seats::room::RoomStats, seats::settings::RoomSettings};

/// Share of the capacity that is planned with; the rest absorbs what arrives unevenly.
const HEADROOM: f64 = 0.97;
/// Horizons the refill must hold at, seconds.
const HORIZONS_S: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1200.0];
/// What is asked of the shop beyond what it does may not take it longer than this to drain, seconds: it waits in front of it, for a
/// second at most as shipped.
const DRAIN_S: f64 = 0.5;
/// Refill of a measured room whose capacity was never seen binding: as good as open; the in-flight limit protects the shop.
const REFILL_MAX: f64 = 10_000.0;

/// A room is armed when, one time in ten, what is expected within five minutes would need more than this share of what is
/// left; and disarmed when it would need less than that share, for so many seconds.
const ARM_AT: f64 = 0.8;
const DISARM_AT: f64 = 0.5;
const DISARM_AFTER_S: u32 = 30;
/// How far ahead arming looks, and over how long a pass is counted for it, seconds.
const ARM_WITHIN_S: f64 = 300.0;

/// What a second showed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    /// People who took a place or walked in.
    pub arrivals: f64,
    /// Cost units a second that needed no pass.
    pub exempt_per_s: f64,
    /// Its length, seconds.
    pub span_s: f64,
}

/// What is in force for the next second.
#[derive(Clone, Debug, PartialEq)]
pub struct Plans {
    /// Requests in flight at the shop.
    pub in_flight_limit: u32,
    /// Cost units a second the shop can take.
    pub capacity_per_s: f64,
    /// By room index.
    pub rooms: Vec<Plan>,
}

/// State of the planner; outlives a reload through [`Planner::retune`].
#[derive(Clone, Debug)]
pub struct Planner {
    rooms: Vec<RoomSettings>,
    capacity: Capacity,
    load: LoadModel,
    /// Passes given so far, and people who came so far, by the last step's numbers.
    passes: u64,
    /// `None` before the first: what a room brings from before a restart did not arrive now.
    came: Option<u64>,
    seen: Observed,
    /// Requests a second that were asked of the shop and got no place at it: load beyond what it completes.
    turned_away_per_s: f64,
    trust: Trust,
    /// By room index.
    sides: Vec<Side>,
}

/// What the planner remembers of a room.
#[derive(Clone, Debug, Default)]
struct Side {
    conversion: Conversion,
    armed: bool,
    calm_s: u32,
}

impl Planner {
    /// Knows only the policy.
    pub fn new(settings: &PipelineSettings) -> Self {
        Planner {
            rooms: settings.rooms.clone(),
            capacity: Capacity::new(&settings.capacity, &settings.in_flight),
            load: LoadModel::default(),
            passes: 0,
            came: None,
            seen: Observed::default(),
            turned_away_per_s: 0.0,
            trust: Trust::default(),
            sides: vec![Side::default(); settings.rooms.len()],
        }
    }

    /// New settings, same knowledge of rooms' load; the capacity is learnt anew when its bounds changed.
    pub fn retune(&mut self, settings: &PipelineSettings, bounds_changed: bool) {
        self.rooms = settings.rooms.clone();
        self.sides = vec![Side::default(); settings.rooms.len()];
        if bounds_changed {
            self.capacity = Capacity::new(&settings.capacity, &settings.in_flight);
        }
    }

    /// Some room wants a forecast.
    pub fn wants_forecast(&self) -> bool {
        self.rooms.iter().any(|r| r.admission == Admission::Forecast)
    }

    /// The plans before anything was measured.
    pub fn first(&mut self) -> Plans {
        self.plans(&[], 0, None)
    }

    /// Learns from a second and plans the next, without a forecast. `stats` by room index.
    pub fn step(&mut self, window: &ShopWindow, stats: &[RoomStats]) -> Plans {
        self.observe(window, stats);
        self.plan(stats, 0, None)
    }

    /// Looks at a part of a second; gives the limit on requests in flight for the next part.
    pub fn look(&mut self, window: &ShopWindow) -> u32 {
        self.capacity.look(window);
        self.capacity.limit()
    }

    /// Learns from a second, of which this is the last part that was not looked at.
    pub fn observe(&mut self, window: &ShopWindow, stats: &[RoomStats]) -> Observed {
        self.capacity.look(window);
        let Second { window, rates, unit_was } = self.capacity.second();
        self.load.rescale(unit_was);
        let passes: u64 = stats.iter().map(|s| s.seated + s.walk_ins).sum();
        let came: u64 = stats.iter().map(|s| s.arrived + s.walk_ins).sum();
        let given = passes.saturating_sub(self.passes) as f64;
        let arrivals = came.saturating_sub(self.came.unwrap_or(came)) as f64;
        (self.passes, self.came) = (passes, Some(came));
        let live: u32 = stats.iter().map(|s| s.seats_live).sum();
        let span_s = window.span_s();
        self.load.observe(rates.inside, live, given, span_s);
        self.turned_away_per_s = f64::from(window.turned_away) / span_s;
        self.seen = Observed { arrivals, exempt_per_s: (rates.all - rates.inside).max(0.0), span_s };
        self.seen
    }

    /// Plans the next second. `at_s` is the second the outlook is compared with; an outlook that is stale or holds what is no
    /// number is as good as none.
    pub fn plan(&mut self, stats: &[RoomStats], at_s: u64, outlook: Option<&Outlook>) -> Plans {
        self.trust.second(self.seen.arrivals, self.seen.exempt_per_s, outlook);
        self.plans(stats, at_s, outlook)
    }

    fn plans(&mut self, stats: &[RoomStats], at_s: u64, outlook: Option<&Outlook>) -> Plans {
        let exempt_per_s = self.seen.exempt_per_s;
        let outlook = contract::sound(outlook, at_s);
        let total = self.refill(exempt_per_s);
        let with_forecast = self.refill(self.trust.exempt_load(exempt_per_s, outlook));
        let forecast_total = self.trust.refill(total, with_forecast);
        // Rooms share the shop by how many wait in each.
        let weight = |i: usize| stats.get(i).map_or(1.0, |s| s.waiting as f64 + 1.0);
        let all: f64 = (0..self.rooms.len()).map(weight).sum();
        let mut sides = std::mem::take(&mut self.sides);
        let plan = |((i, room), side): ((usize, &RoomSettings), &mut Side)| match room.admission {
            Admission::Fixed(rate) => fixed(room, rate.as_per_s(), self.capacity.per_s() > 0.0),
            Admission::Measured => self.measured(room, total * weight(i) / all, exempt_per_s),
            Admission::Forecast => self.forecast(room, forecast_total * weight(i) / all, stats.get(i), side, outlook),
        };
        let rooms = self.rooms.iter().enumerate().zip(&mut sides).map(plan).collect();
        self.sides = sides;
        Plans { in_flight_limit: self.capacity.limit(), capacity_per_s: self.capacity.per_s(), rooms }
    }

    /// As measured, with the expected load already in `refill`; then the stock, the burst, and whether to arm.
    fn forecast(
        &self,
        room: &RoomSettings,
        refill: f64,
        stats: Option<&RoomStats>,
        side: &mut Side,
        outlook: Option<&Outlook>,
    ) -> Plan {
        let mut plan = self.measured(room, refill, self.seen.exempt_per_s);
        let _ = write!(plan.reason, "; {}", self.trust.words(outlook));
        let stock = stats.and_then(|s| {
            let bought = side.conversion.learn(s, self.load.stay_s());
            stock::refill_max(s, bought).map(|most| (most, bought.per_pass))
        });
        if let Some((most, conversion)) = stock.filter(|s| s.0 < plan.refill_per_s) {
            plan.refill_per_s = most;
            let _ = write!(
                plan.reason,
                "; lowered to {most:.2}/s: those inside will take most of the stock (a pass buys {conversion:.2})"
            );
        }
        self.arm(side, outlook.filter(|_| self.trust.arrivals()), stats);
        if side.armed && !plan.armed {
            plan.armed = true;
            plan.reason.push_str("; armed: more are expected than can be let in");
        }
        plan
    }

    /// Arms before the crowd is there, and keeps armed until it has been calm for a while.
    fn arm(&self, side: &mut Side, outlook: Option<&Outlook>, stats: Option<&RoomStats>) {
        let budget = HEADROOM * self.capacity.per_s();
        // What arrives at a steady rate causes that rate times this, after five minutes.
        let cost = self.load.cost(ARM_WITHIN_S);
        let needs = |a: &super::tide::Ahead| {
            let left = (budget - self.load.promised(a.in_s) - self.seen.exempt_per_s).max(1e-9);
            a.q90 * cost / left
        };
        let near = |a: &&super::tide::Ahead| a.on && a.in_s <= ARM_WITHIN_S;
        let worst = outlook.map_or(0.0, |o| o.arrivals.iter().filter(near).map(needs).fold(0.0, f64::max));
        if worst > ARM_AT {
            (side.armed, side.calm_s) = (true, 0);
        } else if worst < DISARM_AT && stats.is_none_or(|s| s.waiting == 0) {
            side.calm_s += 1;
            side.armed &= side.calm_s < DISARM_AFTER_S;
        } else {
            side.calm_s = 0;
        }
    }

    /// `r = max(0, min over h of (headroom·C·(h + drain) − L within h) / K within h)` passes a second: until any time ahead no more is
    /// asked of the shop than it does until then, and for the drain; a steady r asks for r·K within h. What was turned away in
    /// front of the shop is load too, though the shop does not complete it: otherwise a full shop would look like one that has
    /// just enough. Who only waits there for a moment is served soon.
    fn refill(&self, exempt_per_s: f64) -> f64 {
        let does = HEADROOM * self.capacity.per_s();
        let free = does - self.turned_away_per_s - exempt_per_s;
        let at = |h: f64| (free * h + does * DRAIN_S - self.load.promised_within(h)) / self.load.cost_within(h).max(1e-6);
        HORIZONS_S.into_iter().map(at).fold(REFILL_MAX, f64::min).max(0.0)
    }

    /// So many at once that the same holds. What the shop was seen to do, not what it may turn out to: until it was full once nobody knows that.
    fn burst(&self, exempt_per_s: f64) -> f64 {
        let seen = if self.capacity.is_measured() { self.capacity.per_s() } else { self.capacity.proven_per_s() };
        let does = HEADROOM * seen;
        let free = |h: f64| (does - exempt_per_s) * h - self.load.promised_within(h) + does * DRAIN_S;
        HORIZONS_S.into_iter().map(|h| free(h) / self.load.cost(h).max(1.0)).fold(f64::INFINITY, f64::min)
    }

    fn measured(&self, room: &RoomSettings, refill: f64, exempt_per_s: f64) -> Plan {
        let c = self.capacity.per_s();
        // As many as may be at the shop at the same time can come at once.
        let at_once = f64::from(self.capacity.limit()).min(c) / self.load.cost(1.0).max(1.0);
        let burst = self.burst(exempt_per_s).max(at_once);
        let source = match (c > 0.0, self.capacity.is_measured()) {
            (false, _) => "the shop is down: nobody is let in".to_owned(),
            (_, true) => format!("the shop takes {c:.0}/s (measured)"),
            (_, false) => format!("the shop takes at most {c:.0}/s (its limit was not reached yet)"),
        };
        let turned_away = match self.turned_away_per_s {
            n if n < 0.5 => String::new(),
            n => format!("{n:.0}/s were turned away before it, "),
        };
        let reason = format!(
            "refill {refill:.2}/s: {source}, {:.0}/s are promised to people inside, {exempt_per_s:.0}/s go to others, \
             {turned_away}a pass costs {:.0} requests over its life, headroom {:.0} %",
            self.load.inside_per_s(),
            self.load.life(),
            100.0 * (1.0 - HEADROOM),
        );
        Plan { refill_per_s: refill, burst: burst.max(1.0), seats: room.seats.max, armed: c <= 0.0, reason }
    }
}

fn fixed(room: &RoomSettings, rate: f64, healthy: bool) -> Plan {
    let (refill_per_s, reason) = match healthy {
        true => (rate, format!("refill {rate:.2}/s: fixed by the policy")),
        false => (0.0, "the shop is down: nobody is let in".to_owned()),
    };
    Plan { refill_per_s, burst: rate.max(1.0), seats: room.seats.max, armed: !healthy, reason }
}
