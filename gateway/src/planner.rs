//! The gate's slow heartbeat, beside the request path and on its own thread: ten times a second rooms tick and the in-flight limit
//! follows what the shop shows, and each second that becomes the plan for the next.

use std::{sync::Arc, time::Duration};

use tidegate_filters::{
    Now, Row,
    plan::{CapacitySettings, InFlightSettings, Plan, Planner, Plans, RouteWindow, ShopWindow},
    record::Kind,
    seats::room::RoomStats,
};
use tokio::{sync::watch, time::MissedTickBehavior};

use crate::{
    control::Control,
    forecasting::{Forecasting, gauge as gauge_forecast},
    in_flight::Observed,
    metrics::{Metrics, gauges},
    observe::PLAN,
    state::Active,
};

/// Rooms tick this often.
pub const TICK_EVERY: Duration = Duration::from_millis(100);
/// The log hears of failing requests this often.
const FAILURES_EVERY_MS: u64 = 10_000;
/// Characters of a plan's reason in the journal.
const REASON_MAX: usize = 512;
/// Ticks of one plan.
const TICKS_A_PLAN: u32 = 10;

/// What the last plan was made from and what it set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// The limit on requests in flight, and who was held by it.
    pub in_flight: Observed,
    /// Estimated capacity, cost units a second.
    pub capacity_per_s: f64,
}

/// Ticks and plans until `stop` is true.
pub async fn run(control: Arc<Control>, mut stop: watch::Receiver<bool>) {
    let mut steering = Steering::new(&control);
    let mut every = tokio::time::interval(TICK_EVERY);
    // After a stall the next tick is enough: time comes from the clock, not from the count of ticks.
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks = 0;
    while !*stop.borrow() {
        tokio::select! {
            _ = every.tick() => {}
            _ = stop.changed() => break,
        }
        control.shared.tick();
        ticks += 1;
        match ticks < TICKS_A_PLAN {
            true => steering.look(&control),
            false => {
                ticks = 0;
                steering.second(&control);
            }
        }
    }
}

/// The planner and what it was built from.
struct Steering {
    planner: Planner,
    active: Arc<Active>,
    /// While a room wants one.
    forecasting: Option<Forecasting>,
    bounds: (CapacitySettings, InFlightSettings),
    looked_at_ms: u64,
    /// Of the second so far.
    in_flight: Observed,
    /// Wall milliseconds up to which the schedule was followed; 0 at the start, so that a restart does what was due before.
    followed_ms: u64,
    /// Of each room: is anybody let in, is it armed by the plan? A change is worth a line in the log.
    open: Vec<(bool, bool)>,
    /// The minute in which plans were last written to the journal.
    minute: u64,
    failures: Failures,
}

/// What the shop failed at since the last line about it.
#[derive(Default)]
struct Failures {
    errors: u64,
    timeouts: u64,
    told_at_ms: Option<u64>,
}

impl Failures {
    /// A line at once, then at most one every [`FAILURES_EVERY_MS`].
    fn tell(&mut self, routes: &[RouteWindow], now_ms: u64) {
        self.errors += routes.iter().map(|r| u64::from(r.errors)).sum::<u64>();
        self.timeouts += routes.iter().map(|r| u64::from(r.timeouts)).sum::<u64>();
        let due = self.told_at_ms.is_none_or(|at| now_ms.saturating_sub(at) >= FAILURES_EVERY_MS);
        if due && self.errors + self.timeouts > 0 {
            tracing::warn!(
                errors = self.errors,
                timeouts = self.timeouts,
                "the shop failed requests; the journal, where there is one, has a row for each"
            );
            *self = Failures { told_at_ms: Some(now_ms), ..Failures::default() };
        }
    }
}

impl Steering {
    fn new(control: &Control) -> Self {
        let shared = &control.shared;
        let active = shared.active.load_full();
        let settings = active.policy.pipeline_settings();
        let mut planner = Planner::new(&settings);
        shared.in_flight.set_limit(planner.first().in_flight_limit);
        let looked_at_ms = shared.clock.now().mono_ms();
        Steering {
            planner,
            active,
            forecasting: None,
            bounds: (settings.capacity, settings.in_flight),
            looked_at_ms,
            in_flight: Observed::default(),
            followed_ms: 0,
            open: Vec::new(),
            failures: Failures::default(),
            minute: 0,
        }
    }

    /// The limit on requests in flight follows the shop.
    fn look(&mut self, control: &Control) {
        self.follow(&control.shared.active.load_full());
        let window = self.window(control);
        control.shared.in_flight.set_limit(self.planner.look(&window));
    }

    /// What the shop showed since the last look.
    fn window(&mut self, control: &Control) -> ShopWindow {
        let shared = &control.shared;
        let now_ms = shared.clock.now().mono_ms();
        let in_flight = shared.in_flight.observe();
        let second = &self.in_flight;
        self.in_flight = Observed { peak: second.peak.max(in_flight.peak), bound: second.bound || in_flight.bound, ..in_flight };
        let window = ShopWindow {
            span_ms: now_ms.saturating_sub(self.looked_at_ms).max(1),
            routes: self.active.meter.drain(),
            failing: self.active.meter.drain_failing(),
            in_flight_max: in_flight.peak,
            limit_was_binding: in_flight.bound,
            turned_away: in_flight.refused,
            healthy: self.active.upstreams.any_healthy(),
        };
        self.looked_at_ms = now_ms;
        self.failures.tell(&window.routes, now_ms);
        window
    }

    fn second(&mut self, control: &Control) {
        let shared = &control.shared;
        self.follow(&shared.active.load_full());
        let now = shared.clock.now();
        control.follow_schedule(self.followed_ms, now.wall_ms);
        self.followed_ms = now.wall_ms;
        let window = self.window(control);
        let in_flight = std::mem::take(&mut self.in_flight);
        let stats: Vec<_> = self.active.pipeline.rooms().iter().map(|r| r.stats(now)).collect();
        let plans = self.plan(control, now, &window, &stats);
        shared.in_flight.set_limit(plans.in_flight_limit);
        for (room, plan) in self.active.pipeline.rooms().iter().zip(&plans.rooms) {
            room.set_plan(plan, now);
        }
        self.tell(control, now, &stats, &plans);
        control.saw(Seen {
            in_flight: Observed { limit: plans.in_flight_limit, ..in_flight },
            capacity_per_s: plans.capacity_per_s,
        });
        gauge_all(control, &plans, &stats);
        control.metrics.upkeep();
    }

    /// What came becomes what is expected, where a room wants to know; both become the plan.
    fn plan(&mut self, control: &Control, now: Now, window: &ShopWindow, stats: &[RoomStats]) -> Plans {
        let seen = self.planner.observe(window, stats);
        if !self.planner.wants_forecast() {
            if self.forecasting.take().is_some() {
                control.forecasts(None);
            }
            return self.planner.plan(stats, 0, None);
        }
        let settings = &self.active.policy.forecast;
        let forecasting = self.forecasting.get_or_insert_with(|| Forecasting::new(settings, control.deep()));
        forecasting.follow(settings);
        let opens = self.active.policy.sales.iter().map(|s| s.opens_at.unix_ms());
        let outlook = forecasting.second(now, seen, opens);
        let status = forecasting.status();
        gauge_forecast(&control.metrics, &status);
        control.forecasts(Some(status));
        self.planner.plan(stats, forecasting.at_s(), Some(&outlook))
    }

    /// Takes over a policy that was put in force since the last second.
    fn follow(&mut self, active: &Arc<Active>) {
        if Arc::ptr_eq(active, &self.active) {
            return;
        }
        let settings = active.policy.pipeline_settings();
        let bounds = (settings.capacity, settings.in_flight);
        self.planner.retune(&settings, bounds != self.bounds);
        self.bounds = bounds;
        self.active = active.clone();
        self.open.clear();
    }

    /// To the log what opened or closed; to the journal that too, and every plan once a minute.
    fn tell(&mut self, control: &Control, now: Now, stats: &[RoomStats], plans: &Plans) {
        let open: Vec<_> = plans.rooms.iter().map(|p| (p.refill_per_s > 0.0, p.armed)).collect();
        let minute = now.wall_ms / 60_000;
        let due = std::mem::replace(&mut self.minute, minute) != minute;
        for (i, (room, plan)) in stats.iter().zip(&plans.rooms).enumerate() {
            if self.open.get(i) != open.get(i) {
                tracing::info!(room = %room.name, reason = %plan.reason, "plan");
            } else {
                tracing::debug!(room = %room.name, reason = %plan.reason, "plan");
            }
            if due || self.open.get(i) != open.get(i) {
                control.shared.rows.row(row_of(&self.active, &room.name, plan, now));
            }
        }
        self.open = open;
    }
}

/// A plan as a row of the journal, its reason in words.
fn row_of(active: &Active, room: &str, plan: &Plan, now: Now) -> Row {
    Row {
        at_ms: now.wall_ms,
        mono_ns: now.mono_ns,
        kind: Kind::Operator,
        method: PLAN.into(),
        path: plan.reason.chars().take(REASON_MAX).collect(),
        verdict: "own",
        room: room.to_owned().into(),
        status: 200,
        policy: active.names.policy.into(),
        ..Row::blank()
    }
}

fn gauge_all(control: &Control, plans: &Plans, stats: &[RoomStats]) {
    let (metrics, shared) = (&control.metrics, &control.shared);
    let yes = |b: bool| f64::from(u8::from(b));
    metrics.gauge(gauges::BUILD, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    metrics.gauge(gauges::READY, &[], yes(!shared.is_stopping()));
    metrics.gauge(gauges::CONNECTIONS, &[], f64::from(shared.caps.open()));
    metrics.gauge(gauges::STREAMS, &[], f64::from(shared.live.open()));
    metrics.gauge(gauges::CLOCK_DOUBT, &[], shared.clock.doubt_ms() as f64 / 1_000.0);
    metrics.gauge(gauges::APPEALS_UNDECIDED, &[], shared.appeals.undecided() as f64);
    metrics.gauge(gauges::HONEYPOT_VISITORS, &[], shared.facts.trapped() as f64);
    metrics.gauge(gauges::STORE_WELL, &[], yes(shared.store.trouble().is_none()));
    metrics.store(&shared.store.counts());
    let seen = control.seen();
    metrics.gauge(gauges::IN_FLIGHT, &[], f64::from(seen.in_flight.held));
    metrics.gauge(gauges::IN_FLIGHT_QUEUED, &[], f64::from(seen.in_flight.waiting));
    metrics.gauge(gauges::IN_FLIGHT_LIMIT, &[], f64::from(plans.in_flight_limit));
    metrics.gauge(gauges::CAPACITY, &[], plans.capacity_per_s);
    for server in shared.active.load().upstreams.states() {
        metrics.gauge(gauges::UPSTREAM_HEALTHY, &[("upstream", &server.address.to_string())], yes(server.healthy));
    }
    for (room, plan) in stats.iter().zip(&plans.rooms) {
        // What is in force: an operator may have slowed the room below the plan.
        let plan = room.plan.as_ref().unwrap_or(plan);
        gauge_room(metrics, room, plan.refill_per_s, plan.burst);
    }
}

fn gauge_room(metrics: &Metrics, room: &RoomStats, refill: f64, burst: f64) {
    let yes = |b: bool| f64::from(u8::from(b));
    let values = [
        (gauges::ROOM_WAITING, room.waiting as f64),
        (gauges::ROOM_CALLED, f64::from(room.called)),
        (gauges::ROOM_SEATS, f64::from(room.seats_live)),
        (gauges::ROOM_SEATS_MAX, f64::from(room.seats_max)),
        (gauges::ROOM_REFILL, refill),
        (gauges::ROOM_BURST, burst),
        (gauges::ROOM_ARMED, yes(room.armed)),
        (gauges::ROOM_PAUSED, yes(room.paused)),
        (gauges::ROOM_PROMISES, room.promises_made as f64),
        (gauges::ROOM_PROMISES_KEPT, room.promises_kept as f64),
    ];
    for (name, value) in values {
        metrics.gauge(name, &[("room", &room.name)], value);
    }
    let (Some(sale), Some(u)) = (&room.sale, &room.stock) else { return };
    let free = u.free.unwrap_or(0);
    let units = [
        ("free", free),
        ("reserved", u.reserved),
        ("held", u.held),
        ("in_flight", u.in_flight),
        ("uncertain", u.uncertain),
        ("sold", u.sold),
        ("over", u.over),
    ];
    for (state, n) in units {
        metrics.gauge(gauges::SALE_UNITS, &[("sale", sale), ("state", state)], n as f64);
    }
}
