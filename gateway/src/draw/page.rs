//! The page of a draw: what was promised, what came of it, and a place to paste a receipt.

use std::sync::LazyLock;

use serde_json::Value;

use crate::pages::{Page, policy_of};

const PAGE: &str = include_str!("page.html");
static POLICY: LazyLock<String> = LazyLock::new(|| policy_of(PAGE));

/// The page; `draw` is what the JSON says, `proof` an answer to a pasted receipt: whether it holds, and in words.
pub(super) fn page(draw: &Value, proof: Option<(bool, &str)>) -> Page {
    let text = |key: &str| escape(draw[key].as_str().unwrap_or_default());
    let promise = |key: &str| escape(draw["promise"][key].as_str().unwrap_or_default());
    let proof = proof.map_or_else(String::new, |(good, words)| {
        let title = if good { "Your entry is in the list" } else { "This receipt is not proven" };
        format!("<div class=\"note\" role=\"status\"><p><strong>{title}.</strong> {}</p></div>", escape(words))
    });
    let frozen = &draw["frozen"];
    let row = |name: &str, value: &Value| {
        let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("<dt>{name}</dt><dd><code>{}</code></dd>", escape(&plain))
    };
    let mut rows = String::new();
    if frozen.is_object() {
        rows = [
            row("Entries, frozen", &frozen["n"]),
            row("Root of all entries", &frozen["root"]),
            row("By class", &frozen["by_class"]),
            row("Public randomness", if frozen["round"] == 0 { &Value::Null } else { &frozen["beacon_source"] }),
        ]
        .concat();
    }
    let files = match (draw["transcript"].as_str(), draw["entries_file"].as_str()) {
        (Some(t), Some(e)) => format!(
            "<a href=\"{}\">transcript.json</a> and <a href=\"{}\">entries.csv</a> are all it takes: <code>tidegate draw verify transcript.json</code>, or any program written from the published protocol.",
            escape(t),
            escape(e)
        ),
        _ => "The transcript and the list of entries appear here once places are drawn.".to_owned(),
    };
    let html = fill(&[
        ("sale", &text("sale_id")),
        ("state", &words(draw)),
        ("proof", &proof),
        ("commitment", &promise("commitment")),
        ("key", &promise("public_key")),
        ("rules", &promise("rules_json")),
        ("frozen", &rows),
        ("action", &text("proof_url")),
        ("mine", &text("receipt_url")),
        ("files", &files),
    ]);
    Page { html, policy: POLICY.clone(), language: "en".into() }
}

fn words(draw: &Value) -> String {
    let entries = draw["entries"].as_u64().unwrap_or(0);
    let state = match draw["state"].as_str().unwrap_or_default() {
        "open" if draw["full"] == true => {
            format!("The list is full with {entries} entries: who comes now follows the drawn, in the order of arrival.")
        }
        "open" => format!("Entries are open: {entries} so far."),
        "frozen" => format!("The list is closed with {entries} entries; places are drawn when the public randomness is there."),
        "drawn" => format!("Places are drawn: {entries} entries."),
        _ => "Entries are not open yet.".to_owned(),
    };
    let beacon = match draw["operator_could_have_chosen"].as_bool() {
        Some(true) => " There is no public randomness in this draw, so the operator could have chosen its outcome.",
        _ => "",
    };
    let identity = match draw["identity"].as_str() {
        Some("visitor_cookie") => " One entry per browser: this does not stop somebody with many browsers.",
        Some(_) => " One entry per account of the shop.",
        None => "",
    };
    format!("{state}{beacon}{identity}")
}

/// Puts values into `{name}`; values are not looked into again. Braces of the style sheet have no such names.
fn fill(values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(PAGE.len() + 2_048);
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let name = after.split_once('}').and_then(|(name, tail)| Some((values.iter().find(|v| v.0 == name)?.1, tail)));
        match name {
            Some((value, tail)) => {
                out.push_str(value);
                rest = tail;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_cannot_break_out_and_the_page_stands_alone() {
        let draw = json!({
            "sale_id": "<b>{proof}", "state": "open", "entries": 3, "operator_could_have_chosen": true,
            "identity": "visitor_cookie", "proof_url": "/.tidegate/draw/proof?sale=x\"",
            "promise": { "rules_json": "{\"order\":\"fifo\"}</code><script>", "commitment": "c", "public_key": "k" },
            "frozen": null, "transcript": null, "entries_file": null,
        });
        let Page { html: page, policy, .. } = page(&draw, Some((false, "<img src=x>")));
        assert!(policy.contains("style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>"));
        assert!(page.contains("&lt;b&gt;{proof}") && page.contains("could have chosen"));
        assert!(page.len() < 15 << 10 && !page.contains("http://") && !page.contains("https://"));
    }
}
