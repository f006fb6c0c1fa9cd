//! `bots label --facts`: what the gate knew for sure becomes labels.

use std::{collections::BTreeMap, path::Path};

use tidegate_models::tune::Label;

use super::{change, each_row, files};
use crate::cli::{Outcome, say};

/// Most visitors labelled at once.
const VISITORS_MAX: usize = 1_000_000;

pub(super) fn label(file: &Path, from: &Path) -> Outcome {
    let mut found: BTreeMap<u64, String> = BTreeMap::new();
    for journal in files(from)? {
        each_row(&journal, |row| {
            let family = row.facts.split(',').find_map(family);
            if let Some(family) = family.filter(|_| row.visitor != 0 && found.len() < VISITORS_MAX) {
                found.entry(row.visitor).or_insert_with(|| family.to_owned());
            }
        });
    }
    let mut new = 0;
    let labels = change(file, |labels| {
        for (visitor, family) in &found {
            if labels.get(*visitor).is_none() {
                labels.set_with(*visitor, Label::Program, "known for sure", family);
                new += 1;
            }
        }
    })?;
    say(&format!("{}: {} labels; {new} of {} visitors known for sure are new", file.display(), labels.len(), found.len()))
}

/// The family of programs that a fact of the journal speaks of. Who is only taken for a visitor of a honeypot (`trapped`) is
/// no label.
fn family(fact: &str) -> Option<&str> {
    match fact.split_once('=') {
        None => (fact == "honeypot").then_some(fact),
        Some(("good_bot", name)) => Some(name),
        Some(("false_crawler", _)) => Some("false crawler"),
        Some(_) => None,
    }
}
