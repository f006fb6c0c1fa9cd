//! The indices of a list: an atomic counter that can be closed, and one 64-bit word an index.

use std::sync::OnceLock;

use super::super::sync::{AtomicU64, Ordering};
use crate::{
    rule::bot_gate::Class,
    sabotage::{self, Bug},
};

/// Most entries of one list.
pub const REGISTER_MAX: u32 = 1 << 24;

/// Indices a segment: 512 KiB, allocated when the first of them is taken.
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
const SEGMENT: usize = 1 << 16;
#[cfg(any(feature = "loom", feature = "shuttle"))]
const SEGMENT: usize = 8;
/// The counter's closed bit.
const CLOSED: u64 = 1 << 63;

/// What stands at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody took it.
    Free,
    /// Taken; on its way to the disk.
    Reserved,
    /// An entry.
    Written(Written),
    /// Taken and given up: no place.
    Void,
}

/// An entry that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The worst class it was seen with.
    pub class: Class,
    /// It came above its network's quota.
    pub crowded: bool,
    /// A browser showed its page.
    pub rendered: bool,
    /// Counts as present until this second of the room's clock.
    pub present_until_s: u32,
}

/// Why there is no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoIndex {
    /// As many as may be are taken.
    Full,
    /// The list is closed.
    Closed,
}

/// The indices.
#[derive(Debug)]
pub struct Slots {
    word: AtomicU64,
    /// Indices that are written or void.
    settled: AtomicU64,
    segments: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

impl Default for Slots {
    fn default() -> Self {
        let segments = (0..(REGISTER_MAX as usize / SEGMENT).min(256)).map(|_| OnceLock::new()).collect();
        Slots { word: AtomicU64::new(0), settled: AtomicU64::new(0), segments }
    }
}

impl Slots {
    /// Reserves the next index, unless `max` are taken or the list is closed.
    pub fn reserve(&self, max: u32) -> Result<u32, NoIndex> {
        let max = u64::from(max.min(REGISTER_MAX));
        let next = |n: u64| (n & CLOSED == 0 && n < max).then_some(n + 1);
        match self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(n) => {
                self.set(n as u32, Standing::Reserved);
                Ok(n as u32)
            }
            Err(n) if n & CLOSED != 0 => Err(NoIndex::Closed),
            Err(_) => Err(NoIndex::Full),
        }
    }

    /// Reserved becomes something else, once. `false`: it was not reserved any more.
    pub fn settle(&self, index: u32, to: Standing) -> bool {
        let reserved = pack(Standing::Reserved);
        let settled =
            self.slot(index).is_some_and(|w| w.compare_exchange(reserved, pack(to), Ordering::AcqRel, Ordering::Acquire).is_ok());
        self.settled.fetch_add(u64::from(settled), Ordering::AcqRel);
        settled
    }

    /// Takes no more; `true` once every index that was taken is written or void: then nothing changes any more.
    pub fn close(&self) -> bool {
        if sabotage::is(Bug::ListNotClosed) {
            return self.settled.load(Ordering::Acquire) >= self.word.load(Ordering::Acquire);
        }
        let n = self.word.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED;
        self.settled.load(Ordering::Acquire) >= n
    }

    /// Takes none at all, where none is taken. `false`: some are, or it is closed.
    pub fn seal(&self) -> bool {
        self.word.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Takes back [`Slots::seal`].
    pub fn unseal(&self) {
        let _ = self.word.compare_exchange(CLOSED, 0, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Somebody with this entry was here: present until then, and at least as suspicious as seen now.
    pub fn seen(&self, index: u32, class: Option<Class>, until_s: u32) {
        self.change(index, |e| Written {
            class: class.map_or(e.class, |c| e.class.max(c)),
            present_until_s: e.present_until_s.max(until_s),
            ..e
        });
    }

    /// Nobody with this entry is here any more.
    pub fn away(&self, index: u32) {
        self.change(index, |e| Written { present_until_s: 0, ..e });
    }

    /// The entry's network is a crowd.
    pub fn crowd(&self, index: u32) {
        self.change(index, |e| Written { crowded: true, ..e });
    }

    /// A browser showed the entry's page. `false`: it is no entry, or that was known.
    pub fn rendered(&self, index: u32) -> bool {
        self.change(index, |e| Written { rendered: true, ..e })
    }

    /// What is written becomes something else that is. `false`: nothing has changed.
    fn change(&self, index: u32, to: impl Fn(Written) -> Written) -> bool {
        let Some(word) = self.slot(index) else { return false };
        let changed = |w: u64| match unpack(w) {
            Standing::Written(was) => Some(pack(Standing::Written(to(was)))).filter(|is| *is != w),
            _ => None,
        };
        word.fetch_update(Ordering::AcqRel, Ordering::Acquire, changed).is_ok()
    }

    /// What stands at an index.
    pub fn standing(&self, index: u32) -> Standing {
        self.slot(index).map_or(Standing::Free, |w| unpack(w.load(Ordering::Acquire)))
    }

    /// Indices taken.
    pub fn taken(&self) -> u32 {
        (self.word.load(Ordering::Acquire) & !CLOSED) as u32
    }

    /// Puts an index back. For the start.
    pub fn restore(&self, index: u32, standing: Standing) {
        self.set(index, standing);
        self.word.fetch_max(u64::from(index) + 1, Ordering::AcqRel);
    }

    /// After the last [`Slots::restore`]: what was not put back is void.
    pub fn restored(&self) {
        let n = self.taken();
        for index in (0..n).filter(|i| matches!(self.standing(*i), Standing::Free | Standing::Reserved)) {
            self.set(index, Standing::Void);
        }
        self.settled.store(u64::from(n), Ordering::Release);
    }

    fn set(&self, index: u32, standing: Standing) {
        let Some(segment) = self.segments.get(index as usize / SEGMENT) else { return };
        let segment = segment.get_or_init(|| (0..SEGMENT).map(|_| AtomicU64::new(0)).collect());
        segment[index as usize % SEGMENT].store(pack(standing), Ordering::Release);
    }

    fn slot(&self, index: u32) -> Option<&AtomicU64> {
        self.segments.get(index as usize / SEGMENT)?.get()?.get(index as usize % SEGMENT)
    }
}

/// Bits 0..32 presence, 32..34 class, 34 crowded, 35..37 what it is, 37 rendered.
fn pack(s: Standing) -> u64 {
    match s {
        Standing::Free => 0,
        Standing::Reserved => 1 << 35,
        Standing::Written(Written { class, crowded, rendered, present_until_s }) => {
            u64::from(rendered) << 37 | 2 << 35 | u64::from(crowded) << 34 | (class as u64) << 32 | u64::from(present_until_s)
        }
        Standing::Void => 3 << 35,
    }
}

fn unpack(w: u64) -> Standing {
    match w >> 35 & 3 {
        0 => Standing::Free,
        1 => Standing::Reserved,
        2 => Standing::Written(Written {
            class: match w >> 32 & 3 {
                0 => Class::Human,
                1 => Class::Unsure,
                _ => Class::Suspect,
            },
            crowded: w >> 34 & 1 == 1,
            rendered: w >> 37 & 1 == 1,
            present_until_s: w as u32,
        }),
        _ => Standing::Void,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_keep_what_they_are_given(class in 0u8..3, crowded: bool, rendered: bool, until: u32) {
            let class = [Class::Human, Class::Unsure, Class::Suspect][usize::from(class)];
            let written = Standing::Written(Written { class, crowded, rendered, present_until_s: until });
            for s in [Standing::Free, Standing::Reserved, Standing::Void, written] {
                prop_assert_eq!(unpack(pack(s)), s);
            }
        }
    }
}
