//! Seats: the right to be in the shop at the same time as others.

/// A seat and its generation. A released seat's next holder has another generation, so an old pass never fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeatRef {
    /// Index in the table.
    pub index: u32,
    /// Generation.
    pub generation: u32,
}

impl SeatRef {
    /// High half generation, low half index.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The inverse of [`SeatRef::to_bits`].
    pub fn from_bits(bits: u64) -> Self {
        SeatRef { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}
