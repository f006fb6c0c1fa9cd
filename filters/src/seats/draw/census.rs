//! How many entries of a list are of which class.

use serde::{Deserialize, Serialize};

use super::{register::Register, slots::Standing, weights::Weights};
use crate::rule::bot_gate::Class;

/// Entries by class. Each is counted once, as the first it is of suspect, unrendered, crowded, human and unsure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// Scored below every threshold.
    pub human: u32,
    /// Unsure or not scored.
    pub unsure: u32,
    /// Above the quota of its network.
    pub crowded: u32,
    /// Scored suspect.
    pub suspect: u32,
    /// Whose page no browser showed; `None` where that is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrendered: Option<u32>,
    /// Reserved and never used.
    pub void: u32,
}

impl Census {
    /// As a list stands now.
    pub fn of(register: &Register, weights: &Weights) -> Census {
        let mut census = Census { unrendered: weights.unrendered.map(|_| 0), ..Census::default() };
        for index in 0..register.taken() {
            let Standing::Written(e) = register.standing(index) else {
                census.void += 1;
                continue;
            };
            let of_class = match e.class {
                Class::Suspect => &mut census.suspect,
                _ if !e.rendered && weights.unrendered.is_some() => census.unrendered.get_or_insert(0),
                _ if e.crowded => &mut census.crowded,
                Class::Human => &mut census.human,
                Class::Unsure => &mut census.unsure,
            };
            *of_class += 1;
        }
        census
    }
}
