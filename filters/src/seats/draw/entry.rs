//! Entries of a sale: their names, and their leaves in the tree.

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

use super::{
    digest::{Hash, lp},
    weights::WEIGHT_MAX,
};

/// The public name of an entry. Never proof of anything: everybody knows it after the reveal.
pub type EntryId = [u8; 16];

/// An entry as it is drawn; its index is where it stands in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name; zero bytes when the index was reserved and never used.
    pub id: EntryId,
    /// Balls in the drum, at most [`WEIGHT_MAX`].
    pub weight: u8,
}

impl Entry {
    /// An index that was reserved and never used: a leaf, but no place.
    pub const VOID: Entry = Entry { id: [0; 16], weight: 0 };

    /// Whether nobody stands behind it.
    pub fn is_void(&self) -> bool {
        self.id == [0; 16]
    }

    /// Whether the protocol allows it.
    pub fn is_sound(&self) -> bool {
        self.weight <= WEIGHT_MAX && !(self.is_void() && self.weight > 0)
    }
}

/// Names entries of one sale: `MAC(entry_key, "tidegate/1/entry-id" ‖ lp(sale_id) ‖ be64(i))`, cut to 16 bytes.
#[derive(Clone)]
pub struct EntryNames(Hmac<Sha256>);

impl std::fmt::Debug for EntryNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EntryNames")
    }
}

impl EntryNames {
    /// For a sale; the key is the gate's own and secret.
    pub fn new(entry_key: &[u8; 32], sale_id: &str) -> Self {
        // HMAC fills a short key up with zeros itself; doing it here leaves nothing that could fail.
        let mut block = [0; 64];
        block[..32].copy_from_slice(entry_key);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(b"tidegate/1/entry-id");
        mac.update(&lp(sale_id.as_bytes()));
        EntryNames(mac)
    }

    /// The name of an index.
    pub fn id(&self, index: u64) -> EntryId {
        let mut mac = self.0.clone();
        mac.update(&index.to_be_bytes());
        let full: Hash = mac.finalize().into_bytes().into();
        std::array::from_fn(|i| full[i])
    }
}

/// Leaves of one sale: `H(0x00 ‖ "tidegate/1/entry" ‖ lp(sale_id) ‖ be64(i) ‖ entry_id ‖ be32(w))`.
#[derive(Clone, Debug)]
pub struct Leaves(Sha256);

impl Leaves {
    /// For a sale.
    pub fn new(sale_id: &str) -> Self {
        let start = Sha256::new().chain_update([0]).chain_update(b"tidegate/1/entry").chain_update(lp(sale_id.as_bytes()));
        Leaves(start)
    }

    /// The leaf of an entry.
    pub fn leaf(&self, index: u64, entry: &Entry) -> Hash {
        let mut rest = [0; 28];
        rest[..8].copy_from_slice(&index.to_be_bytes());
        rest[8..24].copy_from_slice(&entry.id);
        rest[24..].copy_from_slice(&u32::from(entry.weight).to_be_bytes());
        self.0.clone().chain_update(rest).finalize().into()
    }

    /// The leaves of all entries, in index order.
    pub fn all<'a>(&'a self, entries: &'a [Entry]) -> impl Iterator<Item = Hash> + 'a {
        (0u64..).zip(entries).map(|(i, e)| self.leaf(i, e))
    }
}
