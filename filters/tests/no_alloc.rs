//! Deciding allocates nothing: counted, not believed.
#![allow(unsafe_code, missing_docs, clippy::unwrap_used)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
};

use tidegate_filters::{
    FilterSettings, Network, Now, Pipeline, PipelineSettings, Score, Verdict, Visit, VisitorId, Wants,
    pipeline::Seed,
    seats::{
        room::{Claim, Entrance},
        token::{Keyring, Token},
    },
    verdict::Notes,
};

struct Counting;
thread_local! { static COUNT: Cell<u64> = const { Cell::new(0) }; }

// SAFETY: forwards to the system allocator unchanged; the counter is a thread-local cell without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, l: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.alloc(l) }
    }
    unsafe fn dealloc(&self, p: *mut u8, l: Layout) {
        unsafe { System.dealloc(p, l) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(f: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    f();
    COUNT.get() - before
}

fn settings() -> PipelineSettings {
    let filters = [
        r#"{"address":{"deny":["192.0.2.0/24"],"allow_first":["198.51.100.7"]}}"#,
        r#"{"visitor_rate":{"name":"v","key":"visitor","rate":"1000000/s","burst":1000000}}"#,
        r#"{"visitor_rate":{"name":"n","key":"network","rate":"1000000/s","burst":1000000}}"#,
        r#"{"bot_gate":{"to_the_back_at":0.85,"when_unscored":"wait"}}"#,
        r#"{"waiting_room":{"room":"drop"}}"#,
    ];
    let filters: Vec<FilterSettings> = filters.iter().map(|f| serde_json::from_str(f).unwrap()).collect();
    PipelineSettings {
        routes: vec![serde_json::from_str(r#"{"name":"shop","match":{"prefix":"/"}}"#).unwrap()],
        filters,
        rooms: vec![serde_json::from_str(r#"{"name":"drop","arm":"always"}"#).unwrap()],
        ..Default::default()
    }
}

fn visit<'a>(pipeline: &Pipeline, method: &'a str, tokens: &'a [Token]) -> Visit<'a> {
    Visit {
        method,
        host: "shop.example",
        path: "/product/1",
        route: pipeline.routes().find("shop.example", "/product/1", method),
        network: Some(Network::new([203, 0, 113, 9].into())),
        visitor: Some(VisitorId(77)),
        visitor_by_cookie: true,
        wants: Wants::Html,
        tokens,
        ..Visit::default()
    }
}

#[test]
fn screen_and_admit_allocate_nothing() {
    let at = |ms| Now::at(1_800_000_000_000, ms);
    let pipeline = Pipeline::new(&settings(), Seed { hash_key: (1, 2), epoch: 3 }, at(0));
    let decide = |tokens: &[Token], ms| {
        let mut notes = Notes::default();
        let v = visit(&pipeline, "GET", tokens);
        match pipeline.screen(&v, at(ms), &mut notes) {
            Some(d) => d,
            None => pipeline.admit(&v, Score::Known(0.1), at(ms), &mut notes),
        }
    };
    // The first visit of a room allocates its segment of places, once.
    let Verdict::Wait(waiting) = decide(&[], 1).verdict else { panic!("the room is armed") };
    let ticket = [pipeline.rooms()[0].ticket_token(waiting.place.unwrap(), "shop.example", at(1))];
    let mut waits = true;
    let n = allocations(|| waits = matches!(decide(&ticket, 50).verdict, Verdict::Wait(_)));
    assert!(waits);
    assert_eq!(n, 0, "a waiting visit");

    pipeline.tick(at(100));
    let claimed = pipeline.rooms()[0].claim(&visit(&pipeline, "POST", &ticket), at(150));
    assert!(matches!(claimed, Claim::Pending(_)), "{claimed:?}");
    let answers = pipeline.tick(at(200));
    let tidegate_filters::pipeline::ClaimOutcome::Seated(seat) = answers[0].outcome else { panic!("{answers:?}") };
    let pass = [pipeline.rooms()[0].pass_token(seat, "shop.example", at(200))];
    let mut inside = false;
    let n = allocations(|| inside = matches!(decide(&pass, 300).verdict, Verdict::Forward(Entrance::Inside { .. })));
    assert!(inside);
    assert_eq!(n, 0, "a visit with a pass");

    let keys = Keyring::new(&[(1, [7; 32])]).unwrap();
    let text = keys.seal(&pass[0]);
    let bad = text.replace('A', "B");
    assert_eq!(allocations(|| assert!(black_box(keys.open(&bad)).is_err())), 0, "a stranger's token costs no memory");
}
