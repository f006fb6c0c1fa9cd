//! Counts that outlive a kill: a page of memory over a small file beside the journal. The system keeps it when the process
//! dies, so the next start knows how many requests were parsed, and how many of them have a row.

use std::{
    fs::OpenOptions,
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use memmap2::MmapRaw;
use tidegate_models::journal::file_name;

const FILE: &str = "rows.tally";
const LEN: u64 = 64;

/// What is counted; the number is its place in the file.
#[derive(Clone, Copy, Debug)]
pub enum Of {
    /// Heads accepted, each worth one row.
    Parsed = 0,
    /// Rows in finished files.
    Written = 1,
    /// Rows that were counted as dropped.
    Dropped = 2,
    /// Requests of killed processes that have neither.
    Killed = 3,
    /// What [`Of::Written`] becomes when the file that is being finished has its final name; 0 when none is.
    Closing = 4,
    /// Wall milliseconds of its name.
    ClosingMs = 5,
    /// The number of that name.
    ClosingNumber = 6,
}

/// The page.
#[derive(Debug)]
pub struct Tally {
    map: MmapRaw,
}

impl Tally {
    /// Opens the tally of a directory and settles what an earlier life left: requests without a row are counted as killed.
    /// Returns how many those are.
    pub fn open(directory: &Path) -> io::Result<(Tally, u64)> {
        let path = directory.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(LEN)?;
        let tally = Tally { map: MmapRaw::map_raw(&file)? };
        let get = |of| tally.at(of).load(Ordering::Acquire);
        let closing = get(Of::Closing);
        // Killed between the rename and the count: the file's name says which came first.
        if closing > 0 && directory.join(file_name(get(Of::ClosingMs), get(Of::ClosingNumber) as u32)).exists() {
            tally.set(Of::Written, closing);
        }
        tally.set(Of::Closing, 0);
        let lost = get(Of::Parsed).saturating_sub(get(Of::Written) + get(Of::Dropped) + get(Of::Killed));
        tally.add(Of::Killed, lost);
        Ok((tally, lost))
    }

    /// Adds.
    pub fn add(&self, of: Of, n: u64) {
        self.at(of).fetch_add(n, Ordering::AcqRel);
    }

    /// Sets.
    pub fn set(&self, of: Of, n: u64) {
        self.at(of).store(n, Ordering::Release);
    }

    /// So far, over all lives.
    pub fn get(&self, of: Of) -> u64 {
        self.at(of).load(Ordering::Acquire)
    }

    /// A file of this name and so many rows is about to appear. Each step may be the last before a kill, and all can be
    /// made twice.
    pub fn closing(&self, wall_ms: u64, number: u32, rows: u64) {
        self.set(Of::ClosingMs, wall_ms);
        self.set(Of::ClosingNumber, number.into());
        self.set(Of::Closing, self.get(Of::Written) + rows);
    }

    /// It is there, or it will never be.
    pub fn closed(&self, there: bool) {
        if there {
            self.set(Of::Written, self.get(Of::Closing));
        }
        self.set(Of::Closing, 0);
    }

    #[allow(unsafe_code)]
    fn at(&self, of: Of) -> &AtomicU64 {
        // SAFETY: the map is page-aligned, `LEN` bytes long and lives as long as `self`; every access of this process is
        // atomic. Another process that writes the file changes numbers, nothing else; one that cuts it makes an access a
        // SIGBUS, as for any mapped file: the directory is the gate's own.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast::<u64>().add(of as usize)) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn sums(t: &Tally) -> [u64; 4] {
        [Of::Parsed, Of::Written, Of::Dropped, Of::Killed].map(|of| t.get(of))
    }

    #[test]
    fn what_a_kill_left_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let (t, lost) = Tally::open(dir.path()).unwrap();
        assert_eq!(lost, 0);
        t.add(Of::Parsed, 100);
        t.add(Of::Dropped, 5);
        t.closing(1_000, 3, 60);
        t.closed(true);
        // Not dropped: the process is gone, the file is as it was.
        std::mem::forget(t);
        let (t, lost) = Tally::open(dir.path()).unwrap();
        assert_eq!((lost, sums(&t)), (35, [100, 60, 5, 35]));
        drop(t);
        assert_eq!(Tally::open(dir.path()).unwrap().1, 0);
    }

    #[test]
    fn a_kill_around_the_rename_is_told_by_the_name() {
        for there in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (t, _) = Tally::open(dir.path()).unwrap();
            t.add(Of::Parsed, 10);
            t.closing(1_000, 3, 10);
            if there {
                std::fs::write(dir.path().join(file_name(1_000, 3)), "").unwrap();
            }
            let (t, lost) = Tally::open(dir.path()).unwrap();
            assert_eq!((lost, t.get(Of::Written)), if there { (0, 10) } else { (10, 0) });
        }
    }
}
