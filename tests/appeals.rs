//! Who was refused says why that is wrong, and an operator decides.

use serde_json::{Value, json};

use crate::{
    program::{run, text},
    support::{Answer, Client, Shop, admin, gate},
};

const POLICY: &str = r#"
version: 1
listen: [ { address: 127.0.0.1:0 } ]
admin: { address: 127.0.0.1:0, token_file: "{dir}/admin.token" }
shop: { upstreams: [ { address: "{shop}" } ] }
routes: [ { name: forbidden, match: { prefix: /forbidden } }, { name: shop } ]
filters:
  - address: { deny: [ 198.51.100.0/24 ] }
  - bot_gate: { refuse_at: 0.000001, when_unscored: admit, runtime: builtin, routes: [forbidden] }
trusted_proxies: [ 127.0.0.0/8 ]
state: { directory: "{dir}/state" }
keys: { directory: "{dir}/keys" }
"#;

/// What the form of a page carries.
fn about(page: &Answer) -> &str {
    let after = page.body.split("name=\"about\" value=\"").nth(1);
    after.and_then(|rest| rest.split('"').next()).unwrap_or_else(|| panic!("no form: {}", page.body))
}

fn form(about: &str, text: &str) -> String {
    format!("about={}&text={text}", about.replace(':', "%3A"))
}

#[test]
fn a_refusal_can_be_appealed_against_and_what_is_granted_counts() {
    let (shop, dir) = (Shop::start(), tempfile::tempdir().unwrap());
    let policy = POLICY.replace("{dir}", &dir.path().display().to_string());
    let first = gate(&policy, shop.address, dir.path());
    let (mut person, mut other) = (Client::browser(first.addresses()[0]), Client::browser(first.addresses()[0]));
    let mut app = Client::app(first.addresses()[0]);
    let page = person.get("/forbidden");
    assert_eq!((page.status, page.header("tidegate-reason")), (403, Some("SCORE_REFUSE")));
    let about = about(&page).to_owned();
    for (wrong, status) in [
        (form(&about, ""), 400),
        (form(&about, &"x".repeat(501)), 400),
        (form(&about.replace("SCORE_REFUSE", "ADDRESS_DENIED"), "no"), 403),
        (form("", "no"), 403),
        ("text=no".to_owned(), 403),
    ] {
        assert_eq!(person.post("/.tidegate/appeal", &wrong).status, status, "{wrong}");
    }
    let sent = person.post("/.tidegate/appeal", &form(&about, "I+am+a+person%0A%3Cb%3E"));
    let url = sent.header("location").unwrap().to_owned();
    assert_eq!((sent.status, url.len()), (303, "/.tidegate/appeal?reference=7K3M-2PQ7-XW0A".len()), "{url}");
    let second = person.get("/forbidden");
    let again = person.post("/.tidegate/appeal", &form(self::about(&second), "again"));
    assert_eq!(again.header("location"), Some(&*url), "one undecided appeal for each");
    assert_eq!(app.post("/.tidegate/appeal", &form(&about, "no")).status, 403, "the refusal of somebody else");
    assert!(!about.contains("0."), "a program learns no score: {about}");
    let waits = person.get(&url);
    assert!(waits.body.contains("A person will look at it") && waits.header("refresh") == Some("60"), "{waits:?}");
    assert_eq!(other.get(&url).status, 404, "only who made it reads it");
    let told = app.get("/forbidden").json();
    let answer = app.post("/.tidegate/appeal", &form(told["appeal"]["about"].as_str().unwrap(), "a monitor"));
    assert_eq!((answer.status, &answer.json()["state"]), (202, &json!("undecided")));
    drop(first);

    // Appeals, names and cookies outlive a restart.
    let second = gate(&policy, shop.address, dir.path());
    for client in [&mut person, &mut other, &mut app] {
        client.address = second.addresses()[0];
    }
    let post = |path: &str, body: Value| admin(&second, dir.path(), "POST", path, &body.to_string());
    let list = admin(&second, dir.path(), "GET", "/v1/appeals", "").json();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["text"]), (2, &json!("I am a person<b>")), "{list}");
    let path = |i: usize| format!("/v1/appeals/{}", list[i]["reference"].as_str().unwrap());
    assert_eq!(post("/v1/appeals/0000-0000-0000", json!({ "grant": true })).json()["code"], "NO_APPEAL");
    assert_eq!(post(&path(0), json!({ "granted": true })).status, 400);
    assert_eq!(post(&path(0), json!({ "grant": true, "say": "a\nb" })).json()["code"], "SAY");
    assert_eq!(post(&path(0), json!({ "grant": true, "say": "Sorry <you>" })).status, 200);
    assert_eq!(post(&path(1), json!({ "grant": false })).status, 200);
    assert_eq!(person.get("/forbidden").status, 200, "from the next visit on");
    let granted = person.get(&url);
    assert!(granted.body.contains("Sorry &lt;you&gt;") && granted.body.contains("You can go on now"), "{granted:?}");
    assert_eq!(post(&path(0).to_lowercase(), json!({ "grant": false })).status, 200);
    assert_eq!(person.get("/forbidden").status, 403, "taken back");
    assert_eq!(post(&path(0), json!({ "grant": true })).status, 200);
    assert_eq!((person.get("/forbidden").status, other.get("/forbidden").status), (200, 403));
    let rejected = app.get(answer.json()["url"].as_str().unwrap()).json();
    assert_eq!((&rejected["state"], app.get("/forbidden").status), (&json!("rejected"), 403));

    // What was decided is known about these visitors from then on.
    let (file, labels) = (dir.path().join("appeals.json"), dir.path().join("labels.csv"));
    std::fs::write(&file, admin(&second, dir.path(), "GET", "/v1/appeals", "").body).unwrap();
    let (file, labels) = (file.display().to_string(), labels.display().to_string());
    let said = run(&["bots", "label", "--labels", &labels, "--appeals", &file]);
    assert!(text(&said).contains("2 labels; 2 of 2 appeals are decided"), "{}", text(&said));
    let lines = std::fs::read_to_string(&labels).unwrap();
    for (i, label) in ["person", "program"].iter().enumerate() {
        let line = format!("{},{label},appeal {}", list[i]["visitor"].as_str().unwrap(), list[i]["reference"].as_str().unwrap());
        assert!(lines.contains(&line), "{line}: {lines}");
    }
    let wrong = run(&["bots", "label", "--labels", &labels, "--appeals", &labels]);
    assert!(text(&wrong).contains("this is not what GET /v1/appeals answers"), "{}", text(&wrong));
}

#[test]
fn who_is_on_a_deny_list_can_say_so_too() {
    let (shop, dir) = (Shop::start(), tempfile::tempdir().unwrap());
    let gate = gate(&POLICY.replace("{dir}", &dir.path().display().to_string()), shop.address, dir.path());
    let mut person = Client::browser(gate.addresses()[0]).with("x-forwarded-for", "198.51.100.7");
    let page = person.get("/");
    assert_eq!(page.header("tidegate-reason"), Some("ADDRESS_DENIED"));
    let sent = person.post("/.tidegate/appeal", &form(about(&page), "a hotel"));
    let list = admin(&gate, dir.path(), "GET", "/v1/appeals", "").json();
    let path = format!("/v1/appeals/{}", list[0]["reference"].as_str().unwrap());
    assert_eq!(admin(&gate, dir.path(), "POST", &path, r#"{"grant": true}"#).status, 200);
    assert!(person.get(sent.header("location").unwrap()).body.contains("It was a mistake"));
    let mut neighbour = Client::browser(gate.addresses()[0]).with("x-forwarded-for", "198.51.100.8");
    assert_eq!((person.get("/").status, neighbour.get("/").status), (200, 403));
}

#[test]
fn who_copies_the_cookies_of_a_grant_shares_the_quotas_of_its_visitor() {
    let (shop, dir) = (Shop::start(), tempfile::tempdir().unwrap());
    let quota = "  - visitor_rate: { name: each, key: visitor, rate: 1/h, burst: 12 }\nstate:";
    let policy = POLICY.replace("{dir}", &dir.path().display().to_string()).replace("state:", quota);
    let policy = policy
        .replace("trusted_proxies: [ 127.0.0.0/8 ]\n", "")
        .replace("filters:", "trusted_proxies: [ 127.0.0.0/8 ]\nfilters:");
    let gate = gate(&policy, shop.address, dir.path());
    let mut person = Client::browser(gate.addresses()[0]).with("x-forwarded-for", "198.51.100.7");
    let sent = {
        let page = person.get("/");
        person.post("/.tidegate/appeal", &form(about(&page), "a hotel"))
    };
    assert_eq!(sent.status, 303);
    let list = admin(&gate, dir.path(), "GET", "/v1/appeals", "").json();
    let path = format!("/v1/appeals/{}", list[0]["reference"].as_str().unwrap());
    assert_eq!(admin(&gate, dir.path(), "POST", &path, r#"{"grant": true}"#).status, 200);
    let copy = |n: u8| {
        let from = Client::app(gate.addresses()[0]).with("x-forwarded-for", &format!("198.51.100.{}", 10 + n));
        Client { cookies: person.cookies.clone(), ..from }
    };
    let mut copies: Vec<Client> = (0..8).map(copy).collect();
    let let_in = (0..40).filter(|i| copies[i % 8].get("/").status == 200).count();
    assert!((8..=12).contains(&let_in), "as many visits as one visitor has, whoever makes them: {let_in}");
    assert_eq!(person.get("/").status, 429);
}
