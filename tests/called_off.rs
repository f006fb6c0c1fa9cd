//! A sale that was called off stays so, in the words that were said first, and everybody who asks for it is told.

use tempfile::TempDir;
use tidegate_gateway::gate::Gate;

use crate::{
    draw_live::{address, policy},
    draw_promise::{refused, with, written},
    support::{Answer, Client, Shop, admin, gate},
};

const ADMIN: &str = "admin: { address: 127.0.0.1:0, token_file: '{dir}/admin.token' }\n";

fn told(gate: &Gate, person: &Client) -> serde_json::Value {
    let mut person = Client { address: address(gate), ..person.clone() };
    person.get("/").json()["cancelled"]["reason"].clone()
}

#[test]
fn a_cancelled_sale_stays_cancelled_in_the_words_that_were_said_first() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let first = gate(&(policy("fifo", "none") + ADMIN), shop.address, dir.path());
    let mut person = Client::app(address(&first));
    assert_eq!(person.get("/").json()["place"], 0);
    let on = written(dir.path());
    let off = |why: &str| with(&on, "name: sneaker,", &format!("name: sneaker, cancelled: {why},"));
    let ask = |gate: &Gate, path: &str, body: &str| admin(gate, dir.path(), "POST", path, body);
    assert_eq!(ask(&first, "/v1/policy/apply", &off("the roof leaks")).status, 200);
    assert_eq!(told(&first, &person), "the roof leaks");

    for path in ["/v1/policy/check", "/v1/policy/apply"] {
        let back = ask(&first, path, &on);
        assert_eq!((back.status, &back.json()["code"]), (409, &"PROMISED".into()), "{back:?}");
        assert!(back.body.contains("the roof leaks") && back.body.contains("another name"), "{back:?}");
    }
    for action in ["open", "as_written", "close"] {
        let moved = ask(&first, &format!("/v1/sales/sneaker/{action}"), "");
        assert!(moved.status == 409 && moved.body.contains("it is cancelled"), "{action}: {moved:?}");
    }
    let gone = on.lines().filter(|l| !l.contains("name: sneaker")).collect::<Vec<_>>().join("\n").replace("sales:\n", "");
    assert_eq!(ask(&first, "/v1/policy/apply", &gone).status, 200, "it may be forgotten");
    assert_eq!(ask(&first, "/v1/policy/apply", &on).status, 409, "and does not come back by that");
    assert_eq!(ask(&first, "/v1/policy/apply", &off("no reason")).status, 200);
    assert_eq!(told(&first, &person), "the roof leaks", "as people were told");
    first.stop().unwrap();

    let second = gate(&off("something else"), shop.address, dir.path());
    assert_eq!(told(&second, &person), "the roof leaks", "over a restart");
    second.stop().unwrap();
    let why = refused(&format!("{on}# changed\n"), dir.path());
    assert!(why.contains("sale `sneaker` was cancelled (\"the roof leaks\")"), "{why}");
}

#[test]
fn a_sale_called_off_while_the_gate_was_stopped_stays_so_as_well() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let on = policy("fifo", "none");
    let first = gate(&with(&on, "name: sneaker,", "name: sneaker, cancelled: the roof leaks,"), shop.address, dir.path());
    let off = written(dir.path());
    let refusal = first.control().apply(&with(&off, " cancelled: the roof leaks,", "")).unwrap_err().to_string();
    assert!(refusal.contains("the roof leaks"), "{refusal}");
    first.stop().unwrap();
    let why = refused(&with(&off, " cancelled: the roof leaks,", ""), dir.path());
    assert!(why.contains("the roof leaks"), "{why}");
}

#[test]
fn who_would_buy_in_a_cancelled_sale_is_told_that_it_does_not_take_place() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let yaml = with(&policy("fifo", "none"), "name: sneaker,", "name: sneaker, cancelled: the roof leaks, stock: 5,");
    let yaml = with(&yaml, "arm: always", "arm: auto");
    let yaml = with(
        &yaml,
        "filters: [",
        "routes:\n  - { name: checkout, match: { prefix: /checkout }, needs: { hold: sneaker, take_on: [POST] } }\n  \
         - { name: drop, match: { prefix: /drop } }\n  - { name: shop }\n\
         filters: [ { sale_window: { sale: sneaker, routes: [drop] } },",
    );
    let gate = gate(&yaml, shop.address, dir.path());
    let (mut app, mut browser) = (Client::app(address(&gate)), Client::browser(address(&gate)));
    assert_eq!(browser.get("/").status, 200, "the shop is open to newcomers: it has no sale");
    let is_told = |answer: &Answer| {
        assert_eq!((answer.status, answer.header("tidegate-reason")), (410, Some("SALE_CANCELLED")), "{answer:?}");
        assert!(answer.body.contains("the roof leaks") && answer.body.contains("nothing is owed"), "{answer:?}");
    };
    for (method, path) in [("GET", "/drop"), ("POST", "/checkout")] {
        let answer = app.send(method, path, "");
        is_told(&answer);
        assert_eq!((&answer.json()["state"], &answer.json()["cancelled"]["sale"]), (&"cancelled".into(), &"sneaker".into()));
        let page = browser.send(method, path, "");
        is_told(&page);
        assert!(page.body.contains("The sale does not take place"), "{page:?}");
    }
    assert!(shop.seen().iter().all(|s| !s.line.contains("checkout")), "nothing went to the shop");
    gate.stop().unwrap();
}
