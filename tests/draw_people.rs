//! One person has one entry and one place in a drawn sale, whatever browser it comes with and whenever.

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    draw_live::{address, ahead, enter, policy, receipt, relay, until},
    support::{Client, Shop, gate},
};

#[test]
fn another_browser_with_the_same_login_gets_the_same_place() {
    let (shop, dir, (source, from)) = (Shop::start(), TempDir::new().unwrap(), relay());
    let beacon = format!("{{ source: '{source}', delay: 10s, from: '{from}' }}");
    let first = gate(&policy("draw_then_fifo", &beacon), shop.address, dir.path());
    until(&first, "open", "");
    let mut people: Vec<Client> = (0..6).map(|i| enter(&first, &format!("person-{i}"))).collect();
    let mine = receipt(&mut people[2]).body;

    let left = people[4].post("/.tidegate/leave", "room=drop");
    assert_eq!(
        (left.status, &left.json()["state"], &left.json()["entry"]["number"]),
        (200, &"left".into(), &4.into()),
        "{left:?}"
    );
    assert!(left.json()["means"].as_str().unwrap().contains("come back"), "{left:?}");
    assert!(!people[4].cookies.iter().any(|(c, v)| c.contains("ticket") && !v.is_empty()), "{:?}", people[4].cookies);

    ahead(&first, 545);
    assert_eq!(until(&first, "frozen", "")["frozen"]["n"], 6, "nobody who has a receipt leaves the list");
    let mut twin = enter(&first, "person-2");
    let told = twin.get("/").json();
    assert_eq!((&told["entry"]["number"], &told["place"]), (&2.into(), &Value::Null), "{told}");
    assert_eq!(receipt(&mut twin).body, mine);
    ahead(&first, 12);
    until(&first, "drawn", "");
    let place = people[2].get("/").json()["place"].clone();
    assert_eq!(twin.get("/").json()["place"], place);
    assert_eq!(enter(&first, "person-2").get("/").json()["place"], place, "after the draw as well");
    assert_eq!(enter(&first, "late").get("/").json()["place"], 6);
    first.stop().unwrap();

    let text = std::fs::read_to_string(dir.path().join("policy.yaml")).unwrap();
    let second = gate(&text, shop.address, dir.path());
    until(&second, "drawn", "");
    let mut third = enter(&second, "person-2");
    assert_eq!(third.get("/").json()["place"], place, "and after a restart");
    assert!(
        enter(&second, "person-4").get("/").json()["place"].as_u64().unwrap() < 6,
        "who left and returned has what was drawn"
    );
    ahead(&second, 60);
    assert!(third.wait_and_claim("drop").is_some());
    let seats = |gate: &crate::support::Gate| {
        gate.control().shared.active.load().pipeline.rooms()[0].stats(gate.control().shared.clock.now()).seats_live
    };
    assert_eq!(seats(&second), 1);
    let mut fourth = enter(&second, "person-2");
    assert!(fourth.wait_and_claim("drop").is_some());
    assert_eq!(seats(&second), 1, "the same seat for the same person");
    let mut stranger = Client::app(address(&second));
    assert_eq!(stranger.post("/.tidegate/leave", "room=drop").status, 404);
    second.stop().unwrap();
}
