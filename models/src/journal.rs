//! The journal: one [`Row`] per parsed request, as Parquet (zstd) that any data tool reads.
//!
//! The gate, training, replay and the checkers share this one reader and writer. What a column is called, holds and means
//! is said once, in [`columns`]; [`schema_doc`] prints it.
//!
//! A file appears under its final name only when it is whole: [`JournalWriter`] writes `NAME.parquet.part` and renames.
//! A process that dies leaves a `.part` behind, and rotation bounds what such a death can lose.

use std::path::{Path, PathBuf};

use tidegate_filters::Row;

pub mod columns;
mod files;
mod parquet;

pub use self::{
    files::{file_name, keep_newest, list},
    parquet::{JournalReader, JournalWriter, ROW_GROUP_ROWS},
};

/// Version of the row's layout, in every file. Columns may be added without a new version; a column that changes its
/// meaning needs one.
pub const SCHEMA_VERSION: u32 = 1;

/// What is wrong with a journal file.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused.
    #[error("{path}: cannot {doing}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
    /// Not Parquet, cut short, or damaged.
    #[error("{path}: not a whole Parquet file: {why}; a `.part` file was never finished and cannot be read")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the reader met.
        why: String,
    },
    /// Parquet, but not a journal of this or an earlier version.
    #[error("{path}: not a journal this version can read: {why}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What differs.
        why: String,
    },
    /// The encoder failed.
    #[error("{path}: cannot encode rows: {why}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// What it said.
        why: String,
    },
}

impl JournalError {
    fn io(path: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| JournalError::Io { path: path.to_owned(), doing, source }
    }
}

/// All rows of one file, in the order they were written. For long files prefer [`JournalReader`], which holds one row
/// group at a time.
pub fn read(path: &Path) -> Result<Vec<Row>, JournalError> {
    JournalReader::open(path)?.collect()
}

/// The schema as a Markdown table: name, type, unit, meaning.
pub fn schema_doc() -> String {
    let mut doc = String::from("| column | type | unit | meaning |\n|---|---|---|---|\n");
    for c in &columns::COLUMNS {
        doc.push_str(&format!("| `{}` | {} | {} | {} |\n", c.name, c.cell.type_name(), c.unit, c.doc));
    }
    doc
}
