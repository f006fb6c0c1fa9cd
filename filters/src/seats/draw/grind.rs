//! Why there is a beacon: whoever knows the secret can try names for a friend's entry until the draw suits. With a value
//! that is published after the freeze there is nothing to try against.

use serde::Serialize;

use super::{
    digest::{Hash, hash, hex},
    drum::{Drum, places, seed},
    entry::{Entry, EntryId, Leaves},
    rehearse::{Rehearsal, RehearsalBeacon},
    tree::{Tree, root_of_path},
};

/// Beacon values the ground name is tried against: each is a whole draw, a second for a million entries.
const VALUES: u64 = 40;
/// The same for more than 100,000 entries.
const VALUES_OF_LARGE: u64 = 10;

/// What grinding brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ground {
    /// Number of the friend's entry.
    pub index: u64,
    /// The chosen name, hex.
    pub entry_id: String,
    /// Names tried.
    pub tries: u64,
    /// The friend's place without a beacon.
    pub place_without_beacon: u32,
    /// The friend's places with the same name, had a beacon spoken after the freeze; for several of its values.
    pub places_with_beacon: Vec<u32>,
}

/// Invents a sale and looks for a name that puts the middle entry among the first `among`; `None` when `tries_max` names
/// do not.
pub fn grind(entries: usize, seed_number: u64, among: u32, tries_max: u64) -> Option<Ground> {
    let sale = Rehearsal { entries, seed: seed_number, beacon: RehearsalBeacon::None, window: None }.run();
    let (t, mut list) = (sale.transcript, sale.listed.entries);
    let at = entries / 2;
    let leaves = Leaves::new(&t.sale_id);
    let path = Tree::new(leaves.all(&list)).path(at, |i| leaves.leaf(i as u64, &list[i]))?;
    let draw = |root: &Hash, value: &[u8]| Drum::new(&seed(&t.secret, root, &t.sale_id, &t.commitment, t.n, value));
    let balls: u32 = list.iter().map(|e| u32::from(e.weight)).sum();
    // Expected: `among` balls of all are below this share of the range, so one try costs a path and 16 balls, not a draw.
    let below = (f64::from(u32::MAX) * f64::from(among) / f64::from(balls.max(1))) as u32;
    for name in 0..tries_max {
        list[at] = Entry { id: name_of(name), weight: 16 };
        let root = root_of_path(at as u64, t.n, leaves.leaf(at as u64, &list[at]), &path)?;
        let drum = draw(&root, b"");
        if drum.smallest(at as u64, 16)?[0] >= below {
            continue;
        }
        let place = |drum: &Drum, list: &[Entry]| places(&drum.order(list), list.len())[at];
        let place_without_beacon = place(&drum, &list)?;
        if place_without_beacon < among {
            let with = |v: u64| place(&draw(&root, &hash([v.to_be_bytes().as_slice()])), &list);
            let places_with_beacon = (0..if entries > 100_000 { VALUES_OF_LARGE } else { VALUES }).filter_map(with).collect();
            let entry_id = hex(&list[at].id);
            return Some(Ground { index: at as u64, entry_id, tries: name + 1, place_without_beacon, places_with_beacon });
        }
    }
    None
}

fn name_of(name: u64) -> EntryId {
    let full = hash([b"tidegate/1/grind".as_slice(), &name.to_be_bytes()]);
    std::array::from_fn(|i| full[i])
}
