#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::path::PathBuf;

use tempfile::TempDir;
use tidegate_filters::Row;

use super::*;
use crate::{
    journal::{JournalWriter, file_name},
    tune::Label,
};

fn feature(name: &str) -> usize {
    FEATURES.iter().position(|f| f.name == name).unwrap()
}

fn put(dir: &TempDir, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn why(source: &str, options: &Options) -> String {
    read(&[source.to_owned()], options).unwrap_err().to_string()
}

#[test]
fn a_table_is_read_by_names_and_says_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let text = "\u{feff}gap_last,LABEL,network,colour,family,site,visit,accept\n\
                0.5,bot,a,red,curl,north,3,-1\n\
                \"1.5\",person,b,red,,,,na\n\
                2,,c,red,,,,1\n\
                -3,0,b,blue,,,,1\n";
    let visits = read(&[put(&dir, "t.csv", text)], &Options::default()).unwrap();
    let [a, b, c] = &visits.samples[..] else { panic!("{:?}", visits.samples.len()) };
    assert_eq!((a.bot, b.bot, c.bot), (true, false, false));
    assert_eq!((a.features[feature("gap_last")], a.features[feature("accept")]), (0.5, -1.0));
    assert_eq!((b.features[feature("accept")], c.features[feature("gap_last")]), (0.0, -3.0));
    assert_eq!((&*a.family, &*a.site, a.visit, &*b.site), ("curl", "north", 3, "t"));
    assert!(a.network != b.network && b.network == c.network && c.visit == 2);
    let told = &visits.told[0];
    assert_eq!((told.kind, told.rows, told.visits), ("table", 4, 3));
    let notes = told.notes.join("\n");
    let missing = format!("{} features are missing", N - 2);
    for part in [&*missing, "1 columns are no features and are not looked at: colour", "1 rows have no label"] {
        assert!(notes.contains(part), "{notes}");
    }
}

#[test]
fn wrong_tables_say_where_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::default();
    for (text, part) in [
        ("gap_last,kind\n1,bot\n", "has no column `label`; its columns are: gap_last, kind; name it with --label-column"),
        ("label,colour\nbot,1\n", "has no column with the name of a feature"),
        ("PK\x03\x04and more", "is packed with zip; unpack it first: `unzip -p FILE > UNPACKED`"),
        ("", "is empty: its first line has to name the columns"),
        ("label,gap_last\nbot,1\nhuman?,2\n", "t.csv:3: label: `human?` is no label; write `person` or `program`"),
        ("label,gap_last\nbot,x1\n", "t.csv:2: gap_last: `x1` is no number"),
        ("label,gap_last\nbot,inf\n", "t.csv:2: gap_last: inf lies outside what features can be, -50 to 50"),
        ("label,gap_last\nbot,1e9\n", "gap_last: 1000000000 lies outside"),
        ("label,gap_last\n,1\n", "has no row with a label"),
        ("label,gap_last,gap_last\nbot,1,1\n", "has two columns `gap_last`"),
        ("label,gap_last\nbot,1,1\n", "t.csv: line 2"),
        ("label,gap_last,weight\nbot,1,-4\n", "t.csv:2: weight: `-4` is no number from"),
        ("label,gap_last,visit\nbot,1,0\n", "t.csv:2: visit: `0` is no number from 1"),
    ] {
        let said = why(&put(&dir, "t.csv", text), &options);
        let near = part.replace("t.csv: line 2", "2");
        assert!(said.contains(&near), "{said}");
    }
    let named = Options { label_column: Some("kind".into()), group_column: Some("net".into()), ..Options::default() };
    let said = why(&put(&dir, "t.csv", "gap_last,kind\n1,bot\n"), &named);
    assert!(said.contains("has no column `net`"), "{said}");
    assert!(why("worlds:1", &named).contains("is read as made-up sales, which has no column `kind`"));
    let said = why(&put(&dir, "t.csv", b"label,gap_last\nbot,\xff\n"), &options);
    assert!(said.contains("UTF-8"), "{said}");
    assert!(why(&dir.path().join("none.csv").display().to_string(), &options).contains("cannot read it"));
    assert!(why("worlds:0", &options).contains("write worlds:N or worlds:N@SEED"));
    assert!(why("worlds:9x", &options).contains("such as worlds:40@7"));
    let cut = put(&dir, "t.parquet", b"PAR1 and nothing more");
    assert!(why(&cut, &options).contains("not a Parquet file that can be read"));
}

fn journal(dir: &TempDir, rows: &[Row]) -> PathBuf {
    let folder = dir.path().join("gate/journal");
    fs::create_dir_all(&folder).unwrap();
    let mut writer = JournalWriter::create(&folder.join(file_name(0, 1))).unwrap();
    writer.write(rows).unwrap();
    writer.finish().unwrap();
    folder
}

#[test]
fn a_journal_is_labelled_by_visitor() {
    let dir = tempfile::tempdir().unwrap();
    let row = |visitor, network| Row { visitor, network, features: vec![0.25; N], ..Row::default() };
    let mut bad = row(1, 7);
    bad.features[3] = f32::NAN;
    let rows = [row(1, 7), row(2, 7), row(1, 7), row(3, 8), bad, Row { features: vec![], ..row(1, 7) }, row(4, 0)];
    let source = journal(&dir, &rows).display().to_string();
    assert!(why(&source, &Options::default()).contains("give --labels FILE"));
    let mut labels = Labels::default();
    labels.set_with(1, Label::Program, "", "curl");
    labels.set(2, Label::Person, "");
    labels.set(4, Label::Person, "");
    labels.set(99, Label::Person, "");
    let file = dir.path().join("labels.csv");
    labels.write(&file).unwrap();
    let visits = read(std::slice::from_ref(&source), &Options { labels: Some(file), ..Options::default() }).unwrap();
    let seen: Vec<_> = visits.samples.iter().map(|s| (s.visitor, s.bot, s.visit, &*s.family)).collect();
    assert_eq!(seen, [(1, true, 1, "curl"), (2, false, 1, ""), (1, true, 2, "curl"), (4, false, 1, "")]);
    assert_eq!(visits.samples[0].network, visits.samples[1].network);
    assert_eq!((&*visits.samples[0].site, visits.told[0].rows), ("gate journal", 7));
    let notes = visits.told[0].notes.join("\n");
    assert!(notes.contains("1 scored visits are of visitors without a label"), "{notes}");
    assert!(notes.contains("1 labels are of visitors who are not in this journal"), "{notes}");
}

#[test]
fn labels_that_contradict_each_other_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let text = "gap_last,label,visitor\n1,bot,a\n1,person,b\n2,bot,c\n2.5,person,c\n3,bot,d\n";
    let visits = read(&[put(&dir, "t.csv", text)], &Options::default()).unwrap();
    let notes = contradictions(&visits.samples);
    assert_eq!(notes.len(), 2);
    assert!(notes[0].starts_with("2 visits (40.0 %) have exactly the features of one with the other label"), "{notes:?}");
    assert!(notes[1].starts_with("1 visitors are labelled person and program"), "{notes:?}");
    assert!(contradictions(&visits.samples[2..3]).is_empty());
    assert_eq!(silent(&visits.samples).len(), N - 1);
}

#[test]
fn sources_are_sites_and_what_they_are_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let line = |agent: &str| format!("1.2.3.4 - - [22/Jan/2019:03:56:16 +0330] \"GET /a HTTP/1.1\" 200 5 \"-\" \"{agent}\"\n");
    let log = line("curl/8.0") + &line("Mozilla/5.0 (X11; rv:127.0) Gecko/20100101 Firefox/127.0");
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("access.log"), &log).unwrap();
    let sources = [put(&dir, "access.log", &log), other.join("access.log").display().to_string(), "worlds:1@3".into()];
    let visits = read(&sources, &Options::default()).unwrap();
    let told: Vec<_> = visits.told.iter().map(|t| (t.site.as_str(), t.kind)).collect();
    assert_eq!(told, [("access", "log"), ("access 2", "log"), ("made up", "worlds")]);
    assert_eq!(visits.told[0].visits, 2);
    let families: BTreeSet<_> = visits.samples.iter().map(|s| s.family.to_string()).collect();
    assert!(families.contains("curl") && families.contains("people") && families.contains("jittered_mimic"), "{families:?}");
    let twice = read(&["worlds:1@3".into(), "worlds:1@4".into()], &Options::default()).unwrap();
    let sites: BTreeSet<_> = twice.samples.iter().map(|s| s.site.to_string()).collect();
    assert_eq!(sites, ["made up".to_owned(), "made up 2".to_owned()].into(), "each is a site of its own");
    assert!(why("/dev/zero", &Options::default()).contains("no regular file"), "what never ends is not begun");
    let few = log + &"rubbish\n".repeat(4);
    assert!(why(&put(&dir, "few.log", &few), &Options::default()).contains("has no column"), "no log, so a table");
    let most = line("curl/8.0").repeat(4) + "rubbish\nrubbish\n";
    assert!(why(&put(&dir, "most.log", &most), &Options::default()).contains("2 of 6 lines are none"));
}

#[test]
fn what_is_written_as_a_table_is_read_back_to_the_bit() {
    let dir = tempfile::tempdir().unwrap();
    let visits = read(&["worlds:1@4".into()], &Options::default()).unwrap();
    let again = read(&[put(&dir, "t.csv", to_csv(&visits.samples))], &Options::default()).unwrap();
    assert_eq!(again.told[0].notes, Vec::<String>::new());
    assert_eq!(visits.samples.len(), again.samples.len());
    for (a, b) in visits.samples.iter().zip(&again.samples) {
        assert_eq!(a.features.map(f32::to_bits), b.features.map(f32::to_bits));
        assert_eq!((a.bot, &a.family, &a.site, a.visit), (b.bot, &b.family, &b.site, b.visit));
    }
    let groups = |v: &Visits| v.samples.iter().map(|s| s.visitor).collect::<BTreeSet<_>>().len();
    assert_eq!(groups(&visits), groups(&again));
}
