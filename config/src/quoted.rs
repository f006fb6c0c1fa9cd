//! `shadow: "true"` is text in YAML; the reader takes it for the boolean all the same, and other tools that read the file do
//! not.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    error::Problem,
    place::{Places, Spot},
    schema::schema,
};

/// Booleans in quotes.
pub(crate) fn booleans(places: &Places) -> Vec<Problem> {
    let quoted: Vec<_> = places.texts().filter(|(_, text)| matches!(*text, "true" | "false")).collect();
    if quoted.is_empty() {
        return Vec::new();
    }
    let mut names = BTreeSet::new();
    boolean_keys(&schema(), &mut names);
    let wanted = quoted.into_iter().filter(|(s, _)| s.key.as_ref().is_some_and(|k| names.contains(k)));
    let problem = |(s, text): (&Spot, &str)| {
        let what = format!("`\"{text}\"` is text, not a boolean");
        Problem::new(Some(s.place()), s.path.clone(), &what, &format!("write `{text}` without quotes"))
    };
    wanted.map(problem).collect()
}

/// Every key of the language whose value is a boolean.
fn boolean_keys(schema: &Value, into: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(keys)) = map.get("properties") {
                into.extend(keys.iter().filter(|(_, of)| of["type"] == "boolean").map(|(key, _)| key.clone()));
            }
            map.values().for_each(|v| boolean_keys(v, into));
        }
        Value::Array(list) => list.iter().for_each(|v| boolean_keys(v, into)),
        _ => {}
    }
}
