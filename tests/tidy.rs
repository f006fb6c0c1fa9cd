//! Rules of the repository that a machine can keep.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

const LINES_MAX: usize = 460;
const FUNCTION_LINES_MAX: usize = 80;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Tracked files with their text; binary ones are left out.
fn files(ending: &str) -> Vec<(String, String)> {
    let out = Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root()).output().unwrap();
    let listed = String::from_utf8(out.stdout).unwrap();
    let text = |f: &str| Some((f.to_owned(), std::fs::read_to_string(root().join(f)).ok()?));
    assert!(listed.contains("Cargo.toml"), "git lists no files: is this a checkout?");
    listed.lines().filter(|f| f.ends_with(ending)).filter_map(text).collect()
}

#[test]
fn arrows_point_one_way() {
    let allowed = BTreeMap::from([
        ("filters", vec![]),
        ("config", vec!["filters"]),
        ("models", vec!["filters"]),
        ("gateway", vec!["filters", "config", "models"]),
        ("loadtest", vec!["filters", "config", "models"]),
        ("tests", vec!["filters", "config", "models", "gateway", "loadtest"]),
    ]);
    for (krate, may) in allowed {
        let manifest = std::fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
        for line in manifest.lines().filter(|l| l.starts_with("tidegate-")) {
            let other = line.trim_start_matches("tidegate-").split(['.', ' ', '=']).next().unwrap();
            assert!(may.contains(&other), "{krate} may not depend on {other}: see ARCHITECTURE.md, arrows");
        }
    }
}

#[test]
fn the_core_names_no_shell() {
    let banned =
        ["tokio", "pingora", "std::fs", "std::net::Tcp", "Instant::now", "SystemTime", "getrandom", "rand::", "async fn"];
    for (file, text) in files(".rs").iter().filter(|(f, _)| f.starts_with("filters/src/")) {
        for word in banned {
            let found = text.lines().position(|l| l.contains(word) && !l.trim_start().starts_with("//"));
            assert_eq!(found, None, "{file}: filters decides; `{word}` belongs to the shell");
        }
    }
}

/// Each foreign thing has one door: a word, where it may stand, why.
#[test]
fn one_place_for_each_foreign_thing() {
    let rules: [(&str, &[&str], &str); 4] = [
        ("ort::", &["models/src/session"], "the ONNX runtime"),
        ("tract_onnx", &["models/src/session"], "the built-in runtime"),
        ("parquet::", &["models/src/journal", "models/src/bots/data/columnar.rs"], "Parquet"),
        ("SystemTime::now", &["gateway/src/clock.rs", "loadtest/", "tests/", "models/"], "the wall clock"),
    ];
    for (file, text) in files(".rs").iter().filter(|(f, _)| !f.contains("/benches/") && f != "tests/tidy.rs") {
        let product = text.split("#[cfg(test)]").next().unwrap();
        for (word, places, what) in rules {
            let names = |l: &str| {
                let code = l.split("//").next().unwrap();
                code.match_indices(word).any(|(i, _)| !code[..i].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
            };
            let inside = places.iter().any(|p| file.starts_with(p));
            assert!(inside || !product.lines().any(names), "{file} names {what} (`{word}`); only {places:?} may");
        }
    }
}

#[test]
fn pingora_stays_in_the_gateway() {
    for (file, text) in files(".rs").iter().filter(|(f, _)| !f.starts_with("gateway/") && f != "tests/tidy.rs") {
        let found = text.lines().any(|l| l.split("//").next().unwrap().contains("pingora::"));
        assert!(!found, "{file} names pingora");
    }
}

#[test]
fn files_and_functions_stay_small() {
    let mut long = vec![];
    for (file, text) in files(".rs") {
        let n = text.lines().count();
        if n > LINES_MAX {
            long.push(format!("{file}: {n} lines, at most {LINES_MAX}"));
        }
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let head = line.trim_start();
            let is_fn = ["fn ", "pub fn ", "async fn ", "pub async fn ", "pub(crate) fn ", "pub(super) fn "];
            if !is_fn.iter().any(|p| head.starts_with(p)) || head.ends_with('}') {
                continue;
            }
            let close = format!("{}}}", " ".repeat(indent));
            let Some(end) = lines[start..].iter().position(|l| **l == close) else { continue };
            if end > FUNCTION_LINES_MAX {
                long.push(format!("{file}:{}: a function of {end} lines, at most {FUNCTION_LINES_MAX}", start + 1));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn nothing_unfinished_and_no_machine_lands() {
    let banned = ["todo!(", "unimplemented!(", "FIXME", "XXX", "dbg!("];
    for (file, text) in files(".rs").iter().filter(|(f, _)| f != "tests/tidy.rs") {
        for word in banned {
            assert!(!text.contains(word), "{file}: {word}");
        }
    }
    for ending in [".rs", ".md", ".toml", ".yaml", ".json", ".html", "Makefile"] {
        for (file, text) in files(ending).iter().filter(|(f, _)| f != "tests/tidy.rs") {
            for word in ["/root/", "/work/", "/home/"] {
                assert!(!text.contains(word), "{file} names a path of one machine: {word}");
            }
        }
    }
}

#[test]
fn artifacts_are_small_and_have_cards() {
    let models = root().join("models/artifacts");
    for entry in std::fs::read_dir(models).unwrap().map(|e| e.unwrap().path()) {
        assert!(entry.metadata().unwrap().len() < 1 << 20, "{entry:?} is over 1 MiB");
        if entry.extension().is_some_and(|e| e == "onnx") {
            assert!(entry.with_extension("json").exists(), "{entry:?} has no card");
        }
    }
}
