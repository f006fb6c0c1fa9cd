//! The planner against shops of paper.

use super::{capacity::Capacity, load::LoadModel, *};
use crate::{pipeline::PipelineSettings, seats::room::RoomStats};

fn settings(capacity: CapacitySettings) -> PipelineSettings {
    PipelineSettings { rooms: vec![serde_json::from_str(r#"{"name":"drop"}"#).unwrap()], capacity, ..Default::default() }
}

fn bounds(floor: u32, ceiling: u32) -> CapacitySettings {
    CapacitySettings { floor: Rate::per_s(floor), ceiling: Rate::per_s(ceiling) }
}

fn window(completed: u32, inside: u32, ttfb_ms: u64, in_flight_max: u32, binding: bool) -> ShopWindow {
    let ttfb_sum_us = u64::from(completed) * ttfb_ms * 1000;
    let route = RouteWindow { completed, inside, ttfb_sum_us, ..Default::default() };
    ShopWindow {
        span_ms: 1000,
        routes: vec![route],
        failing: u64::MAX,
        in_flight_max,
        limit_was_binding: binding,
        turned_away: 0,
        healthy: true,
    }
}

/// A whole second.
fn second(c: &mut Capacity, w: &ShopWindow) {
    c.look(w);
    c.second();
}

/// A shop of `servers`, 20 ms a request unloaded; more in flight only queue, and past 4 a server they thrash.
fn shop(servers: f64, in_flight: f64, offered: f64) -> (f64, f64) {
    let busy = in_flight.min(offered * 0.02).max(1.0);
    let thrash = 1.0 + 0.05 * (in_flight - 4.0 * servers).max(0.0);
    let rate = (servers.min(in_flight) / (0.02 * thrash)).min(offered);
    (rate, if offered > rate { in_flight / rate } else { 0.02 * busy.max(1.0) / busy })
}

/// Some seconds of it.
fn run(c: &mut Capacity, servers: f64, seconds: usize, offered: f64) {
    for _ in 0..seconds {
        let limit = f64::from(c.limit());
        let (rate, ttfb_s) = shop(servers, limit, offered);
        let busy = if offered > rate { limit } else { rate * ttfb_s };
        second(c, &window(rate as u32, 0, (ttfb_s * 1000.0) as u64, busy.ceil() as u32, offered > rate));
    }
}

#[test]
fn the_limit_finds_the_shop_and_follows_it() {
    let mut c = Capacity::new(&bounds(5, 10_000), &InFlightSettings::default());
    run(&mut c, 8.0, 30, 20.0);
    assert!(!c.is_measured(), "a trickle says nothing about the capacity");
    assert_eq!((c.per_s(), c.proven_per_s().round()), (400.0, 20.0), "no more than 8 at a time of 20 ms, and 20 were seen");
    let mut large = Capacity::new(&bounds(5, 10_000), &InFlightSettings::default());
    run(&mut large, 100.0, 8, 20_000.0);
    assert!((90..=240).contains(&large.limit()), "a shop of a hundred at a time is found in seconds: {}", large.limit());
    run(&mut c, 8.0, 60, 2_000.0);
    // 8 servers at 20 ms: 400/s; up to 1.6 times the unloaded time may queue.
    assert!((8..=16).contains(&c.limit()), "limit {}", c.limit());
    assert!((340.0..=440.0).contains(&c.per_s()), "capacity {}", c.per_s());
    run(&mut c, 2.0, 60, 2_000.0);
    assert!((70.0..=120.0).contains(&c.per_s()), "a quarter of the servers: {}", c.per_s());
    run(&mut c, 8.0, 200, 2_000.0);
    assert!((300.0..=444.0).contains(&c.per_s()), "recovered, and at most a tenth too much: {}", c.per_s());
}

/// Four servers of 20 ms that were found out: 200/s.
fn found_out() -> Capacity {
    let mut c = Capacity::new(&bounds(5, 10_000), &InFlightSettings::default());
    run(&mut c, 4.0, 30, 100.0);
    run(&mut c, 4.0, 120, 2_000.0);
    assert!((170.0..=240.0).contains(&c.per_s()), "{}", c.per_s());
    c
}

#[test]
fn a_burst_fills_the_shop_for_a_moment_and_is_no_full_shop() {
    let mut c = found_out();
    for _ in 0..40 {
        second(&mut c, &window(190, 0, 22, 5, false));
        second(&mut c, &window(190, 0, 22, 5, false));
        // Ten came at once: slow for them, and nothing to do for the rest of the second.
        second(&mut c, &window(90, 0, 40, 10, true));
    }
    assert!(c.per_s() > 185.0, "{}", c.per_s());
    for _ in 0..30 {
        second(&mut c, &window(90, 0, 40, 10, true));
    }
    assert!(c.per_s() < 110.0, "that is all it takes: {}", c.per_s());
}

#[test]
fn a_shop_that_was_down_takes_what_it_took_before_within_seconds() {
    let mut c = found_out();
    let before = c.per_s();
    let mut down = window(0, 0, 0, 8, true);
    (down.healthy, down.routes[0].errors) = (false, 50);
    for _ in 0..10 {
        second(&mut c, &down);
    }
    assert_eq!(c.per_s(), 0.0);
    second(&mut c, &window(60, 0, 20, 2, false));
    assert!(c.per_s() > 0.8 * before, "{} of {before}: it is as it was", c.per_s());
    // It failed at what it got for a while, and is well again.
    let mut failing = window(20, 0, 20, 8, true);
    failing.routes[0].errors = 100;
    for _ in 0..10 {
        second(&mut c, &failing);
    }
    assert!(c.per_s() < 0.2 * before, "{}", c.per_s());
    let mut seconds = 0;
    while c.per_s() < 0.75 * before && seconds < 100 {
        let taken = c.per_s() as u32;
        second(&mut c, &window(taken, 0, 20, 3, false));
        seconds += 1;
    }
    assert!(seconds <= 12, "{seconds} s to what it took before");
}

/// The crowd comes from one second to the next, and four times as many are at the shop as it works on.
#[test]
fn a_step_is_met_in_a_few_seconds_and_a_burst_is_what_was_seen_to_drain() {
    let mut planner = Planner::new(&settings(bounds(5, 10_000)));
    let mut stats = RoomStats::default();
    for _ in 0..30 {
        stats.walk_ins += 20;
        planner.step(&window(100, 100, 20, 3, false), std::slice::from_ref(&stats));
    }
    let before = planner.step(&window(100, 100, 20, 3, false), std::slice::from_ref(&stats));
    let burst = before.rooms[0].burst;
    // Full at those 100/s: 48 requests in half a second, and what fades away of those inside; a pass makes two in a second.
    assert!((25.0..=40.0).contains(&burst), "of what was seen, not of what may be: {burst}");
    assert!(before.capacity_per_s <= 400.0, "{}", before.capacity_per_s);
    let limit = planner.step(&window(200, 200, 80, 8, true), std::slice::from_ref(&stats)).in_flight_limit;
    assert_eq!(limit, 4, "four times as slow: half at once");
}

/// As its answers grow longer, its average request does, too: the same shop in other words.
#[test]
fn another_mix_of_requests_changes_the_unit_and_nothing_else() {
    let route = |completed: u32, ms: u64| RouteWindow {
        completed,
        inside: completed,
        ttfb_sum_us: u64::from(completed) * ms * 1000,
        ..Default::default()
    };
    let mixed =
        |files: u32, pages: u32| ShopWindow { routes: vec![route(files, 1), route(pages, 20)], ..window(0, 0, 20, 4, false) };
    let mut c = Capacity::new(&bounds(5, 100_000), &InFlightSettings::default());
    let mut work = |files: u32, pages: u32| {
        c.look(&mixed(files, pages));
        let second = c.second();
        (c.proven_per_s() / second.rates.all, second.unit_was)
    };
    assert_eq!(work(300, 100).0, 1.0);
    // A hundred pages are a hundred pages: the most that was seen, whatever they are counted in.
    for _ in 0..20 {
        let (proven, unit_was) = work(0, 100);
        assert!(unit_was < 1.0 && (1.1..1.16).contains(&proven), "{proven} times, {unit_was}");
    }
}

/// A full shop completes what it takes, however many more ask: those who got no answer count too.
#[test]
fn who_is_turned_away_from_a_full_shop_is_load() {
    let refill = |turned_away: u32| {
        let mut planner = Planner::new(&settings(bounds(5, 260)));
        let mut stats = RoomStats { seats_live: 60, ..Default::default() };
        let mut plan = planner.first();
        for _ in 0..120 {
            stats.seated += 40;
            let w = ShopWindow { turned_away, ..window(200, 200, 24, 8, true) };
            plan = planner.step(&w, std::slice::from_ref(&stats));
        }
        (plan.rooms[0].refill_per_s, plan.rooms[0].reason.clone())
    };
    let (calm, pressed) = (refill(0), refill(120));
    assert!(calm.0 > 5.0 && !calm.1.contains("turned away"), "{calm:?}");
    assert!(pressed.0 < 0.6 * calm.0 && pressed.1.contains("120/s were turned away before it"), "{pressed:?}");
}

#[test]
fn one_visitor_with_a_broken_page_closes_no_gate() {
    let closed = |failing_visitors: u32| {
        let mut c = found_out();
        let before = c.per_s();
        let mut w = ShopWindow { failing: (1 << failing_visitors) - 1, ..window(10, 10, 20, 2, false) };
        w.routes[0].errors = 15;
        for _ in 0..20 {
            second(&mut c, &w);
        }
        c.per_s() < 0.5 * before
    };
    assert!(!closed(1) && !closed(2), "whoever asks for it again and again");
    assert!(closed(12), "it fails everybody");
}

#[test]
fn errors_and_timeouts_are_overload_and_bounds_hold() {
    let mut c = Capacity::new(&bounds(50, 400), &InFlightSettings::default());
    assert_eq!(c.per_s(), 400.0, "nothing measured: the operator's ceiling");
    let before = c.limit();
    let mut w = window(100, 0, 20, 16, true);
    w.routes[0].timeouts = 30;
    for _ in 0..20 {
        second(&mut c, &w);
    }
    assert!(c.limit() < before && c.limit() >= 2);
    assert!((50.0..=120.0).contains(&c.per_s()), "{}", c.per_s());
    w.healthy = false;
    second(&mut c, &w);
    assert_eq!(c.per_s(), 0.0, "down");
}

#[test]
fn refill_is_what_passes_cost_over_their_life() {
    // 96 people inside cause 240/s and stay 120 s: a pass costs 300. The shop takes 310/s.
    let mut load = LoadModel::default();
    for _ in 0..5_000 {
        load.observe(240.0, 96, 0.8, 1.0);
    }
    assert!((load.life() - 300.0).abs() < 5.0, "{}", load.life());
    assert!((load.cost(1e9) - load.life()).abs() < 1e-6);
    assert!((load.stay_s() - 120.0).abs() < 2.0, "{}", load.stay_s());

    let mut planner = Planner::new(&settings(bounds(5, 310)));
    let mut stats = RoomStats { seats_live: 96, ..Default::default() };
    let mut plan = planner.first();
    for i in 0..5_000u64 {
        stats.seated = i * 4 / 5;
        plan = planner.step(&window(240, 240, 20, 5, false), std::slice::from_ref(&stats));
    }
    let refill = plan.rooms[0].refill_per_s;
    assert!((0.95..=1.05).contains(&refill), "(0.97 · 310 − 0) / 300, not 40: {refill}");
    assert!(plan.rooms[0].reason.contains("refill 1.0"), "{}", plan.rooms[0].reason);
}

#[test]
fn nothing_is_let_in_while_the_shop_is_down() {
    let mut planner = Planner::new(&settings(CapacitySettings::default()));
    let down = ShopWindow { span_ms: 1000, healthy: false, ..Default::default() };
    let plan = &planner.step(&down, &[RoomStats::default()]).rooms[0];
    assert_eq!((plan.refill_per_s, plan.armed), (0.0, true));
    assert!(plan.reason.contains("down"), "{}", plan.reason);
    let mut fixed = settings(CapacitySettings::default());
    fixed.rooms[0].admission = Admission::Fixed(Rate { events: 120, per_ms: 60_000 });
    assert_eq!(Planner::new(&fixed).first().rooms[0].refill_per_s, 2.0);
    assert_eq!(Planner::new(&fixed).step(&down, &[RoomStats::default()]).rooms[0].refill_per_s, 0.0);
}

#[test]
fn rubbish_windows_never_open_the_gate() {
    let mut planner = Planner::new(&settings(bounds(5, 100)));
    for w in [window(0, 0, 0, 0, true), window(u32::MAX, u32::MAX, 0, u32::MAX, true), window(1, 1, u64::MAX / 2_000, 9, true)] {
        let mut w = w;
        for span in [0, 1, u64::MAX] {
            w.span_ms = span;
            let plans = planner.step(&w, &[RoomStats { seats_live: u32::MAX, seated: u64::MAX, ..Default::default() }]);
            let r = plans.rooms[0].refill_per_s;
            assert!(r.is_finite() && (0.0..=10_000.0).contains(&r), "{r}");
            assert!(plans.capacity_per_s <= 100.0 && plans.in_flight_limit >= 2);
        }
    }
}

/// An outlook that says the same for every time ahead.
fn outlook(at_s: u64, per_s: f64, exempt: f64) -> Outlook {
    let ahead = |in_s: f64, v: f64| tide::Ahead { in_s, middle: v, q90: v * 1.2, q95: v * 1.3, q99: v * 1.5, on: true };
    let arrivals = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0].map(|s| ahead(s, per_s)).to_vec();
    Outlook { at_s, arrivals, exempt: [1.0, 10.0].map(|s| ahead(s, exempt)).to_vec() }
}

fn forecast_settings(c: CapacitySettings) -> PipelineSettings {
    let mut s = settings(c);
    s.rooms[0].admission = Admission::Forecast;
    s
}

#[test]
fn a_crowd_that_is_expected_arms_the_room_and_calm_opens_it() {
    let mut planner = Planner::new(&forecast_settings(bounds(5, 100)));
    assert!(planner.wants_forecast() && !Planner::new(&settings(bounds(5, 100))).wants_forecast());
    let mut stats = RoomStats::default();
    // Three come every third second: 1 a second is the better forecast, and the planner finds that out.
    let mut second = |planner: &mut Planner, at_s: u64, expected: f64| {
        stats.arrived += 3 * u64::from(at_s.is_multiple_of(3));
        stats.seated = stats.arrived;
        planner.observe(&window(10, 10, 20, 1, false), std::slice::from_ref(&stats));
        planner.plan(std::slice::from_ref(&stats), at_s, Some(&outlook(at_s, expected, 0.0))).rooms.remove(0)
    };
    for at_s in 0..400 {
        assert!(!second(&mut planner, at_s, 1.0).armed);
    }
    let plan = second(&mut planner, 400, 1.0);
    assert!(plan.reason.contains("people a second are expected"), "{}", plan.reason);
    let plan = second(&mut planner, 401, 500.0);
    assert!(plan.armed && plan.reason.contains("armed: more are expected"), "{}", plan.reason);
    let armed = (402..500).filter(|at_s| second(&mut planner, *at_s, 1.0).armed).count();
    assert!((25..=35).contains(&armed), "hysteresis: it stays armed for half a minute: {armed}");
}

#[test]
fn a_forecast_that_lies_arms_nothing_and_lowers_nothing() {
    for lie in [0.0, 500.0, f64::NAN, f64::INFINITY] {
        let mut planner = Planner::new(&forecast_settings(bounds(5, 100)));
        let mut measured = Planner::new(&settings(bounds(5, 100)));
        let mut stats = RoomStats::default();
        for at_s in 0..600u64 {
            stats.arrived += 1 + at_s % 3;
            let w = window(40, 10, 20, 1, false);
            planner.observe(&w, std::slice::from_ref(&stats));
            let plan = &planner.plan(std::slice::from_ref(&stats), at_s, Some(&outlook(at_s, lie, lie))).rooms[0];
            let other = &measured.step(&w, std::slice::from_ref(&stats)).rooms[0];
            assert!(!plan.armed, "{lie} at {at_s}");
            assert_eq!(plan.refill_per_s, other.refill_per_s, "{lie}");
            assert_eq!(plan.burst, other.burst);
        }
    }
}

#[test]
fn a_stale_outlook_is_none() {
    let mut planner = Planner::new(&forecast_settings(bounds(5, 100)));
    planner.observe(&window(10, 10, 20, 1, false), &[RoomStats::default()]);
    let plan = &planner.plan(&[RoomStats::default()], 100, Some(&outlook(10, 1.0, 0.0))).rooms[0];
    assert!(plan.reason.contains("no forecast yet"), "{}", plan.reason);
}

#[test]
fn a_restart_is_no_crowd() {
    let mut planner = Planner::new(&forecast_settings(bounds(5, 100)));
    let at = |arrived: u64| RoomStats { arrived, ..RoomStats::default() };
    let w = window(10, 10, 20, 1, false);
    assert_eq!(planner.observe(&w, &[at(1_000_000)]).arrivals, 0.0, "they came before");
    assert_eq!(planner.observe(&w, &[at(1_000_003)]).arrivals, 3.0);
}
