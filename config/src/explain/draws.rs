//! Draws in plain words.

use std::fmt::Write as _;

use tidegate_filters::seats::{
    draw::beacon::BeaconSettings,
    room::{Order, RoomSettings, VisitorKey, VisitorSettings},
};

/// The gate never asks the shop.
const UNPROVEN: &str =
    ": the client sends that value and the gate cannot ask the shop whether it is a login, so another value is another entry.";

/// Who stands before whom, as the end of a sentence.
pub(super) fn order(r: &RoomSettings) -> &'static str {
    match r.order {
        Order::Fifo => ", first come, first served. ",
        Order::DrawThenFifo => ", in a sale in the order of its draw, and behind the drawn first come, first served. ",
        Order::DrawEvery(_) => ", in a sale in the order of its draws, else first come, first served. ",
    }
}

/// How places are drawn; nothing where they are not.
pub(super) fn drawn(r: &RoomSettings) -> String {
    let mut s = match r.order {
        Order::Fifo => return String::new(),
        Order::DrawThenFifo => format!(
            " Who comes in the pre-queue enters a draw; entries stop {} before the opening, later visitors follow in the order they come.",
            r.freeze_before
        ),
        Order::DrawEvery(window) => {
            format!(" During a sale the arrivals of each {window} are drawn, so milliseconds never decide.")
        }
    };
    let w = &r.weights;
    let _ = write!(
        s,
        " Balls in the drum: {} for a person, {} unsure, {} above the quota of a network, {} suspect.",
        w.human, w.unsure, w.crowded, w.suspect
    );
    if let Some(n) = w.unrendered {
        let _ = write!(
            s,
            " An entry whose browser did not load the style of the waiting page has {n}: programs that only read pages do not, nor do \
             apps that enter by JSON."
        );
    }
    match &r.visitor.key {
        Some(VisitorKey::Cookie(name)) => {
            let _ = write!(s, " One entry per value of the cookie {name}{UNPROVEN}");
        }
        Some(VisitorKey::Header(name)) => {
            let _ = write!(s, " One entry per value of the header {name}{UNPROVEN}");
        }
        None => s.push_str(" One entry per visitor cookie of the gate: that does not stop somebody with many browsers."),
    }
    s.push_str(&quotas(&r.visitor));
    match &r.beacon {
        BeaconSettings::None => {
            s.push_str(" Without public randomness the operator could choose the outcome, and everybody is told so.")
        }
        BeaconSettings::Rounds(b) => {
            let _ = write!(
                s,
                " Public randomness: the first round of {} at least {} after the freeze; without it nobody is let in.",
                b.source, b.delay
            );
        }
    }
    s
}

/// From when on an entry weighs less and takes work.
fn quotas(v: &VisitorSettings) -> String {
    let of_network = v.entries_per_network.map(|n| format!("{n} entries of one network"));
    let alike = v.entries_per_fingerprint.map(|n| format!("{n} of one network that look alike"));
    let quotas: Vec<String> = of_network.into_iter().chain(alike).collect();
    let work = match v.work_bits {
        0 => "",
        _ => ", and its device has to work some seconds for it",
    };
    if quotas.is_empty() {
        return " No quota is set: nothing bounds how many entries one person has.".into();
    }
    let crowd = match v.crowd_times_in_force() {
        0 => String::new(),
        n => format!(" A network with more than {n} times as many is one crowd: the first of it weigh no more than the last."),
    };
    format!(
        " What bounds many entries of one person: above {} a further one weighs as above the quota{work}.{crowd} That makes them dear, not impossible; nobody is refused.",
        quotas.join(", or ")
    )
}
