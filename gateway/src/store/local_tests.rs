#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU32},
    time::Instant,
};

use proptest::prelude::*;
use redb::{StorageBackend, backends::FileBackend};

use super::{super::file::Counted, *};

const SEATS: Table<'static> = Table { kind: "seats", of: "drop" };
const BUDGET: Duration = Duration::from_secs(5);

/// What a disk may do to us.
#[derive(Debug, Default)]
struct Disk {
    full: AtomicBool,
    slow_ms: AtomicU32,
    /// Writes left until it is full; 0: no such limit.
    writes_left: AtomicU32,
    /// Keeps writes to itself until they are synced: a power cut loses any of those that are not.
    lazy: AtomicBool,
    unsynced: Mutex<Vec<(u64, Vec<u8>)>>,
}

#[derive(Debug)]
struct Bad {
    under: FileBackend,
    disk: Arc<Disk>,
}

impl Bad {
    fn refuses(&self) -> io::Result<()> {
        if self.disk.writes_left.load(Ordering::Relaxed) > 0 && self.disk.writes_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.disk.full.store(true, Ordering::Relaxed);
        }
        match self.disk.full.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Bad {
    fn len(&self) -> io::Result<u64> {
        self.under.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.under.read(offset, out)?;
        for (at, data) in &*self.disk.unsynced.lock() {
            let (from, to) = ((*at).max(offset), (at + data.len() as u64).min(offset + out.len() as u64));
            if from < to {
                let cut = |n: u64, base: u64| (n - base) as usize;
                out[cut(from, offset)..cut(to, offset)].copy_from_slice(&data[cut(from, *at)..cut(to, *at)]);
            }
        }
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.refuses()?;
        self.under.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.refuses()?;
        thread::sleep(Duration::from_millis(self.disk.slow_ms.load(Ordering::Relaxed).into()));
        for (at, data) in self.disk.unsynced.lock().drain(..) {
            self.under.write(at, &data)?;
        }
        self.under.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.refuses()?;
        if self.disk.lazy.load(Ordering::Relaxed) {
            self.disk.unsynced.lock().push((offset, data.to_vec()));
            return Ok(());
        }
        self.under.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.under.close()
    }
}

fn on(disk: &Arc<Disk>, directory: &Path, budget: Duration) -> Local {
    let path = directory.join(FILE);
    file::make(&path).unwrap();
    let disk = disk.clone();
    let opener: Opener = Box::new(move |fsyncs| {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path)?;
        file::database(Counted { under: Bad { under: FileBackend::new(file)?, disk: disk.clone() }, fsyncs })
    });
    Local::start(opener, None, budget).unwrap()
}

fn put(key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(SEATS, key, value);
    batch
}

fn scanned(store: &dyn Store, table: Table<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    store.scan(table, &mut |k, v| all.push((k.to_vec(), v.to_vec()))).unwrap();
    all
}

/// Asks until the store works again; nobody helps it.
async fn mended(store: &Local) {
    for _ in 0..500 {
        if store.trouble().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("still {:?}", store.trouble());
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/state");
    let store = Local::open(&path, BUDGET).unwrap();
    let mut batch = put(b"1", b"one");
    batch.put(SEATS, b"2", *b"two");
    batch.put(Table { kind: "seats", of: "drop2" }, b"1", *b"another room");
    batch.put(Table { kind: "places", of: "drop" }, b"1", *b"another kind");
    store.commit(batch).durable().await.unwrap();
    let mut batch = Batch::new();
    batch.delete(SEATS, b"1");
    store.commit(batch).durable().await.unwrap();
    drop(store);
    let store = Local::open(&path, BUDGET).unwrap();
    assert_eq!(scanned(&store, SEATS), [(b"2".to_vec(), b"two".to_vec())]);
    let mut batch = Batch::new();
    batch.clear(SEATS);
    store.commit(batch).durable().await.unwrap();
    assert_eq!(scanned(&store, SEATS), []);
    assert_eq!(scanned(&store, Table { kind: "seats", of: "drop2" }).len(), 1);
    assert_eq!(scanned(&store, Table { kind: "places", of: "drop" }).len(), 1);
}

#[test]
fn one_gate_a_directory_and_nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let store = Local::open(&path, BUDGET).unwrap();
    let refused = Local::open(&path, BUDGET).unwrap_err().to_string();
    assert!(refused.contains("another gate uses it"), "{refused}");
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join(FILE))), (0o700, 0o600));
    drop(store);
    std::fs::write(path.join(FILE), "not a database, and long enough to be looked at as one".repeat(2_000)).unwrap();
    let refused = Local::open(&path, BUDGET).unwrap_err().to_string();
    assert!(refused.contains(FILE), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_taken_away_is_noticed_and_its_return_too() {
    let dir = tempfile::tempdir().unwrap();
    let (path, aside) = (dir.path().join("state"), dir.path().join("aside"));
    let store = Local::open(&path, BUDGET).unwrap();
    store.commit(put(b"1", b"before")).durable().await.unwrap();
    std::fs::rename(&path, &aside).unwrap();
    troubled(&store, "is not there any more").await;
    let term = store.term();
    assert!(store.commit(put(b"2", b"into nowhere")).durable().await.is_err());
    let second = Local::open(&aside, BUDGET).unwrap_err().to_string();
    assert!(second.contains("another gate uses it"), "a second gate on the same places: {second}");
    // Another gate begins anew under the old name: this one does not write into it.
    drop(Local::open(&path, BUDGET).unwrap());
    troubled(&store, "is another file now").await;
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    mended(&store).await;
    assert!(store.term() > 0 && store.term() >= term, "whoever keeps state that hangs together writes all of it anew");
    store.commit(put(b"3", b"after")).durable().await.unwrap();
    assert_eq!(scanned(&store, SEATS).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_gate_wrote_since_is_not_written_over() {
    let (disk, dir) = (Arc::new(Disk::default()), tempfile::tempdir().unwrap());
    let store = on(&disk, dir.path(), BUDGET);
    disk.full.store(true, Ordering::Relaxed);
    assert!(store.commit(put(b"1", b"lost")).durable().await.is_err());
    // The broken store let go of the file, and somebody else takes it meanwhile.
    let other = tokio::time::timeout(BUDGET, async {
        loop {
            if let Ok(other) = Local::open(dir.path(), BUDGET) {
                return other;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    drop(other.await.unwrap());
    disk.full.store(false, Ordering::Relaxed);
    troubled(&store, "another gate has used this file").await;
    assert!(store.commit(put(b"2", b"over it")).durable().await.is_err());
}

/// Asks until the store says so.
async fn troubled(store: &Local, word: &str) {
    let start = Instant::now();
    while !store.trouble().is_some_and(|why| why.contains(word)) {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", store.trouble());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_batches_share_one_fsync() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    let store = on(&disk, dir.path(), BUDGET);
    let before = store.counts();
    disk.slow_ms.store(20, Ordering::Relaxed);
    let waits: Vec<_> = (0..1_000u32).map(|i| store.commit(put(&i.to_be_bytes(), b"x")).durable()).collect();
    for wait in waits {
        wait.await.unwrap();
    }
    let after = store.counts();
    assert_eq!(after.batches - before.batches, 1_000);
    assert!(after.groups - before.groups <= 10, "{after:?}");
    assert_eq!(after.fsyncs - before.fsyncs, after.groups - before.groups, "one fsync a group");
    assert_eq!(scanned(&store, SEATS).len(), 1_000);
}

#[tokio::test]
async fn a_full_disk_refuses_at_once_and_works_again_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    let store = on(&disk, dir.path(), BUDGET);
    store.commit(put(b"before", b"1")).durable().await.unwrap();
    let term = store.term();
    disk.full.store(true, Ordering::Relaxed);
    let refused = store.commit(put(b"during", b"2")).durable().await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
    assert!(store.trouble().is_some());
    let start = Instant::now();
    assert!(store.commit(put(b"during", b"3")).durable().await.is_err());
    assert!(start.elapsed() < Duration::from_millis(500), "known to be broken: nobody waits");
    disk.full.store(false, Ordering::Relaxed);
    mended(&store).await;
    let mut late = Batch::of_term(term);
    late.put(SEATS, b"late", *b"4");
    assert!(matches!(store.commit(late).durable().await, Err(StoreError::TermOver)));
    let mut now = Batch::of_term(store.term());
    now.put(SEATS, b"after", *b"5");
    store.commit(now).durable().await.unwrap();
    let keys: Vec<_> = scanned(&store, SEATS).into_iter().map(|(k, _)| String::from_utf8(k).unwrap()).collect();
    assert_eq!(keys, ["after", "before"]);
}

#[tokio::test]
async fn a_slow_disk_is_answered_for_within_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    let store = on(&disk, dir.path(), Duration::from_millis(100));
    disk.slow_ms.store(2_000, Ordering::Relaxed);
    let start = Instant::now();
    assert!(matches!(store.commit(put(b"slow", b"1")).durable().await, Err(StoreError::Late(_))));
    assert!(start.elapsed() < Duration::from_millis(1_500), "{:?}", start.elapsed());
    // On a busy machine the writer's thread may not have begun when its caller gives up.
    while store.trouble().is_none() {
        assert!(start.elapsed() < Duration::from_millis(1_500), "the disk is known to be late");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let start = Instant::now();
    let term = store.term();
    assert!(matches!(store.commit(Batch::of_term(term)).durable().await, Err(StoreError::Late(_))));
    assert!(start.elapsed() < Duration::from_millis(500), "one visitor paid for knowing it");
    assert_eq!(store.term(), term + 1, "a batch of that term is missing: nothing may be written on top of it");
    disk.slow_ms.store(0, Ordering::Relaxed);
    mended(&store).await;
    store.commit(put(b"after", b"2")).durable().await.unwrap();
    assert_eq!(scanned(&store, SEATS).len(), 2, "the late one became durable");
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Local::open(dir.path(), BUDGET).unwrap();
    let large = |n| StoreError::TooLarge(n).to_string();
    let said = |e: Result<(), StoreError>| e.unwrap_err().to_string();
    assert_eq!(said(store.commit(put(b"k", &vec![0; VALUE_MAX + 1])).durable().await), large(VALUE_MAX + 1 + 12));
    assert_eq!(said(store.commit(put(&vec![0; 2_000], b"")).durable().await), large(2_011));
}
const VALUE_MAX: usize = super::super::VALUE_BYTES_MAX;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// The power goes while the disk is at it: of what was not synced any part is there, in no order.
    #[test]
    fn nothing_answered_is_lost_when_the_power_goes(cuts in prop::collection::vec((1u32..60, any::<u64>()), 1..4)) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut answered, mut n) = (Vec::new(), 0u32);
        for (writes, torn) in cuts {
            let disk = Arc::new(Disk::default());
            let store = on(&disk, dir.path(), BUDGET);
            disk.lazy.store(true, Ordering::Relaxed);
            disk.writes_left.store(writes, Ordering::Relaxed);
            for _ in 0..40 {
                n += 1;
                if runtime.block_on(store.commit(put(&n.to_be_bytes(), &[n as u8; 3_000])).durable()).is_err() {
                    break;
                }
                answered.push(n);
            }
            // From now on nothing reaches the disk, whatever the program still does.
            disk.full.store(true, Ordering::Relaxed);
            drop(store);
            let mut file = std::fs::OpenOptions::new().write(true).open(dir.path().join(FILE)).unwrap();
            for (i, (at, data)) in disk.unsynced.lock().drain(..).enumerate().filter(|(i, _)| torn >> (i % 64) & 1 == 1) {
                use std::io::{Seek as _, Write as _};
                let half = if i % 3 == 0 { data.len() / 2 } else { data.len() };
                file.seek(io::SeekFrom::Start(at)).unwrap();
                file.write_all(&data[..half]).unwrap();
            }
        }
        let store = on(&Arc::default(), dir.path(), BUDGET);
        let there = scanned(&store, SEATS);
        for n in answered {
            let record = there.iter().find(|(k, _)| k[..] == n.to_be_bytes());
            prop_assert!(record.is_some_and(|(_, v)| v[..] == [n as u8; 3_000]), "{} was answered and is gone", n);
        }
    }

    /// The disk fails at any write of any commit: what was answered is there, the rest is whole or absent.
    #[test]
    fn nothing_answered_is_lost_wherever_the_disk_fails(fails in prop::collection::vec(1u32..40, 1..4)) {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut known = std::collections::BTreeMap::new();
        let mut n = 0u32;
        for writes in fails {
            let store = on(&disk, dir.path(), BUDGET);
            disk.writes_left.store(writes, Ordering::Relaxed);
            for _ in 0..30 {
                n += 1;
                let mut batch = Batch::new();
                batch.put(SEATS, &n.to_be_bytes(), vec![n as u8; 3_000]);
                batch.put(Table { kind: "twin", of: "" }, &n.to_be_bytes(), *b"t");
                let outcome = runtime.block_on(store.commit(batch).durable());
                known.insert(n, outcome.is_ok());
                if outcome.is_err() {
                    break;
                }
            }
            // Like a kill: the file is left as it is.
            drop(store);
            disk.full.store(false, Ordering::Relaxed);
            disk.writes_left.store(0, Ordering::Relaxed);
        }
        let store = on(&disk, dir.path(), BUDGET);
        let number = |k: &Vec<u8>| u32::from_be_bytes(k.as_slice().try_into().unwrap());
        let there: Vec<_> = scanned(&store, SEATS).iter().map(|(k, _)| number(k)).collect();
        let twins: Vec<_> = scanned(&store, Table { kind: "twin", of: "" }).iter().map(|(k, _)| number(k)).collect();
        prop_assert_eq!(&there, &twins, "a batch is whole or absent");
        for (n, answered) in known {
            prop_assert!(!answered || there.contains(&n), "{} was answered and is gone", n);
        }
    }
}
