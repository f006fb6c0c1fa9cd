//! Features of a visit: the only definition. Name, unit, meaning, the reason it stands for and the arithmetic are one row
//! of [`FEATURES`]; training, scoring, the journal and the cards all use this list.
//!
//! Missing is not absent: a fact that nobody could see is 0 in every yes/no feature (yes is 1, no is -1), and counts and
//! gaps are 0 until there is something to count. Training hides facts at random, so 0 argues for neither side.

use std::{fmt::Write, sync::OnceLock};

use sha2::{Digest, Sha256};
use tidegate_filters::Now;

mod crowd;
mod facts;
mod reason;
mod table;
mod window;

pub(crate) use self::table::mix;
use self::{
    crowd::{Around, Crowd, Group},
    table::Table,
    window::Window,
};
pub use self::{
    facts::{Agent, AgentFacts, HeaderFacts, Http, Method, Referer, Target, VisitFacts, path_hash},
    reason::ReasonCode,
};

/// Version of the list and of the arithmetic behind it. Any change of either needs a new one, and new models.
pub const VERSION: u32 = 2;

/// How many features there are.
pub const N: usize = FEATURES.len();

/// The features of one visit, in the order of [`FEATURES`].
pub type Features = [f32; N];

/// One feature.
pub struct Feature {
    /// Stable name.
    pub name: &'static str,
    /// Unit or scale.
    pub unit: &'static str,
    /// What an operator is told when it speaks against a visit.
    pub reason: ReasonCode,
    /// What it means.
    pub doc: &'static str,
    of: fn(&Moment<'_>) -> f32,
}

/// What the features of one visit are computed from.
struct Moment<'a> {
    facts: &'a VisitFacts,
    window: &'a Window,
    around: Around,
}

const fn feature(
    name: &'static str,
    unit: &'static str,
    reason: ReasonCode,
    of: fn(&Moment<'_>) -> f32,
    doc: &'static str,
) -> Feature {
    Feature { name, unit, reason, doc, of }
}

const YES_NO: &str = "yes 1, no -1, unknown 0";
const FLAG: &str = "0 or 1";
const LN1P: &str = "ln(1 + n)";
const LN_S: &str = "ln seconds, 0 before the first";
const SHARE: &str = "share";
const DIFFERENCE: &str = "difference of shares";

use ReasonCode as R;

/// Every feature, in order.
pub static FEATURES: [Feature; 54] = [
    feature("method_change", FLAG, R::VisitShape, |m| flag(m.facts.method == Method::Change), "POST, PUT, PATCH or DELETE"),
    feature("method_head", FLAG, R::VisitShape, |m| flag(m.facts.method == Method::Head), "HEAD"),
    feature("target_asset", FLAG, R::VisitShape, |m| flag(m.facts.target == Target::Asset), "image, style, script, font"),
    feature("target_api", FLAG, R::VisitShape, |m| flag(m.facts.target == Target::Api), "data for a program"),
    feature("waiting", FLAG, R::VisitShape, |m| flag(m.facts.waiting), "carries a valid ticket: a refresh we asked for"),
    feature("body_size", LN1P, R::VisitShape, |m| ln1p(m.facts.body_bytes.unwrap_or(0) as f32), "declared body bytes"),
    feature("http_2", YES_NO, R::HeadersIncomplete, |m| yes_no(m.facts.http.map(|h| h == Http::Two)), "HTTP/2 or later"),
    feature("http_1_0", FLAG, R::HeadersIncomplete, |m| flag(m.facts.http == Some(Http::One0)), "HTTP/1.0"),
    feature("tls", YES_NO, R::VisitShape, |m| yes_no(m.facts.tls), "over TLS"),
    feature(
        "header_count",
        LN1P,
        R::HeadersIncomplete,
        |m| ln1p(f32::from(m.facts.headers.count.unwrap_or(0))),
        "headers, 0 unknown",
    ),
    feature("accept", YES_NO, R::HeadersIncomplete, |m| yes_no(m.facts.headers.accept), "has Accept"),
    feature("accept_language", YES_NO, R::HeadersIncomplete, |m| yes_no(m.facts.headers.language), "has Accept-Language"),
    feature("accept_encoding", YES_NO, R::HeadersIncomplete, |m| yes_no(m.facts.headers.encoding), "has Accept-Encoding"),
    feature(
        "sec_fetch",
        YES_NO,
        R::HeadersIncomplete,
        |m| yes_no(secure(m, m.facts.headers.sec_fetch)),
        "has Sec-Fetch-*; unknown without TLS",
    ),
    feature(
        "client_hints",
        YES_NO,
        R::HeadersIncomplete,
        |m| yes_no(secure(m, m.facts.headers.client_hints)),
        "has Sec-CH-UA*; unknown without TLS",
    ),
    feature("cookie", YES_NO, R::CookiesDropped, |m| yes_no(m.facts.headers.cookie), "has any cookie"),
    feature("known_by_cookie", YES_NO, R::CookiesDropped, |m| yes_no(m.facts.by_cookie), "recognised by our signed cookie"),
    feature("referer_same", YES_NO, R::DeepLinkAtOpening, |m| referer(m, Referer::Same), "sent from a page of this host"),
    feature("referer_none", YES_NO, R::DeepLinkAtOpening, |m| referer(m, Referer::None), "no Referer"),
    feature("claims_browser", YES_NO, R::HeadersContradict, claims_browser, "the User-Agent claims a browser"),
    feature("contradictions", "0 to 6", R::HeadersContradict, contradictions, "things the claimed browser would not do"),
    feature("visits_1s", LN1P, R::RateHigh, |m| ln1p(m.window.rate[0]), "visits, decaying over 1 s"),
    feature("visits_10s", LN1P, R::RateHigh, |m| ln1p(m.window.rate[1]), "visits, decaying over 10 s"),
    feature("visits_1min", LN1P, R::RateHigh, |m| ln1p(m.window.rate[2]), "visits, decaying over 1 min"),
    feature("visits_10min", LN1P, R::RateHigh, |m| ln1p(m.window.rate[3]), "visits, decaying over 10 min"),
    feature("actions_1min", LN1P, R::RateHigh, actions, "pages and API calls, decaying over 1 min"),
    feature("polls_1min", LN1P, R::RateHigh, |m| ln1p(m.window.polls), "refreshes with a ticket, decaying over 1 min"),
    feature("gap_last", LN_S, R::CadenceRegular, |m| m.window.gap_stats()[3], "since the action before (assets are no actions)"),
    feature("gap_mean", LN_S, R::CadenceRegular, |m| m.window.gap_stats()[0], "mean ln gap between actions"),
    feature("gap_sd", "ln seconds", R::CadenceRegular, |m| m.window.gap_stats()[1], "standard deviation of the ln gap"),
    feature("gap_min", LN_S, R::CadenceRegular, |m| m.window.gap_stats()[2], "least gap between actions"),
    feature("regularity", "0 to 1", R::CadenceRegular, regularity, "1 when gaps are all alike; 0 before the third"),
    feature("share_assets", SHARE, R::NoAssets, |m| m.window.share(m.window.assets), "of the visitor's visits"),
    feature(
        "assets_against_site",
        DIFFERENCE,
        R::NoAssets,
        assets_against_site,
        "its share of assets less the site's, 0 while young",
    ),
    feature("share_api", SHARE, R::VisitShape, |m| m.window.share(m.window.apis), "of the visitor's visits"),
    feature("share_change", SHARE, R::VisitShape, |m| m.window.share(m.window.changes), "of the visitor's visits"),
    feature("share_head", SHARE, R::VisitShape, |m| m.window.share(m.window.heads), "of the visitor's visits"),
    feature("share_errors", SHARE, R::ErrorsMany, |m| m.window.error_share(), "of the shop's answers that were 4xx"),
    feature("share_repeats", SHARE, R::PathsRepeated, |m| m.window.share(m.window.repeats), "same path as the action before"),
    feature("share_referred", SHARE, R::DeepLinkAtOpening, |m| m.window.share(m.window.referred), "with a Referer of this host"),
    feature("distinct_paths", LN1P, R::PathsRepeated, |m| ln1p(m.window.distinct()), "different paths (saturates at 266)"),
    feature("age", "ln(1 + seconds)", R::VisitorNew, |m| ln1p(m.window.age_s()), "since the first visit"),
    feature(
        "first_change_after",
        "ln(1 + seconds)",
        R::DeepLinkAtOpening,
        |m| ln1p(m.window.first_change_s()),
        "from first visit to first change; 0 when none",
    ),
    feature(
        "change_unseen",
        FLAG,
        R::DeepLinkAtOpening,
        |m| flag(m.window.changed_unseen()),
        "the first change came before any page",
    ),
    feature(
        "deep_link",
        FLAG,
        R::DeepLinkAtOpening,
        |m| flag(m.window.deep_link()),
        "the first visit was for the sale, from nowhere",
    ),
    feature(
        "network_visits_per_new",
        LN1P,
        R::NetworkBurst,
        |m| per_new(m.around.network_quick),
        "visits for each new visitor in this network, last 10 to 20 s",
    ),
    feature(
        "fingerprint_visits_per_new",
        LN1P,
        R::FingerprintBurst,
        |m| per_new(m.around.fingerprint_quick),
        "the same for this fingerprint",
    ),
    feature(
        "fingerprint_assets_against_site",
        DIFFERENCE,
        R::FingerprintBurst,
        |m| against_site(m, m.around.fingerprint, 1.0, |g| g.assets),
        "its share of assets less the site's, last 10 to 20 min, 0 while rare",
    ),
    feature(
        "fingerprint_rarity",
        "ln ratio",
        R::HeadersContradict,
        |m| rarity(m.around.identity, m.around.fingerprint),
        "visits of all that call themselves so for each of this fingerprint, last 10 to 20 min, 0 while few",
    ),
    feature(
        "header_order_rarity",
        "ln ratio",
        R::HeadersContradict,
        |m| rarity(m.around.claimed, m.around.ordered),
        "the same for the order of headers of its last page",
    ),
    feature(
        "subnet_assets_against_site",
        DIFFERENCE,
        R::NetworkHabits,
        |m| against_site(m, m.around.subnet, 0.0, |g| g.assets),
        "share of assets of the others in this /24 or /64 less the site's, last 10 to 20 min, 0 while few",
    ),
    feature(
        "subnet_unreferred_against_site",
        DIFFERENCE,
        R::NetworkHabits,
        |m| against_site(m, m.around.subnet, 0.0, |g| g.unreferred),
        "the same for their visits that came from no page",
    ),
    feature(
        "path_unreferred_against_site",
        DIFFERENCE,
        R::DeepLinkAtOpening,
        |m| against_site(m, m.around.path, 1.0, |g| g.unreferred),
        "share of visits from no page in those of this path less the site's, last 10 to 20 min, 0 while few",
    ),
    feature(
        "path_new_against_site",
        DIFFERENCE,
        R::DeepLinkAtOpening,
        |m| against_site(m, m.around.path, 1.0, |g| g.fresh),
        "the same for first visits",
    ),
];

fn flag(yes: bool) -> f32 {
    f32::from(u8::from(yes))
}

fn yes_no(fact: Option<bool>) -> f32 {
    fact.map_or(0.0, |yes| if yes { 1.0 } else { -1.0 })
}

fn ln1p(n: f32) -> f32 {
    n.ln_1p()
}

/// A header that browsers send over TLS only says nothing elsewhere.
fn secure(m: &Moment<'_>, fact: Option<bool>) -> Option<bool> {
    if m.facts.tls == Some(true) { fact } else { None }
}

fn referer(m: &Moment<'_>, want: Referer) -> f32 {
    yes_no((m.facts.headers.referer != Referer::Unknown).then_some(m.facts.headers.referer == want))
}

fn claims_browser(m: &Moment<'_>) -> f32 {
    yes_no(match m.facts.headers.agent {
        Agent::Unknown | Agent::Other => None,
        agent => Some(agent.is_browser()),
    })
}

fn contradictions(m: &Moment<'_>) -> f32 {
    let h = &m.facts.headers;
    if !h.agent.is_browser() {
        return 0.0;
    }
    let absent = [
        h.accept,
        h.language,
        h.encoding,
        secure(m, h.sec_fetch),
        if h.agent == Agent::Chromium { secure(m, h.client_hints) } else { None },
        m.facts.http.map(|v| v != Http::One0),
    ];
    absent.into_iter().filter(|fact| *fact == Some(false)).count() as f32
}

fn actions(m: &Moment<'_>) -> f32 {
    ln1p(m.window.rate[2] * (1.0 - m.window.share(m.window.assets)))
}

fn regularity(m: &Moment<'_>) -> f32 {
    if m.window.gaps() < 2.5 { 0.0 } else { (-2.0 * m.window.gap_stats()[1]).exp() }
}

/// Grows from 0 to 1 with what has been seen: young visitors have not had the time to fetch anything.
fn trust(seen: f32) -> f32 {
    let seen = seen.max(0.0);
    seen / (seen + 5.0)
}

fn assets_against_site(m: &Moment<'_>) -> f32 {
    (m.window.share(m.window.assets) - share_of(m.around.site, |g| g.assets)) * trust(m.window.visits() - 1.0)
}

fn share_of(g: Group, part: fn(Group) -> f32) -> f32 {
    part(g) / g.visits.max(1.0)
}

/// How much more of something a group does than the whole site; nothing while it has not been seen beside `own` visits.
fn against_site(m: &Moment<'_>, g: Group, own: f32, part: fn(Group) -> f32) -> f32 {
    (share_of(g, part) - share_of(m.around.site, part)) * trust(g.visits - own)
}

fn per_new(g: Group) -> f32 {
    ln1p(g.visits / g.fresh.max(1.0))
}

/// How many do the one for each that does the other as well; nothing while they are few.
fn rarity(all: Group, these: Group) -> f32 {
    (all.visits.max(1.0) / these.visits.max(1.0)).max(1.0).ln() * trust(all.visits - 1.0)
}

/// No feature leaves this range: logarithms of 64-bit numbers are below 45.
pub const BOUND: f32 = 50.0;

/// What is remembered about visitors and their crowd. Memory is taken at the start and never grows.
pub struct Windows {
    table: Table,
    crowd: Crowd,
}

impl Windows {
    /// Memory of one visitor.
    pub const BYTES_PER_VISITOR: usize = Table::BYTES_PER_VISITOR;

    /// Remembers at least `visitors_max` visitors (spread over sets of eight, so a full table forgets a few sooner).
    pub fn new(visitors_max: usize) -> Self {
        Windows { table: Table::new(visitors_max), crowd: Crowd::new() }
    }

    /// Takes a visit in and gives its features. No allocation.
    pub fn observe_and_extract(&self, facts: &VisitFacts, now: Now) -> Features {
        let mut window = Window::default();
        let mut fresh = true;
        if facts.visitor == 0 {
            window.observe(facts, now.mono_ns);
        } else {
            self.table.with(facts.visitor, |w, new| {
                w.observe(facts, now.mono_ns);
                (window, fresh) = (*w, new);
            });
        }
        let mut around = self.crowd.observe(facts, window.page_order, fresh, now.mono_ns);
        around.subnet = window.own.neighbours(around.subnet, now.mono_ns);
        let moment = Moment { facts, window: &window, around };
        std::array::from_fn(|i| {
            let v = (FEATURES[i].of)(&moment);
            if v.is_finite() { v.clamp(-BOUND, BOUND) } else { 0.0 }
        })
    }

    /// The status the shop answered this visitor with (not answers of the gate itself).
    pub fn feedback(&self, visitor: u64, status: u16) {
        if visitor != 0 {
            self.table.with_known(visitor, |w| w.feedback(status));
        }
    }

    /// Bytes held, all of them since the start.
    pub fn bytes(&self) -> usize {
        self.table.bytes() + Crowd::BYTES
    }
}

/// SHA-256 (hex) of the list: version, names and units in order. A model made for another list is refused.
pub fn hash() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| {
        let mut text = format!("tidegate features {VERSION}\n");
        for f in &FEATURES {
            let _ = writeln!(text, "{} [{}]", f.name, f.unit);
        }
        crate::hex(&Sha256::digest(text))
    })
}

/// The list as a Markdown table.
pub fn features_doc() -> String {
    let mut doc = String::from("| feature | unit | reason | meaning |\n|---|---|---|---|\n");
    for f in &FEATURES {
        let _ = writeln!(doc, "| `{}` | {} | `{}` | {} |", f.name, f.unit, f.reason.code(), f.doc);
    }
    doc
}

#[cfg(test)]
#[path = "features/tests.rs"]
mod tests;
