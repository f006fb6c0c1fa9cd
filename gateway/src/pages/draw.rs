//! The page of a draw, what was promised, what came of it, a place to paste a receipt; and the words of draws.

use std::sync::LazyLock;

use minijinja::{Value, context};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tidegate_filters::seats::draw::verify::Inclusion;

use super::{
    Language, Page, RoomPage, STYLE,
    language::{Said, put},
    styled,
    template::{Template, TemplateError},
};
use crate::standing::CalledOff;

const PAGE: &str = include_str!("draw.html");
static TEMPLATE: LazyLock<Result<Template, TemplateError>> = LazyLock::new(|| Template::new(PAGE, &[STYLE]));

/// What waiting pages and the page of a draw say about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Drawing {
    pub knock: Said,
    pub entered: Said,
    pub frozen: Said,
    pub late: Said,
    pub work: Said,
    /// Whom the shop's login does not name.
    pub unnamed: Said,
    pub entry: String,
    pub receipt: String,
    /// To who sees what styles hide: this browser loads none.
    pub unrendered: String,
    pub page: DrawPage,
}

macro_rules! texts {
    ($(#[$doc:meta])* $name:ident { $($field:ident),* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(missing_docs)]
        pub struct $name { $(pub $field: String),* }
    };
}

texts!(/// The page of a draw.
    DrawPage { title, good, bad, promised, key, rules, entries, root, classes, randomness, none, check, paste, mine, go,
        yourself, files, later, not_open, open, full, frozen, late, drawn, chosen, by_browser,
        by_account, quotas, no_quotas, proven, proven_no_place,
        no_receipt, not_signed, other_sale, not_frozen, not_listed });

/// Why a receipt is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotProven {
    /// It is none.
    NoReceipt,
    /// Another gate's, another promise's, or changed.
    NotSigned,
    /// Of another sale or window.
    OtherSale,
    /// Good, but too early.
    NotFrozen,
    /// Signed, and not in the list: the gate is caught.
    NotListed,
}

/// What came of a pasted receipt.
pub type Checked = Result<Inclusion, NotProven>;

impl NotProven {
    fn words(self, words: &DrawPage) -> &str {
        match self {
            NotProven::NoReceipt => &words.no_receipt,
            NotProven::NotSigned => &words.not_signed,
            NotProven::OtherSale => &words.other_sale,
            NotProven::NotFrozen => &words.not_frozen,
            NotProven::NotListed => &words.not_listed,
        }
    }

    /// For programs.
    pub fn in_english(self) -> &'static str {
        Language::all_builtin().first().map_or("not proven", |l| self.words(&l.words.draw.page))
    }
}

/// The page, in the languages of its room; `draw` is what the JSON says.
pub fn draw(page: &RoomPage, accept: &str, draw: &Json, checked: Option<&Checked>) -> Option<Page> {
    let (language, _) = page.language(accept)?;
    let template = TEMPLATE.as_ref().ok()?;
    let html = template.render(values(language, draw, checked)).ok()?;
    Some(Page { html, policy: template.policy().to_owned(), language: language.tag.clone() })
}

fn values(language: &Language, draw: &Json, checked: Option<&Checked>) -> Value {
    let words = &language.words.draw.page;
    let text = |key: &str| draw[key].as_str().unwrap_or_default();
    let checked = checked.map(|c| match c {
        Ok(proof) => context! { title => words.good, text => proven(language, proof) },
        Err(why) => context! { title => words.bad, text => why.words(words) },
    });
    context! {
        lang => language.tag,
        dir => language.words.dir.name(),
        t => Value::from_serialize(words),
        title => put(&words.title, "sale", text("sale_id")),
        style => styled(),
        checked,
        state => state(language, draw),
        facts => facts(words, draw),
        urls => context! {
            proof => text("proof_url"), protocol => text("protocol_url"), receipt => text("receipt_url"), transcript => text("transcript"), entries => text("entries_file"),
        },
    }
}

fn proven(language: &Language, proof: &Inclusion) -> String {
    let words = &language.words.draw.page;
    let number = |n: u64| language.number(n);
    let said = match proof.place {
        Some(place) => put(&words.proven, "place", &number(u64::from(place) + 1)),
        None => words.proven_no_place.clone(),
    };
    let values = [
        ("index", number(proof.index)),
        ("weight", proof.weight.to_string()),
        ("n", number(proof.n)),
        ("hashes", proof.path.len().to_string()),
    ];
    values.iter().fold(said, |said, (name, value)| put(&said, name, value))
}

/// How far it has come, and what it does not prevent.
fn state(language: &Language, draw: &Json) -> Vec<String> {
    let words = &language.words.draw.page;
    let pattern = match draw["state"].as_str().unwrap_or_default() {
        "cancelled" => None,
        "open" if draw["full"] == true => Some(&words.full),
        "open" => Some(&words.open),
        // Nobody waits to be let in to a sale that was called off.
        "frozen" if draw["late"] == true && draw["cancelled"].is_null() => Some(&words.late),
        "frozen" => Some(&words.frozen),
        "drawn" => Some(&words.drawn),
        _ => Some(&words.not_open),
    };
    let mut lines = called_off(language, draw);
    lines.extend(pattern.map(|p| put(p, "n", &language.number(draw["entries"].as_u64().unwrap_or(0)))));
    if draw["operator_could_have_chosen"] == true {
        lines.push(words.chosen.clone());
    }
    match draw["identity"].as_str() {
        Some("visitor_cookie") => lines.push(words.by_browser.clone()),
        Some(_) => lines.push(words.by_account.clone()),
        None => {}
    }
    if draw["identity"].is_string() {
        lines.push(if draw["quotas"] == true { &words.quotas } else { &words.no_quotas }.clone());
    }
    // Signed changes are in the language of whoever made them.
    let amendments = draw["amendments"].as_array().into_iter().flatten();
    lines.extend(amendments.filter_map(|a| a["text"].as_str().map(str::to_owned)));
    lines
}

/// First of all: that it does not take place.
fn called_off(language: &Language, draw: &Json) -> Vec<String> {
    let Ok(off) = CalledOff::deserialize(&draw["cancelled"]) else { return Vec::new() };
    let Said { title, text } = language.does_not_take_place(&off.sale);
    let mut lines = vec![format!("{title}."), text];
    lines.extend(language.called_off(&off));
    lines
}

fn facts(words: &DrawPage, draw: &Json) -> Vec<Value> {
    let fact = |name: &str, value: &Json| {
        let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        context! { name, value => plain }
    };
    let promise = &draw["promise"];
    let mut facts = vec![
        fact(&words.promised, &promise["commitment"]),
        fact(&words.key, &promise["public_key"]),
        fact(&words.rules, &promise["rules_json"]),
    ];
    let frozen = &draw["frozen"];
    if frozen.is_object() {
        let source = if frozen["round"] == 0 { Json::from(words.none.as_str()) } else { frozen["beacon_source"].clone() };
        facts.extend([
            fact(&words.entries, &frozen["n"]),
            fact(&words.root, &frozen["root"]),
            fact(&words.classes, &frozen["by_class"]),
            fact(&words.randomness, &source),
        ]);
    }
    facts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use tidegate_filters::seats::page::PageSettings;

    use super::*;
    use crate::pages::PAGE_BYTES_MAX;

    fn shown(state: &str) -> Json {
        json!({
            "sale_id": "<b>{proof}", "state": state, "entries": 1_234, "operator_could_have_chosen": true,
            "identity": "visitor_cookie", "proof_url": "/.tidegate/draw/proof?sale=x\"", "receipt_url": "/.tidegate/receipt",
            "promise": { "rules_json": "{\"order\":\"fifo\"}</code><script>", "commitment": "c", "public_key": "k" },
            "frozen": { "n": 1_234, "root": "ab", "by_class": { "human": 9 }, "round": 0, "beacon_source": "" },
            "protocol_url": "/.tidegate/draw/protocol.md", "transcript": "/.tidegate/draw/transcript.json", "entries_file": "/.tidegate/draw/entries.csv",
            "amendments": [{ "text": "opens <later>" }], "quotas": state == "open", "late": state == "late",
            "cancelled": (state == "cancelled").then(|| json!({
                "sale": "<b>{proof}", "reason": "the roof <b>leaks", "message": "we are {sorry}", "means": "", "leave_url": "",
                "again": { "sale": "boots", "prequeue_opens_at": "2026-12-02T09:30:00+08:00", "opens_at": "?" },
            })),
        })
    }

    fn inclusion(place: Option<u32>) -> Inclusion {
        Inclusion {
            sale_id: "s".into(),
            index: 7,
            entry_id: String::new(),
            weight: 16,
            place,
            n: 1_234,
            root: String::new(),
            leaf: String::new(),
            path: vec![String::new(); 3],
        }
    }

    #[test]
    fn every_language_says_every_state_and_values_cannot_break_out() {
        let page = RoomPage::load(&PageSettings::default()).unwrap();
        let faults =
            [NotProven::NoReceipt, NotProven::NotSigned, NotProven::OtherSale, NotProven::NotFrozen, NotProven::NotListed];
        let answers = [Ok(inclusion(Some(4))), Ok(inclusion(None))].into_iter().chain(faults.map(Err)).map(Some).chain([None]);
        for checked in answers {
            for language in Language::all_builtin() {
                for state in ["promised", "open", "frozen", "drawn", "cancelled"] {
                    let Page { html, policy, language: said } =
                        draw(&page, &language.tag, &shown(state), checked.as_ref()).unwrap();
                    assert_eq!(said, language.tag);
                    assert!(policy.contains("style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
                    assert!(!html.contains("<script") && !html.contains("<b>") && !html.contains("<later>"), "{html}");
                    assert!(html.contains("&lt;b&gt;{proof}"), "{html}");
                    let left = ["{n}", "{index}", "{weight}", "{place}", "{hashes}", "{sale}", "{{"];
                    assert!(left.iter().all(|name| !html.contains(name)), "{} {state}: {html}", language.tag);
                    assert!(html.len() < PAGE_BYTES_MAX && !html.contains("http://") && !html.contains("https://"));
                }
            }
        }
    }

    #[test]
    fn what_it_says() {
        let page = RoomPage::load(&PageSettings::default()).unwrap();
        let said = |checked: Option<Checked>| draw(&page, "en", &shown("open"), checked.as_ref()).unwrap().html;
        assert!(said(None).contains("could have chosen") && said(None).contains("1,234 so far"));
        let page_of = |shown: &Json| draw(&page, "en", shown, None).unwrap().html;
        let off = page_of(&shown("cancelled"));
        assert!(off.contains("does not take place") && off.contains("the roof &lt;b&gt;leaks") && off.contains("we are {sorry}"));
        assert!(off.contains("nothing is owed") && !off.contains("not open yet"), "{off}");
        let mut late = shown("frozen");
        assert!(!page_of(&late).contains("is late"));
        late["late"] = true.into();
        assert!(page_of(&late).contains("is late"));
        late["cancelled"] = shown("cancelled")["cancelled"].clone();
        let (off, words) = (page_of(&late), "nobody is let in");
        assert!(off.contains("does not take place") && off.contains("boots") && !off.contains(words), "{off}");
        assert!(page_of(&shown("open")).contains("not impossible") && page_of(&shown("frozen")).contains("No quota is set"));
        let proven = said(Some(Ok(inclusion(Some(4)))));
        assert!(proven.contains("Your entry is in the list") && proven.contains("place 5 of 1,234"), "{proven}");
        assert!(said(Some(Err(NotProven::NotListed))).contains("it proves that"));
    }
}
