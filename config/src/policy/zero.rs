//! The policy of a gate that was given none.

use std::net::SocketAddr;

use tidegate_filters::{
    FilterSettings, Rate, Span,
    plan::Admission,
    rule::{
        bot_gate::{BotGateSettings, ChallengeWork, Runtime, THROTTLE_TO, WhenUnscored},
        visitor_rate::{OnMissingKey, RateKey, VisitorRateSettings},
        waiting_room::WaitingRoomSettings,
    },
    seats::room::{Arm, Binding, OnFailure, Order, PageSettings, RoomSettings, SeatSettings},
};

use super::{
    Policy, VERSION,
    keep::Log,
    listen::{Connections, Listen, RequestLimits},
    own_prefix, routes,
    shop::{Shop, Upstream},
};

/// Name of the only route and the only room.
const SHOP: &str = "shop";

impl Policy {
    /// Sane defaults in front of any shop: its load is measured and bounded, quotas that no person reaches, scores in
    /// shadow, and a room that makes people wait only when the shop is full.
    pub fn zero_config(upstreams: Vec<Upstream>, listen: SocketAddr) -> Policy {
        Policy {
            version: VERSION,
            listen: vec![Listen { address: listen, tls: None, redirect: None, proxy_protocol: None }],
            admin: None,
            trusted_proxies: Vec::new(),
            limits_of_a_request: RequestLimits::default(),
            connections: Connections::default(),
            shop: Shop::at(upstreams),
            routes: routes(),
            filters: vec![
                // A page with a hundred images is one burst; nobody clicks twenty times a second.
                quota("per-visitor", RateKey::Visitor, Rate::per_s(20), 200),
                // Hundreds of people may share one address.
                quota("per-network", RateKey::Network, Rate::per_s(500), 2_000),
                FilterSettings::BotGate(BotGateSettings {
                    model: "builtin".into(),
                    runtime: Runtime::Auto,
                    shadow_model: None,
                    challenge_at: Some(0.70),
                    challenge_work: ChallengeWork::default(),
                    to_the_back_at: Some(0.85),
                    throttle_at: None,
                    throttle_to: THROTTLE_TO,
                    refuse_at: None,
                    when_unscored: WhenUnscored::Admit,
                    deadline: Span(5),
                    routes: Vec::new(),
                    shadow: true,
                }),
                FilterSettings::WaitingRoom(WaitingRoomSettings { room: SHOP.into(), routes: Vec::new(), shadow: false }),
            ],
            rooms: vec![RoomSettings {
                name: SHOP.into(),
                seats: SeatSettings::default(),
                admission: Admission::Measured,
                order: Order::Fifo,
                weights: Default::default(),
                beacon: Default::default(),
                visitor: Default::default(),
                freeze_before: Span::secs(60),
                arm: Arm::Auto,
                claim_window: Span::secs(120),
                entries_max: 1_000_000,
                slow_lane_percent: 5,
                status_while_waiting: 200,
                status_for_crawlers: 503,
                revoked_bypasses: Vec::new(),
                page: PageSettings::default(),
                on_failure: OnFailure::Closed,
                binding: Binding::None,
            }],
            sales: Vec::new(),
            schedule: Vec::new(),
            forecast: Default::default(),
            journal: None,
            keys: None,
            state: None,
            own_prefix: own_prefix(),
            log: Log::default(),
            threads: None,
        }
    }
}

fn quota(name: &str, key: RateKey, rate: Rate, burst: u32) -> FilterSettings {
    FilterSettings::VisitorRate(VisitorRateSettings {
        name: name.into(),
        key,
        rate,
        burst,
        // 1 MiB of keys: 18 bytes each at half load.
        keys_max: 100_000,
        ipv6_prefix: 64,
        on_missing_key: OnMissingKey::Shared,
        shadow: false,
    })
}
