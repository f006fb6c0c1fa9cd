#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::{path::Path, time::Duration};

use tidegate_filters::{
    Verdict, Visit, Wants,
    pipeline::Seed,
    rule::bot_gate::Class,
    seats::{room::Claim, token::Token},
};

use super::{
    super::{Local, Memory},
    *,
};
use crate::clock::Clock;

const POLICY: &str = "version: 1\nlisten: [ { address: 127.0.0.1:1 } ]\nshop: { upstreams: [ { address: 127.0.0.1:2 } ] }\n\
    filters: [ { waiting_room: { room: drop } } ]\n\
    rooms: [ { name: drop, arm: always, seats: { max: 5 }, entries_max: 2000000, admission: { fixed: 100/s } } ]\n";

fn pipeline(epoch: u64) -> Pipeline {
    let loaded = tidegate_config::parse(POLICY, "test").unwrap_or_else(|e| panic!("{e}"));
    Pipeline::new(&loaded.policy.pipeline_settings(), Seed { hash_key: (1, 2), epoch }, at(0))
}

fn at(ms: u64) -> Now {
    Now::at(1_800_000_000_000, ms)
}

fn visit<'a>(tokens: &'a [Token]) -> Visit<'a> {
    Visit { method: "GET", host: "h", path: "/", route: Some(0), wants: Wants::Html, tokens, ..Visit::default() }
}

/// A room over a directory, as at a start.
fn life(directory: &Path, epoch: u64) -> (Arc<Local>, Rooms, Pipeline) {
    let store = Arc::new(Local::open(directory, Duration::from_secs(20)).unwrap());
    let rooms = Rooms::new(store.clone());
    let mut pipeline = pipeline(epoch);
    rooms.revive(&mut pipeline, at(0)).unwrap();
    write(&rooms, &pipeline.rooms()[0], 0);
    (store, rooms, pipeline)
}

fn write(rooms: &Rooms, room: &Room, ms: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let written = rooms.write(room, at(ms), Why::Answer).unwrap();
    runtime.block_on(written.commit.durable()).unwrap();
    room.reserve(written.reserved);
    room.announce(written.frontier);
}

/// The files as a kill leaves them: the database was not closed.
fn killed(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

#[test]
fn a_million_places_are_back_in_two_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, rooms, pipeline) = life(dir.path(), 7);
    let room = &pipeline.rooms()[0];
    let mut ms = 0;
    while room.stats(at(ms)).arrived < 1_000_000 {
        ms += 100;
        for _ in 0..20_000 {
            room.visit(&visit(&[]), Class::Human, at(ms));
        }
        write(&rooms, room, ms);
    }
    room.tick(at(ms + 100));
    // The next round of presence, then what a tick hands over.
    for tick in 1..200 {
        if let Some(written) = rooms.write(room, at(ms + 20_000 + tick * 100), Why::Tick) {
            drop(written);
        }
    }
    write(&rooms, room, ms + 41_000);
    let copy = killed(dir.path());
    let clock = Clock::new();
    let since = clock.now().mono_ms();
    let (_store, _rooms, pipeline) = life(copy.path(), 8);
    let took_ms = clock.now().mono_ms() - since;
    let (before, after) = (room.stats(at(ms)), pipeline.rooms()[0].stats(at(0)));
    println!("{} places back in {took_ms} ms", after.arrived);
    assert!(took_ms < 2_000, "{took_ms} ms");
    assert_eq!((pipeline.rooms()[0].epoch(), after.frontier, after.waiting), (7, before.frontier, before.waiting));
}

#[test]
fn a_claim_and_its_seat_come_back_together() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, rooms, pipeline) = life(dir.path(), 7);
    let room = &pipeline.rooms()[0];
    room.visit(&visit(&[]), Class::Human, at(100));
    room.tick(at(200));
    write(&rooms, room, 200);
    let ticket = room.ticket_token(Place { lane: Lane::Main, number: 0 }, "h", at(200));
    let tokens = std::slice::from_ref(&ticket);
    assert!(matches!(room.claim(&visit(tokens), at(300)), Claim::Pending(_)));
    let seat = room.tick(at(400))[0].seat.unwrap();
    assert!(matches!(room.claim(&visit(tokens), at(400)), Claim::Pending(_)), "not before it is durable");
    let before = killed(dir.path());
    write(&rooms, room, 400);
    let after = killed(dir.path());
    let (_store, _rooms, pipeline) = life(after.path(), 8);
    assert_eq!(pipeline.rooms()[0].claim(&visit(tokens), at(1_000)), Claim::Seated(seat));
    let (_store, _rooms, pipeline) = life(before.path(), 8);
    assert!(matches!(pipeline.rooms()[0].claim(&visit(tokens), at(1_000)), Claim::Pending(_)), "the claim was never answered");
}

#[test]
fn nothing_is_written_without_a_store_or_a_change() {
    let mut fresh = pipeline(7);
    Rooms::new(Arc::new(Memory)).revive(&mut fresh, at(0)).unwrap();
    assert!(!fresh.rooms()[0].keeps());
    let dir = tempfile::tempdir().unwrap();
    let (_store, rooms, pipeline) = life(dir.path(), 7);
    let room = &pipeline.rooms()[0];
    assert!(rooms.write(room, at(100), Why::Tick).is_none());
    room.visit(&visit(&[]), Class::Human, at(200));
    assert!(rooms.write(room, at(200), Why::Tick).is_some());
    assert!(rooms.write(room, at(300), Why::Tick).is_none());
}

#[test]
fn records_of_another_version_are_refused_not_guessed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, rooms, _) = life(dir.path(), 7);
    let mut batch = Batch::new();
    batch.put(Table { kind: SEATS, of: "drop" }, &[0, 0, 0, 1], *b"short");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(store.commit(batch).durable()).unwrap();
    let refused = rooms.revive(&mut pipeline(8), at(0)).unwrap_err().to_string();
    assert!(refused.contains("room `drop`"), "{refused}");
}

#[test]
fn kills_leave_as_many_places_as_there_were() {
    let mut dir = tempfile::tempdir().unwrap();
    for kill in 0..6u32 {
        let (_store, rooms, pipeline) = life(dir.path(), 7);
        let room = &pipeline.rooms()[0];
        let (verdict, _) = room.visit(&visit(&[]), Class::Human, at(1_500));
        let Verdict::Wait(w) = verdict else { panic!("{verdict:?}") };
        // What was reserved ahead may have been given out: a block a kill, and no rush.
        let number = w.place.expect("a place").number;
        assert_eq!(number, kill * 1_024);
        assert!(room.numbers_max() - number >= 2_000_000 - kill, "{kill}: numbers that nobody has take nobody's place");
        (2..=40).for_each(|n| write(&rooms, room, n * 1_000));
        dir = killed(dir.path());
    }
}
