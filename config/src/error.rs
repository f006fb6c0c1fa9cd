//! What is wrong with a policy, as a tired operator wants to read it: where, what, and what to write instead.

use std::{fmt, sync::Arc};

use serde::Serialize;

/// Longest text of one message, characters: a value may be a megabyte.
const MESSAGE_MAX: usize = 400;
/// Characters of a source line shown on each side of the place.
const LINE_AROUND: usize = 90;

/// A position in the file; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where; `None` when it is about the file as a whole.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// The key, such as `rooms[0].seats.max`; empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to write or do instead.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub instead: String,
}

impl Problem {
    /// Control characters become escapes and endless values are cut: the text goes to terminals and logs.
    pub(crate) fn new(place: Option<Place>, path: impl Into<String>, what: &str, instead: &str) -> Self {
        Problem { place, path: path.into(), what: printable(what), instead: printable(instead) }
    }
}

/// Cut and free of control characters.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MESSAGE_MAX));
    for (i, c) in text.chars().enumerate() {
        match c {
            _ if i >= MESSAGE_MAX => {
                out.push('…');
                break;
            }
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

/// Why a policy was refused: at least one problem.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyErrors {
    /// The file, as it was named.
    pub file: String,
    /// What must be mended, in the order of the file.
    pub errors: Vec<Problem>,
    /// What is doubtful.
    pub warnings: Vec<Problem>,
    #[serde(skip)]
    pub(crate) text: Arc<str>,
}

impl std::error::Error for PolicyErrors {}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", render("error", &self.errors, &self.file, &self.text))?;
        write!(f, "{}", render("warning", &self.warnings, &self.file, &self.text))
    }
}

/// Problems with their source lines; `kind` is `error` or `warning`.
pub(crate) fn render(kind: &str, problems: &[Problem], file: &str, text: &str) -> String {
    problems.iter().map(|p| render_one(kind, p, file, text)).collect()
}

fn render_one(kind: &str, problem: &Problem, file: &str, text: &str) -> String {
    let mut head = format!("{kind}: {}", printable(file));
    let mut excerpt = String::new();
    if let Some(place) = problem.place {
        head.push_str(&format!(":{}:{}", place.line, place.column));
        excerpt = source_line(place, text);
    }
    if !problem.path.is_empty() {
        head.push_str(&format!(": {}", problem.path));
    }
    let instead = match problem.instead.as_str() {
        "" => String::new(),
        instead => format!("  = {instead}\n"),
    };
    format!("{head}: {}\n{excerpt}{instead}", problem.what)
}

/// The line of a place with a caret below it; long lines are cut to a window around it.
fn source_line(place: Place, text: &str) -> String {
    let line = text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
    let column = place.column.saturating_sub(1).min(line.chars().count());
    let from = column.saturating_sub(LINE_AROUND);
    let shown: String = line
        .trim_start_matches('\u{feff}')
        .chars()
        .skip(from)
        .take(2 * LINE_AROUND)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let number = place.line.to_string();
    let gutter = " ".repeat(number.len());
    format!(" {number} | {}\n {gutter} | {}^\n", shown.trim_end(), " ".repeat(column - from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_points_at_the_column() {
        assert_eq!(source_line(Place { line: 2, column: 3 }, "a\nbcd\n"), " 2 | bcd\n   |   ^\n");
        assert_eq!(source_line(Place { line: 9, column: 3 }, "a\n"), " 9 | \n   | ^\n", "a place behind the end does not panic");
        let long = "x".repeat(10_000);
        assert!(source_line(Place { line: 1, column: 9_000 }, &long).len() < 500);
    }

    #[test]
    fn nothing_moves_the_cursor_of_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\u{a}");
        assert_eq!(printable(&"é".repeat(10_000)).chars().count(), MESSAGE_MAX + 1);
    }
}
