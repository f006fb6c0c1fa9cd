//! What goes wrong between the visitor and the shop, as an answer.

use pingora::{Error, ErrorSource, ErrorType};
use tidegate_filters::Reason;

use crate::{
    pages::Refusal,
    reply::{self, Answer},
    trace::Trace,
};

/// An error of Pingora's, as we answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status; 0: nobody is there to be told.
    pub status: u16,
    /// Reason code.
    pub reason: Reason,
    /// It took too long.
    pub timeout: bool,
}

impl Failure {
    /// Who is at fault decides the status.
    pub fn of(e: &Error) -> Self {
        let timeout = matches!(e.etype(), ErrorType::ReadTimedout | ErrorType::ConnectTimedout | ErrorType::WriteTimedout);
        let (status, reason) = match (e.etype(), e.esource()) {
            (ErrorType::HTTPStatus(413), _) => (413, Reason::BodyTooLarge),
            (ErrorType::HTTPStatus(status), _) => (*status, Reason::BadRequest),
            (ErrorType::Custom("ShopDown"), _) => (503, Reason::ShopDown),
            (ErrorType::Custom(_), _) => (504, Reason::ShopFailed),
            (_, ErrorSource::Upstream) if timeout => (504, Reason::ShopFailed),
            (_, ErrorSource::Upstream) => (502, Reason::ShopFailed),
            (ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed, ErrorSource::Downstream) => {
                (0, Reason::BadRequest)
            }
            (_, ErrorSource::Downstream) if timeout => (408, Reason::BadRequest),
            (_, ErrorSource::Downstream) => (400, Reason::BadRequest),
            _ => (500, Reason::BadRequest),
        };
        Failure { status, reason, timeout }
    }

    /// A page or a problem for whoever asked.
    pub fn answer(&self, trace: &Trace) -> Answer {
        let refusal = match self.status {
            413 => Refusal::Of(Reason::BodyTooLarge),
            502 | 504 if trace.has_unit() => Refusal::OrderUnknown,
            502 => Refusal::Of(Reason::ShopFailed),
            503 => Refusal::Of(Reason::ShopDown),
            504 => Refusal::ShopSlow,
            _ => Refusal::Of(Reason::BadRequest),
        };
        let answer = reply::failure(trace, self.status, "refuse", self.reason.code(), refusal);
        match self.status {
            502..=504 => answer.with("retry-after", reply::retry_after(3, trace.intake.visitor)),
            _ => answer,
        }
    }
}
