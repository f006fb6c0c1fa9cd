//! The gate's own pages: small, without any third party, readable without JavaScript and by a screen reader.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use minijinja::{Value, context};
use serde_json::json;
use thiserror::Error;
use tidegate_config::Policy;
use tidegate_filters::seats::{
    draw::{digest::hex, work::Work},
    page::{BUILTIN, PageSettings},
};

mod called_off;
mod draw;
mod guard;
mod language;
mod template;
mod waiting;

pub use called_off::{called_off_in_english, cancelled};
pub use draw::{Checked, NotProven, draw};
pub use language::{FILE_BYTES_MAX, Language, LanguageError, Refusal, choose, is_tag};
pub use template::{TEMPLATE_BYTES_MAX, Template, TemplateError};
pub use waiting::waiting;

/// No page of ours is longer, bytes.
pub const PAGE_BYTES_MAX: usize = 15 << 10;
/// Most languages of a room.
pub const LANGUAGES_MAX: usize = 64;

const STYLE: &str = include_str!("style.css");
static SCRIPT: LazyLock<String> = LazyLock::new(|| without_comments(include_str!("waiting.js")));
/// Does the work that is asked for above a quota; only on pages that ask for it.
static WORK: LazyLock<String> = LazyLock::new(|| without_comments(include_str!("work.js")));
const WAITING: &str = include_str!("waiting.html");
const MESSAGE: &str = include_str!("message.html");

/// The shipped template of the waiting page, to start from.
pub fn shipped_template() -> &'static str {
    WAITING
}

/// The pages of a policy's rooms.
#[derive(Debug, Default)]
pub struct Pages {
    rooms: Vec<Arc<RoomPage>>,
}

/// The waiting page of a room: its template and its languages.
#[derive(Debug)]
pub struct RoomPage {
    template: Template,
    languages: Vec<Language>,
    /// The words of each language as the engine takes them.
    words: Vec<Value>,
}

/// A page and the `Content-Security-Policy` it needs.
#[derive(Clone, Debug)]
pub struct Page {
    /// HTML.
    pub html: String,
    /// Header.
    pub policy: String,
    /// Header.
    pub language: String,
}

/// Why the pages of a room cannot be used.
#[derive(Debug, Error)]
pub enum PageError {
    /// The template.
    #[error("{file}: {error}")]
    Template {
        /// Its file.
        file: String,
        /// What is wrong.
        error: TemplateError,
    },
    /// The template's file.
    #[error("{file}: {why}; write `template: builtin`, or the path of a template")]
    File {
        /// Which.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// A language file.
    #[error("{0}")]
    Language(#[from] LanguageError),
    /// A language that there is no file for.
    #[error("there is no language `{tag}`; there are: {known}; others are files in `translations`")]
    Unknown {
        /// As written.
        tag: String,
        /// What there is.
        known: String,
    },
}

static MESSAGES: LazyLock<Option<RoomPage>> = LazyLock::new(|| RoomPage::new(MESSAGE, Language::all_builtin().to_vec()).ok());
static SHIPPED: LazyLock<Option<Arc<RoomPage>>> =
    LazyLock::new(|| RoomPage::new(WAITING, Language::all_builtin().to_vec()).ok().map(Arc::new));

impl Pages {
    /// The pages of a policy. What was good when the policy was checked and is not any more falls back to what is shipped.
    pub fn of(policy: &Policy) -> Pages {
        let room = |settings: &tidegate_filters::seats::room::RoomSettings| match RoomPage::load(&settings.page) {
            Ok(page) => Some(page),
            Err(error) => {
                tracing::error!(room = settings.name, %error, "the waiting page cannot be used; the shipped one is shown");
                SHIPPED.clone()
            }
        };
        Pages { rooms: policy.rooms.iter().filter_map(room).collect() }
    }

    /// The page of a room, by index.
    pub fn room(&self, index: usize) -> Option<&RoomPage> {
        self.rooms.get(index).map(|p| &**p)
    }
}

impl RoomPage {
    /// What a room's settings name.
    pub fn load(settings: &PageSettings) -> Result<Arc<RoomPage>, PageError> {
        if *settings == PageSettings::default()
            && let Some(shipped) = &*SHIPPED
        {
            return Ok(shipped.clone());
        }
        let languages = languages(settings)?;
        let source = match settings.template.as_str() {
            BUILTIN => WAITING.to_owned(),
            file => read_template(file)?,
        };
        let error = |error| PageError::Template { file: settings.template.clone(), error };
        Ok(Arc::new(RoomPage::new(&source, languages).map_err(error)?))
    }

    fn new(source: &str, languages: Vec<Language>) -> Result<RoomPage, TemplateError> {
        let words = languages.iter().map(|l| Value::from_serialize(&l.words)).collect();
        Ok(RoomPage { template: Template::new(source, &[STYLE, &SCRIPT, &WORK])?, languages, words })
    }

    /// The language for an `Accept-Language` header, and its words.
    fn language(&self, accept: &str) -> Option<(&Language, &Value)> {
        let language = choose(&self.languages, accept)?;
        let index = self.languages.iter().position(|l| std::ptr::eq(l, language))?;
        Some((language, self.words.get(index)?))
    }

    fn render(&self, language: &Language, values: Value) -> Result<Page, TemplateError> {
        let html = self.template.render(values)?;
        Ok(Page { html, policy: self.template.policy().to_owned(), language: language.tag.clone() })
    }
}

/// Checks the settings of a room's page as deeply as showing it would.
pub fn check(settings: &PageSettings) -> Result<(), PageError> {
    let page = RoomPage::load(settings)?;
    let error = |error| PageError::Template { file: settings.template.clone(), error };
    waiting::try_all(&page).map_err(error)?;
    if settings.template != BUILTIN && !read_template(&settings.template)?.contains("urls.claim") {
        let what = "nobody could take a turn: it has no form with action=\"{{ urls.claim }}\" (see `tidegate page template`)";
        return Err(error(TemplateError::Engine { line: 1, what: what.into() }));
    }
    Ok(())
}

/// A refusal.
pub fn message(accept: &str, refusal: Refusal, code: &str) -> Page {
    message_page(accept, code, context! {}, |l| l.refusal(refusal).clone())
}

/// A refusal of one of our own pages; what exactly is wrong is known in English only.
pub fn explained(accept: &str, refusal: Refusal, detail: &str, code: &str) -> Page {
    let language = MESSAGES.as_ref().and_then(|page| page.language(accept)).map(|(language, _)| language);
    let lines: Vec<_> = language.filter(|l| l.tag == "en").map(|_| detail).into_iter().collect();
    message_page(accept, code, context! { lines }, |l| l.refusal(refusal).clone())
}

/// A refusal that can be appealed against.
pub fn refused(accept: &str, refusal: Refusal, code: &str, url: &str, about: &str) -> Page {
    let more = context! { urls => urls("appeal", url), fields => fields(&[("about", about)]) };
    message_page(accept, code, more, |l| l.refusal(refusal).clone())
}

/// How an appeal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appealed {
    /// Nobody has decided.
    Undecided,
    /// It was a mistake.
    Granted,
    /// It was none.
    Rejected,
}

impl Appealed {
    /// Stable, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Appealed::Undecided => "undecided",
            Appealed::Granted => "granted",
            Appealed::Rejected => "rejected",
        }
    }
}

/// What became of an appeal; `say` is the operator's.
pub fn appealed(accept: &str, state: Appealed, say: &str, reference: &str) -> Page {
    let shop = if state == Appealed::Granted { "/" } else { "" };
    let more = context! { urls => urls("shop", shop), say };
    message_page(accept, reference, more, |l| {
        let words = &l.words.appeal;
        match state {
            Appealed::Undecided => words.undecided.clone(),
            Appealed::Granted => words.granted.clone(),
            Appealed::Rejected => words.rejected.clone(),
        }
    })
}

/// What programs are told about a refusal.
pub fn in_english(refusal: Refusal) -> &'static str {
    Language::all_builtin().first().map_or("refused", |l| l.refusal(refusal).text.as_str())
}

/// What a challenged visitor is asked.
pub struct Asked<'a> {
    /// Where the answer goes.
    pub url: &'a str,
    /// Where the visitor was going.
    pub to: &'a str,
    /// Goes back with the answer.
    pub proof: &'a str,
    /// 0 bits: the press of a button.
    pub work: Work,
    /// A page gives up after as many seconds.
    pub work_s: u64,
}

/// Work that the page does by itself, or a button that only somebody who is there presses.
pub fn challenge(accept: &str, asked: &Asked<'_>, code: &str) -> Page {
    let (url, back) = (asked.url, [("to", asked.to), ("proof", asked.proof)]);
    if asked.work.bits == 0 {
        let more = context! { urls => urls("action", url), fields => fields(&back) };
        return message_page(accept, code, more, |l| l.words.challenge.clone());
    }
    let work = json!({ "url": url, "challenge": hex(&asked.work.challenge), "bits": asked.work.bits, "left": asked.work_s,
        "proof": asked.proof, "slowly": true });
    let more = context! {
        urls => urls("action", url), fields => fields(&[back[0], back[1], ("slowly", "1")]), slowly => true,
        config => json!({ "work": work }).to_string(), script => Value::from_safe_string(format!("<script>{}</script>", *WORK)),
    };
    message_page(accept, code, more, |l| l.words.challenge_work.clone())
}

/// The slow way around a challenge.
pub fn detour(accept: &str) -> Page {
    message_page(accept, "", context! {}, |l| l.words.detour.clone())
}

fn message_page(accept: &str, code: &str, more: Value, said: impl Fn(&Language) -> language::Said) -> Page {
    let shown = MESSAGES.as_ref().and_then(|page| {
        let (language, t) = page.language(accept)?;
        let said = said(language);
        let values = context! {
            ..more,
            ..context! {
                lang => language.tag, dir => language.words.dir.name(), t, title => said.title, text => said.text, code,
                style => styled(), urls => urls("", ""), fields => "", config => "", script => "", slowly => false, say => "",
                lines => Vec::<String>::new(),
            }
        };
        page.render(language, values).ok()
    });
    // Never: a test renders every one of them.
    shown.unwrap_or_else(|| Page { html: code.to_owned(), policy: "default-src 'none'".into(), language: "en".into() })
}

/// The links of a message, one of them set.
fn urls(name: &str, url: &str) -> Value {
    ["action", "appeal", "shop"].into_iter().map(|n| (n, if n == name { url } else { "" })).collect()
}

/// Hidden fields of a form, made safe here.
fn fields(values: &[(&str, &str)]) -> Value {
    let mut html = String::new();
    for (name, value) in values {
        html.push_str("<input type=\"hidden\" name=\"");
        html.push_str(name);
        html.push_str("\" value=\"");
        let _ = template::escape(&mut html, value);
        html.push_str("\">");
    }
    Value::from_safe_string(html)
}

/// A script as it is sent: comments are for who reads the file.
fn without_comments(script: &str) -> String {
    script.lines().filter(|l| !l.starts_with("//")).flat_map(|l| [l, "\n"]).collect()
}

fn styled() -> Value {
    Value::from_safe_string(format!("<style>{STYLE}</style>"))
}

fn read_template(file: &str) -> Result<String, PageError> {
    let wrong = |why: String| PageError::File { file: file.to_owned(), why };
    let size = std::fs::metadata(file).map_err(|e| wrong(e.to_string()))?.len();
    if size > TEMPLATE_BYTES_MAX {
        return Err(wrong(format!("{size} bytes; a template has at most {TEMPLATE_BYTES_MAX}")));
    }
    std::fs::read_to_string(file).map_err(|e| wrong(e.to_string()))
}

/// The languages of a room in the order of the settings; a file of the operator replaces a shipped one of the same name.
fn languages(settings: &PageSettings) -> Result<Vec<Language>, PageError> {
    let mut known: Vec<Language> = Vec::new();
    if let Some(directory) = &settings.translations {
        for file in language_files(Path::new(directory))? {
            known.push(Language::read(&file)?);
        }
    }
    let own = known.len();
    for shipped in Language::all_builtin() {
        if !known[..own].iter().any(|l| l.tag == shipped.tag) {
            known.push(shipped.clone());
        }
    }
    if settings.languages.is_empty() {
        // English is for everybody else unless the policy says otherwise.
        known.sort_by_key(|l| l.tag != "en");
        return Ok(known);
    }
    let find = |tag: &String| {
        let found = known.iter().find(|l| l.tag.eq_ignore_ascii_case(tag)).cloned();
        let list = || known.iter().map(|l| l.tag.as_str()).collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| PageError::Unknown { tag: tag.clone(), known: list() })
    };
    settings.languages.iter().map(find).collect()
}

fn language_files(directory: &Path) -> Result<Vec<std::path::PathBuf>, LanguageError> {
    let io = |error| LanguageError::Io { file: directory.display().to_string(), error };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|e| e == "json") && files.len() < LANGUAGES_MAX {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
