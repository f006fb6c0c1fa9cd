//! Appeals: who was refused says why that is wrong, an operator decides, and what is granted lifts scores for a day.

mod page;

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidegate_filters::{Reason, Row, record::Kind};

use crate::{
    control::Control,
    store::{Batch, Commit, Store, StoreError, Table},
};

pub use page::{offered, outcome, take};

/// Most appeals kept; the oldest decided one makes room for a new one.
pub const APPEALS_MAX: usize = 2_000;
/// Most undecided appeals of one network.
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
    /// Null where none was known.
    pub score: Option<f32>,
    /// Unix milliseconds.
    pub at_unix_ms: u64,
    /// In the visitor's words.
    pub text: String,
    /// Null while nobody has decided.
    pub outcome: Option<Outcome>,
    /// Who may read the outcome, as in the journal.
    pub holder: String,
    /// Where it came from, as in the journal.
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
    /// All that are kept are undecided.
    #[error("{APPEALS_MAX} appeals are undecided: no more are taken")]
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
pub struct Appeals(Mutex<BTreeMap<String, Appeal>>);

impl Appeals {
    /// Those an earlier life kept.
    pub fn kept(store: &dyn Store) -> Result<Appeals, StoreError> {
        let mut all = BTreeMap::new();
        store.scan(TABLE, &mut |_, value| {
            if let Ok(appeal) = serde_json::from_slice::<Appeal>(value) {
                all.insert(appeal.reference.clone(), appeal);
            }
        })?;
        Ok(Appeals(Mutex::new(all)))
    }

    /// Takes one; a second about the same refusal changes nothing. Told to the visitor once it is durable.
    fn take(&self, appeal: Appeal, store: &dyn Store) -> Result<Option<Commit>, AppealError> {
        let mut all = self.0.lock();
        if all.contains_key(&appeal.reference) {
            return Ok(None);
        }
        let undecided = |a: &&Appeal| a.outcome.is_none() && a.network == appeal.network;
        if all.values().filter(undecided).count() >= OPEN_OF_A_NETWORK_MAX {
            return Err(AppealError::NetworkFull);
        }
        let mut batch = Batch::new();
        if all.len() >= APPEALS_MAX {
            let decided = all.values().filter(|a| a.outcome.is_some()).min_by_key(|a| a.at_unix_ms);
            let oldest = decided.map(|a| a.reference.clone()).ok_or(AppealError::Full)?;
            batch.delete(TABLE, oldest.as_bytes());
            all.remove(&oldest);
        }
        put(&mut batch, &appeal);
        all.insert(appeal.reference.clone(), appeal);
        Ok(Some(store.commit(batch)))
    }

    /// Decides one, also again.
    fn decide(&self, reference: &str, outcome: Outcome, store: &dyn Store) -> Result<(Appeal, Commit), AppealError> {
        let mut all = self.0.lock();
        let appeal = all.get_mut(reference).ok_or(AppealError::Unknown)?;
        appeal.outcome = Some(outcome);
        let mut batch = Batch::new();
        put(&mut batch, appeal);
        Ok((appeal.clone(), store.commit(batch)))
    }

    fn of(&self, reference: &str) -> Option<Appeal> {
        self.0.lock().get(reference).cloned()
    }

    /// All of them: undecided ones first, each from the oldest on.
    pub fn list(&self) -> Vec<Appeal> {
        let mut list: Vec<_> = self.0.lock().values().cloned().collect();
        list.sort_by_key(|a| (a.outcome.is_some(), a.at_unix_ms));
        list
    }

    /// How many nobody has decided.
    pub fn undecided(&self) -> usize {
        self.0.lock().values().filter(|a| a.outcome.is_none()).count()
    }
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
        self.shared.rows.row(Row {
            at_ms: now.wall_ms,
            mono_ns: now.mono_ns,
            kind: Kind::Operator,
            method: "ADMIN".into(),
            path: format!("appeal {reference}: {}", if granted { "granted" } else { "rejected" }),
            verdict: "own",
            reason: Some(Reason::Operator),
            status: 200,
            policy: self.shared.active.load().names.policy.into(),
            ..Row::blank()
        });
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
            score: Some(0.99),
            at_unix_ms: n as u64,
            text: "I am a person".into(),
            outcome: None,
            holder: "00000000000000bb".into(),
            network: format!("{network:016x}"),
        }
    }

    fn granted(at_unix_ms: u64) -> Outcome {
        Outcome { granted: true, say: "sorry".into(), at_unix_ms }
    }

    #[test]
    fn there_are_only_so_many_and_decided_ones_make_room() {
        let appeals = Appeals::default();
        for n in 0..OPEN_OF_A_NETWORK_MAX {
            assert!(appeals.take(appeal(n, 0), &Memory).unwrap().is_some());
        }
        assert_eq!(appeals.take(appeal(99, 0), &Memory).err(), Some(AppealError::NetworkFull));
        assert!(appeals.take(appeal(3, 0), &Memory).unwrap().is_none(), "the same refusal");
        for n in OPEN_OF_A_NETWORK_MAX..APPEALS_MAX {
            appeals.take(appeal(n, n), &Memory).unwrap();
        }
        assert_eq!(appeals.take(appeal(9_999, 9_999), &Memory).err(), Some(AppealError::Full));
        for n in [8, 7] {
            appeals.decide(&format!("R{n:06}"), granted(5), &Memory).unwrap();
        }
        assert!(appeals.take(appeal(9_999, 9_999), &Memory).unwrap().is_some());
        assert_eq!((appeals.of("R000007"), appeals.list().len()), (None, APPEALS_MAX));
        assert_eq!(appeals.undecided(), APPEALS_MAX - 1);
        assert_eq!(appeals.list().last().map(|a| a.reference.clone()), Some("R000008".into()), "decided ones come last");
        assert_eq!(appeals.decide("R000007", granted(6), &Memory).err(), Some(AppealError::Unknown));
    }

    #[tokio::test]
    async fn what_was_taken_and_decided_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Local::open(dir.path(), std::time::Duration::from_secs(10)).unwrap();
        let store = open();
        let appeals = Appeals::kept(&store).unwrap();
        for n in 0..2 {
            appeals.take(appeal(n, n), &store).unwrap().unwrap().durable().await.unwrap();
        }
        appeals.decide("R000001", granted(7), &store).unwrap().1.durable().await.unwrap();
        store.close();
        drop(store);
        let again = Appeals::kept(&open()).unwrap();
        assert_eq!(again.list(), [appeal(0, 0), Appeal { outcome: Some(granted(7)), ..appeal(1, 1) }]);
    }
}
