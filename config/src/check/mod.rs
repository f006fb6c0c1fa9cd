//! Everything the runtime would reject, collected in one go. One file per part of the policy.

mod draws;
mod facts;
mod files;
mod filters;
mod listen;
mod rooms;
mod routes;
mod shop;
mod stock;

pub use draws::WINDOW_MS;

use std::path::Path;

use tidegate_filters::{
    ByteSize,
    rule::{bot_gate::BotGateSettings, good_bots::BotSettings},
    seats::page::PageSettings,
};

use crate::{
    error::Problem,
    place::Places,
    policy::{Policy, keep::ForecastSettings, listen::Tls},
    words::nearest,
};

/// Longest name of a route, room, sale or quota, bytes.
pub const NAME_MAX: usize = 64;
/// Whether a route, room, sale or quota may be called so.
pub fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(good)
}

/// Most listeners, upstreams, routes, rooms or sales, and filters: those are numbered by a byte in verdicts.
const PARTS_MAX: usize = 255;
/// Most errors reported at once.
const ERRORS_MAX: usize = 100;

/// Checks that need more than this crate: loading a key pair into TLS, trying a model file.
pub trait DeepCheck {
    /// The pair of a listener; both files are readable PEM.
    fn certificate(&self, tls: &Tls) -> Result<(), String> {
        let _ = tls;
        Ok(())
    }
    /// The authorities of an upstream; the file is readable PEM.
    fn authorities(&self, file: &Path) -> Result<(), String> {
        let _ = file;
        Ok(())
    }
    /// The waiting page of a room: template and languages.
    fn page(&self, settings: &PageSettings) -> Result<(), String> {
        let _ = settings;
        Ok(())
    }
    /// The keys in a directory that exists.
    fn keys(&self, directory: &Path) -> Result<(), String> {
        let _ = directory;
        Ok(())
    }
    /// The model of the forecast; the file exists.
    fn forecast(&self, settings: &ForecastSettings) -> Result<(), String> {
        let _ = settings;
        Ok(())
    }
    /// The lists and keys of a welcome program; the key at fault, and why.
    fn good_bot(&self, settings: &BotSettings) -> Result<(), (&'static str, String)> {
        let _ = settings;
        Ok(())
    }
    /// The model of a bot gate; the file exists, or it is `builtin`.
    fn model(&self, settings: &BotGateSettings) -> Result<(), String> {
        let _ = settings;
        Ok(())
    }
    /// What runs that model, which is good: why a start fails, or what it would warn of and what to do.
    fn runtime(&self, settings: &BotGateSettings) -> Result<Option<(String, &'static str)>, String> {
        let _ = settings;
        Ok(None)
    }
}

/// How much is looked at.
#[derive(Clone, Copy, Default)]
pub struct Checks<'a> {
    /// The time, Unix milliseconds: a sale that is over is then noticed.
    pub now_unix_ms: Option<u64>,
    /// Do not look at certificates, models, tokens and directories: they are on another machine.
    pub skip_files: bool,
    /// The gate's own deeper checks.
    pub deep: Option<&'a dyn DeepCheck>,
    /// A gate is to run with it, now: what it can do without (the forecast's model) is a warning and no error.
    pub to_run: bool,
}

impl std::fmt::Debug for Checks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Checks { now_unix_ms, skip_files, deep, to_run } = self;
        let deep = deep.is_some();
        write!(f, "Checks {{ now_unix_ms: {now_unix_ms:?}, skip_files: {skip_files}, deep: {deep}, to_run: {to_run} }}")
    }
}

/// What was found: errors, then warnings, each in the order of the file.
pub(crate) fn check(policy: &Policy, places: &Places, checks: &Checks<'_>) -> (Vec<Problem>, Vec<Problem>) {
    let mut c = Checker { policy, places, checks, errors: Vec::new(), warnings: Vec::new(), more: 0 };
    // Comparing all with all is for policies that a person could have written.
    if c.few_enough() {
        c.listeners();
        c.request_limits();
        c.shop();
        c.routes();
        c.filters();
        c.rooms();
        c.sales();
        c.schedule();
        c.needs();
        c.kept();
        if !checks.skip_files {
            c.files();
        }
    }
    let (mut errors, mut warnings) = (c.errors, c.warnings);
    errors.sort_by_key(|p| p.place);
    warnings.sort_by_key(|p| p.place);
    if c.more > 0 {
        errors.push(Problem::new(None, "", &format!("{} more errors", c.more), "mend these first"));
    }
    (errors, warnings)
}

pub(crate) struct Checker<'a> {
    policy: &'a Policy,
    places: &'a Places,
    checks: &'a Checks<'a>,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    more: usize,
}

impl Checker<'_> {
    fn few_enough(&mut self) -> bool {
        let p = self.policy;
        let parts = [
            ("listen", "listeners", p.listen.len()),
            ("shop.upstreams", "upstreams", p.shop.upstreams.len()),
            ("routes", "routes", p.routes.len()),
            ("filters", "filters", p.filters.len()),
            ("rooms", "rooms", p.rooms.len()),
            ("sales", "sales", p.sales.len()),
            ("schedule", "steps", p.schedule.len()),
        ];
        for (path, what, n) in parts {
            if n > PARTS_MAX {
                self.error(path, format!("{n} {what}"), format!("at most {PARTS_MAX}"));
            }
        }
        self.errors.is_empty()
    }

    fn error(&mut self, path: impl Into<String>, what: impl AsRef<str>, instead: impl AsRef<str>) {
        if self.errors.len() >= ERRORS_MAX {
            self.more += 1;
            return;
        }
        let problem = self.problem(path.into(), what.as_ref(), instead.as_ref());
        self.errors.push(problem);
    }

    fn warning(&mut self, path: impl Into<String>, what: impl AsRef<str>, instead: impl AsRef<str>) {
        if self.warnings.len() >= ERRORS_MAX {
            return;
        }
        let problem = self.problem(path.into(), what.as_ref(), instead.as_ref());
        self.warnings.push(problem);
    }

    fn problem(&self, path: String, what: &str, instead: &str) -> Problem {
        Problem::new(self.places.place(&path), path, what, instead)
    }

    /// `n` within bounds; `unit` reads after the number.
    fn within(&mut self, path: impl Into<String>, n: u64, min: u64, max: u64, unit: &str) {
        if n < min || n > max {
            let word = if n < min { "low" } else { "high" };
            self.error(path, format!("{n} is too {word}"), format!("write {min} to {max}{unit}"));
        }
    }

    /// A size within bounds.
    fn size(&mut self, path: impl Into<String>, size: ByteSize, min: ByteSize, max: ByteSize) {
        if size < min || size > max {
            let word = if size < min { "small" } else { "large" };
            self.error(path, format!("{size} is too {word}"), format!("write {min} to {max}"));
        }
    }

    /// A length of time that is not zero.
    fn some_time(&mut self, path: impl Into<String>, span: tidegate_filters::Span) {
        if span.ms() == 0 {
            self.error(path, "no time at all", "write a length of time above zero, such as 10s");
        }
    }

    /// Names appear in cookies, metrics, headers and file names.
    fn name(&mut self, path: impl Into<String>, name: &str) {
        if !is_name(name) {
            let what = format!("`{name}` is not a name");
            self.error(path, what, format!("letters, digits, `-` and `_`; 1 to {NAME_MAX} of them"));
        }
    }

    /// The second of two equal names: `path` has `{}` where the index goes.
    fn unique<'n>(&mut self, path: &str, names: impl Iterator<Item = &'n str>) {
        let mut seen: Vec<&str> = Vec::new();
        for (i, name) in names.enumerate() {
            match seen.iter().position(|s| *s == name) {
                Some(first) => {
                    let first = path.replace("{}", &first.to_string());
                    self.error(
                        path.replace("{}", &i.to_string()),
                        format!("`{name}` is taken: {first} has it"),
                        "give it another name",
                    );
                    seen.push("");
                }
                None => seen.push(name),
            }
        }
    }

    /// A name that must exist: `what` is `room`, `route` or `sale`.
    fn known(&mut self, path: impl Into<String>, what: &str, name: &str, all: &[&str]) -> bool {
        if all.contains(&name) {
            return true;
        }
        if self.errors.len() >= ERRORS_MAX {
            self.more += 1;
            return false;
        }
        let instead = match (nearest(name, all.iter().copied()), all) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, []) => format!("the policy has no {what}s"),
            (None, _) => format!("{what}s are: {}", all.join(", ")),
        };
        self.error(path, format!("there is no {what} `{name}`"), instead);
        false
    }
}
