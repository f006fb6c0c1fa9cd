//! "Did you mean", and words of the language that this version does not speak yet.

/// The nearest of the known words, when it is near.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Distances of long words cost their product; nobody mistypes a key of a hundred characters.
    if word.len() > 100 {
        return None;
    }
    let lower = word.to_lowercase().replace('-', "_");
    let distance = |k: &str| strsim::osa_distance(&lower, &k.to_lowercase().replace('-', "_"));
    let near = |(k, d): &(&str, usize)| *d <= (k.chars().count().max(lower.chars().count()) / 3).max(1);
    known.into_iter().map(|k| (k, distance(k))).filter(near).min_by_key(|(_, d)| *d).map(|(k, _)| k)
}

/// `did you mean …?`, else what is known.
pub(crate) fn did_you_mean(word: &str, known: &[&str], many: &str) -> String {
    match (nearest(word, known.iter().copied()), known) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, []) => String::new(),
        (None, [only]) => format!("write `{only}`"),
        (None, _) => format!("{many}: {}", known.join(", ")),
    }
}

/// Keys that come later: (path above, with `[]` for list items; key; what to write).
const LATER_KEYS: &[(&str, &str, &str)] = &[
    ("state", "valkey", "write `state: { directory: … }`; one gate keeps its own state"),
    ("", "cluster", "one gate stands alone; remove `cluster`"),
];

/// Values that come later: (path of the value, value, what to write).
const LATER_VALUES: &[(&str, &str, &str)] = &[
    ("rooms[].order", "draw", "write `draw_then_fifo`, or `{ draw_every: 10s }`"),
    ("journal.addresses", "raw", "write `hashed`: a journal names nobody"),
];

/// Other spellings that are never right: (key above, word, what to write).
const INSTEAD: &[(&str, &str, &str)] = &[
    ("filters[].bot_gate.runtime", "cuda", "write `runtime: onnxruntime-cuda`"),
    ("filters[].bot_gate.runtime", "gpu", "write `runtime: onnxruntime-cuda`"),
    ("filters[].bot_gate.runtime", "onnxruntime-gpu", "write `runtime: onnxruntime-cuda`"),
    ("rooms[].admission", "mode", "write `admission: measured`, `admission: forecast`, or `admission: { fixed: 120/min }`"),
    ("filters[]", "pass", "passes are checked by `waiting_room`; remove `pass`"),
    ("filters[]", "name", "only `visitor_rate` has a name, inside its settings: `- visitor_rate: { name: … }`"),
    ("filters[]", "shadow", "`shadow: true` goes inside the filter's settings"),
    ("filters[]", "rate_limit", "write `visitor_rate`"),
    ("", "upstreams", "it goes below `shop`"),
    ("", "capacity", "it goes below `shop`"),
    ("", "in_flight", "it goes below `shop`"),
    ("", "health", "it goes below `shop`"),
    ("", "timeouts", "it goes below `shop`"),
    ("rooms[]", "routes", "routes of a room are named in the filter: `- waiting_room: { room: …, routes: […] }`"),
    ("rooms[]", "sales", "a sale names its room: `sales: [ { name: …, room: … } ]`"),
    ("rooms[]", "shadow", "shadow is set in the filter: `- waiting_room: { room: …, shadow: true }`"),
];

/// What to say of a word that is known but not here: (what is wrong, what to write).
pub(crate) fn advice(above: &str, word: &str) -> Option<(String, String)> {
    let general = without_indices(above);
    let find = |table: &[(&str, &str, &'static str)]| table.iter().find(|t| t.0 == general && t.1 == word).map(|t| t.2);
    if let Some(instead) = find(LATER_KEYS) {
        return Some((format!("`{word}` is not in this version"), instead.to_owned()));
    }
    if let Some(instead) = find(LATER_VALUES) {
        let key = general.rsplit('.').next().unwrap_or_default();
        return Some((format!("`{key}: {word}` is not in this version"), instead.to_owned()));
    }
    if let Some(instead) = find(INSTEAD) {
        return Some((format!("`{word}` does not go here"), instead.to_owned()));
    }
    // A bare quantity where a choice is expected.
    let fixed = match general.as_str() {
        "rooms[].admission" => word.parse::<tidegate_filters::Rate>().is_ok(),
        "shop.in_flight.max" => word.parse::<u32>().is_ok(),
        _ => false,
    };
    fixed.then(|| (format!("`{word}` alone is not understood here"), format!("write `{{ fixed: {word} }}`")))
}

fn without_indices(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        inside = match c {
            '[' => true,
            ']' => false,
            _ => inside,
        };
        if !inside || c == '[' {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("roms", ["rooms", "routes"]), Some("rooms"));
        assert_eq!(nearest("per-visitr", ["per_visitor"]), Some("per_visitor"));
        assert_eq!(nearest("umbrella", ["rooms", "routes"]), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), ["rooms"]), None);
    }

    #[test]
    fn later_words_say_so() {
        let (what, instead) = advice("rooms[3].order", "draw").unwrap_or_default();
        assert_eq!(what, "`order: draw` is not in this version");
        assert!(instead.starts_with("write `draw_then_fifo`"), "{instead}");
        for word in ["cuda", "gpu", "onnxruntime-gpu"] {
            let cuda = advice("filters[3].bot_gate.runtime", word).map(|a| a.1);
            assert_eq!(cuda.as_deref(), Some("write `runtime: onnxruntime-cuda`"));
        }
        assert_eq!(advice("", "cluster").map(|a| a.0).as_deref(), Some("`cluster` is not in this version"));
        assert_eq!(advice("shop.in_flight.max", "64").map(|a| a.1).as_deref(), Some("write `{ fixed: 64 }`"));
        assert_eq!(advice("rooms[0]", "seats"), None);
    }
}
