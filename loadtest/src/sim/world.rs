//! A world: who comes, what the policy says, what the shop can take, and what goes wrong.

use tidegate_filters::{
    FilterSettings, Now, PipelineSettings, Rate,
    plan::Admission,
    rule::sale_window::{Phase, Sale},
    seats::room::RoomSettings,
    units::Span,
};

use super::foresight::{BurstRule, Lie};
use crate::crowd::Scenario;

/// Everything a simulation needs besides a seed.
#[derive(Clone, Debug)]
pub struct World {
    /// Who comes, when, how patient.
    pub scenario: Scenario,
    /// The policy, as the filters see it. Sales are in Unix time.
    pub policy: PipelineSettings,
    /// The shop.
    pub shop: ShopModel,
    /// What people and networks do wrong.
    pub habits: Habits,
    /// What operators and machines do, and when, milliseconds since the start.
    pub upheavals: Vec<(u64, Upheaval)>,
    /// Wall time of the start.
    pub start_unix_ms: u64,
    /// What the planner is told instead of the forecast.
    pub lie: Lie,
    /// How large bursts are.
    pub burst: BurstRule,
}

/// A shop of paper: a pool of connections that is held while it works, slower the more wait for it.
#[derive(Clone, Copy, Debug)]
pub struct ShopModel {
    /// Connections.
    pub pool: u32,
    /// How long a page holds one, milliseconds.
    pub work_ms: u64,
    /// How long a checkout holds one, milliseconds.
    pub checkout_ms: u64,
    /// How long a request waits for one, milliseconds.
    pub pool_wait_ms: u64,
    /// How many may wait.
    pub waiting_max: u32,
    /// Each waiting request makes the work of the others longer by this share.
    pub thrash: f64,
    /// Units for sale.
    pub stock: u32,
}

impl Default for ShopModel {
    fn default() -> Self {
        ShopModel { pool: 4, work_ms: 15, checkout_ms: 30, pool_wait_ms: 3_000, waiting_max: 250, thrash: 0.02, stock: 500 }
    }
}

/// How often things go wrong, in thousandths of the occasions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    /// Somebody who waits closes the browser without a word.
    pub vanish: u16,
    /// Somebody who waits gives the place back and comes again.
    pub leave: u16,
    /// A claim is sent twice.
    pub double_claim: u16,
    /// An answer is lost on the way.
    pub lose_answer: u16,
    /// A burnt ticket, or a pass that was given back, is used again.
    pub replay: u16,
    /// Somebody tries a forged token, each second.
    pub forge: u16,
    /// A request comes without a score.
    pub unscored: u16,
    /// The shop's answer to a checkout breaks off after the order was written.
    pub shop_forgets: u16,
}

/// Something that operators or machines do.
#[derive(Clone, Debug)]
pub enum Upheaval {
    /// A new policy is put in force.
    Reload(Box<PipelineSettings>),
    /// A room is paused or resumed.
    Pause(usize, bool),
    /// A room is slowed, or no longer.
    Slow(usize, Option<Rate>),
    /// The shop goes down or comes back.
    ShopDown(bool),
    /// The shop works that many times slower.
    ShopSlower(f64),
    /// An operator revokes the oldest live seat of a room.
    Revoke(usize),
}

/// 2026-12-01T02:00:00Z.
const START_UNIX_MS: u64 = 1_796_090_400_000;

impl World {
    /// A scenario behind the policy of a drop: one room, a sale that opens when the scenario says so.
    pub fn drop(scenario: &Scenario, shop: ShopModel) -> Self {
        let room = |json: &str| serde_json::from_str::<RoomSettings>(json).ok();
        let rooms = room(r#"{"name":"drop","seats":{"max":300,"pass_idle":"15s","pass_age_max":"2m"},"claim_window":"20s"}"#);
        let sale = Sale {
            name: "sneaker-42".into(),
            room: "drop".into(),
            prequeue_opens_ms: START_UNIX_MS.saturating_sub(600_000),
            opens_ms: START_UNIX_MS + scenario.opens_at.ms(),
            closes_ms: START_UNIX_MS + 3_600_000,
            stock: Some(u64::from(shop.stock)),
            per_visitor_max: Some(1),
            ..Sale::default()
        };
        let policy = PipelineSettings {
            routes: routes(None, Some("sneaker-42"), 10),
            filters: filters(&[
                r#"{"visitor_rate":{"name":"per-visitor","key":"visitor","rate":"5/s","burst":20,"keys_max":20000}}"#,
                r#"{"bot_gate":{"to_the_back_at":0.85,"when_unscored":"wait"}}"#,
                r#"{"waiting_room":{"room":"drop","routes":["shop","product","checkout"]}}"#,
            ]),
            rooms: rooms.into_iter().collect(),
            sales: vec![sale],
            ..PipelineSettings::default()
        };
        World::new(scenario, policy, shop)
    }

    /// A scenario behind any policy. Its sales are moved so that the first opens when the scenario says so.
    pub fn new(scenario: &Scenario, mut policy: PipelineSettings, shop: ShopModel) -> Self {
        let first = policy.sales.iter().map(|s| s.opens_ms).min().unwrap_or(START_UNIX_MS);
        let target = START_UNIX_MS + scenario.opens_at.ms();
        for sale in &mut policy.sales {
            for t in [&mut sale.prequeue_opens_ms, &mut sale.opens_ms, &mut sale.closes_ms] {
                *t = (*t + target).saturating_sub(first);
            }
        }
        World {
            scenario: scenario.clone(),
            policy,
            shop,
            habits: Habits {
                vanish: 10,
                leave: 2,
                double_claim: 50,
                lose_answer: 2,
                replay: 50,
                forge: 500,
                unscored: 20,
                shop_forgets: 0,
            },
            upheavals: Vec::new(),
            start_unix_ms: START_UNIX_MS,
            lie: Lie::None,
            burst: BurstRule::default(),
        }
    }

    /// How long it lasts, microseconds.
    pub fn ends_us(&self) -> u64 {
        self.scenario.ends_at.ms() * 1_000
    }
}

/// The routes of the demo shop.
pub(super) fn routes(
    checkouts_in_flight: Option<u32>,
    hold_of: Option<&str>,
    expires_s: u32,
) -> Vec<tidegate_filters::route::RouteSettings> {
    let limit = checkouts_in_flight.map_or(String::new(), |n| format!(r#","in_flight_max":{n}"#));
    let hold = hold_of.map_or(String::new(), |sale| format!(r#","needs":{{"hold":"{sale}","expires":"{expires_s}s"}}"#));
    let texts = [
        r#"{"name":"assets","match":{"prefix":"/static/"},"filters":"none"}"#.to_owned(),
        format!(r#"{{"name":"checkout","match":{{"prefix":"/checkout"}}{limit}{hold}}}"#),
        r#"{"name":"product","match":{"prefix":"/product"}}"#.to_owned(),
        r#"{"name":"shop","match":{"prefix":"/"}}"#.to_owned(),
    ];
    texts.iter().filter_map(|t| serde_json::from_str(t).ok()).collect()
}

/// Filters from their JSON; what does not parse is left out, and a test sees that nothing is.
pub(super) fn filters(texts: &[&str]) -> Vec<FilterSettings> {
    texts.iter().filter_map(|t| serde_json::from_str(t).ok()).collect()
}

/// A room with numbers.
pub(super) fn room(name: &str, max: u32, idle_s: u64, age_s: u64, window_s: u64, admission: Admission) -> Option<RoomSettings> {
    let mut room: RoomSettings = serde_json::from_value(serde_json::json!({ "name": name })).ok()?;
    room.seats.max = max;
    (room.seats.pass_idle, room.seats.pass_age_max) = (Span::secs(idle_s), Span::secs(age_s));
    (room.claim_window, room.admission) = (Span::secs(window_s), admission);
    Some(room)
}

/// The sale of a room that is on, pre-queue included.
pub(super) fn current<'s>(sales: &'s [Sale], room: &str, now: Now) -> Option<&'s Sale> {
    sales.iter().find(|s| *s.room == *room && matches!(s.phase(now), Phase::Prequeue | Phase::Open))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_is_left_out() {
        let world = World::drop(&Scenario::builtin("drop-day").unwrap(), ShopModel::default());
        assert_eq!((world.policy.routes.len(), world.policy.filters.len(), world.policy.rooms.len()), (4, 3, 1));
        assert_eq!(world.policy.sales[0].opens_ms, START_UNIX_MS + world.scenario.opens_at.ms());
    }
}
