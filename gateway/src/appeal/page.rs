//! What a refused visitor sees of appeals: the form, and what became of it.

use std::{hash::Hasher as _, sync::Arc};

use serde_json::json;
use siphasher::sip::SipHasher13;
use tidegate_filters::{Reason, Wants, record::Kind as RowKind, reference::Reference, seats::token::Kind};

use super::{Appeal, AppealError, Outcome, TEXT_MAX};
use crate::{
    canonical,
    own::{self, get},
    pages::{self, Appealed, Refusal},
    reply::{self, Answer},
    state::Shared,
    trace::Trace,
};

/// A granted appeal lifts scores this long, milliseconds.
const GRANT_MS: u64 = 24 * 3_600_000;
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
    let row = &trace.row;
    let score = if row.score.is_nan() { String::new() } else { row.score.to_string() };
    let text = format!("{reference}:{:016x}:{code}:{score}:{}", row.visitor, trace.started.wall_ms);
    format!("{text}:{:016x}", tag(trace, &text))
}

fn tag(trace: &Trace, text: &str) -> u64 {
    let (k0, k1) = trace.proof_key();
    let mut h = SipHasher13::new_with_keys(k0, k1);
    h.write(b"appeal");
    h.write(text.as_bytes());
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
    let score = parts.next()?.parse().ok();
    let at: u64 = parts.next()?.parse().ok()?;
    let now_ms = trace.started.wall_ms;
    let appeal = Appeal {
        reference,
        visitor,
        reason,
        score,
        at_unix_ms: now_ms,
        text,
        outcome: None,
        holder: String::new(),
        network: format!("{:016x}", trace.row.network),
    };
    (now_ms.saturating_sub(at) <= APPEAL_MS).then_some(appeal)
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
    let url = format!("{}?reference={}", own::url(trace, "appeal"), appeal.reference);
    let reference = appeal.reference.clone();
    let taken = shared.appeals.take(Appeal { holder: format!("{:016x}", holder.0), ..appeal }, &*shared.store);
    let kept = match taken {
        Ok(None) => Ok(()),
        Ok(Some(commit)) => commit.durable().await,
        Err(e @ (AppealError::Full | AppealError::NetworkFull | AppealError::Unknown)) => {
            return own::problem(503, &e.to_string()).with("retry-after", 3_600);
        }
    };
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

/// Answers `GET appeal?reference=…` to who made it; a granted one lifts scores from here on.
pub fn outcome(shared: &Shared, trace: &mut Trace) -> Answer {
    let query = own::fields(trace.intake.query.as_deref().unwrap_or_default());
    let holder = trace.intake.visitor.filter(|_| trace.intake.visitor_by_cookie).map(|v| format!("{:016x}", v.0));
    let appeal = get(&query, "reference").and_then(|r| shared.appeals.of(r)).filter(|a| Some(&a.holder) == holder.as_ref());
    let Some(appeal) = appeal else {
        return own::problem(404, "there is no appeal with this reference that was made with this browser");
    };
    if let (Some(Outcome { granted: true, .. }), Some(visitor)) = (&appeal.outcome, trace.intake.visitor) {
        let token = own::gate_token(trace, Kind::Grant, visitor.0, GRANT_MS, shared.clock.now());
        trace.cookies.push(own::cookie(shared, trace.intake.https, "grant", &token));
    }
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
