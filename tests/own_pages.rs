//! Pages of the gate itself that have nothing to show: a page for browsers, a problem for programs.

use tempfile::TempDir;

use crate::{
    draw_live::{address, policy, until},
    support::{Client, Shop, gate},
};

#[test]
fn what_is_a_problem_to_programs_is_a_page_to_browsers() {
    let (shop, dir) = (Shop::start(), TempDir::new().unwrap());
    let gate = gate(&policy("draw_then_fifo", "none"), shop.address, dir.path());
    until(&gate, "open", "");
    let other_site = ("origin", "https://other.example");
    let asks = [
        ("GET", "nothing", "", 404),
        ("GET", "claim", "", 405),
        ("POST", "status", "", 405),
        ("GET", "receipt", "", 404),
        ("GET", "draw?sale=none", "", 404),
        ("GET", "draw/transcript.json", "", 404),
        ("GET", "bypass?token=x", "", 403),
        ("GET", "appeal?reference=7K3M-2PQ7-XW0A", "", 404),
        ("POST", "appeal", "about=x&text=", 400),
        ("POST", "claim", "room=none", 404),
        ("POST", "leave", "room=none", 404),
        ("POST", "work", "room=none", 404),
    ];
    for (method, path, form, status) in asks {
        let path = format!("/.tidegate/{path}");
        let page = Client::browser(address(&gate)).send(method, &path, form);
        let is_page = page.header("content-type").is_some_and(|t| t.starts_with("text/html"));
        assert!(page.status == status && is_page && page.body.starts_with("<!doctype html>"), "{method} {path}: {page:?}");
        assert!(page.header("content-security-policy").is_some() && page.header("content-language") == Some("en"), "{page:?}");
        let problem = Client::app(address(&gate)).send(method, &path, form);
        assert!(problem.status == status && problem.header("content-type").is_some_and(|t| t.contains("json")), "{problem:?}");
        assert_eq!(problem.header("allow"), page.header("allow"));
    }
    let page = Client::browser(address(&gate)).with(other_site.0, other_site.1).post("/.tidegate/claim", "room=drop");
    assert!(page.status == 403 && page.body.contains("this form was sent from another site"), "{page:?}");
    let german = Client {
        headers: vec![("accept".into(), "text/html".into()), ("accept-language".into(), "de".into())],
        ..Client::browser(address(&gate))
    };
    let page = { german }.get("/.tidegate/nothing").body;
    assert!(page.contains("lang=\"de\"") && !page.contains("no page of the gate"), "{page}");
    gate.stop().unwrap();
}
