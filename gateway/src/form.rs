//! Forms of our own pages, and queries: read, decoded, bounded.

use http::header;
use pingora::proxy::Session;

use crate::{canonical, own::problem, reply::Answer, trace::Trace};

/// Longest form accepted, bytes.
const FORM_BYTES_MAX: usize = 8 << 10;
/// Longest place a form may lead back to, bytes.
const TO_BYTES_MAX: usize = 2_048;

/// Reads a form that one of our pages, or a script of this very host, has sent.
pub async fn read(session: &mut Session, trace: &Trace) -> Result<Vec<(String, String)>, Answer> {
    let headers = &session.req_header().headers;
    let text = |name: header::HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    if let Some(origin) = text(header::ORIGIN) {
        let host = origin.split_once("://").and_then(|(_, rest)| canonical::host(rest));
        if host.as_deref() != Some(&*trace.intake.host) {
            return Err(problem(403, "this form was sent from another site"));
        }
    } else if headers.get("sec-fetch-site").is_some_and(|v| v == "cross-site") {
        return Err(problem(403, "this form was sent from another site"));
    }
    if text(header::CONTENT_LENGTH).and_then(|v| v.parse::<usize>().ok()).is_some_and(|n| n > FORM_BYTES_MAX) {
        return Err(problem(413, "forms of the gate have at most 8 KiB"));
    }
    if headers.contains_key(header::EXPECT) {
        let _ = session.write_continue_response().await;
    }
    let mut body = Vec::new();
    loop {
        match session.as_downstream_mut().read_request_body().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > FORM_BYTES_MAX => {
                return Err(problem(413, "forms of the gate have at most 8 KiB"));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(_) => return Err(problem(400, "the form did not arrive")),
        }
    }
    Ok(fields(&String::from_utf8_lossy(&body)))
}

/// `a=b&c=d`, decoded; at most 16 pairs.
pub fn fields(text: &str) -> Vec<(String, String)> {
    let decode = |s: &str| {
        let spaced = s.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let pairs = text.split('&').filter(|p| !p.is_empty()).take(16);
    pairs.map(|p| p.split_once('=').unwrap_or((p, ""))).map(|(k, v)| (decode(k), decode(v))).collect()
}

/// The first value of a name.
pub fn get<'f>(fields: &'f [(String, String)], name: &str) -> Option<&'f str> {
    fields.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
}

/// A path of this host, whatever was sent: never another site.
pub fn destination(to: Option<&str>) -> String {
    let Some(to) = to.filter(|t| t.len() <= TO_BYTES_MAX) else { return "/".into() };
    let (path, query) = canonical::split(to);
    match (canonical::path(path), query) {
        (Ok(path), Some(query)) if query.bytes().all(canonical::is_target_byte) => format!("{path}?{query}"),
        (Ok(path), None) => path.into_owned(),
        _ => "/".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_lead_back_to_this_host_only() {
        let d = |s: &str| destination(Some(s));
        assert_eq!(d("/drop?a=b"), "/drop?a=b");
        assert_eq!(d("//evil.example/x"), "/evil.example/x");
        assert_eq!(d("/%2e%2e//evil"), "/evil");
        for bad in ["https://evil.example/", "/\\evil.example", "javascript:alert(1)", "", "/a\r\nSet-Cookie: x=y", "/a?b=\r\nx"]
        {
            assert_eq!(d(bad), "/", "{bad:?}");
        }
        assert_eq!(d(&format!("/{}", "x".repeat(3_000))), "/");
    }

    #[test]
    fn fields_are_decoded_and_bounded() {
        let f = fields("room=drop&to=%2Fa%3Fb%3Dc+d&x&=");
        assert_eq!(get(&f, "room"), Some("drop"));
        assert_eq!(get(&f, "to"), Some("/a?b=c d"));
        assert_eq!(get(&f, "x"), Some(""));
        assert_eq!(fields(&"a=b&".repeat(100)).len(), 16);
    }
}
