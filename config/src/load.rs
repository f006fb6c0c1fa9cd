//! The whole way from a file to a policy that the gate can run.

use std::{fs::File, io::Read as _, path::Path, sync::Arc};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tidegate_filters::seats::room::{OnFailure, Order};

use crate::{
    check::{Checks, check},
    error::{Place, PolicyErrors, Problem, render},
    parse::{FILE_BYTES_MAX, read},
    place::Places,
    policy::{Policy, keep::SaleSettings},
};

/// A policy without errors.
#[derive(Clone, Debug, Serialize)]
pub struct Loaded {
    /// The policy.
    #[serde(skip)]
    pub policy: Policy,
    /// What is doubtful, in the order of the file.
    pub warnings: Vec<Problem>,
    /// SHA-256 of the text, hex.
    pub sha256: String,
    /// The file, as it was named.
    pub file: String,
    /// The text.
    #[serde(skip)]
    pub text: Arc<str>,
}

impl Loaded {
    /// The warnings with their source lines, for people.
    pub fn render_warnings(&self) -> String {
        render("warning", &self.warnings, &self.file, &self.text)
    }

    /// A policy that was never text, such as [`Policy::zero_config`]: checked, with its JSON (which is YAML) as text.
    pub fn from_policy(policy: Policy, checks: &Checks<'_>) -> Result<Loaded, PolicyErrors> {
        let file = "(no policy file)".to_owned();
        let text: Arc<str> = serde_json::to_string_pretty(&policy).unwrap_or_default().into();
        let (errors, warnings) = check(&policy, &Places::default(), checks);
        finish(policy, errors, warnings, file, text)
    }
}

/// Reads and checks a file, without the gate's own deeper checks.
pub fn load(path: impl AsRef<Path>) -> Result<Loaded, PolicyErrors> {
    load_with(path, &Checks::default())
}

/// Reads and checks a file.
pub fn load_with(path: impl AsRef<Path>, checks: &Checks<'_>) -> Result<Loaded, PolicyErrors> {
    let path = path.as_ref();
    let file = path.display().to_string();
    let fail = |what: String, instead: &str| PolicyErrors {
        file: file.clone(),
        errors: vec![Problem::new(None, "", &what, instead)],
        warnings: vec![],
        text: "".into(),
    };
    let mut bytes = Vec::new();
    // Opening a pipe would wait for a writer, and a device may never end.
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        return Err(fail("is not a file".into(), "name a file with the policy's text"));
    }
    let opened = File::open(path).and_then(|f| f.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    opened.map_err(|e| fail(format!("cannot be read: {e}"), "check the path and its permissions"))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let good = String::from_utf8_lossy(&e.as_bytes()[..e.utf8_error().valid_up_to()]);
        let column = good.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let place = Place { line: good.matches('\n').count() + 1, column };
        let what = "this is not UTF-8 text";
        let errors = vec![Problem::new(Some(place), "", what, "save the file as UTF-8")];
        PolicyErrors { file: file.clone(), errors, warnings: vec![], text: String::from_utf8_lossy(e.as_bytes()).into() }
    })?;
    parse_with(&text, &file, checks)
}

/// Checks a text, without the gate's own deeper checks; `file_name` is for the messages.
pub fn parse(text: &str, file_name: &str) -> Result<Loaded, PolicyErrors> {
    parse_with(text, file_name, &Checks::default())
}

/// Checks a text.
pub fn parse_with(text: &str, file_name: &str, checks: &Checks<'_>) -> Result<Loaded, PolicyErrors> {
    let text: Arc<str> = text.into();
    let (mut policy, places) = read(&text, file_name)?;
    draws_by_default(&mut policy, &places);
    let (errors, warnings) = check(&policy, &places, checks);
    finish(policy, errors, warnings, file_name.to_owned(), text)
}

/// Where nobody wrote an `order`, the fair one where there is time and a disk for it: every sale of the room has a pre-queue
/// that is longer than `freeze_before`, entries outlive the process (`state`, `keys`), and the room never opens by failing.
fn draws_by_default(policy: &mut Policy, places: &Places) {
    if policy.state.is_none() || policy.keys.is_none() {
        return;
    }
    let sales = &policy.sales;
    for (i, room) in policy.rooms.iter_mut().enumerate() {
        let is_written = places.get(&format!("rooms[{i}].order")).is_some();
        let mut own = sales.iter().filter(|s| s.room == room.name).peekable();
        let has_time = |s: &SaleSettings| {
            let opens = s.opens_at.unix_ms();
            let early = s.prequeue_opens_at.as_ref().map_or(0, |p| opens.saturating_sub(p.unix_ms()));
            early > room.freeze_before.ms()
        };
        if !is_written && room.on_failure != OnFailure::OpenBounded && own.peek().is_some() && own.all(has_time) {
            room.order = Order::DrawThenFifo;
        }
    }
}

fn finish(
    policy: Policy,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    file: String,
    text: Arc<str>,
) -> Result<Loaded, PolicyErrors> {
    if !errors.is_empty() {
        return Err(PolicyErrors { file, errors, warnings, text });
    }
    let sha256 = Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    Ok(Loaded { policy, warnings, sha256, file, text })
}
