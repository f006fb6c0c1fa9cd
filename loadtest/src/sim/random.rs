//! Worlds made from a seed: other numbers everywhere, and most of what can go wrong.

use rand::{Rng as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use tidegate_filters::{
    PipelineSettings, Rate,
    plan::{Admission, CapacitySettings},
    rule::sale_window::Sale,
    seats::room::{Arm, RoomSettings},
    units::Span,
};

use super::{
    rng,
    world::{Habits, ShopModel, Upheaval, World, filters, room, routes},
};
use crate::crowd::{Bots, LogNormal, People, Scenario, Squad, Wave};

/// Stream of the numbers that make the world, apart from those that run it.
const WORLD: u64 = 9;

/// The world of a seed.
pub fn random_world(seed: u64) -> World {
    let mut rng = rng(seed, WORLD);
    let scenario = scenario(&mut rng);
    let shop = ShopModel {
        pool: rng.random_range(2..8),
        work_ms: rng.random_range(2..30),
        // In a quarter of them the payment provider takes its time.
        checkout_ms: match rng.random_range(5..60) {
            n if n % 4 == 0 => n * 25,
            n => n,
        },
        // In half of them so few that they run out.
        stock: match rng.random_range(3..150) {
            n if n % 2 == 0 => 2 + n / 15,
            n => n,
        },
        waiting_max: rng.random_range(20..200),
        ..ShopModel::default()
    };
    let two_rooms = rng.random_bool(0.3);
    let policy = policy(&mut rng, two_rooms, &shop, &scenario);
    let mut world = World::new(&scenario, policy, shop);
    world.habits = Habits {
        vanish: pick(&mut rng, &[0, 10, 50, 200]),
        leave: pick(&mut rng, &[0, 5, 50]),
        double_claim: pick(&mut rng, &[0, 100, 500]),
        lose_answer: pick(&mut rng, &[0, 5, 50]),
        replay: pick(&mut rng, &[0, 200, 800]),
        forge: 1_000,
        unscored: pick(&mut rng, &[0, 50, 500]),
        shop_forgets: pick(&mut rng, &[0, 20, 200]),
    };
    world.upheavals = upheavals(&mut rng, &world);
    world
}

fn pick(rng: &mut ChaCha8Rng, of: &[u16]) -> u16 {
    of.choose(rng).copied().unwrap_or(0)
}

fn scenario(rng: &mut ChaCha8Rng) -> Scenario {
    let opens_s = rng.random_range(1..20);
    let ends_s = opens_s + rng.random_range(40..160);
    let wave = |rng: &mut ChaCha8Rng, from: u64, to: u64| Wave {
        share: rng.random_range(1.0..10.0),
        from: Span::secs(from),
        to: Span::secs(to),
    };
    let arrivals = vec![wave(rng, 0, opens_s), wave(rng, opens_s, opens_s + 3), wave(rng, opens_s, ends_s - 10)];
    let people = People {
        count: rng.random_range(30..220),
        arrivals,
        think: LogNormal { median: Span(rng.random_range(100..2_500)), sigma: 0.6 },
        patience_page: Span(rng.random_range(800..8_000)),
        patience_waiting: Span::secs(rng.random_range(20..300)),
        retries_max: rng.random_range(2..10),
        browse_only_percent: rng.random_range(0..40),
        no_script_percent: rng.random_range(0..60),
        refreshers_percent: rng.random_range(0..40),
    };
    let squad = |rng: &mut ChaCha8Rng| Squad {
        count: rng.random_range(0..8),
        every: Span(rng.random_range(200..3_000)),
        from: Span::secs(rng.random_range(0..opens_s)),
        patience: Span(rng.random_range(500..10_000)),
        units_max: 20,
        addresses: rng.random_range(1..5),
    };
    let bots = vec![
        Bots::PlainScript(squad(rng)),
        Bots::HeaderCopier(squad(rng)),
        Bots::ManyAddresses(squad(rng)),
        Bots::SlowAndLow(squad(rng)),
    ];
    let (opens_at, ends_at) = (Span::secs(opens_s), Span::secs(ends_s));
    Scenario { name: "random".into(), freezes_at: None, opens_at, ends_at, spread: false, people, bots }
}

fn admission(rng: &mut ChaCha8Rng) -> Admission {
    match rng.random_bool(0.4) {
        true => Admission::Measured,
        false => Admission::Fixed(Rate { events: rng.random_range(20..1_200), per_ms: 60_000 }),
    }
}

fn a_room(rng: &mut ChaCha8Rng, name: &str) -> Option<RoomSettings> {
    let (max, idle_s) = (rng.random_range(2..60), rng.random_range(2..25));
    let (age_s, window_s) = (rng.random_range(5..90), rng.random_range(1..15));
    let admission = admission(rng);
    let mut room = room(name, max, idle_s, age_s, window_s, admission)?;
    room.arm = if rng.random_bool(0.5) { Arm::Always } else { Arm::Auto };
    room.slow_lane_percent = rng.random_range(0..60);
    if rng.random_bool(0.1) {
        room.entries_max = rng.random_range(10..100);
    }
    Some(room)
}

fn policy(rng: &mut ChaCha8Rng, two_rooms: bool, shop: &ShopModel, scenario: &Scenario) -> PipelineSettings {
    let checkouts = rng.random_bool(0.7).then_some(1);
    let mut texts = vec![r#"{"visitor_rate":{"name":"v","key":"visitor","rate":"5/s","burst":20,"keys_max":1000}}"#];
    if rng.random_bool(0.7) {
        texts.push(r#"{"bot_gate":{"to_the_back_at":0.85,"challenge_at":0.7,"when_unscored":"wait"}}"#);
    }
    if two_rooms {
        texts.push(r#"{"waiting_room":{"room":"drop","routes":["checkout","shop"]}}"#);
        texts.push(r#"{"waiting_room":{"room":"rest","routes":["product"]}}"#);
    } else {
        texts.push(r#"{"waiting_room":{"room":"drop","routes":["checkout","shop","product"]}}"#);
    }
    let mut rooms: Vec<RoomSettings> = a_room(rng, "drop").into_iter().collect();
    if two_rooms {
        rooms.extend(a_room(rng, "rest"));
    }
    let opens_ms = 1_000_000_000 + scenario.opens_at.ms();
    let ends_ms = 1_000_000_000 + scenario.ends_at.ms();
    let sale = Sale {
        name: "sale".into(),
        room: "drop".into(),
        prequeue_opens_ms: opens_ms - rng.random_range(0..30_000),
        opens_ms,
        closes_ms: rng.random_range(opens_ms + 1_000..ends_ms + 60_000),
        stock: rng.random_bool(0.7).then_some(u64::from(shop.stock)),
        per_visitor_max: rng.random_bool(0.3).then_some(1),
        reserve_s: if rng.random_bool(0.5) { rng.random_range(2..60) } else { 0 },
        ..Sale::default()
    };
    let sale = rng.random_bool(0.6).then_some(sale);
    let hold = sale.as_ref().filter(|s| s.stock.is_some() && rng.random_bool(0.7)).map(|_| "sale");
    let ceiling = if rng.random_bool(0.5) { 10_000 } else { rng.random_range(20..400) };
    PipelineSettings {
        routes: routes(checkouts.filter(|_| hold.is_none()), hold, rng.random_range(1..5)),
        filters: filters(&texts),
        rooms,
        sales: sale.into_iter().collect(),
        capacity: CapacitySettings { floor: Rate::per_s(rng.random_range(1..20)), ceiling: Rate::per_s(ceiling) },
        ..PipelineSettings::default()
    }
}

fn upheavals(rng: &mut ChaCha8Rng, world: &World) -> Vec<(u64, Upheaval)> {
    let ends_ms = world.scenario.ends_at.ms();
    let rooms = world.policy.rooms.len();
    let mut list = Vec::new();
    for _ in 0..rng.random_range(0..6) {
        let at_ms = rng.random_range(0..ends_ms);
        let until_ms = at_ms + rng.random_range(500..20_000);
        let room = rng.random_range(0..rooms);
        match rng.random_range(0..6) {
            0 => list.push((at_ms, Upheaval::Reload(Box::new(changed(rng, &world.policy))))),
            1 => list.extend([(at_ms, Upheaval::Pause(room, true)), (until_ms, Upheaval::Pause(room, false))]),
            2 => {
                let slow = Rate { events: rng.random_range(0..120), per_ms: 60_000 };
                list.extend([(at_ms, Upheaval::Slow(room, Some(slow))), (until_ms, Upheaval::Slow(room, None))]);
            }
            3 => list.extend([(at_ms, Upheaval::ShopDown(true)), (until_ms, Upheaval::ShopDown(false))]),
            4 => {
                let times = rng.random_range(2.0..10.0);
                list.extend([(at_ms, Upheaval::ShopSlower(times)), (until_ms, Upheaval::ShopSlower(1.0))]);
            }
            _ => list.extend((0..5).map(|i| (at_ms + i * 700, Upheaval::Revoke(room)))),
        }
    }
    list
}

/// The same rooms with other numbers.
fn changed(rng: &mut ChaCha8Rng, old: &PipelineSettings) -> PipelineSettings {
    let mut new = old.clone();
    for room in &mut new.rooms {
        if let Some(other) = a_room(rng, &room.name) {
            *room = other;
        }
    }
    if rng.random_bool(0.3) {
        new.capacity.ceiling = Rate::per_s(rng.random_range(20..400));
    }
    new
}
