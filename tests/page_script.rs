//! The scripts of the pages compute what the gate computes. Run by node.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tidegate_filters::seats::{
    draw::{digest::hex, rehearse::mix, work::Work},
    queue::Lane,
    room::Frame,
};

use crate::support::skip;

const WAITING: &str = include_str!("../gateway/src/pages/waiting.js");
const WORK: &str = include_str!("../gateway/src/pages/work.js");

/// Runs a program in node with `input` in the variable of that name; it prints JSON. `None`: there is no node.
fn node(program: &str, input: &Value) -> Option<Value> {
    let child = Command::new("node").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let Ok(mut child) = child else {
        skip("node", "node is not installed");
        return None;
    };
    write!(child.stdin.take().unwrap(), "const input={input};\n{program}").unwrap();
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}");
    Some(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
}

/// The text of one function of a script: up to the line that ends with its brace.
fn function<'s>(script: &'s str, head: &str) -> &'s str {
    let from = script.find(head).unwrap_or_else(|| panic!("there is no `{head}` in the script"));
    let end = script[from..].find("]}\n").unwrap() + 2;
    &script[from..from + end]
}

#[test]
fn a_page_computes_the_wait_that_the_gate_would_tell() {
    let number = |seed: u64, digits: u32, most: f64| {
        let share = (mix(seed) >> 11) as f64 / (1u64 << 53) as f64;
        // As the gate rounds what it sends.
        let scale = 10f64.powi(digits as i32);
        (share * most * scale).round() / scale
    };
    let mut frames: Vec<(Frame, u32)> = Vec::new();
    for seed in 0..4_000u64 {
        let rate = [0.05, 1.0, 40.0, 3_000.0][(seed % 4) as usize];
        let frame = Frame {
            room: "drop".into(),
            stage: "waiting",
            sale: None,
            frontier: [0, 0],
            rate: [number(seed, 4, rate), 0.0],
            present: number(seed ^ 1 << 40, 3, 1.0),
            spread: 0.1 + number(seed ^ 2 << 40, 3, 0.7),
            because: None,
            message: None,
            draw: None,
        };
        let ahead = mix(seed ^ 3 << 40) % [1, 10, 1_000, 2_000_000][(seed / 4 % 4) as usize];
        frames.push((frame, ahead as u32));
    }
    let input: Vec<Value> = frames.iter().map(|(frame, ahead)| json!([frame, ahead])).collect();
    let program = format!(
        "const c={{lane:0}};{}\nconsole.log(JSON.stringify(input.map(([f,n])=>wait(f,n))))",
        function(WAITING, "function wait(f,n)")
    );
    let Some(said) = node(&program, &json!(input)) else { return };
    let mut known = 0;
    for ((frame, ahead), said) in frames.iter().zip(said.as_array().unwrap()) {
        let told = frame.wait_s(Lane::Main, *ahead).map(|(low, high)| [low, high]);
        assert_eq!(*said, json!(told), "{ahead} ahead of {frame:?}");
        known += usize::from(told.is_some());
    }
    assert!(known > 3_000 && known < frames.len(), "{known}: both kinds were tried");
}

#[test]
fn a_page_does_the_work_that_the_gate_asks_for() {
    let tries: Vec<Work> = (0..12).map(|seed| Work::of(&[seed; 32], "sale", mix(u64::from(seed)), 6 + seed)).collect();
    let input: Vec<Value> =
        tries.iter().map(|w| json!({ "challenge": hex(&w.challenge), "bits": w.bits, "url": "/w", "left": 9 })).collect();
    let program = format!(
        "const answers=[];let todo=input.slice();const real=setTimeout;
        function next(){{const work=todo.shift();if(!work){{console.log(JSON.stringify(answers));process.exit(0)}}
        const element=()=>({{kids:[],appendChild(e){{this.kids.push(e)}},submit(){{answers.push(this.kids.find(k=>k.name==='answer').value);real(next,0)}}}});
        globalThis.document={{querySelector:()=>({{content:JSON.stringify({{room:'drop',work}})}}),createElement:element,body:{{appendChild(){{}}}}}};
        globalThis.location={{pathname:'/',search:'',reload(){{}}}};globalThis.sessionStorage={{}};
        globalThis.addEventListener=()=>{{}};globalThis.setTimeout=(f,ms)=>ms?0:real(f,0);
        run()}}
        function run(){{{WORK}}}
        next()"
    );
    let Some(said) = node(&program, &json!(input)) else { return };
    for (work, said) in tries.iter().zip(said.as_array().unwrap()) {
        let number = said.as_u64().unwrap();
        assert!(work.is_done(number), "{said} for {work:?}");
        assert_eq!(number, work.solve(), "the first that will do");
    }
}
