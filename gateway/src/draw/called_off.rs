//! Sales that were called off stay so, in the words that were said first: over loads and, with `state`, over restarts.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidegate_config::Policy;

use super::{Draws, kept};
use crate::store::{Batch, Store, StoreError};

/// Most sales remembered; what ended first makes room.
const REMEMBERED_MAX: usize = 4_096;

/// What was said when a sale was called off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    /// As the policy said first.
    pub(super) reason: String,
    /// When the sale would have ended, Unix milliseconds.
    pub(super) closes_ms: u64,
}

/// By sale.
pub(super) type CalledOff = Mutex<BTreeMap<String, Said>>;

impl Draws {
    /// Puts back what an earlier life said.
    pub(crate) fn read_called_off(&self, store: &dyn Store) -> Result<(), StoreError> {
        self.called_off.lock().extend(kept::called_off(store)?);
        Ok(())
    }

    /// `Err`: a sale that was called off would take place after all.
    pub(super) fn stay_called_off(&self, policy: &Policy) -> Result<(), String> {
        let known = self.called_off.lock();
        let back = policy.sales.iter().find(|s| s.cancelled.is_none() && known.contains_key(&s.name));
        back.map_or(Ok(()), |sale| {
            let (name, reason) = (&sale.name, known.get(&sale.name).map_or("", |said| &said.reason));
            Err(format!(
                "sale `{name}` was cancelled (\"{reason}\") and people were told so; keep its `cancelled`, and write a sale of another name instead (of a draw with `redraws: {name}`)"
            ))
        })
    }

    /// People are told what they were told first, whatever a policy says now.
    pub(crate) fn say_as_first_said(&self, policy: &mut Policy) {
        let known = self.called_off.lock();
        for sale in &mut policy.sales {
            if let (Some(written), Some(said)) = (&mut sale.cancelled, known.get(&sale.name))
                && *written != said.reason
            {
                tracing::warn!(sale = sale.name, said = said.reason, %written, "it was called off in other words, which stay");
                written.clone_from(&said.reason);
            }
        }
    }

    /// Remembers what a policy calls off, once that is on the disk.
    pub(crate) fn call_off(&self, store: &dyn Store, policy: &Policy) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let new = self.newly_called_off(policy);
        self.put_called_off(&mut batch, &new);
        if !batch.is_empty() {
            store.commit(batch).wait()?;
            self.remember(new);
        }
        Ok(())
    }

    /// What a policy calls off that was on.
    pub(super) fn newly_called_off(&self, policy: &Policy) -> Vec<(String, Said)> {
        let known = self.called_off.lock();
        let new = policy.sales.iter().filter(|s| !known.contains_key(&s.name));
        let said = |s: &tidegate_config::SaleSettings| {
            Some((s.name.clone(), Said { reason: s.cancelled.clone()?, closes_ms: s.closes_at.unix_ms() }))
        };
        new.filter_map(said).collect()
    }

    /// With those that make room.
    pub(super) fn put_called_off(&self, batch: &mut Batch, new: &[(String, Said)]) {
        for (sale, said) in new {
            kept::put_called_off(batch, sale, said);
        }
        for sale in over(&self.called_off.lock(), new.len()) {
            kept::take_back_called_off(batch, &sale);
        }
    }

    pub(super) fn remember(&self, new: Vec<(String, Said)>) {
        let mut known = self.called_off.lock();
        for sale in over(&known, new.len()) {
            known.remove(&sale);
        }
        known.extend(new);
    }
}

/// Who makes room for so many: what ended first.
fn over(known: &BTreeMap<String, Said>, new: usize) -> Vec<String> {
    let mut oldest: Vec<_> = known.iter().map(|(sale, said)| (said.closes_ms, sale)).collect();
    oldest.sort_unstable();
    let too_many = (known.len() + new).saturating_sub(REMEMBERED_MAX);
    oldest.into_iter().take(too_many).map(|(_, sale)| sale.clone()).collect()
}
