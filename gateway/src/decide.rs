//! From a head to what is to be done: the one way of a visit through the filters, wherever its head was read. HTTP/1 is
//! decided in the door, so that an answer of our own never costs a proxy session; HTTP/2 in the proxy's first hook.

use std::sync::Arc;

use tidegate_filters::{
    Bot, Decision, Pipeline, Reason, Score, Verdict,
    record::Kind,
    seats::{answer::Entered, room::Entrance},
    verdict::Notes,
};
use tidegate_models::scorer::Answer as Said;

use crate::{
    counts::HeadFault,
    door::{Facts, settings::Opening},
    head::Head,
    intake, known, own,
    repeated::Repeated,
    reply::{self, Answer},
    state::{Begun, Pending, ScoreFacts, Scored, ScorerSlot, Shared},
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

/// How far a request is.
pub enum Step {
    /// Decided.
    Next(Next),
    /// A device scores it.
    Scoring(Box<Scoring>),
}

/// A request whose score is on its way. What scores it stays, though a reload puts another one in its place.
pub struct Scoring {
    pending: Box<Pending>,
    scorer: Arc<ScorerSlot>,
    notes: Notes,
}

impl Scoring {
    /// Waits for the score, which comes or fails within what the bot gate says, and decides.
    pub async fn next(self, shared: &Shared, trace: &mut Trace) -> Next {
        let Scoring { mut pending, scorer, mut notes } = self;
        let answer = (&mut pending.ticket).await.unwrap_or(Said::Failed);
        let scored = scorer.0.finish(&pending, answer);
        let active = trace.active.clone();
        let decision = admit(&active.pipeline, Some(scored), trace, &mut notes);
        decided(shared, &active.pipeline, trace, decision, notes)
    }
}

/// Decides, or begins to. From here on there will be a row.
pub fn begin(shared: &Shared, head: &Head<'_>, facts: Option<&Facts>, trace: &mut Trace) -> Step {
    let active = trace.active.clone();
    let keyring = shared.keyring.load();
    let unknown = Repeated::default();
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
        repeated: facts.map_or(&unknown, |f| &f.repeated),
        now: trace.started,
    };
    let mut intake = intake::read(head, &cx);
    trace.row.facts = known::find(shared, &active.pipeline, &head.fields, &mut intake, trace.started);
    trace.parsed(intake);
    trace.row.ja4 = facts.and_then(|f| f.ja4.clone());
    trace.row.h2 = facts.and_then(|f| f.h2.get()).map(Opening::shared);
    if let Some(port) = facts.and_then(|f| f.redirect) {
        return Step::Next(Next::Answer(redirect(trace, port)));
    }
    if let Some(page) = trace.intake.path.strip_prefix(active.policy.own_prefix.as_str()).map(str::to_owned) {
        return Step::Next(own::at_once(shared, trace, &page).map_or(Next::Own(page), Next::Answer));
    }
    screen(shared, &active.pipeline, head, facts, trace)
}

/// The filters: cheap ones, score, the rest.
fn screen(shared: &Shared, pipeline: &Pipeline, head: &Head<'_>, facts: Option<&Facts>, trace: &mut Trace) -> Step {
    let (now, mut notes) = (trace.started, Notes::default());
    trace.routed(pipeline.routes().find(&trace.intake.host, &trace.intake.path, &trace.intake.method));
    let decision = match pipeline.screen(&trace.intake.visit(trace.route), now, &mut notes) {
        Some(decision) => decision,
        None => match score(shared, pipeline, head, facts, trace) {
            Ok(scored) => admit(pipeline, scored, trace, &mut notes),
            Err((pending, scorer)) => return Step::Scoring(Box::new(Scoring { pending, scorer, notes })),
        },
    };
    if decision.reason == Reason::Unfiltered {
        // Who loads a page's pictures behaves like a person: unscored visits count for later scores.
        with_facts(shared, head, facts, trace, |scorer, facts| scorer.0.observe(&trace.intake.visit(trace.route), facts, now));
    }
    Step::Next(decided(shared, pipeline, trace, decision, notes))
}

/// The filters behind the score; without one where none was asked for.
fn admit(pipeline: &Pipeline, scored: Option<Scored>, trace: &mut Trace, notes: &mut Notes) -> Decision {
    let score = scored.as_ref().map_or(Score::Unknown, |s| s.score);
    if let Some(scored) = scored {
        trace.scored(scored);
    }
    pipeline.admit(&trace.intake.visit(trace.route), score, trace.started, notes)
}

/// What a decision asks for.
fn decided(shared: &Shared, pipeline: &Pipeline, trace: &mut Trace, decision: Decision, notes: Notes) -> Next {
    trace.decided(&decision, &notes);
    let room = |index: usize| pipeline.rooms().get(index);
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

/// The score, or what will bring it.
fn score(
    shared: &Shared,
    pipeline: &Pipeline,
    head: &Head<'_>,
    facts: Option<&Facts>,
    trace: &Trace,
) -> Result<Option<Scored>, (Box<Pending>, Arc<ScorerSlot>)> {
    let wanted = pipeline.scored_by(trace.route).filter(|_| trace.intake.known.bot != Bot::Good);
    let Some(gate) = wanted else { return Ok(None) };
    with_facts(shared, head, facts, trace, |scorer, facts| {
        match scorer.0.begin(&trace.intake.visit(trace.route), facts, trace.started, gate.deadline.ms()) {
            Begun::Ready(scored) => Ok(Some(scored)),
            Begun::Pending(pending) => Err((pending, scorer.clone())),
        }
    })
}

/// Calls the scorer with what a score is made of besides the visit.
fn with_facts<T>(
    shared: &Shared,
    head: &Head<'_>,
    facts: Option<&Facts>,
    trace: &Trace,
    f: impl FnOnce(&Arc<ScorerSlot>, &ScoreFacts<'_>) -> T,
) -> T {
    let unknown = Repeated::default();
    let facts = ScoreFacts {
        fields: &head.fields,
        repeated: facts.map_or(&unknown, |f| &f.repeated),
        http2: head.version == http::Version::HTTP_2,
        tls: facts.is_some_and(|f| f.tls),
        manner: facts.map_or(0, Facts::manner),
        network: trace.row.network,
        body_bytes: head.body_bytes(),
    };
    f(&shared.scorer.load(), &facts)
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
