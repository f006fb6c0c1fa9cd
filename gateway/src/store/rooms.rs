//! Rooms that outlive the process: what changed in them is written down by every tick, and by a request whose answer
//! depends on it.
//!
//! A room's changes are read and handed over under one lock, so the last batch that names a seat or a place says how it
//! stood last. A batch that fails begins a new term of the store: the next one then holds the whole room.

use std::{collections::HashMap, hash::Hasher as _, sync::Arc};

use parking_lot::Mutex;
use siphasher::sip::SipHasher13;
use tidegate_filters::{
    Now, Pipeline,
    seats::{
        keep::{Chunk, Head, Kept, reserve_ahead},
        queue::{Lane, Place},
        room::Room,
        seat::SeatRecord,
    },
};

use super::{Batch, Commit, Store, StoreError, Table};

const HEADS: &str = "room";
const SEATS: &str = "seats";
const PLACES: &str = "places";
/// Who is present is written down this often, milliseconds: it is read again only by a restart.
const PRESENCE_EVERY_MS: u64 = 10_000;
/// Chunks looked at for it in one tick, at least.
const PRESENCE_CHUNKS: usize = 4;

/// The rooms of one gate, and where they are written.
#[derive(Debug)]
pub struct Rooms {
    store: Arc<dyn Store>,
    books: Mutex<HashMap<String, Arc<Mutex<Book>>>>,
}

/// What a room is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A tick: nothing is written when nothing changed.
    Tick,
    /// An answer that must be durable, whatever others have handed over.
    Answer,
    /// The end: nobody is served any more, so no number is reserved in vain.
    End,
}

/// What was handed over of a room.
#[derive(Debug, Default)]
struct Book {
    /// The term of the store it was handed over in; `None`: nothing was yet.
    term: Option<u64>,
    head: Head,
    /// Numbers taken a second ago, and in that second.
    taken: [u32; 2],
    lately: [u32; 2],
    second: Option<u64>,
    presence: [Presence; 2],
}

/// The round over the places that people wait at.
#[derive(Debug, Default)]
struct Presence {
    /// Hash of each chunk as it was last handed over.
    hashes: Vec<u64>,
    /// Next chunk of this round.
    next: usize,
    round_at_ms: u64,
}

/// A batch on its way, and what may be told once it is durable.
#[derive(Debug)]
pub struct Written {
    /// When it is durable.
    pub commit: Commit,
    /// Numbers that may be given out then.
    pub reserved: [u32; 2],
    /// Calls that may be told then.
    pub frontier: [u32; 2],
}

impl Rooms {
    /// Over a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Rooms { store, books: Mutex::default() }
    }

    /// Brings the rooms of a pipeline back to life, or begins them; those that were carried over stay as they are. Call it
    /// before the pipeline is in force.
    pub fn revive(&self, pipeline: &mut Pipeline, now: Now) -> Result<(), StoreError> {
        if !self.store.keeps() {
            return Ok(());
        }
        for room in pipeline.rooms_mut().iter_mut().filter(|r| !r.keeps()) {
            // A room of this name may have lived in this process before: its book is over.
            self.books.lock().remove(room.name());
            match self.load(room.name())? {
                Some(kept) => room.restore(&kept, now),
                None => room.keep(now),
            }
        }
        Ok(())
    }

    /// Hands over what changed; `None` when nothing did in a tick. In order: what a caller sees done before is in this batch
    /// or in an earlier one.
    pub fn write(&self, room: &Room, now: Now, why: Why) -> Option<Written> {
        let book = self.books.lock().entry(room.name().to_owned()).or_default().clone();
        let mut book = book.lock();
        if let Some(why) = self.store.trouble() {
            // Nothing could become of it: the whole room is handed over once the disk works.
            book.term = None;
            let commit = Commit::now(Err(StoreError::Refused(why)));
            return Some(Written { commit, reserved: [0, 0], frontier: room.frontier() });
        }
        let term = self.store.term();
        let all = book.term != Some(term);
        let mut kept = room.changes(all, now);
        match why {
            Why::End => kept.head.reserved = kept.head.taken,
            Why::Tick | Why::Answer => book.reserve(&mut kept.head, room, now),
        }
        if why == Why::Tick {
            book.present(room, &mut kept, now);
            if !all && kept.seats.is_empty() && kept.chunks.is_empty() && same(&kept.head, &book.head) {
                return None;
            }
        }
        let mut batch = Batch::of_term(term);
        encode(&mut batch, room.name(), &kept);
        let commit = self.store.commit(batch);
        let Head { reserved, frontier, .. } = kept.head;
        book.head = kept.head;
        book.term = Some(term);
        Some(Written { commit, reserved, frontier })
    }

    fn load(&self, name: &str) -> Result<Option<Kept>, StoreError> {
        let mut kept = Kept::default();
        let (mut head, mut strange) = (None, false);
        let table = |kind| Table { kind, of: name };
        self.store.scan(table(HEADS), &mut |_, value| {
            head = serde_json::from_slice::<Head>(value).ok();
            strange |= head.is_none();
        })?;
        let Some(head) = head.filter(|_| !strange) else { return if strange { Err(unknown(name)) } else { Ok(None) } };
        kept.head = head;
        self.store.scan(table(SEATS), &mut |key, value| match decode_seat(key, value) {
            Some(seat) => kept.seats.push(seat),
            None => strange = true,
        })?;
        self.store.scan(table(PLACES), &mut |key, value| match decode_chunk(key, value) {
            Some(chunk) => kept.chunks.push(chunk),
            None => strange = true,
        })?;
        if strange { Err(unknown(name)) } else { Ok(Some(kept)) }
    }
}

impl Book {
    fn reserve(&mut self, head: &mut Head, room: &Room, now: Now) {
        if self.second != Some(now.mono_s()) {
            // What an earlier life gave out is no rush.
            let before = self.second.map_or(head.taken, |_| self.taken);
            self.lately = [0, 1].map(|i| head.taken[i].saturating_sub(before[i]));
            (self.taken, self.second) = (head.taken, Some(now.mono_s()));
        }
        let max = room.numbers_max();
        for i in 0..2 {
            // What was asked for and is still on its way counts.
            let reserved = head.reserved[i].max(if self.head.epoch == head.epoch { self.head.reserved[i] } else { 0 });
            head.reserved[i] = reserve_ahead(head.taken[i], reserved, self.lately[i], max);
        }
    }

    /// Adds chunks whose people were seen since they were last written, a few a tick.
    fn present(&mut self, room: &Room, kept: &mut Kept, now: Now) {
        for (lane, round) in Lane::ALL.into_iter().zip(&mut self.presence) {
            let chunks = room.chunks(lane);
            if round.next >= chunks.end {
                if now.mono_ms() < round.round_at_ms + PRESENCE_EVERY_MS {
                    continue;
                }
                (round.next, round.round_at_ms) = (0, now.mono_ms());
            }
            round.hashes.resize(chunks.end, 0);
            let first = round.next.max(chunks.start);
            round.next = (first + PRESENCE_CHUNKS.max(chunks.len() / 64)).min(chunks.end);
            for index in first..round.next {
                let chunk = room.chunk(lane, index);
                let hash = hash(&chunk.words);
                if std::mem::replace(&mut round.hashes[index], hash) != hash && !has(kept, lane, index) {
                    kept.chunks.push(chunk);
                }
            }
        }
    }
}

fn has(kept: &Kept, lane: Lane, index: usize) -> bool {
    kept.chunks.iter().any(|c| c.lane == lane && c.index == index)
}

fn hash(words: &[u32]) -> u64 {
    let mut h = SipHasher13::new();
    words.iter().for_each(|w| h.write_u32(*w));
    h.finish()
}

/// Nothing but the clock and the tokens that accrue with it.
fn same(a: &Head, b: &Head) -> bool {
    *a == Head { clock_s: a.clock_s, tokens: a.tokens, ..b.clone() }
}

fn unknown(room: &str) -> StoreError {
    let why = format!("what it holds of room `{room}` was written by another version; use that version, or move the state away");
    StoreError::Refused(why.into())
}

fn encode(batch: &mut Batch, name: &str, kept: &Kept) {
    let table = |kind| Table { kind, of: name };
    // A struct of numbers and texts always becomes JSON.
    batch.put(table(HEADS), b"head", serde_json::to_vec(&kept.head).unwrap_or_default());
    for s in &kept.seats {
        let mut value = Vec::with_capacity(20);
        [s.generation, s.expires_s, s.ends_s].iter().for_each(|n| value.extend(n.to_be_bytes()));
        value.extend(s.owner.map_or(u64::MAX, Place::to_bits).to_be_bytes());
        batch.put(table(SEATS), &s.index.to_be_bytes(), value);
    }
    for c in &kept.chunks {
        let mut key = vec![c.lane as u8];
        key.extend((c.index as u32).to_be_bytes());
        let words: Vec<u8> = c.words.iter().flat_map(|w| w.to_be_bytes()).collect();
        batch.put(table(PLACES), &key, words);
    }
}

fn decode_seat(key: &[u8], value: &[u8]) -> Option<SeatRecord> {
    let number = |at: usize| Some(u32::from_be_bytes(value.get(at..at + 4)?.try_into().ok()?));
    let owner = u64::from_be_bytes(value.get(12..20)?.try_into().ok()?);
    Some(SeatRecord {
        index: u32::from_be_bytes(key.try_into().ok()?),
        generation: number(0)?,
        expires_s: number(4)?,
        ends_s: number(8)?,
        owner: Place::from_bits(owner),
    })
}

fn decode_chunk(key: &[u8], value: &[u8]) -> Option<Chunk> {
    let (lane, index) = key.split_first()?;
    let lane = Lane::ALL.into_iter().find(|l| *l as u8 == *lane)?;
    let (words, rest) = value.as_chunks::<4>();
    let words = words.iter().map(|w| u32::from_be_bytes(*w)).collect();
    rest.is_empty().then_some(Chunk { lane, index: u32::from_be_bytes(index.try_into().ok()?) as usize, words })
}

#[cfg(test)]
#[path = "rooms_tests.rs"]
mod tests;
