//! `kill -9` while people enter a draw: no entry that was answered is lost, moved or given twice.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tidegate_filters::seats::draw::rehearse::mix;

use crate::{
    draw_live::{ahead, policy, receipt, save, until},
    program::{run, text, tidegate},
    support::{Client, Shop, gate},
};

/// Kills in the suite; ten times as many when `TIDEGATE_SEEDS` asks for a long run.
const KILLS: u64 = 4;

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn serve(file: &Path, address: SocketAddr) -> Child {
    let mut command = tidegate();
    command.args(["serve", "--policy", &file.display().to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let start = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(start.elapsed() < Duration::from_secs(30), "the gate does not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// Enters, over a connection that may break at any moment; the receipt when one came.
fn try_to_enter(address: SocketAddr, name: &str) -> Option<String> {
    let name = name.to_owned();
    std::panic::catch_unwind(move || {
        let mut client = Client::app(address);
        client.cookies.insert("login".into(), name);
        client.get("/");
        let answer = receipt(&mut client);
        (answer.status == 200 && answer.body.ends_with('}')).then_some(answer.body)
    })
    .ok()
    .flatten()
}

#[test]
fn a_killed_gate_keeps_every_entry_it_answered() {
    let (shop, dir, address) = (Shop::start(), TempDir::new().unwrap(), free_port());
    let here = |text: &str| text.replace("{shop}", &shop.address.to_string()).replace("{dir}", &dir.path().display().to_string());
    let text_of = here(&policy("draw_then_fifo", "none")).replacen("127.0.0.1:0", &address.to_string(), 1);
    let file = dir.path().join("live.yaml");
    std::fs::write(&file, &text_of).unwrap();
    let answered: Mutex<BTreeMap<String, String>> = Mutex::default();
    let kills = if std::env::var_os("TIDEGATE_SEEDS").is_some() { 10 * KILLS } else { KILLS };
    // What a broken connection says in its panic is of no interest.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    for round in 0..kills {
        let mut child = serve(&file, address);
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            for worker in 0..3 {
                let (stop, answered) = (&stop, &answered);
                s.spawn(move || {
                    for n in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        // People come again in later rounds: what they were given must still be so.
                        let name = format!("person-{worker}-{}", n % 200);
                        let Some(got) = try_to_enter(address, &name) else { continue };
                        let before = answered.lock().unwrap().insert(name.clone(), got.clone());
                        if before.as_ref().is_some_and(|b| *b != got) {
                            answered.lock().unwrap().insert("wrong".into(), format!("{name}: {before:?} became {got}"));
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(300 + mix(round) % 700));
            child.kill().unwrap();
            child.wait().unwrap();
            stop.store(true, Ordering::Relaxed);
        });
    }
    std::panic::set_hook(hook);
    let answered = answered.into_inner().unwrap();
    assert_eq!(answered.get("wrong"), None);
    assert!(answered.len() > 20, "only {} people got in", answered.len());

    let last = gate(&text_of.replacen(&address.to_string(), "127.0.0.1:0", 1), shop.address, dir.path());
    until(&last, "open", "");
    ahead(&last, 545);
    let drawn = until(&last, "drawn", "");
    let transcript = save(&last, dir.path(), &drawn);
    let mut args = vec!["draw".to_owned(), "verify".into(), transcript];
    for (name, receipt) in &answered {
        let file = dir.path().join(name);
        std::fs::write(&file, receipt).unwrap();
        args.extend(["--receipt".to_owned(), file.display().to_string()]);
    }
    let out = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(out.status.success(), "{}", text(&out));
    let listed = text(&out).lines().filter(|l| l.contains("is in the list, place")).count();
    assert_eq!(listed, answered.len(), "every receipt that was answered has its entry and its place");
    last.stop().unwrap();
}
