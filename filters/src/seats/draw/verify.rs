//! Draws again from a transcript and says in words what does not hold.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::{
    beacon::{BeaconCheck, BeaconRound, Schedule},
    commit::{canonical_json, commitment, earlier_by, rules_hash},
    digest::{Hash, hex},
    drum::{Drum, places, seed},
    entries::Listed,
    entry::{Entry, Leaves},
    rules::BeaconRule,
    statement::{Frozen, RECEIPT_LABEL, Receipt, is_signed},
    transcript::Transcript,
    tree::{Tree, root_of_path},
    weights::WEIGHT_MAX,
};

/// Longest chain of windows that is followed: a window a second for four months.
pub const WINDOWS_MAX: u64 = 10_000_000;

/// What does not hold, and what it means.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    /// A format we do not know.
    #[error("transcript: version {0} is not 1; a newer tidegate may know it")]
    Version(u32),
    /// Two spellings of one set of rules.
    #[error("rules: rules_json is not canonical JSON (RFC 8785), so its hash says nothing")]
    RulesNotCanonical,
    /// The rules are not those that were hashed.
    #[error("rules: rules_json was changed: its hash is {found}, the transcript's `rules` say {said}")]
    RulesChanged {
        /// Computed.
        found: String,
        /// Written.
        said: String,
    },
    /// The commitment does not open.
    #[error(
        "commitment: the secret and the rules do not open it (they give {found}, promised was {said}): the secret was substituted, or the rules together with their hash"
    )]
    Commitment {
        /// Computed.
        found: String,
        /// Written.
        said: String,
    },
    /// What was published before the sale is something else.
    #[error("{what}: the transcript says {found}, published before the sale was {said}")]
    NotAsPublished {
        /// Commitment or public key.
        what: &'static str,
        /// In the transcript.
        found: String,
        /// Given by whoever verifies.
        said: String,
    },
    /// A number of entries that is not the file's.
    #[error("entries: the file has {found}, frozen were {said}: entries were added or removed")]
    Count {
        /// In the file.
        found: u64,
        /// In the transcript.
        said: u64,
    },
    /// A weight that no class has.
    #[error("entry {index}: weight {weight} is not in the rules' table: the weight was substituted")]
    Weight {
        /// Which.
        index: usize,
        /// As found.
        weight: u8,
    },
    /// The list is not the frozen one.
    #[error("entries: they give the root {found}, frozen was {said}: an entry or a weight was substituted after the freeze")]
    Root {
        /// Computed.
        found: String,
        /// Written.
        said: String,
    },
    /// The frozen statement is not the gate's.
    #[error(
        "frozen list: not signed by the gate's key: n, root, frozen_at, beacon source or round were substituted after the freeze"
    )]
    FrozenSignature,
    /// The beacon is not the rules'.
    #[error("beacon: {0}")]
    Beacon(String),
    /// The seed does not follow.
    #[error("seed: secret, root and beacon value give {found}, the transcript says {said}: the seed was substituted")]
    Seed {
        /// Computed.
        found: String,
        /// Written.
        said: String,
    },
    /// A place that was not drawn.
    #[error(
        "entry {index}: the file gives place {said}, the draw gives {drawn}: the place was substituted ({others} more like it)"
    )]
    Place {
        /// The first one.
        index: usize,
        /// In the file.
        said: String,
        /// Computed.
        drawn: String,
        /// How many more.
        others: usize,
    },
    /// An amendment that the gate did not sign.
    #[error("amendment {0}: not signed by the gate's key")]
    Amendment(usize),
    /// A label of another protocol.
    #[error("transcript: receipts are signed under `{0}`, which is not this protocol's label")]
    Label(String),
    /// A receipt that is not in the list.
    #[error("receipt: {0}")]
    Receipt(String),
}

/// What whoever verifies knows from before the sale.
#[derive(Clone, Copy, Debug, Default)]
pub struct Published {
    /// The commitment.
    pub commitment: Option<Hash>,
    /// The gate's key.
    pub public_key: Option<[u8; 32]>,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// All that does not hold; empty when the draw is right.
    pub faults: Vec<Fault>,
    /// Why the randomness is not proven to be public; `None` when it is.
    pub unproven: Option<String>,
    /// The sale has no beacon, so its outcome could have been chosen.
    pub without_beacon: bool,
    /// The place each index drew.
    pub places: Vec<Option<u32>>,
}

/// Recomputes everything. `check` looks at the beacon's own signature.
pub fn verify(t: &Transcript, listed: &Listed, published: Published, check: &dyn Fn(&BeaconRound) -> BeaconCheck) -> Report {
    let mut faults = Vec::new();
    promised(t, published, &mut faults);
    listed_as_frozen(t, listed, &mut faults);
    let unproven = beacon(t, check, &mut faults);
    let id = t.draw_id();
    let value: &[u8] = t.beacon.as_ref().map_or(&[], |b| &b.value);
    let drawn_from = seed(&t.secret, &t.root, &id, &t.commitment, t.n, value);
    if drawn_from != t.seed {
        faults.push(Fault::Seed { found: hex(&drawn_from), said: hex(&t.seed) });
    }
    let places = places(&Drum::new(&drawn_from).order(&listed.entries), listed.entries.len());
    let mut wrong = (0..).zip(listed.places.iter().zip(&places)).filter(|(_, (said, drawn))| said != drawn);
    if let Some((index, (said, drawn))) = wrong.next() {
        let text = |p: &Option<u32>| p.map_or_else(|| "none".into(), |p| p.to_string());
        faults.push(Fault::Place { index, said: text(said), drawn: text(drawn), others: wrong.count() });
    }
    Report { faults, unproven, without_beacon: t.beacon.is_none(), places }
}

fn promised(t: &Transcript, published: Published, faults: &mut Vec<Fault>) {
    if t.version != 1 {
        faults.push(Fault::Version(t.version));
    }
    if t.receipt_signature_label != RECEIPT_LABEL {
        faults.push(Fault::Label(t.receipt_signature_label.clone()));
    }
    let canonical = serde_json::from_str::<Value>(&t.rules_json).ok().and_then(|v| canonical_json(&v).ok());
    if canonical.as_ref() != Some(&t.rules_json) {
        faults.push(Fault::RulesNotCanonical);
    }
    let rules = rules_hash(&t.rules_json);
    if rules != t.rules {
        faults.push(Fault::RulesChanged { found: hex(&rules), said: hex(&t.rules) });
    }
    let windows = t.window.unwrap_or(0).min(WINDOWS_MAX);
    let opens = commitment(&t.sale_id, &t.rules, &earlier_by(&t.secret, windows));
    if opens != t.commitment {
        faults.push(Fault::Commitment { found: hex(&opens), said: hex(&t.commitment) });
    }
    let mut as_published = |what, found: &Hash, said: Option<Hash>| {
        if let Some(said) = said.filter(|s| s != found) {
            faults.push(Fault::NotAsPublished { what, found: hex(found), said: hex(&said) });
        }
    };
    as_published("commitment", &t.commitment, published.commitment);
    as_published("public key", &t.public_key, published.public_key);
    let unsigned = |(_, a): &(usize, &super::transcript::Amendment)| !a.is_signed(&t.public_key, &t.sale_id, &t.commitment);
    faults.extend(t.amendments.iter().enumerate().filter(unsigned).map(|(i, _)| Fault::Amendment(i)));
}

fn listed_as_frozen(t: &Transcript, listed: &Listed, faults: &mut Vec<Fault>) {
    let (n, id) = (listed.entries.len() as u64, t.draw_id());
    if n != t.n {
        faults.push(Fault::Count { found: n, said: t.n });
    }
    if let Some((index, weight)) = strange_weight(&t.rules_json, &listed.entries) {
        faults.push(Fault::Weight { index, weight });
    }
    let root = Tree::new(Leaves::new(&id).all(&listed.entries)).root();
    if root != t.root {
        faults.push(Fault::Root { found: hex(&root), said: hex(&t.root) });
    }
    let (beacon_source, round) = t.beacon.as_ref().map_or(("", 0), |b| (&*b.source, b.round));
    let commitment = &t.commitment;
    let frozen = Frozen { sale_id: &id, commitment, n: t.n, root: &t.root, frozen_at: t.frozen_at, beacon_source, round };
    if !is_signed(&t.public_key, &frozen.message(), &t.frozen_signature) {
        faults.push(Fault::FrozenSignature);
    }
}

/// The first entry whose weight is not in the rules' table: its index and weight. A void entry needs none.
pub fn strange_weight(rules_json: &str, entries: &[Entry]) -> Option<(usize, u8)> {
    let table = table(rules_json);
    let strange = |(_, e): &(usize, &Entry)| {
        e.weight > WEIGHT_MAX || !e.is_void() && table.as_ref().is_some_and(|t| !t.contains(&u64::from(e.weight)))
    };
    entries.iter().enumerate().find(strange).map(|(index, entry)| (index, entry.weight))
}

/// The weights of the rules; `None` when they have no table.
pub fn table(rules_json: &str) -> Option<Vec<u64>> {
    let rules: Value = serde_json::from_str(rules_json).ok()?;
    Some(rules.get("weights")?.as_object()?.values().filter_map(Value::as_u64).collect())
}

/// Whether the randomness is what the rules say; returns why it is not proven.
fn beacon(t: &Transcript, check: &dyn Fn(&BeaconRound) -> BeaconCheck, faults: &mut Vec<Fault>) -> Option<String> {
    let rules: Value = serde_json::from_str(&t.rules_json).unwrap_or_default();
    let rule = rules.get("beacon").filter(|b| !b.is_null()).cloned();
    let rule = rule.map(serde_json::from_value::<BeaconRule>).transpose();
    let mut wrong = |what: String| faults.push(Fault::Beacon(what));
    match (rule, &t.beacon) {
        (Err(_), _) => wrong("the rules' beacon is not { source, delay_s }".into()),
        (Ok(None), None) => return None,
        (Ok(Some(rule)), None) => wrong(format!("the rules promise `{}`, the transcript has none", rule.source)),
        (Ok(None), Some(b)) => wrong(format!("the rules promise none, the transcript uses `{}`", b.source)),
        (Ok(Some(rule)), Some(b)) if rule.source != b.source => {
            wrong(format!("the rules promise `{}`, the transcript uses `{}`", rule.source, b.source));
        }
        (Ok(Some(rule)), Some(b)) => match rule.round(t.frozen_at) {
            Some(round) if round != b.round => {
                let when = Schedule::of(&rule.source).map_or(0, |s| s.time_of(round));
                wrong(format!(
                    "the rules give round {round} (at {when}) for a list frozen at {}, the transcript uses round {}: the round was substituted",
                    t.frozen_at, b.round
                ));
            }
            _ => {}
        },
    }
    match t.beacon.as_ref().map(check) {
        Some(BeaconCheck::Wrong(why)) => {
            faults.push(Fault::Beacon(why));
            None
        }
        Some(BeaconCheck::Unproven(why)) => Some(why),
        Some(BeaconCheck::Proven) | None => None,
    }
}

/// That one entry is in the frozen list, for whoever holds its receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inclusion {
    /// The sale, or `SALE#WINDOW`.
    pub sale_id: String,
    /// Number of the entry.
    pub index: u64,
    /// Its name, hex.
    pub entry_id: String,
    /// Its weight.
    pub weight: u8,
    /// Its place; `null` before the draw and for void entries.
    pub place: Option<u32>,
    /// Entries of the list.
    pub n: u64,
    /// Root of the list, hex.
    pub root: String,
    /// The leaf, hex.
    pub leaf: String,
    /// Siblings from the leaf up, hex.
    pub path: Vec<String>,
}

/// Proves a receipt's inclusion in a verified list.
pub fn prove(t: &Transcript, listed: &Listed, receipt: &Receipt) -> Result<Inclusion, Fault> {
    let id = t.draw_id();
    let wrong = |what: String| Err(Fault::Receipt(what));
    if receipt.sale_id != id {
        return wrong(format!("it is of sale `{}`, the transcript of `{id}`", receipt.sale_id));
    }
    if receipt.commitment != t.commitment {
        return wrong(
            "it names another commitment than the transcript: the secret or the rules were substituted after it".into(),
        );
    }
    if receipt.public_key != t.public_key {
        return wrong("it is signed with another key than the transcript names".into());
    }
    if receipt.version != 1 || !receipt.is_signed() {
        return wrong("its signature is not the gate's: it was changed or invented".into());
    }
    let leaves = Leaves::new(&id);
    let at = usize::try_from(receipt.index).unwrap_or(usize::MAX);
    let Some(entry) = listed.entries.get(at).filter(|e| e.id == receipt.entry_id) else {
        return wrong(format!(
            "entry {} is signed by the gate but not in the list: the entry was dropped or substituted. This receipt proves it",
            receipt.index
        ));
    };
    let tree = Tree::new(leaves.all(&listed.entries));
    let leaf = leaves.leaf(receipt.index, entry);
    let path = tree.path(at, |i| leaves.leaf(i as u64, &listed.entries[i])).unwrap_or_default();
    if root_of_path(receipt.index, t.n, leaf, &path) != Some(t.root) {
        return wrong("its path does not lead to the frozen root".into());
    }
    Ok(Inclusion {
        sale_id: id,
        index: receipt.index,
        entry_id: hex(&entry.id),
        weight: entry.weight,
        place: listed.places.get(at).copied().flatten(),
        n: t.n,
        root: hex(&t.root),
        leaf: hex(&leaf),
        path: path.iter().map(|h| hex(h)).collect(),
    })
}
