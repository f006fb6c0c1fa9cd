//! What a client says about itself: the languages it would like, and whether it only looks.

use crate::head::Fields;

/// The beginning of an `Accept-Language` header: kept without an allocation, for the few requests that get a page.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLanguage {
    bytes: [u8; 63],
    length: u8,
}

impl Default for AcceptLanguage {
    fn default() -> Self {
        AcceptLanguage { bytes: [0; 63], length: 0 }
    }
}

impl AcceptLanguage {
    /// The whole languages in its first 63 bytes.
    pub fn read(fields: &Fields<'_>) -> Self {
        let mut kept = AcceptLanguage::default();
        let Some(value) = fields.text("accept-language").filter(|v| v.is_ascii()) else { return kept };
        let whole = match value.get(..kept.bytes.len()) {
            Some(cut) => cut.rfind(',').map_or("", |i| &cut[..i]),
            None => value,
        };
        kept.bytes[..whole.len()].copy_from_slice(whole.as_bytes());
        kept.length = whole.len() as u8;
        kept
    }

    /// As sent, to the last whole language.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

/// Search engines, link previews and health checks, by what they call themselves. They look and never wait: each is told
/// the truth with a status. Who says so falsely gains nothing: a probe never gets a place or a seat.
pub fn is_probe(agent: &[u8]) -> bool {
    let begins = |at: usize, word: &str| agent.get(at..at + word.len()).is_some_and(|w| w.eq_ignore_ascii_case(word.as_bytes()));
    // A word ends there, and it is no phone of that name.
    let bot = |at: usize| {
        let ends = agent.get(at + 3).is_none_or(|c| !c.is_ascii_alphabetic());
        begins(at, "bot") && ends && !(at >= 2 && begins(at - 2, "cu"))
    };
    (0..agent.len()).any(|at| match agent[at] | 0x20 {
        b'b' => bot(at),
        b's' => begins(at, "spider") || begins(at, "slurp") || begins(at, "statuscake"),
        b'c' => begins(at, "crawler"),
        b'f' => begins(at, "facebookexternalhit"),
        b'g' => begins(at, "googlehc"),
        b'h' => begins(at, "healthcheck"),
        b'k' => begins(at, "kube-probe"),
        b'p' => begins(at, "pingdom"),
        _ => false,
    })
}

/// Nobody else made this client ask: no page of somebody else, no picture on a page, no link sent to a person. What says
/// nothing of where it comes from is no browser of today.
pub fn came_by_itself(fields: &Fields<'_>, authority: &str) -> bool {
    let looks = fields.text("sec-fetch-dest").is_none_or(|d| matches!(d, "document" | "empty"));
    match (fields.text("sec-fetch-site"), fields.text("referer")) {
        // Words that no browser says exempt nobody.
        (Some(site), _) => !matches!(site, "cross-site" | "same-site" | "none") && looks,
        (None, Some(referrer)) => {
            let host = referrer.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
            host.is_none_or(|h| h.is_empty() || h.eq_ignore_ascii_case(authority)) && looks
        }
        (None, None) => looks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_known_by_their_names() {
        let probe = |agent: &str| is_probe(agent.as_bytes());
        for agent in [
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0)",
            "Mozilla/5.0 (compatible; Baiduspider/2.0)",
            "facebookexternalhit/1.1",
            "kube-probe/1.29",
            "ELB-HealthChecker/2.0",
            "UptimeRobot/2.0",
        ] {
            assert!(probe(agent), "{agent}");
        }
        for agent in [
            "Mozilla/5.0 (Linux; Android 9; CUBOT X19) AppleWebKit/537.36 Chrome/120.0 Mobile Safari/537.36",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Abbott-App/3.2",
            "b",
            "",
        ] {
            assert!(!probe(agent), "{agent}");
        }
    }

    #[test]
    fn nobody_is_made_to_ask_by_somebody_else() {
        let by_itself = |headers: &[(&'static str, &str)]| {
            let fields = Fields::new(headers.iter().map(|(n, v)| (*n, v.as_bytes())).collect::<Vec<_>>());
            came_by_itself(&fields, "Shop.example:8443")
        };
        let (site, dest, referrer) = ("sec-fetch-site", "sec-fetch-dest", "referer");
        assert!(by_itself(&[]), "a program");
        assert!(by_itself(&[(site, "same-origin"), (dest, "document")]), "a driven browser that follows every link");
        assert!(by_itself(&[(referrer, "https://shop.example:8443/a")]));
        for junk in ["", "zzz", "about:client"] {
            assert!(by_itself(&[(referrer, junk)]) && by_itself(&[(site, "zzz"), (referrer, junk)]), "{junk}");
        }
        for made in [
            &[(site, "cross-site"), (dest, "document")][..],
            &[(site, "none"), (dest, "document")],
            &[(site, "same-site"), (dest, "document")],
            &[(site, "same-origin"), (dest, "image")],
            &[(dest, "image")],
            &[(referrer, "https://forum.example/shop.example:8443/")],
            &[(referrer, "https://shop.example.evil.example/")],
        ] {
            assert!(!by_itself(made), "{made:?}");
        }
    }

    #[test]
    fn languages_are_kept_whole() {
        let kept = |value: &str| {
            let kept = AcceptLanguage::read(&Fields::new([("Accept-Language", value.as_bytes())]));
            kept.as_str().to_owned()
        };
        assert_eq!(kept("de-CH,de;q=0.9"), "de-CH,de;q=0.9");
        let long = "de-CH,".repeat(20);
        assert!(kept(&long).ends_with("de-CH") && kept(&long).len() <= 63, "{}", kept(&long));
        assert_eq!(kept(&"x".repeat(100)), "");
        assert_eq!(AcceptLanguage::default().as_str(), "");
    }
}
