//! What the shop's answer says about a sale, and the unit of stock in a request's hand until it is known.

use http::{StatusCode, header};
use pingora::{http::ResponseHeader, proxy::Session};
use tidegate_config::{ReportsSalesBy, Silence};
use tidegate_filters::{
    Decision, Now, Reason, Verdict,
    route::Needs,
    seats::{hold::Held, ledger::Outcome, stock::Stock},
    verdict::Notes,
};

use crate::{
    reply::{self, Answer},
    state::Shared,
    trace::Trace,
};

/// More units than one answer can have sold.
const SOLD_MAX: u32 = 100_000;
/// Tells the shop which hold a request has, so that it can report by the admin API: `SALE/NUMBER`.
pub const HOLD_HEADER: &str = "tidegate-hold";

/// Takes the unit of stock that the route needs, for a request whose body is whole: a client who stops halfway leaves nothing
/// uncertain. `Ok(Some)`: there is none, and that is the answer. `Err`: status and reason why none could be taken.
pub async fn hold(shared: &Shared, session: &mut Session, trace: &mut Trace) -> Result<Option<Answer>, (u16, Reason)> {
    let active = trace.active.clone();
    let needs = trace.route.and_then(|r| active.pipeline.routes().get(r)).and_then(|r| r.needs.as_ref());
    let Some(entrance) = trace.entrance.filter(|_| needs.is_some() && Needs::asks(&trace.intake.method)) else {
        return Ok(None);
    };
    let reason = trace.row.reason.unwrap_or(Reason::NoObjection);
    let decision = Decision { verdict: Verdict::Forward(entrance), reason, filter: None };
    match active.pipeline.hold(&trace.intake.visit(trace.route), &decision, trace.started) {
        Ok(None) => Ok(None),
        Ok(Some(held)) => {
            let written = needs.and_then(|n| shared.holds.write(&n.hold, held.stock(), true));
            trace.takes(InHand::new(held));
            // Durable before it is sent: whatever becomes of this process, the unit is not sold again.
            if let Some(written) = written
                && written.durable().await.is_err()
            {
                return Err((503, Reason::NotKept));
            }
            // The shop's answer is waited for though its client is gone: else nobody would know about the unit. (HTTP/1;
            // over HTTP/2 `apart` sees to it.)
            session.as_downstream_mut().set_abort_on_close(false);
            Ok(None)
        }
        Err(denied) => {
            trace.own(trace.row.kind, denied.verdict.name(), denied.reason);
            Ok(Some(reply::of_decision(trace, &denied, &Notes::default())))
        }
    }
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// So many units were sold; 0: none, said or meant so.
    Units(u32),
    /// Neither: silence, a server error, or a number that is none.
    Nothing,
}

impl Word {
    /// What that makes of the unit in a request's hand.
    pub fn outcome(self) -> Outcome {
        match self {
            Word::Units(0) => Outcome::NotSold,
            Word::Units(n) => Outcome::Sold(n),
            Word::Nothing => Outcome::Lost,
        }
    }

    /// Units that were surely sold.
    pub fn sold(self) -> u32 {
        if let Word::Units(n) = self { n } else { 0 }
    }
}

/// Reads the word of an answer to a request of `route`, and takes the header out.
///
/// Only the shop's own "not sold" frees a unit: the header with 0, a refusal (4xx), or by a rule every answer below 500 that is
/// not the one that sells. A good answer without the header may have lost it on the way; a server error, or a 408 of something in
/// between, means nothing at all: the shop may have failed after the order was written.
pub fn read(from_shop: &mut ResponseHeader, reports: Option<&ReportsSalesBy>, route: &str) -> Word {
    let status = from_shop.status;
    let failed = status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT;
    // Nobody said how the shop tells a sale: only the admin API knows.
    let Some(reports) = reports else { return Word::Nothing };
    if let Some(name) = &reports.header {
        let number = |v: &http::HeaderValue| v.to_str().ok().and_then(|v| v.trim().parse::<u32>().ok());
        let mut all = from_shop.headers.get_all(name.as_str()).iter().map(number);
        // Two words that differ are none: a framework's own and the application's.
        let said = all.next().map(|first| first.filter(|_| all.all(|other| other == first)));
        from_shop.remove_header(name.as_str());
        return match said {
            None if failed => Word::Nothing,
            None if status.is_client_error() || reports.silence == Silence::NotSold => Word::Units(0),
            None => Word::Nothing,
            Some(units) => units.filter(|n| *n <= SOLD_MAX).map_or(Word::Nothing, Word::Units),
        };
    }
    let is_route = reports.route.as_deref() == Some(route);
    let is_status = reports.status == Some(from_shop.status.as_u16());
    let is_place = reports.location.as_deref().is_none_or(|prefix| leads_to(from_shop, prefix));
    match is_route && is_status && is_place {
        true => Word::Units(1),
        false if failed => Word::Nothing,
        false => Word::Units(0),
    }
}

/// `Location`, with or without scheme and host, is at or below the prefix.
fn leads_to(answer: &ResponseHeader, prefix: &str) -> bool {
    let location = answer.headers.get(header::LOCATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let path = match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |i| &rest[i..]),
        None => location,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    path.strip_prefix(prefix).is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
}

/// A unit in flight. What became of it is told once; the last chance is the end of the request.
#[derive(Debug)]
pub struct InHand {
    held: Held,
    /// The request was, at least in part, written to the shop.
    sent: bool,
    told: Option<Outcome>,
}

impl InHand {
    /// Taken, not sent yet.
    pub fn new(held: Held) -> Self {
        InHand { held, sent: false, told: None }
    }

    /// The units it is one of.
    pub fn stock(&self) -> &Stock {
        self.held.stock()
    }

    /// Its number in the sale.
    pub fn number(&self) -> u64 {
        self.held.id.0
    }

    /// From now on nobody knows, until the shop answers.
    pub fn is_sent(&mut self) {
        self.sent = true;
    }

    /// The shop has spoken.
    pub fn tell(&mut self, outcome: Outcome, now: Now) {
        if self.told.is_none() {
            self.told = Some(outcome);
            self.held.end(outcome, now);
        }
    }

    /// The request is over. Gives what became of the unit.
    pub fn finish(&mut self, now: Now) -> Outcome {
        self.tell(if self.sent { Outcome::Lost } else { Outcome::NotSent }, now);
        self.told.unwrap_or(Outcome::Lost)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> ResponseHeader {
        let mut a = ResponseHeader::build(status, None).unwrap();
        headers.iter().for_each(|(k, v)| a.insert_header(*k, *v).unwrap());
        a
    }

    #[test]
    fn a_header_tells_and_silence_frees_nothing() {
        let by_header = ReportsSalesBy::header("Tidegate-Sold");
        let said = |status, headers: &[(&'static str, &str)]| read(&mut answer(status, headers), Some(&by_header), "checkout");
        assert_eq!(said(303, &[("tidegate-sold", "2")]), Word::Units(2));
        assert_eq!(said(500, &[("tidegate-sold", "1")]), Word::Units(1), "it failed after the order, and says so");
        assert_eq!(said(200, &[("tidegate-sold", "0")]), Word::Units(0));
        assert_eq!((said(409, &[]), said(402, &[])), (Word::Units(0), Word::Units(0)), "a refusal is the shop's own no");
        for status in [200, 302, 303, 408, 500, 503] {
            assert_eq!(said(status, &[]), Word::Nothing, "{status}: the header may have been lost on the way");
        }
        let promised = ReportsSalesBy { silence: Silence::NotSold, ..by_header.clone() };
        let quiet = |status| read(&mut answer(status, &[]), Some(&promised), "checkout");
        assert_eq!(
            (quiet(200), quiet(303), quiet(500), quiet(408)),
            (Word::Units(0), Word::Units(0), Word::Nothing, Word::Nothing)
        );
        for bad in ["-1", "many", "", "99999999999", "100001"] {
            assert_eq!(said(200, &[("tidegate-sold", bad)]), Word::Nothing, "{bad}");
        }
        let mut stripped = answer(200, &[("tidegate-sold", "1")]);
        read(&mut stripped, Some(&by_header), "x");
        assert!(!stripped.headers.contains_key("tidegate-sold"));
        assert_eq!(read(&mut answer(200, &[]), None, "checkout"), Word::Nothing, "only the admin API knows");
    }

    #[test]
    fn a_rule_looks_at_route_status_and_place() {
        let (route, location) = (Some("checkout".to_owned()), Some("/thanks".to_owned()));
        let rule = ReportsSalesBy { route, status: Some(302), location, ..ReportsSalesBy::default() };
        let said = |status, to: &str, route| read(&mut answer(status, &[("location", to)]), Some(&rule), route);
        for to in ["/thanks", "/thanks/5?x=1", "https://shop.example/thanks", "http://shop.example:8080/thanks#top"] {
            assert_eq!(said(302, to, "checkout"), Word::Units(1), "{to}");
        }
        for to in ["/thanksgiving", "/cart", "https://shop.example", "/x/thanks"] {
            assert_eq!(said(302, to, "checkout"), Word::Units(0), "{to}");
        }
        assert_eq!((said(303, "/thanks", "checkout"), said(302, "/thanks", "shop")), (Word::Units(0), Word::Units(0)));
        assert_eq!((said(502, "/thanks", "checkout"), said(408, "/cart", "checkout")), (Word::Nothing, Word::Nothing));
    }
}
