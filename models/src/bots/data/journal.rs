//! Our journal: the features of scored visits, labelled by visitor.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::VISITS_MAX;
use crate::{
    bots::{Sample, keep_visit},
    features::{Features, mix},
    forecast::data::DataError,
    journal::{JournalReader, list},
    tune::{Label, Labels},
};

pub(super) struct Read {
    pub(super) samples: Vec<Sample>,
    pub(super) rows: u64,
    pub(super) kept: usize,
    pub(super) notes: Vec<String>,
}

pub(super) fn read(path: &Path, site: &str, labels: Option<&Labels>) -> Result<Read, DataError> {
    let whole = |why: String| DataError::Whole { path: path.to_owned(), why };
    let Some(labels) = labels else {
        return Err(whole(
            "a journal says what visitors did, not what they are: give --labels FILE (`tidegate bots label` keeps one)".into(),
        ));
    };
    let files: Vec<PathBuf> = if path.is_dir() { list(path).map_err(|e| whole(e.to_string()))? } else { vec![path.to_owned()] };
    if files.is_empty() {
        return Err(whole("holds no journal files; they appear when their first file is closed".into()));
    }
    let mut out = Read { samples: vec![], rows: 0, kept: 0, notes: vec![] };
    let (mut seen, mut names) = (BTreeMap::<u64, u32>::new(), BTreeMap::<String, Arc<str>>::new());
    let (mut unlabelled, mut known) = (0u64, BTreeSet::new());
    let site: Arc<str> = site.into();
    for file in &files {
        let reader = match JournalReader::open(file) {
            Ok(reader) => reader,
            Err(e) => {
                out.notes.push(e.to_string());
                continue;
            }
        };
        if let Some(why) = reader.other_features() {
            return Err(DataError::Whole { path: file.clone(), why });
        }
        for row in reader {
            let row = match row {
                Ok(row) => row,
                Err(e) => {
                    out.notes.push(e.to_string());
                    break;
                }
            };
            out.rows += 1;
            let Ok(features) = Features::try_from(row.features.as_slice()) else { continue };
            if row.visitor == 0 || features.iter().any(|v| !v.is_finite()) {
                continue;
            }
            let Some(label) = labels.get(row.visitor) else {
                unlabelled += 1;
                continue;
            };
            known.insert(row.visitor);
            let visit = seen.entry(row.visitor).or_default();
            *visit += 1;
            if !keep_visit(*visit) {
                continue;
            }
            let family = labels.family(row.visitor);
            let network = if row.network == 0 { row.visitor } else { row.network };
            out.samples.push(Sample {
                features,
                bot: label == Label::Program,
                family: names.entry(family.to_owned()).or_insert_with(|| family.into()).clone(),
                site: site.clone(),
                // Hashes of two gates have two keys, and may be equal by chance only.
                network: mix(network),
                visitor: row.visitor,
                visit: *visit,
                weight: 1.0,
            });
            if out.samples.len() > VISITS_MAX {
                return Err(whole(format!("more than {VISITS_MAX} labelled visits: give fewer files")));
            }
        }
    }
    out.kept = out.samples.len();
    if unlabelled > 0 {
        out.notes.push(format!("{unlabelled} scored visits are of visitors without a label"));
    }
    let strangers = labels.len() - known.len();
    if strangers > 0 {
        out.notes.push(format!("{strangers} labels are of visitors who are not in this journal"));
    }
    Ok(out)
}
