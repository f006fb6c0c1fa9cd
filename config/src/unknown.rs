//! All unknown keys of a policy, not only the first: a file of another tool, or of a later version, has many.

use std::sync::Arc;

use serde_saphyr::Error as Yaml;

use crate::{
    error::{Place, Problem},
    parse::{options, structure},
    place::{Places, Spot, place_of},
    policy::Policy,
    words::nearest,
};

/// Most unknown keys named at once.
const UNKNOWN_MAX: usize = 20;

/// What is wrong, where `first` is what was found first: every key that nobody knows, or the one other error. The reader
/// stops at the first unknown key, so each is mended or blanked out and the rest is read again; what is found after that and
/// is no unknown key may come of the mending and is not told.
pub(crate) fn all(first: Yaml, places: Places, text: &Arc<str>) -> Vec<Problem> {
    let mut problems = vec![structure(&first, &places, text)];
    let mut rest = Rest { error: first, places, text: text.to_string(), longer: Vec::new() };
    while problems.len() < UNKNOWN_MAX {
        let Some(next) = rest.renamed().or_else(|| rest.blanked()) else { break };
        let problem = structure(&next.error, &next.places, &next.text);
        problems.push(Problem { place: problem.place.map(|p| next.as_written(p)), ..problem });
        rest = next;
    }
    problems.sort_by_key(|p| p.place);
    problems
}

/// A text and the error it still has.
struct Rest {
    error: Yaml,
    places: Places,
    text: String,
    /// Where keys were renamed, and by how many characters that made the line longer.
    longer: Vec<(Place, isize)>,
}

impl Rest {
    /// With another text, when that still has an unknown key.
    fn with(&self, text: String) -> Option<Rest> {
        let places = Places::read(&text, options()).ok()?;
        let error = serde_saphyr::from_str_with_options::<Policy>(&text, options()).err()?;
        let unknown = matches!(error.without_snippet(), Yaml::SerdeUnknownField { .. });
        unknown.then(|| Rest { error, places, text, longer: self.longer.clone() })
    }

    fn unknown(&self) -> Option<(&Spot, Place)> {
        let error = self.error.without_snippet();
        let place = place_of(error).filter(|_| matches!(error, Yaml::SerdeUnknownField { .. }))?;
        let spot = self.places.key_at(place)?;
        Some((spot, spot.key_at?))
    }

    /// What was meant instead of the unknown key: a required key that is mistyped would be missing.
    fn renamed(&self) -> Option<Rest> {
        let Yaml::SerdeUnknownField { field, expected, .. } = self.error.without_snippet() else { return None };
        let (_, at) = self.unknown()?;
        let meant = nearest(field, expected.iter().copied())?;
        let start = offset(&self.text, at)?;
        let text = format!("{}{meant}{}", &self.text[..start], self.text[start..].strip_prefix(field.as_str())?);
        let mut rest = self.with(text)?;
        rest.longer.push((at, meant.chars().count() as isize - field.chars().count() as isize));
        Some(rest)
    }

    /// Spaces instead of the unknown key and its value.
    fn blanked(&self) -> Option<Rest> {
        let (spot, at) = self.unknown()?;
        self.with(blank(&self.text, at, end(&self.places, spot)))
    }

    /// The place in the file as it was written.
    fn as_written(&self, place: Place) -> Place {
        let moved: isize =
            self.longer.iter().filter(|(p, _)| p.line == place.line && p.column < place.column).map(|(_, n)| n).sum();
        Place { column: place.column.saturating_add_signed(-moved), ..place }
    }
}

/// Of a place, in bytes.
fn offset(text: &str, at: Place) -> Option<usize> {
    let line = text.split_inclusive('\n').take(at.line - 1).map(str::len).sum::<usize>();
    Some(line + text.get(line..)?.char_indices().nth(at.column - 1)?.0)
}

/// Up to here, but not further than the bracket that encloses it. A value that ends before another line begins ends with
/// its line: what stands before the next key there, such as `- `, is not its own.
fn end(places: &Places, spot: &Spot) -> Place {
    match (places.behind(spot), spot.key_at) {
        (Some(next), Some(key)) if next.line == key.line => next,
        (Some(next), _) => Place { line: next.line, column: 1 },
        (None, _) => Place { line: usize::MAX, column: 1 },
    }
}

fn blank(text: &str, from: Place, to: Place) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut at, mut depth, mut done) = (Place { line: 1, column: 1 }, 0u32, false);
    for c in text.chars() {
        let inside = at >= from && at < to && !done;
        match c {
            '{' | '[' if inside => depth += 1,
            '}' | ']' if inside && depth == 0 => done = true,
            '}' | ']' if inside => depth -= 1,
            _ => {}
        }
        out.push(if inside && !done && c != '\n' { ' ' } else { c });
        at = if c == '\n' { Place { line: at.line + 1, column: 1 } } else { Place { column: at.column + 1, ..at } };
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::parse;

    fn paths(text: &str) -> Vec<String> {
        parse(text, "p.yaml").map_or_else(|e| e.errors.iter().map(|p| p.path.clone()).collect(), |_| Vec::new())
    }

    #[test]
    fn every_unknown_key_is_named_where_it_stands() {
        let text = "version: 1\nfoo: { a: [1, 2], b: 3 }\nlisten: [ { addres: 127.0.0.1:1, address: 127.0.0.1:8080, x: 1 } ]\n\
                    shop:\n  upstream:\n    - 127.0.0.1:1\n  upstreams: [ { address: 127.0.0.1:3000 } ]\n\
                    routes:\n  - name: a\n    wrong: |\n      long\n      text\n    match: { prefix: / }\n  - nmae: b\n    match: { prefix: /b }\nother: 1\n";
        assert_eq!(
            paths(text),
            ["foo", "listen[0].addres", "listen[0].x", "shop.upstream", "routes[0].wrong", "routes[1].nmae", "other"]
        );
    }

    #[test]
    fn mended_keys_move_no_place() {
        let text = "version: 1\nlisten: [ { adress: 127.0.0.1:1, x: 1 } ]\nshop: { upstreem: 1 }\n";
        let errors = parse(text, "p.yaml").map_or_else(|e| e.errors, |_| Vec::new());
        let places: Vec<_> = errors.iter().filter_map(|p| p.place).map(|p| (p.line, p.column)).collect();
        assert_eq!(places, [(2, 13), (2, 34), (3, 9)]);
    }

    #[test]
    fn what_is_no_unknown_key_still_comes_alone() {
        assert_eq!(paths("version: 1.0\nlisten: []\nfoo: 1\n"), ["version"]);
    }
}
