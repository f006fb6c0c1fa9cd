//! What a refused visitor sees of appeals: the form, and what became of it.

use std::{hash::Hasher as _, sync::Arc};

use serde_json::json;
use tidegate_filters::{Reason, Wants, record::Kind as RowKind, reference::Reference};

use super::{Appeal, Outcome, TEXT_MAX};
use crate::{
    canonical,
    form::{fields, get},
    own,
    pages::{self, Appealed, Refusal},
    reply::{self, Answer},
    state::Shared,
    trace::Trace,
};

/// A refusal can be appealed against this long, milliseconds.
const APPEAL_MS: u64 = 24 * 3_600_000;
/// Who waits for a decision looks again after so long, seconds.
const LOOK_AGAIN_S: u64 = 60;

/// A refusal that can be appealed against: by a score, or by an operator's list.
pub fn offered(trace: &Trace, status: u16, reason: Reason) -> Answer {
    let code = reason.code();
    let reference = Reference::of(&trace.row);
    let (url, about) = (own::url(trace, "appeal"), about(trace, reference, code));
    match trace.intake.wants {
        Wants::Html => {
            let accept = trace.intake.accept_language.as_str();
            let page = pages::refused(accept, Refusal::Of(reason), &reply::quoted(code, reference), &url, &about);
            Answer::page(status, "refuse", code, page)
        }
        Wants::Json | Wants::Other => {
            let mut value = reply::problem_value(Some(reference), status, code, pages::in_english(Refusal::Of(reason)));
            value["appeal"] = json!({ "method": "POST", "url": url, "about": about });
            Answer::problem_of(status, "refuse", code, &value)
        }
    }
}

/// What an appeal is about, signed: the gate keeps nothing of a refusal.
fn about(trace: &Trace, reference: Reference, code: &str) -> String {
    let text = format!("{reference}:{:016x}:{code}:{}", trace.row.visitor, trace.started.wall_ms);
    format!("{text}:{:016x}", tag(trace, &text))
}

/// Only who was refused, with this program and from this network, can use it.
fn tag(trace: &Trace, text: &str) -> u64 {
    let mut h = trace.keyed(b"appeal");
    h.write(text.as_bytes());
    h.write_u64(trace.row.network);
    h.write_u64(trace.intake.fingerprint);
    h.finish()
}

/// The refusal a form is about; `None` when this gate did not refuse so, or a day ago.
fn read(trace: &Trace, about: &str, text: String) -> Option<Appeal> {
    let (signed, given) = about.rsplit_once(':')?;
    let good = subtle::ConstantTimeEq::ct_eq(format!("{:016x}", tag(trace, signed)).as_bytes(), given.as_bytes());
    if !bool::from(good) {
        return None;
    }
    let mut parts = signed.split(':').map(str::to_owned);
    let (reference, visitor, reason) = (parts.next()?, parts.next()?, parts.next()?);
    let at: u64 = parts.next()?.parse().ok()?;
    let now_ms = trace.started.wall_ms;
    let appeal = Appeal {
        reference,
        visitor,
        reason,
        at_unix_ms: now_ms,
        text,
        outcome: None,
        holder: String::new(),
        network: network(trace),
    };
    (now_ms.saturating_sub(at) <= APPEAL_MS).then_some(appeal)
}

/// Keyed hash of what counts as one network in a draw, too.
fn network(trace: &Trace) -> String {
    let mut h = trace.keyed(b"appeal network");
    h.write_u64(trace.intake.network().map_or(0, |n| n.subscriber()));
    format!("{:016x}", h.finish())
}

/// Answers `POST appeal`: `about` as it was given, `text`.
pub async fn take(shared: &Arc<Shared>, trace: &mut Trace, form: &[(String, String)]) -> Answer {
    trace.own(RowKind::Own, "own", Reason::Own);
    let text: String = get(form, "text").unwrap_or_default().trim().chars().filter(|c| !canonical::is_invisible(*c)).collect();
    if text.is_empty() || text.chars().count() > TEXT_MAX {
        return own::problem(400, "say in `text` why this is a mistake, in at most 500 characters");
    }
    let appeal = get(form, "about").and_then(|about| read(trace, about, text));
    let Some((appeal, holder)) = appeal.and_then(|a| Some((a, own::named(shared, trace)?))) else {
        return reply::failure(trace, 403, "own", Reason::Own.code(), Refusal::StaleChallenge);
    };
    let taken = shared.appeals.take(Appeal { holder: format!("{:016x}", holder.0), ..appeal }, &*shared.store);
    let (reference, kept) = match taken {
        Ok((reference, None)) => (reference, Ok(())),
        Ok((reference, Some(commit))) => (reference, commit.durable().await),
        Err(e) => return own::problem(503, &e.to_string()).with("retry-after", 3_600),
    };
    let url = format!("{}?reference={reference}", own::url(trace, "appeal"));
    if kept.is_err() {
        return reply::refusal(trace, 503, "refuse", Reason::NotKept)
            .with("retry-after", reply::retry_after(2, trace.intake.visitor));
    }
    match trace.intake.wants {
        Wants::Html => Answer::see(303, "own", Reason::Own.code(), url),
        _ => {
            let told = json!({ "state": "undecided", "reference": reference, "url": url, "poll_after_s": LOOK_AGAIN_S });
            Answer::json(202, "own", Reason::Own.code(), &told)
        }
    }
}

/// Answers `GET appeal?reference=…` to who made it.
pub fn outcome(shared: &Shared, trace: &mut Trace) -> Answer {
    let query = fields(trace.intake.query.as_deref().unwrap_or_default());
    let holder = trace.intake.visitor.filter(|_| trace.intake.visitor_by_cookie).map(|v| format!("{:016x}", v.0));
    let reference = get(&query, "reference").and_then(|r| r.parse::<Reference>().ok()).map(|r| r.to_string());
    let appeal = reference.and_then(|r| shared.appeals.of(&r)).filter(|a| Some(&a.holder) == holder.as_ref());
    let Some(appeal) = appeal else {
        return own::problem(404, "there is no appeal with this reference that was made with this browser");
    };
    let state = match &appeal.outcome {
        None => Appealed::Undecided,
        Some(Outcome { granted: true, .. }) => Appealed::Granted,
        Some(_) => Appealed::Rejected,
    };
    let say = appeal.outcome.map(|o| o.say).unwrap_or_default();
    let again = LOOK_AGAIN_S.to_string();
    let answer = match trace.intake.wants {
        Wants::Html => {
            let page = pages::appealed(trace.intake.accept_language.as_str(), state, &say, &appeal.reference);
            Answer::page(200, "own", Reason::Own.code(), page)
        }
        _ => Answer::json(
            200,
            "own",
            Reason::Own.code(),
            &json!({ "state": state.name(), "say": say, "reference": appeal.reference }),
        ),
    };
    if state == Appealed::Undecided { answer.with("refresh", &again).with("retry-after", again) } else { answer }
}
