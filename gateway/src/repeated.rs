//! What a client says again with each request of a connection: read once, and not again while the bytes are the same. A
//! browser's name costs a hundred comparisons to read and a cookie of ours a MAC; to see that they are the same costs neither.

use std::{borrow::Cow, sync::Arc};

use parking_lot::Mutex;
use tidegate_filters::seats::token::{Keyring, Token};
use tidegate_models::features::AgentFacts;

use crate::{client, counts::Counts, credentials, head::Fields};

/// Longest text kept, bytes: a browser's name has 120, a line of cookies with ours among them 700. Two of them a connection.
const KEPT_MAX: usize = 2 << 10;

/// Of one connection.
#[derive(Debug, Default)]
pub struct Repeated {
    agent: Kept<Claim>,
    tokens: Kept<Opened>,
}

/// What a User-Agent says.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// For the score.
    pub facts: AgentFacts,
    /// Says that it is a crawler or a health check.
    pub probe: bool,
}

/// Tokens, and what they were read with.
#[derive(Clone, Debug)]
struct Opened {
    ring: Arc<Keyring>,
    https: bool,
    tokens: Arc<[Token]>,
}

impl Repeated {
    /// A User-Agent.
    pub fn agent(&self, value: &[u8]) -> Claim {
        let read = || Claim { facts: AgentFacts::of(value), probe: client::is_probe(value) };
        self.agent.get(value, |_| true, || (read(), true))
    }

    /// Our tokens. Those that are refused are counted each time.
    pub fn tokens(&self, fields: &Fields<'_>, https: bool, ring: &Arc<Keyring>, counts: &Counts) -> Arc<[Token]> {
        let read = || {
            let (tokens, refused) = credentials::read(fields, https, ring, counts);
            (Opened { ring: ring.clone(), https, tokens: tokens.into() }, !refused)
        };
        let mut lines = fields.all("cookie");
        let text: Cow<'_, [u8]> = match (lines.next(), lines.next()) {
            // Apps send theirs elsewhere.
            _ if fields.first("authorization").is_some() => return read().0.tokens,
            (None, _) => return Arc::default(),
            (Some(line), None) => line.into(),
            // HTTP/2 sends a line for each. No line has a line feed in it.
            _ => fields.all("cookie").collect::<Vec<_>>().join(&b'\n').into(),
        };
        let same = |o: &Opened| Arc::ptr_eq(&o.ring, ring) && o.https == https;
        self.tokens.get(&text, same, read).tokens
    }
}

/// The last text and what it was read as.
#[derive(Debug)]
struct Kept<V>(Mutex<Option<(Vec<u8>, V)>>);

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Kept(Mutex::new(None))
    }
}

impl<V: Clone> Kept<V> {
    /// What `text` says: kept where it is the same text and `still` holds, else read. `read` says whether to keep it.
    fn get(&self, text: &[u8], still: impl Fn(&V) -> bool, read: impl FnOnce() -> (V, bool)) -> V {
        // Requests of one connection that come at the same moment need not wait for each other.
        let Some(mut kept) = self.0.try_lock() else { return read().0 };
        if let Some((_, value)) = kept.as_ref().filter(|(t, v)| t == text && still(v)) {
            return value.clone();
        }
        let (value, keep) = read();
        if keep && text.len() <= KEPT_MAX {
            let mut bytes = kept.take().map_or_else(Vec::new, |(t, _)| t);
            bytes.clear();
            bytes.extend_from_slice(text);
            *kept = Some((bytes, value.clone()));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tidegate_filters::seats::token::Kind;

    use super::*;

    fn ring(secret: u8) -> Arc<Keyring> {
        Arc::new(Keyring::new(&[(1, [secret; 32])]).unwrap())
    }

    fn cookie(ring: &Keyring, number: u64) -> String {
        format!("tidegate-visitor={}", ring.seal(&Token::of_gate(Kind::Visitor, "shop.example", number, 1_000, 0)))
    }

    fn numbers(tokens: &[Token]) -> Vec<u64> {
        tokens.iter().map(|t| t.number).collect()
    }

    fn refused(counts: &Counts) -> u64 {
        let mut n = 0;
        counts.each(|name, _, count| n += if name == "tokens_refused" { count } else { 0 });
        n
    }

    #[test]
    fn the_same_cookies_are_opened_once_and_others_anew() {
        let (repeated, ours, counts) = (Repeated::default(), ring(7), Counts::default());
        let ask = |line: &str, https, ring: &Arc<Keyring>| {
            repeated.tokens(&Fields::new([("cookie", line.as_bytes())]), https, ring, &counts)
        };
        let (five, six) = (cookie(&ours, 5), cookie(&ours, 6));
        let first = ask(&five, false, &ours);
        assert_eq!(numbers(&first), [5]);
        assert!(Arc::ptr_eq(&first, &ask(&five, false, &ours)), "not opened again");
        assert_eq!(numbers(&ask(&six, false, &ours)), [6]);
        assert_eq!(numbers(&ask(&format!("{five}; {six}"), false, &ours)), [5, 6]);
        assert_eq!(numbers(&ask(&five, false, &ours)), [5]);
        assert!(ask(&five, true, &ours).is_empty(), "another host could have set it");
        assert!(ask(&five, false, &ring(8)).is_empty(), "a ring without its key");
        assert_eq!(refused(&counts), 1);
    }

    #[test]
    fn what_is_refused_is_counted_each_time() {
        let (repeated, ours, counts) = (Repeated::default(), ring(7), Counts::default());
        for n in 1..=3 {
            let fields = Fields::new([("cookie", &b"tidegate-visitor=AAAA"[..])]);
            assert!(repeated.tokens(&fields, false, &ours, &counts).is_empty());
            assert_eq!(refused(&counts), n);
        }
    }

    #[test]
    fn lines_are_told_apart_and_long_ones_are_not_kept() {
        let (repeated, ours, counts) = (Repeated::default(), ring(7), Counts::default());
        let (five, six) = (cookie(&ours, 5), cookie(&ours, 6));
        let two = || Fields::new([("cookie", five.as_bytes()), ("cookie", six.as_bytes())]);
        let first = repeated.tokens(&two(), false, &ours, &counts);
        assert_eq!(numbers(&first), [5, 6]);
        assert!(Arc::ptr_eq(&first, &repeated.tokens(&two(), false, &ours, &counts)));
        let long = format!("{six}; other={}", "x".repeat(KEPT_MAX));
        let ask = || repeated.tokens(&Fields::new([("cookie", long.as_bytes())]), false, &ours, &counts);
        assert!(!Arc::ptr_eq(&ask(), &ask()));
        assert_eq!(numbers(&ask()), [6]);
    }

    #[test]
    fn an_agent_is_who_it_says_each_time() {
        let repeated = Repeated::default();
        let probe = |agent: &str| repeated.agent(agent.as_bytes()).probe;
        assert!(probe("kube-probe/1.29") && probe("kube-probe/1.29") && !probe("Mozilla/5.0 (X11)") && probe("kube-probe/1.29"));
    }
}
