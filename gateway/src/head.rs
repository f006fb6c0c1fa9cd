//! The head of a request, borrowed from the bytes it came in: the same for HTTP/1, read by the door, and HTTP/2, read by the
//! proxy.

use std::borrow::Cow;

use http::{HeaderMap, Version, header};
use tidegate_config::RequestLimits;

use crate::{canonical, counts::HeadFault, door::head};

/// A head that has been checked.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// As sent.
    pub method: &'a str,
    /// HTTP/1.0, 1.1 or 2.
    pub version: Version,
    /// `Host` or `:authority` as sent, port included. Empty only for HTTP/1.0.
    pub authority: &'a str,
    /// Canonical.
    pub host: Cow<'a, str>,
    /// Canonical.
    pub path: Cow<'a, str>,
    /// Without `?`.
    pub query: Option<&'a str>,
    /// In order.
    pub fields: Fields<'a>,
}

/// Header fields in the order they came.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a>(Vec<(&'a str, &'a [u8])>);

impl<'a> Fields<'a> {
    /// From pairs.
    pub fn new(pairs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        Fields(pairs.into_iter().collect())
    }

    /// From a map of headers.
    pub fn of(map: &'a HeaderMap) -> Self {
        Fields::new(map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
    }

    /// The values of a name, in order.
    pub fn all<'s>(&'s self, name: &'s str) -> impl DoubleEndedIterator<Item = &'a [u8]> + 's {
        self.0.iter().filter(move |(n, _)| n.len() == name.len() && n.eq_ignore_ascii_case(name)).map(|(_, v)| *v)
    }

    /// The first value of a name.
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The first value of a name, where it is plain text.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.first(name).and_then(|v| std::str::from_utf8(v).ok())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + '_ {
        self.0.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Head<'a> {
    /// Puts a head together; `origin_form` is the target without scheme and authority, and may then have an empty path.
    pub fn new(
        method: &'a str,
        version: Version,
        authority: &'a str,
        origin_form: &'a str,
        fields: Fields<'a>,
    ) -> Result<Self, HeadFault> {
        let host = match authority {
            "" if version <= Version::HTTP_10 => "".into(),
            _ => canonical::host(authority).ok_or(HeadFault::BadHost)?,
        };
        let (path, query) = canonical::split(origin_form);
        let path = match path {
            // `http://host` and `http://host?q` have the path `/`.
            "" => "/".into(),
            path => canonical::path(path).map_err(|_| HeadFault::BadPath)?,
        };
        Ok(Head { method, version, authority, host, path, query, fields })
    }

    /// Of a request that the proxy has read; `target` as it stood in `:path`. The checks that the door makes for HTTP/1 are
    /// made here.
    pub fn http2(request: &'a http::request::Parts, target: &'a [u8], limits: &RequestLimits) -> Result<Self, HeadFault> {
        let fields = Fields::of(&request.headers);
        head::method(request.method.as_str())?;
        if fields.len() > limits.headers as usize {
            return Err(HeadFault::TooManyHeaders);
        }
        for (name, _) in fields.iter() {
            head::name(name, limits)?;
        }
        if request.headers.contains_key(header::TRANSFER_ENCODING) {
            return Err(HeadFault::BadEncoding);
        }
        if fields.all("content-length").nth(1).is_some() {
            return Err(HeadFault::BadLength);
        }
        let target = std::str::from_utf8(target).map_err(|_| HeadFault::BadTarget)?;
        if !target.bytes().all(canonical::is_target_byte) {
            return Err(HeadFault::BadTarget);
        }
        let authority = match request.headers.get(header::HOST) {
            Some(host) => host.to_str().map_err(|_| HeadFault::BadHost)?,
            None => request.uri.authority().map_or("", |a| a.as_str()),
        };
        let origin_form = match target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) {
            Some(rest) => &rest[rest.find(['/', '?']).unwrap_or(rest.len())..],
            None => target,
        };
        Head::new(request.method.as_str(), request.version, authority, origin_form, fields)
    }

    /// The declared length of the body; `None` without one.
    pub fn body_bytes(&self) -> Option<u64> {
        self.fields.text("content-length")?.parse().ok()
    }

    /// Bytes behind the head that belong to the request; `None`: the body itself says where it ends.
    pub fn body_end(&self) -> Option<u64> {
        self.fields.first("transfer-encoding").is_none().then(|| self.body_bytes().unwrap_or(0))
    }

    /// The client wants no other request on this connection.
    pub fn is_last(&self) -> bool {
        let closes = |v: &[u8]| v.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"close"));
        self.version <= Version::HTTP_10 || self.fields.all("connection").any(closes)
    }
}
