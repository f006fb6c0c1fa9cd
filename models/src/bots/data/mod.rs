//! Labelled visits from what there is: our journal with a file of labels, access logs, tables with named columns, made-up
//! sales.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{Sample, logs, programs::Family, traces};
use crate::{
    features::{FEATURES, N},
    forecast::data::DataError,
    packed::packed,
    tune::{LabelError, Labels},
};

mod columnar;
mod journal;
mod table;

/// Most visits that are learnt from or judged at once; each takes about 260 bytes.
pub const VISITS_MAX: usize = 2_000_000;
/// Largest CSV that is read.
const CSV_BYTES_MAX: u64 = 4 << 30;
/// Made-up worlds of one source.
const WORLDS_MAX: u64 = 1_000;
/// The word for made-up sales: `worlds:40` or `worlds:40@7`, number and seed.
pub const WORLDS: &str = "worlds:";
/// Share of a log's lines that may be unreadable.
const UNREADABLE_MAX: f64 = 0.2;

/// How to read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Labels of a journal's visitors, as `tidegate bots label` keeps them.
    pub labels: Option<PathBuf>,
    /// A table's column of labels; `label` when left out.
    pub label_column: Option<String>,
    /// A table's column that says what belongs together; `network` when left out.
    pub group_column: Option<String>,
}

/// What one source was taken for, and what is odd about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    /// Its name in all tables: a site.
    pub site: String,
    /// `journal`, `log`, `table` or `worlds`.
    pub kind: &'static str,
    /// Rows or lines read.
    pub rows: u64,
    /// Labelled visits kept.
    pub visits: usize,
    /// In words.
    pub notes: Vec<String>,
}

/// Labelled visits.
#[derive(Debug, Default)]
pub struct Visits {
    /// In the order of the sources and their rows.
    pub samples: Vec<Sample>,
    /// One for each source.
    pub told: Vec<Told>,
}

/// Reads all sources: folders and files, or `worlds:N`.
pub fn read(sources: &[String], options: &Options) -> Result<Visits, DataError> {
    let labels = options.labels.as_deref().map(labels_of).transpose()?;
    let mut all = Visits::default();
    let mut sites: BTreeSet<String> = BTreeSet::new();
    for source in sources {
        // Two sources of one name are two sites.
        let name = name_of(source);
        let again = (2..).map(|i| format!("{name} {i}"));
        let site = std::iter::once(name.clone()).chain(again).find(|s| !sites.contains(s)).unwrap_or(name);
        sites.insert(site.clone());
        let (samples, told) = one(source, &site, options, labels.as_ref())?;
        all.samples.extend(samples);
        all.told.push(told);
        if all.samples.len() > VISITS_MAX {
            let why = format!("more than {VISITS_MAX} labelled visits together: give less at once");
            return Err(DataError::Whole { path: source.into(), why });
        }
    }
    let column = options.label_column.as_ref().or(options.group_column.as_ref());
    if let (Some(name), Some(first)) = (column, sources.first())
        && all.told.iter().all(|t| t.kind != "table")
    {
        let kind = match all.told.first().map(|t| t.kind) {
            Some("journal") => "a journal",
            Some("log") => "an access log",
            _ => "made-up sales",
        };
        let why = format!("is read as {kind}, which has no column `{name}`: columns are named of tables (CSV, Parquet) only");
        return Err(DataError::Whole { path: first.into(), why });
    }
    Ok(all)
}

fn one(source: &str, site: &str, options: &Options, labels: Option<&Labels>) -> Result<(Vec<Sample>, Told), DataError> {
    let path = Path::new(source);
    let io = |source| DataError::Io { path: path.to_owned(), doing: "read it", source };
    let told = |kind, rows, visits, notes| Told { site: site.to_owned(), kind, rows, visits, notes };
    if let Some(asked) = source.strip_prefix(WORLDS) {
        let samples = worlds(path, asked, site)?;
        let visits = samples.len();
        return Ok((samples, told("worlds", visits as u64, visits, vec![])));
    }
    let found = fs::metadata(path).map_err(io)?;
    // What can be read only once, or never ends: its beginning says what it is, and then it is read.
    if !found.is_dir() && !found.is_file() {
        let why = "is no regular file; write what it holds to one first".into();
        return Err(DataError::Whole { path: path.to_owned(), why });
    }
    let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    if found.is_dir() || (ending == "parquet" && columnar::is_journal(path)?) {
        let read = journal::read(path, site, labels)?;
        return Ok((read.samples, told("journal", read.rows, read.kept, read.notes)));
    }
    if ending == "parquet" {
        let mut table = table::Builder::new(path, site, options, columnar::columns(path)?)?;
        columnar::rows(path, &mut |line, cell| table.take(line, cell))?;
        let (samples, rows, notes) = table.finish()?;
        let visits = samples.len();
        return Ok((samples, told("table", rows, visits, notes)));
    }
    let mut head = vec![];
    fs::File::open(path).map_err(io)?.take(64 << 10).read_to_end(&mut head).map_err(io)?;
    if let Some(why) = packed(&head) {
        return Err(DataError::Whole { path: path.to_owned(), why });
    }
    if looks_like_a_log(&head) {
        let whole = |why: String| DataError::Whole { path: path.to_owned(), why };
        let (lines, bad) = logs::read(path).map_err(|e| whole(e.to_string()))?;
        if bad as f64 > UNREADABLE_MAX * (lines.len() + bad) as f64 {
            return Err(whole(format!("{bad} of {} lines are none of a combined access log", lines.len() + bad)));
        }
        let samples = logs::replay(&lines, site);
        let mut notes =
            vec!["labels are what clients say of themselves; User-Agent and robots.txt are hidden from the features".into()];
        if bad > 0 {
            notes.push(format!("{bad} lines could not be read"));
        }
        let visits = samples.len();
        return Ok((samples, told("log", (lines.len() + bad) as u64, visits, notes)));
    }
    if found.len() > CSV_BYTES_MAX {
        let why = format!("{} bytes; at most {CSV_BYTES_MAX} are read: split it", found.len());
        return Err(DataError::Whole { path: path.to_owned(), why });
    }
    let (samples, rows, notes) = table::csv(path, site, options)?;
    let visits = samples.len();
    Ok((samples, told("table", rows, visits, notes)))
}

/// Made-up sales, all families of programs in them.
fn worlds(path: &Path, asked: &str, site: &str) -> Result<Vec<Sample>, DataError> {
    let (n, seed) = asked.split_once('@').unwrap_or((asked, "1"));
    let number = |text: &str| text.parse::<u64>().ok();
    let (Some(n @ 1..=WORLDS_MAX), Some(seed)) = (number(n), number(seed)) else {
        let why = format!("write {WORLDS}N or {WORLDS}N@SEED, N from 1 to {WORLDS_MAX}, such as {WORLDS}40@7");
        return Err(DataError::Whole { path: path.to_owned(), why });
    };
    let first = seed.wrapping_mul(1_000_003);
    Ok((0..n).flat_map(|i| traces::world(first.wrapping_add(i), &Family::ALL, site)).collect())
}

fn labels_of(path: &Path) -> Result<Labels, DataError> {
    Labels::read(path).map_err(|e| match e {
        LabelError::Io { path, doing, source } => DataError::Io { path, doing, source },
        LabelError::Line { path, line, why } => DataError::Line { path, line, why },
    })
}

/// Of the first lines that are not empty most are lines of a log.
fn looks_like_a_log(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let mut lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    if lines.len() > 1 {
        lines.pop();
    }
    !lines.is_empty() && 2 * lines.iter().filter(|l| logs::parse(l).is_some()).count() > lines.len()
}

fn name_of(source: &str) -> String {
    if source.starts_with(WORLDS) {
        return "made up".into();
    }
    let path = Path::new(source);
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    let name = name.map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    // A journal's folder is called so; the folder above says whose it is.
    let above = path.parent().and_then(Path::file_name).filter(|_| name == "journal");
    above.map_or(name.clone(), |a| format!("{} {name}", a.to_string_lossy()))
}

/// Labelled visits as a CSV that [`read`] takes back, for trainers of anybody.
pub fn to_csv(samples: &[Sample]) -> String {
    table::to_csv(samples)
}

/// What is odd about labels, in words: the same features under both of them, and visitors that are both.
pub fn contradictions(samples: &[Sample]) -> Vec<String> {
    let mut rows: HashMap<[u32; N], [u32; 2]> = HashMap::new();
    let mut visitors: HashMap<(&str, u64), [u32; 2]> = HashMap::new();
    for s in samples {
        rows.entry(s.features.map(f32::to_bits)).or_default()[usize::from(s.bot)] += 1;
        visitors.entry((&*s.site, s.visitor)).or_default()[usize::from(s.bot)] += 1;
    }
    let mut notes = vec![];
    let alike: u32 = rows.values().filter(|n| n[0] > 0 && n[1] > 0).map(|n| n[0] + n[1]).sum();
    if alike > 0 {
        let share = 100.0 * f64::from(alike) / samples.len() as f64;
        notes.push(format!("{alike} visits ({share:.1} %) have exactly the features of one with the other label"));
    }
    let both = visitors.values().filter(|n| n[0] > 0 && n[1] > 0).count();
    if both > 0 {
        notes.push(format!("{both} visitors are labelled person and program; check them with `tidegate bots label`"));
    }
    notes
}

/// Share of visits in which a feature says anything: features that never do are told.
pub fn silent(samples: &[Sample]) -> Vec<&'static str> {
    let says = |i: usize| samples.iter().any(|s| s.features[i] != samples[0].features[i]);
    FEATURES.iter().enumerate().filter(|(i, _)| !says(*i)).map(|(_, f)| f.name).collect()
}

#[cfg(test)]
mod tests;
