//! The draw of one sale while it happens: windows in which people enter, lists that are frozen, places that are drawn.
//!
//! Secrets, signatures and the disk are the shell's: it pledges, closes, freezes and reveals; what a visit needs is here.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use super::{
    census::Census,
    commit::window_id,
    digest::Hash,
    entry::{Entry, EntryNames, Leaves},
    people::People,
    register::{Register, entries},
    transcript::{FrozenList, Promise},
    tree::Tree,
    work::Work,
};
use crate::{rule::sale_window::Sale, time::Now};

/// Most windows of one sale: a window of ten seconds for eleven days.
pub const WINDOWS_MAX: u64 = 100_000;
/// Bit 63 of a ticket's number says that it is an entry, not a place.
const ENTRY: u64 = 1 << 63;
/// So many lists of a chain may be closed and not frozen yet: a list of ten seconds waits twenty for what is on its way.
const FREEZING_MAX: u64 = 8;
/// In the table of places: none.
const NO_PLACE: u32 = u32::MAX;

/// An entry of a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef {
    /// Which window it entered in; 0 when the sale has one list.
    pub window: u32,
    /// Its index in that list.
    pub index: u32,
}

impl EntryRef {
    /// As a ticket's number: bit 63, the window in bits 32..63, the index in bits 0..32.
    pub fn to_bits(self) -> u64 {
        ENTRY | u64::from(self.window) << 32 | u64::from(self.index)
    }

    /// The inverse; `None` for the number of a place.
    pub fn from_bits(bits: u64) -> Option<Self> {
        let window = (bits >> 32 & u64::from(u32::MAX >> 1)) as u32;
        (bits & ENTRY != 0).then_some(EntryRef { window, index: bits as u32 })
    }
}

/// The live draw of one sale.
#[derive(Debug)]
pub struct SaleDraw {
    /// The sale.
    sale_id: Box<str>,
    written: Span,
    /// When people may enter, as it was promised; the sale may open later by now.
    promised: OnceLock<Span>,
    chained: bool,
    pledge: OnceLock<Pledge>,
    /// What the disk knew of entries is back: people may enter.
    open: AtomicBool,
    /// The sale does not take place: nobody enters, nobody is seated; what is there is drawn and revealed all the same.
    cancelled: AtomicBool,
    /// Another promise takes the place of this one: nobody enters.
    retired: AtomicBool,
    windows: Box<[OnceLock<Box<Window>>]>,
    /// Who entered lists that are frozen; of several entries the latest.
    people: People<EntryRef>,
}

/// When people may enter, Unix milliseconds, and how long a list is open.
#[derive(Clone, Copy, Debug)]
struct Span {
    opens_ms: u64,
    ends_ms: u64,
    window_ms: u64,
}

/// What was promised, without the secret: enough to name entries.
#[derive(Debug)]
pub struct Pledge {
    /// RFC 8785 JSON.
    pub rules_json: String,
    /// Its hash.
    pub rules: Hash,
    /// C.
    pub commitment: Hash,
    /// The gate's Ed25519 key.
    pub public_key: [u8; 32],
    entry_key: [u8; 32],
}

/// One list.
#[derive(Debug)]
pub struct Window {
    number: u64,
    draw_id: String,
    /// Who entered.
    pub register: Register,
    names: EntryNames,
    frozen: OnceLock<Frozen>,
    places: OnceLock<Box<[u32]>>,
}

/// A frozen list: everything a proof needs.
#[derive(Debug)]
pub struct Frozen {
    /// The signed statement.
    pub list: FrozenList,
    /// The weight of each index; `None` for void ones.
    pub weights: Vec<Option<u8>>,
    /// Proves that an entry is in.
    pub tree: Tree,
    /// The number in the line of the first drawn place.
    pub base: u32,
    /// Places that will be drawn.
    pub count: u32,
    /// By class.
    pub census: Census,
}

impl Frozen {
    /// A list that was frozen before; its tree is made again.
    pub fn of(window: &Window, list: FrozenList, weights: Vec<Option<u8>>, base: u32, count: u32, census: Census) -> Self {
        let tree = Tree::new(Leaves::new(&window.draw_id).all(&window.entries(&weights)));
        Frozen { list, weights, tree, base, count, census }
    }
}

impl SaleDraw {
    /// The draw of a sale: one list until `freeze_before_ms` before the opening, or one list a window until it closes.
    pub fn new(sale: &Sale, freeze_before_ms: u64, window_ms: Option<u64>) -> Self {
        let ends_ms = match window_ms {
            Some(_) => sale.closes_ms,
            None => sale.opens_ms.saturating_sub(freeze_before_ms),
        };
        let span_ms = ends_ms.saturating_sub(sale.prequeue_opens_ms);
        let length = window_ms.unwrap_or(span_ms).max(1);
        let count = span_ms.div_ceil(length).min(WINDOWS_MAX);
        SaleDraw {
            sale_id: sale.name.clone(),
            written: Span { opens_ms: sale.prequeue_opens_ms, ends_ms, window_ms: length },
            promised: OnceLock::new(),
            chained: window_ms.is_some(),
            pledge: OnceLock::new(),
            open: AtomicBool::new(false),
            cancelled: AtomicBool::new(sale.cancelled),
            retired: AtomicBool::new(false),
            windows: (0..count).map(|_| OnceLock::new()).collect(),
            people: People::default(),
        }
    }

    /// The sale.
    pub fn sale_id(&self) -> &str {
        &self.sale_id
    }

    /// Whether it is drawn window by window.
    pub fn is_chained(&self) -> bool {
        self.chained
    }

    /// How many lists there can be.
    pub fn window_count(&self) -> u64 {
        self.windows.len() as u64
    }

    /// The promise is made and on disk. Said twice, the first one counts.
    pub fn pledge(&self, promise: &Promise, public_key: [u8; 32], entry_key: [u8; 32]) {
        let (rules_json, rules, commitment) = (promise.rules_json.clone(), promise.rules, promise.commitment);
        let _ = self.pledge.set(Pledge { rules_json, rules, commitment, public_key, entry_key });
    }

    /// The one list is open when it was promised to be, whatever the sale's hours are by now. Say it before [`SaleDraw::open`].
    pub fn hold_to(&self, opens_ms: u64, ends_ms: u64) {
        if !self.chained {
            let _ = self.promised.set(Span { opens_ms, ends_ms, window_ms: ends_ms.saturating_sub(opens_ms).max(1) });
        }
    }

    /// Another promise takes the place of this one: nobody enters any more. `false`: somebody has entered, or a list is being
    /// frozen, and the promise stands.
    pub fn retire(&self, now: Now) -> bool {
        self.retired.store(true, Ordering::Release);
        // Whoever was let in before may still be on the way to the list of this moment or to one beside it.
        let number = now.wall_ms.saturating_sub(self.span().opens_ms) / self.span().window_ms;
        let near: Vec<_> = (number.saturating_sub(1)..=number + 1).filter_map(|n| self.window_or_new(n)).collect();
        let closed = |w: &Window| self.chained && w.number < number && w.register.taken() == 0 && w.frozen.get().is_none();
        let sealed = near.iter().all(|w| w.register.seal() || closed(w));
        let retired = sealed && self.made().all(|w| w.register.taken() == 0);
        if !retired {
            near.iter().filter(|w| w.number >= number).for_each(|w| w.register.unseal());
            self.retired.store(false, Ordering::Release);
        }
        retired
    }

    /// Takes back [`SaleDraw::retire`]: the promise stands after all.
    pub fn reinstate(&self, now: Now) {
        let number = now.wall_ms.saturating_sub(self.span().opens_ms) / self.span().window_ms;
        self.made().filter(|w| w.number >= number).for_each(|w| w.register.unseal());
        self.retired.store(false, Ordering::Release);
    }

    /// Whether another promise took its place.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Whether somebody has entered.
    pub fn has_entries(&self) -> bool {
        self.made().any(|w| w.register.taken() > 0)
    }

    /// Whether a list is frozen.
    pub fn has_frozen(&self) -> bool {
        self.made().any(|w| w.frozen.get().is_some())
    }

    /// Everything the disk knew is back in the lists: from now on people may enter.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// The sale does not take place. There is no way back.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Whether it does not take place.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Lists that wait for a round of public randomness.
    pub fn waits_for_rounds(&self) -> impl Iterator<Item = &FrozenList> {
        let waits = self.made().filter(|w| !w.is_drawn()).filter_map(Window::frozen);
        waits.map(|f| &f.list).filter(|l| l.round > 0)
    }

    /// Whether every list in which somebody entered is drawn.
    pub fn is_settled(&self) -> bool {
        self.made().all(|w| w.is_drawn() || w.register.taken() == 0)
    }

    /// Whether nobody may be called yet: what the disk knew is not back, or the one list is not drawn.
    pub fn is_pending(&self) -> bool {
        !self.open.load(Ordering::Acquire) || !self.chained && !self.window(0).is_some_and(Window::is_drawn)
    }

    /// What was promised; `None` until it is.
    pub fn pledged(&self) -> Option<&Pledge> {
        self.pledge.get()
    }

    /// What a person has to work on for an entry of a list above a quota; `None` before the promise is made.
    pub fn work(&self, window: &Window, person: u64, bits: u8) -> Option<Work> {
        Some(Work::of(&self.pledge.get()?.entry_key, &window.draw_id, person, bits))
    }

    /// The list people enter now; `None` outside its time and before [`SaleDraw::open`].
    pub fn open_window(&self, now: Now) -> Option<(u32, &Window)> {
        let Span { opens_ms, ends_ms, window_ms } = self.span();
        let shut = !self.open.load(Ordering::Acquire) || self.is_cancelled() || self.is_retired();
        if shut || now.wall_ms < opens_ms || now.wall_ms >= ends_ms {
            return None;
        }
        let number = (now.wall_ms - opens_ms) / window_ms;
        self.window_or_new(number).map(|w| (number as u32, w))
    }

    /// The entry of a person, open, frozen or drawn: one person has one, whatever browser it comes with.
    pub fn entry_of(&self, person: u64, now: Now) -> Option<EntryRef> {
        let Span { opens_ms, window_ms, .. } = self.span();
        let number = now.wall_ms.checked_sub(opens_ms)? / window_ms;
        let number = number.min(self.window_count().checked_sub(1)?);
        let fresh = (number.saturating_sub(FREEZING_MAX)..=number).rev().filter_map(|n| self.window(n));
        let open = fresh.take_while(|w| w.frozen.get().is_none()).find_map(|w| {
            let index = w.register.index_of(person)?;
            Some(EntryRef { window: w.number as u32, index })
        });
        open.or_else(|| self.people.get(person))
    }

    /// A list is frozen and its statement durable.
    pub fn freeze(&self, window: &Window, frozen: Frozen) {
        let _ = window.frozen.set(frozen);
        window.register.hand_over(&self.people, window.number as u32);
    }

    /// A list, made when it is not there yet. `None` before the promise is made, and beyond the last window.
    pub fn window_or_new(&self, number: u64) -> Option<&Window> {
        let pledge = self.pledge.get()?;
        let slot = self.windows.get(usize::try_from(number).ok()?)?;
        Some(slot.get_or_init(|| {
            let draw_id = self.draw_id(number);
            let names = EntryNames::new(&pledge.entry_key, &draw_id);
            Box::new(Window {
                number,
                draw_id,
                register: Register::default(),
                names,
                frozen: OnceLock::new(),
                places: OnceLock::new(),
            })
        }))
    }

    /// A list that is there.
    pub fn window(&self, number: u64) -> Option<&Window> {
        self.windows.get(usize::try_from(number).ok()?)?.get().map(|w| &**w)
    }

    /// When a list stops taking entries, Unix milliseconds.
    pub fn window_ends_ms(&self, number: u64) -> u64 {
        let Span { opens_ms, ends_ms, window_ms } = self.span();
        opens_ms.saturating_add(window_ms.saturating_mul(number + 1)).min(ends_ms)
    }

    /// The name of a list in statements and leaves.
    pub fn draw_id(&self, number: u64) -> String {
        if self.chained { window_id(&self.sale_id, number) } else { self.sale_id.to_string() }
    }

    /// The place in the line an entry drew; `None` while it is not drawn, and for void entries.
    pub fn place(&self, entry: EntryRef) -> Option<u32> {
        let window = self.window(u64::from(entry.window))?;
        let place = *window.places.get()?.get(entry.index as usize)?;
        (place != NO_PLACE).then(|| window.frozen.get().map_or(0, |f| f.base) + place)
    }
}

impl SaleDraw {
    fn span(&self) -> Span {
        self.promised.get().copied().unwrap_or(self.written)
    }

    fn made(&self) -> impl Iterator<Item = &Window> {
        self.windows.iter().filter_map(OnceLock::get).map(|w| &**w)
    }
}

impl Window {
    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The public name of an entry.
    pub fn entry_id(&self, index: u32) -> [u8; 16] {
        self.names.id(u64::from(index))
    }

    /// The entries as they are drawn.
    pub fn entries(&self, weights: &[Option<u8>]) -> Vec<Entry> {
        entries(weights, &self.names)
    }

    /// One entry of the frozen list.
    pub fn entry(&self, index: u32) -> Option<Entry> {
        let weight = self.frozen.get()?.weights.get(index as usize)?;
        Some(weight.map_or(Entry::VOID, |weight| Entry { id: self.entry_id(index), weight }))
    }

    /// The frozen list; `None` before.
    pub fn frozen(&self) -> Option<&Frozen> {
        self.frozen.get()
    }

    /// The places are drawn: of each index, counted from 0 in this list.
    pub fn draw(&self, places: &[Option<u32>]) {
        let _ = self.places.set(places.iter().map(|p| p.unwrap_or(NO_PLACE)).collect());
    }

    /// Whether places are drawn.
    pub fn is_drawn(&self) -> bool {
        self.places.get().is_some()
    }

    /// The place of an index in this list, from 0.
    pub fn drawn(&self, index: u32) -> Option<u32> {
        self.places.get()?.get(index as usize).copied().filter(|p| *p != NO_PLACE)
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
