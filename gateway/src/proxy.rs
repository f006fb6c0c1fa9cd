//! Pingora's hooks, in the order a request meets them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::header;
use pingora::{
    Error, ErrorSource, ErrorType,
    http::{RequestHeader, ResponseHeader},
    modules::http::HttpModules,
    prelude::HttpPeer,
    proxy::{FailToProxy, ProxyHttp, Session},
};
use tidegate_filters::{Decision, Filter, Reason, Score, Verdict, seats::room::Entrance, verdict::Notes};

use crate::{
    counts::HeadFault,
    door::{BODY_SILENCE_MAX, Facts},
    draw,
    failure::Failure,
    forward,
    in_flight::Permit,
    intake, own,
    reply::{self, Answer},
    sales::{self, HOLD_HEADER},
    state::{ScoreFacts, ScoreSource, Shared},
    trace::Trace,
};

/// A body slower than the policy's rate is cut off, but not in its first moments.
const BODY_RATE_GRACE_MS: u64 = 5_000;

/// One gate behind Pingora's hooks.
pub struct Gate {
    shared: Arc<Shared>,
}

impl Gate {
    /// Over the gate's state.
    pub fn new(shared: Arc<Shared>) -> Self {
        Gate { shared }
    }

    /// Head → visit. `false`: refused and answered.
    async fn take_in(&self, session: &mut Session, trace: &mut Trace) -> pingora::Result<bool> {
        let facts = Facts::of(session);
        let (tls, hello) = facts.map_or((false, 0), |f| (f.tls, f.hello));
        let keyring = self.shared.keyring.load();
        let cx = intake::Context {
            policy: &trace.active.policy,
            keyring: &keyring,
            hash_key: self.shared.hash_key,
            counts: &self.shared.counts,
            // The address a PROXY header named, else the socket's peer.
            peer: facts.and_then(|f| f.client),
            tls,
            hello,
            now: trace.started,
        };
        let head = session.req_header();
        match intake::read(head, head.raw_path(), &cx) {
            Ok(intake) => {
                trace.parsed(intake);
                Ok(true)
            }
            Err(fault) => {
                self.shared.counts.head(fault);
                let answer =
                    Answer::problem(reply::head_status(fault), "refuse", fault.name(), "the request is not acceptable HTTP");
                session.set_keepalive(None);
                reply::send(session, trace, answer).await?;
                Ok(false)
            }
        }
    }

    /// The filters: cheap ones, score, the rest.
    fn decide(&self, session: &Session, trace: &mut Trace) -> (Decision, Notes) {
        let active = trace.active.clone();
        let pipeline = &active.pipeline;
        let mut notes = Notes::default();
        trace.routed(pipeline.routes().find(&trace.intake.host, &trace.intake.path, &trace.intake.method));
        let now = trace.started;
        let decision = pipeline.screen(&trace.intake.visit(trace.route), now, &mut notes).unwrap_or_else(|| {
            let score = self.score(session, trace);
            pipeline.admit(&trace.intake.visit(trace.route), score, now, &mut notes)
        });
        if decision.reason == Reason::Unfiltered {
            // Who loads a page's pictures behaves like a person: unscored visits count for later scores.
            self.with_facts(session, trace, |scorer, facts| scorer.observe(&trace.intake.visit(trace.route), facts, now));
        }
        trace.decided(&decision, &notes);
        (decision, notes)
    }

    fn score(&self, session: &Session, trace: &mut Trace) -> Score {
        let active = trace.active.clone();
        let Some(gate) = active.pipeline.scored_by(trace.route) else { return Score::Unknown };
        let scored = self.with_facts(session, trace, |scorer, facts| {
            scorer.score(&trace.intake.visit(trace.route), facts, trace.started, gate.deadline.ms())
        });
        let score = scored.score;
        trace.scored(scored);
        score
    }

    /// Calls the scorer with what a score is made of besides the visit.
    fn with_facts<T>(&self, session: &Session, trace: &Trace, f: impl FnOnce(&dyn ScoreSource, &ScoreFacts<'_>) -> T) -> T {
        let facts = Facts::of(session);
        let target = trace.intake.target();
        let facts = ScoreFacts {
            headers: &session.req_header().headers,
            target: &target,
            http2: session.is_http2(),
            tls: facts.is_some_and(|f| f.tls),
            fingerprint: trace.intake.fingerprint,
            hello: facts.map_or(0, |f| f.hello),
            network: trace.row.network,
            body_bytes: content_length(session),
            earlier_on_connection: facts.map_or(0, |f| f.requests.load(std::sync::atomic::Ordering::Relaxed).saturating_sub(1)),
        };
        f(&*self.shared.scorer.load().0, &facts)
    }

    /// Permits for the shop: first the route's own limit, then the one of all.
    async fn permits(&self, trace: &Trace) -> Option<Vec<Permit>> {
        let wait_max = Duration::from_millis(trace.active.policy.shop.in_flight.wait_max.ms());
        let deadline = tokio::time::Instant::now() + wait_max;
        let left = || deadline.saturating_duration_since(tokio::time::Instant::now());
        let mut permits = Vec::with_capacity(2);
        if let Some(limit) = trace.route.and_then(|r| trace.active.route_limits.get(r)).and_then(Option::as_ref) {
            permits.push(limit.acquire(left()).await.ok()?);
        }
        permits.push(self.shared.in_flight.acquire(left()).await.ok()?);
        Some(permits)
    }

    /// On its way to the shop. `true`: it could not go and was answered.
    async fn forward(&self, session: &mut Session, trace: &mut Trace, entrance: Entrance) -> pingora::Result<bool> {
        // The seat is taken, whatever comes of the request: its pass goes with every answer.
        if let Entrance::Seated { room, seat } = entrance
            && let Some(room) = trace.active.clone().pipeline.rooms().get(room)
        {
            own::give_pass(&self.shared, trace, room, seat, trace.started);
        }
        let body_max = trace.active.policy.limits_of_a_request.body_bytes.0;
        if content_length(session).is_some_and(|n| n > body_max) {
            return self.cannot(session, trace, 413, Reason::BodyTooLarge).await;
        }
        if !trace.active.upstreams.any_healthy() {
            return self.cannot(session, trace, 503, Reason::ShopDown).await;
        }
        match self.permits(trace).await {
            Some(permits) => {
                trace.may_forward(permits, self.shared.clock.now());
                Ok(false)
            }
            None => self.cannot(session, trace, 503, Reason::ShopBusy).await,
        }
    }

    async fn cannot(&self, session: &mut Session, trace: &mut Trace, status: u16, reason: Reason) -> pingora::Result<bool> {
        trace.own(trace.row.kind, "refuse", reason);
        let answer = reply::refusal(trace, status, "refuse", reason);
        let answer = match status {
            503 => answer.with("retry-after", reply::retry_after(2, trace.intake.visitor)),
            _ => answer,
        };
        reply::send(session, trace, answer).await?;
        Ok(true)
    }

    /// Units sold by a request that held none.
    fn sold(&self, trace: &Trace, units: u32) {
        let pipeline = &trace.active.pipeline;
        let room = match trace.entrance {
            Some(Entrance::Inside { room, .. } | Entrance::Seated { room, .. }) => Some(room),
            _ => pipeline.filters().find_map(|(f, _)| match f {
                Filter::WaitingRoom { room, routes } if routes.is_empty() || trace.route.is_some_and(|r| routes.contains(&r)) => {
                    Some(*room)
                }
                _ => None,
            }),
        };
        // A checkout outside every room still sells from the only sale there is.
        let only = (pipeline.rooms().len() == 1).then_some(0);
        if let Some(room) = room.or(only).and_then(|r| pipeline.rooms().get(r)) {
            room.sold(units, self.shared.clock.now());
        }
    }

    fn too_old(&self, trace: &Trace) -> pingora::Result<()> {
        if trace.age_ms() > trace.active.policy.limits_of_a_request.request_deadline.ms() {
            return Error::e_explain(
                ErrorType::Custom("RequestDeadline"),
                "the whole request took longer than the policy allows",
            );
        }
        Ok(())
    }
}

#[async_trait]
impl ProxyHttp for Gate {
    type CTX = Trace;

    fn new_ctx(&self) -> Trace {
        Trace::new(self.shared.clone())
    }

    /// No compression, no modules: the shop's bytes go through as they are.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, trace: &mut Trace) -> pingora::Result<bool> {
        if let Some(facts) = Facts::of(session) {
            facts.one_more();
        }
        if session.is_http2() {
            session.set_write_timeout(Some(BODY_SILENCE_MAX));
        }
        if !self.take_in(session, trace).await? {
            return Ok(true);
        }
        if Facts::of(session).is_some_and(|f| f.redirect) {
            return redirect(session, trace).await;
        }
        let active = trace.active.clone();
        if let Some(page) = trace.intake.path.strip_prefix(active.policy.own_prefix.as_str()).map(str::to_owned) {
            own::answer(&self.shared, session, trace, &page).await?;
            return Ok(true);
        }
        let (decision, notes) = self.decide(session, trace);
        let decision = match sales::hold(session, trace, decision, &notes).await {
            Ok(decision) => decision,
            Err((status, reason)) => return self.cannot(session, trace, status, reason).await,
        };
        if let Verdict::Forward(entrance) = decision.verdict {
            return self.forward(session, trace, entrance).await;
        }
        if let Verdict::Wait(w) = &decision.verdict
            && let (true, Some(room)) = (w.fresh, active.pipeline.rooms().get(w.room))
        {
            let now = trace.started;
            match (w.entry, w.place) {
                (Some(entered), _) => {
                    if entered.fresh && draw::enter(&self.shared, &active, w.room, entered, now).await.is_err() {
                        return self.cannot(session, trace, 503, Reason::NotKept).await;
                    }
                    own::give_entry_ticket(&self.shared, trace, room, entered.entry, now);
                }
                (None, Some(place)) => own::give_ticket(&self.shared, trace, room, place, now),
                (None, None) => own::give_visitor(&self.shared, trace, now),
            }
        }
        let answer = reply::of_decision(trace, &decision, &notes);
        reply::send(session, trace, answer).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, trace: &mut Trace) -> pingora::Result<Box<HttpPeer>> {
        match trace.active.upstreams.pick(trace.avoid) {
            Some(server) => {
                trace.avoid = Some(server.address());
                Ok(Box::new(server.peer()))
            }
            None => Error::e_explain(ErrorType::Custom("ShopDown"), "no upstream is healthy"),
        }
    }

    /// Nothing was sent: another server may be asked, whatever the method. `max_retries` bounds it.
    fn fail_to_connect(&self, _: &mut Session, _: &HttpPeer, _: &mut Trace, mut e: Box<Error>) -> Box<Error> {
        e.set_retry(true);
        e
    }

    /// Something was sent: again only where asking twice is the same as asking once.
    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        e: Box<Error>,
        _: &mut Trace,
        reused: bool,
    ) -> Box<Error> {
        let mut e = e.more_context(format!("Peer: {peer}"));
        let safe = session.req_header().method.is_safe() && !session.as_ref().retry_buffer_truncated();
        if safe && session.response_written().is_none() {
            e.retry.decide_reuse(reused);
        } else {
            e.set_retry(false);
        }
        e
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        to_shop: &mut RequestHeader,
        trace: &mut Trace,
    ) -> pingora::Result<()> {
        forward::request(to_shop, &trace.intake, &trace.active.policy.shop.host_header)?;
        if let Some(hold) = trace.sends_hold() {
            to_shop.insert_header(HOLD_HEADER, hold)?;
            // Its body is here already.
            to_shop.remove_header(&header::EXPECT);
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        trace: &mut Trace,
    ) -> pingora::Result<()> {
        let limits = trace.active.policy.limits_of_a_request;
        trace.body_bytes += body.as_ref().map_or(0, Bytes::len) as u64;
        if trace.body_bytes > limits.body_bytes.0 {
            trace.row.reason = Some(Reason::BodyTooLarge);
            return Error::e_explain(ErrorType::HTTPStatus(413), "the body is larger than the policy allows");
        }
        let age_ms = trace.age_ms().saturating_sub(u64::from(trace.row.queued_us) / 1_000);
        if age_ms > BODY_RATE_GRACE_MS && trace.body_bytes * 1_000 < limits.body_min_rate.0 * (age_ms - BODY_RATE_GRACE_MS) {
            return Error::e_explain(ErrorType::HTTPStatus(408), "the body comes slower than the policy allows");
        }
        self.too_old(trace)
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        from_shop: &mut ResponseHeader,
        trace: &mut Trace,
    ) -> pingora::Result<()> {
        if from_shop.status.is_informational() {
            return Ok(());
        }
        trace.shop_answered(from_shop.status.is_server_error(), false);
        let active = trace.active.clone();
        let word = sales::read(from_shop, active.policy.shop.reports_sales_by.as_ref(), &trace.row.route);
        if !trace.shop_says(word) && word.sold() > 0 {
            self.sold(trace, word.sold());
        }
        forward::response(from_shop)
    }

    fn upstream_response_body_filter(
        &self,
        _: &mut Session,
        _: &mut Option<Bytes>,
        end: bool,
        trace: &mut Trace,
    ) -> pingora::Result<Option<Duration>> {
        if end {
            trace.shop_done();
        }
        self.too_old(trace)?;
        Ok(None)
    }

    async fn response_filter(&self, _: &mut Session, answer: &mut ResponseHeader, trace: &mut Trace) -> pingora::Result<()> {
        if answer.status.is_informational() {
            return Ok(());
        }
        forward::set_cookies(answer, &trace.cookies)
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, trace: &mut Trace) -> FailToProxy {
        let failure = Failure::of(e);
        let Failure { status, reason, timeout } = failure;
        if *e.esource() == ErrorSource::Upstream {
            trace.shop_answered(true, timeout);
            if status == 502 {
                self.shared.counts.shop_rubbish.add();
            }
        }
        trace.shop_done();
        let nobody_there = *e.esource() == ErrorSource::Downstream && status == 0;
        if nobody_there || session.response_written().is_some_and(|r| !r.status.is_informational()) {
            return FailToProxy { error_code: status, can_reuse_downstream: false };
        }
        let answer = failure.answer(trace);
        trace.own(trace.row.kind, "refuse", reason);
        session.set_keepalive(None);
        let _ = reply::send(session, trace, answer).await;
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, trace: &mut Trace) {
        if let Some(e) = e {
            tracing::debug!(error = %e, path = %trace.intake.path, "request failed");
        }
        let status = session.response_written().map_or(0, |r| r.status.as_u16());
        trace.finish(status, session.body_bytes_sent() as u64);
    }

    /// Ours is written above, at debug: a client that goes away is no error of the gate.
    fn suppress_error_log(&self, _: &Session, _: &Trace, _: &Error) -> bool {
        true
    }
}

fn content_length(session: &Session) -> Option<u64> {
    session.req_header().headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// To the same place on https, port 443.
async fn redirect(session: &mut Session, trace: &mut Trace) -> pingora::Result<bool> {
    trace.own(tidegate_filters::record::Kind::Own, "own", Reason::Redirect);
    let answer = match trace.intake.host.is_empty() {
        true => Answer::problem(400, "own", HeadFault::NoHost.name(), "a redirect needs a Host"),
        false => {
            let location = format!("https://{}{}", trace.intake.host, trace.intake.target());
            Answer::see(308, "own", Reason::Redirect.code(), location)
        }
    };
    reply::send(session, trace, answer).await?;
    Ok(true)
}
