//! Stock that outlives the process: what changed in a sale's ledger is written down before an order goes to the shop, and
//! by every tick. Records are taken out of the ledger and handed over under its lock, so the last batch that names a hold
//! says how it stood last. A batch that fails begins a new term of the store: the next one then holds the whole ledger.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tidegate_filters::{
    Pipeline,
    seats::{
        ledger::{Ledger, records::Kind},
        stock::Stock,
    },
};

use super::{Batch, Commit, Store, StoreError, Table};

const KINDS: [(Kind, &str); 3] = [(Kind::Hold, "holds"), (Kind::Bought, "bought"), (Kind::Totals, "stock")];

/// The ledgers of one gate, and where they are written.
#[derive(Debug)]
pub struct Holds {
    store: Arc<dyn Store>,
    /// The term of the store in which a sale was last written, by its name.
    terms: Mutex<HashMap<String, u64>>,
}

impl Holds {
    /// Over a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Holds { store, terms: Mutex::default() }
    }

    /// Brings the ledgers of a pipeline's limited sales back, or begins them; those that are written already stay as they
    /// are. Call it before the pipeline is in force.
    pub fn revive(&self, pipeline: &Pipeline) -> Result<(), StoreError> {
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
            if !ledger.is_kept() || !answer && !ledger.is_dirty() {
                return None;
            }
            let term = self.store.term();
            let all = self.terms.lock().insert(sale.to_owned(), term) != Some(term);
            let changed = ledger.take_dirty();
            let mut batch = Batch::of_term(term);
            let table = |kind: Kind| Table { kind: KINDS.iter().find(|k| k.0 == kind).map_or("stock", |k| k.1), of: sale };
            if all {
                KINDS.iter().for_each(|(kind, _)| batch.clear(table(*kind)));
            }
            for (kind, key, value) in if all { ledger.records() } else { changed } {
                match value {
                    Some(value) => batch.put(table(kind), &key, value),
                    None => batch.delete(table(kind), &key),
                }
            }
            Some(self.store.commit(batch))
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
