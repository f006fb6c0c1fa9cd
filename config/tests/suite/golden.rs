//! Every file of `tests/bad` is refused with exactly the words beside it. `BLESS=1 cargo test -p tidegate-config` writes
//! them anew.

use std::{fs, path::Path};

use tidegate_config::{Checks, parse_with};

/// 2026-06-01T00:00:00Z: messages do not depend on the day.
pub(crate) const NOW_MS: u64 = 1_780_272_000_000;

#[test]
fn every_bad_policy_is_refused_in_these_words() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    let mut files: Vec<_> = fs::read_dir("tests/bad").unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "yaml")) {
        seen += 1;
        let said = what_is_said(file);
        let expected_file = file.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected_file, &said).unwrap();
        }
        let expected = fs::read_to_string(&expected_file).unwrap_or_default();
        if said != expected {
            wrong.push(format!("--- {}\n{said}", file.display()));
        }
    }
    assert!(seen > 80, "only {seen} bad policies were found");
    assert!(wrong.is_empty(), "other words than expected:\n{}", wrong.join("\n"));
}

fn what_is_said(file: &Path) -> String {
    let name = file.file_name().unwrap().to_str().unwrap();
    let checks = Checks { now_unix_ms: Some(NOW_MS), ..Checks::default() };
    let text = fs::read_to_string(file).unwrap();
    match parse_with(&text, name, &checks) {
        Err(errors) => {
            // What `--json` prints says the same.
            let json = serde_json::to_value(&errors).unwrap();
            assert_eq!(json["errors"].as_array().unwrap().len(), errors.errors.len());
            assert_eq!(json["errors"][0]["what"], errors.errors[0].what.as_str());
            let here = std::env::current_dir().unwrap();
            errors.to_string().replace(here.to_str().unwrap(), "$HERE")
        }
        Ok(_) => panic!("{name} was accepted"),
    }
}
