//! Text → [`Policy`]: strict YAML, and structural errors turned into words. Unknown keys are collected, other errors of
//! structure come one at a time; what comes after (`check`) is collected.

use std::sync::Arc;

use serde_saphyr::{
    Error as Yaml,
    budget::BudgetBreach,
    options::{MergeKeyPolicy, NonFiniteFloatPolicy},
};

use crate::{
    error::{Place, PolicyErrors, Problem},
    place::{Kind, Places, Spot, join, parent, place_of},
    policy::{Policy, VERSION},
    quoted, unknown,
    words::{advice, did_you_mean},
};

/// Largest policy file, bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Deepest nesting.
const DEPTH_MAX: usize = 24;
/// Most values and keys.
const NODES_MAX: usize = 20_000;

/// How strictly YAML is read.
pub(crate) fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_aliases: 0,
            max_anchors: 0,
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
        },
        strict_booleans: true,
        with_snippet: false,
        merge_keys: MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
    }
}

/// The typed policy and where its keys stand; not yet checked.
pub(crate) fn read(text: &Arc<str>, file: &str) -> Result<(Policy, Places), PolicyErrors> {
    let fail = |problem| PolicyErrors { file: file.into(), errors: vec![problem], warnings: vec![], text: text.clone() };
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(fail(Problem::new(
            None,
            "",
            "the file is larger than 1 MiB",
            "a policy is a few kilobytes; is this the right file?",
        )));
    }
    let places = Places::read(text, options()).map_err(|e| fail(syntax(&e, text)))?;
    if let Some(problem) = other_version(&places) {
        return Err(fail(problem));
    }
    match serde_saphyr::from_str_with_options::<Policy>(text, options()) {
        Ok(policy) => match quoted::booleans(&places) {
            errors if errors.is_empty() => Ok((policy, places)),
            errors => Err(PolicyErrors { errors, file: file.into(), warnings: vec![], text: text.clone() }),
        },
        Err(e) => {
            Err(PolicyErrors { errors: unknown::all(e, places, text), file: file.into(), warnings: vec![], text: text.clone() })
        }
    }
}

/// Another version may have other keys: say so before complaining about them.
fn other_version(places: &Places) -> Option<Problem> {
    let spot = places.get("version")?;
    match &spot.kind {
        Kind::Leaf(v) if v == &VERSION.to_string() => None,
        Kind::Leaf(v) if !v.is_empty() => {
            let what = format!("version {v} of the policy language is not known to this gate");
            Some(Problem::new(Some(spot.place()), "version", &what, &format!("write `version: {VERSION}`")))
        }
        _ => None,
    }
}

/// The file is not the YAML we read.
fn syntax(error: &Yaml, text: &str) -> Problem {
    let error = error.without_snippet();
    let place = inside(place_of(error), text);
    let (what, instead) = match error {
        Yaml::Eof { .. } => return empty_file(place),
        Yaml::Budget { breach, .. } => budget(breach),
        Yaml::UnknownAnchor { .. } => anchors(),
        Yaml::MultipleDocuments { .. } => {
            ("a second document begins here".into(), "a policy is one document; remove `---`".into())
        }
        Yaml::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("key");
            (format!("`{key}` is written twice in the same map"), "keep one of them".to_owned())
        }
        Yaml::MergeKeyNotAllowed { .. } => ("merge keys (`<<`) are not read".into(), "write the values out".into()),
        Yaml::UnsupportedTag { tag, .. } => (format!("the tag `{tag}` is not read"), "remove it".to_owned()),
        Yaml::Unexpected { .. } => ("a key must be plain text".into(), "write `key: value`".into()),
        other => (format!("not YAML: {}", plain(other)), yaml_hint(other, place, text)),
    };
    Problem::new(place, "", &what, &instead)
}

fn empty_file(place: Option<Place>) -> Problem {
    Problem::new(place, "", "the policy is empty", "the shortest one has `version`, `listen` and `shop`")
}

fn budget(breach: &BudgetBreach) -> (String, String) {
    match breach {
        BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } => anchors(),
        BudgetBreach::Depth { .. } => {
            (format!("nested deeper than {DEPTH_MAX} levels"), "no key of a policy is that deep".into())
        }
        BudgetBreach::Nodes { .. } => (format!("more than {NODES_MAX} values"), "use fewer, larger networks and routes".into()),
        _ => ("too large to be a policy".into(), "is this the right file?".into()),
    }
}

fn anchors() -> (String, String) {
    (
        "anchors (`&name`) and aliases (`*name`) are not read".into(),
        "write the value out; quote text that begins with `&` or `*`".into(),
    )
}

fn yaml_hint(error: &Yaml, place: Option<Place>, text: &str) -> String {
    let line = place.and_then(|p| text.lines().nth(p.line - 1)).unwrap_or_default();
    let message = plain(error);
    let hint = if line.starts_with('\t') || message.contains("tab") {
        "indent with spaces, never with tabs"
    } else if message.contains("mapping values") || line.matches(": ").count() > 1 {
        "a map inside a line needs braces: `key: { inner: value }`"
    } else if message.contains("placement of ':'") {
        "a `[`, `{` or quote above may still be open"
    } else if message.contains("quote") {
        "close the quote"
    } else if message.contains("bracket") || message.contains("flow") {
        "each `[` needs its `]`, each `{` its `}`, with commas between"
    } else {
        "check the indentation: keys of one map begin in the same column"
    };
    hint.to_owned()
}

fn plain(error: &Yaml) -> String {
    let text = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    text.rfind(" at line ").map_or(text.clone(), |end| text[..end].to_owned())
}

/// Readers report "one behind the end"; an operator looks for a line that exists.
fn inside(place: Option<Place>, text: &str) -> Option<Place> {
    let place = place?;
    let lines = text.lines().count().max(1);
    if place.line > lines {
        let last = text.lines().last().unwrap_or_default().chars().count();
        return Some(Place { line: lines, column: last + 1 });
    }
    let width = text.lines().nth(place.line - 1).unwrap_or_default().chars().count();
    Some(Place { line: place.line, column: place.column.min(width + 1) })
}

/// The YAML is fine, the policy is not.
pub(crate) fn structure(error: &Yaml, places: &Places, text: &str) -> Problem {
    let error = error.without_snippet();
    let place = place_of(error);
    let value = place.and_then(|p| places.value_at(p));
    let path = value.map(|s| s.path.as_str()).unwrap_or_default();
    let at = inside(value.map(Spot::place).or(place), text);
    match error {
        Yaml::SerdeUnknownField { field, expected, .. } => unknown_key(field, expected, place, places),
        Yaml::SerdeUnknownVariant { variant, expected, .. } => unknown_choice(variant, expected, place, places),
        Yaml::SerdeMissingField { field, .. } => {
            // The reader names the last key of the map that lacks one, or the map itself when it is empty.
            let last = place.and_then(|p| places.key_at(p)).and_then(|s| places.get(parent(&s.path)?));
            let map = last.or_else(|| place.and_then(|p| places.map_at(p)));
            let path = map.map(|s| s.path.as_str()).unwrap_or_default();
            let at = inside(map.map(Spot::place).or(place), text);
            Problem::new(at, join(path, field), &format!("`{field}` is missing"), &missing(field))
        }
        Yaml::Message { .. } if place.is_some_and(|p| places.key_at(p).is_some()) && leaf(value).is_empty() => {
            wrong_shape("", place, places, text)
        }
        Yaml::Message { msg, .. } => {
            let (what, instead) = msg.split_once("; ").unwrap_or((msg, ""));
            Problem::new(at, path, what, instead)
        }
        Yaml::Unexpected { expected, .. } => wrong_shape(expected, place, places, text),
        Yaml::InvalidScalar { ty, .. } => {
            let (what, instead) = wrong_scalar(ty, value);
            Problem::new(at, path, &what, &instead)
        }
        Yaml::InvalidBooleanStrict { .. } => {
            Problem::new(at, path, &format!("`{}` is neither true nor false", leaf(value)), "write `true` or `false`")
        }
        Yaml::NullIntoString { .. } => Problem::new(at, path, "the value is missing", "write it, or remove the key"),
        Yaml::ExpectedMappingEndAfterEnumVariantValue { .. } => {
            let key = place.and_then(|p| places.key_at(p));
            let path = key.map(|s| s.path.as_str()).unwrap_or_default();
            let above = parent(path).unwrap_or_default();
            let known = key.and_then(|s| advice(above, s.key.as_deref()?));
            let (what, instead) = known.unwrap_or_else(|| {
                let instead = match above.starts_with("filters[") {
                    true => "each filter is an item of its own: begin a new line with `- `",
                    false => "keep one of the two keys",
                };
                ("only one key can stand here".into(), instead.into())
            });
            Problem::new(inside(place, text), path, &what, &instead)
        }
        Yaml::ExpectedStringKeyForExternallyTaggedEnum { .. } => {
            let empty = place.and_then(|p| places.last_until(p));
            let path = empty.map(|s| s.path.as_str()).unwrap_or_default();
            Problem::new(
                inside(empty.map(Spot::place).or(place), text),
                path,
                "the choice is missing",
                "write one, or remove the key",
            )
        }
        Yaml::ExternallyTaggedEnumExpectedScalarOrMapping { .. } => {
            Problem::new(at, path, "one word, or a map with one key, is expected here", "write it without `[ ]`")
        }
        Yaml::Eof { .. } => empty_file(inside(place, text)),
        other => Problem::new(at, path, &plain(other), ""),
    }
}

fn leaf(spot: Option<&Spot>) -> &str {
    match spot.map(|s| &s.kind) {
        Some(Kind::Leaf(text)) => text,
        _ => "",
    }
}

fn missing(field: &str) -> String {
    match field {
        "listen" => "write `listen: [ { address: 127.0.0.1:8080 } ]`".into(),
        "shop" => "write `shop: { upstreams: [ { address: 127.0.0.1:3000 } ] }`".into(),
        "version" => format!("write `version: {VERSION}`"),
        "when_unscored" => "say what an unscored visit gets: `when_unscored: admit`, `wait` or `challenge`".into(),
        _ => format!("add `{field}: …` here"),
    }
}

fn unknown_key(field: &str, expected: &[&'static str], place: Option<Place>, places: &Places) -> Problem {
    let path = place.and_then(|p| places.key_at(p)).map_or_else(|| field.to_owned(), |s| s.path.clone());
    let above = parent(&path).unwrap_or_default();
    if let Some((what, instead)) = advice(above, field) {
        return Problem::new(place, path.clone(), &what, &instead);
    }
    let instead = did_you_mean(field, expected, "keys here are");
    Problem::new(place, path.clone(), &format!("`{field}` is not a key here"), &instead)
}

fn unknown_choice(word: &str, expected: &[&'static str], place: Option<Place>, places: &Places) -> Problem {
    // A choice is a scalar, or the one key of a map.
    let key = place.and_then(|p| places.key_at(p)).filter(|s| s.key.as_deref() == Some(word));
    let path = match key {
        Some(key) => parent(&key.path).unwrap_or_default().to_owned(),
        None => place.and_then(|p| places.value_at(p)).map(|s| s.path.clone()).unwrap_or_default(),
    };
    if let Some((what, instead)) = advice(&path, word) {
        return Problem::new(place, path, &what, &instead);
    }
    let (what, many) = if path.starts_with("filters[") && !path.contains('.') {
        (format!("`{word}` is not a filter"), "filters are")
    } else {
        (format!("`{word}` is not understood here"), "write one of")
    };
    Problem::new(place, path, &what, &did_you_mean(word, expected, many))
}

/// A list, map or scalar stands where something else must.
fn wrong_shape(expected: &str, place: Option<Place>, places: &Places, text: &str) -> Problem {
    let at_value = place.and_then(|p| places.value_at(p));
    let found = |s: &Spot| match &s.kind {
        Kind::Map => "a map",
        Kind::Seq => "a list",
        Kind::Leaf(t) if t.is_empty() => "nothing",
        Kind::Leaf(_) => "plain text",
    };
    let wanted = match expected {
        "mapping start" => "a map",
        "sequence start" => "a list",
        e if e.contains("scalar") => "plain text",
        _ => "one of its choices",
    };
    // A choice that needs a value and has none is noticed only at what follows it.
    let choice = place.map(|p| places.leaf_before(p)).filter(|_| at_value.is_none_or(|s| found(s) == wanted)).flatten();
    if let Some(spot) = choice {
        let word = leaf(Some(spot));
        let instead = match word {
            "fixed" => "write `{ fixed: … }` with a number or a rate".to_owned(),
            word => format!("write `{word}: {{ … }}`"),
        };
        return Problem::new(inside(Some(spot.place()), text), spot.path.clone(), &format!("`{word}` needs a value"), &instead);
    }
    let Some(spot) = at_value else {
        return Problem::new(inside(place, text), "", &format!("{wanted} is expected here"), "");
    };
    let instead = match (wanted, &spot.kind) {
        (_, Kind::Leaf(t)) if t.is_empty() => "write it, or remove the key".to_owned(),
        ("a list", Kind::Leaf(t)) => format!("write `[ {t} ]`"),
        ("a list", Kind::Map) => "begin each item with `- `".to_owned(),
        ("a map", _) if spot.path.starts_with("filters[") => format!("write `{}: {{ … }}`", leaf(Some(spot))),
        ("a map", _) => "write `{ key: value }`, or the keys on lines of their own, indented".to_owned(),
        _ => String::new(),
    };
    let what = format!("{wanted} is expected here, not {}", found(spot));
    Problem::new(inside(Some(spot.place()), text), spot.path.clone(), &what, &instead)
}

fn wrong_scalar(ty: &str, value: Option<&Spot>) -> (String, String) {
    let max = match ty {
        "u8" => u64::from(u8::MAX),
        "u16" => u64::from(u16::MAX),
        "u32" => u64::from(u32::MAX),
        "u64" => u64::MAX,
        _ => return (format!("`{}` is not a number", leaf(value)), "write a number, such as 0.85".into()),
    };
    let text = leaf(value);
    let what = match (text.parse::<i128>(), text) {
        (Ok(n), _) if n < 0 => format!("`{text}` is negative"),
        (Ok(_), _) => format!("`{text}` is too large"),
        (Err(_), "") => "a number is missing".to_owned(),
        (Err(_), _) => format!("`{text}` is not a whole number"),
    };
    (what, format!("write a whole number from 0 to {max}, without a unit"))
}
