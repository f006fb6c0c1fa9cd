//! The part of the report about fairness: the draw's proof, places against arrival, who holds the first places, and what
//! became of the times that were shown.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{ReportError, escape, figure, plots};
use crate::{
    demo::{DrawProof, RunResult},
    fairness::{Fairness, Share},
};

/// The section; empty when there was no room.
pub(super) fn section(run: &RunResult) -> Result<String, ReportError> {
    let Some(f) = &run.fairness else { return Ok(String::new()) };
    let mut out = String::from("<h2>Who got which place</h2>");
    if let Some(draw) = &run.draw {
        out += &proof(draw);
    }
    out += &figure(plots::places(f)?, &places_alt(f));
    out += &shares(&format!("Holders of the first {} places, by what they are", f.top), "who", &f.by_kind);
    out += &shares("The same by the class that the gate gave them before the list was frozen", "class", &f.by_class);
    out += &shares("The same by network", "network", &f.by_network);
    out += &promises(f);
    Ok(out)
}

fn proof(draw: &DrawProof) -> String {
    let classes: Vec<String> = draw.by_class.iter().map(|(k, n)| format!("{} {n}", escape(k))).collect();
    let facts = format!(
        "{} entries ({}), root <code>{}</code>, round {} of the beacon.",
        draw.entries,
        classes.join(", "),
        escape(&draw.root),
        draw.round
    );
    if draw.holds {
        let place = draw.receipt_place.map_or_else(String::new, |p| format!(" A receipt kept from before drew place {}.", p + 1));
        return format!(
            "<p class=\"kept\">The draw holds. A stranger noted the promise before the first entry, fetched the transcript afterwards \
             and ran <code>tidegate draw verify</code>: promise, list, root, public randomness and every place were recomputed. \
             {facts}{place}</p>"
        );
    }
    let faults: String = draw.faults.iter().map(|f| format!("<li>{}</li>", escape(f))).collect();
    format!("<div class=\"broken\"><p>The draw does not hold: {facts}</p><ul>{faults}</ul></div>")
}

fn places_alt(f: &Fairness) -> String {
    let decided = match f.correlation {
        Some(c) => format!(
            "The rank correlation of arrival and place is {c:.2}: 1 would be the order of arrival, 0 means that it decided nothing."
        ),
        None => "Too few came to say whether arrival decided anything.".into(),
    };
    let late = f.points.len() - f.drawn;
    format!(
        "Places against arrival: {} were in the drum, {late} came later and follow in the order they came. {decided}",
        f.drawn
    )
}

fn shares(caption: &str, what: &str, by: &BTreeMap<String, Share>) -> String {
    let (all, top) = by.values().fold((0, 0), |(a, t), s| (a + s.all, t + s.top));
    let percent = |n: u64, of: u64| 100.0 * n as f64 / of.max(1) as f64;
    let mut body = String::new();
    for (name, s) in by {
        let _ = write!(
            body,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{:.1} %</td><td>{}</td><td>{:.1} %</td></tr>",
            escape(&name.replace('_', " ")),
            s.all,
            percent(s.all, all),
            s.top,
            percent(s.top, top)
        );
    }
    format!(
        "<table><caption>{}</caption><thead><tr><th scope=\"col\">{what}</th><th scope=\"col\">all places</th>\
         <th scope=\"col\">share</th><th scope=\"col\">first places</th><th scope=\"col\">share</th></tr></thead>\
         <tbody>{body}</tbody></table>",
        escape(caption)
    )
}

fn promises(f: &Fairness) -> String {
    let percent = |s: Option<f64>| s.map_or_else(|| "–".to_owned(), |s| format!("{:.0} %", 100.0 * s));
    format!(
        "<p>Shown times: a waiting page shows from when to when the turn is to be expected (P10 to P90, so four in five are right if \
         it is honest). Of {} people who were shown one and whose turn came, {} had it within the first interval they were shown, \
         and {} within the last one before it. Turn: the first answer that says so.</p>",
        f.promises,
        percent(f.kept_share()),
        percent(f.kept_last_share())
    )
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fairness::Point;

    pub(in crate::report) fn fairness() -> Fairness {
        let point = |arrival: u32| Point {
            arrival,
            place: u64::from(arrival * 7 % 10),
            person: arrival.is_multiple_of(2),
            drawn: arrival < 8,
        };
        let one = |name: &str| BTreeMap::from([(name.to_owned(), Share { all: 10, top: 5 })]);
        Fairness {
            points: (0..10).map(point).collect(),
            correlation: Some(0.03),
            drawn: 8,
            top: 5,
            by_kind: one("plain_script"),
            by_network: one("198.18.0.0/24"),
            by_class: one("human"),
            promises: 4,
            kept_first: 3,
            kept_last: 4,
        }
    }

    pub(in crate::report) fn proof() -> DrawProof {
        DrawProof {
            holds: true,
            entries: 9,
            places: 8,
            root: "ab".into(),
            round: 7,
            receipt_place: Some(3),
            ..DrawProof::default()
        }
    }

    #[test]
    fn the_section_says_what_was_found() {
        let run = |draw: Option<DrawProof>| RunResult {
            name: "with Tidegate".into(),
            summary: Default::default(),
            shop: Default::default(),
            load: Default::default(),
            judged: Default::default(),
            fairness: Some(fairness()),
            draw,
        };
        let page = section(&run(Some(super::tests::proof()))).unwrap();
        assert!(
            page.contains("The draw holds.")
                && page.contains("drew place 4")
                && page.contains("correlation of arrival and place is 0.03")
        );
        assert!(
            page.contains("plain script") && page.contains("198.18.0.0/24") && page.contains("75 %") && page.contains("100 %")
        );
        let broken = DrawProof { faults: vec!["place 3 <b>".into()], ..DrawProof::default() };
        let page = section(&run(Some(broken))).unwrap();
        assert!(page.contains("does not hold") && page.contains("place 3 &lt;b&gt;") && !page.contains("The draw holds"));
        assert_eq!(section(&RunResult { fairness: None, ..run(None) }).unwrap(), "");
    }
}
