//! No more people than there is something for: how fast passes may be given out when the stock runs low.

use crate::seats::room::RoomStats;

/// More passes than the stock needs by this share: some will not buy after all.
const OVER: f64 = 1.2;
/// Units a pass buys before anything was seen, and the passes this guess weighs as much as.
const CONVERSION_FIRST: f64 = 0.5;
const CONVERSION_WEIGHT: f64 = 50.0;
/// Below this a conversion is a rounding error, and the limit would be none.
const CONVERSION_MIN: f64 = 0.01;

/// Units a pass buys, learnt from the sale that is on.
#[derive(Clone, Debug, Default)]
pub(super) struct Conversion {
    sale: Option<String>,
    /// Passes given before this sale was looked at.
    passes_before: u64,
}

impl Conversion {
    /// Looks at a room; units sold by each pass that has ended.
    pub(super) fn learn(&mut self, stats: &RoomStats) -> f64 {
        let passes = stats.seated + stats.walk_ins;
        if self.sale != stats.sale {
            // What is inside when a sale begins will shop in it.
            self.passes_before = passes.saturating_sub(stats.seats_live.into());
            self.sale.clone_from(&stats.sale);
        }
        let ended = passes.saturating_sub(self.passes_before).saturating_sub(stats.seats_live.into()) as f64;
        let sold = stats.stock.map_or(0, |u| u.sold) as f64;
        ((sold + CONVERSION_FIRST * CONVERSION_WEIGHT) / (ended + CONVERSION_WEIGHT)).max(CONVERSION_MIN)
    }
}

/// Most passes a second by the stock; `None` where nothing is counted.
pub(super) fn refill_max(stats: &RoomStats, conversion: f64, stay_s: f64) -> Option<f64> {
    let units = stats.stock?;
    let free = units.free? as f64;
    let held = (units.held + units.in_flight) as f64;
    let without_hold = (f64::from(stats.seats_live) - held).max(0.0);
    Some(OVER * (free - conversion * without_hold).max(0.0) / (conversion * stay_s.max(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seats::ledger::Units;

    fn stats(free: u64, sold: u64, passes: u64, live: u32, held: u64) -> RoomStats {
        let stock = Units { stock: Some(free + sold + held), free: Some(free), held, sold, ..Units::default() };
        RoomStats { seated: passes, seats_live: live, stock: Some(stock), sale: Some("s".into()), ..RoomStats::default() }
    }

    #[test]
    fn passes_stop_when_those_inside_will_buy_what_is_left() {
        // Every other pass buys; 100 inside without a hold will take 50.
        assert_eq!(refill_max(&stats(50, 0, 100, 100, 0), 0.5, 60.0), Some(0.0));
        // 200 left: 150 more than they will take, at half a unit a pass over 60 s, and a fifth more.
        assert_eq!(refill_max(&stats(200, 0, 100, 100, 0), 0.5, 60.0), Some(6.0));
        // Those who hold a unit already have theirs.
        assert_eq!(refill_max(&stats(200, 0, 100, 100, 40), 0.5, 60.0), Some(1.2 * 170.0 / 30.0));
        assert_eq!(refill_max(&RoomStats::default(), 0.5, 60.0), None);
    }

    #[test]
    fn conversion_is_learnt_in_each_sale() {
        let mut c = Conversion::default();
        assert_eq!(c.learn(&stats(500, 0, 0, 0, 0)), 0.5);
        let v = c.learn(&stats(400, 100, 1_000, 50, 0));
        assert!((v - 125.0 / 1_000.0).abs() < 1e-9, "{v}");
        let other = RoomStats { sale: Some("t".into()), ..stats(500, 0, 1_000, 0, 0) };
        assert_eq!(c.learn(&other), 0.5, "another sale, other people");
    }
}
