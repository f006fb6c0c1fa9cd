//! `tidegate data`: series of counts from what a site has.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use tidegate_models::{
    forecast::data::{Absent, Count, DataError, Description, Format, Imported, Options, describe, import, outliers},
    plot,
};

use super::{Failure, Outcome, fail, note, say};

/// Arguments of `data`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Data {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidegate data import tidegate-data/journal --out arrivals.csv     people who arrived, a minute
  tidegate data import access.log --step 1s --out seconds.csv       nginx, Apache, HAProxy, JSON: found out by itself
  tidegate data describe requests.csv                               gaps, outliers, days, bursts
  tidegate data describe access.log --html access.html --json";

#[derive(Debug, Subcommand)]
enum Command {
    /// Reads a journal, access logs or a CSV and writes a series of counts.
    Import {
        /// Files, or the policy's journal.directory; each becomes a series
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Where to write; with several files a folder. Default: standard output
        #[arg(short, long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        read: Read,
        /// What was read and left out, as JSON on standard output; needs --out
        #[arg(long, requires = "out")]
        json: bool,
    },
    /// Says what a series is like: gaps, outliers, bots and polls removed, days and weeks, bursts.
    Describe {
        /// Anything that `import` reads
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// A page with plots
        #[arg(long)]
        html: Option<PathBuf>,
        #[command(flatten)]
        read: Read,
        /// One JSON object a series
        #[arg(long)]
        json: bool,
    },
}

/// How files are read; shared with `evaluate` and `train`.
#[derive(Clone, Debug, Args)]
pub(super) struct Read {
    /// What the files are; found out by itself when left out
    #[arg(long)]
    format: Option<FormatName>,
    /// Length of a step: 1s, 10s, 1m, 5m; a CSV has its own
    #[arg(long, value_parser = step)]
    step: Option<u32>,
    /// What is counted in logs and journals
    #[arg(long, value_enum, default_value_t = CountName::Arrivals)]
    count: CountName,
    /// What a step without a line means; ten in a row are always a gap
    #[arg(long, value_enum, default_value_t = AbsentName::Auto)]
    absent: AbsentName,
    /// Count declared programs too
    #[arg(long)]
    keep_bots: bool,
    /// The CSV's column of times
    #[arg(long)]
    time_column: Option<String>,
    /// The CSV's column of counts
    #[arg(long)]
    count_column: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatName {
    /// Our own journal
    Journal,
    /// Common or combined access log: nginx, Apache
    Combined,
    /// One JSON object a line
    Json,
    /// HAProxy's HTTP log
    Haproxy,
    /// Times and counts, or times alone
    Csv,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CountName {
    /// People who were not there in the last half hour
    Arrivals,
    /// Every request that is no poll
    Requests,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AbsentName {
    /// Zero where the steps beside it are quiet too, else a gap
    Auto,
    /// Nobody came
    Zero,
    /// Nothing was counted
    Gap,
}

fn step(text: &str) -> Result<u32, String> {
    let span: tidegate_filters::Span = text.parse()?;
    match span.ms() {
        ms @ 1_000..=86_400_000 if ms.is_multiple_of(1_000) => Ok((ms / 1_000) as u32),
        _ => Err("a step is whole seconds, from 1s to 24h".into()),
    }
}

impl Read {
    /// For the library.
    pub(super) fn options(&self) -> Options {
        Options {
            format: self.format.map(|f| match f {
                FormatName::Journal => Format::Journal,
                FormatName::Combined => Format::Combined,
                FormatName::Json => Format::Json,
                FormatName::Haproxy => Format::Haproxy,
                FormatName::Csv => Format::Csv,
            }),
            step_s: self.step,
            absent: match self.absent {
                AbsentName::Auto => Absent::Auto,
                AbsentName::Zero => Absent::Zero,
                AbsentName::Gap => Absent::Gap,
            },
            count: match self.count {
                CountName::Arrivals => Count::Arrivals,
                CountName::Requests => Count::Requests,
            },
            keep_bots: self.keep_bots,
            time_column: self.time_column.clone(),
            count_column: self.count_column.clone(),
        }
    }

    /// Reads one file; what is odd about it is said on standard error.
    pub(super) fn read(&self, file: &Path) -> Result<Imported, Failure> {
        let imported = self.import(file)?;
        imported.report.notes.iter().for_each(|n| note(&format!("note: {}: {n}", file.display())));
        Ok(imported)
    }

    fn import(&self, file: &Path) -> Result<Imported, Failure> {
        import(file, &self.options()).map_err(|e| unread(&e))
    }
}

/// Data that is no good, or that could not be read at all.
pub(super) fn unread(e: &DataError) -> Failure {
    fail(if matches!(e, DataError::Io { .. }) { Failure::Runtime } else { Failure::Check }, &e.to_string())
}

impl Data {
    pub(super) fn run(self) -> Outcome {
        match self.command {
            Command::Import { files, out, read, json } => into_series(&files, out.as_deref(), &read, json),
            Command::Describe { files, html, read, json } => tell(&files, html.as_deref(), &read, json),
        }
    }
}

fn into_series(files: &[PathBuf], out: Option<&Path>, read: &Read, json: bool) -> Outcome {
    let mut written = BTreeSet::new();
    for file in files {
        let imported = read.read(file)?;
        let csv = imported.series.to_csv();
        let Some(out) = out else {
            say(&csv)?;
            continue;
        };
        let path = if files.len() > 1 { out.join(format!("{}.csv", imported.series.name)) } else { out.to_owned() };
        if !written.insert(path.clone()) {
            let what =
                format!("{}: a series of this name was just written to {}; import it apart", file.display(), path.display());
            return Err(fail(Failure::Usage, &what));
        }
        if is_same(file, &path) {
            let what = format!("{}: would be overwritten by what is read from it; give another --out", file.display());
            return Err(fail(Failure::Usage, &what));
        }
        write(&path, &csv)?;
        let gaps = imported.series.gaps();
        if json {
            let report = json!({
                "file": file, "out": path, "format": imported.format, "step_s": imported.series.step_s,
                "steps": imported.series.len(), "gaps": gaps.len(), "report": imported.report,
            });
            say(&report.to_string())?;
        } else {
            let s = &imported.series;
            let r = &imported.report;
            say(&format!(
                "{} -> {}: {} steps of {} s, {} gaps; left out: {} bots, {} polls, {} assets, {} repeats, {} unreadable",
                file.display(),
                path.display(),
                s.len(),
                s.step_s,
                gaps.len(),
                r.bots,
                r.polls,
                r.assets,
                r.repeats,
                r.unreadable
            ))?;
        }
    }
    Ok(())
}

/// The same file, by whatever name.
fn is_same(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |p: &Path| std::fs::metadata(p).map(|m| (m.dev(), m.ino())).ok();
    id(a).is_some_and(|a| id(b) == Some(a))
}

fn tell(files: &[PathBuf], html: Option<&Path>, read: &Read, json: bool) -> Outcome {
    let mut parts = Vec::new();
    for file in files {
        let imported = read.import(file)?;
        let d = describe(&imported.series, &imported.report);
        if json {
            say(&serde_json::to_string(&d).map_err(|e| fail(Failure::Runtime, &e.to_string()))?)?;
        } else {
            say(&d.for_people())?;
        }
        if html.is_some() {
            parts.push(picture(&imported, &d));
        }
    }
    match html {
        Some(path) => write(path, &plot::page("What these series are like", &parts)),
        None => Ok(()),
    }
}

fn picture(imported: &Imported, d: &Description) -> String {
    let s = &imported.series;
    let hour = |i: usize| i as f64 * f64::from(s.step_s) / 3_600.0;
    let counts = plot::Line {
        name: "count".into(),
        colour: plot::BLUE,
        points: s.counts.iter().enumerate().map(|(i, c)| (hour(i), *c)).collect(),
    };
    let far = outliers(s);
    let at = |o: &tidegate_models::forecast::data::Outlier| hour(((o.at_s - s.start_s) / u64::from(s.step_s)) as usize);
    // Each outlier is a stroke of its own.
    let strokes = far.iter().flat_map(|o| [(at(o), Some(o.usual)), (at(o), Some(o.count)), (at(o), None)]).take(1_500).collect();
    let marks = plot::Line { name: format!("{} outliers", far.len()), colour: plot::RED, points: strokes };
    let title = format!("{}: counts of {} s", s.name, s.step_s);
    let svg = plot::lines(&title, "hours since the start", "count", &[counts, marks], &[]);
    format!("<h2>{}</h2>{svg}<pre>{}</pre>", plot::escape(&s.name), plot::escape(&d.for_people()))
}

/// Writes a text; the folder is made.
pub(super) fn write(path: &Path, text: &str) -> Outcome {
    let failed = |e: std::io::Error| fail(Failure::Runtime, &format!("{}: cannot write: {e}", path.display()));
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)
}
