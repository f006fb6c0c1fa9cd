//! Who comes.

use serde::{Deserialize, Serialize};

/// Who somebody is, for the accounts of the shop; the gate is never told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A shopper.
    Person,
    /// Posts checkouts with the headers of its library.
    PlainScript,
    /// Copies a browser's headers.
    HeaderCopier,
    /// Comes from a new address each time.
    ManyAddresses,
    /// Looks like a careful browser.
    SlowAndLow,
    /// Takes its time as people do.
    JitteredMimic,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 6] =
        [Kind::Person, Kind::PlainScript, Kind::HeaderCopier, Kind::ManyAddresses, Kind::SlowAndLow, Kind::JitteredMimic];

    /// Stable name: the first part of a buyer's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Person => "person",
            Kind::PlainScript => "plain_script",
            Kind::HeaderCopier => "header_copier",
            Kind::ManyAddresses => "many_addresses",
            Kind::SlowAndLow => "slow_and_low",
            Kind::JitteredMimic => "jittered_mimic",
        }
    }
}
