//! `tidegate journal`

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use tidegate_filters::{Row, units::as_written};
use tidegate_models::journal::{JournalReader, list};

use super::{Failure, Outcome, fail, note, say};

/// Most rows `tail` shows.
const TAIL_MAX: usize = 100_000;
/// How often `--follow` looks for new files.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Arguments of `journal`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Journal {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidegate journal tail /var/lib/tidegate/journal
  tidegate journal tail -n 1000 --json DIR | jq 'select(.verdict == \"refuse\")'
  tidegate journal stats DIR
  tidegate journal schema

Rows can be read once their file is closed: after journal.file_age, at journal.file_bytes, or when the gate stops.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the latest rows.
    Tail {
        /// The policy's journal.directory
        directory: PathBuf,
        /// How many
        #[arg(short = 'n', long, default_value_t = 20)]
        rows: usize,
        /// One JSON object a row
        #[arg(long)]
        json: bool,
        /// Go on with files that are closed from now on
        #[arg(short, long)]
        follow: bool,
    },
    /// Counts rows by kind, verdict, reason and score.
    Stats {
        /// The policy's journal.directory
        directory: PathBuf,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Says what each column means.
    Schema,
}

impl Journal {
    pub(super) fn run(self) -> Outcome {
        match self.command {
            Command::Tail { directory, rows, json, follow } => tail(&directory, rows.min(TAIL_MAX), json, follow),
            Command::Stats { directory, json } => stats(&directory, json),
            Command::Schema => say(&tidegate_models::journal::schema_doc()),
        }
    }
}

pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !directory.is_dir() {
        let what = format!("{} is not a directory; give the policy's journal.directory", directory.display());
        return Err(fail(Failure::Usage, &what));
    }
    list(directory).map_err(|e| fail(Failure::Runtime, &e.to_string()))
}

/// The rows of a file that can be read; what is damaged is named and passed over.
pub(super) fn each_row(file: &Path, mut f: impl FnMut(Row)) {
    let reader = match JournalReader::open(file) {
        Ok(reader) => reader,
        Err(e) => return note(&format!("warning: {e}")),
    };
    for row in reader {
        match row {
            Ok(row) => f(row),
            Err(e) => return note(&format!("warning: {e}")),
        }
    }
}

fn tail(directory: &Path, rows: usize, json: bool, follow: bool) -> Outcome {
    let mut seen = files(directory)?;
    let mut last: Vec<Row> = Vec::new();
    for file in seen.iter().rev() {
        let mut of_file = Vec::new();
        each_row(file, |row| of_file.push(row));
        of_file.append(&mut last);
        last = of_file.split_off(of_file.len().saturating_sub(rows));
        if last.len() >= rows {
            break;
        }
    }
    show(&last, json)?;
    if !follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(FOLLOW_EVERY);
        let now = files(directory)?;
        for file in now.iter().filter(|f| !seen.contains(f)) {
            let mut fresh = Vec::new();
            each_row(file, |row| fresh.push(row));
            show(&fresh, json)?;
        }
        seen = now;
    }
}

fn show(rows: &[Row], json: bool) -> Outcome {
    if rows.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = rows.iter().map(|r| if json { as_json(r) } else { as_line(r) }).collect();
    say(&lines.join("\n"))
}

fn as_line(r: &Row) -> String {
    let at = i64::try_from(r.at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let at = at.map_or_else(|| r.at_ms.to_string(), |t| format!("{t:.3}"));
    let reason = r.reason.map_or("-", |r| r.code());
    let score = if r.score.is_finite() { format!(" score {:.2} {}", r.score, r.class) } else { String::new() };
    let room = if r.room.is_empty() { String::new() } else { format!(" room {}", r.room) };
    let shadow = if r.shadow.is_empty() { String::new() } else { format!(" shadow {}", r.shadow) };
    format!(
        "{at} {:016x} {} {} {} -> {} {} {reason} {:.1} ms{room}{score}{shadow}",
        r.visitor,
        r.kind.name(),
        r.method,
        r.path,
        r.status,
        r.verdict,
        f64::from(r.total_us) / 1000.0,
    )
}

fn as_json(r: &Row) -> String {
    let known = |n: u64, none: u64| if n == none { None } else { Some(n) };
    let score = |p: f32| p.is_finite().then(|| as_written(p));
    let features: Vec<f64> = r.features.iter().copied().map(as_written).collect();
    json!({
        "at_ms": r.at_ms, "mono_ns": r.mono_ns, "kind": r.kind.name(), "method": r.method, "path": r.path, "route": r.route,
        "network": format!("{:016x}", r.network), "visitor": format!("{:016x}", r.visitor),
        "fingerprint": format!("{:016x}", r.fingerprint), "ja4": r.ja4.as_deref(), "h2": r.h2.as_deref(),
        "verdict": r.verdict, "reason": r.reason, "filter": r.filter,
        "shadow": r.shadow, "score": score(r.score), "class": r.class, "facts": r.facts,
        "score_reasons": r.score_reasons, "features": features, "model": r.model,
        "shadow_score": score(r.shadow_score), "shadow_model": r.shadow_model, "room": r.room,
        "place": known(r.place, u64::MAX), "joined": r.joined, "seat": known(r.seat.into(), u32::MAX.into()),
        "generation": r.generation, "seated": r.seated, "status": r.status, "queued_us": r.queued_us, "shop_us": r.shop_us,
        "total_us": r.total_us, "bytes": r.bytes, "sold": r.sold,
        "hold": known(r.hold, u64::MAX), "hold_end": r.hold_end, "policy": r.policy,
    })
    .to_string()
}

/// Counts over a whole journal.
#[derive(Debug, Default, Serialize)]
struct Stats {
    files: usize,
    rows: u64,
    from_ms: u64,
    to_ms: u64,
    kinds: BTreeMap<String, u64>,
    verdicts: BTreeMap<String, u64>,
    reasons: BTreeMap<String, u64>,
    classes: BTreeMap<String, u64>,
    shadows: BTreeMap<String, u64>,
    scored: u64,
    seated: u64,
    sold: u64,
    shop_ms: Percentiles,
    total_ms: Percentiles,
}

/// Of all rows, to about 3 %.
#[derive(Debug, Default, Serialize)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
}

fn stats(directory: &Path, json: bool) -> Outcome {
    let files = files(directory)?;
    let mut stats = Stats { files: files.len(), from_ms: u64::MAX, ..Stats::default() };
    let (mut shop, mut total) = (Spread::default(), Spread::default());
    for file in &files {
        each_row(file, |row| {
            stats.take(&row);
            total.take(row.total_us);
            if row.shop_us > 0 {
                shop.take(row.shop_us);
            }
        });
    }
    if stats.rows == 0 {
        stats.from_ms = 0;
    }
    (stats.shop_ms, stats.total_ms) = (shop.percentiles(), total.percentiles());
    if json {
        let text = serde_json::to_string(&stats).map_err(|e| fail(Failure::Runtime, &e.to_string()))?;
        return say(&text);
    }
    say(&stats.for_people())
}

impl Stats {
    fn take(&mut self, row: &Row) {
        let add = |map: &mut BTreeMap<String, u64>, key: &str| {
            if !key.is_empty() {
                *map.entry(key.to_owned()).or_default() += 1;
            }
        };
        self.rows += 1;
        self.from_ms = self.from_ms.min(row.at_ms);
        self.to_ms = self.to_ms.max(row.at_ms);
        add(&mut self.kinds, row.kind.name());
        add(&mut self.verdicts, row.verdict);
        add(&mut self.reasons, row.reason.map_or("", |r| r.code()));
        add(&mut self.classes, row.class);
        add(&mut self.shadows, &row.shadow);
        self.scored += u64::from(row.score.is_finite());
        self.seated += u64::from(row.seated);
        self.sold += u64::from(row.sold);
    }

    fn for_people(&self) -> String {
        let mut text = format!("{} rows in {} files", self.rows, self.files);
        let at = |ms: u64| i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        if let (true, Some(from), Some(to)) = (self.rows > 0, at(self.from_ms), at(self.to_ms)) {
            text.push_str(&format!(", {from:.3} to {to:.3}"));
        }
        text.push('\n');
        let groups = [
            ("kind", &self.kinds),
            ("verdict", &self.verdicts),
            ("reason", &self.reasons),
            ("class", &self.classes),
            ("shadow", &self.shadows),
        ];
        for (name, counts) in groups.into_iter().filter(|(_, c)| !c.is_empty()) {
            text.push_str(&format!("{name}\n"));
            let mut counts: Vec<_> = counts.iter().collect();
            counts.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
            for (key, n) in counts {
                text.push_str(&format!("  {key:<32} {n:>10}  {:>5.1} %\n", 100.0 * *n as f64 / self.rows as f64));
            }
        }
        text.push_str(&format!("scored {}, seated {}, sold {}\n", self.scored, self.seated, self.sold));
        for (name, p) in [("shop", &self.shop_ms), ("total", &self.total_ms)] {
            text.push_str(&format!("{name:<6} p50 {:.1} ms  p90 {:.1} ms  p99 {:.1} ms\n", p.p50, p.p90, p.p99));
        }
        text
    }
}

/// A histogram with 32 buckets an octave: 32 octaves of microseconds.
#[derive(Debug, Default)]
struct Spread {
    buckets: BTreeMap<u32, u64>,
    count: u64,
}

impl Spread {
    fn take(&mut self, us: u32) {
        let bucket = (f64::from(us.max(1)).log2() * 32.0) as u32;
        *self.buckets.entry(bucket).or_default() += 1;
        self.count += 1;
    }

    fn percentiles(&self) -> Percentiles {
        let at = |share: f64| {
            let mut left = (self.count as f64 * share).ceil() as u64;
            for (bucket, n) in &self.buckets {
                if left <= *n {
                    return ((f64::from(*bucket) + 0.5) / 32.0).exp2() / 1000.0;
                }
                left -= n;
            }
            0.0
        };
        Percentiles { p50: at(0.50), p90: at(0.90), p99: at(0.99) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use tidegate_filters::{Reason, record::Kind};
    use tidegate_models::journal::{JournalWriter, file_name};

    use super::*;

    #[test]
    fn a_journal_is_counted_and_shown() {
        let dir = tempfile::tempdir().unwrap();
        let row = |kind, verdict, score| Row {
            at_ms: 1_700_000_000_000,
            kind,
            verdict,
            reason: Some(Reason::Queued),
            method: "GET".into(),
            path: "/p".into(),
            score,
            class: "human",
            total_us: 1_500,
            place: u64::MAX,
            ..Row::default()
        };
        let rows = [row(Kind::Visit, "forward", 0.55), row(Kind::Visit, "wait", f32::NAN), row(Kind::Poll, "own", f32::NAN)];
        let mut writer = JournalWriter::create(&dir.path().join(file_name(1_700_000_000_000, 0))).unwrap();
        writer.write(&rows).unwrap();
        writer.finish().unwrap();
        let mut stats = Stats { from_ms: u64::MAX, ..Stats::default() };
        let mut read = Vec::new();
        for file in files(dir.path()).unwrap() {
            each_row(&file, |row| {
                stats.take(&row);
                read.push(row);
            });
        }
        assert_eq!((stats.rows, stats.scored, stats.verdicts["wait"], stats.kinds["visit"]), (3, 1, 1, 2));
        assert!(stats.for_people().contains("3 rows in 0 files, 2023-11-14T22:13:20.000Z"), "{}", stats.for_people());
        assert!(as_line(&read[0]).contains("visit GET /p -> 0 forward QUEUED 1.5 ms score 0.55 human"), "{}", as_line(&read[0]));
        assert!(as_json(&read[0]).contains("\"score\":0.55,"), "{}", as_json(&read[0]));
        let json: serde_json::Value = serde_json::from_str(&as_json(&read[1])).unwrap();
        assert_eq!((&json["score"], &json["place"], &json["reason"]), (&json!(null), &json!(null), &json!("QUEUED")));
        assert!(matches!(files(&dir.path().join("absent")), Err(Failure::Usage)));
    }

    #[test]
    fn percentiles_are_within_three_percent() {
        let mut spread = Spread::default();
        (1..=10_000).for_each(|us| spread.take(us * 10));
        let p = spread.percentiles();
        for (got, wanted) in [(p.p50, 50.0), (p.p90, 90.0), (p.p99, 99.0)] {
            assert!((got - wanted).abs() / wanted < 0.03, "{got} {wanted}");
        }
        assert_eq!(Spread::default().percentiles().p99, 0.0);
    }
}
