//! Pingora's hooks, in the order a request meets them.

use std::{any::Any, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Version, header};
use pingora::{
    Error, ErrorSource, ErrorType,
    http::{RequestHeader, ResponseHeader},
    modules::http::HttpModules,
    prelude::HttpPeer,
    proxy::{FailToProxy, ProxyHttp, Session},
};
use tidegate_filters::{Filter, Reason, seats::room::Entrance};

use crate::{
    apart, body,
    counts::HeadFault,
    decide::{self, Decided, Entering, Next, Step},
    door::{BODY_SILENCE_MAX, Facts},
    draw,
    failure::Failure,
    forward,
    head::Head,
    in_flight::Permit,
    own,
    reply::{self, Answer},
    sales::{self, HOLD_HEADER},
    state::Shared,
    trace::Trace,
};

/// One gate behind Pingora's hooks.
pub struct Gate {
    shared: Arc<Shared>,
}

impl Gate {
    /// Over the gate's state.
    pub fn new(shared: Arc<Shared>) -> Self {
        Gate { shared }
    }

    /// Reads and decides a request that the door has not: HTTP/2.
    fn decide(&self, session: &Session, trace: &mut Trace) -> Result<Step, HeadFault> {
        let request = session.req_header();
        let head = Head::http2(request, request.raw_path(), &trace.active.policy.limits_of_a_request)?;
        Ok(decide::begin(&self.shared, &head, Facts::of(session), trace))
    }

    async fn refuse(&self, session: &mut Session, trace: &Trace, fault: HeadFault) -> pingora::Result<bool> {
        self.shared.counts.head(fault);
        let status = reply::head_status(fault);
        let answer = Answer::problem(status, "refuse", fault.name(), "the request is not acceptable HTTP");
        session.set_keepalive(None);
        reply::send(session, trace, answer).await?;
        Ok(true)
    }

    /// Permits for the shop: first the route's own limit, then the one of all.
    async fn permits(&self, trace: &Trace) -> Option<[Option<Permit>; 2]> {
        let wait_max = Duration::from_millis(trace.active.policy.shop.in_flight.wait_max.ms());
        let owner = trace.owner();
        let Some(route) = trace.route.and_then(|r| trace.active.route_limits.get(r)).and_then(Option::as_ref) else {
            return Some([None, Some(self.shared.in_flight.acquire(owner, wait_max).await.ok()?)]);
        };
        let deadline = tokio::time::Instant::now() + wait_max;
        let first = route.acquire(owner, wait_max).await.ok()?;
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        Some([Some(first), Some(self.shared.in_flight.acquire(owner, left).await.ok()?)])
    }

    /// On its way to the shop. `true`: it could not go and was answered.
    async fn forward(&self, session: &mut Session, trace: &mut Trace, entrance: Entrance) -> pingora::Result<bool> {
        if let Entrance::Seated { room, seat } = entrance
            && let Some(room) = trace.active.clone().pipeline.rooms().get(room)
            && !self.shared.keep_seat(room, seat).await
        {
            trace.unseated();
            return self.cannot(session, trace, 503, Reason::RoomDown).await;
        }
        let body_max = trace.active.policy.limits_of_a_request.body_bytes.0;
        if content_length(session).is_some_and(|n| n > body_max) {
            return self.cannot(session, trace, 413, Reason::BodyTooLarge).await;
        }
        if !trace.active.upstreams.any_healthy() {
            return self.cannot(session, trace, 503, Reason::ShopDown).await;
        }
        if let Some((status, reason)) = self.whole(session, trace).await? {
            session.set_keepalive(None);
            return self.cannot(session, trace, status, reason).await;
        }
        match sales::hold(&self.shared, session, trace).await {
            Ok(None) => {}
            Ok(Some(answer)) => {
                reply::send(session, trace, answer).await?;
                return Ok(true);
            }
            Err((status, reason)) => return self.cannot(session, trace, status, reason).await,
        }
        match self.permits(trace).await {
            Some(permits) => {
                trace.may_forward(permits);
                Ok(false)
            }
            None => self.cannot(session, trace, 503, Reason::ShopBusy).await,
        }
    }

    /// The body before anything scarce is taken for it. `Some`: it cannot be had, and that is the answer.
    async fn whole(&self, session: &mut Session, trace: &mut Trace) -> pingora::Result<Option<(u16, Reason)>> {
        let active = trace.active.clone();
        let limited = trace.route.and_then(|r| active.route_limits.get(r)).is_some_and(Option::is_some);
        let sells = trace.route.and_then(|r| active.pipeline.routes().get(r)).is_some_and(|r| r.needs.is_some());
        let length = content_length(session);
        if let Err(fault) = body::ahead(session, trace, length, limited || sells).await {
            return match fault.answer() {
                None => Error::e_explain(ErrorType::ConnectionClosed, "the client went away while it sent the body"),
                answer => Ok(answer),
            };
        }
        trace.uploading = !session.is_body_done();
        Ok(None)
    }

    /// An entry of a draw is durable before its ticket is answered.
    async fn enter(&self, session: &mut Session, trace: &mut Trace, entering: Entering) -> pingora::Result<bool> {
        let Entering { room: index, entered, decision, notes } = entering;
        let (active, now) = (trace.active.clone(), trace.started);
        if entered.fresh && draw::enter(&self.shared, &active, index, entered, now).await.is_err() {
            return self.cannot(session, trace, 503, Reason::NotKept).await;
        }
        if let Some(room) = active.pipeline.rooms().get(index) {
            own::give_entry_ticket(&self.shared, trace, room, entered.entry, now);
        }
        let answer = reply::of_decision(trace, &decision, &notes);
        reply::send(session, trace, answer).await?;
        Ok(true)
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
    /// `None` until the request is decided: by the door, or in `request_filter`.
    type CTX = Option<Box<Trace>>;

    fn new_ctx(&self) -> Self::CTX {
        None
    }

    /// No compression, no modules: the shop's bytes go through as they are.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    /// Only for a request that goes to the shop apart from its stream.
    fn allow_spawning_subrequest(&self, session: &Session, _: &Self::CTX) -> bool {
        session.is_http2()
    }

    async fn request_filter(&self, session: &mut Session, cx: &mut Self::CTX) -> pingora::Result<bool> {
        if let Some(trace) = apart::taken(session) {
            // Decided, with everything that it takes in its hands.
            *cx = Some(trace);
            return Ok(false);
        }
        if session.is_http2() {
            session.set_write_timeout(Some(BODY_SILENCE_MAX));
        }
        let trace = cx.get_or_insert_with(|| Trace::new(self.shared.clone()));
        let next = match trace.next.take() {
            Some(next) => next,
            None => match self.decide(session, trace) {
                Ok(Step::Next(next)) => next,
                Ok(Step::Scoring(scoring)) => scoring.next(&self.shared, trace).await,
                Err(fault) => return self.refuse(session, trace, fault).await,
            },
        };
        match next {
            Next::Forward(entrance) => {
                let done = self.forward(session, trace, entrance).await?;
                if done || !trace.has_unit() || !session.is_http2() {
                    return Ok(done);
                }
                return apart::forward(session, cx).await;
            }
            Next::Answer(answer) => reply::send(session, trace, answer).await?,
            Next::Enter(entering) => return self.enter(session, trace, *entering).await,
            Next::Own(page) => own::answer(&self.shared, session, trace, &page).await?,
        }
        Ok(true)
    }

    /// What the door has decided takes the place of what nobody knows yet.
    fn on_connection_reuse(&self, _: &mut Session, cx: &mut Self::CTX, decided: Box<dyn Any + Send + Sync>) {
        if let Ok(decided) = decided.downcast::<Decided>() {
            let Decided { mut trace, next } = *decided;
            trace.next = Some(next);
            *cx = Some(trace);
        }
    }

    async fn upstream_peer(&self, _: &mut Session, cx: &mut Self::CTX) -> pingora::Result<Box<HttpPeer>> {
        let trace = decided(cx)?;
        match trace.active.upstreams.pick(trace.avoid) {
            Some(server) => {
                trace.avoid = Some(server.address());
                Ok(Box::new(server.peer()))
            }
            None => Error::e_explain(ErrorType::Custom("ShopDown"), "no upstream is healthy"),
        }
    }

    /// Nothing was sent: another server may be asked, whatever the method. `max_retries` bounds it.
    fn fail_to_connect(&self, _: &mut Session, _: &HttpPeer, _: &mut Self::CTX, mut e: Box<Error>) -> Box<Error> {
        e.set_retry(true);
        e
    }

    /// Something was sent: again only where asking twice is the same as asking once.
    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        e: Box<Error>,
        _: &mut Self::CTX,
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
        cx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        let trace = decided(cx)?;
        forward::request(to_shop, &trace.intake, &trace.active.policy.shop, trace.avoid)?;
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
        end: bool,
        cx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        let trace = decided(cx)?;
        if !trace.ahead.is_empty() {
            let ahead = std::mem::take(&mut trace.ahead);
            *body = Some([&ahead[..], body.as_deref().unwrap_or_default()].concat().into());
        }
        let limits = trace.active.policy.limits_of_a_request;
        trace.body_bytes += body.as_ref().map_or(0, Bytes::len) as u64;
        if trace.body_bytes > limits.body_bytes.0 {
            trace.row.reason = Some(Reason::BodyTooLarge);
            return Error::e_explain(ErrorType::HTTPStatus(413), "the body is larger than the policy allows");
        }
        if end {
            trace.asked();
        } else {
            let held_ms = trace.held_ms();
            let wanted = body::RATE_AT_SHOP.max(limits.body_min_rate.0);
            if held_ms > body::RATE_GRACE_MS && trace.body_bytes * 1_000 < wanted * (held_ms - body::RATE_GRACE_MS) {
                return Error::e_explain(ErrorType::HTTPStatus(408), "a body that occupies the shop comes too slowly");
            }
        }
        self.too_old(trace)
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        from_shop: &mut ResponseHeader,
        cx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        if from_shop.status == http::StatusCode::SWITCHING_PROTOCOLS {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "the shop switches protocols and nobody asked it to")
                .map_err(|e: Box<Error>| e.into_up());
        }
        if from_shop.status.is_informational() {
            return Ok(());
        }
        let trace = decided(cx)?;
        trace.shop_answered(from_shop.status.is_server_error(), false);
        let word = sales::read(from_shop, trace.active.policy.shop.reports_sales_by.as_ref(), &trace.row.route);
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
        cx: &mut Self::CTX,
    ) -> pingora::Result<Option<Duration>> {
        let trace = decided(cx)?;
        if end {
            trace.shop_done();
        }
        self.too_old(trace)?;
        Ok(None)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        cx: &mut Self::CTX,
    ) -> pingora::Result<()> {
        if answer.status.is_informational() {
            return Ok(());
        }
        // HTTP/1.0 knows no chunks: such a body ends with its connection.
        if session.req_header().version <= Version::HTTP_10 && answer.remove_header(&header::TRANSFER_ENCODING).is_some() {
            session.set_keepalive(None);
        }
        if self.shared.is_stopping() {
            session.set_keepalive(None);
        }
        forward::set_cookies(answer, &decided(cx)?.cookies)
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, cx: &mut Self::CTX) -> FailToProxy {
        let mut failure = Failure::of(e);
        let Ok(trace) = decided(cx) else { return FailToProxy { error_code: failure.status, can_reuse_downstream: false } };
        // The shop waited for a body that did not come: not its fault.
        let stalled = trace.uploading && failure.timeout;
        if stalled {
            failure = Failure { status: 408, reason: Reason::BadRequest, timeout: false };
        }
        let Failure { status, reason, timeout } = failure;
        if *e.esource() == ErrorSource::Upstream && !stalled {
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

    async fn logging(&self, session: &mut Session, e: Option<&Error>, cx: &mut Self::CTX) {
        let Some(trace) = cx else { return };
        if let Some(e) = e {
            tracing::debug!(error = %e, path = %trace.intake.path, "request failed");
        }
        let status = session.response_written().map_or(0, |r| r.status.as_u16());
        trace.finish(status, session.body_bytes_sent() as u64);
    }

    /// Ours is written above, at debug: a client that goes away is no error of the gate.
    fn suppress_error_log(&self, _: &Session, _: &Self::CTX, _: &Error) -> bool {
        true
    }
}

/// What is known about the request; there always is something after `request_filter`.
fn decided(cx: &mut Option<Box<Trace>>) -> pingora::Result<&mut Trace> {
    match cx {
        Some(trace) => Ok(trace),
        None => Error::e_explain(ErrorType::InternalError, "the request was never decided"),
    }
}

fn content_length(session: &Session) -> Option<u64> {
    session.req_header().headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
