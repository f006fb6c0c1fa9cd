//! What a draw by hand refuses to promise or to freeze: a promise that nobody can draw by, and a list that breaks it, cannot be
//! taken back.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;
use tidegate_config::{NAME_MAX, WINDOW_MS, is_name};
use tidegate_filters::{
    Span,
    seats::draw::{
        entry::Entry,
        verify::{strange_weight, table},
        weights::WEIGHT_MAX,
    },
};

use super::super::{Failure, fail};

/// As many characters of a wrong value are shown.
const SHOWN_MAX: usize = 60;

/// Whether a sale may be called so: names are those of the policy, and stand in file names.
pub(super) fn sale_name(name: &str) -> Result<(), String> {
    match is_name(name) {
        true => Ok(()),
        false => Err(format!("`{name}` is not a name; write letters, digits, `-` and `_`, 1 to {NAME_MAX} of them")),
    }
}

/// Whether somebody can draw by rules, as they are after they were made canonical. Keys besides these are the operator's own.
pub(super) fn can_be_drawn_by(rules: &Value) -> Result<(), String> {
    if !rules.is_object() {
        return Err(r#"rules are a JSON object; write {"order":"draw_then_fifo","weights":{"human":16}} or more"#.into());
    }
    order(rules.get("order"))?;
    weights(rules.get("weights"))
}

fn order(order: Option<&Value>) -> Result<(), String> {
    let is_window = |span: &str| span.parse::<Span>().is_ok_and(|s| WINDOW_MS.contains(&s.ms()));
    let is_known = |o: &str| matches!(o, "draw_then_fifo" | "fifo") || o.strip_prefix("draw_every ").is_some_and(is_window);
    if order.and_then(Value::as_str).is_some_and(is_known) {
        return Ok(());
    }
    Err(format!(r#"`order` {}; write "draw_then_fifo", "fifo" or "draw_every 10s" (1s to 1h)"#, shown(order)))
}

fn weights(weights: Option<&Value>) -> Result<(), String> {
    let Some(classes) = weights.and_then(Value::as_object) else {
        let instead = format!(r#"write the balls of each class, 0 to {WEIGHT_MAX}, such as {{"human":16,"unsure":8}}"#);
        return Err(format!("`weights` {}; {instead}", shown(weights)));
    };
    let is_wrong = |weight: &Value| weight.as_u64().is_none_or(|w| w > u64::from(WEIGHT_MAX));
    if let Some((class, weight)) = classes.iter().find(|(_, w)| is_wrong(w)) {
        return Err(format!("`weights.{class}` {}; write a whole number from 0 to {WEIGHT_MAX}", shown(Some(weight))));
    }
    if classes.values().all(|w| w.as_u64() == Some(0)) {
        return Err("`weights` has none above 0: nobody would have a ball in the drum; write 16 for people".into());
    }
    Ok(())
}

/// What stands there, after the key that it stands at.
fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "is missing".into() };
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("is {}…", &text[..end]),
        None => format!("is {text}"),
    }
}

/// Refuses a list that `draw verify` would call wrong for a weight; by the very rule that it calls it so.
pub(super) fn refuse_strange_weights(file: &Path, list: &[Entry], rules_json: &str) -> Result<(), Failure> {
    let Some((index, weight)) = strange_weight(rules_json, list) else { return Ok(()) };
    let weights = table(rules_json).unwrap_or_default();
    let known: BTreeSet<u64> = weights.into_iter().filter(|w| *w <= u64::from(WEIGHT_MAX)).collect();
    let known: Vec<String> = known.iter().rev().map(ToString::to_string).collect();
    let instead = match (&known[..], weight) {
        ([], _) => format!("the rules have none from 0 to {WEIGHT_MAX}, so promise anew with `draw commit`"),
        (_, 0) => format!("write one of {}; only a void entry (entry_id of zeros) weighs 0", known.join(", ")),
        _ => format!("write one of {}", known.join(", ")),
    };
    // The file is strict: after the header every line is one entry.
    let line = index + 2;
    let what = format!(
        "{}: line {line}: entry {index}: weight {weight} is not in the rules' table, `draw verify` would call the draw wrong; {instead}",
        file.display()
    );
    Err(fail(Failure::Check, &what))
}
