//! Names and rotation of journal files. No clock: the time comes in.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use super::JournalError;

const PREFIX: &str = "journal-";
const WHOLE: &str = ".parquet";
const PART: &str = ".parquet.part";

/// `journal-YYYYMMDDTHHMMSS-NNN.parquet` (UTC): names sort by time, then number.
pub fn file_name(wall_ms: u64, number: u32) -> String {
    let s = wall_ms / 1000;
    let (y, m, d) = civil(s / 86_400);
    let t = s % 86_400;
    format!("{PREFIX}{y:04}{m:02}{d:02}T{:02}{:02}{:02}-{number:03}{WHOLE}", t / 3600, t / 60 % 60, t % 60)
}

/// Finished journals of a folder, oldest first. A folder that does not exist has none.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>, JournalError> {
    Ok(sorted(folder, WHOLE)?.into_iter().map(|(_, p)| p).collect())
}

/// Deletes all but the `keep` newest finished journals, and unfinished ones that are older than every one kept. Returns
/// how many files went.
pub fn keep_newest(folder: &Path, keep: usize) -> Result<usize, JournalError> {
    let whole = sorted(folder, WHOLE)?;
    let cut = whole.len().saturating_sub(keep);
    let oldest_kept = whole.get(cut).map(|(key, _)| key.clone());
    let parts = sorted(folder, PART)?.into_iter().filter(|(key, _)| oldest_kept.as_ref().is_some_and(|o| key < o));
    let mut gone = 0;
    for (_, path) in whole.iter().take(cut).cloned().chain(parts) {
        fs::remove_file(&path).map_err(JournalError::io(&path, "delete an old journal"))?;
        gone += 1;
    }
    Ok(gone)
}

type Key = (String, u32);

fn sorted(folder: &Path, suffix: &str) -> Result<Vec<(Key, PathBuf)>, JournalError> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        r => r.map_err(JournalError::io(folder, "list journals"))?,
    };
    let mut found = vec![];
    for entry in entries {
        let path = entry.map_err(JournalError::io(folder, "list journals"))?.path();
        if let Some(key) = path.file_name().and_then(OsStr::to_str).and_then(|n| key(n, suffix)) {
            found.push((key, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Time stamp and number of a name that is ours; anything else in the folder is left alone.
fn key(name: &str, suffix: &str) -> Option<Key> {
    let (stamp, number) = name.strip_prefix(PREFIX)?.strip_suffix(suffix)?.split_once('-')?;
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let (date, time) = stamp.split_once('T')?;
    (date.len() == 8 && time.len() == 6 && digits(date) && digits(time) && digits(number))
        .then(|| number.parse().ok().map(|n| (stamp.to_owned(), n)))?
}

/// Days since 1970-01-01 to year, month, day (Gregorian, eras of 400 years = 146,097 days that begin on 1 March).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let m = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(m <= 2), m, doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn names_carry_utc_and_sort() {
        assert_eq!(file_name(0, 0), "journal-19700101T000000-000.parquet");
        assert_eq!(file_name(951_782_399_999, 7), "journal-20000228T235959-007.parquet");
        assert_eq!(file_name(951_782_400_000, 7), "journal-20000229T000000-007.parquet");
        assert_eq!(file_name(1_782_907_205_000, 12), "journal-20260701T120005-012.parquet");
        assert_eq!(key(&file_name(1_782_907_205_000, 1234), WHOLE).unwrap().1, 1234);
    }

    #[test]
    fn only_the_newest_stay_and_strangers_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let put = |n: &str| fs::write(dir.path().join(n), b"x").unwrap();
        for i in [3u32, 1, 1000, 2, 999] {
            put(&file_name(5_000, i));
        }
        put(&file_name(4_000, 9));
        put(&format!("{}.part", file_name(1_000, 0)));
        put(&format!("{}.part", file_name(9_000, 0)));
        put("journal-notes.parquet");
        put("sales.parquet");
        assert_eq!(keep_newest(dir.path(), 2).unwrap(), 5);
        let names: Vec<_> =
            list(dir.path()).unwrap().iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        assert_eq!(names, [file_name(5_000, 999), file_name(5_000, 1000)]);
        assert!(dir.path().join(format!("{}.part", file_name(9_000, 0))).exists(), "may still be written");
        assert!(dir.path().join("journal-notes.parquet").exists() && dir.path().join("sales.parquet").exists());
        assert_eq!(keep_newest(dir.path(), 2).unwrap(), 0);
        assert!(list(&dir.path().join("absent")).unwrap().is_empty());
    }
}
