#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize},
};

use tidegate_filters::{
    VisitorId,
    seats::ledger::{Buyer, HoldId, Holder, Outcome, Want},
};

use super::{
    super::{Change, StoreCounts},
    *,
};

/// A store that keeps batches to itself until it is told what becomes of them.
#[derive(Debug, Default)]
struct Fake {
    waiting: Mutex<Vec<Batch>>,
    records: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    term: AtomicU64,
    refuses: AtomicBool,
    largest: AtomicUsize,
}

impl Fake {
    /// Everything that waits is durable.
    fn sync(&self) {
        for batch in self.waiting.lock().drain(..) {
            let mut records = self.records.lock();
            for change in &batch.changes {
                match change {
                    Change::Put(k, v) => drop(records.insert(k.to_vec(), v.to_vec())),
                    Change::Delete(k) => drop(records.remove(&k[..])),
                    Change::Clear(_) => panic!("a whole table is never written anew"),
                }
            }
            drop(records);
            batch.told();
        }
    }

    /// Everything that waits is lost.
    fn fail(&self) {
        self.waiting.lock().clear();
        self.term.fetch_add(1, Ordering::AcqRel);
    }
}

impl Store for Fake {
    fn commit(&self, batch: Batch) -> Commit {
        batch.check().expect("within the limits of a batch");
        self.largest.fetch_max(batch.bytes, Ordering::Relaxed);
        if self.refuses.load(Ordering::Relaxed) {
            self.term.fetch_add(1, Ordering::AcqRel);
            return Commit::now(Err(StoreError::Full));
        }
        assert_eq!(batch.term(), Some(self.term()));
        self.waiting.lock().push(batch);
        Commit::now(Ok(()))
    }
    fn scan(&self, table: Table<'_>, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        let prefix = table.key(&[]);
        for (key, value) in &*self.records.lock() {
            if let Some(rest) = key.strip_prefix(&prefix[..]) {
                each(rest, value);
            }
        }
        Ok(())
    }
    fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }
    fn trouble(&self) -> Option<Arc<str>> {
        None
    }
    fn keeps(&self) -> bool {
        true
    }
    fn close(&self) {}
    fn counts(&self) -> StoreCounts {
        StoreCounts::default()
    }
}

fn buyer(n: u64) -> Buyer {
    Buyer { holder: Holder::Seat(n), visitor: Some(VisitorId(n)) }
}

fn begin(stock: &Stock, n: u64) -> HoldId {
    let want = Want { units: 1, per_visitor_max: None, may_take: true, expires_s: 1 << 20 };
    stock.begin(buyer(n), want, 1).expect("free")
}

/// What a restart would read.
fn read_back(store: &Fake, units: u64) -> Ledger {
    let mut records = Vec::new();
    for (kind, table) in KINDS {
        store.scan(Table { kind: table, of: "s" }, &mut |k, v| records.push((kind, k.to_vec(), v.to_vec()))).unwrap();
    }
    let (ledger, bad) = Ledger::restore(Some(units), 1, records.iter().map(|(kind, k, v)| (*kind, &k[..], &v[..])));
    assert_eq!(bad, 0);
    ledger
}

fn same(store: &Fake, stock: &Stock, units: u64) {
    let now = stock.with(|l| {
        let (mut copy, _) =
            Ledger::restore(Some(units), 1, l.records().iter().filter_map(|(kind, k, v)| Some((*kind, &k[..], v.as_deref()?))));
        copy.recover();
        copy.records()
    });
    assert_eq!(read_back(store, units).records(), now);
}

#[test]
fn what_a_failure_lost_is_written_again_and_nothing_else() {
    let store = Arc::new(Fake::default());
    let holds = Holds::new(store.clone());
    let stock = Stock::new(Some(1_000), 1);
    stock.with(Ledger::keep);
    let ids: Vec<HoldId> = (0..100).map(|n| begin(&stock, n)).collect();
    drop(holds.write("s", &stock, true).expect("something changed"));
    store.sync();
    same(&store, &stock, 1_000);
    for id in &ids[..50] {
        stock.end(*id, Outcome::Sold(1), 2);
    }
    drop(holds.write("s", &stock, false));
    // On its way when the disk fails, and changed again before anybody knows.
    stock.end(ids[60], Outcome::Lost, 2);
    store.fail();
    let small = store.largest.swap(0, Ordering::Relaxed);
    drop(holds.write("s", &stock, false).expect("what was lost"));
    store.sync();
    same(&store, &stock, 1_000);
    assert!(store.largest.load(Ordering::Relaxed) < 2 * small, "not the whole ledger");
    assert!(holds.write("s", &stock, false).is_none(), "all is written");
    // A disk that is full refuses at once, several times over.
    store.refuses.store(true, Ordering::Relaxed);
    stock.end(ids[61], Outcome::Sold(1), 3);
    (0..3).for_each(|_| drop(holds.write("s", &stock, false)));
    store.refuses.store(false, Ordering::Relaxed);
    drop(holds.write("s", &stock, false));
    store.sync();
    same(&store, &stock, 1_000);
}

#[test]
fn a_ledger_larger_than_a_batch_goes_in_parts() {
    const SOLD: u64 = 600_000;
    let store = Arc::new(Fake::default());
    let holds = Holds::new(store.clone());
    let stock = Stock::new(Some(SOLD), 1);
    stock.with(Ledger::keep);
    for n in 0..SOLD {
        let id = begin(&stock, n);
        stock.end(id, Outcome::Sold(1), 2);
    }
    // Two names each, never written so far: far more than one batch may hold.
    let mut batches = 0;
    while holds.write("s", &stock, false).is_some() {
        store.sync();
        batches += 1;
        if batches % 6 == 1 {
            assert_eq!(read_back(&store, SOLD).units().sold, SOLD, "a kill after any part: nothing is sold again");
        }
        if batches == 3 {
            // A failure in the middle of it.
            drop(holds.write("s", &stock, false));
            store.fail();
        }
    }
    assert!(batches > 20, "{batches}");
    same(&store, &stock, SOLD);
}
