//! The ledger as records of a key and a value each, for a store: open holds, who bought how much, and the totals. Each record
//! stands for itself, so it does not matter which write of it comes last, only that the last one is true.

use std::collections::BTreeSet;

use super::{Buyer, Conversion, Hold, HoldId, Holder, Ledger, Tally, Unit};
use crate::visit::VisitorId;

const VERSION: u8 = 1;

/// What must be written.
#[derive(Clone, Debug, Default)]
pub struct Dirty {
    pub(super) holds: BTreeSet<HoldId>,
    pub(super) people: BTreeSet<Holder>,
    pub(super) changed: bool,
}

/// A record's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An open hold, by number.
    Hold,
    /// Units that somebody bought.
    Bought,
    /// One record: the numbers of the sale.
    Totals,
}

/// A record: its kind, key, and value (`None`: gone).
pub type Record = (Kind, Vec<u8>, Option<Vec<u8>>);

impl Ledger {
    /// From now on what changes is remembered until [`Ledger::take_dirty`].
    pub fn keep(&mut self) {
        self.dirty.get_or_insert_default();
    }

    /// Records that differ from the last call, as they are now: the totals always, and at most `max` others; whether there
    /// are more. Nothing without [`Ledger::keep`].
    ///
    /// In an order of which every beginning is safe to be read back: what was sold before the hold it came from is gone, so
    /// that a unit may count twice and never not at all.
    pub fn take_dirty(&mut self, max: usize) -> (Vec<Record>, bool) {
        let Some(mut dirty) = self.dirty.take() else { return (Vec::new(), false) };
        let people: Vec<Holder> = dirty.people.iter().take(max).copied().collect();
        let is_there = |id: &&HoldId| self.holds.contains_key(*id);
        let there = dirty.holds.iter().filter(is_there);
        let gone = dirty.holds.iter().filter(|id| !is_there(id));
        let holds: Vec<HoldId> = there.chain(gone).take(max - people.len()).copied().collect();
        dirty.people.retain(|h| people.binary_search(h).is_err());
        for id in &holds {
            dirty.holds.remove(id);
        }
        dirty.changed = !dirty.people.is_empty() || !dirty.holds.is_empty();
        let more = dirty.changed;
        self.dirty = Some(dirty);
        (self.write(holds.into_iter(), people.into_iter()), more)
    }

    /// A record that was taken did not reach the disk, or nobody knows: it is taken again.
    pub fn dirty_again(&mut self, kind: Kind, key: &[u8]) {
        let Some(dirty) = &mut self.dirty else { return };
        dirty.changed = true;
        match kind {
            Kind::Hold => dirty.holds.extend(key.try_into().ok().map(|k| HoldId(u64::from_be_bytes(k)))),
            Kind::Bought => dirty.people.extend(read_holder(key)),
            Kind::Totals => {}
        }
    }

    /// Whether [`Ledger::keep`] was called.
    pub fn is_kept(&self) -> bool {
        self.dirty.is_some()
    }

    /// Whether anything changed since the last [`Ledger::take_dirty`].
    pub fn is_dirty(&self) -> bool {
        self.dirty.as_ref().is_some_and(|d| d.changed)
    }

    /// Every record.
    pub fn records(&self) -> Vec<Record> {
        let sold = self.people.iter().filter(|(_, t)| t.sold > 0).map(|(h, _)| *h);
        self.write(self.holds.keys().copied(), sold)
    }

    /// A ledger from its records; those that cannot be read are counted. What was at the shop, nobody knows.
    pub fn restore<'r>(written: Option<u64>, lot: u32, records: impl Iterator<Item = (Kind, &'r [u8], &'r [u8])>) -> (Self, u32) {
        let (mut ledger, mut bad) = (Ledger::new(written, lot), 0);
        for (kind, key, value) in records {
            bad += u32::from(ledger.read(kind, key, value).is_none());
        }
        ledger.recover();
        let now_written = std::mem::replace(&mut ledger.written, written);
        if now_written != written {
            ledger.written = now_written;
            ledger.rewrite(written, lot);
        }
        (ledger, bad)
    }

    pub(super) fn mark(&mut self, id: HoldId) {
        if let Some(dirty) = &mut self.dirty {
            dirty.holds.insert(id);
        }
    }

    fn write(&self, holds: impl Iterator<Item = HoldId>, people: impl Iterator<Item = Holder>) -> Vec<Record> {
        let hold = |id: HoldId| (Kind::Hold, id.0.to_be_bytes().to_vec(), self.holds.get(&id).map(hold_bytes));
        let bought = |h: Holder| {
            let sold = self.people.get(&h).map_or(0, |t| t.sold);
            (Kind::Bought, holder_bytes(h).to_vec(), (sold > 0).then(|| sold.to_be_bytes().to_vec()))
        };
        let totals = (Kind::Totals, Vec::new(), Some(self.totals()));
        [totals].into_iter().chain(people.map(bought)).chain(holds.map(hold)).collect()
    }

    fn totals(&self) -> Vec<u8> {
        let c = &self.conversion;
        let mut out = vec![VERSION];
        for limit in [self.stock, self.written] {
            out.push(u8::from(limit.is_some()));
            out.extend(limit.unwrap_or(0).to_be_bytes());
        }
        for n in [self.sold, self.next, c.buyers, c.holds_sold, c.holds_freed] {
            out.extend(n.to_be_bytes());
        }
        out
    }

    fn read(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Option<()> {
        match kind {
            Kind::Hold => {
                let id = HoldId(u64::from_be_bytes(key.try_into().ok()?));
                let hold = read_hold(value)?;
                // As if it had just been taken, then moved: counts come out right.
                self.taken(id, Hold { unit: Unit::Held, ..hold });
                self.move_to(id, hold.unit);
                if hold.unit == Unit::Uncertain {
                    self.forget_current(id);
                }
            }
            Kind::Bought => {
                let holder = read_holder(key)?;
                self.people.entry(holder).or_insert(Tally { open: 0, sold: 0 }).sold = u32::from_be_bytes(value.try_into().ok()?);
            }
            Kind::Totals => self.read_totals(value)?,
        }
        Some(())
    }

    fn read_totals(&mut self, value: &[u8]) -> Option<()> {
        let mut rest = value.strip_prefix(&[VERSION])?;
        let mut take = |n: usize| {
            let (head, tail) = rest.split_at_checked(n)?;
            rest = tail;
            Some(head)
        };
        let mut limit = || {
            let is = take(1)?[0] == 1;
            let n = u64::from_be_bytes(take(8)?.try_into().ok()?);
            Some(is.then_some(n))
        };
        let (stock, written) = (limit()?, limit()?);
        let mut number = || Some(u64::from_be_bytes(take(8)?.try_into().ok()?));
        let (sold, next, buyers) = (number()?, number()?, number()?);
        let (holds_sold, holds_freed) = (number()?, number()?);
        (self.stock, self.written, self.sold) = (stock, written, sold);
        self.next = self.next.max(next);
        self.conversion = Conversion { buyers, holds_sold, holds_freed, ..Conversion::default() };
        rest.is_empty().then_some(())
    }
}

fn holder_bytes(holder: Holder) -> [u8; 9] {
    let (kind, n) = match holder {
        Holder::Seat(bits) => (1, bits),
        Holder::Visitor(v) => (2, v.0),
    };
    let mut out = [kind; 9];
    out[1..].copy_from_slice(&n.to_be_bytes());
    out
}

fn read_holder(bytes: &[u8]) -> Option<Holder> {
    let (kind, n) = bytes.split_first()?;
    let n = u64::from_be_bytes(n.try_into().ok()?);
    match kind {
        1 => Some(Holder::Seat(n)),
        2 => Some(Holder::Visitor(VisitorId(n))),
        _ => None,
    }
}

fn hold_bytes(hold: &Hold) -> Vec<u8> {
    let unit = match hold.unit {
        Unit::Held => 1,
        Unit::InFlight => 2,
        Unit::Uncertain => 3,
    };
    let mut out = vec![VERSION, unit];
    out.extend(holder_bytes(hold.buyer.holder));
    out.push(u8::from(hold.buyer.visitor.is_some()));
    out.extend(hold.buyer.visitor.map_or(0, |v| v.0).to_be_bytes());
    for n in [hold.units, hold.since_s, hold.expires_s] {
        out.extend(n.to_be_bytes());
    }
    out
}

fn read_hold(bytes: &[u8]) -> Option<Hold> {
    let bytes: &[u8; 32] = bytes.try_into().ok()?;
    let u32_at = |i: usize| Some(u32::from_be_bytes(bytes[i..i + 4].try_into().ok()?));
    let unit = match (bytes[0], bytes[1]) {
        (VERSION, 1) => Unit::Held,
        (VERSION, 2) => Unit::InFlight,
        (VERSION, 3) => Unit::Uncertain,
        _ => return None,
    };
    let visitor = VisitorId(u64::from_be_bytes(bytes[12..20].try_into().ok()?));
    Some(Hold {
        buyer: Buyer { holder: read_holder(&bytes[2..11])?, visitor: (bytes[11] == 1).then_some(visitor) },
        units: u32_at(20)?,
        unit,
        since_s: u32_at(24)?,
        expires_s: u32_at(28)?,
    })
}

#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod tests {
    use std::collections::BTreeMap;

    use super::{
        super::{Outcome, Want, names},
        *,
    };

    const WANT: Want = Want { units: 2, per_visitor_max: Some(2), may_take: true, expires_s: 99 };

    fn buyer(n: u64) -> Buyer {
        Buyer { holder: Holder::Seat(n), visitor: Some(VisitorId(n + 100)) }
    }

    type Store = BTreeMap<(u8, Vec<u8>), (Kind, Vec<u8>)>;

    #[test]
    fn what_a_store_kept_is_the_ledger_again() {
        let mut ledger = Ledger::new(Some(10), 2);
        assert!(ledger.take_dirty(9).0.is_empty(), "nobody keeps it");
        ledger.keep();
        let mut store = Store::new();
        let mut flush = |l: &mut Ledger| {
            for (kind, key, value) in l.take_dirty(usize::MAX).0 {
                match value {
                    Some(value) => drop(store.insert((kind as u8, key), (kind, value))),
                    None => drop(store.remove(&(kind as u8, key))),
                }
            }
            store.clone()
        };
        let ids: Vec<HoldId> = (0..4).map(|n| ledger.begin(buyer(n), WANT, 1).expect("free")).collect();
        flush(&mut ledger);
        ledger.end(ids[0], Outcome::Sold(1), 2);
        ledger.end(ids[1], Outcome::NotSold, 2);
        ledger.end(ids[2], Outcome::Lost, 2);
        ledger.elsewhere(1);
        let kept = flush(&mut ledger);
        assert!(!ledger.is_dirty());
        let read = |kept: &Store, written| {
            let records = kept.iter().map(|((_, key), (kind, value))| (*kind, key.as_slice(), value.as_slice()));
            let (ledger, bad) = Ledger::restore(written, 2, records);
            assert_eq!(bad, 0);
            ledger
        };
        let mut again = read(&kept, Some(10));
        ledger.recover();
        assert_eq!(again.units(), ledger.units());
        assert_eq!((again.units().held, again.units().uncertain, again.units().sold), (2, 4, 2));
        assert_eq!(again.records(), ledger.records());
        assert_eq!(again.begin(buyer(1), WANT, 3), Ok(ids[1]), "the hold is still its holder's");
        assert_eq!(again.begin(buyer(0), WANT, 3), Err(super::super::Denied::VisitorLimit), "what was bought counts");
        assert_eq!(again.begin(buyer(9), WANT, 3), Ok(HoldId(4)), "numbers go on");
        assert_eq!(read(&kept, Some(15)).units().stock, Some(15), "the policy changed meanwhile");
    }

    #[test]
    fn every_beginning_of_what_is_written_counts_each_unit_at_least_once() {
        let mut ledger = Ledger::new(Some(40), 1);
        ledger.keep();
        let want = Want { units: 1, per_visitor_max: None, ..WANT };
        let ids: Vec<HoldId> = (0..20).map(|n| ledger.begin(buyer(n), want, 1).expect("free")).collect();
        let mut store = Store::new();
        let put = |store: &mut Store, records: Vec<Record>| {
            for (kind, key, value) in records {
                match value {
                    Some(value) => drop(store.insert((kind as u8, key), (kind, value))),
                    None => drop(store.remove(&(kind as u8, key))),
                }
            }
        };
        put(&mut store, ledger.take_dirty(usize::MAX).0);
        for (n, id) in ids.iter().enumerate() {
            ledger.end(*id, [Outcome::Sold(1), Outcome::NotSold, Outcome::Lost][n % 3], 2);
        }
        let late: Vec<HoldId> = (50..55).map(|n| ledger.begin(buyer(n), want, 3).expect("free")).collect();
        let taken = |l: &Ledger| {
            let u = l.units();
            u.sold + u.held + u.in_flight + u.uncertain
        };
        loop {
            let (records, more) = ledger.take_dirty(3);
            assert!(records.len() <= 4 && records[0].0 == Kind::Totals);
            put(&mut store, records);
            let read = store.iter().map(|((_, key), (kind, value))| (*kind, key.as_slice(), value.as_slice()));
            let (again, bad) = Ledger::restore(Some(40), 1, read);
            // Of the last ones nothing was sent to the shop yet: they wait for their own record.
            assert!(
                bad == 0 && taken(&again) + late.len() as u64 >= taken(&ledger),
                "{:?} of {:?}",
                again.units(),
                ledger.units()
            );
            assert!(again.units().sold >= ledger.units().sold);
            if !more {
                assert_eq!(
                    again.records(),
                    {
                        ledger.recover();
                        ledger.records()
                    },
                    "all of it in the end"
                );
                break;
            }
        }
        // What did not arrive is written again, as it is then.
        ledger.take_dirty(usize::MAX);
        assert!(!ledger.is_dirty());
        ledger.dirty_again(Kind::Hold, &late[0].0.to_be_bytes());
        assert!(ledger.is_dirty() && ledger.take_dirty(9).0.len() == 2);
    }

    #[test]
    fn rubbish_is_counted_and_left_out() {
        let good = hold_bytes(&Hold { buyer: buyer(1), units: 1, unit: Unit::Held, since_s: 1, expires_s: 2 });
        let mut odd = good.clone();
        odd[1] = 9;
        let key = 5u64.to_be_bytes();
        let records = [
            (Kind::Hold, &key[..], &good[..31]),
            (Kind::Hold, &key[..], &odd[..]),
            (Kind::Hold, &key[..3], &good[..]),
            (Kind::Bought, &[7u8; 9][..], &[0u8; 4][..]),
            (Kind::Totals, &[][..], &[1u8, 2, 3][..]),
        ];
        let (ledger, bad) = Ledger::restore(Some(3), 1, records.into_iter());
        assert_eq!((bad, ledger.units().free), (5, Some(3)));
        assert!(read_hold(&good).is_some_and(|h| names(&h.buyer)[1] == Some(Holder::Visitor(VisitorId(101)))));
    }
}
