//! Our own journal: who arrived, admitted or not.

use std::path::{Path, PathBuf};

use tidegate_filters::record::Kind;

use super::{
    DataError, Format, Imported, Options, Report, csv, name_of,
    sessions::{Count, Picker},
};
use crate::journal::{JournalReader, list};

/// Damaged files that are named; more are counted.
const DAMAGED_SHOWN: usize = 5;

pub(super) fn read(path: &Path, options: &Options) -> Result<Imported, DataError> {
    let whole = |why: String| DataError::Whole { path: path.to_owned(), why };
    let files: Vec<PathBuf> = if path.is_dir() { list(path).map_err(|e| whole(e.to_string()))? } else { vec![path.to_owned()] };
    if files.is_empty() {
        return Err(whole("holds no journal files; they appear when their first file is closed".into()));
    }
    let mut report = Report::default();
    let mut visits: Vec<(f64, u64)> = Vec::new();
    let mut sold_out_s: Option<f64> = None;
    let (mut damaged, mut whole_files) = (Vec::new(), 0);
    for file in &files {
        let rows = match JournalReader::open(file) {
            Ok(rows) => rows,
            Err(e) => {
                damaged.push(e);
                continue;
            }
        };
        whole_files += 1;
        for row in rows {
            let row = match row {
                Ok(row) => row,
                Err(e) => {
                    damaged.push(e);
                    break;
                }
            };
            report.rows += 1;
            let at_s = row.at_ms as f64 / 1_000.0;
            match row.kind {
                Kind::Visit => {}
                Kind::Poll | Kind::Claim | Kind::Leave => {
                    report.polls += 1;
                    continue;
                }
                Kind::Own | Kind::Operator => continue,
            }
            if row.verdict == "sold_out" {
                sold_out_s = Some(sold_out_s.map_or(at_s, |s| s.min(at_s)));
            }
            // What the bot gate called a suspect is no shopper to be expected; refused requests never were offered.
            if !options.keep_bots && (row.class == "suspect" || row.verdict == "refuse" || row.verdict == "throttle") {
                report.bots += 1;
                continue;
            }
            visits.push((at_s, if row.visitor == 0 { row.network } else { row.visitor }));
        }
    }
    if whole_files == 0
        && let Some(first) = damaged.first()
    {
        return Err(whole(format!("none of {} files can be read; the first: {first}", files.len())));
    }
    // One damaged file is no reason to know nothing of the others.
    report.notes.extend(damaged.iter().take(DAMAGED_SHOWN).map(|e| format!("passed over: {e}")));
    if damaged.len() > DAMAGED_SHOWN {
        report.notes.push(format!("{} more files are damaged", damaged.len() - DAMAGED_SHOWN));
    }
    report.unsorted = visits.windows(2).filter(|w| w[1].0 < w[0].0).count() as u64;
    visits.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut picker = Picker::new(options.count, true);
    let mut times: Vec<f64> = Vec::new();
    for (at_s, visitor) in visits {
        if options.count == Count::Requests || picker.arrives(visitor, at_s, &mut report) {
            times.push(at_s);
        }
    }
    if let Some(end) = sold_out_s {
        let all = times.len();
        times.retain(|t| *t < end);
        report.censored = (all - times.len()) as u64;
        report.notes.push(format!("the stock was gone at {}: what came later is left out", super::time::show(end as u64)));
    }
    let options = Options { step_s: Some(options.step_s.unwrap_or(60)), ..options.clone() };
    let mut series = csv::events(path, &times, &options)?;
    series.name = name_of(path);
    series.check(path)?;
    Ok(Imported { series, format: Format::Journal, report })
}
