//! A whole invented sale from a number: for auditors who want to try their own verifier, and for tests.

use super::{
    beacon::{BeaconRound, LocalBeacon, QUICKNET, Schedule},
    commit::{commitment, earlier_by, rules_hash},
    digest::{Hash, hash},
    entries::Listed,
    entry::{Entry, EntryNames},
    rules::{BeaconRule, ClassThresholds, Identity, Quotas, Rules},
    statement::{Receipt, Signer},
    transcript::{Promise, Transcript},
    weights::Weights,
};

/// What to invent.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// Entries, void ones included.
    pub entries: usize,
    /// Everything follows from it.
    pub seed: u64,
    /// Which randomness.
    pub beacon: RehearsalBeacon,
    /// Which window of a chain this is, when it is one.
    pub window: Option<u64>,
}

/// The randomness of an invented sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RehearsalBeacon {
    /// None.
    None,
    /// A local beacon whose key follows from the seed.
    Local,
    /// A round that was published: its number, value and signature.
    Published(BeaconRound),
}

/// An invented sale, drawn and revealed.
#[derive(Clone, Debug)]
pub struct Invented {
    /// Revealed.
    pub transcript: Transcript,
    /// Entries and places.
    pub listed: Listed,
    /// One receipt for every non-void entry among the first, in index order.
    pub receipts: Vec<Receipt>,
    /// Signed all of it.
    pub signer: Signer,
}

/// Receipts an invented sale comes with.
const RECEIPTS: usize = 8;
/// When an invented sale is frozen: 2026-12-01T01:59:00Z.
const FROZEN_AT: u64 = 1_796_090_340;
const DELAY_S: u64 = 10;

impl Rehearsal {
    /// Invents, draws, reveals.
    pub fn run(&self) -> Invented {
        let secret_of = |what: &str| hash([b"tidegate/1/rehearsal".as_slice(), what.as_bytes(), &self.seed.to_be_bytes()]);
        let signer = Signer::new(&secret_of("signer"));
        let weights = Weights::default();
        let local = LocalBeacon::new(&secret_of("beacon"));
        let source = match &self.beacon {
            RehearsalBeacon::None => None,
            RehearsalBeacon::Local => Some(local.source()),
            RehearsalBeacon::Published(b) => Some(b.source.clone()),
        };
        let frozen_at = match &self.beacon {
            RehearsalBeacon::Published(b) => {
                let schedule = Schedule::of(&b.source).unwrap_or(Schedule { genesis: 1, period: 1 });
                schedule.time_of(b.round).saturating_sub(DELAY_S)
            }
            _ => FROZEN_AT,
        };
        let rule = source.map(|source| BeaconRule { source, delay_s: DELAY_S });
        let promise = self.promise(&weights, rule.clone(), secret_of("secret"));
        let entries = self.invent(&promise.draw_id(), &weights, &secret_of("entry key"));
        let round = rule.as_ref().and_then(|r| r.round(frozen_at)).unwrap_or(0);
        let source = rule.map_or_else(String::new, |r| r.source);
        let (frozen, _) = promise.freeze(&entries, frozen_at, &source, round, &signer);
        let beacon = match &self.beacon {
            RehearsalBeacon::None => None,
            RehearsalBeacon::Local => Some(local.round(round)),
            RehearsalBeacon::Published(b) => Some(b.clone()),
        };
        let (transcript, places) = promise.reveal(&entries, &frozen, beacon, signer.public_key(), "entries.csv");
        let id = promise.draw_id();
        let live = (0u64..).zip(&entries).filter(|(_, e)| !e.is_void());
        let receipts = live.take(RECEIPTS).map(|(i, e)| Receipt::sign(&signer, &id, promise.commitment, i, e.id)).collect();
        Invented { transcript, listed: Listed { entries, places }, receipts, signer }
    }

    fn promise(&self, weights: &Weights, beacon: Option<BeaconRule>, last: Hash) -> Promise {
        let rules = Rules {
            order: self.window.map_or("draw_then_fifo", |_| "draw_every 10s").into(),
            weights: *weights,
            class_thresholds: ClassThresholds { challenge_at: Some(0.7), to_the_back_at: Some(0.85) },
            model_sha256: None,
            identity: Identity::Cookie("shop_login".into()),
            quotas: Quotas {
                per_network: Some(8),
                per_fingerprint: Some(3),
                crowd_times: 4,
                work_bits: 18,
                entries_max: 1 << 28,
            },
            stock: Some(500),
            per_visitor_max: Some(1),
            beacon,
            redraws: None,
        };
        // Plain numbers and texts: they have a JSON.
        let rules_json = rules.json().unwrap_or_default();
        let rules = rules_hash(&rules_json);
        let sale_id = format!("rehearsal-{}", self.seed);
        let first = earlier_by(&last, self.window.unwrap_or(0));
        let commitment = commitment(&sale_id, &rules, &first);
        Promise { sale_id, window: self.window, rules_json, rules, commitment, secret: last }
    }

    /// Of a hundred: one void, seventy people, fifteen unsure, nine crowded, five suspect.
    fn invent(&self, id: &str, weights: &Weights, entry_key: &[u8; 32]) -> Vec<Entry> {
        let names = EntryNames::new(entry_key, id);
        let entry = |i: u64| {
            let weight = match mix(self.seed ^ mix(i)) % 100 {
                0 => return Entry::VOID,
                1..=70 => weights.human,
                71..=85 => weights.unsure,
                86..=94 => weights.crowded,
                _ => weights.suspect,
            };
            Entry { id: names.id(i), weight }
        };
        (0..self.entries as u64).map(entry).collect()
    }
}

/// SplitMix64: spreads a number over all its bits.
pub fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Round 123 of drand's quicknet, published on 2023-08-23: a real one, for rehearsals and tests.
pub fn published_round() -> BeaconRound {
    let signature = "b75c69d0b72a5d906e854e808ba7e2accb1542ac355ae486d591aa9d43765482e26cd02df835d3546d23c4b13e0dfc92";
    let mut bytes = [0; 48];
    super::digest::unhex_into(signature.as_bytes(), &mut bytes);
    // drand's own rule: the randomness is the hash of the signature.
    BeaconRound { source: QUICKNET.into(), round: 123, value: hash([bytes.as_slice()]), signature: signature.into() }
}
