//! The rules of a sale, from the policy.

use tidegate_config::Policy;
use tidegate_filters::{
    FilterSettings,
    seats::{
        draw::rules::{BeaconRule, ClassThresholds, Identity, Quotas, Rules},
        room::{Order, RoomSettings, VisitorKey},
    },
};
use tidegate_models::scorer::sha256_of;

/// What the policy promises for a sale in a room, as canonical JSON.
pub(super) fn rules_json(policy: &Policy, room: &RoomSettings, sale: &str) -> Result<String, String> {
    let gate = policy.filters.iter().find_map(|f| match f {
        FilterSettings::BotGate(s) if !s.shadow => Some(s),
        _ => None,
    });
    let model_sha256 = match gate.map(|g| g.model.as_str()) {
        None => None,
        Some(model) => Some(sha256_of(model).map_err(|e| format!("the model {model} cannot be read: {e}"))?),
    };
    let sale = policy.sales.iter().find(|s| s.name == sale);
    let rules = Rules {
        order: match room.order {
            Order::Fifo => "fifo".into(),
            Order::DrawThenFifo => "draw_then_fifo".into(),
            Order::DrawEvery(span) => format!("draw_every {span}"),
        },
        weights: room.weights,
        class_thresholds: gate.map(ClassThresholds::from).unwrap_or_default(),
        model_sha256,
        identity: match &room.visitor.key {
            Some(VisitorKey::Cookie(name)) => Identity::Cookie(name.clone()),
            Some(VisitorKey::Header(name)) => Identity::Header(name.clone()),
            None => Identity::VisitorCookie,
        },
        quotas: Quotas {
            per_network: room.visitor.entries_per_network,
            per_fingerprint: room.visitor.entries_per_fingerprint,
            crowd_times: room.visitor.crowd_times_in_force(),
            work_bits: room.visitor.work_bits,
            entries_max: room.visitor.entries_max.unwrap_or(room.entries_max),
        },
        stock: sale.and_then(|s| s.stock),
        per_visitor_max: sale.and_then(|s| s.per_visitor_max),
        beacon: BeaconRule::of(&room.beacon),
        redraws: sale.and_then(|s| s.redraws.clone()),
    };
    rules.json().map_err(|e| e.to_string())
}
