//! Round trips, damage and foreign files.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use tidegate_filters::{Reason, record::Kind};

use super::*;
use crate::journal::read;

fn extremes() -> Vec<Row> {
    let full = Row {
        facts: "trapped".into(),
        ja4: Some("t13d1516h2_8daaf6152771_e5627efa2ab1".into()),
        h2: Some("1:65536;2:0|15663105|0|m,a,s,p".into()),
        at_ms: i64::MAX as u64,
        mono_ns: u64::MAX,
        kind: Kind::Claim,
        method: "POST".into(),
        path: "/straße/".repeat(14),
        route: "buy".into(),
        network: u64::MAX,
        visitor: 1 << 63,
        fingerprint: 7,
        verdict: "sold_out",
        reason: Some(Reason::ScoreToTheBack),
        filter: "bots".into(),
        shadow: "bots:wait:QUEUED".into(),
        score: 1.0,
        shadow_score: 0.25,
        shadow_model: "89abcdef01234567".into(),
        class: "suspect",
        score_reasons: "CADENCE_REGULAR=0.310,NO_ASSETS=0.120".into(),
        features: vec![f32::MIN, -0.0, f32::INFINITY, 3.5],
        model: "0011223344556677".into(),
        room: "drop".into(),
        place: u64::MAX - 1,
        joined: true,
        seat: u32::MAX - 1,
        generation: u32::MAX,
        seated: true,
        status: u16::MAX,
        queued_us: u32::MAX,
        shop_us: 1,
        total_us: 2,
        bytes: u64::MAX,
        sold: 3,
        hold: u64::MAX - 1,
        hold_end: "lost",
        policy: "8899aabbccddeeff".into(),
    };
    let empty = Row { score: f32::NAN, place: u64::MAX, seat: u32::MAX, hold: u64::MAX, ..Row::default() };
    let one = Row { features: vec![1.0], score: 0.0, place: 0, seat: 0, verdict: "own", ..Row::default() };
    vec![full.clone(), empty.clone(), one, empty, full]
}

fn assert_same(a: &Row, b: &Row) {
    assert_eq!(a.score.is_nan(), b.score.is_nan());
    let plain = |r: &Row| Row { score: if r.score.is_nan() { -1.0 } else { r.score }, ..r.clone() };
    assert_eq!(plain(a), plain(b));
}

#[test]
fn every_field_comes_back_over_several_row_groups() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.parquet");
    let mut w = JournalWriter::create(&path).unwrap();
    let rows: Vec<Row> = extremes().into_iter().cycle().take(ROW_GROUP_ROWS + 7).collect();
    w.write(&rows[..3]).unwrap();
    w.write(&rows[3..]).unwrap();
    assert_eq!(w.rows(), rows.len() as u64);
    assert!(!path.exists(), "appears only when whole");
    assert_eq!(w.finish().unwrap(), rows.len() as u64);
    assert!(!dir.path().join("j.parquet.part").exists());
    let back = read(&path).unwrap();
    assert_eq!(back.len(), rows.len());
    assert_eq!(JournalReader::open(&path).unwrap().rows_total(), rows.len() as u64);
    rows.iter().zip(&back).for_each(|(a, b)| assert_same(a, b));
    assert!(matches!(JournalWriter::create(&path), Err(JournalError::Io { .. })), "never overwrites");
}

#[test]
fn an_empty_journal_is_a_journal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.parquet");
    assert_eq!(JournalWriter::create(&path).unwrap().finish().unwrap(), 0);
    assert!(read(&path).unwrap().is_empty());
}

#[test]
fn cut_and_damaged_files_are_errors_never_panics() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.parquet");
    let mut w = JournalWriter::create(&path).unwrap();
    w.write(&extremes()).unwrap();
    w.finish().unwrap();
    let whole = fs::read(&path).unwrap();
    let bad = dir.path().join("bad.parquet");
    for cut in [0, 3, 4, whole.len() / 2, whole.len() - 1] {
        fs::write(&bad, &whole[..cut]).unwrap();
        assert!(matches!(read(&bad), Err(JournalError::Damaged { .. })), "cut at {cut}");
    }
    fs::write(&bad, b"not parquet at all, but long enough").unwrap();
    assert!(read(&bad).unwrap_err().to_string().contains("not a whole Parquet file"));
    let mut refused = 0;
    for at in (4..whole.len() - 8).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xA5;
        fs::write(&bad, &bytes).unwrap();
        refused += usize::from(read(&bad).is_err());
    }
    assert!(refused > 50, "only {refused} damaged files were noticed");
    assert!(matches!(read(&dir.path().join("absent.parquet")), Err(JournalError::Io { .. })));
}

#[test]
fn a_foreign_parquet_file_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreign.parquet");
    let schema = Arc::new(parse_message_type("message m { required int32 a; }").unwrap());
    let w = SerializedFileWriter::new(File::create(&path).unwrap(), schema, Default::default()).unwrap();
    w.close().unwrap();
    let e = read(&path).unwrap_err();
    assert!(matches!(e, JournalError::Foreign { .. }) && e.to_string().contains("Tidegate did not write it"), "{e}");
}

#[test]
fn older_files_without_a_column_and_changed_types() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        let schema = Arc::new(parse_message_type(text).unwrap());
        let mut w = SerializedFileWriter::new(File::create(&path).unwrap(), schema, Arc::new(properties().unwrap())).unwrap();
        let mut g = w.next_row_group().unwrap();
        let mut c = g.next_column().unwrap().unwrap();
        c.typed::<Int64Type>().write_batch(&[5], None, None).unwrap();
        c.close().unwrap();
        g.close().unwrap();
        w.close().unwrap();
        path
    };
    let old = read(&write("old.parquet", "message m { required int64 mono_ns (INTEGER(64,false)); }")).unwrap();
    assert_eq!((old[0].mono_ns, old[0].place, old[0].score.is_nan()), (5, u64::MAX, true));
    let e = read(&write("changed.parquet", "message m { required int64 method; }")).unwrap_err();
    assert!(e.to_string().contains("column `method` has another type"), "{e}");
}
