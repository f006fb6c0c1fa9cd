//! Web Bot Auth: HTTP Message Signatures (RFC 9421) with the tag `web-bot-auth`, Ed25519, keys of the policy. A signature that
//! is not good makes a visit no worse than without one.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    hash::Hasher as _,
};

use ed25519_dalek::{Signature, VerifyingKey};
use sfv::{BareItem, Dictionary, InnerList, Item, ListEntry, Parser, SerializeValue as _};
use siphasher::sip::SipHasher13;
use tidegate_filters::Now;

use crate::{counts::ASecond, head::Fields, remembered::Remembered};

/// Largest `Signature-Input`, `Signature` or `Signature-Agent`, bytes.
const HEADER_BYTES_MAX: usize = 4 << 10;
/// Most parts of a request that a signature covers.
const COMPONENTS_MAX: usize = 16;
/// Longest nonce, characters.
const NONCE_MAX: usize = 128;
/// Clocks differ by so much, seconds.
const SKEW_S: i64 = 60;
/// A signature with a nonce is good for so long, once, and one without for so long, seconds.
const AGE_S_MAX: i64 = 86_400;
const AGE_WITHOUT_NONCE_S_MAX: i64 = 300;
/// Signatures checked in one second, about 50 µs each; those over it are not looked at.
const CHECKED_A_SECOND_MAX: u64 = 2_000;
const TAG: &str = "web-bot-auth";

/// A request as its signature sees it.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// All headers.
    pub fields: &'a Fields<'a>,
    /// As sent.
    pub method: &'a str,
    /// As sent, port included.
    pub authority: &'a str,
    /// The visitor's end of the way is https.
    pub https: bool,
    /// Canonical: who signs another spelling of it is not understood.
    pub path: &'a str,
    /// Without `?`.
    pub query: Option<&'a str>,
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its headers are too large.
    TooLarge,
    /// They cannot be read, or ask for what is not known here.
    Malformed,
    /// No bot of the policy has the key.
    UnknownKey,
    /// It does not cover the authority, or not the `Signature-Agent` that came with it.
    Uncovered,
    /// Made later than now.
    Early,
    /// Its time is over, or it has none.
    Expired,
    /// More than can be checked came in this second.
    Busy,
    /// It is not of this request, or not by this key.
    Wrong,
    /// Its nonce was used before.
    Replayed,
}

impl Fault {
    /// All of them.
    pub const ALL: &'static [Fault] = &[
        Fault::TooLarge,
        Fault::Malformed,
        Fault::UnknownKey,
        Fault::Uncovered,
        Fault::Early,
        Fault::Expired,
        Fault::Busy,
        Fault::Wrong,
        Fault::Replayed,
    ];

    /// Stable name, in journal and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Fault::TooLarge => "too_large",
            Fault::Malformed => "malformed",
            Fault::UnknownKey => "unknown_key",
            Fault::Uncovered => "uncovered",
            Fault::Early => "early",
            Fault::Expired => "expired",
            Fault::Busy => "busy",
            Fault::Wrong => "wrong",
            Fault::Replayed => "replayed",
        }
    }
}

/// Whose it is; `None` when there is no signature that is about this.
pub(super) fn verify(
    keys: &HashMap<String, (VerifyingKey, usize)>,
    nonces: &Remembered<()>,
    budget: &ASecond,
    request: &Signed<'_>,
    now: Now,
) -> Option<Result<usize, Fault>> {
    request.fields.first("signature-input")?;
    let inputs = match dictionary(request.fields, "signature-input") {
        Ok(inputs) => inputs,
        Err(fault) => return Some(Err(fault)),
    };
    let about = |(label, entry): (String, ListEntry)| match entry {
        ListEntry::InnerList(list) if text(&list, "tag") == Some(TAG) => Some((label, list)),
        _ => None,
    };
    let (label, input) = inputs.into_iter().find_map(about)?;
    Some(check(keys, nonces, budget, request, &label, input, now))
}

fn check(
    keys: &HashMap<String, (VerifyingKey, usize)>,
    nonces: &Remembered<()>,
    budget: &ASecond,
    request: &Signed<'_>,
    label: &str,
    input: InnerList,
    now: Now,
) -> Result<usize, Fault> {
    let id = text(&input, "keyid").ok_or(Fault::Malformed)?;
    let (key, bot) = keys.get(id).ok_or(Fault::UnknownKey)?;
    if text(&input, "alg").is_some_and(|alg| alg != "ed25519") {
        return Err(Fault::Malformed);
    }
    let nonce = text(&input, "nonce").map(str::to_owned);
    if nonce.as_ref().is_some_and(|n| n.is_empty() || n.len() > NONCE_MAX) {
        return Err(Fault::Malformed);
    }
    let good_for_s = in_time(&input, nonce.is_some(), now)?;
    let base = base(request, &input)?;
    let signatures = dictionary(request.fields, "signature")?;
    let signature = match signatures.get(label) {
        Some(ListEntry::Item(Item { bare_item: BareItem::ByteSeq(bytes), .. })) => Signature::from_slice(bytes),
        _ => return Err(Fault::Malformed),
    };
    let signature = signature.map_err(|_| Fault::Malformed)?;
    if !budget.take(now, CHECKED_A_SECOND_MAX) {
        return Err(Fault::Busy);
    }
    key.verify_strict(base.as_bytes(), &signature).map_err(|_| Fault::Wrong)?;
    if let Some(nonce) = nonce {
        let mut h = SipHasher13::new_with_keys(0, 0);
        h.write(key.as_bytes());
        h.write(nonce.as_bytes());
        let until = now.mono_ms() + good_for_s.unsigned_abs() * 1_000;
        if !nonces.put_new(h.finish(), (), now.mono_ms(), until) {
            return Err(Fault::Replayed);
        }
    }
    Ok(*bot)
}

/// Seconds that are left to it.
fn in_time(input: &InnerList, has_nonce: bool, now: Now) -> Result<i64, Fault> {
    let number = |name: &str| input.params.get(name).and_then(BareItem::as_int);
    let (Some(created), Some(expires)) = (number("created"), number("expires")) else { return Err(Fault::Expired) };
    let now_s = (now.wall_ms / 1_000) as i64;
    let age_max = if has_nonce { AGE_S_MAX } else { AGE_WITHOUT_NONCE_S_MAX };
    let until = expires.min(created.saturating_add(age_max));
    if created > now_s + SKEW_S {
        Err(Fault::Early)
    } else if until <= now_s {
        Err(Fault::Expired)
    } else {
        Ok(until - now_s)
    }
}

/// What was signed: RFC 9421, 2.5.
fn base(request: &Signed<'_>, input: &InnerList) -> Result<String, Fault> {
    if input.items.len() > COMPONENTS_MAX {
        return Err(Fault::TooLarge);
    }
    let (mut base, mut seen) = (String::new(), HashSet::new());
    let (mut authority, mut agent) = (false, request.fields.first("signature-agent").is_none());
    for item in &input.items {
        let name = item.bare_item.as_str().ok_or(Fault::Malformed)?;
        let identifier = item.serialize_value().map_err(|_| Fault::Malformed)?;
        let value = component(request, name, item)?;
        authority |= matches!(name, "@authority" | "@target-uri");
        agent |= name == "signature-agent";
        let _ = writeln!(base, "{identifier}: {value}");
        if !seen.insert(identifier) {
            return Err(Fault::Malformed);
        }
    }
    if !authority || !agent {
        return Err(Fault::Uncovered);
    }
    let params = vec![ListEntry::InnerList(input.clone())].serialize_value().map_err(|_| Fault::Malformed)?;
    let _ = write!(base, "\"@signature-params\": {params}");
    Ok(base)
}

/// The value of a part of a request.
fn component(request: &Signed<'_>, name: &str, item: &Item) -> Result<String, Fault> {
    if let Some((parameter, value)) = item.params.first() {
        // A member of a dictionary is the only thing that is known besides whole headers.
        return match (parameter.as_str(), value.as_str(), item.params.len()) {
            ("key", Some(member), 1) if !name.starts_with('@') => member_of(request.fields, name, member),
            _ => Err(Fault::Malformed),
        };
    }
    let authority = || {
        let authority = request.authority.to_ascii_lowercase();
        let port = if request.https { ":443" } else { ":80" };
        authority.strip_suffix(port).map(str::to_owned).unwrap_or(authority)
    };
    let scheme = if request.https { "https" } else { "http" };
    let target = || match request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.to_owned(),
    };
    Ok(match name {
        "@authority" => authority(),
        "@method" => request.method.to_owned(),
        "@path" => request.path.to_owned(),
        "@query" => format!("?{}", request.query.unwrap_or_default()),
        "@scheme" => scheme.to_owned(),
        "@request-target" => target(),
        "@target-uri" => format!("{scheme}://{}{}", authority(), target()),
        _ if name.starts_with('@') || name.bytes().any(|b| b.is_ascii_uppercase()) => return Err(Fault::Malformed),
        _ => joined(request.fields, name, usize::MAX)?.ok_or(Fault::Malformed)?,
    })
}

fn member_of(fields: &Fields<'_>, name: &str, member: &str) -> Result<String, Fault> {
    let mut all = dictionary(fields, name)?;
    let entry = all.swap_remove(member).ok_or(Fault::Malformed)?;
    vec![entry].serialize_value().map_err(|_| Fault::Malformed)
}

/// A header as a dictionary (RFC 8941); its lines are one.
fn dictionary(fields: &Fields<'_>, name: &str) -> Result<Dictionary, Fault> {
    let text = joined(fields, name, HEADER_BYTES_MAX)?.unwrap_or_default();
    Parser::parse_dictionary(text.as_bytes()).map_err(|_| Fault::Malformed)
}

fn joined(fields: &Fields<'_>, name: &str, max: usize) -> Result<Option<String>, Fault> {
    let mut all: Option<String> = None;
    for value in fields.all(name) {
        let value = std::str::from_utf8(value).map_err(|_| Fault::Malformed)?.trim();
        let all = all.get_or_insert_default();
        if all.len() + value.len() + 2 > max {
            return Err(Fault::TooLarge);
        }
        if !all.is_empty() {
            all.push_str(", ");
        }
        all.push_str(value);
    }
    Ok(all)
}

fn text<'i>(input: &'i InnerList, name: &str) -> Option<&'i str> {
    input.params.get(name).and_then(BareItem::as_str)
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
