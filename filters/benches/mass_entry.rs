//! A table, not a timing: the share of the first 500 places that 10,000 people keep against a mass entry of which the
//! classifier sees nothing, with and without quotas; and what the work above a quota costs whoever cheats.
#![allow(missing_docs, clippy::print_stdout, clippy::disallowed_methods)]

use std::time::Instant;

use tidegate_filters::seats::draw::{mass::MassEntry, work::Work};

const DRAWS: u64 = 8;
/// As in the policy when nothing is written.
const WORK_BITS: u8 = 18;

/// Quotas: of a network, of those of a network that look alike; how many times one make a crowd of all.
const QUOTAS: [(Option<u32>, Option<u32>, u32); 6] =
    [(None, None, 0), (Some(8), None, 0), (Some(1), None, 0), (None, Some(2), 0), (Some(8), Some(2), 0), (Some(8), Some(2), 4)];

fn main() {
    let per_s = hashes_per_s();
    println!("share of the first 500 places for 10,000 people of 4,000 networks with 40 browsers, mean of {DRAWS} draws;");
    println!(
        "identities of the one who cheats look like 3 browsers in each network; core hours: {WORK_BITS} bits of work for each"
    );
    println!("identity above 8 a network or 2 alike, at {:.1} million hashes a second on one core here", per_s / 1e6);
    println!(
        "identities  from networks  no quota  8 a network  1 a network  2 alike  8 and 2 alike  and 4 times is a crowd  core hours  people who work"
    );
    for times in [1, 4, 10] {
        for bot_networks in [50, 500, 5_000] {
            let outcomes = QUOTAS.map(|(per_network, per_fingerprint, crowd_times)| {
                let mass = MassEntry {
                    people: 10_000,
                    people_networks: 4_000,
                    bots: times * 10_000,
                    bot_networks,
                    people_looks: 40,
                    bot_looks: 3,
                    per_network,
                    per_fingerprint,
                    crowd_times,
                    first: 500,
                };
                let all: Vec<_> = (0..DRAWS).map(|seed| mass.outcome(seed)).collect();
                let share = all.iter().map(|o| o.share_of_people).sum::<f64>() / DRAWS as f64 * 100.0;
                (share, all[0])
            });
            let [none, eight, one, alike, both, crowds] = outcomes.map(|o| o.0);
            let last = outcomes[QUOTAS.len() - 1].1;
            let hours = last.bots_crowded as f64 * f64::from(1u32 << WORK_BITS) / per_s / 3_600.0;
            let people = last.people_crowded as f64 / 100.0;
            println!(
                "{times:>9}x  {bot_networks:>13}  {none:>7.1}%  {eight:>10.1}%  {one:>10.1}%  {alike:>6.1}%  {both:>12.1}%  {crowds:>21.1}%  {hours:>10.1}  {people:>14.1}%"
            );
        }
    }
}

/// Answers tried a second, on one core.
fn hashes_per_s() -> f64 {
    let work = Work { challenge: [7; 16], bits: 64 };
    let (start, n) = (Instant::now(), 2_000_000u64);
    let hits = (0..n).filter(|i| work.is_done(*i)).count();
    n as f64 / start.elapsed().as_secs_f64() + hits as f64
}
