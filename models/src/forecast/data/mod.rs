//! Series of counts from what a site has: our journal, access logs, any CSV.

mod csv;
mod describe;
mod journal;
mod lines;
mod series;
mod sessions;
mod time;

use crate::packed::packed;
use std::{
    fs,
    io::Read as _,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

pub(crate) use self::csv::line_of;
pub(crate) use self::lines::{Frame, frame};
pub use self::{
    describe::{Description, Outlier, Season, describe, outliers},
    series::{Absent, Gap, STEPS_MAX, Series},
    sessions::Count,
};
use serde::Serialize;

/// Largest file that is read.
pub const FILE_BYTES_MAX: u64 = 4 << 30;
/// Most that is read from a pipe, whose end nobody knows.
pub const PIPE_BYTES_MAX: u64 = 1 << 30;
/// Largest count of one step.
pub const COUNT_MAX: f64 = 1e12;

/// What cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused.
    #[error("{path}: cannot {doing}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("{path}:{line}: {why}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What is wrong and what to do.
        why: String,
    },
    /// The whole is wrong.
    #[error("{path}: {why}")]
    Whole {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A folder or file of our journal.
    Journal,
    /// Common or combined access log: nginx, Apache and many others.
    Combined,
    /// One JSON object a line.
    Json,
    /// HAProxy's HTTP log.
    Haproxy,
    /// Times and counts, or times alone.
    Csv,
}

/// How to read.
#[derive(Clone, Debug)]
pub struct Options {
    /// `None`: look and see.
    pub format: Option<Format>,
    /// Length of a step, seconds; `None`: the CSV's own, a minute for logs.
    pub step_s: Option<u32>,
    /// What a step without a line means.
    pub absent: Absent,
    /// What is counted in logs and the journal.
    pub count: Count,
    /// Count declared programs too.
    pub keep_bots: bool,
    /// Name of the CSV's column of times.
    pub time_column: Option<String>,
    /// Name of the CSV's column of counts.
    pub count_column: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            format: None,
            step_s: None,
            absent: Absent::Auto,
            count: Count::Arrivals,
            keep_bots: false,
            time_column: None,
            count_column: None,
        }
    }
}

/// What was left out on the way, and what is odd.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Lines or rows read.
    pub rows: u64,
    /// Lines of a log that are none.
    pub unreadable: u64,
    /// Requests of declared programs, left out.
    pub bots: u64,
    /// Polls, left out.
    pub polls: u64,
    /// Requests for images, styles, scripts, left out where people are counted.
    pub assets: u64,
    /// Requests of people who were there already.
    pub repeats: u64,
    /// Rows with a time that was there before; the last one counts.
    pub duplicates: u64,
    /// Rows that came before their turn; sorted.
    pub unsorted: u64,
    /// Steps after the stock was gone: what came then says nothing about what would have come.
    pub censored: u64,
    /// In words.
    pub notes: Vec<String>,
}

/// A series and how it came about.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The counts.
    pub series: Series,
    /// What the file was taken for.
    pub format: Format,
    /// What was left out.
    pub report: Report,
}

/// Reads a file, or a folder of the journal.
pub fn import(path: &Path, options: &Options) -> Result<Imported, DataError> {
    let whole = |why: String| DataError::Whole { path: path.to_owned(), why };
    let io = |doing| move |source| DataError::Io { path: path.to_owned(), doing, source };
    let found = fs::metadata(path).map_err(io("read it"))?;
    if found.is_dir() || options.format == Some(Format::Journal) || path.extension().is_some_and(|e| e == "parquet") {
        return journal::read(path, options);
    }
    let kind = found.file_type();
    let most = if kind.is_file() { FILE_BYTES_MAX } else { PIPE_BYTES_MAX };
    if kind.is_char_device() || kind.is_block_device() {
        return Err(whole("is a device and may never end; write what it holds to a file first".into()));
    }
    let mut bytes = Vec::new();
    if found.len() <= most {
        fs::File::open(path).map_err(io("open it"))?.take(most + 1).read_to_end(&mut bytes).map_err(io("read it"))?;
    }
    if found.len().max(bytes.len() as u64) > most {
        return Err(whole(format!("holds more than {most} bytes, which are the most that is read: split it")));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(whole("is empty; a series needs at least two lines with a time and a count".into()));
    }
    if let Some(why) = packed(bytes) {
        return Err(whole(why));
    }
    let format = options.format.unwrap_or_else(|| lines::guess(bytes));
    match format {
        Format::Csv => csv::read(path, bytes, options),
        _ => lines::read(path, bytes, format, options),
    }
}

/// What a file is called in tables: its name without ending.
fn name_of(path: &Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned()
}

#[cfg(test)]
mod tests;
