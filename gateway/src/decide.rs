//! From a head to what is to be done: the one way of a visit through the filters, wherever its head was read. HTTP/1 is
//! decided in the door, so that an answer of our own never costs a proxy session; HTTP/2 in the proxy's first hook.

use tidegate_filters::{
    Bot, Decision, Pipeline, Reason, Score, Verdict,
    record::Kind,
    seats::{answer::Entered, room::Entrance},
    verdict::Notes,
};

use crate::{
    counts::HeadFault,
    door::{Facts, settings::Opening},
    head::Head,
    intake, known, own,
    reply::{self, Answer},
    state::{ScoreFacts, ScoreSource, Shared},
    trace::Trace,
};

/// What is to be done with a request.
pub enum Next {
    /// Answer it.
    Answer(Answer),
    /// Let it through to the shop.
    Forward(Entrance),
    /// Write an entry of a draw down, then give its ticket.
    Enter(Box<Entering>),
    /// A page of ours, by its name below the prefix, that takes a form or the disk.
    Own(String),
}

/// An entry that is not durable yet.
pub struct Entering {
    /// Index of the room.
    pub room: usize,
    /// The entry.
    pub entered: Entered,
    /// What is answered when it is durable.
    pub decision: Decision,
    /// Goes with it.
    pub notes: Notes,
}

/// A decided request on its way from the door to the proxy's hooks.
pub struct Decided {
    /// All that is known about it.
    pub trace: Box<Trace>,
    /// What is to be done.
    pub next: Next,
}

/// Decides. From here on there will be a row.
pub fn next(shared: &Shared, head: &Head<'_>, facts: Option<&Facts>, trace: &mut Trace) -> Next {
    let active = trace.active.clone();
    let keyring = shared.keyring.load();
    let cx = intake::Context {
        policy: &active.policy,
        keyring: &keyring,
        hash_key: shared.hash_key,
        counts: &shared.counts,
        // The address a PROXY header named, else the socket's peer.
        peer: facts.and_then(|f| f.client),
        tls: facts.is_some_and(|f| f.tls),
        hello: facts.map_or(0, |f| f.hello),
        manner: facts.map_or(0, Facts::manner),
        now: trace.started,
    };
    let mut intake = intake::read(head, &cx);
    trace.row.facts = known::find(shared, &active.pipeline, &head.fields, &mut intake, trace.started);
    trace.parsed(intake);
    trace.row.ja4 = facts.and_then(|f| f.ja4.clone());
    trace.row.h2 = facts.and_then(|f| f.h2.get()).map(Opening::shared);
    if let Some(port) = facts.and_then(|f| f.redirect) {
        return Next::Answer(redirect(trace, port));
    }
    if let Some(page) = trace.intake.path.strip_prefix(active.policy.own_prefix.as_str()).map(str::to_owned) {
        return own::at_once(shared, trace, &page).map_or(Next::Own(page), Next::Answer);
    }
    let (decision, notes) = decide(shared, &active.pipeline, head, facts, trace);
    let room = |index: usize| active.pipeline.rooms().get(index);
    match &decision.verdict {
        Verdict::Forward(entrance) => {
            // The seat is taken, whatever comes of the request: its pass goes with every answer.
            if let Entrance::Seated { room: index, seat } = *entrance
                && let Some(room) = room(index)
            {
                own::give_pass(shared, trace, room, seat, trace.started);
            }
            return Next::Forward(*entrance);
        }
        Verdict::Wait(w) if w.fresh => match (w.entry, w.place, room(w.room)) {
            (Some(entered), _, Some(_)) => {
                return Next::Enter(Box::new(Entering { room: w.room, entered, decision, notes }));
            }
            (None, Some(place), Some(room)) => own::give_ticket(shared, trace, room, place, trace.started),
            _ => own::give_visitor(shared, trace, trace.started),
        },
        _ => {}
    }
    Next::Answer(reply::of_decision(trace, &decision, &notes))
}

/// The filters: cheap ones, score, the rest.
fn decide(shared: &Shared, pipeline: &Pipeline, head: &Head<'_>, facts: Option<&Facts>, trace: &mut Trace) -> (Decision, Notes) {
    let mut notes = Notes::default();
    trace.routed(pipeline.routes().find(&trace.intake.host, &trace.intake.path, &trace.intake.method));
    let now = trace.started;
    let decision = pipeline.screen(&trace.intake.visit(trace.route), now, &mut notes).unwrap_or_else(|| {
        let score = score(shared, pipeline, head, facts, trace);
        pipeline.admit(&trace.intake.visit(trace.route), score, now, &mut notes)
    });
    if decision.reason == Reason::Unfiltered {
        // Who loads a page's pictures behaves like a person: unscored visits count for later scores.
        with_facts(shared, head, facts, trace, |scorer, facts| scorer.observe(&trace.intake.visit(trace.route), facts, now));
    }
    trace.decided(&decision, &notes);
    (decision, notes)
}

fn score(shared: &Shared, pipeline: &Pipeline, head: &Head<'_>, facts: Option<&Facts>, trace: &mut Trace) -> Score {
    let wanted = pipeline.scored_by(trace.route).filter(|_| trace.intake.known.bot != Bot::Good);
    let Some(gate) = wanted else { return Score::Unknown };
    let scored = with_facts(shared, head, facts, trace, |scorer, facts| {
        scorer.score(&trace.intake.visit(trace.route), facts, trace.started, gate.deadline.ms())
    });
    let score = scored.score;
    trace.scored(scored);
    score
}

/// Calls the scorer with what a score is made of besides the visit.
fn with_facts<T>(
    shared: &Shared,
    head: &Head<'_>,
    facts: Option<&Facts>,
    trace: &Trace,
    f: impl FnOnce(&dyn ScoreSource, &ScoreFacts<'_>) -> T,
) -> T {
    let facts = ScoreFacts {
        fields: &head.fields,
        http2: head.version == http::Version::HTTP_2,
        tls: facts.is_some_and(|f| f.tls),
        manner: facts.map_or(0, Facts::manner),
        network: trace.row.network,
        body_bytes: head.body_bytes(),
    };
    f(&*shared.scorer.load().0, &facts)
}

/// To the same place on https.
fn redirect(trace: &mut Trace, port: u16) -> Answer {
    trace.own(Kind::Own, "own", Reason::Redirect);
    if trace.intake.host.is_empty() {
        return Answer::problem(400, "own", HeadFault::NoHost.name(), "a redirect needs a Host");
    }
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let location = format!("https://{}{port}{}", trace.intake.host, trace.intake.target());
    Answer::see(308, "own", Reason::Redirect.code(), location)
}
