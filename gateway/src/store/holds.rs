//! Stock that outlives the process: what changed in a sale's ledger is written down before an order goes to the shop, and
//! by every tick. Records are taken out of the ledger and handed over under its lock, so the last batch that names a hold
//! says how it stood last. Whatever is not known to be durable when a new term of the store begins is taken again: a ledger of
//! ten million units is never written as a whole.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tidegate_filters::{
    Now, Pipeline,
    seats::{
        ledger::{Ledger, records::Kind},
        stock::Stock,
    },
};

use super::{Batch, Commit, Store, StoreError, Table};

/// Records of one batch, besides the totals: about 5 MB. What is more waits for the next.
const RECORDS_A_BATCH: usize = 50_000;

const KINDS: [(Kind, &str); 3] = [(Kind::Hold, "holds"), (Kind::Bought, "bought"), (Kind::Totals, "stock")];

/// The ledgers of one gate, and where they are written.
#[derive(Debug)]
pub struct Holds {
    store: Arc<dyn Store>,
    /// What was handed over, by sale.
    sales: Mutex<HashMap<String, Written>>,
}

/// Kind and key of a record.
type Key = (Kind, Vec<u8>);

/// What was handed over of a sale and is not known to be durable.
#[derive(Debug, Default)]
struct Written {
    term: u64,
    /// Of the last batch.
    number: u64,
    /// The number of the last durable batch.
    durable: Arc<AtomicU64>,
    /// Keys of the batches behind that, by number.
    waits: VecDeque<(u64, Vec<Key>)>,
}

impl Written {
    /// Forgets what is durable; gives what is lost when a new term has begun.
    fn settle(&mut self, term: u64) -> Vec<Key> {
        let durable = self.durable.load(Ordering::Acquire);
        while self.waits.front().is_some_and(|(number, _)| *number <= durable) {
            self.waits.pop_front();
        }
        match std::mem::replace(&mut self.term, term) == term {
            true => Vec::new(),
            false => self.waits.drain(..).flat_map(|(_, keys)| keys).collect(),
        }
    }
}

impl Holds {
    /// Over a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Holds { store, sales: Mutex::default() }
    }

    /// Brings the ledgers of a pipeline's limited sales back, or begins them; those that are written already stay as they
    /// are. Call it before the pipeline is in force, and after its rooms are back.
    pub fn revive(&self, pipeline: &Pipeline, now: Now) -> Result<(), StoreError> {
        if !self.store.keeps() {
            return Ok(());
        }
        for room in pipeline.rooms() {
            for sale in room.sales().filter(|s| s.stock.is_some()) {
                let Some(stock) = room.stock(&sale.name).filter(|s| !s.with(|l| l.is_kept())) else { continue };
                let mut records = Vec::new();
                for (kind, table) in KINDS {
                    let table = Table { kind: table, of: &sale.name };
                    self.store.scan(table, &mut |key, value| records.push((kind, key.to_vec(), value.to_vec())))?;
                }
                let read = records.iter().map(|(kind, key, value)| (*kind, key.as_slice(), value.as_slice()));
                let (mut ledger, strange) = Ledger::restore(sale.stock, sale.lot, read);
                if strange > 0 {
                    let why = format!(
                        "{strange} records of sale `{}` were written by another version; use that version, or move the state away",
                        sale.name
                    );
                    return Err(StoreError::Refused(why.into()));
                }
                if !records.is_empty() {
                    let u = ledger.units();
                    tracing::info!(sale = %sale.name, sold = u.sold, held = u.held, uncertain = u.uncertain, "stock read back");
                }
                ledger.keep();
                stock.with(|l| *l = ledger);
                room.reserve_again(now);
            }
        }
        Ok(())
    }

    /// Hands over what changed in a sale. `None`: nothing is kept, or nothing changed and nobody has to know (`answer`).
    pub fn write(&self, sale: &str, stock: &Stock, answer: bool) -> Option<Commit> {
        if !self.store.keeps() {
            return None;
        }
        stock.with(|ledger| {
            if !ledger.is_kept() {
                return None;
            }
            let term = self.store.term();
            let mut sales = self.sales.lock();
            let written = sales.entry(sale.to_owned()).or_insert_with(|| Written { term, ..Written::default() });
            written.settle(term).iter().for_each(|(kind, key)| ledger.dirty_again(*kind, key));
            if !answer && !ledger.is_dirty() {
                return None;
            }
            let (records, more) = ledger.take_dirty(RECORDS_A_BATCH);
            let (mut batch, mut keys) = (Batch::of_term(term), Vec::with_capacity(records.len()));
            for (kind, key, value) in records {
                let table = Table { kind: KINDS.iter().find(|k| k.0 == kind).map_or("stock", |k| k.1), of: sale };
                match value {
                    Some(value) => batch.put(table, &key, value),
                    None => batch.delete(table, &key),
                }
                keys.push((kind, key));
            }
            written.number += 1;
            written.waits.push_back((written.number, keys));
            let commit = self.store.commit(batch.marked(&written.durable, written.number));
            // Whoever asks may be among those that wait for the next batch.
            Some(if more && answer { Commit::now(Err(StoreError::Full)) } else { commit })
        })
    }

    /// What a tick frees and the shop says in between.
    pub fn tick(&self, pipeline: &Pipeline) {
        for room in pipeline.rooms() {
            for sale in room.sales().filter(|s| s.stock.is_some()) {
                // Nobody waits for it: what is lost by a crash is uncertain afterwards, never sold again.
                if let Some(stock) = room.stock(&sale.name) {
                    drop(self.write(&sale.name, stock, false));
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "holds_tests.rs"]
mod tests;
