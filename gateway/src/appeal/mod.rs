//! Appeals: who was refused says why that is wrong, an operator decides, and what is granted lifts scores for a day.

mod page;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidegate_filters::VisitorId;

use crate::{
    control::Control,
    operate::By,
    store::{Batch, Commit, Store, StoreError, Table},
};

pub use page::{offered, outcome, take};

/// Most appeals kept; the oldest decided one makes room for a new one.
const APPEALS_MAX: usize = 2_000;
/// Most undecided ones: what is decided is known for a while, whatever is sent.
const UNDECIDED_MAX: usize = 1_500;
/// A granted appeal lets its visitor through this long, milliseconds.
const GRANT_MS: u64 = 24 * 3_600_000;
/// Most undecided appeals of one network (IPv4 /24, IPv6 /64).
const OPEN_OF_A_NETWORK_MAX: usize = 20;
/// Longest text of a visitor or an operator, characters.
pub const TEXT_MAX: usize = 500;
const TABLE: Table<'static> = Table { kind: "appeals", of: "" };

/// What somebody who was refused says, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Appeal {
    /// Of the refusal: `tidegate bots explain` finds it in the journal.
    pub reference: String,
    /// Who was refused, as in the journal.
    pub visitor: String,
    /// Why.
    pub reason: String,
    /// Unix milliseconds.
    pub at_unix_ms: u64,
    /// In the visitor's words.
    pub text: String,
    /// Null while nobody has decided.
    pub outcome: Option<Outcome>,
    /// Who may read the outcome and is let through, as in the journal.
    pub holder: String,
    /// Keyed hash of where it came from.
    pub network: String,
}

/// What an operator decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// It was a mistake.
    pub granted: bool,
    /// To the visitor; empty for nothing.
    pub say: String,
    /// Unix milliseconds.
    pub at_unix_ms: u64,
}

/// Why an appeal is not taken, or not decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AppealError {
    /// As many are undecided as may be.
    #[error("{UNDECIDED_MAX} appeals are undecided: no more are taken")]
    Full,
    /// As many of this network are undecided as may be.
    #[error("{OPEN_OF_A_NETWORK_MAX} appeals of this network are undecided: no more are taken from it")]
    NetworkFull,
    /// There is none with this reference.
    #[error("no appeal has this reference")]
    Unknown,
}

/// The appeals of a gate.
#[derive(Debug, Default)]
pub struct Appeals {
    all: Mutex<BTreeMap<String, Appeal>>,
    /// Whom a granted one lets through, and until when, Unix milliseconds: for every request to look at.
    granted: ArcSwap<HashMap<u64, u64>>,
}

impl Appeals {
    /// Those an earlier life kept.
    pub fn kept(store: &dyn Store) -> Result<Appeals, StoreError> {
        let mut all = BTreeMap::new();
        store.scan(TABLE, &mut |_, value| {
            if let Ok(appeal) = serde_json::from_slice::<Appeal>(value) {
                all.insert(appeal.reference.clone(), appeal);
            }
        })?;
        let granted = granted(&all);
        Ok(Appeals { all: Mutex::new(all), granted: ArcSwap::from_pointee(granted) })
    }

    /// Takes one: its reference, and when it is durable. A second one of somebody, or about the same refusal, changes nothing.
    fn take(&self, appeal: Appeal, store: &dyn Store) -> Result<(String, Option<Commit>), AppealError> {
        let mut all = self.all.lock();
        let undecided = || all.values().filter(|a| a.outcome.is_none());
        let same = undecided().find(|a| a.holder == appeal.holder).or_else(|| all.get(&appeal.reference));
        if let Some(same) = same.filter(|a| a.holder == appeal.holder) {
            return Ok((same.reference.clone(), None));
        }
        if same.is_some() || undecided().filter(|a| a.network == appeal.network).count() >= OPEN_OF_A_NETWORK_MAX {
            return Err(AppealError::NetworkFull);
        }
        if undecided().count() >= UNDECIDED_MAX {
            return Err(AppealError::Full);
        }
        let mut batch = Batch::new();
        if all.len() >= APPEALS_MAX {
            let decided = all.values().filter(|a| a.outcome.is_some()).min_by_key(|a| a.at_unix_ms);
            let oldest = decided.map(|a| a.reference.clone()).ok_or(AppealError::Full)?;
            batch.delete(TABLE, oldest.as_bytes());
            all.remove(&oldest);
        }
        put(&mut batch, &appeal);
        let reference = appeal.reference.clone();
        all.insert(reference.clone(), appeal);
        Ok((reference, Some(store.commit(batch))))
    }

    /// Decides one, also again.
    fn decide(&self, reference: &str, outcome: Outcome, store: &dyn Store) -> Result<(Appeal, Commit), AppealError> {
        let mut all = self.all.lock();
        let appeal = all.get_mut(reference).ok_or(AppealError::Unknown)?;
        appeal.outcome = Some(outcome);
        let mut batch = Batch::new();
        put(&mut batch, appeal);
        let appeal = appeal.clone();
        self.granted.store(Arc::new(granted(&all)));
        Ok((appeal, store.commit(batch)))
    }

    /// Whether an operator lets this visitor through.
    pub fn lets_through(&self, visitor: VisitorId, wall_ms: u64) -> bool {
        self.granted.load().get(&visitor.0).is_some_and(|until| wall_ms < *until)
    }

    fn of(&self, reference: &str) -> Option<Appeal> {
        self.all.lock().get(reference).cloned()
    }

    /// All of them: undecided ones first, each from the oldest on.
    pub fn list(&self) -> Vec<Appeal> {
        let mut list: Vec<_> = self.all.lock().values().cloned().collect();
        list.sort_by_key(|a| (a.outcome.is_some(), a.at_unix_ms));
        list
    }

    /// How many nobody has decided.
    pub fn undecided(&self) -> usize {
        self.all.lock().values().filter(|a| a.outcome.is_none()).count()
    }
}

fn granted(all: &BTreeMap<String, Appeal>) -> HashMap<u64, u64> {
    let until = |a: &Appeal| a.outcome.as_ref().filter(|o| o.granted).map(|o| o.at_unix_ms + GRANT_MS);
    all.values().filter_map(|a| Some((u64::from_str_radix(&a.holder, 16).ok()?, until(a)?))).collect()
}

fn put(batch: &mut Batch, appeal: &Appeal) {
    batch.put(TABLE, appeal.reference.as_bytes(), serde_json::to_vec(appeal).unwrap_or_default());
}

impl Control {
    /// Decides an appeal: in the log, in the journal, and durable when this returns.
    pub async fn decide_appeal(
        &self,
        reference: &str,
        granted: bool,
        say: String,
    ) -> Result<Result<Appeal, StoreError>, AppealError> {
        let now = self.shared.clock.now();
        let outcome = Outcome { granted, say, at_unix_ms: now.wall_ms };
        let (appeal, commit) = self.shared.appeals.decide(reference, outcome, &*self.shared.store)?;
        tracing::info!(reference, granted, "operator decided an appeal");
        self.note_operator(By::Admin, format!("appeal {reference}: {}", if granted { "granted" } else { "rejected" }), "");
        Ok(commit.durable().await.map(|()| appeal))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::{Local, Memory};

    fn appeal(n: usize, network: usize) -> Appeal {
        Appeal {
            reference: format!("R{n:06}"),
            visitor: "00000000000000aa".into(),
            reason: "SCORE_REFUSE".into(),
            at_unix_ms: n as u64,
            text: "I am a person".into(),
            outcome: None,
            holder: format!("{:016x}", n + 1_000),
            network: format!("{network:016x}"),
        }
    }

    fn granted(at_unix_ms: u64) -> Outcome {
        Outcome { granted: true, say: "sorry".into(), at_unix_ms }
    }

    #[test]
    fn there_are_only_so_many_and_decided_ones_make_room() {
        let appeals = Appeals::default();
        let take =
            |n, network| appeals.take(appeal(n, network), &Memory).map(|(reference, commit)| (reference, commit.is_some()));
        let decide = |n: usize| appeals.decide(&format!("R{n:06}"), granted(5), &Memory).map(drop);
        for n in 0..OPEN_OF_A_NETWORK_MAX {
            assert_eq!(take(n, 0), Ok((format!("R{n:06}"), true)));
        }
        assert_eq!(take(99, 0), Err(AppealError::NetworkFull));
        assert_eq!(take(3, 0), Ok(("R000003".into(), false)), "the same refusal");
        let again = Appeal { reference: "R777777".into(), ..appeal(3, 0) };
        assert_eq!(appeals.take(again, &Memory).unwrap().0, "R000003", "one undecided appeal for each");
        let stolen = Appeal { holder: "5".into(), ..appeal(3, 5) };
        assert!(appeals.take(stolen, &Memory).is_err(), "the refusal of somebody else");
        (0..500).for_each(|n| take(10_000 + n, 10_000 + n).and_then(|_| decide(10_000 + n)).unwrap());
        for n in OPEN_OF_A_NETWORK_MAX..UNDECIDED_MAX {
            take(n, n).unwrap();
        }
        assert_eq!(take(9_999, 9_999), Err(AppealError::Full), "and the decided ones stay");
        assert_eq!((appeals.list().len(), appeals.undecided()), (APPEALS_MAX, UNDECIDED_MAX));
        decide(7).unwrap();
        assert_eq!(take(9_999, 9_999), Ok(("R009999".into(), true)));
        assert_eq!((appeals.of("R000007"), appeals.list().len()), (None, APPEALS_MAX), "the oldest decided one made room");
        assert_eq!(appeals.list().last().map(|a| a.reference.clone()), Some("R010499".into()), "decided ones come last");
        assert_eq!(decide(7), Err(AppealError::Unknown));
    }

    #[tokio::test]
    async fn what_was_taken_and_decided_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Local::open(dir.path(), std::time::Duration::from_secs(10)).unwrap();
        let store = open();
        let appeals = Appeals::kept(&store).unwrap();
        for n in 0..2 {
            appeals.take(appeal(n, n), &store).unwrap().1.unwrap().durable().await.unwrap();
        }
        appeals.decide("R000001", granted(7), &store).unwrap().1.durable().await.unwrap();
        store.close();
        drop(store);
        let again = Appeals::kept(&open()).unwrap();
        assert!(again.lets_through(VisitorId(1_001), 7) && !again.lets_through(VisitorId(1_000), 7));
        assert!(!again.lets_through(VisitorId(1_001), 7 + GRANT_MS), "for a day");
        assert_eq!(again.list(), [appeal(0, 0), Appeal { outcome: Some(granted(7)), ..appeal(1, 1) }]);
    }
}
