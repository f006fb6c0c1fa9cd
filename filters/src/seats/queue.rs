//! One lane of the line.

/// A lane and a number in it. Never changes; the lower number of a lane goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which lane.
    pub lane: Lane,
    /// Number in the lane, from 0; < 2^32.
    pub number: u32,
}

/// The two lanes of a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Everybody.
    #[default]
    Main,
    /// Suspects: a guaranteed small share of calls.
    Slow,
}

impl Place {
    /// Bit 32 is the lane, bits 0..32 the number.
    pub fn to_bits(self) -> u64 {
        (self.lane as u64) << 32 | u64::from(self.number)
    }

    /// The inverse of [`Place::to_bits`]; `None` for bits that it never gives.
    pub fn from_bits(bits: u64) -> Option<Self> {
        let lane = match bits >> 32 {
            0 => Lane::Main,
            1 => Lane::Slow,
            _ => return None,
        };
        Some(Place { lane, number: bits as u32 })
    }
}
