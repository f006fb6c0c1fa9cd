#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use super::*;
use crate::standing::{Again, CalledOff};
use tidegate_filters::Reason;

fn settings(languages: &[&str], translations: Option<&Path>, template: Option<&Path>) -> PageSettings {
    PageSettings {
        languages: languages.iter().map(|l| (*l).to_owned()).collect(),
        translations: translations.map(|d| d.display().to_string()),
        template: template.map_or(BUILTIN.to_owned(), |f| f.display().to_string()),
    }
}

fn asked(to: &str, bits: u8) -> Asked<'_> {
    let work = Work { challenge: [7; 16], bits };
    Asked { url: "/.tidegate/challenge", to, proof: "1207070707070707070707070707070707", work, work_s: 20 }
}

fn every_page() -> Vec<(&'static str, Page)> {
    let shipped = RoomPage::load(&PageSettings::default()).unwrap();
    let mut pages = waiting::sample_pages(&shipped);
    assert_eq!(pages.len(), 14 * Language::all_builtin().len(), "one does not render");
    for language in Language::all_builtin() {
        let off = CalledOff {
            sale: "s".repeat(64),
            reason: "<reason>".into(),
            message: Some("We are <sorry>".into()),
            means: String::new(),
            again: Some(Again {
                sale: "b".repeat(64),
                prequeue_opens_at: "2026-12-02T09:30:00+08:00[Asia/Shanghai]".into(),
                opens_at: "2026-12-02T10:00:00+08:00".into(),
            }),
            leave_url: "/.tidegate/leave".into(),
        };
        let page = cancelled(&language.tag, &off, "drop", "CODE");
        assert!(page.html.contains("&lt;reason>") || page.html.contains("&lt;reason&gt;"), "{}", page.html);
        assert!(page.html.contains("&lt;sorry") && page.html.contains("action=\"/.tidegate/leave\""), "{}", page.html);
        assert!(page.html.contains("2026-12-02 09:30 Asia/Shanghai (+08:00)"), "{}", page.html);
        pages.push(("cancelled", page));
        for (name, bits) in [("challenge", 0), ("challenge with work", 18)] {
            pages.push((name, challenge(&language.tag, &asked("/x", bits), "CODE 7K3M-2PQ7-XW0A")));
        }
        pages.push(("detour", detour(&language.tag)));
        for refusal in [
            Refusal::ShopSlow,
            Refusal::OrderUnknown,
            Refusal::StaleChallenge,
            Refusal::Of(Reason::ShopBusy),
            Refusal::Of(Reason::Own),
        ] {
            pages.push(("message", message(&language.tag, refusal, "CODE")));
        }
    }
    pages
}

#[test]
fn every_page_of_every_language_is_small_whole_and_asks_nobody_else() {
    for (what, page) in every_page() {
        let html = &page.html;
        assert!(html.len() <= PAGE_BYTES_MAX, "{what} {}: {} bytes", page.language, html.len());
        let dir = if page.language == "ar" { "rtl" } else { "ltr" };
        assert!(html.contains(&format!("<html lang=\"{}\" dir=\"{dir}\">", page.language)), "{what} {}", page.language);
        assert!(html.contains("<h1") && !html.contains("{{") && !html.contains("{%"), "{what} {}", page.language);
        for third_party in ["http://", "https://", "src=", "url(", "@import"] {
            assert!(!html.contains(third_party), "{what} {}: {third_party}", page.language);
        }
        assert!(!page.policy.contains("unsafe") && page.policy.contains("default-src 'none'"));
    }
}

#[test]
fn values_cannot_break_out() {
    for bits in [0, 18] {
        let page = challenge("en", &asked("/x?\"><img src=x>", bits), "CODE").html;
        assert!(page.contains("value=\"/x?&quot;&gt;&lt;img src=x&gt;\"") && !page.contains("<img"), "{page}");
    }
    // The samples carry quotes, brackets and ampersands in path and message.
    let shipped = RoomPage::load(&PageSettings::default()).unwrap();
    for (what, page) in waiting::sample_pages(&shipped) {
        assert!(!page.html.contains("'<&") && !page.html.contains("<putting>"), "{what}");
    }
}

#[test]
fn languages_are_those_of_the_policy_and_files_of_the_operator_come_first() {
    let dir = tempfile::tempdir().unwrap();
    let english = Language::source("en").unwrap();
    fs::write(dir.path().join("pt.json"), english.replace("You are in line", "Está na fila")).unwrap();
    fs::write(dir.path().join("de.json"), english.replace("You are in line", "Anstehen")).unwrap();
    fs::write(dir.path().join("README"), "not a language").unwrap();
    let page = RoomPage::load(&settings(&["pt", "de"], Some(dir.path()), None)).unwrap();
    let title = |accept: &str| page.language(accept).unwrap().0.words.stages.waiting.title.clone();
    assert_eq!((title("de"), title("pt-BR"), title("fr")), ("Anstehen".into(), "Está na fila".into(), "Está na fila".into()));
    let all = RoomPage::load(&settings(&[], Some(dir.path()), None)).unwrap();
    assert_eq!(all.languages.len(), Language::all_builtin().len() + 1);
    assert_eq!(all.languages[0].tag, "en");
    let unknown = check(&settings(&["xx"], None, None)).unwrap_err().to_string();
    assert!(unknown.contains("no language `xx`") && unknown.contains("de, "), "{unknown}");
    fs::write(dir.path().join("sv.json"), "{").unwrap();
    assert!(check(&settings(&[], Some(dir.path()), None)).unwrap_err().to_string().contains("sv.json"));
}

#[test]
fn a_template_is_checked_in_every_stage_before_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.html");
    let tried = |source: &str| {
        fs::write(&file, source).unwrap();
        check(&settings(&[], None, Some(&file))).map_err(|e| e.to_string())
    };
    assert_eq!(tried(WAITING), Ok(()));
    let form = "{% if claimable %}<form action=\"{{ urls.claim }}\">{{ fields }}<button>in</button></form>{% endif %}";
    assert_eq!(tried(&format!("<h1>{{{{ title }}}}</h1>{{{{ head }}}}{{{{ script }}}}{form}")), Ok(()));
    assert!(tried("<h1>{{ title }}</h1>").unwrap_err().contains("nobody could take a turn"));
    // Only one stage reaches it.
    let typo = tried("{% if state == 'paused' %}\n{{ palce }}{% endif %}").unwrap_err();
    assert!(typo.contains("own.html: line 2: undefined"), "{typo}");
    let script = tried("<script>go('{{ message }}')</script>").unwrap_err();
    assert!(script.contains("line 1") && script.contains("data attributes"), "{script}");
    assert!(tried("{% if %}").unwrap_err().contains("line 1"));
    assert!(tried(&" ".repeat(70_000)).unwrap_err().contains("at most"));
    fs::remove_file(&file).unwrap();
    assert!(check(&settings(&[], None, Some(&file))).unwrap_err().to_string().contains("template: builtin"));
}
