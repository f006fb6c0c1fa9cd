//! Files of a draw, and a sign of life while a large one is worked on.

use std::{
    fs,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Serialize, de::DeserializeOwned};
use tidegate_filters::seats::draw::{
    beacon::{BeaconRound, QUICKNET},
    digest::unhex,
    entries::{self, Listed},
    transcript::Transcript,
};

use super::super::{Failure, fail};

/// Larger JSON files are not read: a transcript has a few KiB.
const JSON_BYTES_MAX: u64 = 16 << 20;

/// Reads a JSON file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T, Failure> {
    let cannot = |why: String| fail(Failure::Usage, &format!("{}: cannot be read as {what}: {why}", path.display()));
    let size = fs::metadata(path).map_err(|e| cannot(e.to_string()))?.len();
    if size > JSON_BYTES_MAX {
        return Err(cannot(format!("it has {size} bytes, at most {JSON_BYTES_MAX} are looked at")));
    }
    let text = fs::read_to_string(path).map_err(|e| cannot(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| cannot(e.to_string()))
}

/// Writes a JSON file, indented, with a line feed.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| fail(Failure::Runtime, &e.to_string()))?;
    write(path, &format!("{text}\n"))
}

/// Writes a file that is on disk when this returns.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| fail(Failure::Runtime, &format!("{}: cannot be written: {e}", path.display()));
    let mut file = fs::File::create(path).map_err(cannot)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(cannot)
}

/// Reads an entries file.
pub(super) fn read_entries(path: &Path) -> Result<Listed, Failure> {
    let text = fs::read(path).map_err(|e| fail(Failure::Usage, &format!("{}: cannot be read: {e}", path.display())))?;
    entries::read(&text).map_err(|e| fail(Failure::Check, &format!("{}: {e}", path.display())))
}

/// Where the entries of a transcript are: beside it, unless told otherwise. Only the last part of the name counts.
pub(super) fn entries_of(transcript: &Path, t: &Transcript, given: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(path) = given {
        return Ok(path.clone());
    }
    let name = Path::new(&t.entries).file_name().filter(|n| *n == t.entries.as_str());
    let name = name.ok_or_else(|| {
        let what = format!("{}: `entries` is `{}`, not a plain file name; say --entries FILE", transcript.display(), t.entries);
        fail(Failure::Usage, &what)
    })?;
    Ok(transcript.with_file_name(name))
}

/// A beacon round: ours, or as drand's HTTP API answers (`{"round","randomness","signature"}`).
pub(super) fn read_round(path: &Path) -> Result<BeaconRound, Failure> {
    let value: serde_json::Value = read_json(path, "a beacon round")?;
    let drand = || {
        let randomness = value.get("randomness")?.as_str()?;
        let round = value.get("round")?.as_u64()?;
        let signature = value.get("signature")?.as_str()?.to_owned();
        Some(BeaconRound { source: QUICKNET.into(), round, value: unhex(randomness)?, signature })
    };
    drand().map_or_else(|| read_json(path, "a beacon round"), Ok)
}

/// A spinner on a terminal while something long is done; nothing elsewhere.
pub(super) struct Working(ProgressBar);

impl Working {
    /// Starts with what is done first.
    pub(super) fn on(what: &'static str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Working(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner();
        bar.set_style(
            ProgressStyle::with_template("{spinner} {msg} ({elapsed})").unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(Duration::from_millis(100));
        bar.set_message(what);
        Working(bar)
    }

    /// The next part.
    pub(super) fn now(&self, what: &'static str) {
        self.0.set_message(what);
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
