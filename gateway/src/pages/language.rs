//! The words of the pages, a file a language; who gets which.

use std::{path::Path, sync::LazyLock};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidegate_filters::{Reason, seats::room::Cause};

use super::draw::Drawing;

/// A language file has at most this many bytes.
pub const FILE_BYTES_MAX: u64 = 64 << 10;

macro_rules! shipped {
    ($($tag:literal),*) => { &[$(($tag, include_str!(concat!("languages/", $tag, ".json")))),*] };
}

/// What is shipped: another one is another file, and its name here.
const SHIPPED: &[(&str, &str)] = shipped!("en", "zh", "de", "fr", "es", "ja", "ar");

static BUILTIN: LazyLock<Vec<Language>> = LazyLock::new(|| {
    let read = |(tag, text): &(&str, &str)| Language::parse(tag, text).ok();
    SHIPPED.iter().filter_map(read).collect()
});

/// A language and its words. Every text is plain; `{n}`, `{time}`, `{from}` and `{to}` stand for values.
#[derive(Clone, Debug)]
pub struct Language {
    /// As in `lang`: `en`, `pt-BR`.
    pub tag: String,
    /// Its words.
    pub words: Words,
}

/// Every text of the pages. The file of a language holds them all.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Words {
    pub name: String,
    pub dir: Direction,
    pub group: String,
    pub seconds: String,
    pub minutes: String,
    pub hours: String,
    pub between: String,
    pub unknown: String,
    pub labels: Labels,
    pub actions: Actions,
    pub stages: Stages,
    pub sold_out: SoldOut,
    pub cancelled: Cancelled,
    pub time_left: String,
    pub time_over: String,
    pub wait_rose: String,
    pub because: Because,
    pub keep_place: String,
    pub restarted: String,
    pub rules: Rules,
    pub draw: Drawing,
    pub challenge: Said,
    pub challenge_work: Said,
    pub detour: Said,
    pub appeal: Appeals,
    pub refusals: Refusals,
}

/// Which way it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From left to right.
    Ltr,
    /// From right to left.
    Rtl,
}

impl Direction {
    /// As in `dir`.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Ltr => "ltr",
            Direction::Rtl => "rtl",
        }
    }
}

/// A title and a sentence or two.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// What it is.
    pub title: String,
    /// What it means, and what to do.
    pub text: String,
}

macro_rules! texts {
    ($(#[$doc:meta])* $name:ident: $type:ty { $($field:ident),* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(missing_docs)]
        pub struct $name { $(pub $field: $type),* }
    };
}

texts!(/// Names of values.
    Labels: String { place, ahead, wait, opens, stock, message, reference });
texts!(/// Buttons.
    Actions: String { enter, extend, leave, sound, go_on, slowly });
texts!(/// Stages of a visitor who waits.
    Stages: Said { prequeue, waiting, called, next, paused, full });
texts!(/// Nothing is left: what became of it, and what that means for who asks.
    SoldOut: String { all, undecided, kept, newcomer });
texts!(/// A sale that was called off.
    Cancelled: String { title, text, why, again });
texts!(/// Why the wait is long.
    Because: String { slowed, shop_slower, shop_down, seats_taken, all_reserved, paused });
texts!(/// The rules of a sale.
    Rules: String { title, room_title, order_fifo, order_draw, order_windows, never, opens, closes, stock, per_visitor, claim, reserve, proof });

/// An appeal against a refusal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Appeals {
    pub ask: String,
    pub why: String,
    pub send: String,
    pub undecided: Said,
    pub granted: Said,
    pub rejected: Said,
}

/// Refusals by code.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub struct Refusals {
    pub rate_exceeded: Said,
    pub sale_not_open: Said,
    pub sale_closed: Said,
    pub stock_gone: Said,
    pub token_elsewhere: Said,
    pub all_held: Said,
    pub hold_in_flight: Said,
    pub no_hold: Said,
    pub visitor_limit: Said,
    pub no_route: Said,
    pub no_pass: Said,
    pub room_full: Said,
    pub room_closed: Said,
    pub room_down: Said,
    pub not_kept: Said,
    pub crawler: Said,
    pub shop_busy: Said,
    pub shop_down: Said,
    pub shop_slow: Said,
    pub order_unknown: Said,
    pub shop_failed: Said,
    pub body_too_large: Said,
    pub bad_request: Said,
    pub stale_challenge: Said,
    pub stopping: Said,
    pub other: Said,
}

/// Which refusal; most have a reason code of the filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// By its reason.
    Of(Reason),
    /// The shop did not answer in time.
    ShopSlow,
    /// And it may have written an order all the same.
    OrderUnknown,
    /// A challenge whose page is too old, or that was made elsewhere.
    StaleChallenge,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Refusal::Of(reason)
    }
}

/// Why a language file cannot be used.
#[derive(Debug, Error)]
pub enum LanguageError {
    /// Not readable.
    #[error("{file}: {error}")]
    Io {
        /// Which.
        file: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// Larger than [`FILE_BYTES_MAX`].
    #[error("{file} is larger than 64 KiB: is it a language file?")]
    TooLarge {
        /// Which.
        file: String,
    },
    /// Not JSON, a missing or an unknown key.
    #[error("{file}: {error}; every key of the shipped en.json must be there (`tidegate page words` prints it)")]
    Content {
        /// Which.
        file: String,
        /// What and where.
        error: serde_json::Error,
    },
    /// The name of a file is not a language tag.
    #[error("{file}: the name of a language file is its language tag, such as `pt-BR.json`")]
    Name {
        /// Which.
        file: String,
    },
}

impl Language {
    /// A shipped one.
    pub fn builtin(tag: &str) -> Option<&'static Language> {
        BUILTIN.iter().find(|l| l.tag == tag)
    }

    /// All shipped ones, English first.
    pub fn all_builtin() -> &'static [Language] {
        &BUILTIN
    }

    /// From a file whose name is the tag.
    pub fn read(file: &Path) -> Result<Language, LanguageError> {
        let name = file.display().to_string();
        let tag = file.file_stem().and_then(|s| s.to_str()).filter(|s| is_tag(s));
        let Some(tag) = tag else { return Err(LanguageError::Name { file: name }) };
        let io = |error| LanguageError::Io { file: name.clone(), error };
        if std::fs::metadata(file).map_err(io)?.len() > FILE_BYTES_MAX {
            return Err(LanguageError::TooLarge { file: name });
        }
        let text = std::fs::read_to_string(file).map_err(io)?;
        Language::parse(tag, &text).map_err(|error| LanguageError::Content { file: name, error })
    }

    /// The text of a shipped one.
    pub fn source(tag: &str) -> Option<&'static str> {
        SHIPPED.iter().find(|(t, _)| *t == tag).map(|(_, text)| *text)
    }

    fn parse(tag: &str, text: &str) -> Result<Language, serde_json::Error> {
        Ok(Language { tag: tag.to_owned(), words: serde_json::from_str(text)? })
    }

    /// `35 s`, `12 min`, `3 h`.
    pub fn time(&self, seconds: u32) -> String {
        let (pattern, n) = match seconds {
            0..90 => (&self.words.seconds, seconds),
            90..7_170 => (&self.words.minutes, (seconds + 30) / 60),
            _ => (&self.words.hours, (seconds + 1_800) / 3_600),
        };
        put(pattern, "n", &n.to_string())
    }

    /// `12 min to 20 min`, or that it is not known.
    pub fn interval(&self, wait_s: Option<(u32, u32)>) -> String {
        match wait_s {
            Some((low, high)) => put(&put(&self.words.between, "from", &self.time(low)), "to", &self.time(high)),
            None => self.words.unknown.clone(),
        }
    }

    /// `12,345`
    pub fn number(&self, n: u64) -> String {
        let digits = n.to_string();
        let mut out = String::with_capacity(digits.len() + 4);
        for (i, c) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                out.push_str(&self.words.group);
            }
            out.push(c);
        }
        out
    }

    /// Why the wait is long.
    pub fn cause(&self, cause: Cause) -> &str {
        let b = &self.words.because;
        match cause {
            Cause::Slowed => &b.slowed,
            Cause::ShopSlower => &b.shop_slower,
            Cause::ShopDown => &b.shop_down,
            Cause::SeatsTaken => &b.seats_taken,
            Cause::AllReserved => &b.all_reserved,
            Cause::Paused => &b.paused,
        }
    }

    /// What a visitor is told about a refusal.
    pub fn refusal(&self, refusal: Refusal) -> &Said {
        let r = &self.words.refusals;
        let reason = match refusal {
            Refusal::ShopSlow => return &r.shop_slow,
            Refusal::OrderUnknown => return &r.order_unknown,
            Refusal::StaleChallenge => return &r.stale_challenge,
            Refusal::Of(reason) => reason,
        };
        match reason {
            Reason::RateExceeded | Reason::ScoreThrottle => &r.rate_exceeded,
            Reason::SaleNotOpen => &r.sale_not_open,
            Reason::SaleClosed | Reason::SaleCancelled => &r.sale_closed,
            Reason::StockGone => &r.stock_gone,
            Reason::TokenElsewhere => &r.token_elsewhere,
            Reason::AllHeld => &r.all_held,
            Reason::HoldInFlight => &r.hold_in_flight,
            Reason::NoHold => &r.no_hold,
            Reason::VisitorLimit => &r.visitor_limit,
            Reason::NoRoute => &r.no_route,
            Reason::NoPass => &r.no_pass,
            Reason::RoomFull => &r.room_full,
            Reason::RoomClosed => &r.room_closed,
            Reason::PeopleWait => &r.crawler,
            Reason::RoomDown => &r.room_down,
            Reason::NotKept => &r.not_kept,
            Reason::RoomPaused => &self.words.stages.paused,
            Reason::ShopBusy => &r.shop_busy,
            Reason::ShopDown => &r.shop_down,
            Reason::ShopFailed => &r.shop_failed,
            Reason::BodyTooLarge => &r.body_too_large,
            Reason::BadRequest => &r.bad_request,
            Reason::Stopping => &r.stopping,
            _ => &r.other,
        }
    }
}

/// The best of `languages` for an `Accept-Language` header; the first where none fits. RFC 4647 lookup: `pt-BR` is served
/// by `pt-BR`, else by `pt`, else by any `pt-…`.
pub fn choose<'l>(languages: &'l [Language], accept: &str) -> Option<&'l Language> {
    let mut wanted: Vec<(&str, u32)> = Vec::new();
    for part in accept.split(',').take(16) {
        let (tag, weight) = part.split_once(';').unwrap_or((part, ""));
        let weight = match weight.trim().strip_prefix("q=").map(str::parse::<f32>) {
            None => 1_000,
            Some(Ok(q)) if (0.0..=1.0).contains(&q) => (q * 1_000.0) as u32,
            Some(_) => 0,
        };
        if weight > 0 {
            wanted.push((tag.trim(), weight));
        }
    }
    // Stable: of two with the same weight the one named first.
    wanted.sort_by_key(|(_, weight)| u32::MAX - weight);
    wanted.iter().find_map(|(tag, _)| lookup(languages, tag)).or(languages.first())
}

fn lookup<'l>(languages: &'l [Language], tag: &str) -> Option<&'l Language> {
    let exactly = |t: &str| languages.iter().find(|l| l.tag.eq_ignore_ascii_case(t));
    let mut range = tag;
    loop {
        if let Some(found) = exactly(range) {
            return Some(found);
        }
        match range.rfind('-') {
            Some(at) => range = &range[..at],
            None => break,
        }
    }
    let primary = |t: &str| t.split('-').next().unwrap_or(t).to_ascii_lowercase();
    languages.iter().find(|l| tag != "*" && primary(&l.tag) == primary(tag))
}

/// Letters, digits and `-`, as BCP 47 has them.
pub fn is_tag(text: &str) -> bool {
    (2..=35).contains(&text.len()) && text.split('-').all(|p| !p.is_empty() && p.chars().all(|c| c.is_ascii_alphanumeric()))
}

/// Puts a value into `{name}`.
pub(super) fn put(pattern: &str, name: &str, value: &str) -> String {
    pattern.replace(&format!("{{{name}}}"), value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn every_shipped_language_is_whole() {
        assert_eq!(BUILTIN.len(), SHIPPED.len(), "one does not parse");
        let english = serde_json::to_value(&BUILTIN[0].words).unwrap();
        for language in BUILTIN.iter() {
            let words = serde_json::to_value(&language.words).unwrap();
            same_places(&english, &words, &language.tag);
        }
    }

    /// Same keys, nothing empty, and the same `{values}` in every text.
    fn same_places(a: &serde_json::Value, b: &serde_json::Value, at: &str) {
        match (a, b) {
            (serde_json::Value::Object(a), serde_json::Value::Object(b)) => {
                for (key, value) in a {
                    same_places(value, b.get(key).unwrap_or(&serde_json::Value::Null), &format!("{at}.{key}"));
                }
            }
            (serde_json::Value::String(a), serde_json::Value::String(b)) => {
                let values = |s: &str| {
                    let mut found: Vec<String> =
                        s.split('{').skip(1).filter_map(|p| p.split_once('}')).map(|(v, _)| v.to_owned()).collect();
                    found.sort();
                    found
                };
                assert!(!b.is_empty(), "{at} is empty");
                assert_eq!(values(a), values(b), "{at}");
            }
            _ => panic!("{at}: {b}"),
        }
    }

    #[test]
    fn the_best_language_is_chosen() {
        let all = Language::all_builtin();
        let tag = |accept: &str| choose(all, accept).unwrap().tag.as_str();
        assert_eq!(tag("de-CH,de;q=0.9,en;q=0.8"), "de");
        assert_eq!(tag("fr;q=0.2, ja;q=0.9"), "ja");
        assert_eq!(tag("zh-Hant-TW"), "zh");
        assert_eq!(tag("xx, es-MX;q=0.1"), "es");
        assert_eq!(tag("de;q=0, fr;q=0.1"), "fr", "q=0 is a no");
        for none in ["", "*", "xx", ";;;", "q=1", "de;q=2", "de;q=NaN", &"x,".repeat(10_000)] {
            assert_eq!(tag(none), "en", "{none:.20}");
        }
        let only = [Language { tag: "pt-BR".into(), words: all[0].words.clone() }];
        assert_eq!(choose(&only, "pt-PT").unwrap().tag, "pt-BR");
    }

    #[test]
    fn numbers_and_times_are_written_as_people_do() {
        let (en, de) = (Language::builtin("en").unwrap(), Language::builtin("de").unwrap());
        assert_eq!((en.number(1_234_567), de.number(1_234_567)), ("1,234,567".into(), "1.234.567".into()));
        assert_eq!((en.time(35), en.time(100), en.time(7_200)), ("35\u{a0}s".into(), "2\u{a0}min".into(), "2\u{a0}h".into()));
        assert_eq!(en.interval(Some((60, 200))), "60\u{a0}s to 3\u{a0}min");
        assert_eq!(en.interval(None), "not known yet");
    }

    #[test]
    fn a_file_that_cannot_be_used_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            Language::read(&path)
        };
        let whole = Language::source("en").unwrap();
        assert_eq!(file("pt-BR.json", whole).unwrap().tag, "pt-BR");
        let missing = file("pt.json", &whole.replace("\"wait_rose\"", "\"wait_roze\"")).unwrap_err().to_string();
        assert!(missing.contains("wait_roze") && missing.contains("pt.json"), "{missing}");
        assert!(matches!(file("a b.json", whole), Err(LanguageError::Name { .. })));
        assert!(matches!(file("xx.json", &" ".repeat(70_000)), Err(LanguageError::TooLarge { .. })));
        assert!(matches!(Language::read(&dir.path().join("no.json")), Err(LanguageError::Io { .. })));
    }
}
