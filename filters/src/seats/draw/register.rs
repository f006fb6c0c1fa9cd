//! The open list of a draw: who entered, by index, until it is frozen.
//!
//! Looking up an index touches one atomic word. Entering takes the lock of one of 64 small maps: it happens once a visitor,
//! and the entry then waits for the disk anyway.

use std::{collections::BTreeMap, num::NonZeroU64};

pub use super::slots::{REGISTER_MAX, Standing, Written};
use super::{
    entry::{Entry, EntryNames},
    live::EntryRef,
    people::{People, Shards},
    rules::Quotas,
    slots::{NoIndex, Slots},
    weights::Weights,
};
use crate::rule::bot_gate::Class;

/// What came of asking for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entering {
    /// A new index, reserved: make it durable, then [`Register::settle`].
    New {
        /// Its index.
        index: u32,
        /// It came above a quota.
        crowded: bool,
    },
    /// It comes above a quota and brings no proof of work.
    NeedsWork,
    /// This person has one already.
    Known {
        /// Its index.
        index: u32,
    },
    /// `entries_max` are in.
    Full,
    /// The list is closed.
    Closed,
}

/// Who asks for an entry, as keyed hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person {
    /// Of the shop's login, else of the visitor cookie.
    pub key: u64,
    /// The network, /24 or /64; `None` when it is not known.
    pub network: Option<NonZeroU64>,
    /// Of how it looks; 0 when that is not known.
    pub fingerprint: u64,
}

/// How many entries there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub max: u32,
    /// Of one network before further ones are crowded.
    pub per_network: Option<u32>,
    /// Of one network that look alike before further ones are crowded.
    pub per_fingerprint: Option<u32>,
    /// Whether who is crowded has to bring a proof of work.
    pub work: bool,
}

/// Somebody's entry, and the crowds it is part of: 24 bytes and the key.
#[derive(Clone, Copy, Debug)]
struct Listed {
    index: u32,
    network: Option<NonZeroU64>,
    fingerprint: u64,
}

impl Listed {
    fn new(index: u32, who: Person) -> Self {
        Listed { index, network: who.network, fingerprint: who.fingerprint }
    }
}

/// The list.
#[derive(Debug, Default)]
pub struct Register {
    slots: Slots,
    people: People<Listed>,
    /// By network, and by fingerprint within one; fingerprint 0 is the network as a whole.
    crowds: Shards<BTreeMap<(u64, u64), u32>>,
}

impl Register {
    /// Asks for an entry. `worked`: with a proof of work that was checked.
    pub fn enter(&self, who: Person, limits: Limits, worked: bool) -> Entering {
        let mut people = self.people.lock(who.key);
        if let Some(listed) = people.get(&who.key) {
            return Entering::Known { index: listed.index };
        }
        let crowded = self.one_more(who, limits);
        if crowded && limits.work && !worked {
            self.one_less(who);
            return Entering::NeedsWork;
        }
        let index = match self.slots.reserve(limits.max) {
            Ok(index) => index,
            Err(why) => {
                self.one_less(who);
                return if why == NoIndex::Full { Entering::Full } else { Entering::Closed };
            }
        };
        people.insert(who.key, Listed::new(index, who));
        Entering::New { index, crowded }
    }

    /// The reserved entry is durable, or could not be made so: then its index is void and the person may enter again. `false`:
    /// it is no entry, or was given up before ([`Register::give_up`]).
    pub fn settle(&self, index: u32, who: Person, as_entry: Option<Standing>) -> bool {
        if as_entry.is_none() {
            self.people.lock(who.key).remove(&who.key);
            self.one_less(who);
        }
        self.slots.settle(index, as_entry.unwrap_or(Standing::Void)) && as_entry.is_some()
    }

    /// Voids what is still reserved: whoever asked for it went away before it was handed to the disk.
    pub fn give_up(&self) -> u32 {
        (0..self.taken()).map(|index| u32::from(self.slots.settle(index, Standing::Void))).sum()
    }

    /// Puts an entry back that the disk knew, in index order. For the start, before anybody enters; indices below it that are
    /// not put back were reserved and never used.
    pub fn restore(&self, index: u32, who: Person, as_entry: Written) {
        if index >= REGISTER_MAX {
            return;
        }
        self.count(who, u32::saturating_add);
        self.slots.restore(index, Standing::Written(as_entry));
        // A write that came too late to be answered may be on the disk beside the one that was: the later one has the receipt.
        if let Some(unanswered) = self.people.lock(who.key).insert(who.key, Listed::new(index, who)) {
            self.slots.restore(unanswered.index, Standing::Void);
        }
    }

    /// After the last [`Register::restore`]: what was not put back is void.
    pub fn restored(&self) {
        self.slots.restored();
    }

    /// Somebody with this entry was here: present until then, and at least as suspicious as seen now.
    pub fn seen(&self, index: u32, class: Option<Class>, until_s: u32) {
        self.slots.seen(index, class, until_s);
    }

    /// A browser showed the page of this entry. `false`: it is no entry, or that was known.
    pub fn rendered(&self, index: u32) -> bool {
        self.slots.rendered(index)
    }

    /// Whoever holds this entry went away: it is drawn like any other, and its place is passed over until they return.
    pub fn away(&self, index: u32) {
        self.slots.away(index);
    }

    /// What stands at an index.
    pub fn standing(&self, index: u32) -> Standing {
        self.slots.standing(index)
    }

    /// Indices taken.
    pub fn taken(&self) -> u32 {
        self.slots.taken()
    }

    /// Stops entries. `true` once every index that was taken is written or void: then the list can be frozen.
    pub fn close(&self) -> bool {
        self.slots.close()
    }

    /// Nobody enters a list that nobody has entered. `false`: somebody has, or it is closed.
    pub fn seal(&self) -> bool {
        self.slots.seal()
    }

    /// Takes back [`Register::seal`].
    pub fn unseal(&self) {
        self.slots.unseal();
    }

    /// Before the list is weighed: who is of a network with more than `crowd_times` times a quota (0: no such rule), or of as
    /// many of it that look alike, is crowded, and who came first no less than who came last.
    pub fn crowd(&self, quotas: &Quotas) {
        let above = |n: u32, most: Option<u32>| {
            most.is_some_and(|most| quotas.crowd_times > 0 && u64::from(n) > u64::from(quotas.crowd_times) * u64::from(most))
        };
        for people in self.people.each() {
            for Listed { index, network, fingerprint } in people.values() {
                let Some(network) = network.map(NonZeroU64::get) else { continue };
                let crowds = self.crowds.lock(network);
                let of = |fingerprint: u64| crowds.get(&(network, fingerprint)).copied().unwrap_or(0);
                let alike = if *fingerprint == 0 { 0 } else { of(*fingerprint) };
                if above(of(0), quotas.per_network) || above(alike, quotas.per_fingerprint) {
                    self.slots.crowd(*index);
                }
            }
        }
    }

    /// The weight of every index, now; `None` for void ones.
    pub fn weights(&self, weights: &Weights) -> Vec<Option<u8>> {
        let weigh = |i| match self.standing(i) {
            Standing::Written(e) => Some(weights.of(e.class, e.crowded, e.rendered)),
            _ => None,
        };
        (0..self.taken()).map(weigh).collect()
    }

    /// The index of a person's entry, written or on its way.
    pub fn index_of(&self, key: u64) -> Option<u32> {
        self.people.get(key).map(|l| l.index)
    }

    /// The list is frozen: who entered goes where all lists of the sale keep it, and nobody is counted any more.
    pub fn hand_over(&self, to: &People<EntryRef>, window: u32) {
        for mut people in self.people.each() {
            // First there, then gone here: whoever asks in between finds one of them.
            for (key, Listed { index, .. }) in people.iter() {
                to.lock(*key).insert(*key, EntryRef { window, index: *index });
            }
            people.clear();
        }
        self.crowds.each().for_each(|mut c| c.clear());
    }

    /// Counts one more; whether it is one too many.
    fn one_more(&self, who: Person, limits: Limits) -> bool {
        let [of_network, alike] = self.count(who, u32::saturating_add);
        let above = |n: u32, most: Option<u32>| most.is_some_and(|most| n > most);
        above(of_network, limits.per_network) || above(alike, limits.per_fingerprint)
    }

    fn one_less(&self, who: Person) {
        self.count(who, u32::saturating_sub);
    }

    /// Entries of its network, and of those that look like it, after one step. Unknown networks are not counted.
    fn count(&self, who: Person, step: fn(u32, u32) -> u32) -> [u32; 2] {
        let Some(network) = who.network.map(NonZeroU64::get) else { return [0; 2] };
        let mut crowds = self.crowds.lock(network);
        let mut of = |fingerprint: u64| {
            let key = (network, fingerprint);
            let n = step(crowds.get(&key).copied().unwrap_or(0), 1);
            // Who only asks leaves nothing behind: memory goes with entries.
            match n {
                0 => drop(crowds.remove(&key)),
                n => drop(crowds.insert(key, n)),
            }
            n
        };
        let all = of(0);
        [all, if who.fingerprint == 0 { 0 } else { of(who.fingerprint) }]
    }
}

/// The entries as they are drawn.
pub fn entries(weights: &[Option<u8>], names: &EntryNames) -> Vec<Entry> {
    let entry = |(i, w): (u64, &Option<u8>)| w.map_or(Entry::VOID, |weight| Entry { id: names.id(i), weight });
    (0u64..).zip(weights).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(key: u64, network: u64) -> Person {
        Person { key, network: NonZeroU64::new(network), fingerprint: 0 }
    }

    fn limits(max: u32, per_network: Option<u32>) -> Limits {
        Limits { max, per_network, per_fingerprint: None, work: false }
    }

    fn written(class: Class, crowded: bool) -> Option<Standing> {
        Some(Standing::Written(Written { class, crowded, rendered: false, present_until_s: 60 }))
    }

    #[test]
    fn one_entry_a_person_and_beyond_the_quota_a_smaller_weight() {
        let r = Register::default();
        for n in 0..5 {
            let entering = r.enter(person(n, 7), limits(100, Some(3)), false);
            assert_eq!(entering, Entering::New { index: n as u32, crowded: n >= 3 });
            r.settle(n as u32, person(n, 7), written(Class::Human, n >= 3));
            assert_eq!(r.enter(person(n, 7), limits(100, Some(3)), false), Entering::Known { index: n as u32 });
        }
        assert_eq!(r.enter(person(9, 8), limits(100, Some(3)), false), Entering::New { index: 5, crowded: false });
        assert!(!r.close(), "index 5 is on its way to the disk");
        assert_eq!(r.enter(person(10, 8), limits(100, None), false), Entering::Closed);
        assert_eq!((r.give_up(), r.give_up()), (1, 0), "whoever asked for it went away");
        assert!(!r.settle(5, person(9, 8), written(Class::Human, false)), "too late");
        assert!(r.close());
        let weights = Weights::default();
        assert_eq!(r.weights(&weights), [Some(16), Some(16), Some(16), Some(2), Some(2), None]);
    }

    #[test]
    fn a_network_far_above_its_quota_is_one_crowd_and_its_first_weigh_no_more_than_its_last() {
        let quotas = |crowd_times| Quotas { per_network: Some(3), per_fingerprint: Some(2), crowd_times, ..Quotas::default() };
        let limits = Limits { max: 100, per_network: Some(3), per_fingerprint: Some(2), work: false };
        // Seven of network 7; six of network 8, five of them alike; one of network 9.
        let looks = |n: u64| if (7..12).contains(&n) { 1 } else { 100 + n };
        let all = (0..7).map(|n| (n, 7)).chain((7..13).map(|n| (n, 8))).chain([(13, 9)]);
        let all: Vec<Person> = all.map(|(n, network)| Person { fingerprint: looks(n), ..person(n, network) }).collect();
        let (live, back) = (Register::default(), Register::default());
        for (who, i) in all.iter().zip(0..) {
            let Entering::New { crowded, .. } = live.enter(*who, limits, false) else { panic!("{who:?}") };
            live.settle(i, *who, written(Class::Human, crowded));
            back.restore(i, *who, Written { crowded, ..Written::default() });
        }
        back.restored();
        for list in [&live, &back] {
            let weights = |times| {
                list.crowd(&quotas(times));
                list.weights(&Weights::default()).into_iter().map(Option::unwrap_or_default).collect::<Vec<u8>>()
            };
            let first = [16, 16, 16, 2, 2, 2, 2, 16, 16, 2, 2, 2, 2, 16];
            assert_eq!(weights(0), first, "no such rule");
            assert_eq!(weights(3), first, "seven are not more than three times three, nor five more than three times two");
            assert_eq!(weights(2), [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 16], "all of 7; of 8 those who look alike");
        }
    }

    #[test]
    fn who_only_asks_leaves_nothing_behind() {
        let r = Register::default();
        let limits = Limits { max: 2, per_network: Some(1), per_fingerprint: Some(1), work: true };
        assert!(matches!(r.enter(person(1, 7), limits, false), Entering::New { .. }));
        let kept = || r.crowds.each().map(|c| c.len()).sum::<usize>();
        let one = kept();
        for n in 2..500 {
            let who = Person { fingerprint: n, ..person(n, 7) };
            assert_eq!(r.enter(who, limits, false), Entering::NeedsWork, "{n} knocks with another face each time");
        }
        r.close();
        for n in 500..600 {
            assert_eq!(r.enter(Person { fingerprint: n, ..person(n, n) }, limits, true), Entering::Closed);
        }
        assert_eq!(kept(), one);
    }

    #[test]
    fn a_list_is_full_and_a_failed_entry_may_come_again() {
        let r = Register::default();
        assert_eq!(r.enter(person(1, 1), limits(2, None), false), Entering::New { index: 0, crowded: false });
        r.settle(0, person(1, 1), None);
        assert_eq!(r.enter(person(1, 1), limits(2, None), false), Entering::New { index: 1, crowded: false });
        assert_eq!(r.enter(person(2, 1), limits(2, None), false), Entering::Full);
        assert_eq!(r.standing(0), Standing::Void);
    }

    #[test]
    fn the_worst_class_counts_and_presence_only_grows() {
        let r = Register::default();
        r.enter(person(1, 1), limits(2, None), false);
        r.settle(0, person(1, 1), written(Class::Human, false));
        r.seen(0, Some(Class::Suspect), 90);
        r.seen(0, Some(Class::Unsure), 80);
        r.seen(0, None, 70);
        let worst = Written { class: Class::Suspect, present_until_s: 90, ..Written::default() };
        assert_eq!(r.standing(0), Standing::Written(worst));
        r.seen(1, Some(Class::Human), 90);
        assert_eq!(r.standing(1), Standing::Free);
    }

    #[test]
    fn what_the_disk_knew_comes_back_and_gaps_are_void() {
        let r = Register::default();
        r.restore(0, person(44, 1), Written::default());
        r.restore(1, person(11, 1), Written { crowded: true, ..Written::default() });
        r.restore(4, person(44, 1), Written { class: Class::Unsure, ..Written::default() });
        r.restored();
        assert_eq!(r.enter(person(44, 1), limits(100, None), false), Entering::Known { index: 4 });
        assert_eq!(r.weights(&Weights::default()), [None, Some(2), None, None, Some(8)]);
        assert_eq!(
            r.enter(person(5, 1), limits(100, Some(3)), false),
            Entering::New { index: 5, crowded: true },
            "quotas are counted again"
        );
    }

    #[test]
    fn above_a_quota_an_entry_takes_work_and_nothing_is_counted_without_it() {
        let r = Register::default();
        let limits = Limits { max: 100, per_network: Some(3), per_fingerprint: Some(2), work: true };
        let alike = |key, fingerprint| Person { fingerprint, ..person(key, 7) };
        let settle = |index, who, crowded| assert!(r.settle(index, who, written(Class::Human, crowded)));
        for n in 0..2 {
            assert_eq!(r.enter(alike(n, 5), limits, false), Entering::New { index: n as u32, crowded: false });
            settle(n as u32, alike(n, 5), false);
        }
        for _ in 0..10 {
            assert_eq!(r.enter(alike(2, 5), limits, false), Entering::NeedsWork, "a third that looks like the two");
        }
        assert_eq!(r.enter(alike(3, 6), limits, false), Entering::New { index: 2, crowded: false }, "the third of the network");
        assert_eq!(r.enter(alike(4, 8), limits, false), Entering::NeedsWork, "the fourth");
        assert_eq!(r.enter(alike(4, 8), limits, true), Entering::New { index: 3, crowded: true });
        // An entry that the disk lost is no entry of its network.
        r.settle(2, alike(3, 6), None);
        r.settle(3, alike(4, 8), None);
        assert_eq!(r.enter(alike(5, 9), limits, false), Entering::New { index: 4, crowded: false });
        let elsewhere = Person { network: None, ..alike(6, 5) };
        assert_eq!(r.enter(elsewhere, limits, false), Entering::New { index: 5, crowded: false });
    }

    #[test]
    fn a_crowd_gets_distinct_indices_and_nobody_two() {
        let r = Register::default();
        std::thread::scope(|s| {
            for t in 0..4u64 {
                let r = &r;
                s.spawn(move || {
                    for n in 0..500u64 {
                        // Every person knocks from two threads.
                        let who = person(n + 250 * (t / 2), 1 + n % 9);
                        if let Entering::New { index, crowded } = r.enter(who, limits(10_000, Some(50)), false) {
                            r.settle(index, who, written(Class::Human, crowded));
                        }
                    }
                });
            }
        });
        assert!(r.close());
        assert_eq!(r.taken(), 750);
        assert!(r.weights(&Weights::default()).iter().all(Option::is_some));
    }
}
