//! The crowd at a real shop.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::{Progress, Target, run};
use crate::{
    crowd::{Kind, Outcome, Scenario},
    measure::summarise,
    shop::{Shop, ShopSettings},
};

const FEW: &str = "
name: few
opens_at: 0s
ends_at: 60s
people:
  count: 12
  arrivals: [ { share: 1, from: 0s, to: 200ms } ]
  think: { median: 10ms, sigma: 0.2 }
  patience_page: 20s
  patience_waiting: 1m
  retries_max: 3
bots:
  - header_copier: { count: 1, every: 20ms, from: 0s, units_max: 2 }
";

async fn shop(stock: u32) -> (Shop, Target) {
    let settings = ShopSettings { stock, work_ms: 2, checkout_ms: 2, ..ShopSettings::default() };
    let shop = Shop::start(settings, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let target = Target::at(shop.address()).unwrap();
    (shop, target)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_buy_and_the_accounts_agree() {
    let scenario = Scenario::parse("few", FEW).unwrap();
    let (shop, target) = shop(500).await;
    let events = run(&scenario, 5, &target, Arc::new(Progress::default())).await;
    assert_eq!(events.outcomes[&(Kind::Person, Outcome::Bought)], 12);
    assert!(events.duration_ms < 60_000, "it ends when the last person has gone home");
    let summary = summarise(&events);
    assert_eq!((summary.people, summary.failures()), (12, 0));
    assert_eq!(summary.page.count, 12 * 5, "home, product, cart, checkout, confirmation");
    let stats = shop.stats().unwrap();
    assert_eq!(stats.by_kind["person"], 12, "the shop's account is the crowd's");
    let dir = tempfile::tempdir().unwrap();
    events.write(&dir.path().join("events.jsonl")).unwrap();
    let text = std::fs::read_to_string(dir.path().join("events.jsonl")).unwrap();
    assert_eq!(text.lines().count(), events.list.len() + 1);
    assert!(text.lines().nth(1).unwrap().contains("\"latency_us\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_target_is_failures_not_a_hang() {
    let scenario = Scenario::parse("few", FEW).unwrap();
    let (shop, target) = shop(5).await;
    shop.stop().await;
    let events = run(&scenario, 5, &target, Arc::new(Progress::default())).await;
    assert_eq!(events.outcomes[&(Kind::Person, Outcome::GaveUp)], 12);
    assert!(summarise(&events).people_failures["connection broke"] >= 12);
}
