//! What an operator knows about visitors: a small file beside the journal, `visitor,label,note`, one line each.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use thiserror::Error;

/// Most labels of a file.
pub const LABELS_MAX: usize = 1_000_000;
/// Largest file of labels.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Longest note, characters.
const NOTE_MAX: usize = 200;
const HEADER: &str = "visitor,label,note";

/// What a visitor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// A person.
    Person,
    /// A program.
    Program,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "person" | "human" | "0" => Ok(Label::Person),
            "program" | "bot" | "1" => Ok(Label::Program),
            other => Err(format!("`{other}` is no label; write `person` or `program`")),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Label::Person => "person",
            Label::Program => "program",
        })
    }
}

/// What is wrong with a file of labels.
#[derive(Debug, Error)]
pub enum LabelError {
    /// The operating system refused.
    #[error("{path}: cannot {doing}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// A line.
    #[error("{path}:{line}: {why}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Which, from 1.
        line: usize,
        /// What is wrong and what to write.
        why: String,
    },
}

/// All labels, by visitor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<u64, (Label, String)>);

impl Labels {
    /// Reads a file; the last line about a visitor counts.
    pub fn read(path: &Path) -> Result<Labels, LabelError> {
        let io = |source| LabelError::Io { path: path.into(), doing: "read the labels", source };
        let mut text = String::new();
        let file = fs::File::open(path).map_err(io)?;
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            let why = format!("more than {FILE_BYTES_MAX} bytes; is this the right file?");
            return Err(LabelError::Line { path: path.into(), line: text.lines().count(), why });
        }
        let mut labels = Labels::default();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || (i == 0 && line.starts_with("visitor")) {
                continue;
            }
            let fail = |why: String| LabelError::Line { path: path.into(), line: i + 1, why };
            let mut cells = line.splitn(3, ',');
            let visitor = visitor(cells.next().unwrap_or_default()).map_err(fail)?;
            let label = cells.next().unwrap_or_default().parse().map_err(fail)?;
            labels.set(visitor, label, cells.next().unwrap_or_default());
            if labels.0.len() > LABELS_MAX {
                return Err(fail(format!("more than {LABELS_MAX} labels")));
            }
        }
        Ok(labels)
    }

    /// Writes all of them; a reader sees the old file or the new one.
    pub fn write(&self, path: &Path) -> Result<(), LabelError> {
        let io = |doing| move |source| LabelError::Io { path: path.into(), doing, source };
        let part = path.with_extension("part");
        let mut file = fs::File::create(&part).map_err(io("write the labels"))?;
        let lines = self.0.iter().map(|(v, (label, note))| format!("{v:016x},{label},{note}\n"));
        let text = format!("{HEADER}\n{}", lines.collect::<String>());
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write the labels"))?;
        fs::rename(&part, path).map_err(io("rename the labels"))
    }

    /// Says what a visitor is.
    pub fn set(&mut self, visitor: u64, label: Label, note: &str) {
        let note = note.chars().filter(|c| !c.is_control()).take(NOTE_MAX).collect::<String>().trim().to_owned();
        self.0.insert(visitor, (label, note));
    }

    /// What a visitor is.
    pub fn get(&self, visitor: u64) -> Option<Label> {
        self.0.get(&visitor).map(|(l, _)| *l)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A visitor's hash as the journal's tools print it.
pub fn visitor(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let hex = text.strip_prefix("0x").unwrap_or(text);
    let found = (hex.len() == 16).then(|| u64::from_str_radix(hex, 16).ok()).flatten();
    found.ok_or_else(|| format!("`{}` is no visitor; one has 16 hexadecimal digits", text.chars().take(40).collect::<String>()))
}
