//! An entry whose page no browser showed weighs less, where the rules of a draw say so.

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    browser::Browser,
    draw_live::{address, ahead, policy, until},
    support::{Client, Gate, Shop, gate},
};

/// Whom the gate knows by its cookie alone; `unrendered` entries have one ball.
fn rules() -> String {
    policy("draw_then_fifo", "none").replace(
        "    visitor: { key: { cookie: login }, entries_per_network: 30, work_bits: 0 }\n",
        "    weights: { unrendered: 1 }\n",
    )
}

/// The same with a page of the operator's own that has no scripts.
fn plain_page(dir: &std::path::Path) -> String {
    let form = "<form method=\"post\" action=\"{{ urls.claim }}\">{{ fields }}<button>in</button></form>";
    std::fs::write(dir.join("page.html"), format!("<!doctype html><h1>{{{{ title }}}}</h1>{form}")).unwrap();
    rules().replace("    weights:", "    page: { template: '{dir}/page.html' }\n    weights:")
}

/// Enters, and is shown the page of the entry.
fn enter(gate: &Gate) -> (Client, String) {
    let mut client = Client::browser(address(gate));
    client.get("/");
    let page = client.get("/");
    assert!(page.body.contains("You are in the draw"), "{page:?}");
    (client, page.body)
}

/// The style that a page names.
fn style(page: &str) -> Option<&str> {
    page.split_once("<link rel=\"stylesheet\" href=\"")?.1.split('"').next()
}

fn classes(frozen: &Value) -> (u64, u64) {
    let of = |class: &str| frozen["frozen"]["by_class"][class].as_u64().unwrap_or(0);
    (of("human"), of("unrendered"))
}

#[test]
fn who_does_not_load_what_the_page_names_has_fewer_balls() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let first = gate(&rules(), shop.address, dir.path());
    let promised = until(&first, "open", "");
    assert!(promised["promise"]["rules_json"].as_str().unwrap().contains("\"unrendered\":1"), "{promised}");
    let (_, before) = enter(&first);
    let (mut early, page) = enter(&first);
    assert!(style(&before).is_some() && early.get(style(&page).unwrap()).body.contains("counts in full"));
    first.stop().unwrap();

    let text = std::fs::read_to_string(dir.path().join("policy.yaml")).unwrap();
    let second = gate(&text, shop.address, dir.path());
    until(&second, "open", "");
    let (mut person, page) = enter(&second);
    let answer = person.get(style(&page).unwrap());
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/css; charset=utf-8")), "{answer:?}");
    assert!(answer.header("cache-control").unwrap().contains("no-store"), "each of a household's browsers asks for itself");
    let again = person.get("/");
    assert_eq!(style(&again.body), None, "once is enough");
    assert!(again.header("content-security-policy").unwrap().contains("style-src 'sha256-"), "{again:?}");
    let (mut program, page) = enter(&second);
    let mut stranger = Client::browser(address(&second));
    let asked = stranger.get(style(&page).unwrap());
    assert!(asked.status == 200 && asked.body.contains("Nothing of yours counts"), "it stands for nobody else: {asked:?}");
    assert_eq!(program.send("HEAD", style(&page).unwrap(), "").status, 200);
    assert_eq!(stranger.send("POST", "/.tidegate/style.css", "").status, 405);
    assert!(style(&program.get("/").body).is_some());

    ahead(&second, 541);
    let frozen = until(&second, "drawn", "");
    assert_eq!(classes(&frozen), (2, 2), "one of each before the restart and after it: {frozen}");
    assert!(person.get("/.tidegate/style.css?room=drop").body.contains("Nothing of yours counts"), "too late");
    second.stop().unwrap();
}

#[test]
fn a_page_of_the_operators_own_names_it_too() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let gate = gate(&plain_page(dir.path()), shop.address, dir.path());
    until(&gate, "open", "");
    let (_, page) = enter(&gate);
    assert!(page.starts_with("<!doctype html><h1>") && style(&page).is_some() && !page.contains("<script"), "{page}");
    gate.stop().unwrap();
}

#[test]
fn a_real_browser_loads_it_with_scripts_and_without() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let gate = gate(&rules(), shop.address, dir.path());
    until(&gate, "open", "");
    enter(&gate);
    for javascript in [true, false] {
        let Some(browser) = Browser::start(javascript) else { return };
        let url = format!("http://{}/", address(&gate));
        browser.open(&url);
        browser.open(&url);
        let seen = |text: &str| browser.source().contains(text);
        assert!(seen("You are in the draw"), "{}", browser.source());
        assert!(
            browser.click("details summary") && !browser.click("a[href*='style.css']"),
            "only who has no styles sees the link"
        );
        browser.open(&url);
        assert!(seen("You are in the draw") && !seen("style.css"), "{}", browser.source());
    }
    ahead(&gate, 545);
    assert_eq!(classes(&until(&gate, "drawn", "")), (2, 1));
    gate.stop().unwrap();
}
