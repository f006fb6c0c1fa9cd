//! A drawn sale that is called off: everybody who entered is told, the list is published, another sale draws again.

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    draw_live::{address, ahead, enter, policy, receipt, receipt_form, save, until, until_sale},
    program::{run, text},
    support::{Client, Gate, Shop, gate},
};

#[test]
fn a_cancelled_sale_is_published_with_its_cancellation_and_drawn_again_under_another_name() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let first = gate(&policy("draw_then_fifo", "none"), shop.address, dir.path());
    until(&first, "open", "");
    let mut person = enter(&first, "person");
    let mine = receipt(&mut person).body;
    let written = std::fs::read_to_string(dir.path().join("policy.yaml")).unwrap();
    let sale = written.lines().find(|l| l.contains("name: sneaker")).unwrap().to_owned();
    let off = sale.replace("name: sneaker,", "name: sneaker, cancelled: the shop is closed today,");
    let again = sale.replace("name: sneaker,", "name: boots, redraws: sneaker,");
    let cancelled = written.replace(&sale, &format!("{off}\n{again}"));
    first.control().apply(&cancelled).unwrap();
    let refused = first.control().apply(&written).unwrap_err().to_string();
    assert!(refused.contains("redraws: sneaker"), "what was called off stays so: {refused}");
    first.control().message("drop", Some("we are sorry".into())).unwrap();
    told_that_it_is_off(&first, &mut person);
    assert!(receipt(&mut person).body == mine, "the receipt is still to be had");
    let old = until_sale(&first, "sneaker", |d| d["cancelled"].is_object() && d["amendments"][0]["text"].is_string());
    let off = &old["cancelled"];
    assert_eq!((&old["state"], &off["reason"]), (&"cancelled".into(), &"the shop is closed today".into()), "{old}");
    assert_eq!(off["message"], "we are sorry");
    assert!(off["means"].as_str().unwrap().contains("nothing is owed"), "{off}");
    assert_eq!(old["amendments"][0]["text"], "cancelled: the shop is closed today");
    let new = until_sale(&first, "boots", |d| d["state"] == "open");
    assert_eq!(new["redraws"], "sneaker");
    let rules = new["promise"]["rules_json"].as_str().unwrap();
    assert!(rules.contains("\"redraws\":\"sneaker\""), "part of what is promised: {rules}");
    let mut other = enter(&first, "other");
    assert!(receipt(&mut other).body.contains("boots"));
    first.stop().unwrap();

    let second = gate(&cancelled, shop.address, dir.path());
    until_sale(&second, "boots", |d| d["state"] == "open");
    let mut other = enter(&second, "other");
    ahead(&second, 545);
    let drawn = until_sale(&second, "sneaker", |d| d["state"] == "drawn");
    let transcript = save(&second, dir.path(), &drawn);
    let body = std::fs::read_to_string(&transcript).unwrap();
    assert!(body.contains("cancelled: the shop is closed today"), "{body}");
    std::fs::write(dir.path().join("mine.json"), mine).unwrap();
    let out = run(&["draw", "verify", "--json", &transcript, "--receipt", &dir.path().join("mine.json").display().to_string()]);
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&report["faults"], &report["receipts"][0]["place"]), (&Value::Array(vec![]), &0.into()), "{report}");
    assert_eq!(drawn["cancelled"]["reason"], "the shop is closed today", "drawn and called off");
    assert_eq!(report["cancelled"], "the shop is closed today");
    let said = text(&run(&["draw", "verify", &transcript]));
    assert!(said.contains("cancelled: the sale did not take place (\"the shop is closed today\""), "{said}");
    let out = run(&["draw", "receipt", &transcript, &dir.path().join("mine.json").display().to_string()]);
    let proof: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&proof["index"], &proof["cancelled"]), (&0.into(), &"the shop is closed today".into()));
    let boots = until_sale(&second, "boots", |d| d["state"] == "drawn");
    // The first person may have come back before its entries were open.
    assert!(matches!(boots["frozen"]["n"].as_u64(), Some(1 | 2)), "{boots}");
    assert!(other.get("/").json()["place"].as_u64().unwrap() < 2, "nobody of the cancelled sale stands before");
    ahead(&second, 60);
    assert!(other.wait_and_claim("drop").is_some());
    second.stop().unwrap();
}

/// Whoever entered a sale that was called off is told so, everywhere.
fn told_that_it_is_off(gate: &Gate, person: &mut Client) {
    for path in ["/", "/.tidegate/status?room=drop"] {
        let told = person.get(path);
        let json = told.json();
        assert_eq!((told.header("tidegate-reason"), &json["state"]), (Some("SALE_CANCELLED"), &"cancelled".into()), "{told:?}");
        assert_eq!(json["cancelled"]["reason"], "the shop is closed today", "{json}");
        assert_eq!(json["cancelled"]["message"], "we are sorry");
        assert_eq!(json["waitingRoom"]["inWaitingRoom"], false);
        assert_eq!(json["poll_after_s"], 60, "people enter the next one by now: {json}");
        let again = &json["cancelled"]["again"];
        assert!(again["sale"] == "boots" && again["prequeue_opens_at"].is_string() && again["opens_at"].is_string(), "{json}");
    }
    let mut browser = Client { cookies: person.cookies.clone(), ..Client::browser(address(gate)) };
    let page = browser.get("/");
    let says = [
        "The sale does not take place",
        "nothing is owed",
        "the shop is closed today",
        "we are sorry",
        "boots",
        "/.tidegate/leave",
    ];
    assert!(page.status == 410 && says.iter().all(|s| page.body.contains(s)), "{page:?}");
    let draw = browser.get("/.tidegate/draw?sale=sneaker").body;
    assert!(says[..5].iter().all(|s| draw.contains(s)) && !draw.contains("not open yet"), "{draw}");
    let mine = receipt(person).body;
    let form = receipt_form(&mine);
    let checked = browser.post("/.tidegate/draw/proof?sale=sneaker", &form).body;
    assert!(checked.contains("does not take place"), "{checked}");
    let mut app = Client { cookies: person.cookies.clone(), ..Client::app(address(gate)) };
    let left = app.post("/.tidegate/leave", "room=drop");
    assert_eq!((left.status, &left.json()["state"]), (200, &"left".into()), "what `leave_url` names: {left:?}");
    // The button leads on: the old ticket is gone, and the sale that is on is entered.
    assert_eq!(browser.post("/.tidegate/leave", "room=drop&to=/").status, 303);
    browser.cookies.retain(|_, value| !value.is_empty());
    assert_eq!(browser.get("/").status, 200, "the next sale");
}
