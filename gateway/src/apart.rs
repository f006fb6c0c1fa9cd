//! A request over HTTP/2 that may sell goes to the shop apart from its stream. The proxy gives up on the shop as soon as an
//! HTTP/2 client is gone, and nobody would ever know about the unit; an HTTP/1 session can be told not to.

use http::{Version, header};
use pingora::{
    Error, ErrorType,
    protocols::http::HttpTask,
    proxy::{
        Session,
        subrequest::{BodyMode, Ctx},
    },
};

use crate::trace::Trace;

/// Sends the request on a task of its own and passes the answer on; the rest of the trace's life is there. `false`: nothing was
/// done, the proxy goes on as usual.
pub(crate) async fn forward(session: &mut Session, cx: &mut Option<Box<Trace>>) -> pingora::Result<bool> {
    // Its body is whole and remembered: a request that needs a unit is read before it takes one.
    let whole = !session.as_downstream().retry_buffer_truncated() && session.is_body_done();
    if !whole || session.subrequest_spawner.is_none() {
        return Ok(false);
    }
    let body = session.as_downstream().get_retry_buffer().filter(|b| !b.is_empty());
    // It goes on as an HTTP/1.1 request, and is read as one.
    let head = session.req_header_mut();
    head.set_version(Version::HTTP_11);
    head.insert_header(header::CONTENT_LENGTH, body.as_ref().map_or(0, |b| b.len()))?;
    if let Some(trace) = cx {
        head.insert_header(header::HOST, trace.intake.authority.as_str())?;
    }
    let Some(spawner) = &session.subrequest_spawner else { return Ok(false) };
    let mode = if body.is_some() { BodyMode::ExpectBody } else { BodyMode::NoBody };
    let apart = Ctx::builder().body_mode(mode).user_ctx(Box::new(cx.take())).build();
    let (request, handle) = spawner.create_subrequest(session.as_downstream(), apart);
    let (to_shop, mut from_shop) = (handle.tx, handle.rx);
    tokio::spawn(async move {
        if body.is_some() {
            // The channel has room for more than this one.
            let _ = to_shop.send(HttpTask::Body(body, true)).await;
        }
        request.run().await;
        // Not earlier: an end of it would look like a client that is gone.
        drop(to_shop);
    });
    while let Some(task) = from_shop.recv().await {
        let end = task.is_end();
        match task {
            HttpTask::Header(head, end) => session.write_response_header(head, end).await?,
            HttpTask::Body(body, end) => session.write_response_body(body, end).await?,
            HttpTask::Trailer(_) | HttpTask::Done => session.write_response_body(None, true).await?,
            HttpTask::UpgradedBody(..) => {}
            HttpTask::Failed(error) => return Err(error),
        }
        if end {
            return Ok(true);
        }
    }
    Error::e_explain(ErrorType::InternalError, "a request that was sent apart ended without an answer")
}

/// The trace of a request that is sent apart, in the place where it goes on.
pub(crate) fn taken(session: &mut Session) -> Option<Box<Trace>> {
    session.subrequest_ctx.as_mut()?.user_ctx_mut()?.downcast_mut::<Option<Box<Trace>>>()?.take()
}
