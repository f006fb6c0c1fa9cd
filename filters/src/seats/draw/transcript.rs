//! `transcript.json`: everything a stranger needs, besides the entries file, to draw again.

use serde::{Deserialize, Serialize};

use super::{
    beacon::{BeaconRound, Schedule},
    commit::window_id,
    digest::{Hash, as_hex, lp},
    drum::{Drum, places, seed},
    entry::{Entry, Leaves},
    statement::{Frozen, RECEIPT_LABEL, Signer, is_signed},
    tree::Tree,
};
use crate::time::Now;

/// A round of public randomness is late this long after its time, seconds: relays have it within two or three.
const LATE_AFTER_S: u64 = 30;

/// A sale, revealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    /// Format: 1.
    pub version: u32,
    /// The sale.
    pub sale_id: String,
    /// Which window of a sale that is drawn window by window, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// The rules, RFC 8785 JSON.
    pub rules_json: String,
    /// Their hash.
    #[serde(with = "as_hex")]
    pub rules: Hash,
    /// What was promised before the first entry.
    #[serde(with = "as_hex")]
    pub commitment: Hash,
    /// The gate's Ed25519 key.
    #[serde(with = "as_hex")]
    pub public_key: [u8; 32],
    /// Entries, void ones included.
    pub n: u64,
    /// Over all of them.
    #[serde(with = "as_hex")]
    pub root: Hash,
    /// Unix seconds.
    pub frozen_at: u64,
    /// The public randomness; `null` when the sale has none.
    pub beacon: Option<BeaconRound>,
    /// The gate's secret.
    #[serde(with = "as_hex")]
    pub secret: Hash,
    /// What the drum was filled with.
    #[serde(with = "as_hex")]
    pub seed: Hash,
    /// Name of the entries file.
    pub entries: String,
    /// The label receipts are signed under.
    pub receipt_signature_label: String,
    /// Over the frozen list.
    #[serde(with = "as_hex")]
    pub frozen_signature: [u8; 64],
    /// What changed after the first entry: schedule and cancellation only.
    pub amendments: Vec<Amendment>,
}

/// How the text of an amendment begins that calls the sale off.
pub const CANCELLED: &str = "cancelled: ";

/// A signed change of schedule, or a cancellation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amendment {
    /// Unix seconds.
    pub at: u64,
    /// What changed, in words.
    pub text: String,
    /// The gate's, over `"tidegate/1/amendment" ‖ lp(sale_id) ‖ C ‖ be64(at) ‖ lp(text)`.
    #[serde(with = "as_hex")]
    pub signature: [u8; 64],
}

impl Amendment {
    /// Signs.
    pub fn sign(signer: &Signer, sale_id: &str, commitment: &Hash, at: u64, text: &str) -> Self {
        Amendment { at, text: text.into(), signature: signer.sign(&Self::message(sale_id, commitment, at, text)) }
    }

    /// Whether this key signed it for this sale.
    pub fn is_signed(&self, public_key: &[u8; 32], sale_id: &str, commitment: &Hash) -> bool {
        is_signed(public_key, &Self::message(sale_id, commitment, self.at, &self.text), &self.signature)
    }

    /// Why the sale was called off, where this says so.
    pub fn cancels(&self) -> Option<&str> {
        self.text.strip_prefix(CANCELLED)
    }

    fn message(sale_id: &str, commitment: &Hash, at: u64, text: &str) -> Vec<u8> {
        let (sale, text) = (lp(sale_id.as_bytes()), lp(text.as_bytes()));
        [b"tidegate/1/amendment".as_slice(), &sale, commitment, &at.to_be_bytes(), &text].concat()
    }
}

/// A list that was closed and signed; the draw waits for its beacon round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenList {
    /// Entries, void ones included.
    pub n: u64,
    /// Over all of them.
    #[serde(with = "as_hex")]
    pub root: Hash,
    /// Unix seconds.
    pub frozen_at: u64,
    /// Whose round counts; empty without a beacon.
    pub beacon_source: String,
    /// Which round counts; 0 without a beacon.
    pub round: u64,
    /// The gate's, over all of it.
    #[serde(with = "as_hex")]
    pub signature: [u8; 64],
}

impl FrozenList {
    /// When its round of public randomness is to be there, Unix seconds; `None` where it waits for none.
    pub fn round_due_s(&self) -> Option<u64> {
        Some(Schedule::of(&self.beacon_source).filter(|_| self.round > 0)?.time_of(self.round))
    }

    /// Its round should be there by now: who waits for the draw is told so.
    pub fn is_late(&self, now: Now) -> bool {
        self.round_due_s().is_some_and(|due_s| now.wall_ms / 1_000 > due_s.saturating_add(LATE_AFTER_S))
    }
}

/// What was promised before the first entry, and the secret that opens it.
#[derive(Clone, Debug)]
pub struct Promise {
    /// The sale.
    pub sale_id: String,
    /// Which window of it, when it is drawn window by window.
    pub window: Option<u64>,
    /// RFC 8785 JSON.
    pub rules_json: String,
    /// Its hash.
    pub rules: Hash,
    /// C.
    pub commitment: Hash,
    /// k, or the k of this window.
    pub secret: Hash,
}

impl Promise {
    /// The name entries, statements and seed carry.
    pub fn draw_id(&self) -> String {
        self.window.map_or_else(|| self.sale_id.clone(), |w| window_id(&self.sale_id, w))
    }

    /// Closes and signs a list; `round` is 0 and `source` empty without a beacon. Also gives the tree that proves receipts.
    pub fn freeze(&self, entries: &[Entry], frozen_at: u64, source: &str, round: u64, signer: &Signer) -> (FrozenList, Tree) {
        let id = self.draw_id();
        let tree = Tree::new(Leaves::new(&id).all(entries));
        let (n, root) = (entries.len() as u64, tree.root());
        let commitment = &self.commitment;
        let frozen = Frozen { sale_id: &id, commitment, n, root: &root, frozen_at, beacon_source: source, round };
        let signature = signer.sign(&frozen.message());
        (FrozenList { n, root, frozen_at, beacon_source: source.into(), round, signature }, tree)
    }

    /// The seed of a frozen list, once the beacon has spoken.
    pub fn seed(&self, frozen: &FrozenList, beacon_value: &[u8]) -> Hash {
        seed(&self.secret, &frozen.root, &self.draw_id(), &self.commitment, frozen.n, beacon_value)
    }

    /// Draws and reveals: the transcript and the place of each index.
    pub fn reveal(
        &self,
        entries: &[Entry],
        frozen: &FrozenList,
        beacon: Option<BeaconRound>,
        public_key: [u8; 32],
        entries_file: &str,
    ) -> (Transcript, Vec<Option<u32>>) {
        let seed = self.seed(frozen, beacon.as_ref().map_or(&[], |b| &b.value));
        let places = places(&Drum::new(&seed).order(entries), entries.len());
        (self.transcript(frozen, seed, beacon, public_key, entries_file), places)
    }

    /// The transcript of a draw that was made from `seed`.
    pub fn transcript(
        &self,
        frozen: &FrozenList,
        seed: Hash,
        beacon: Option<BeaconRound>,
        public_key: [u8; 32],
        entries_file: &str,
    ) -> Transcript {
        Transcript {
            version: 1,
            sale_id: self.sale_id.clone(),
            window: self.window,
            rules_json: self.rules_json.clone(),
            rules: self.rules,
            commitment: self.commitment,
            public_key,
            n: frozen.n,
            root: frozen.root,
            frozen_at: frozen.frozen_at,
            beacon,
            secret: self.secret,
            seed,
            entries: entries_file.into(),
            receipt_signature_label: RECEIPT_LABEL.into(),
            frozen_signature: frozen.signature,
            amendments: Vec::new(),
        }
    }
}

impl Transcript {
    /// Why the sale was called off, as the gate signed; `None`: it took place, for all that anybody signed.
    pub fn cancelled(&self) -> Option<&str> {
        let signed = |a: &&Amendment| a.is_signed(&self.public_key, &self.sale_id, &self.commitment);
        self.amendments.iter().filter(signed).find_map(Amendment::cancels)
    }

    /// The name entries, statements and seed carry.
    pub fn draw_id(&self) -> String {
        self.window.map_or_else(|| self.sale_id.clone(), |w| window_id(&self.sale_id, w))
    }
}
