//! Challenges: work that is done once by whom it was asked of, and the slow way around it.

use tidegate_filters::{
    FilterSettings,
    rule::bot_gate::{BotGateSettings, ChallengeWork, Runtime, THROTTLE_TO, WhenUnscored},
    seats::draw::{digest::unhex, work::Work},
};

use crate::{
    room::{HTML, cookie_line},
    support::{Gate, Reply, Shop, get, once, plain_policy, request},
};

async fn challenging(shop: &Shop, challenge_work: ChallengeWork) -> Gate {
    let mut policy = plain_policy(shop.addr);
    policy.filters.push(FilterSettings::BotGate(BotGateSettings {
        model: "builtin".into(),
        runtime: Runtime::Auto,
        shadow_model: None,
        challenge_at: Some(0.5),
        challenge_work,
        to_the_back_at: None,
        throttle_at: None,
        throttle_to: THROTTLE_TO,
        refuse_at: None,
        when_unscored: WhenUnscored::Challenge,
        deadline: tidegate_filters::Span(5),
        routes: vec![],
        shadow: false,
    }));
    Gate::start(&policy).await
}

/// A hidden field of a page.
fn hidden<'p>(page: &'p Reply, name: &str) -> &'p str {
    let after = page.body.split(&format!("name=\"{name}\" value=\"")).nth(1);
    after.and_then(|s| s.split('"').next()).unwrap_or_else(|| panic!("no {name}: {}", page.body))
}

fn answer_to(proof: &str) -> String {
    let [bits, challenge @ ..]: [u8; 17] = unhex(proof).unwrap();
    format!("to=%2Fx&proof={proof}&answer={}", Work { challenge, bits }.solve())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_challenge_without_work_is_a_button_and_its_proof_is_not_portable() {
    let shop = Shop::start().await;
    let gate = challenging(&shop, ChallengeWork { bits: 0, bits_max: 0 }).await;
    let page = once(gate.addr(), get("/x", &[HTML])).await;
    assert_eq!((page.status, page.header("tidegate-verdict")), (403, Some("challenge")));
    let form = format!("to=%2Fx&proof={}", hidden(&page, "proof"));
    let ask = |agent| request("POST", "/.tidegate/challenge", &[HTML, ("user-agent", agent)], &form);
    assert_eq!(once(gate.addr(), ask("another program")).await.status, 403);
    let passed = once(gate.addr(), request("POST", "/.tidegate/challenge", &[HTML], &form)).await;
    assert_eq!((passed.status, passed.header("location")), (303, Some("/x")));
    let inside = once(gate.addr(), get("/x", &[HTML, ("cookie", &cookie_line(&passed))])).await;
    assert_eq!(inside.body.lines().next(), Some("GET /x 0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_done_once_by_whom_it_was_asked_of() {
    let shop = Shop::start().await;
    let gate = challenging(&shop, ChallengeWork { bits: 12, bits_max: 12 }).await;
    let post = |form: &str, headers: &[(&str, &str)]| request("POST", "/.tidegate/challenge", headers, form);
    let told = once(gate.addr(), get("/x", &[])).await.json();
    let (proof, work) = (told["challenge"]["proof"].as_str().unwrap().to_owned(), &told["challenge"]["work"]);
    assert_eq!((work["bits"].as_u64(), work["challenge"].as_str()), (Some(12), Some(&proof[2..])));
    let [bits, challenge @ ..]: [u8; 17] = unhex(&proof).unwrap();
    let wrong = (0..).find(|n| !Work { challenge, bits }.is_done(*n)).unwrap();
    for wrong in [
        format!("proof={proof}"),
        format!("proof={proof}&answer={wrong}"),
        format!("proof=00{}&answer=1", &proof[2..]),
        format!("proof={}0&answer=1", &proof[..33]),
        "proof=&answer=1".to_owned(),
        String::new(),
    ] {
        assert_eq!(once(gate.addr(), post(&wrong, &[])).await.status, 403, "{wrong}");
    }
    let form = answer_to(&proof);
    assert_eq!(once(gate.addr(), post(&form, &[("user-agent", "another program")])).await.status, 403, "of somebody else");
    let passed = once(gate.addr(), post(&form, &[])).await;
    assert_eq!((passed.status, &passed.json()["state"]), (200, &"cleared".into()));
    assert_eq!(once(gate.addr(), post(&form, &[])).await.status, 403, "one answer clears one visitor");
    let mine = cookie_line(&passed);
    assert_eq!(once(gate.addr(), get("/x", &[("cookie", &mine)])).await.status, 200);
    let (visitor, clearance): (Vec<_>, Vec<_>) = mine.split("; ").partition(|c| c.contains("visitor="));
    let other = cookie_line(&once(gate.addr(), post(&answer_to(&proof_of(&gate).await), &[])).await);
    let other_name = other.split("; ").find(|c| c.contains("visitor=")).unwrap();
    let borrowed = format!("{other_name}; {}", clearance.join("; "));
    assert_ne!(visitor, [other_name], "everybody has a name of their own");
    assert_eq!(once(gate.addr(), get("/x", &[("cookie", &borrowed)])).await.status, 403, "cleared is the visitor who worked");
    let answered = |reason: &str| {
        let mut n = 0;
        gate.shared.counts.each(|name, r, count| n += if (name, r) == ("challenges_answered", reason) { count } else { 0 });
        n
    };
    assert_eq!((answered("worked"), answered("refused"), answered("slowly")), (2, 8, 0));
}

async fn proof_of(gate: &Gate) -> String {
    once(gate.addr(), get("/x", &[])).await.json()["challenge"]["proof"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_script_there_is_a_slow_way() {
    let shop = Shop::start().await;
    let gate = challenging(&shop, ChallengeWork::default()).await;
    let page = once(gate.addr(), get("/x", &[HTML])).await;
    let form = format!("to=%2Fx&proof={}&slowly={}", hidden(&page, "proof"), hidden(&page, "slowly"));
    let asked = request("POST", "/.tidegate/challenge", &[HTML], &form);
    let slowly = once(gate.addr(), asked.clone()).await;
    assert_eq!((slowly.status, slowly.header("refresh")), (200, Some("21;url=/x")));
    assert_eq!(once(gate.addr(), asked).await.status, 403, "good once as well");
    let cookies = cookie_line(&slowly);
    assert_eq!(once(gate.addr(), get("/x", &[HTML, ("cookie", &cookies)])).await.status, 403, "not yet");
    gate.shared.clock.advance(20_000);
    let inside = once(gate.addr(), get("/x", &[HTML, ("cookie", &cookies)])).await;
    assert_eq!(inside.body.lines().next(), Some("GET /x 0"));
    // The first visit, two answers, the visit too early and this one; a row is written after its answer was read.
    let rows = gate.rows(5).await;
    let row = rows.iter().find(|r| r.status == 200 && r.path == "/x").expect("a row of the visit that got in");
    assert_eq!(row.class, "suspect", "at the back");
}
