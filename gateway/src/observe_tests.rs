#![allow(clippy::unwrap_used, clippy::expect_used)]
use tidegate_filters::{ByteSize, Span};
use tidegate_models::journal;

use super::*;

fn row(kind: Kind, n: u64) -> Row {
    Row { kind, at_ms: n, verdict: "forward", path: "/p".into(), ..Row::default() }
}

fn tally(directory: &tempfile::TempDir) -> Arc<Tally> {
    Arc::new(Tally::open(directory.path()).unwrap().0)
}

fn metric(metrics: &Metrics, line: &str) -> u64 {
    let text = metrics.render();
    text.lines().filter_map(|l| l.strip_prefix(line)).filter_map(|v| v.trim().parse::<u64>().ok()).sum()
}

fn start(settings: &Journal) -> (Arc<Observer>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new().unwrap());
    (Observer::start(Some(settings), metrics.clone(), Arc::new(Clock::new())).unwrap(), metrics)
}

#[test]
fn every_row_is_in_a_finished_file_after_finish() {
    let base = tempfile::tempdir().unwrap();
    let settings = Journal::at(base.path().join("journal"));
    let (observer, metrics) = start(&settings);
    (0..5_000).for_each(|n| observer.row(row(Kind::Visit, n)));
    observer.finish();
    observer.row(row(Kind::Claim, 1));
    let files = journal::list(&settings.directory).unwrap();
    let rows: Vec<_> = files.iter().flat_map(|f| journal::read(f).unwrap()).collect();
    assert_eq!(rows.iter().map(|r| r.at_ms).collect::<Vec<_>>(), (0..5_000).collect::<Vec<_>>());
    assert_eq!(metric(&metrics, "tidegate_journal_rows_total"), 5_000);
    assert_eq!(metric(&metrics, "tidegate_journal_rows_dropped_total{kind=\"claim\",cause=\"queue\"}"), 1);
    let parts = fs::read_dir(&settings.directory).unwrap().filter(|e| e.as_ref().unwrap().path().extension().unwrap() == "part");
    assert_eq!(parts.count(), 0);
}

#[test]
fn what_operators_did_makes_up_for_no_lost_request() {
    let base = tempfile::tempdir().unwrap();
    let settings = Journal::at(base.path().join("journal"));
    let (observer, _) = start(&settings);
    (0..8).for_each(|n| observer.row(row(Kind::Operator, n)));
    observer.finish();
    let (observer, metrics) = start(&settings);
    (0..6).for_each(|_| observer.parsed());
    // Killed: nothing is closed.
    std::mem::forget(observer);
    let _ = metrics;
    let (_, metrics) = start(&settings);
    assert_eq!(metric(&metrics, "tidegate_journal_rows_dropped_total{kind=\"any\",cause=\"killed\"}"), 6);
}

#[test]
fn polls_are_dropped_before_anything_else() {
    let (rows, _queue) = mpsc::channel(QUEUE_ROWS);
    let metrics = Arc::new(Metrics::new().unwrap());
    let stop = watch::channel(false).0;
    let observer = Observer { metrics: metrics.clone(), journal: Some(rows), tally: None, stop, thread: Mutex::new(None) };
    for n in 0..QUEUE_ROWS as u64 + 10 {
        observer.row(row(Kind::Poll, n));
    }
    let dropped = |kind| metric(&metrics, &format!("tidegate_journal_rows_dropped_total{{kind=\"{kind}\",cause=\"queue\"}}"));
    // The poll that finds exactly KEPT_FOR_OTHERS free places is the last one taken.
    assert_eq!(dropped("poll"), KEPT_FOR_OTHERS as u64 - 1 + 10);
    for n in 0..KEPT_FOR_OTHERS as u64 - 1 {
        observer.row(row(Kind::Visit, n));
    }
    assert_eq!(dropped("visit"), 0);
    observer.row(row(Kind::Visit, 0));
    assert_eq!(dropped("visit"), 1);
    assert_eq!(
        metric(&metrics, "tidegate_requests_total{kind=\"visit\",verdict=\"forward\",reason=\"NONE\"}"),
        KEPT_FOR_OTHERS as u64
    );
}

#[test]
fn a_disk_that_refuses_costs_rows_that_are_counted_and_nothing_else() {
    let base = tempfile::tempdir().unwrap();
    let settings = Journal::at(base.path().join("journal"));
    let metrics = Arc::new(Metrics::new().unwrap());
    let clock = Arc::new(Clock::new());
    let mut writer = Writer::new(settings.clone(), metrics.clone(), clock.clone(), tally(&base));
    // The directory has become a file: no file can be opened below it.
    fs::write(&settings.directory, "").unwrap();
    assert!(writer.open().is_err());
    writer.write(&[row(Kind::Visit, 1), row(Kind::Claim, 2)]);
    assert_eq!(metric(&metrics, "tidegate_journal_rows_dropped_total{kind=\"claim\",cause=\"disk\"}"), 1);
    fs::remove_file(&settings.directory).unwrap();
    writer.write(&[row(Kind::Visit, 3)]);
    assert_eq!(metric(&metrics, "tidegate_journal_rows_dropped_total{kind=\"visit\",cause=\"disk\"}"), 2, "not tried at once");
    clock.advance(RETRY_AFTER_MS);
    writer.write(&[row(Kind::Visit, 4)]);
    // Its directory goes away: the file cannot get its final name.
    fs::remove_dir_all(&settings.directory).unwrap();
    writer.close();
    assert_eq!(metric(&metrics, "tidegate_journal_rows_dropped_total{kind=\"visit\",cause=\"disk\"}"), 3);
    assert_eq!(metric(&metrics, "tidegate_journal_rows_total"), 0);
}

#[test]
fn files_are_closed_by_age_and_size_and_deleted_when_old() {
    let base = tempfile::tempdir().unwrap();
    let mut settings = Journal::at(base.path().join("journal"));
    (settings.file_age, settings.keep) = (Span::secs(60), Span::secs(3_600));
    let clock = Arc::new(Clock::new());
    let mut writer = Writer::new(settings.clone(), Arc::new(Metrics::new().unwrap()), clock.clone(), tally(&base));
    let files = || journal::list(&settings.directory).unwrap().len();
    writer.write(&[row(Kind::Visit, 1)]);
    writer.look();
    assert_eq!(files(), 0);
    clock.advance(60_000);
    writer.look();
    assert_eq!(files(), 1);
    writer.settings.file_bytes = ByteSize(1);
    // A row group is on the disk only when it is whole.
    writer.write(&vec![row(Kind::Visit, 1); journal::ROW_GROUP_ROWS]);
    assert!(writer.is_full());
    writer.look();
    assert_eq!(files(), 2);
    fs::write(settings.directory.join("journal-20200101T000000-000.parquet.part"), "").unwrap();
    clock.advance(3_700_000);
    writer.write(&[row(Kind::Visit, 1)]);
    writer.look();
    assert_eq!(files(), 0, "the old two are gone, the open one is not finished");
    writer.close();
    assert_eq!(files(), 1);
    assert_eq!(fs::read_dir(&settings.directory).unwrap().count(), 1, "nor is anything else left");
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_at_the_start() {
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("file");
    fs::write(&file, "").unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    assert!(Observer::start(Some(&Journal::at(file.join("below"))), metrics, Arc::new(Clock::new())).is_err());
}
