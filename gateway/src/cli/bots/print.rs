//! The same for people.

use serde::Serialize;
use tidegate_models::tune::{Act, Candidate, Compared, Counts, Curve, Example, Explained, GateAt, Gates, Labels, Point, WhatIf};

use super::{Outcome, Read, say};

/// Width of a bar of a plot, characters.
const BAR: usize = 40;

/// As far as runtimes and devices may be apart.
const LAST_DIGITS: f32 = 1e-4;

pub(super) fn json(value: &impl Serialize) -> Outcome {
    say(&serde_json::to_string_pretty(value).unwrap_or_default())
}

pub(super) fn explained(e: &Explained) -> String {
    let at = i64::try_from(e.at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let at = at.map_or_else(String::new, |t| format!("{t:.3}"));
    let score = e.score.map_or("none".to_owned(), |p| format!("{p:.4} ({})", class(e.class)));
    let mut text = format!(
        "{}  {at}\n{} {}\nvisitor {}, policy {}\n\nverdict  {} {}{}\nscore    {score} by model {}\n",
        e.reference,
        e.method,
        e.path,
        e.visitor,
        e.policy,
        e.verdict,
        e.reason,
        if e.filter.is_empty() { String::new() } else { format!(" by {}", e.filter) },
        if e.model.is_empty() { "(none)" } else { &e.model },
    );
    if !e.facts.is_empty() {
        text += &format!("facts    {}\n", e.facts);
    }
    text += &match (e.again, e.same) {
        (Some(_), true) => "again    the same, to the bit\n".to_owned(),
        (Some(p), false) if e.score.is_some_and(|s| (s - p).abs() <= LAST_DIGITS) => {
            format!("again    {p}: the same but for the last digits; another runtime, or a device, computes them otherwise\n")
        }
        (Some(p), false) => format!("again    {p}: NOT the same, and by more than runtimes and devices differ\n"),
        (None, _) if e.score.is_none() => String::new(),
        (None, _) => "again    not possible: this is not the model of then; give that one with --model\n".to_owned(),
    };
    for r in &e.reasons {
        text += &format!("\n{:<22} {:+.2} nats  {}\n", r.code, r.nats, r.sentence);
        for (name, value, usual) in &r.features {
            text += &format!("    {name:<34} {value:>8.3}   usual for people {usual:.3}\n");
        }
    }
    text
}

fn class(name: &str) -> &str {
    if name.is_empty() { "not classed" } else { name }
}

/// What `bots what-if --json` answers. A visitor whose strongest action stays the same may lose its place all the same.
#[derive(Serialize)]
pub(super) struct WhatIfTold<'a> {
    pub(super) thresholds: &'a Gates,
    pub(super) read: &'a Read,
    pub(super) what_if: &'a WhatIf,
    pub(super) counted: Counted,
}

/// What its numbers count, for who has the JSON alone.
#[derive(Serialize)]
pub(super) struct Counted {
    visitors: &'static str,
    front_places: &'static str,
}

pub(super) const COUNTED: Counted = Counted {
    visitors: "was, would, worse, milder: each visitor once, by the strongest action of all its visits",
    front_places: "places in the front lane, and those whose holder would be sent to the back or refused at any visit",
};

pub(super) fn what_if(gates: &Gates, read: &Read, w: &WhatIf) -> String {
    let mut text = format!(
        "{} visitors, {} scored visits ({} without a score{})\n",
        w.visitors,
        read.scored,
        read.unscored,
        if read.over > 0 { format!(", {} of visitors too many to judge", read.over) } else { String::new() },
    );
    gates.each().iter().for_each(|g| text += &format!("with: {}\n", gate(g)));
    text.push('\n');
    text += "                 was      would be\n";
    let all = |c: &Counts| [c.nothing, c.challenge, c.slow_lane, c.throttle, c.refuse];
    let acts = [Act::Nothing, Act::Challenge, Act::SlowLane, Act::Throttle, Act::Refuse].map(act);
    for (name, (was, would)) in acts.into_iter().zip(all(&w.was).into_iter().zip(all(&w.would))) {
        text += &format!("{name:<12} {was:>8}      {would:>8}\n");
    }
    text += &format!(
        "\nworse for {} visitors ({} of them bought {} units), milder for {}; each by the strongest of all its visits\n",
        w.worse, w.worse_buyers[0], w.worse_buyers[1], w.milder
    );
    let [front, moved] = w.front_places;
    if front > 0 {
        text += &format!(
            "of {front} places in the front lane {moved} would be gone, by any visit of their holders: who stays waits up to {:.0} % shorter\n",
            100.0 * moved as f64 / front as f64
        );
    }
    text += "\ngroup                   visitors   touched      share (95 %)\n";
    for s in &w.slices {
        let [share, low, high] = s.share.map(|v| v * 100.0);
        text += &format!("{:<22} {:>9} {:>9}    {share:>5.1} % ({low:.1} to {high:.1})\n", s.name, s.visitors, s.touched);
    }
    examples(&mut text, &w.examples);
    text
}

fn gate(g: &GateAt) -> String {
    let at = |name, v: Option<f32>| v.map(|v| format!("{name} from {v}"));
    let throttle = format!("{} for who comes more often than {}", act(Act::Throttle), g.at.throttle_to);
    let all = [
        at(act(Act::Challenge), g.at.challenge_at),
        at(act(Act::SlowLane), g.at.to_the_back_at),
        at(&throttle, g.at.throttle_at),
        at(act(Act::Refuse), g.at.refuse_at),
    ];
    let routes = if g.routes.is_empty() { String::new() } else { format!(" on {}", g.routes.join(", ")) };
    format!("{}{routes}", all.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn act(act: Act) -> &'static str {
    match act {
        Act::Nothing => "nothing",
        Act::Challenge => "challenge",
        Act::SlowLane => "slow lane",
        Act::Throttle => "throttled",
        Act::Refuse => "refused",
    }
}

pub(super) fn curve(c: &Curve) -> String {
    let f = &c.figures;
    let mut text = format!(
        "{} people and {} programs with labels ({} labels are of nobody in this journal)\n\
         AUC {:.3}, average precision {:.3}, recall at 1 % of people {:.3}\n\n\
         from    people hurt (95 %)       programs passed (95 %)    # people hurt   - programs passed\n",
        c.people, c.programs, c.unknown, f.auc, f.average_precision, f.recall_at_1pct_fpr
    );
    for p in c.points.iter().filter(|p| is_told(p)) {
        text += &point(p);
    }
    text
}

pub(super) fn compared(c: &Compared) -> String {
    let mut text = format!(
        "{} visits, {} visitors that are not labelled as programs\nworse for {} ({} of them bought something): {}, milder for {} of all\n",
        c.visits,
        c.visitors,
        c.worse,
        c.worse_buyers,
        shares(c.worse_share).trim_start(),
        c.milder
    );
    if let Some([live, candidate]) = c.auc {
        let [people, programs] = c.labelled;
        text += &format!(
            "AUC by the labels of {people} people and {programs} programs: {candidate:.3}, of the live model {live:.3}\n"
        );
    }
    if let Some(f) = c.fairness.as_ref().filter(|f| f.slices.iter().any(|s| s.judged)) {
        text += &format!("labelled people touched: {}, worst group {:.2} times that\n", shares(f.above).trim_start(), f.worst);
    }
    c.notes.iter().for_each(|n| text += &format!("note: {n}\n"));
    examples(&mut text, &c.examples);
    text
}

fn examples(text: &mut String, all: &[Example]) {
    if !all.is_empty() {
        *text += "\nworse for, for example:\n";
    }
    for e in all {
        let bought = if e.sold > 0 { format!(", bought {}", e.sold) } else { String::new() };
        *text += &format!("{}  {:.3}  {} -> {}{bought}  {}\n", e.reference, e.score, act(e.was), act(e.would), e.reasons);
    }
}

/// Every fifth threshold, and the high ones.
pub(super) fn is_told(p: &Point) -> bool {
    ((p.at * 100.0).round() as u32).is_multiple_of(5) || p.at >= 0.9
}

pub(super) fn shares([v, low, high]: [f64; 3]) -> String {
    format!("{:>5.1} % ({:>4.1} to {:>5.1})", v * 100.0, low * 100.0, high * 100.0)
}

fn point(p: &Point) -> String {
    let bar = |share: f64, c: &str| c.repeat((share * BAR as f64).round() as usize);
    format!(
        "{:.2}   {}   {}    {}{}\n",
        p.at,
        shares(p.people_hurt),
        shares(p.programs_passed),
        bar(p.people_hurt[0], "#"),
        bar(p.programs_passed[0], "-"),
    )
}

pub(super) fn queue(all: &[Candidate], labels: &Labels) -> String {
    let mut text = format!("{} labels so far; worth a look:\n\nvisitor           score   visits  bought  why\n", labels.len());
    for c in all {
        let reasons = if c.reasons.is_empty() { String::new() } else { format!(": {}", c.reasons) };
        text += &format!("{}  {:.3}  {:>6}  {:>6}  {}{reasons}\n", c.visitor, c.score, c.visits, c.sold, c.why);
        text += &format!("    tidegate bots explain {} --from …\n", c.reference);
    }
    text + "\nthen: tidegate bots label --labels FILE --set VISITOR=person (or =program)\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_digits_are_not_another_score() {
        let said = |again: Option<f32>| {
            let e = Explained {
                reference: "7K3M-2PQ7-XW0A".into(),
                at_ms: 0,
                visitor: "00".into(),
                method: "GET".into(),
                path: "/".into(),
                verdict: "refuse",
                reason: "SCORE_REFUSE",
                filter: String::new(),
                facts: String::new(),
                class: "suspect",
                score: Some(0.9),
                model: "ab".into(),
                policy: "cd".into(),
                again,
                same: again == Some(0.9),
                reasons: vec![],
            };
            explained(&e).lines().find_map(|l| l.strip_prefix("again    ").map(str::to_owned)).unwrap_or_default()
        };
        assert_eq!(said(Some(0.9)), "the same, to the bit");
        assert!(said(Some(0.9 + 4e-7)).contains("the same but for the last digits"), "{}", said(Some(0.9 + 4e-7)));
        assert!(said(Some(0.91)).starts_with("0.91: NOT the same"), "{}", said(Some(0.91)));
        assert!(said(None).starts_with("not possible"));
    }
}
