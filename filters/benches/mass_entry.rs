//! A table, not a timing: the share of the first 500 places that 10,000 people keep against a mass entry of which the
//! classifier sees nothing, with and without the quota of networks.
#![allow(missing_docs, clippy::print_stdout)]

use tidegate_filters::seats::draw::mass::MassEntry;

const DRAWS: u64 = 20;

fn main() {
    println!("share of the first 500 places for 10,000 people of 4,000 networks, mean of {DRAWS} draws");
    println!("identities  from networks  no quota  8 a network  1 a network");
    for times in [1, 4, 10] {
        for bot_networks in [50, 500, 5_000] {
            let share = |per_network| {
                let mass = MassEntry {
                    people: 10_000,
                    people_networks: 4_000,
                    bots: times * 10_000,
                    bot_networks,
                    per_network,
                    first: 500,
                };
                (0..DRAWS).map(|seed| mass.share_of_people(seed)).sum::<f64>() / DRAWS as f64 * 100.0
            };
            let (none, eight, one) = (share(None), share(Some(8)), share(Some(1)));
            println!("{times:>9}x  {bot_networks:>13}  {none:>7.1}%  {eight:>10.1}%  {one:>10.1}%");
        }
    }
}
