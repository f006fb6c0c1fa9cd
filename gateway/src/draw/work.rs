//! An entry above a quota, for who has done the work that was asked for.

use std::sync::Arc;

use serde_json::json;
use tidegate_filters::{Reason, Wants};

use super::enter::enter;
use crate::{
    form::{destination, get},
    own,
    reply::{self, Answer},
    state::Shared,
    trace::Trace,
};

/// Answers `POST work`: `room`, `answer` (a decimal number), `to`.
pub async fn work(shared: &Arc<Shared>, trace: &mut Trace, form: &[(String, String)]) -> Answer {
    let active = trace.active.clone();
    let index = own::room_index(trace, get(form, "room"));
    let Some((index, room)) = index.and_then(|i| Some((i, active.pipeline.rooms().get(i)?))) else {
        return own::problem(404, "no room has this name");
    };
    trace.room(index);
    let html = trace.intake.wants == Wants::Html;
    let back = destination(get(form, "to"));
    let now = shared.clock.now();
    let answer = get(form, "answer").and_then(|n| n.parse().ok());
    let entered = answer.and_then(|n| room.enter_with_work(&trace.intake.visit(None), n, now)).and_then(|w| w.entry);
    let Some(entered) = entered else {
        // The page says what is asked for now, and a list that is closed asks for nothing.
        let wrong = "no answer to the work that `work.challenge` asks for, or the list is closed: ask for your place again";
        return if html { Answer::see(303, "own", Reason::Own.code(), back) } else { own::problem(409, wrong) };
    };
    if entered.fresh && enter(shared, &active, index, entered, now).await.is_err() {
        let refused = reply::refusal(trace, 503, "refuse", Reason::NotKept);
        return refused.with("retry-after", reply::retry_after(2, trace.intake.visitor));
    }
    own::give_entry_ticket(shared, trace, room, entered.entry, now);
    match html {
        true => Answer::see(303, "own", Reason::Own.code(), back),
        false => {
            let entry = json!({ "number": entered.entry.index, "receipt_url": own::url(trace, "receipt") });
            Answer::json(200, "own", Reason::Own.code(), &json!({ "state": "prequeue", "room": room.name(), "entry": entry }))
        }
    }
}
