//! Programs that are welcome: by the networks they publish, by names that lead back to their address, or by signatures. Nobody
//! waits for a name server: until its answer is there, a claim is neither true nor false.

mod fetch;
mod lists;
mod names;
pub mod published;
mod signature;

use std::{
    collections::HashMap,
    hash::{Hash as _, Hasher as _},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use aho_corasick::{AhoCorasick, MatchKind};
use ed25519_dalek::VerifyingKey;
use siphasher::sip::SipHasher13;
use tidegate_config::Policy;
use tidegate_filters::{
    FilterSettings, Now,
    rule::good_bots::{BotSettings, GoodBotsSettings, is_published},
};
use tokio::{runtime::Handle, sync::Semaphore};

use self::{lists::Ranges, names::Names, published::Published};
pub use self::{
    names::Found,
    signature::{Fault, Signed},
};
use crate::{
    counts::{ASecond, Count},
    head::Fields,
    remembered::Remembered,
    state::kept,
};

/// Most of a `User-Agent` that is looked at, bytes.
const AGENT_BYTES_MAX: usize = 512;
/// Addresses whose names are remembered, at most 1.4 MiB; the oldest are forgotten first.
const ADDRESSES_MAX: usize = 1 << 14;
/// Nonces that are remembered, at most 3.2 MiB; the oldest are forgotten first.
const NONCES_MAX: usize = 1 << 16;
/// Lookups under way at the same time; a claim that finds none free is looked up another time.
const LOOKUPS_AT_ONCE_MAX: usize = 32;
/// A lookup takes no longer.
const LOOKUP_WAIT_MAX: Duration = Duration::from_secs(5);
/// What is remembered how long, milliseconds, at least and at most.
const GOOD_MS: (u64, u64) = (300_000, 86_400_000);
const IMPOSTOR_MS: (u64, u64) = (60_000, 3_600_000);
/// A name server that says nothing is asked again after this long, milliseconds.
const SILENT_MS: u64 = 30_000;

/// What is remembered of programs over reloads, not over a restart.
#[derive(Debug)]
pub struct BotFacts {
    addresses: Remembered<Found>,
    nonces: Remembered<()>,
    lookups_free: Arc<Semaphore>,
    /// Lookups by what came of them.
    lookups: [Count; Found::ALL.len()],
    /// Lookups that found none free.
    busy: Count,
    /// Signatures by what was wrong with them, good ones last.
    signatures: [Count; Fault::ALL.len() + 1],
    checked_this_second: ASecond,
    /// Lists that others publish.
    pub published: Published,
}

impl Default for BotFacts {
    fn default() -> Self {
        BotFacts {
            addresses: Remembered::new(ADDRESSES_MAX),
            nonces: Remembered::new(NONCES_MAX),
            lookups_free: Arc::new(Semaphore::new(LOOKUPS_AT_ONCE_MAX)),
            lookups: Default::default(),
            busy: Count::default(),
            signatures: Default::default(),
            checked_this_second: ASecond::default(),
            published: Published::default(),
        }
    }
}

impl BotFacts {
    /// Lookups as `(outcome, count)`.
    pub fn lookups(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let found = Found::ALL.iter().zip(&self.lookups).map(|(f, n)| (f.name(), n.get()));
        found.chain([("busy", self.busy.get())])
    }

    /// Signatures as `(outcome, count)`.
    pub fn signatures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Fault::ALL.iter().map(|f| f.name()).chain(["good"]).zip(self.signatures.iter().map(Count::get))
    }
}

/// The `good_bots` of a policy.
pub struct GoodBots {
    bots: Vec<Bot>,
    /// By what a `User-Agent` says, with the bot of each pattern.
    claims: AhoCorasick,
    claimed: Vec<usize>,
    keys: HashMap<String, (VerifyingKey, usize)>,
    /// Some of them sign, though their keys may have been taken back.
    signing: bool,
    names: Option<Arc<Names>>,
    /// Nothing is done about what is found out.
    pub shadow: bool,
}

struct Bot {
    name: &'static str,
    ranges: Ranges,
    domains: Arc<[String]>,
    /// Its published list was never there: who is not known may be it.
    unlisted: bool,
}

/// What an address makes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// True.
    Good,
    /// False.
    False,
    /// Not known yet.
    Open,
}

impl GoodBots {
    /// Reads the files of a policy's `good_bots`, and takes what was fetched; `None` when it has none.
    pub fn build(policy: &Policy, facts: &BotFacts) -> Result<Option<Arc<GoodBots>>, String> {
        let settings = policy.filters.iter().find_map(|f| match f {
            FilterSettings::GoodBots(s) => Some(s),
            _ => None,
        });
        let kept_in = published::directory(policy);
        let text = |url: &str| facts.published.text(url, kept_in.as_deref());
        settings.map(|s| GoodBots::new(s, &text)).transpose().map(|bots| bots.map(Arc::new))
    }

    fn new(settings: &GoodBotsSettings, published: &Fetched<'_>) -> Result<GoodBots, String> {
        let (mut bots, mut keys, mut patterns, mut claimed) = (Vec::new(), HashMap::new(), Vec::new(), Vec::new());
        for (i, s) in settings.bots.iter().enumerate() {
            let of_bot = |why| format!("{}: {why}", s.name);
            let (ranges, unlisted) = ranges(s, published).map_err(of_bot)?;
            for (id, key) in own_keys(s, published).map_err(of_bot)? {
                keys.insert(id, (key, i));
            }
            if let Some(agent) = s.user_agent.as_ref().filter(|_| s.has_addresses()) {
                patterns.push(agent.as_str());
                claimed.push(i);
            }
            let domains = s.domains.iter().map(|d| d.to_ascii_lowercase()).collect();
            bots.push(Bot { name: kept(&s.name), ranges, domains, unlisted });
        }
        let claims = AhoCorasick::builder().ascii_case_insensitive(true).match_kind(MatchKind::LeftmostFirst).build(&patterns);
        let claims = claims.map_err(|e| format!("user_agent: {e}"))?;
        let asks = bots.iter().any(|b| !b.domains.is_empty());
        let names = asks.then(|| Names::new(settings.resolver)).transpose()?.map(Arc::new);
        let signing = settings.bots.iter().any(|b| b.keys.is_some());
        Ok(GoodBots { bots, claims, claimed, keys, signing, names, shadow: settings.shadow })
    }

    /// What a visit says to be, by its `User-Agent`, and whether its address may.
    pub fn by_address(
        &self,
        facts: &Arc<BotFacts>,
        hash_key: (u64, u64),
        fields: &Fields<'_>,
        ip: IpAddr,
        now: Now,
    ) -> Option<(&'static str, Claim)> {
        let agent = fields.first("user-agent")?;
        let found = self.claims.find(&agent[..agent.len().min(AGENT_BYTES_MAX)])?;
        let bot = self.bots.get(*self.claimed.get(found.pattern().as_usize())?)?;
        if bot.ranges.contains(ip) {
            return Some((bot.name, Claim::Good));
        }
        let no = if bot.unlisted { Claim::Open } else { Claim::False };
        let Some(names) = self.names.as_ref().filter(|_| !bot.domains.is_empty()) else {
            return Some((bot.name, no));
        };
        let key = bot.key(hash_key, ip);
        Some(match facts.addresses.get(key, now.mono_ms()) {
            Some(Found::Good) => (bot.name, Claim::Good),
            Some(Found::Impostor) => (bot.name, no),
            Some(Found::Silent) => (bot.name, Claim::Open),
            None => {
                look_up(names, facts, bot.domains.clone(), key, ip, now);
                (bot.name, Claim::Open)
            }
        })
    }

    /// Whose signature a visit carries; `None` when it has none that is about this.
    pub fn by_signature(&self, facts: &BotFacts, request: &Signed<'_>, now: Now) -> Option<Result<&'static str, Fault>> {
        if !self.signing {
            return None;
        }
        let said = signature::verify(&self.keys, &facts.nonces, &facts.checked_this_second, request, now)?;
        facts.signatures[said.map_or_else(|fault| fault as usize, |_| Fault::ALL.len())].add();
        Some(said.map(|bot| self.bots.get(bot).map_or("", |b| b.name)))
    }
}

/// Whether the files of a bot can be used; the key of the policy at fault, and why.
pub fn check(settings: &BotSettings) -> Result<(), (&'static str, String)> {
    ranges(settings, &|_| None).map_err(|why| ("networks_file", why))?;
    own_keys(settings, &|_| None).map(drop).map_err(|why| ("keys", why))
}

/// What was fetched from an address; `None`: nothing yet.
type Fetched<'a> = dyn Fn(&str) -> Option<Arc<str>> + 'a;

/// Where it comes from, and whether its published list is missing.
fn ranges(s: &BotSettings, published: &Fetched<'_>) -> Result<(Ranges, bool), String> {
    let listed = listed(s.networks_file.as_deref(), published, lists::networks)?;
    let unlisted = listed.is_none();
    let networks: Vec<_> = s.networks.iter().map(|n| n.0).chain(listed.unwrap_or_default()).collect();
    Ok((Ranges::new(&networks), unlisted))
}

fn own_keys(s: &BotSettings, published: &Fetched<'_>) -> Result<Vec<(String, VerifyingKey)>, String> {
    let read = if s.keys.as_deref().is_some_and(is_published) { lists::directory } else { lists::keys };
    listed(s.keys.as_deref(), published, read).map(Option::unwrap_or_default)
}

/// What a file holds; or what was fetched in its place, `None` while that is not there.
fn listed<T>(
    file: Option<&str>,
    published: &Fetched<'_>,
    read: fn(&str) -> Result<Vec<T>, String>,
) -> Result<Option<Vec<T>>, String> {
    match file {
        None => Ok(Some(Vec::new())),
        // It was good when it was fetched; a copy that the disk has spoilt is none.
        Some(url) if is_published(url) => Ok(published(url).and_then(|text| read(&text).ok())),
        Some(file) => read(&lists::read(file)?).map(Some).map_err(|why| format!("{file}: {why}")),
    }
}

impl Bot {
    /// What is found out of an address for this bot: other domains are another question.
    fn key(&self, hash_key: (u64, u64), ip: IpAddr) -> u64 {
        let mut h = SipHasher13::new_with_keys(hash_key.0, hash_key.1);
        (b"good bot", self.name, &self.domains, ip).hash(&mut h);
        h.finish()
    }
}

/// Asks beside the request; what comes of it is there for a later one.
fn look_up(names: &Arc<Names>, facts: &Arc<BotFacts>, domains: Arc<[String]>, key: u64, ip: IpAddr, now: Now) {
    let Ok(runtime) = Handle::try_current() else { return };
    let Ok(free) = facts.lookups_free.clone().try_acquire_owned() else { return facts.busy.add() };
    let asked_ms = now.mono_ms();
    if !facts.addresses.put_new(key, Found::Silent, asked_ms, asked_ms + SILENT_MS) {
        return;
    }
    let (names, facts) = (names.clone(), facts.clone());
    runtime.spawn(async move {
        let _free = free;
        let (found, ttl_s) =
            tokio::time::timeout(LOOKUP_WAIT_MAX, names.confirm(ip, &domains)).await.unwrap_or((Found::Silent, 0));
        let ttl_ms = u64::from(ttl_s) * 1_000;
        let ms = match found {
            Found::Good => ttl_ms.clamp(GOOD_MS.0, GOOD_MS.1),
            Found::Impostor => ttl_ms.clamp(IMPOSTOR_MS.0, IMPOSTOR_MS.1),
            Found::Silent => SILENT_MS,
        };
        facts.lookups[found as usize].add();
        facts.addresses.put(key, found, asked_ms + ms);
    });
}
