//! Made-up traffic of a flash sale, from a seed: worlds with people and programs in them, replayed through the features.

use std::{collections::BTreeMap, sync::Arc};

use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal};
use tidegate_filters::Now;

use super::{Sample, keep_visit, people, programs::Family};
use crate::features::{HeaderFacts, Http, Method, Referer, Target, VisitFacts, Windows, mix, path_hash};

/// Keeps hashes of worlds apart from those of addresses.
const WORLD: u64 = 0x776f_726c_6400_0000;

/// What differs from shop to shop.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// Clients come over TLS.
    pub(super) tls: bool,
    /// The gate speaks HTTP/2.
    pub(super) http_2: bool,
    /// Images, styles and scripts pass the gate, not a delivery network.
    pub(super) assets: bool,
    /// Pages fetch data by script.
    pub(super) apis: bool,
    /// Every route is behind the room, not the product's alone.
    pub(super) all_sale: bool,
    /// Milliseconds from the start to the opening.
    pub(super) opens_ms: u64,
    /// When it is over.
    pub(super) ends_ms: u64,
}

/// One request of somebody.
pub(super) struct Event {
    at_ms: u64,
    actor: u32,
    facts: VisitFacts,
    status: u16,
}

struct Actor {
    bot: bool,
    group: &'static str,
}

/// A stage on which people and programs act.
pub(super) struct Stage {
    pub(super) world: World,
    pub(super) rng: ChaCha8Rng,
    seed: u64,
    events: Vec<Event>,
    actors: Vec<Actor>,
}

/// One client in the making of its requests.
pub(super) struct Client {
    actor: u32,
    pub(super) headers: HeaderFacts,
    pub(super) http: Http,
    pub(super) network: u64,
    /// Shared with neighbours: a carrier's people, a data centre's programs.
    pub(super) subnet: u64,
    /// What its TLS library says, which no header can forge; 0 without TLS.
    pub(super) hello: u64,
    /// Keeps our cookie and the shop's.
    pub(super) cookies: bool,
    /// Came with a cookie of the shop from an earlier day.
    pub(super) returning: bool,
    cookie_id: u64,
    sent: u32,
    hide: Hide,
}

/// Facts that are hidden for one client, drawn alike for people and programs.
struct Hide {
    headers: bool,
    agent: bool,
    referer: bool,
    connection: bool,
    cookies: bool,
    fingerprint: bool,
    subnet: bool,
    sale: bool,
}

/// One request, in short.
pub(super) struct Ask<'a> {
    pub(super) at_ms: u64,
    pub(super) path: &'a str,
    pub(super) method: Method,
    pub(super) referer: Referer,
    pub(super) waiting: bool,
}

impl Stage {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let tls = rng.random_bool(0.6);
        let opens_ms = rng.random_range(20_000..300_000);
        let world = World {
            tls,
            http_2: tls && rng.random_bool(0.8),
            assets: rng.random_bool(0.6),
            apis: rng.random_bool(0.4),
            all_sale: rng.random_bool(0.4),
            opens_ms,
            ends_ms: opens_ms + rng.random_range(60_000..400_000),
        };
        Stage { world, rng, seed: mix(seed ^ WORLD), events: vec![], actors: vec![] }
    }

    pub(super) fn client(&mut self, bot: bool, group: &'static str, headers: HeaderFacts, http: Http) -> Client {
        let r = &mut self.rng;
        let hide = Hide {
            headers: r.random_bool(0.2),
            agent: r.random_bool(0.3),
            referer: r.random_bool(0.2),
            connection: r.random_bool(0.15),
            cookies: r.random_bool(0.2),
            fingerprint: r.random_bool(0.15),
            subnet: r.random_bool(0.15),
            sale: r.random_bool(0.3),
        };
        let (network, cookie_id) = (r.random::<u64>() | 1, r.random::<u64>() | 1);
        // Neighbours: of programs in a few data centres, of people in the pools of their carriers.
        let (chance, pools) = if bot { (0.5, 4) } else { (0.3, 25) };
        let pool = 1 + r.random_range(0..pools) + u64::from(bot) * 1_000;
        let subnet = if r.random_bool(chance) { mix(self.seed ^ pool) | 1 } else { network };
        let hello = if self.world.tls { headers.identity } else { 0 };
        let actor = self.actors.len() as u32;
        self.actors.push(Actor { bot, group });
        Client { actor, headers, http, network, subnet, hello, cookies: true, returning: false, cookie_id, sent: 0, hide }
    }

    /// The TLS of a library under the headers of a browser, for some; rare among people, whose virus scanners do it.
    pub(super) fn forged_hello(&mut self, chance: f64) -> Option<u64> {
        (self.world.tls && self.rng.random_bool(chance)).then(|| 9_000 + self.rng.random_range(0..6))
    }

    /// A library's order of headers under the names of a browser's; extensions and proxies do it to people.
    pub(super) fn forged_order(&mut self, chance: f64) -> Option<u64> {
        self.rng.random_bool(chance).then(|| 9_100 + self.rng.random_range(0..8))
    }

    /// Sends a request; the shop answers 404 now and then.
    pub(super) fn ask(&mut self, c: &mut Client, ask: Ask<'_>) {
        let status = if self.rng.random_bool(0.015) { 404 } else { 200 };
        let known = c.cookies && c.sent > 0;
        let fingerprint = c.headers.fingerprint(c.hello << 2 | c.http as u64);
        let target = Target::of(ask.path);
        let mut headers = c.headers;
        headers.referer = ask.referer;
        headers.cookie = Some(c.cookies && (known || c.returning));
        let extra = u16::from(ask.referer != Referer::None) + u16::from(headers.cookie == Some(true));
        headers.count = headers.count.map(|n| n + extra - u16::from(target == Target::Asset && n > 8));
        let sale = self.world.all_sale || ["/p/1", "/cart", "/checkout"].contains(&ask.path);
        let facts = VisitFacts {
            visitor: if known { c.cookie_id } else { (c.network ^ fingerprint.rotate_left(17)).max(1) },
            by_cookie: Some(known),
            network: c.network,
            subnet: c.subnet,
            fingerprint,
            method: ask.method,
            target,
            path: path_hash(ask.path),
            sale: Some(sale),
            waiting: ask.waiting,
            http: Some(c.http),
            tls: Some(self.world.tls),
            headers,
            body_bytes: Some(if ask.method == Method::Change { 60 } else { 0 }),
        };
        c.sent += 1;
        self.events.push(Event { at_ms: ask.at_ms, actor: c.actor, facts: c.hide.apply(facts), status });
    }

    /// A time that varies as human times do.
    pub(super) fn human_ms(&mut self, median_ms: f64, sigma: f64) -> u64 {
        let d = LogNormal::new(median_ms.max(1.0).ln(), sigma).map(|d| d.sample(&mut self.rng));
        d.unwrap_or(median_ms).clamp(20.0, 300_000.0) as u64
    }

    fn replay(mut self, site: &str) -> Vec<Sample> {
        let ends = self.world.ends_ms;
        self.events.retain(|e| e.at_ms <= ends);
        self.events.sort_by_key(|e| e.at_ms);
        let windows = Windows::new(self.actors.len() * 8);
        let mut sent = vec![0u32; self.actors.len()];
        let mut samples = vec![];
        let site: Arc<str> = site.into();
        let mut names: BTreeMap<&str, Arc<str>> = BTreeMap::new();
        for e in &self.events {
            let features = windows.observe_and_extract(&e.facts, Now::at(1_700_000_000_000, 1 + e.at_ms));
            windows.feedback(e.facts.visitor, e.status);
            let (actor, visit) = (&self.actors[e.actor as usize], &mut sent[e.actor as usize]);
            *visit += 1;
            // Only what the gate scores: pages, data and forms; assets shape the windows.
            if e.facts.target != Target::Asset && keep_visit(*visit) {
                samples.push(Sample {
                    features,
                    bot: actor.bot,
                    family: names.entry(actor.group).or_insert_with(|| actor.group.into()).clone(),
                    site: site.clone(),
                    // A world is one draw of everything: its actors are not independent of each other.
                    network: self.seed,
                    visitor: mix(self.seed ^ u64::from(e.actor) << 32),
                    visit: *visit,
                    weight: 1.0,
                });
            }
        }
        samples
    }
}

impl Hide {
    fn apply(&self, mut f: VisitFacts) -> VisitFacts {
        let h = f.headers;
        if self.headers {
            f.headers = HeaderFacts { referer: h.referer, agent: h.agent, cookie: h.cookie, ..HeaderFacts::default() };
        }
        if self.agent {
            f.headers.agent = crate::features::Agent::Unknown;
        }
        if self.referer {
            f.headers.referer = Referer::Unknown;
        }
        if self.connection {
            (f.http, f.tls) = (None, None);
        }
        if self.cookies {
            (f.by_cookie, f.headers.cookie) = (None, None);
        }
        if self.fingerprint {
            f.fingerprint = 0;
        }
        if self.subnet {
            f.subnet = 0;
        }
        if self.sale {
            f.sale = None;
        }
        f
    }
}

/// One world with its people and the given families of programs.
pub(super) fn world(seed: u64, families: &[Family], site: &str) -> Vec<Sample> {
    let mut stage = Stage::new(seed);
    let count = stage.rng.random_range(150..400);
    people::act(&mut stage, count);
    for family in families {
        let count = stage.rng.random_range(10..40);
        family.act(&mut stage, count);
    }
    stage.replay(site)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_world_and_both_sides_are_in_it() {
        let of = |seed| world(seed, &Family::ALL, "w");
        let (a, b) = (of(7), of(7));
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(&b).all(|(x, y)| x.features == y.features && x.family == y.family));
        for family in Family::ALL {
            assert!(a.iter().any(|s| &*s.family == family.name() && s.bot), "{} is missing", family.name());
        }
        assert!(a.iter().filter(|s| !s.bot).count() > 300);
        assert_ne!(a.len(), of(8).len());
    }
}
