//! What the gate signs: a receipt for every entry, and the frozen list before anybody can know how it will fall.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::{
    digest::{Hash, as_hex, hex, lp},
    entry::EntryId,
};

/// The label of receipts, as the transcript names it.
pub const RECEIPT_LABEL: &str = "tidegate/1/receipt";

/// The gate's signing key for statements. Never printed.
#[derive(Clone)]
pub struct Signer(SigningKey);

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", hex(&self.public_key()))
    }
}

impl Signer {
    /// From its 32 secret bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Signer(SigningKey::from_bytes(secret))
    }

    /// What everybody may know.
    pub fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// An Ed25519 signature.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// Whether `signature` is this key's over `message`; small-order keys and malleable signatures are refused.
pub fn is_signed(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let key = VerifyingKey::from_bytes(public_key);
    key.is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

/// What a visitor keeps: proof that the gate took this entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Format: 1.
    pub version: u32,
    /// The sale, or `SALE#WINDOW`.
    pub sale_id: String,
    /// What was promised before it.
    #[serde(with = "as_hex")]
    pub commitment: Hash,
    /// Number of the entry, from 0.
    pub index: u64,
    /// Name of the entry.
    #[serde(with = "as_hex")]
    pub entry_id: EntryId,
    /// Of the gate.
    #[serde(with = "as_hex")]
    pub public_key: [u8; 32],
    /// Over all of it.
    #[serde(with = "as_hex")]
    pub signature: [u8; 64],
}

impl Receipt {
    /// Signs. Only for an entry that is durable.
    pub fn sign(signer: &Signer, sale_id: &str, commitment: Hash, index: u64, entry_id: EntryId) -> Self {
        let signature = signer.sign(&receipt_message(sale_id, &commitment, index, &entry_id));
        let public_key = signer.public_key();
        Receipt { version: 1, sale_id: sale_id.into(), commitment, index, entry_id, public_key, signature }
    }

    /// Whether the key it names signed it. That the key is the gate's is for the transcript to say.
    pub fn is_signed(&self) -> bool {
        let message = receipt_message(&self.sale_id, &self.commitment, self.index, &self.entry_id);
        is_signed(&self.public_key, &message, &self.signature)
    }
}

/// `"tidegate/1/receipt" ‖ lp(sale_id) ‖ C ‖ be64(i) ‖ entry_id`
pub fn receipt_message(sale_id: &str, commitment: &Hash, index: u64, entry_id: &EntryId) -> Vec<u8> {
    [RECEIPT_LABEL.as_bytes(), &lp(sale_id.as_bytes()), commitment, &index.to_be_bytes(), entry_id].concat()
}

/// The list, closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen<'a> {
    /// The sale, or `SALE#WINDOW`.
    pub sale_id: &'a str,
    /// What was promised before it.
    pub commitment: &'a Hash,
    /// Entries, void ones included.
    pub n: u64,
    /// Over all of them.
    pub root: &'a Hash,
    /// Unix seconds.
    pub frozen_at: u64,
    /// Where the public randomness will come from; empty without one.
    pub beacon_source: &'a str,
    /// Which round of it; 0 without one.
    pub round: u64,
}

impl Frozen<'_> {
    /// `"tidegate/1/frozen" ‖ lp(sale_id) ‖ C ‖ be64(N) ‖ root ‖ be64(frozen_at) ‖ lp(beacon source) ‖ be64(round)`
    pub fn message(&self) -> Vec<u8> {
        let (sale, source) = (lp(self.sale_id.as_bytes()), lp(self.beacon_source.as_bytes()));
        let (n, at, round) = (self.n.to_be_bytes(), self.frozen_at.to_be_bytes(), self.round.to_be_bytes());
        [b"tidegate/1/frozen".as_slice(), &sale, self.commitment, &n, self.root, &at, &source, &round].concat()
    }
}
