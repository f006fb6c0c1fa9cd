//! A state directory on a file system that is, or becomes, read-only, or that is removed: said at the start, survived while running.

use std::{path::Path, process::Command, time::Duration};

use tidegate_gateway::{
    gate::{Gate, GateOptions},
    store::Local,
};

use crate::{
    support::{Client, skip},
    trouble::{Small, Stage, eventually, one_inside_and_one_waiting, timed},
};

/// `false` while somebody has a file open for writing there.
fn remount(path: &Path, how: &str) -> bool {
    Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(path).output().is_ok_and(|o| o.status.success())
}

#[test]
fn a_read_only_file_system_is_said_at_the_start() {
    let Some(disk) = Small::mount("4m") else { return skip("mount", "a small file system cannot be mounted here") };
    let state = disk.path().join("state");
    drop(Local::open(&state, Duration::from_secs(5)).unwrap());
    assert!(remount(disk.path(), "ro"));
    let stage = Stage::new("closed", "");
    for directory in [state.clone(), disk.path().join("not-there-yet")] {
        let loaded = tidegate_config::parse(&stage.text(&directory), "policy.yaml").unwrap_or_else(|e| panic!("{e}"));
        let refused = Gate::start(GateOptions::new(loaded)).map(drop).unwrap_err().to_string();
        assert!(refused.to_lowercase().contains("read-only") && refused.contains("must be able to"), "{refused}");
    }
    assert!(remount(disk.path(), "rw"));
    let loaded = tidegate_config::parse(&stage.text(&state), "policy.yaml").unwrap_or_else(|e| panic!("{e}"));
    Gate::start(GateOptions::new(loaded)).unwrap_or_else(|e| panic!("{e}")).stop().unwrap();
}

#[test]
fn a_file_system_that_becomes_read_only_is_survived_and_mends_itself() {
    let Some(disk) = Small::mount("2m") else { return skip("mount", "a small file system cannot be mounted here") };
    let stage = Stage::new("closed", "");
    let state = disk.path().join("state");
    let loaded = tidegate_config::parse(&stage.text(&state), "policy.yaml").unwrap_or_else(|e| panic!("{e}"));
    let gate = Gate::start(GateOptions::new(loaded)).unwrap_or_else(|e| panic!("{e}"));
    let address = gate.addresses()[0];
    let (mut inside, mut waiting, place) = one_inside_and_one_waiting(&gate);
    // Nothing can be mounted read-only while a file is open for writing, so the disk is full first: then the gate lets go.
    disk.run_out(&gate);
    eventually("it is read-only", || remount(disk.path(), "ro"));
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(1_100));
        assert_eq!(timed("a page inside", || inside.get("/page")).status, 200, "those inside stay");
        let newcomer = timed("a newcomer", || Client::app(address).get("/"));
        assert_eq!(newcomer.header("tidegate-reason"), Some("ROOM_DOWN"), "{newcomer:?}");
        assert_eq!(waiting.get("/").json()["place"], place, "places are kept");
    }
    assert!(gate.control().shared.store.trouble().is_some());
    assert!(remount(disk.path(), "rw"));
    disk.empty();
    eventually("the room is open again", || Client::app(address).get("/").json()["place"].is_number());
    waiting.wait_and_claim("drop").unwrap();
    gate.stop().unwrap();
}

#[test]
fn a_state_directory_that_is_removed_is_noticed_and_used_again_when_it_is_back() {
    let stage = Stage::new("closed", "");
    let top = tempfile::tempdir().unwrap();
    let (state, aside) = (top.path().join("state"), top.path().join("aside"));
    let start = || {
        let loaded = tidegate_config::parse(&stage.text(&state), "policy.yaml").unwrap_or_else(|e| panic!("{e}"));
        Gate::start(GateOptions::new(loaded)).unwrap_or_else(|e| panic!("{e}"))
    };
    let gate = start();
    let address = gate.addresses()[0];
    let (mut inside, mut waiting, place) = one_inside_and_one_waiting(&gate);
    let newcomer = || timed("a newcomer", || Client::app(address).get("/"));
    std::fs::rename(&state, &aside).unwrap();
    eventually("the room is closed", || newcomer().header("tidegate-reason") == Some("ROOM_DOWN"));
    let trouble = gate.control().shared.store.trouble().unwrap_or_default();
    assert!(trouble.contains("put it back, or restart the gate"), "{trouble}");
    assert_eq!(timed("a page inside", || inside.get("/page")).status, 200, "those inside stay");
    assert_eq!(waiting.get("/").json()["place"], place, "places are kept");
    std::fs::rename(&aside, &state).unwrap();
    eventually("the room is open again", || newcomer().json()["place"].is_number());
    gate.stop().unwrap();

    let gate = start();
    let address = gate.addresses()[0];
    (inside.address, waiting.address) = (address, address);
    assert_eq!(inside.get("/page").body, "hello   5", "nothing is lost by that");
    assert_eq!(waiting.get("/").json()["place"], place);
    std::fs::remove_dir_all(&state).unwrap();
    eventually("closed for good", || Client::app(address).get("/").header("tidegate-reason") == Some("ROOM_DOWN"));
    gate.stop().unwrap();
    let gate = start();
    waiting.address = gate.addresses()[0];
    assert_eq!(waiting.get("/").json()["restarted"], true, "a new life, and it says so");
    gate.stop().unwrap();
}
