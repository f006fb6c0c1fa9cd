//! A mass entry: somebody registers many identities, and the classifier sees nothing. What share of the first places people
//! keep, with and without the quota of networks.

use std::num::NonZeroU64;

use super::{
    commit::{commitment, rules_hash},
    drum::Drum,
    entry::EntryNames,
    register::{Entering, Limits, Person, Register, Standing, Written, entries},
    rehearse::mix,
    rules::Quotas,
    statement::Signer,
    transcript::Promise,
    weights::Weights,
};

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
    /// Looks that people have: the programs they use.
    pub people_looks: u64,
    /// Looks that identities of the one who cheats have, in each network.
    pub bot_looks: u64,
    /// Above as many entries of a network one is crowded; `None`: no quota.
    pub per_network: Option<u32>,
    /// The same for those of a network that look alike.
    pub per_fingerprint: Option<u32>,
    /// So many times a quota make a network one crowd; 0: never.
    pub crowd_times: u32,
    /// How many first places count.
    pub first: usize,
}

/// What came of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MassOutcome {
    /// Of the first places.
    pub share_of_people: f64,
    /// Identities above a quota: each pays with work.
    pub bots_crowded: u64,
    /// People above one: each pays as well.
    pub people_crowded: u64,
}

impl MassEntry {
    /// What comes of it in the draw of this seed.
    pub fn outcome(&self, seed: u64) -> MassOutcome {
        let limits = Limits { max: u32::MAX, per_network: self.per_network, per_fingerprint: self.per_fingerprint, work: false };
        let mut crowd = [0; 2];
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
                true => 1 + mix(random) % self.people_networks.max(1),
                false => (1 << 32) + mix(random) % self.bot_networks.max(1),
            };
            // 1 and up: 0 would be unknown.
            let fingerprint = match person {
                true => 1 + mix(random ^ 1) % self.people_looks.max(1),
                false => 1 + (1 << 32) + mix(random ^ 1) % self.bot_looks.max(1),
            };
            let who = Person { key: i, network: NonZeroU64::new(network), fingerprint };
            let Entering::New { index, crowded } = register.enter(who, limits, false) else { break };
            crowd[usize::from(person)] += u64::from(crowded);
            register.settle(index, who, Some(Standing::Written(Written { crowded, ..Written::default() })));
            is_person.push(person);
        }
        let Limits { per_network, per_fingerprint, .. } = limits;
        let quotas = Quotas { per_network, per_fingerprint, crowd_times: self.crowd_times, ..Quotas::default() };
        register.crowd(&quotas);
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
        let people = first.iter().filter(|i| is_person[**i as usize]).count();
        MassOutcome {
            share_of_people: people as f64 / first.len().max(1) as f64,
            bots_crowded: crowd[0],
            people_crowded: crowd[1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(bots: u64, bot_networks: u64, per_network: Option<u32>, per_fingerprint: Option<u32>, crowd_times: u32) -> f64 {
        let mass = MassEntry {
            people: 1_000,
            people_networks: 600,
            bots,
            bot_networks,
            people_looks: 40,
            bot_looks: 2,
            per_network,
            per_fingerprint,
            crowd_times,
            first: 300,
        };
        (0..6).map(|seed| mass.outcome(seed).share_of_people).sum::<f64>() / 6.0
    }

    #[test]
    fn quotas_keep_places_for_people_that_identities_alone_would_take() {
        let without = share(10_000, 40, None, None, 4);
        // One in eleven: identities decide.
        assert!((0.05..0.14).contains(&without), "{without}");
        let with = share(10_000, 40, Some(8), None, 0);
        // 40·8·16 + 9,680·2 balls against 16,000: people have 40 %.
        assert!((0.30..0.50).contains(&with), "{with}");
        // 40·2·2·16 + 9,840·2 balls: looks tell identities apart where a whole network would be cut too hard.
        let alike = share(10_000, 40, None, Some(2), 0);
        assert!((0.33..0.52).contains(&alike), "{alike}");
        // 10,000·2 balls: 250 of a network are one crowd, and nobody of it has more than the others.
        let crowds = share(10_000, 40, Some(8), None, 4);
        assert!((0.38..0.52).contains(&crowds) && crowds > with, "{crowds}");
        // 20 of a network are below four times the quota, and 500 networks give 500·8·16 + 2,000·2 balls.
        let spread = [0, 4].map(|times| share(10_000, 500, Some(8), None, times));
        assert!((spread[0] - spread[1]).abs() < 0.02, "{spread:?}");
    }

    #[test]
    fn who_is_above_a_quota_is_counted() {
        let mass = MassEntry {
            people: 100,
            people_networks: 100_000,
            bots: 100,
            bot_networks: 1,
            people_looks: 40,
            bot_looks: 1,
            per_network: Some(8),
            per_fingerprint: None,
            crowd_times: 0,
            first: 50,
        };
        let outcome = mass.outcome(1);
        assert_eq!((outcome.bots_crowded, outcome.people_crowded), (92, 0));
    }
}
