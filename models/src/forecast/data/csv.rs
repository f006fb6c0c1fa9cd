//! Any CSV with a column of times: with counts beside them, or alone, one line an event.

use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};

use super::{COUNT_MAX, DataError, Format, Imported, Options, Report, STEPS_MAX, name_of, series::Series, time};

/// Names under which counts usually stand.
const COUNT_NAMES: [&str; 16] = [
    "count",
    "counts",
    "value",
    "requests",
    "request_count",
    "hits",
    "visits",
    "visitors",
    "arrivals",
    "total",
    "y",
    "n",
    "num",
    "qps",
    "rps",
    "orders",
];
/// Lines looked at to find out what is what.
const SAMPLE: usize = 200;
/// Share of distances between lines that must be the step, for lines to be steps and not events.
const REGULAR: f64 = 0.5;
/// Empty cells and these words are gaps.
const MISSING: [&str; 6] = ["", "na", "nan", "null", "none", "-"];

struct Table<'t> {
    path: &'t Path,
    /// Line number and cells.
    rows: Vec<(usize, StringRecord)>,
    header: Vec<String>,
}

pub(super) fn read(path: &Path, bytes: &[u8], options: &Options) -> Result<Imported, DataError> {
    let text = std::str::from_utf8(bytes).map_err(|e| DataError::Line {
        path: path.to_owned(),
        line: 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count(),
        why: "is not UTF-8 text; convert the file first, for example with `iconv -t utf-8`".into(),
    })?;
    let table = Table::of(path, text);
    let time_at = table.time_column(options)?;
    let count_at = table.count_column(options, time_at)?;
    let (times, dates) = table.times(time_at)?;
    let mut report = Report { rows: times.len() as u64, ..Report::default() };
    report.notes.extend(dates);
    report.unsorted = times.windows(2).filter(|w| w[1] < w[0]).count() as u64;
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_by(|a, b| times[*a].total_cmp(&times[*b]));
    let sorted: Vec<f64> = order.iter().map(|i| times[*i]).collect();
    let found = usual_distance(&sorted);
    let steps = match (count_at, found) {
        (Some(c), Some(step)) if options.count_column.is_some() || table.is_named(c) || step.1 >= REGULAR => Some((c, step.0)),
        _ => None,
    };
    let series = match steps {
        Some((column, step_s)) => {
            let series = table.counted(options, &order, &times, column, step_s, &mut report)?;
            if report.duplicates > 0 {
                let what = "rows have a time that was there before: of each time the last row counts, the others are left out";
                report.notes.push(format!("{} {what}", report.duplicates));
            }
            series
        }
        None => {
            report.notes.push("no column of counts at equal steps: each line is one event".into());
            events(path, &sorted, options)?
        }
    };
    series.check(path)?;
    Ok(Imported { series, format: Format::Csv, report })
}

/// The line a record of `text` begins at, from 1: its position is before the blank lines and comments that come before it.
pub(crate) fn line_of(text: &str, record: &StringRecord) -> usize {
    let skipped = |from: usize| text[from..].split('\n').take_while(|l| l.trim().is_empty() || l.starts_with('#')).count();
    record.position().map_or(1, |p| p.line() as usize + skipped(p.byte() as usize))
}

impl<'t> Table<'t> {
    fn of(path: &'t Path, text: &str) -> Self {
        let first = text.lines().find(|l| !l.trim().is_empty()).unwrap_or_default();
        let separator = [',', ';', '\t', '|'].into_iter().max_by_key(|c| first.matches(*c).count()).unwrap_or(',');
        // RFC 4180 quoting, rows of any length.
        let mut reader = ReaderBuilder::new();
        reader.delimiter(separator as u8).has_headers(false).flexible(true).comment(Some(b'#')).trim(Trim::All);
        // The text is UTF-8 and lengths may differ: nothing is left that could be wrong about a record.
        let records = reader.from_reader(text.as_bytes()).into_records().flatten();
        let placed = records.map(|r| (line_of(text, &r), r));
        let mut rows: Vec<_> = placed.filter(|(_, cells)| cells.iter().any(|c| !c.is_empty())).collect();
        let has_header = rows.first().is_some_and(|(_, cells)| cells.iter().all(|c| time::parse(c).is_none()));
        let header = if has_header { rows.remove(0).1.iter().map(str::to_lowercase).collect() } else { Vec::new() };
        Table { path, rows, header }
    }

    fn error(&self, line: usize, why: String) -> DataError {
        DataError::Line { path: self.path.to_owned(), line, why }
    }

    fn named(&self, name: &str) -> Result<usize, DataError> {
        let found = self.header.iter().position(|h| *h == name.to_lowercase());
        found.ok_or_else(|| self.error(1, format!("has no column `{name}`; its columns are: {}", self.header.join(", "))))
    }

    fn is_named(&self, column: usize) -> bool {
        self.header.get(column).is_some_and(|h| COUNT_NAMES.contains(&h.as_str()))
    }

    fn width(&self) -> usize {
        self.rows.iter().take(SAMPLE).map(|r| r.1.len()).max().unwrap_or(0)
    }

    fn time_column(&self, options: &Options) -> Result<usize, DataError> {
        if let Some(name) = &options.time_column {
            return self.named(name);
        }
        if self.rows.is_empty() {
            return Err(self.error(1, "has a header and no lines below it".into()));
        }
        let is_time = |c: usize| {
            let sample = self.rows.iter().take(SAMPLE);
            let good = sample.clone().filter(|(_, r)| r.get(c).is_some_and(|t| time::parse(t).is_some())).count();
            10 * good >= 9 * sample.count()
        };
        (0..self.width()).find(|c| is_time(*c)).ok_or_else(|| {
            let why = "no column holds times; write them as 2026-12-01T09:30:00Z or as seconds since 1970, or name the \
                       column with --time-column";
            self.error(self.rows[0].0, why.into())
        })
    }

    fn count_column(&self, options: &Options, time_at: usize) -> Result<Option<usize>, DataError> {
        if let Some(name) = &options.count_column {
            return self.named(name).map(Some);
        }
        let numeric = |c: usize| {
            let sample = self.rows.iter().take(SAMPLE);
            let good = sample.clone().filter(|(_, r)| r.get(c).is_some_and(|t| number(t).is_some())).count();
            c != time_at && 10 * good >= 9 * sample.count()
        };
        let named = (0..self.header.len()).find(|c| *c != time_at && self.is_named(*c));
        Ok(named.or_else(|| (0..self.width()).find(|c| numeric(*c))))
    }

    /// Unix seconds; and in words how dates with slashes were read, where both ways are possible or one is unusual.
    fn times(&self, column: usize) -> Result<(Vec<f64>, Option<String>), DataError> {
        let slashes = time::Slashes::of(self.rows.iter().map(|(_, cells)| cells.get(column).unwrap_or_default()));
        if let Some((day_first, month_first)) = slashes.contradict() {
            let why = format!("`{}` has the day first and `{}` the month: write dates as 2026-12-01", day_first, month_first);
            let line = |text: &str| self.rows.iter().find(|(_, r)| r.get(column) == Some(text)).map_or(1, |r| r.0);
            return Err(self.error(line(day_first).max(line(month_first)), why));
        }
        let time = |(line, cells): &(usize, StringRecord)| {
            let cell = cells.get(column).unwrap_or_default();
            slashes.parse(cell).ok_or_else(|| self.error(*line, format!("`{}` is no time", short(cell))))
        };
        let times = self.rows.iter().map(time).collect::<Result<_, _>>()?;
        Ok((times, slashes.words()))
    }

    fn counted(
        &self,
        options: &Options,
        order: &[usize],
        times: &[f64],
        column: usize,
        step_s: u32,
        report: &mut Report,
    ) -> Result<Series, DataError> {
        let start = order.first().map_or(0.0, |i| times[*i]);
        let mut rows: Vec<(usize, Option<f64>)> = Vec::with_capacity(order.len());
        for &i in order {
            let (line, cells) = &self.rows[i];
            let cell = cells.get(column).unwrap_or_default();
            let count = match number(cell) {
                Some(Some(n)) if n < 0.0 => return Err(self.error(*line, format!("a count of {n}; counts are not negative"))),
                Some(Some(n)) if n > COUNT_MAX => {
                    return Err(self.error(*line, format!("a count of {n:e}; counts are at most {COUNT_MAX:e}")));
                }
                Some(n) => n,
                None => return Err(self.error(*line, format!("`{}` is no count", short(cell)))),
            };
            let step = ((times[i] - start) / f64::from(step_s)).round();
            if step >= STEPS_MAX as f64 {
                return Err(self.error(*line, format!("{step:.0} steps of {step_s} s after the first line; at most {STEPS_MAX}")));
            }
            let step = step as usize;
            report.duplicates += u64::from(rows.last().is_some_and(|r| r.0 == step));
            rows.push((step, count));
        }
        let series = Series::of(name_of(self.path), step_s, start.max(0.0) as u64, &rows, options.absent);
        match options.step_s {
            Some(wanted) if wanted % step_s == 0 && wanted > step_s => Ok(series.coarser((wanted / step_s) as usize)),
            Some(wanted) if wanted != step_s => {
                let why = format!("its steps are {step_s} s long; --step must be a multiple of that, not {wanted} s");
                Err(DataError::Whole { path: self.path.to_owned(), why })
            }
            _ => Ok(series),
        }
    }
}

/// A count, or `Some(None)` for a cell that says there is none.
fn number(cell: &str) -> Option<Option<f64>> {
    if MISSING.iter().any(|m| cell.eq_ignore_ascii_case(m)) {
        return Some(None);
    }
    cell.parse::<f64>().ok().filter(|n| n.is_finite()).map(Some)
}

fn short(cell: &str) -> String {
    cell.chars().take(40).collect()
}

/// The most frequent distance between neighbours, whole seconds, and its share.
fn usual_distance(sorted: &[f64]) -> Option<(u32, f64)> {
    let mut distances: Vec<u32> = sorted.windows(2).map(|w| (w[1] - w[0]).round() as u32).filter(|d| *d > 0).collect();
    let all = sorted.len().saturating_sub(1).max(1);
    distances.sort_unstable();
    let most = distances.chunk_by(|a, b| a == b).max_by_key(|c| (c.len(), std::cmp::Reverse(c[0])))?;
    Some((most[0], most.len() as f64 / all as f64))
}

/// One event a line.
pub(super) fn events(path: &Path, sorted: &[f64], options: &Options) -> Result<Series, DataError> {
    let step_s = options.step_s.unwrap_or(1).max(1);
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else {
        return Err(DataError::Whole { path: path.to_owned(), why: "has no events that count".into() });
    };
    let start = (first.max(0.0) as u64) / u64::from(step_s) * u64::from(step_s);
    let step_of = |t: f64| ((t - start as f64) / f64::from(step_s)) as usize;
    if (last - first) / f64::from(step_s) >= STEPS_MAX as f64 {
        let why = format!("{:.0} s from first to last; at most {STEPS_MAX} steps: take longer ones with --step", last - first);
        return Err(DataError::Whole { path: path.to_owned(), why });
    }
    let mut rows: Vec<(usize, Option<f64>)> = Vec::new();
    for t in sorted {
        match rows.last_mut() {
            Some((step, Some(n))) if *step == step_of(*t) => *n += 1.0,
            _ => rows.push((step_of(*t), Some(1.0))),
        }
    }
    // The first and the last step were not seen whole.
    if rows.len() > 4 {
        rows.pop();
    }
    let absent = if options.absent == super::Absent::Gap { super::Absent::Gap } else { super::Absent::Zero };
    let mut series = Series::of(name_of(path), step_s, start, &rows, absent);
    // Ten quiet seconds are quiet seconds: only long silence of a log is a gap.
    if absent == super::Absent::Zero && step_s < 60 {
        series.quiet_below(600 / step_s as usize);
    }
    Ok(series)
}
