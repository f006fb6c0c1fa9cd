//! Places are uniform within a weight and follow the weights; the same tests refuse the usual wrong shuffles.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::{
    digest::{Hash, hash},
    drum::{Drum, places},
    entry::{Entry, EntryNames},
    rehearse::mix,
};

/// Seeds are fixed, so nothing here is flaky: a right draw stays far below, a wrong one goes far above.
const SUSPICIOUS_Z: f64 = 4.5;
/// A wrong shuffle is seen with this much to spare.
const SEEN_Z: f64 = 6.5;

/// An order of `n` entries out of a seed.
type Shuffle = fn(u64, usize) -> Vec<u32>;

fn seed_of(n: u64) -> Hash {
    hash([b"fairness test".as_slice(), &n.to_be_bytes()])
}

fn entries(weights: &[u8]) -> Vec<Entry> {
    let names = EntryNames::new(&[3; 32], "fairness");
    (0u64..).zip(weights).map(|(i, w)| Entry { id: names.id(i), weight: *w }).collect()
}

fn balls_in_a_drum(seed: u64, n: usize) -> Vec<u32> {
    Drum::new(&seed_of(seed)).order(&vec![Entry { id: [1; 16], weight: 1 }; n])
}

/// Small random numbers for the wrong shuffles.
struct Bytes(u64, u64);

impl Bytes {
    fn byte(&mut self) -> usize {
        self.1 += 1;
        (mix(self.0 ^ mix(self.1)) >> 32) as usize & 255
    }
}

/// Fisher–Yates with `byte % k`: the first remainders come more often.
fn modulo_biased(seed: u64, n: usize) -> Vec<u32> {
    let (mut order, mut bytes): (Vec<u32>, _) = ((0..n as u32).collect(), Bytes(mix(seed), 0));
    for i in (1..n).rev() {
        order.swap(i, bytes.byte() % (i + 1));
    }
    order
}

/// `sort(() => random() - 0.5)`, by insertion.
fn sort_by_random(seed: u64, n: usize) -> Vec<u32> {
    let (mut order, mut bytes): (Vec<u32>, _) = ((0..n as u32).collect(), Bytes(mix(seed), 0));
    for i in 1..n {
        let mut at = i;
        while at > 0 && bytes.byte() < 128 {
            order.swap(at, at - 1);
            at -= 1;
        }
    }
    order
}

/// Four rounds of Feistel over four bits, cycle-walking into `n`; round functions from the seed.
fn feistel(seed: u64, n: usize) -> Vec<u32> {
    let round = |r: u64, half: u32| (mix(seed ^ mix(r << 8 | u64::from(half))) >> 40) as u32 & 3;
    let once = |x: u32| (0..4).fold((x >> 2, x & 3), |(l, r), i| (r, l ^ round(i, r)));
    let walk = |i: u32| {
        let mut x = i;
        loop {
            let (l, r) = once(x);
            x = l << 2 | r;
            if (x as usize) < n {
                return x;
            }
        }
    };
    (0..n as u32).map(walk).collect()
}

/// How far a count of cells is from what is expected, in standard deviations (Wilson–Hilferty).
fn chi_square_z(cells: impl Iterator<Item = (f64, f64)>, constraints: f64) -> f64 {
    let (mut chi, mut cell_count) = (0.0, 0.0);
    for (found, expected) in cells {
        chi += (found - expected).powi(2) / expected;
        cell_count += 1.0;
    }
    let df: f64 = cell_count - constraints;
    ((chi / df).cbrt() - (1.0 - 2.0 / (9.0 * df))) / (2.0 / (9.0 * df)).sqrt()
}

/// What the battery counts of one order.
fn observe(order: &[u32], counts: &mut BTreeMap<&'static str, Vec<f64>>) {
    let n = order.len();
    let place: Vec<usize> = places(order, n).into_iter().map(|p| p.unwrap() as usize).collect();
    let mut count = |name, cells: usize, cell: usize| counts.entry(name).or_insert_with(|| vec![0.0; cells])[cell] += 1.0;
    for (i, p) in place.iter().enumerate() {
        count("places of each index", n * n, i * n + p);
    }
    let pair = |a: usize, b: usize| place[a] * (n - 1) + place[b] - usize::from(place[b] > place[a]);
    count("first two", n * (n - 1), pair(0, 1));
    count("last two", n * (n - 1), pair(n - 2, n - 1));
    count("far pair", n * (n - 1), pair(0, n - 1));
    let inversions = (0..n).flat_map(|i| (0..i).map(move |j| (j, i))).filter(|(j, i)| place[*j] > place[*i]).count();
    count("parity of the permutation", 2, inversions % 2);
    if n <= 6 {
        let rank = (0..n).fold(0, |r, i| r * (n - i) + (i + 1..n).filter(|j| place[*j] < place[i]).count());
        count("all orders", (1..=n).product(), rank);
    }
}

/// The largest z of all tests, and its name.
fn battery(shuffle: Shuffle, n: usize, draws: u64) -> (f64, &'static str) {
    let mut counts = BTreeMap::new();
    (0..draws).for_each(|seed| observe(&shuffle(seed, n), &mut counts));
    let z = |(name, cells): (&'static str, Vec<f64>)| {
        // Rows and columns of the table of places are fixed; of the others only the sum.
        let (total, constraints) = match name {
            "places of each index" => (draws as f64 * n as f64, 2.0 * n as f64 - 1.0),
            _ => (draws as f64, 1.0),
        };
        let expected = total / cells.len() as f64;
        (chi_square_z(cells.into_iter().map(|found| (found, expected)), constraints), name)
    };
    counts.into_iter().map(z).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

#[test]
fn places_are_uniform_and_the_usual_wrong_shuffles_are_not() {
    for (n, draws) in [(5, 800_000), (10, 150_000), (16, 120_000)] {
        let (z, test) = battery(balls_in_a_drum, n, draws);
        assert!(z < SUSPICIOUS_Z, "balls in a drum, n = {n}: {test} is {z:.1} standard deviations off");
        let wrong: [(Shuffle, &str); 3] =
            [(modulo_biased, "modulo-biased"), (sort_by_random, "sort by random"), (feistel, "four-round Feistel")];
        for (shuffle, name) in wrong {
            let (z, test) = battery(shuffle, n, draws);
            assert!(z > SEEN_Z, "{name}, n = {n}, was not seen: {z:.1} ({test})");
        }
    }
}

/// The chance of an order in an exact weighted race.
fn chance(order: &[u32], weights: &[u8]) -> f64 {
    let mut left: f64 = weights.iter().map(|w| f64::from(*w)).sum();
    order.iter().fold(1.0, |p, i| {
        let w = f64::from(weights[*i as usize]);
        let p = p * w / left;
        left -= w;
        p
    })
}

fn z_of_orders(weights: &[u8], draws: u64, order: impl Fn(u64) -> Vec<u32>) -> f64 {
    let mut found: BTreeMap<Vec<u32>, f64> = BTreeMap::new();
    (0..draws).for_each(|seed| *found.entry(order(seed)).or_default() += 1.0);
    // Every order at least once in the map, so that one that never comes counts as well.
    let mut all = vec![vec![]];
    for _ in weights {
        let longer = |o: &Vec<u32>| {
            let free = (0..weights.len() as u32).filter(|i| !o.contains(i));
            free.map(|i| [o.clone(), vec![i]].concat()).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(longer).collect();
    }
    let cell = |o: &Vec<u32>| (found.get(o).copied().unwrap_or(0.0), chance(o, weights) * draws as f64);
    chi_square_z(all.iter().map(cell), 1.0)
}

#[test]
fn all_orders_come_as_often_as_their_weights_say() {
    let tables: [&[u8]; 5] = [&[16, 8, 1, 1], &[1, 1, 8, 16], &[16, 16, 16, 16], &[2, 1], &[16, 8, 2, 1, 1]];
    for weights in tables {
        let entries = entries(weights);
        let z = z_of_orders(weights, 60_000, |seed| Drum::new(&seed_of(seed)).order(&entries));
        assert!(z < SUSPICIOUS_Z, "{weights:?}: {z:.1}");
    }
}

#[test]
fn weights_that_are_not_followed_are_seen() {
    // An eighth instead of a ninth of the chance: 16 against 2 where the rules say 16 against 1 and 1.
    let entries = entries(&[16, 8, 2, 1]);
    let z = z_of_orders(&[16, 8, 1, 1], 200_000, |seed| Drum::new(&seed_of(seed)).order(&entries));
    assert!(z > SEEN_Z, "{z:.1}");
}

#[test]
fn who_stands_before_whom_follows_the_weights() {
    let weights = [16, 16, 8, 8, 2, 2, 1, 1, 16, 1];
    let entries = entries(&weights);
    let draws = 20_000;
    let mut before = [[0.0; 10]; 10];
    for seed in 0..draws {
        let order = Drum::new(&seed_of(seed)).order(&entries);
        for (at, a) in order.iter().enumerate() {
            order[at + 1..].iter().for_each(|b| before[*a as usize][*b as usize] += 1.0);
        }
    }
    for (a, b) in (0..10).flat_map(|a| (0..a).map(move |b| (a, b))) {
        let (wa, wb) = (f64::from(weights[a]), f64::from(weights[b]));
        let p = wa / (wa + wb);
        let z = (before[a][b] - draws as f64 * p) / (draws as f64 * p * (1.0 - p)).sqrt();
        assert!(z.abs() < SUSPICIOUS_Z, "{a} before {b}: {z:.1}");
    }
}

/// `z` of the correlation of two series.
fn correlation_z(pairs: &[(f64, f64)]) -> f64 {
    let n = pairs.len() as f64;
    let (ma, mb) = (pairs.iter().map(|p| p.0).sum::<f64>() / n, pairs.iter().map(|p| p.1).sum::<f64>() / n);
    let sum = |f: fn(f64, f64) -> f64| pairs.iter().map(|(a, b)| f(a - ma, b - mb)).sum::<f64>();
    sum(|a, b| a * b) / (sum(|a, _| a * a) * sum(|_, b| b * b)).sqrt() * n.sqrt()
}

#[test]
fn places_know_nothing_of_arrival_name_or_parity() {
    let entries = entries(&[16; 20_000]);
    for seed in 0..6 {
        let order = Drum::new(&seed_of(seed)).order(&entries);
        let place = places(&order, entries.len());
        type Fact = fn(usize, &Entry) -> f64;
        let facts: [(&str, Fact); 5] = [
            ("arrival", |i, _| i as f64),
            ("name", |_, e| f64::from(u32::from_be_bytes([e.id[0], e.id[1], e.id[2], e.id[3]]))),
            ("last byte of the name", |_, e| f64::from(e.id[15])),
            ("parity of arrival", |i, _| (i % 2) as f64),
            ("arrival modulo 256", |i, _| (i % 256) as f64),
        ];
        for (name, fact) in facts {
            let with = |f: fn(u32) -> f64| {
                let pair = |(i, (e, p)): (usize, (&Entry, &Option<u32>))| (fact(i, e), f(p.unwrap()));
                correlation_z(&entries.iter().zip(&place).enumerate().map(pair).collect::<Vec<_>>())
            };
            let (z, parity) = (with(f64::from), with(|p| f64::from(p % 2)));
            assert!(z.abs() < SUSPICIOUS_Z && parity.abs() < SUSPICIOUS_Z, "{name}: {z:.1}, {parity:.1}");
        }
    }
    let first_come: Vec<_> = (0..20_000).map(|i| (f64::from(i), f64::from(i) + f64::from(i % 7) * 3_000.0)).collect();
    assert!(correlation_z(&first_come) > SEEN_Z, "an order of arrival is seen");
}
