//! Why a score is high: codes that never change their meaning, one plain sentence each.

/// A reason for a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReasonCode {
    /// Headers that browsers always send are missing.
    HeadersIncomplete,
    /// The headers contradict the claimed browser.
    HeadersContradict,
    /// Actions come in an even beat.
    CadenceRegular,
    /// More visits than people make.
    RateHigh,
    /// Pages without their images, styles and scripts.
    NoAssets,
    /// Straight to the sale or to the order, without a page before.
    DeepLinkAtOpening,
    /// The cookie we gave does not come back.
    CookiesDropped,
    /// Many requests for what does not exist or is not allowed.
    ErrorsMany,
    /// The same path again and again, or unusually many.
    PathsRepeated,
    /// Many visitors of exactly this kind appear at once.
    FingerprintBurst,
    /// Many new visitors of one network appear at once.
    NetworkBurst,
    /// Visits of this network are unlike the site's.
    NetworkHabits,
    /// Nothing is known yet about this visitor.
    VisitorNew,
    /// The kind of request itself.
    VisitShape,
}

impl ReasonCode {
    /// All of them.
    pub const ALL: [ReasonCode; 14] = [
        ReasonCode::HeadersIncomplete,
        ReasonCode::HeadersContradict,
        ReasonCode::CadenceRegular,
        ReasonCode::RateHigh,
        ReasonCode::NoAssets,
        ReasonCode::DeepLinkAtOpening,
        ReasonCode::CookiesDropped,
        ReasonCode::ErrorsMany,
        ReasonCode::PathsRepeated,
        ReasonCode::FingerprintBurst,
        ReasonCode::NetworkBurst,
        ReasonCode::NetworkHabits,
        ReasonCode::VisitorNew,
        ReasonCode::VisitShape,
    ];

    /// The stable code, as in the journal.
    pub fn code(self) -> &'static str {
        match self {
            ReasonCode::HeadersIncomplete => "HEADERS_INCOMPLETE",
            ReasonCode::HeadersContradict => "HEADERS_CONTRADICT",
            ReasonCode::CadenceRegular => "CADENCE_REGULAR",
            ReasonCode::RateHigh => "RATE_HIGH",
            ReasonCode::NoAssets => "NO_ASSETS",
            ReasonCode::DeepLinkAtOpening => "DEEP_LINK_AT_OPENING",
            ReasonCode::CookiesDropped => "COOKIES_DROPPED",
            ReasonCode::ErrorsMany => "ERRORS_MANY",
            ReasonCode::PathsRepeated => "PATHS_REPEATED",
            ReasonCode::FingerprintBurst => "FINGERPRINT_BURST",
            ReasonCode::NetworkBurst => "NETWORK_BURST",
            ReasonCode::NetworkHabits => "NETWORK_HABITS",
            ReasonCode::VisitorNew => "VISITOR_NEW",
            ReasonCode::VisitShape => "VISIT_SHAPE",
        }
    }

    /// Reasons as the journal holds them: `CODE=contribution`, separated by commas.
    pub fn journal_text(reasons: &[(ReasonCode, f32)]) -> String {
        let one = |(code, gain): &(ReasonCode, f32)| format!("{}={gain:.3}", code.code());
        reasons.iter().map(one).collect::<Vec<_>>().join(",")
    }

    /// One sentence for the visitor.
    pub fn sentence(self) -> &'static str {
        match self {
            ReasonCode::HeadersIncomplete => "Your program leaves out things that browsers always send.",
            ReasonCode::HeadersContradict => "Your program says it is a browser but does not behave like that browser.",
            ReasonCode::CadenceRegular => "Your requests come in a very even beat.",
            ReasonCode::RateHigh => "There are more requests from you than people usually make.",
            ReasonCode::NoAssets => "Pages are asked for without their images and styles.",
            ReasonCode::DeepLinkAtOpening => "You went straight to the sale without looking at any page before.",
            ReasonCode::CookiesDropped => "The cookie we gave you does not come back.",
            ReasonCode::ErrorsMany => "Many of your requests are for pages that do not exist.",
            ReasonCode::PathsRepeated => "The same page is asked for again and again.",
            ReasonCode::FingerprintBurst => "Very many programs exactly like yours appeared at once.",
            ReasonCode::NetworkBurst => "Very many new visitors of your network appeared at once.",
            ReasonCode::NetworkHabits => "Visitors of your network use this shop unlike most others.",
            ReasonCode::VisitorNew => "We have not seen you before.",
            ReasonCode::VisitShape => "This kind of request is mostly made by programs.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_stable_words_and_sentences_are_plain() {
        for (i, r) in ReasonCode::ALL.iter().enumerate() {
            assert!(r.code().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{}", r.code());
            assert!(ReasonCode::ALL[..i].iter().all(|o| o.code() != r.code()), "{} twice", r.code());
            assert!(r.sentence().ends_with('.') && r.sentence().len() < 100);
        }
        let text = ReasonCode::journal_text(&[(ReasonCode::CadenceRegular, 1.25), (ReasonCode::NoAssets, 0.0625)]);
        assert_eq!(text, "CADENCE_REGULAR=1.250,NO_ASSETS=0.062");
    }
}
