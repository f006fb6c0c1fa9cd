//! Counts of the data plane: what was refused before there was a visit. One set a gate; metrics read it.

use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_filters::{Now, seats::token::TokenError};

/// One more of something.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts one.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// So far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How much of something there was in this second: seconds in the high half, count in the low.
#[derive(Debug, Default)]
pub struct ASecond(AtomicU64);

impl ASecond {
    /// One more, if there were fewer than that in the second of `now`.
    pub fn take(&self, now: Now, max: u64) -> bool {
        let second = now.mono_s() << 32;
        let next = |w: u64| if w >> 32 == second >> 32 { w + 1 } else { second | 1 };
        let old = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |w| Some(next(w))).unwrap_or(u64::MAX);
        (next(old) & 0xffff_ffff) <= max
    }
}

macro_rules! counted {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $code:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// Stable name: label of the metric, `reason` in the answer.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $code),* }
            }
        }
    };
}

counted! {
    /// Why a request's head was refused.
    HeadFault {
        /// No complete head in time: 408.
        TooSlow => "too_slow",
        /// More bytes than the policy allows: 431.
        TooLarge => "too_large",
        /// More headers than the policy allows: 431.
        TooManyHeaders => "too_many_headers",
        /// A line ended without CR.
        BareLf => "bare_lf",
        /// A control character.
        ControlByte => "control_byte",
        /// A header continued on the next line.
        ObsFold => "obs_fold",
        /// The request line does not parse.
        BadRequestLine => "bad_request_line",
        /// The method is no upper-case token.
        BadMethod => "bad_method",
        /// CONNECT or TRACE: 405.
        MethodRefused => "method_refused",
        /// The target is neither a path nor an absolute URL for the same host.
        BadTarget => "bad_target",
        /// The path cannot be made canonical: see `canonical`.
        BadPath => "bad_path",
        /// A header does not parse.
        BadHeader => "bad_header",
        /// A header name with `_` or `.`.
        DoubtfulName => "doubtful_name",
        /// HTTP/1.1 without Host.
        NoHost => "no_host",
        /// More than one Host.
        ManyHosts => "many_hosts",
        /// Host is no host name, or differs from the target's.
        BadHost => "bad_host",
        /// Content-Length and Transfer-Encoding together.
        LengthAndEncoding => "length_and_encoding",
        /// Content-Length is no number or there are several.
        BadLength => "bad_length",
        /// Transfer-Encoding other than one `chunked`.
        BadEncoding => "bad_encoding",
        /// HTTP/1.0 with Transfer-Encoding.
        OldEncoding => "old_encoding",
        /// A version that is not spoken.
        BadVersion => "bad_version",
    }
}

counted! {
    /// Why a connection was closed before a request.
    Turned {
        /// As many connections as the policy allows.
        Full => "full",
        /// As many connections of this network as the policy allows.
        NetworkFull => "network_full",
        /// No, a wrong or a late PROXY header.
        BadProxyHeader => "bad_proxy_header",
        /// The TLS handshake failed.
        TlsFailed => "tls_failed",
        /// The TLS handshake took too long.
        TlsSlow => "tls_slow",
        /// HTTP/2 without a preface and a first request in time.
        NoPreface => "no_preface",
    }
}

counted! {
    /// What became of a challenge that was answered.
    Challenged {
        /// The work was done.
        Worked => "worked",
        /// The slow way was taken.
        Slowly => "slowly",
        /// Wrong, stale, used before or made for somebody else.
        Refused => "refused",
    }
}

/// All counts of a gate's data plane.
#[derive(Debug, Default)]
pub struct Counts {
    heads: [Count; HeadFault::ALL.len()],
    turned: [Count; Turned::ALL.len()],
    tokens: [Count; 5],
    challenged: [Count; Challenged::ALL.len()],
    /// Connections accepted.
    pub connections: Count,
    /// Heads accepted: each becomes one row.
    pub parsed: Count,
    /// Claims that found the desk full.
    pub claims_refused: Count,
    /// Shop answers that could not be read.
    pub shop_rubbish: Count,
}

const TOKEN_NAMES: [&str; 5] = ["too_long", "malformed", "unknown_kind", "unknown_key", "wrong_tag"];

impl Counts {
    /// A refused head.
    pub fn head(&self, fault: HeadFault) {
        self.heads[fault as usize].add();
    }

    /// A connection turned away.
    pub fn turned(&self, why: Turned) {
        self.turned[why as usize].add();
    }

    /// A token that was not accepted.
    pub fn token(&self, e: TokenError) {
        let i = match e {
            TokenError::TooLong => 0,
            TokenError::Malformed => 1,
            TokenError::UnknownKind => 2,
            TokenError::UnknownKey => 3,
            TokenError::WrongTag => 4,
        };
        self.tokens[i].add();
    }

    /// An answer to a challenge.
    pub fn challenged(&self, how: Challenged) {
        self.challenged[how as usize].add();
    }

    /// Refused heads of one kind.
    pub fn heads(&self, fault: HeadFault) -> u64 {
        self.heads[fault as usize].get()
    }

    /// Connections turned away for one reason.
    pub fn turned_away(&self, why: Turned) -> u64 {
        self.turned[why as usize].get()
    }

    /// Every count as `(metric, reason, value)`; the reason is empty where there is none.
    pub fn each(&self, mut f: impl FnMut(&'static str, &'static str, u64)) {
        for fault in HeadFault::ALL {
            f("refused_heads", fault.name(), self.heads(*fault));
        }
        for why in Turned::ALL {
            f("connections_turned_away", why.name(), self.turned_away(*why));
        }
        for (name, count) in TOKEN_NAMES.iter().zip(&self.tokens) {
            f("tokens_refused", name, count.get());
        }
        for how in Challenged::ALL {
            f("challenges_answered", how.name(), self.challenged[*how as usize].get());
        }
        f("connections_accepted", "", self.connections.get());
        f("requests_parsed", "", self.parsed.get());
        f("claims_refused", "", self.claims_refused.get());
        f("shop_rubbish", "", self.shop_rubbish.get());
    }
}
