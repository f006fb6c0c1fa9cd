//! What waiting costs: counted at the allocator, not believed.
#![allow(unsafe_code, missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use tidegate_filters::{
    Now, Visit, Wants,
    rule::bot_gate::Class,
    seats::room::{Room, RoomSettings},
};

struct Counting;
static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: forwards to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, l: Layout) -> *mut u8 {
        LIVE.fetch_add(l.size(), Relaxed);
        unsafe { System.alloc(l) }
    }
    unsafe fn dealloc(&self, p: *mut u8, l: Layout) {
        LIVE.fetch_sub(l.size(), Relaxed);
        unsafe { System.dealloc(p, l) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_million_people_wait_in_64_mib() {
    let before = LIVE.load(Relaxed);
    let settings: RoomSettings = serde_json::from_str(r#"{"name":"drop","arm":"always","entries_max":1000000}"#).unwrap();
    let room = Room::new(0, &settings, &[], 7, Now::at(0, 0));
    let empty = LIVE.load(Relaxed) - before;
    let visit = Visit { method: "GET", host: "shop.example", path: "/", route: Some(0), wants: Wants::Html, ..Visit::default() };
    for _ in 0..1_000_000 {
        room.visit(&visit, Class::Human, Now::at(0, 0));
    }
    for ms in (0..2_000).step_by(100) {
        room.tick(Now::at(0, ms));
    }
    assert_eq!(room.stats(Now::at(0, 2_000)).waiting, 1_000_000);
    let all = LIVE.load(Relaxed) - before;
    println!(
        "a room: {} KiB empty, {} KiB with 1,000,000 people waiting ({:.1} bytes each)",
        empty >> 10,
        all >> 10,
        (all - empty) as f64 / 1e6
    );
    assert!(all <= 64 << 20, "{all} bytes");
    // Nobody comes any more: what strangers send grows nothing.
    let full = LIVE.load(Relaxed);
    for _ in 0..10_000 {
        room.visit(&visit, Class::Human, Now::at(0, 2_000));
    }
    assert_eq!(LIVE.load(Relaxed), full);
}
