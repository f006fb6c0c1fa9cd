//! The policy of the demo's gate: what an operator would write for this sale.

use std::{net::SocketAddr, path::Path};

use serde::Serialize;

use super::stage::{quoted, utc};

/// What stands between bots and the units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Defence {
    /// Scores that challenge and send to the back, and entries that no browser showed weigh less, as in the demo.
    #[default]
    Full,
    /// No scores.
    None,
    /// Scores send to the back and weigh less in the drum; nobody is challenged or refused.
    Weights,
    /// And entries above a quota weigh less as well.
    Quotas,
    /// Instead of quotas: entries whose page no browser showed weigh less.
    Rendered,
    /// Scores, quotas and whether a browser showed the page.
    All,
}

impl Defence {
    /// The filter, with its line.
    fn bot_gate(self) -> &'static str {
        match self {
            Defence::None => "",
            Defence::Full => {
                "  - bot_gate: { model: builtin, challenge_at: 0.70, to_the_back_at: 0.85, when_unscored: wait, routes: [shop, checkout] }\n"
            }
            Defence::Weights | Defence::Quotas | Defence::Rendered | Defence::All => {
                "  - bot_gate: { model: builtin, to_the_back_at: 0.85, when_unscored: wait, routes: [shop, checkout] }\n"
            }
        }
    }

    /// The keys of a drawn room about entries, with their lines.
    fn entries(self) -> String {
        let quotas = "    visitor: { entries_per_network: 8, entries_per_fingerprint: 2, work_bits: 0 }\n";
        let rendered = "    weights: { unrendered: 1 }\n";
        let (quotas, rendered) = match self {
            Defence::Quotas => (quotas, ""),
            Defence::Full | Defence::Rendered => ("", rendered),
            Defence::All => (quotas, rendered),
            Defence::None | Defence::Weights => ("", ""),
        };
        format!("{quotas}{rendered}")
    }
}

/// What differs from run to run.
#[derive(Clone, Debug)]
pub(super) struct PolicyFacts<'a> {
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) token_file: &'a Path,
    pub(super) directory: &'a Path,
    pub(super) shop: SocketAddr,
    pub(super) stock: u32,
    /// Good answers a second that the load test found.
    pub(super) capacity_per_s: f64,
    pub(super) opens_unix_ms: u64,
    pub(super) defence: Defence,
    /// `None`: places go to whoever comes first.
    pub(super) draw: Option<DrawFacts<'a>>,
}

/// What the draw needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct DrawFacts<'a> {
    /// Between the end of entries and the opening, seconds.
    pub(super) freeze_before_s: u64,
    /// The beacon's name.
    pub(super) source: &'a str,
    /// Where its rounds are.
    pub(super) relay: SocketAddr,
}

/// The policy as YAML.
pub(super) fn policy(f: &PolicyFacts<'_>) -> String {
    format!(
        "# Written by the demo: what an operator would write for this sale.
version: 1

listen:
  - address: {listen}
admin: {{ address: {admin}, token_file: {token_file} }}
trusted_proxies: [127.0.0.1/32]

shop:
  upstreams: [ {{ address: {shop} }} ]
  health: {{ path: /healthz, every: 1s }}
  # A load test found {found:.0}/s; the measured value moves between these.
  capacity: {{ floor: {floor:.0}/s, ceiling: {ceiling:.0}/s }}
  reports_sales_by: {{ header: Tidegate-Sold }}
  in_flight: {{ max: auto, queue: 200, wait_max: 3s }}

routes:
  - {{ name: assets, match: {{ prefix: /static/ }}, filters: none }}
  # The shop's checkout races with itself: no order goes to it without one of the units in hand.
  - {{ name: checkout, match: {{ prefix: /checkout }}, needs: {{ hold: sneaker-42, take_on: [POST] }} }}
  - {{ name: shop, match: {{ prefix: / }} }}

filters:
  - visitor_rate: {{ name: per-visitor, key: visitor, rate: 5/s, burst: 20 }}
  - visitor_rate: {{ name: per-network, key: network, rate: 10/s, burst: 40 }}
{bot_gate}  - waiting_room: {{ room: drop, routes: [shop, checkout] }}

rooms:
  - name: drop
    seats: {{ max: 300, pass_idle: 15s, pass_age_max: 2m }}
    admission: forecast
    claim_window: 20s
{order}
sales:
  - name: sneaker-42
    room: drop
    prequeue_opens_at: {prequeue}
    opens_at: {opens}
    closes_at: {closes}
    stock: {stock}
    per_visitor_max: 1
    # As long as this crowd takes to pay, twice over; two minutes without this line.
    reserve: 20s

journal: {{ directory: {journal} }}
keys: {{ directory: {keys} }}
state: {{ directory: {state} }}
",
        listen = f.listen,
        admin = f.admin,
        token_file = quoted(f.token_file),
        shop = f.shop,
        found = f.capacity_per_s,
        floor = (f.capacity_per_s / 4.0).max(1.0),
        ceiling = (f.capacity_per_s * 1.25).max(2.0),
        prequeue = utc(f.opens_unix_ms.saturating_sub(600_000)),
        opens = utc(f.opens_unix_ms),
        closes = utc(f.opens_unix_ms + 3_600_000),
        stock = f.stock,
        journal = quoted(&f.directory.join("journal")),
        keys = quoted(&f.directory.join("keys")),
        state = quoted(&f.directory.join("state")),
        bot_gate = f.defence.bot_gate(),
        order = f.draw.map_or_else(|| "    order: fifo\n".to_owned(), |d| f.defence.entries() + &order(d)),
    )
}

/// The room's keys about its draw.
fn order(d: DrawFacts<'_>) -> String {
    format!(
        "    # Who comes before the freeze is in the drum; who comes later follows. With a network: source: drand-quicknet.
    order: draw_then_fifo
    freeze_before: {}s
    beacon: {{ source: '{}', delay: 10s, from: 'http://{}' }}
",
        d.freeze_before_s, d.source, d.relay,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_gate_accepts_it() {
        let dir = tempfile::tempdir().unwrap();
        let token_file = dir.path().join("admin \"token\"");
        let facts = PolicyFacts {
            listen: "127.0.0.1:8080".parse().unwrap(),
            admin: "127.0.0.1:9900".parse().unwrap(),
            token_file: &token_file,
            directory: dir.path(),
            shop: "127.0.0.1:3000".parse().unwrap(),
            stock: 500,
            capacity_per_s: 201.4,
            opens_unix_ms: 1_796_090_400_000,
            defence: Defence::Full,
            draw: None,
        };
        let beacon = tidegate_filters::seats::draw::beacon::LocalBeacon::new(&[1; 32]).source();
        let draw = DrawFacts { freeze_before_s: 18, source: &beacon, relay: "127.0.0.1:8081".parse().unwrap() };
        for defence in [Defence::None, Defence::Weights, Defence::Quotas, Defence::Rendered, Defence::All] {
            let other = PolicyFacts { defence, draw: Some(draw), ..facts.clone() };
            let other = tidegate_config::parse(&policy(&other), "drop-day.yaml").unwrap();
            let (quotas, rendered) = match defence {
                Defence::All => (true, true),
                other => (other == Defence::Quotas, other == Defence::Rendered),
            };
            let room = &other.policy.rooms[0];
            assert_eq!(room.visitor.entries_per_network.is_some(), quotas);
            assert_eq!(room.weights.unrendered.is_some(), rendered);
        }
        let drawn = tidegate_config::parse(&policy(&PolicyFacts { draw: Some(draw), ..facts.clone() }), "drop-day.yaml").unwrap();
        assert!(drawn.policy.rooms[0].order.is_drawn() && drawn.policy.state.is_some());
        let loaded = tidegate_config::parse(&policy(&facts), "drop-day.yaml").unwrap();
        assert_eq!(loaded.policy.sales[0].opens_at.unix_ms(), facts.opens_unix_ms);
        assert_eq!(loaded.policy.sales[0].stock, Some(500));
        assert_eq!(loaded.render_warnings(), "");
    }
}
