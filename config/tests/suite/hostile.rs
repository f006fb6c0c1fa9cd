//! Text that nobody meant: no panic, and an error that points into the file.

use std::fs;

use proptest::prelude::*;
use tidegate_config::{Checks, PolicyErrors, parse_with};

use crate::{examples::examples, golden::NOW_MS};

fn parse(text: &str) -> Result<tidegate_config::Loaded, PolicyErrors> {
    // Mutated paths must not make the test look at files.
    parse_with(text, "mutant.yaml", &Checks { now_unix_ms: Some(NOW_MS), skip_files: true, ..Checks::default() })
}

/// Loads, or fails with at least one error, each of which names an existing place and renders on few lines.
fn holds(text: &str) -> Result<(), String> {
    parse(text).err().map_or(Ok(()), |errors| helps(&errors, text))
}

fn helps(errors: &PolicyErrors, text: &str) -> Result<(), String> {
    if errors.errors.is_empty() {
        return Err("an error without a problem".into());
    }
    let lines: Vec<&str> = text.lines().collect();
    for problem in errors.errors.iter().chain(&errors.warnings) {
        let Some(place) = problem.place else {
            // Only "there are more" is about no place in particular.
            if problem.what.contains("more errors") {
                continue;
            }
            return Err(format!("no place: {problem:?}"));
        };
        let line = match place.line {
            1 if lines.is_empty() => "",
            n => lines.get(n - 1).ok_or(format!("line {n} of {}: {problem:?}", lines.len()))?,
        };
        if place.column < 1 || place.column > line.chars().count() + 1 {
            return Err(format!("column {} of {line:?}: {problem:?}", place.column));
        }
        if problem.what.is_empty() || problem.what.chars().count() > 450 {
            return Err(format!("too few or too many words: {problem:?}"));
        }
    }
    let shown = errors.to_string();
    let longest = shown.lines().map(|l| l.chars().count()).max().unwrap_or_default();
    if longest > 2_000 || shown.chars().any(|c| c.is_control() && c != '\n') {
        return Err(format!("not fit for a terminal: {shown:?}"));
    }
    Ok(())
}

/// What people and editors do to a line.
const INSERTIONS: &[&str] = &[
    ":",
    "-",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "#",
    "&a ",
    "*a ",
    "!t ",
    "\t",
    "\n",
    "  ",
    "|",
    ">",
    "? ",
    "<<: ",
    "---\n",
    "...\n",
    "%",
    "-1",
    "0",
    "yes",
    "~",
    "null",
    ".nan",
    "1e999",
    "é",
    "\u{0}",
    "\u{2028}",
    "\u{feff}",
    "99999999999999999999999999",
];

fn mutate(text: &str, at: usize, len: usize, what: usize, how: u8) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let at = at % (chars.len() + 1);
    let end = (at + len).min(chars.len());
    let insertion = INSERTIONS[what % INSERTIONS.len()].chars();
    match how % 4 {
        0 => drop(chars.splice(at..at, insertion)),
        1 => drop(chars.drain(at..end)),
        2 => drop(chars.splice(at..end, insertion)),
        _ => {
            let copy: Vec<char> = chars[at..end].to_vec();
            drop(chars.splice(end..end, copy));
        }
    }
    chars.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}") {
        prop_assert_eq!(holds(&text), Ok(()));
    }

    #[test]
    fn any_yaml_like_text_is_answered(text in "([a-z_]{1,8}|version|listen|shop|rooms|[-:\\[\\]{}&*!|>'\"#%,?~ \n\t0-9]){0,60}") {
        prop_assert_eq!(holds(&text), Ok(()));
    }

    #[test]
    fn any_mutated_example_is_answered(
        which in 0usize..4, edits in prop::collection::vec((any::<usize>(), 1usize..30, any::<usize>(), any::<u8>()), 1..4)
    ) {
        let mut text = fs::read_to_string(&examples()[which]).unwrap();
        for (at, len, what, how) in edits {
            text = mutate(&text, at, len, what, how);
        }
        prop_assert_eq!(holds(&text), Ok(()), "{}", text);
    }
}

#[test]
fn every_single_value_of_an_example_may_be_nonsense() {
    let text = fs::read_to_string("policies/drop-day.yaml").unwrap();
    let mut refused = 0;
    for (n, line) in text.lines().enumerate() {
        let Some((key, _)) = line.split_once(": ").filter(|(k, _)| !k.trim_start().starts_with('#')) else { continue };
        for value in
            ["", "~", "yes", "-1", "0", "0s", "0/s", "[]", "{}", "[[]]", "{ a: b }", "\"\"", "*a", "99999999999999999999", ".inf"]
        {
            let changed: Vec<String> =
                text.lines().enumerate().map(|(i, l)| if i == n { format!("{key}: {value}") } else { l.to_owned() }).collect();
            let changed = changed.join("\n");
            assert_eq!(holds(&changed), Ok(()), "line {}: {key}: {value}", n + 1);
            refused += usize::from(parse(&changed).is_err());
        }
    }
    assert!(refused > 400, "only {refused} of the nonsense was refused");
}

#[test]
fn bombs_and_junk_are_refused() {
    let bomb = {
        let mut s = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        (1..60).for_each(|i| s.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(","))));
        s
    };
    let mib = 1 << 20;
    let base = "version: 1\nlisten: [ { address: 127.0.0.1:8080 } ]\nshop: { upstreams: [ { address: 127.0.0.1:3000 } ] }\n";
    let cases = [
        bomb,
        "x".repeat(mib),
        "[".repeat(mib),
        "{".repeat(mib),
        "- ".repeat(mib / 2),
        "a: ".repeat(mib / 3),
        "\"".repeat(mib),
        "#".repeat(mib),
        "\n".repeat(mib),
        "? ".repeat(mib / 2),
        "- x\n".repeat(mib / 4),
        (0..60_000).map(|i| format!("k{i}: {i}\n")).collect(),
        format!("version: {}\n", "9".repeat(mib - 20)),
        format!("{}: 1\n", "k".repeat(mib - 10)),
        format!("{}:\n{}", "k".repeat(mib / 2), "  - x\n".repeat(15_000)),
        format!("version: 1\nlisten: [ {} ]\n", "{ address: x }, ".repeat(10_000)),
        format!("{base}routes: [ {} ]\n", "{ name: x }, ".repeat(6_000)),
        format!("{base}filters: [ {} ]\n", "{ waiting_room: { room: nowhere } }, ".repeat(3_000)),
        format!("{base}filters: [ {{ waiting_room: {{ room: a, routes: [ {} ] }} }} ]\n", "nowhere, ".repeat(15_000)),
        format!(
            "{base}sales: [ {} ]\n",
            "{ name: a, room: b, opens_at: 2026-12-01T10:00:00Z, closes_at: 2026-12-01T10:00:00Z }, ".repeat(2_000)
        ),
    ];
    for text in &cases {
        let short = text.chars().take(20).collect::<String>();
        let errors = parse(text).err().unwrap_or_else(|| panic!("{short} was accepted"));
        let answer = helps(&errors, text);
        assert!(answer.is_ok(), "{short}: {answer:?}");
    }
    assert!(parse(&"x".repeat(mib + 1)).unwrap_err().to_string().contains("larger than 1 MiB"));
}
