//! What an operator knows about visitors: a small CSV beside the journal, `visitor,label,note,family`, one line each.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    str::FromStr,
    thread,
    time::Duration,
};

use csv::{ReaderBuilder, StringRecord, Trim, WriterBuilder};
use thiserror::Error;

use crate::forecast::data::line_of;

/// Most labels of a file.
pub const LABELS_MAX: usize = 1_000_000;
/// Largest file of labels.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Longest note, characters.
const NOTE_MAX: usize = 200;
const HEADER: [&str; 4] = ["visitor", "label", "note", "family"];
/// How long a change waits for another process that is changing the same file.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_NAP: Duration = Duration::from_millis(20);

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
            "person" | "human" | "0" | "false" => Ok(Label::Person),
            "program" | "bot" | "1" | "true" => Ok(Label::Program),
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

/// One visitor's label.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    label: Label,
    note: String,
    family: String,
}

/// All labels, by visitor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<u64, Known>);

impl Labels {
    /// Reads a file; the last line about a visitor counts. A header may name the columns in any order.
    pub fn read(path: &Path) -> Result<Labels, LabelError> {
        let io = |source| LabelError::Io { path: path.into(), doing: "read the labels", source };
        let mut text = String::new();
        let file = fs::File::open(path).map_err(io)?;
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            let why = format!("more than {FILE_BYTES_MAX} bytes; is this the right file?");
            return Err(LabelError::Line { path: path.into(), line: text.lines().count(), why });
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut reader = ReaderBuilder::new();
        reader.has_headers(false).flexible(true).comment(Some(b'#')).trim(Trim::All);
        let (mut labels, mut columns) = (Labels::default(), Columns::default());
        for (i, record) in reader.from_reader(text.as_bytes()).records().enumerate() {
            // The text is UTF-8 and lengths may differ: nothing else can be wrong about a record.
            let Ok(record) = record else { continue };
            let line = line_of(text, &record);
            let fail = |why: String| LabelError::Line { path: path.into(), line, why };
            if i == 0 && record.iter().any(|c| c.eq_ignore_ascii_case("visitor")) {
                columns = Columns::named(&record).map_err(fail)?;
                continue;
            }
            let visitor = visitor(record.get(columns.at[0]).unwrap_or_default()).map_err(fail)?;
            let label = record.get(columns.at[1]).unwrap_or_default().parse().map_err(fail)?;
            labels.set_with(visitor, label, &columns.note(&record), columns.family(&record));
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
        let file = fs::File::create(&part).map_err(io("write the labels"))?;
        let mut writer = WriterBuilder::new().from_writer(&file);
        let put = |record: [&str; 4], writer: &mut csv::Writer<&fs::File>| {
            writer.write_record(record).map_err(io::Error::from).map_err(io("write the labels"))
        };
        put(HEADER, &mut writer)?;
        for (visitor, k) in &self.0 {
            put([&format!("{visitor:016x}"), &k.label.to_string(), &k.note, &k.family], &mut writer)?;
        }
        writer.flush().map_err(io("write the labels"))?;
        drop(writer);
        file.sync_all().map_err(io("write the labels"))?;
        fs::rename(&part, path).map_err(io("rename the labels"))
    }

    /// Reads a file (a missing one has no labels), changes it and writes it, while nobody else changes it.
    pub fn change(path: &Path, change: impl FnOnce(&mut Labels)) -> Result<Labels, LabelError> {
        let _held = lock(path)?;
        let mut labels = if path.exists() { Labels::read(path)? } else { Labels::default() };
        change(&mut labels);
        labels.write(path)?;
        Ok(labels)
    }

    /// Says what a visitor is; its family stays.
    pub fn set(&mut self, visitor: u64, label: Label, note: &str) {
        let family = self.family(visitor).to_owned();
        self.set_with(visitor, label, note, &family);
    }

    /// Says what a visitor is, and of which family of programs.
    pub fn set_with(&mut self, visitor: u64, label: Label, note: &str, family: &str) {
        let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(NOTE_MAX).collect::<String>().trim().to_owned();
        self.0.insert(visitor, Known { label, note: clean(note), family: clean(family) });
    }

    /// What a visitor is.
    pub fn get(&self, visitor: u64) -> Option<Label> {
        self.0.get(&visitor).map(|k| k.label)
    }

    /// Of which family it is; empty when nobody said.
    pub fn family(&self, visitor: u64) -> &str {
        self.0.get(&visitor).map_or("", |k| &k.family)
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

/// Where the columns are.
struct Columns {
    at: [usize; 2],
    note: Option<usize>,
    family: Option<usize>,
}

impl Default for Columns {
    fn default() -> Self {
        Columns { at: [0, 1], note: Some(2), family: None }
    }
}

impl Columns {
    fn named(header: &StringRecord) -> Result<Self, String> {
        let find = |name: &str| header.iter().position(|c| c.eq_ignore_ascii_case(name));
        let (Some(visitor), Some(label)) = (find("visitor"), find("label")) else {
            return Err("names no column `label`; the header is `visitor,label,note,family`".into());
        };
        Ok(Columns { at: [visitor, label], note: find("note"), family: find("family") })
    }

    /// Notes written by hand may hold commas without quotes: with nothing behind them they go to the end of the line.
    fn note(&self, record: &StringRecord) -> String {
        let cells = |from: usize| record.iter().skip(from).collect::<Vec<_>>().join(",");
        match (self.note, self.family) {
            (Some(at), None) => cells(at),
            (Some(at), Some(_)) => record.get(at).unwrap_or_default().to_owned(),
            (None, _) => String::new(),
        }
    }

    fn family<'r>(&self, record: &'r StringRecord) -> &'r str {
        self.family.and_then(|at| record.get(at)).unwrap_or_default()
    }
}

/// A lock beside the file (the file itself is replaced when it changes), held until it is dropped.
fn lock(path: &Path) -> Result<fs::File, LabelError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = PathBuf::from(name);
    let io = |doing| move |source| LabelError::Io { path: path.into(), doing, source };
    let file = fs::File::create(&lock).map_err(io("lock the labels"))?;
    for _ in 0..LOCK_WAIT.as_millis() / LOCK_NAP.as_millis() {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => thread::sleep(LOCK_NAP),
            Err(fs::TryLockError::Error(e)) => return Err(io("lock the labels")(e)),
        }
    }
    let busy = io::Error::new(io::ErrorKind::TimedOut, "another process has been changing them for 10 s");
    Err(io("lock the labels")(busy))
}

/// A visitor's hash as the journal's tools print it.
pub fn visitor(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let hex = text.strip_prefix("0x").unwrap_or(text);
    let found = (hex.len() == 16).then(|| u64::from_str_radix(hex, 16).ok()).flatten();
    found.ok_or_else(|| format!("`{}` is no visitor; one has 16 hexadecimal digits", text.chars().take(40).collect::<String>()))
}
