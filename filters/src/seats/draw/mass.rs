//! A mass entry: somebody registers many identities, and the classifier sees nothing. What share of the first places people
//! keep, with and without the quota of networks.

use super::{
    commit::{commitment, rules_hash},
    drum::Drum,
    entry::EntryNames,
    register::{Entering, Person, Register, Standing, entries},
    rehearse::mix,
    statement::Signer,
    transcript::Promise,
    weights::Weights,
};
use crate::rule::bot_gate::Class;

/// A mass entry.
#[derive(Clone, Copy, Debug)]
pub struct MassEntry {
    /// People, each with one identity.
    pub people: u64,
    /// Networks they come from.
    pub people_networks: u64,
    /// Identities of the one who cheats.
    pub bots: u64,
    /// Networks those come from.
    pub bot_networks: u64,
    /// Above as many entries of a network one is crowded; `None`: no quota.
    pub per_network: Option<u32>,
    /// How many first places count.
    pub first: usize,
}

impl MassEntry {
    /// The share of the first places that people get, in the draw of this seed.
    pub fn share_of_people(&self, seed: u64) -> f64 {
        let register = Register::default();
        let all = self.people + self.bots;
        let mut is_person = Vec::with_capacity(all as usize);
        // In random order: an index is a person or a bot in proportion to those who are left.
        let (mut people, mut bots) = (self.people, self.bots);
        for i in 0..all {
            let random = mix(seed ^ mix(i));
            let person = random % (people + bots) < people;
            if person {
                people -= 1
            } else {
                bots -= 1
            }
            let network = match person {
                true => mix(random) % self.people_networks.max(1),
                false => (1 << 32) + mix(random) % self.bot_networks.max(1),
            };
            let who = Person { key: i, network: Some(network) };
            let Entering::New { index, crowded } = register.enter(who, u32::MAX, self.per_network) else { break };
            register.settle(index, who, Some(Standing::Written { class: Class::Human, crowded, present_until_s: 0 }));
            is_person.push(person);
        }
        let names = EntryNames::new(&[1; 32], "mass");
        let entries = entries(&register.weights(&Weights::default()), &names);
        let rules = rules_hash("{}");
        let secret = std::array::from_fn(|i| mix(seed ^ i as u64) as u8);
        let promise = Promise {
            sale_id: "mass".into(),
            window: None,
            rules_json: "{}".into(),
            rules,
            commitment: commitment("mass", &rules, &secret),
            secret,
        };
        let (frozen, _) = promise.freeze(&entries, 0, "", 0, &Signer::new(&[2; 32]));
        let order = Drum::new(&promise.seed(&frozen, b"")).order(&entries);
        let first = &order[..self.first.min(order.len())];
        first.iter().filter(|i| is_person[**i as usize]).count() as f64 / first.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(bots: u64, bot_networks: u64, per_network: Option<u32>) -> f64 {
        let mass = MassEntry { people: 1_000, people_networks: 600, bots, bot_networks, per_network, first: 300 };
        (0..6).map(|seed| mass.share_of_people(seed)).sum::<f64>() / 6.0
    }

    #[test]
    fn quotas_keep_places_for_people_that_identities_alone_would_take() {
        let without = share(10_000, 40, None);
        // One in eleven: identities decide.
        assert!((0.05..0.14).contains(&without), "{without}");
        let with = share(10_000, 40, Some(8));
        // 40·8·16 + 9,680·2 balls against 16,000: people have 40 %.
        assert!((0.30..0.50).contains(&with), "{with}");
    }
}
