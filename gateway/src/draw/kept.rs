//! What a draw keeps on the disk: the promise with its secret, entries, frozen lists, beacon rounds.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    num::NonZeroU64,
};

use serde::{Deserialize, Serialize};
use tidegate_filters::{
    rule::bot_gate::Class,
    seats::draw::{
        beacon::BeaconRound,
        census::Census,
        digest::{Hash, as_hex},
        live::{EntryRef, SaleDraw},
        register::{Person, Written},
        transcript::{Amendment, FrozenList},
    },
};

use super::called_off::Said;
use crate::store::{Batch, Store, StoreError, Table};

/// Weights of as many indices stand in one record: half of the store's limit.
const WEIGHTS_A_RECORD: usize = 512 << 10;
/// An entry on the disk.
const ENTRY_BYTES: usize = 26;
/// In a record of weights: void.
const VOID: u8 = u8::MAX;

fn table<'a>(kind: &'static str, sale: &'a str) -> Table<'a> {
    Table { kind, of: sale }
}

/// The promise of a sale.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Promised {
    /// RFC 8785 JSON.
    pub(super) rules_json: String,
    /// The last secret of the chain: the only one where there is one list.
    #[serde(with = "as_hex")]
    pub(super) last: Hash,
    /// When, where, signed by whom; `None` in what an older version wrote.
    #[serde(default)]
    pub(super) schedule: Option<Schedule>,
}

/// What was promised beside the rules that are hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Schedule {
    pub(super) room: String,
    pub(super) prequeue_opens_ms: u64,
    /// As last amended.
    pub(super) opens_ms: u64,
    /// As last amended.
    pub(super) closes_ms: u64,
    /// When the one list closes: no amendment moves it.
    pub(super) list_ends_ms: u64,
    pub(super) freeze_before_ms: u64,
    pub(super) window_ms: Option<u64>,
    /// Signs receipts.
    #[serde(with = "as_hex")]
    pub(super) public_key: [u8; 32],
}

/// A frozen list, its weights apart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) list: FrozenList,
    pub(super) base: u32,
    pub(super) count: u32,
    pub(super) census: Census,
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn be(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// The one record of a table, or the one under `key`.
fn read<T: for<'d> Deserialize<'d>>(store: &dyn Store, t: Table<'_>, wanted: &[u8]) -> Result<Option<T>, StoreError> {
    let mut found = None;
    store.scan(t, &mut |key, value| {
        if key == wanted {
            found = serde_json::from_slice(value).ok();
        }
    })?;
    Ok(found)
}

pub(super) fn promise(store: &dyn Store, sale: &str) -> Result<Option<Promised>, StoreError> {
    read(store, table("draw_promise", sale), b"")
}

pub(super) fn put_promise(batch: &mut Batch, sale: &str, promised: &Promised) {
    batch.put(table("draw_promise", sale), b"", json(promised));
    batch.put(table("draw_promised", ""), sale.as_bytes(), []);
}

/// Every sale that was promised.
pub(super) fn promised_sales(store: &dyn Store) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    store.scan(table("draw_promised", ""), &mut |key, _| names.extend(std::str::from_utf8(key).map(str::to_owned)))?;
    Ok(names)
}

/// Entries that are on the disk, by list.
pub(super) fn entered(store: &dyn Store, sale: &str) -> Result<BTreeMap<u32, u64>, StoreError> {
    let mut lists = BTreeMap::new();
    store.scan(table("draw_entry", sale), &mut |key, _| {
        if let Some(window) = number(key) {
            *lists.entry(window).or_insert(0) += 1;
        }
    })?;
    Ok(lists)
}

/// An entry: who, and as what.
pub(super) fn put_entry(batch: &mut Batch, sale: &str, window: u32, index: u32, who: Person, class: Class, crowded: bool) {
    let mut value = Vec::with_capacity(ENTRY_BYTES);
    value.extend_from_slice(&who.key.to_be_bytes());
    value.extend_from_slice(&who.network.map_or(0, NonZeroU64::get).to_be_bytes());
    value.extend_from_slice(&[class as u8, u8::from(crowded)]);
    value.extend_from_slice(&who.fingerprint.to_be_bytes());
    batch.put(table("draw_entry", sale), &[be(window), be(index)].concat(), value);
}

/// An entry that could not be answered in time is taken back, should it be on the disk all the same.
pub(super) fn take_back_entry(batch: &mut Batch, sale: &str, window: u32, index: u32) {
    batch.delete(table("draw_entry", sale), &[be(window), be(index)].concat());
}

/// A browser showed the page of an entry.
pub(super) fn put_rendered(batch: &mut Batch, sale: &str, entry: EntryRef) {
    batch.put(table("draw_rendered", sale), &[be(entry.window), be(entry.index)].concat(), []);
}

/// Puts all entries of a sale back into its lists, in index order.
pub(super) fn restore_entries(store: &dyn Store, draw: &SaleDraw) -> Result<u64, StoreError> {
    let (mut n, mut windows) = (0, BTreeSet::new());
    let mut rendered = HashSet::new();
    store.scan(table("draw_rendered", draw.sale_id()), &mut |key, _| {
        rendered.insert((number(key), key.get(4..).and_then(number)));
    })?;
    store.scan(table("draw_entry", draw.sale_id()), &mut |key, value| {
        let (Some(window), Some(index)) = (number(key), key.get(4..).and_then(number)) else { return };
        let Some(list) = draw.window_or_new(u64::from(window)) else { return };
        let part = |at: usize| Some(u64::from_be_bytes(value.get(at..at + 8)?.try_into().ok()?));
        let (Some(key), Some(network), Some([class, crowded]), Some(fingerprint)) =
            (part(0), part(8), value.get(16..18), part(18))
        else {
            return;
        };
        let class = match class {
            0 => Class::Human,
            1 => Class::Unsure,
            _ => Class::Suspect,
        };
        let who = Person { key, network: NonZeroU64::new(network), fingerprint };
        let rendered = rendered.contains(&(Some(window), Some(index)));
        list.register.restore(index, who, Written { class, crowded: *crowded == 1, rendered, present_until_s: 0 });
        windows.insert(window);
        n += 1;
    })?;
    for window in windows {
        if let Some(list) = draw.window(u64::from(window)) {
            list.register.restored();
        }
    }
    Ok(n)
}

pub(super) fn put_list(batch: &mut Batch, sale: &str, window: u32, listed: &Listed, weights: &[Option<u8>]) {
    for (part, weights) in (0u32..).zip(weights.chunks(WEIGHTS_A_RECORD)) {
        let bytes: Vec<u8> = weights.iter().map(|w| w.unwrap_or(VOID)).collect();
        batch.put(table("draw_weights", sale), &[be(window), be(part)].concat(), bytes);
    }
    batch.put(table("draw_list", sale), &be(window), json(listed));
}

/// All frozen lists of a sale, by window.
pub(super) fn lists(store: &dyn Store, sale: &str) -> Result<Vec<(u32, Listed)>, StoreError> {
    let mut lists = Vec::new();
    store.scan(table("draw_list", sale), &mut |key, value| {
        if let (Some(window), Ok(listed)) = (number(key), serde_json::from_slice(value)) {
            lists.push((window, listed));
        }
    })?;
    Ok(lists)
}

/// The weights of a frozen list.
pub(super) fn weights(store: &dyn Store, sale: &str, window: u32) -> Result<Vec<Option<u8>>, StoreError> {
    let mut weights = Vec::new();
    store.scan(table("draw_weights", sale), &mut |key, value| {
        if number(key) == Some(window) {
            weights.extend(value.iter().map(|w| (*w != VOID).then_some(*w)));
        }
    })?;
    Ok(weights)
}

pub(super) fn put_amendment(batch: &mut Batch, sale: &str, number: usize, amendment: &Amendment) {
    batch.put(table("draw_amendment", sale), &be(number as u32), json(amendment));
}

/// An amendment that could not be answered is taken back, should it be on the disk all the same.
pub(super) fn take_back_amendment(batch: &mut Batch, sale: &str, number: usize) {
    batch.delete(table("draw_amendment", sale), &be(number as u32));
}

pub(super) fn amendments(store: &dyn Store, sale: &str) -> Result<Vec<Amendment>, StoreError> {
    let mut found = Vec::new();
    store.scan(table("draw_amendment", sale), &mut |_, value| found.extend(serde_json::from_slice::<Amendment>(value)))?;
    Ok(found)
}

/// What was said when sales were called off.
pub(super) fn called_off(store: &dyn Store) -> Result<Vec<(String, Said)>, StoreError> {
    let mut found = Vec::new();
    store.scan(table("sale_called_off", ""), &mut |key, value| {
        if let (Ok(sale), Ok(said)) = (std::str::from_utf8(key), serde_json::from_slice(value)) {
            found.push((sale.to_owned(), said));
        }
    })?;
    Ok(found)
}

pub(super) fn put_called_off(batch: &mut Batch, sale: &str, said: &Said) {
    batch.put(table("sale_called_off", ""), sale.as_bytes(), json(said));
}

pub(super) fn take_back_called_off(batch: &mut Batch, sale: &str) {
    batch.delete(table("sale_called_off", ""), sale.as_bytes());
}

pub(super) fn put_round(batch: &mut Batch, sale: &str, round: &BeaconRound) {
    batch.put(table("draw_beacon", sale), &round.round.to_be_bytes(), json(round));
}

pub(super) fn round(store: &dyn Store, sale: &str, round: u64) -> Result<Option<BeaconRound>, StoreError> {
    read(store, table("draw_beacon", sale), &round.to_be_bytes())
}
