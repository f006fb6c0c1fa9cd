//! Reading what people have, and what they should not have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use super::*;
use crate::testing;

fn read_as(name: &str, bytes: &[u8], options: &Options) -> Result<Imported, DataError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    import(&path, options)
}

fn read(text: &str) -> Result<Imported, DataError> {
    read_as("a.csv", text.as_bytes(), &Options::default())
}

fn refused(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn any_csv_of_times_and_counts_is_read() {
    let unsorted = "period;Requests per minute\n2026-01-01 00:02:00;3\n2026-01-01 00:00:00;1\n2026-01-01 00:01:00;2\n";
    let i = read(unsorted).unwrap();
    assert_eq!((i.series.step_s, i.series.counts.clone()), (60, vec![Some(1.0), Some(2.0), Some(3.0)]));
    assert_eq!((i.report.unsorted, i.format), (1, Format::Csv));
    let headless = read("1700000000,5\n1700000300,6\n1700000900,8\n").unwrap();
    assert_eq!((headless.series.step_s, headless.series.counts.clone()), (300, vec![Some(5.0), Some(6.0), None, Some(8.0)]));
    let twice = read("t,count\n1700000000,5\n1700000060,6\n1700000060,7\n1700000120,NaN\n1700000180,1\n").unwrap();
    assert_eq!((twice.series.counts.clone(), twice.report.duplicates), (vec![Some(5.0), Some(7.0), None, Some(1.0)], 1));
    let other = Options { count_column: Some("b".into()), ..Options::default() };
    let named = read_as("a.csv", b"a,b,at\n1,10,2026-01-01T00:00:00Z\n2,20,2026-01-01T00:00:10Z\n", &other).unwrap();
    assert_eq!((named.series.counts.clone(), named.series.step_s), (vec![Some(10.0), Some(20.0)], 10));
    let longer = Options { step_s: Some(120), ..Options::default() };
    let minutes = "t,count\n1700000000,1\n1700000060,2\n1700000120,3\n1700000180,4\n";
    assert_eq!(read_as("a.csv", minutes.as_bytes(), &longer).unwrap().series.counts, [Some(3.0), Some(7.0)]);
}

#[test]
fn quoted_cells_may_hold_separators_and_lines() {
    let text = "time,item,count\n2024-01-01 00:00:00,\"a, 900\",5\n2024-01-01 00:01:00,\"said \"\"so\"\"\nand on\",6\n# a word\n\n2024-01-01 00:02:00,b,7\n";
    let counts = Options { count_column: Some("count".into()), ..Options::default() };
    assert_eq!(read_as("a.csv", text.as_bytes(), &counts).unwrap().series.counts, [Some(5.0), Some(6.0), Some(7.0)]);
    let bad = text.replace("b,7", "b,seven");
    let why = read_as("a.csv", bad.as_bytes(), &counts).unwrap_err().to_string();
    assert!(why.contains("a.csv:7: `seven` is no count"), "{why}");
    let many = (0..30).map(|i| format!("{},\"5\"\n", 1_700_000_000 + i * 60)).collect::<String>();
    assert!(refused(&format!("t,count\n{many}1700009000,\"1,020\"\n")).contains(":32: `1,020` is no count"));
}

#[test]
fn events_are_counted() {
    let i = read("TIMESTAMP,Tokens\n2023-11-16 18:17:03.97,48\n2023-11-16 18:17:03.99,1\n2023-11-16 18:17:06.2,5\n2023-11-16 18:17:19.2,5\n2023-11-16 18:17:21,5\n2023-11-16 18:17:25,5\n").unwrap();
    assert_eq!(&i.series.counts[..5], [Some(2.0), Some(0.0), Some(0.0), Some(1.0), Some(0.0)]);
    assert!(i.report.notes[0].contains("each line is one event"), "{:?}", i.report.notes);
}

#[test]
fn bad_input_is_told_where_and_what_to_do() {
    assert!(refused("").contains("is empty"));
    assert!(refused("\n \n").contains("is empty"));
    assert!(refused("time,count\n").contains("no lines below"));
    assert!(refused("a,b\nx,y\nz,w\n").contains("no column holds times"));
    assert!(refused("t,count\n1700000000,5\n1700000060,-6\n").contains(":3: a count of -6"));
    assert!(refused("t,count\n1700000000,5\n1700000060,1e15\n").contains(":3: a count of 1e15"));
    let many = (0..30).map(|i| format!("{},5\n", 1_700_000_000 + i * 60)).collect::<String>();
    assert!(refused(&format!("t,count\n{many}1700009000,five\n")).contains(":32: `five` is no count"));
    assert!(refused(&format!("t,count\n{many}tomorrow,5\n")).contains(":32: `tomorrow` is no time"));
    assert!(refused(&format!("t,count\n1,5\n{many}")).contains(":2: `1` is no time"));
    assert!(refused("t,count\n1700000000,5\n").contains("fewer than two counts"));
    let far = "t,count\n1000000000,5\n1000000001,5\n1000000002,5\n1700000000,5\n";
    assert!(refused(far).contains("at most 20000000"), "{}", refused(far));
    let bytes = read_as("a.csv", b"t,count\n1700000000,5\n1700000060,\xff\n", &Options::default()).unwrap_err().to_string();
    assert!(bytes.contains(":3: is not UTF-8"), "{bytes}");
    let wrong = Options { step_s: Some(7), ..Options::default() };
    assert!(read_as("a.csv", many.as_bytes(), &wrong).unwrap_err().to_string().contains("must be a multiple"));
    let column = Options { time_column: Some("when".into()), ..Options::default() };
    assert!(read_as("a.csv", b"t,count\n1700000000,5\n", &column).unwrap_err().to_string().contains("its columns are: t, count"));
    assert!(import(Path::new("/nowhere/a.csv"), &Options::default()).unwrap_err().to_string().contains("cannot read it"));
}

#[test]
fn access_logs_of_four_kinds_are_read() {
    let combined = |ip: u32, s: u32, agent: &str| {
        format!("10.0.0.{ip} - - [22/Jan/2019:03:56:{s:02} +0330] \"GET /p/{s} HTTP/1.1\" 200 5 \"-\" \"{agent}\"\n")
    };
    let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
    let mut log = String::new();
    (0..40).for_each(|i| log.push_str(&combined(i % 20, i, firefox)));
    log.push_str(&combined(77, 50, "Googlebot/2.1 (+http://www.google.com/bot.html)"));
    log.push_str("cut li\n");
    let options = Options { step_s: Some(10), ..Options::default() };
    let i = read_as("access.log", log.as_bytes(), &options).unwrap();
    assert_eq!((i.format, i.report.bots, i.report.unreadable, i.report.repeats), (Format::Combined, 1, 1, 20));
    assert_eq!(i.series.counts.iter().flatten().sum::<f64>(), 20.0, "twenty people, however much they read");
    let json: String = (0..20)
        .map(|i| format!("{{\"time_iso8601\":\"2026-01-01T00:00:{i:02}+00:00\",\"remote_addr\":\"10.0.0.{i}\",\"request\":\"GET /a HTTP/1.1\",\"http_user_agent\":\"{firefox}\"}}\n"))
        .collect();
    let i = read_as("access.json", json.as_bytes(), &options).unwrap();
    assert_eq!((i.format, i.series.counts.clone()), (Format::Json, vec![Some(10.0), Some(10.0)]));
    let haproxy: String = (0..20)
        .map(|i| format!("Feb  6 12:14:14 localhost haproxy[14389]: 10.0.1.{i}:33317 [06/Feb/2009:12:14:{i:02}.655] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {{{firefox}}} {{}} \"GET /index.html HTTP/1.1\"\n"))
        .collect();
    let i = read_as("haproxy.log", haproxy.as_bytes(), &options).unwrap();
    assert_eq!((i.format, i.series.counts.clone()), (Format::Haproxy, vec![Some(10.0), Some(10.0)]));
    let common: String =
        (0..20).map(|i| format!("10.0.0.{i} - bob [01/Jan/2026:00:00:{i:02} +0000] \"GET /a HTTP/1.0\" 200 23\n")).collect();
    assert_eq!(read_as("x", common.as_bytes(), &options).unwrap().series.counts, [Some(10.0), Some(10.0)]);
    let forced = Options { format: Some(Format::Combined), ..Options::default() };
    let e = read_as("a.csv", b"t,count\n1,2\n", &forced).unwrap_err().to_string();
    assert!(e.contains(":1: is no line of a Combined log"), "{e}");
}

#[test]
fn the_real_sets_are_what_their_readme_says() {
    let Some(data) = testing::data() else { return };
    let open = |f: &str| import(&data.join("traffic").join(f), &Options::default()).unwrap();
    let nasa = open("nasa_1min_first70.csv");
    let d = describe(&nasa.series, &nasa.report);
    println!("{}", d.for_people());
    assert_eq!((d.step_s, d.steps), (60, 64_800));
    assert!(d.longest_gaps[0].steps > 4_000 && d.zeros > 300, "an outage, and minutes of nobody");
    let wc98 = open("wc98_1min_first70.csv");
    let d = describe(&wc98.series, &wc98.report);
    println!("{}", d.for_people());
    assert!(d.zeros <= 10 && d.gap_steps <= 20 && d.outliers > 20 && d.seasons[1].share > 0.03, "{d:?}");
    let azure = open("azure_llm_code_arrivals.csv");
    let d = describe(&azure.series, &azure.report);
    println!("{}", d.for_people());
    assert!(d.step_s == 1 && d.dispersion[0].overall > 10.0, "arrivals come in bursts: {:?}", d.dispersion);
    let shop = import(&data.join("weblogs/zanbil_shop_10k.log"), &Options::default()).unwrap();
    println!("{}", describe(&shop.series, &shop.report).for_people());
    let share = shop.report.bots as f64 / shop.report.rows as f64;
    assert!((0.3..0.5).contains(&share), "about 40 % come from programs that say so: {share}");
    for f in ["elb_request_count_8c0756.csv", "art_load_balancer_spikes.csv", "Twitter_volume_AMZN.csv"] {
        assert_eq!(open(f).series.step_s, 300);
    }
}

#[test]
fn what_is_written_is_read_again() {
    let i = read("t,count\n1700000040,5\n1700000100,6\n1700000220,7\n1700000280,1\n").unwrap();
    let again = read(&i.series.to_csv()).unwrap();
    assert_eq!(again.series, i.series);
}

#[test]
fn what_was_assumed_or_left_out_is_said() {
    let twice = read("t,count\n1700000000,5\n1700000060,6\n1700000060,7\n1700000120,3\n").unwrap();
    assert!(twice.report.notes.iter().any(|n| n.starts_with("1 rows have a time that was there before")), "{:?}", twice.report);
    let unsure = read("when,count\n05/04/2015 10:00,5\n05/04/2015 10:01,6\n05/04/2015 10:02,7\n").unwrap();
    assert!(unsure.report.notes.iter().any(|n| n.contains("month first")), "{:?}", unsure.report);
    let days = "when,count\n05/04/2015 23:59,5\n06/04/2015 00:00,6\n25/04/2015 00:00,7\n25/04/2015 00:01,7\n";
    let days = read(days).unwrap();
    assert_eq!(days.series.start_s % 86_400, 86_400 - 60);
    assert!(days.report.notes.iter().any(|n| n.contains("day first, as `25/04/2015 00:00` must be")), "{:?}", days.report);
    assert!(refused("when,count\n25/04/2015 10:00,5\n04/25/2015 10:01,6\n").contains("write dates as 2026-12-01"));
}

#[test]
fn a_host_before_the_address_is_no_address() {
    let log: String = (0..20)
        .map(|i| {
            format!("www.shop.example:443 10.0.0.{i} - - [01/Jan/2026:00:00:{i:02} +0000] \"GET /a HTTP/1.1\" 200 23 \"-\" \"Firefox\"\n")
        })
        .collect();
    let options = Options { step_s: Some(10), ..Options::default() };
    let i = read_as("other_vhosts_access.log", log.as_bytes(), &options).unwrap();
    assert_eq!(
        (i.format, i.series.counts.clone()),
        (Format::Combined, vec![Some(10.0), Some(10.0)]),
        "twenty people, not one host"
    );
}

#[test]
fn what_never_ends_is_not_read() {
    let e = import(Path::new("/dev/zero"), &Options::default()).unwrap_err().to_string();
    assert!(e.contains("may never end"), "{e}");
}

#[test]
fn one_damaged_file_of_a_journal_is_passed_over() {
    use crate::journal::{JournalWriter, file_name};
    use tidegate_filters::{Row, record::Kind};
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join(file_name(1_700_000_000_000, 1)), dir.path().join(file_name(1_700_000_900_000, 2)));
    let row = |i: u64| Row { at_ms: 1_700_000_000_000 + i * 1_000, kind: Kind::Visit, visitor: i + 1, ..Row::blank() };
    let mut writer = JournalWriter::create(&good).unwrap();
    writer.write(&(0..300).map(row).collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap();
    let alone = import(dir.path(), &Options::default()).unwrap();
    fs::write(&bad, b"PAR1 rubbish").unwrap();
    let i = import(dir.path(), &Options::default()).unwrap();
    assert_eq!(i.series, alone.series);
    assert!(i.report.notes.iter().any(|n| n.starts_with("passed over: ")), "{:?}", i.report.notes);
    fs::write(&good, b"PAR1 rubbish").unwrap();
    let e = import(dir.path(), &Options::default()).unwrap_err().to_string();
    assert!(e.contains("none of 2 files can be read"), "{e}");
}
