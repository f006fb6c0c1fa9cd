//! Any labelled table whose columns have the names of features.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use csv::{ReaderBuilder, Trim};

use super::{Options, VISITS_MAX};
use crate::{
    bots::{Sample, logs::hash},
    features::{BOUND, FEATURES, Features, N},
    forecast::data::DataError,
    tune::Label,
};

/// Most columns that are looked at.
const COLUMNS_MAX: usize = 4_096;
/// Columns named in one note.
const NAMED_MAX: usize = 12;
/// Words for a cell that says nothing.
const EMPTY: [&str; 5] = ["", "na", "nan", "null", "none"];

/// What a cell holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Empty,
    Number(f64),
    /// A number of 64 bits, which may be a hash.
    Whole(u64),
    Text(String),
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Cell::Empty => String::new(),
            Cell::Number(n) => n.to_string(),
            Cell::Whole(n) => n.to_string(),
            Cell::Text(t) => t.trim().to_owned(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Cell::Empty => true,
            Cell::Text(t) => EMPTY.iter().any(|e| t.trim().eq_ignore_ascii_case(e)),
            _ => false,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Cell::Empty => None,
            Cell::Number(n) => Some(*n),
            Cell::Whole(n) => Some(*n as i64 as f64),
            Cell::Text(t) => t.trim().parse().ok(),
        }
    }

    /// The same text, the same key.
    fn key(&self) -> u64 {
        hash(&[&self.text()])
    }
}

/// Columns that are no features.
#[derive(Default)]
struct Others {
    network: Option<usize>,
    visitor: Option<usize>,
    visit: Option<usize>,
    family: Option<usize>,
    site: Option<usize>,
    weight: Option<usize>,
}

/// Takes rows and makes samples of them.
pub(super) struct Builder {
    path: PathBuf,
    site: Arc<str>,
    label: usize,
    label_name: String,
    features: Vec<(usize, usize)>,
    others: Others,
    names: BTreeMap<String, Arc<str>>,
    visits: HashMap<u64, u32>,
    samples: Vec<Sample>,
    rows: u64,
    empty: u64,
    notes: Vec<String>,
}

impl Builder {
    /// Looks at the names of columns.
    pub(super) fn new(path: &Path, site: &str, options: &Options, columns: Vec<String>) -> Result<Self, DataError> {
        let fail = |why: String| Err(DataError::Whole { path: path.to_owned(), why });
        if columns.len() > COLUMNS_MAX {
            return fail(format!("{} columns; at most {COLUMNS_MAX} are read", columns.len()));
        }
        if columns.iter().all(|c| c.trim().is_empty()) {
            return fail("is empty: its first line has to name the columns, `label` and features among them".into());
        }
        let find = |name: &str| columns.iter().position(|c| c.trim().eq_ignore_ascii_case(name));
        let label_name = options.label_column.clone().unwrap_or_else(|| "label".into());
        let Some(label) = find(&label_name) else {
            return fail(format!(
                "has no column `{label_name}`; its columns are: {}; name it with --label-column",
                some(&columns)
            ));
        };
        if let Some(name) = options.group_column.as_ref().filter(|n| find(n).is_none()) {
            return fail(format!("has no column `{name}`; its columns are: {}", some(&columns)));
        }
        if let Some(twice) = columns.iter().enumerate().find(|(i, c)| columns[..*i].contains(c)).map(|(_, c)| c) {
            return fail(format!("has two columns `{twice}`"));
        }
        let features: Vec<(usize, usize)> = FEATURES.iter().enumerate().filter_map(|(i, f)| Some((i, find(f.name)?))).collect();
        if features.is_empty() {
            return fail(format!(
                "has no column with the name of a feature; its columns are: {}; `tidegate train bots --list-features` prints the names",
                some(&columns)
            ));
        }
        let others = Others {
            network: find(options.group_column.as_deref().unwrap_or("network")),
            visitor: find("visitor"),
            visit: find("visit"),
            family: find("family"),
            site: find("site"),
            weight: find("weight"),
        };
        let mut notes = vec![];
        let missing: Vec<String> = FEATURES.iter().filter(|f| find(f.name).is_none()).map(|f| f.name.to_owned()).collect();
        if !missing.is_empty() {
            notes.push(format!("{} features are missing and count as unknown (0): {}", missing.len(), some(&missing)));
        }
        let used = [others.network, others.visitor, others.visit, others.family, others.site, others.weight, Some(label)];
        let unknown: Vec<String> = (0..columns.len())
            .filter(|c| !used.contains(&Some(*c)) && !features.iter().any(|(_, at)| at == c))
            .map(|c| columns[c].clone())
            .collect();
        if !unknown.is_empty() {
            notes.push(format!("{} columns are no features and are not looked at: {}", unknown.len(), some(&unknown)));
        }
        if others.network.is_none() && others.visitor.is_none() {
            notes.push(
                "no column `network` or `visitor`: every row counts as a network of its own, so figures may flatter".into(),
            );
        }
        Ok(Builder {
            path: path.to_owned(),
            site: site.into(),
            label,
            label_name,
            features,
            others,
            names: BTreeMap::new(),
            visits: HashMap::new(),
            samples: vec![],
            rows: 0,
            empty: 0,
            notes,
        })
    }

    /// Takes a row; `line` is for messages.
    pub(super) fn take(&mut self, line: usize, cell: &dyn Fn(usize) -> Cell) -> Result<(), DataError> {
        let path = self.path.clone();
        let fail = |why: String| DataError::Line { path: path.clone(), line, why };
        self.rows += 1;
        if self.samples.len() >= VISITS_MAX {
            return Err(fail(format!("more than {VISITS_MAX} labelled visits: give less at once")));
        }
        let label = cell(self.label);
        if label.is_empty() {
            self.empty += 1;
            return Ok(());
        }
        let label: Label = label.text().parse().map_err(|why: String| fail(format!("{}: {why}", self.label_name)))?;
        let mut features: Features = [0.0; N];
        for (feature, column) in &self.features {
            let (value, name) = (cell(*column), FEATURES[*feature].name);
            if value.is_empty() {
                continue;
            }
            let number = value.number().ok_or_else(|| fail(format!("{name}: `{}` is no number", short(&value.text()))))?;
            if !number.is_finite() || number.abs() > f64::from(BOUND) {
                return Err(fail(format!("{name}: {number} lies outside what features can be, -{BOUND} to {BOUND}")));
            }
            features[*feature] = number as f32;
        }
        let key = |column: Option<usize>| column.map(cell).filter(|c| !c.is_empty()).map(|c| c.key());
        let visitor = key(self.others.visitor).or_else(|| key(self.others.network)).unwrap_or(line as u64);
        let network = key(self.others.network).unwrap_or(visitor);
        let counted = self.visits.entry(visitor).or_default();
        *counted += 1;
        let number = |column: Option<usize>, name: &str, least: f64, most: f64| match column.map(cell) {
            Some(c) if !c.is_empty() => {
                let n = c.number().filter(|n| (least..=most).contains(n));
                n.map(Some).ok_or_else(|| fail(format!("{name}: `{}` is no number from {least} to {most}", short(&c.text()))))
            }
            _ => Ok(None),
        };
        let visit = number(self.others.visit, "visit", 1.0, 4e9)?.map_or(*counted, |n| n as u32);
        let weight = number(self.others.weight, "weight", 1e-6, 1e6)?.map_or(1.0, |n| n as f32);
        let mut name = |column: Option<usize>| {
            let text = column.map(|c| short(&cell(c).text())).unwrap_or_default();
            self.names.entry(text.clone()).or_insert_with(|| text.as_str().into()).clone()
        };
        let (family, site) = (name(self.others.family), name(self.others.site));
        let site = if site.is_empty() { self.site.clone() } else { site };
        self.samples.push(Sample { features, bot: label == Label::Program, family, site, network, visitor, visit, weight });
        Ok(())
    }

    /// Samples, rows read, what is odd.
    pub(super) fn finish(mut self) -> Result<(Vec<Sample>, u64, Vec<String>), DataError> {
        if self.samples.is_empty() {
            return Err(DataError::Whole { path: self.path, why: "has no row with a label".into() });
        }
        if self.empty > 0 {
            self.notes.push(format!("{} rows have no label and are left out", self.empty));
        }
        Ok((self.samples, self.rows, self.notes))
    }
}

/// A CSV with a header; quoting by RFC 4180.
pub(super) fn csv(path: &Path, site: &str, options: &Options) -> Result<(Vec<Sample>, u64, Vec<String>), DataError> {
    let fail = |e: csv::Error| {
        let line = e.position().map_or(1, |p| p.line() as usize);
        DataError::Line { path: path.to_owned(), line, why: format!("{e}; a table is UTF-8 text with one header line") }
    };
    let mut reader = ReaderBuilder::new().trim(Trim::All).from_path(path).map_err(fail)?;
    let header = reader.headers().map_err(fail)?;
    let columns: Vec<String> = header.iter().map(|h| h.trim_start_matches('\u{feff}').to_owned()).collect();
    let mut table = Builder::new(path, site, options, columns)?;
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(fail)? {
        let line = record.position().map_or(0, |p| p.line() as usize);
        table.take(line, &|i| record.get(i).map_or(Cell::Empty, |t| Cell::Text(t.to_owned())))?;
    }
    table.finish()
}

/// Labelled visits as a table that [`csv`] reads, and any data tool.
pub(super) fn to_csv(samples: &[Sample]) -> String {
    let others = ["label", "site", "family", "network", "visitor", "visit", "weight"];
    let mut text = others.into_iter().chain(FEATURES.iter().map(|f| f.name)).collect::<Vec<_>>().join(",");
    let quoted = |t: &str| format!("\"{}\"", t.replace('"', "\"\""));
    for s in samples {
        let label = if s.bot { Label::Program } else { Label::Person };
        let (site, family) = (quoted(&s.site), quoted(&s.family));
        text += &format!("\n{label},{site},{family},{:016x},{:016x},{},{}", s.network, s.visitor, s.visit, s.weight);
        s.features.iter().for_each(|v| text += &format!(",{v}"));
    }
    text.push('\n');
    text
}

fn some(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(NAMED_MAX).map(|n| short(n)).collect();
    let more = if names.len() > NAMED_MAX { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}
