//! No more people than there is something for: how fast passes may be given out when the stock runs low.

use crate::seats::room::RoomStats;

/// So many more customers than free units are inside, in standard deviations of how many buy. Not more: inside whoever clicks
/// fastest buys, and a place that was drawn or waited for is worth as much as there is for everybody with one.
const OVER_SD: f64 = 1.0;
/// And so many more: the last units are not sold to one after the other, each of whom takes a whole stay.
const OVER_MIN: f64 = 8.0;
/// Units a pass buys before anything was seen (who waited for hours mostly buys), and the passes this guess weighs as much as.
const CONVERSION_FIRST: f64 = 0.9;
const CONVERSION_WEIGHT: f64 = 20.0;
/// Below this a conversion is a rounding error, and the limit would be none.
const CONVERSION_MIN: f64 = 0.01;

/// Units a pass buys, learnt from the sale that is on.
#[derive(Clone, Debug, Default)]
pub(super) struct Conversion {
    sale: Option<String>,
    /// Passes given before this sale was looked at.
    passes_before: u64,
    sold: u64,
    /// Units sold lately: their buyers are still inside, and have what they came for.
    lately: f64,
}

/// What passes buy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bought {
    /// Units a pass buys.
    pub(super) per_pass: f64,
    /// People inside who have bought.
    pub(super) inside: f64,
}

impl Conversion {
    /// Looks at a room, once a second; units sold by each pass that has ended or has bought.
    pub(super) fn learn(&mut self, stats: &RoomStats, stay_s: f64) -> Bought {
        let passes = stats.seated + stats.walk_ins;
        let live = f64::from(stats.seats_live);
        let sold = stats.stock.map_or(0, |u| u.sold);
        if self.sale != stats.sale {
            // What is inside when a sale begins will shop in it.
            let passes_before = passes.saturating_sub(stats.seats_live.into());
            *self = Conversion { sale: stats.sale.clone(), passes_before, sold, lately: 0.0 };
        }
        // Who buys stays for less than a whole stay after that: forgotten in about that time.
        self.lately = self.lately * (-1.0 / stay_s.max(1.0)).exp() + sold.saturating_sub(self.sold) as f64;
        self.sold = sold;
        let inside = self.lately.min(live);
        let ended = passes.saturating_sub(self.passes_before).saturating_sub(stats.seats_live.into()) as f64;
        let guess = CONVERSION_FIRST * CONVERSION_WEIGHT;
        let per_pass = ((sold as f64 + guess) / (ended + inside + CONVERSION_WEIGHT)).max(CONVERSION_MIN);
        Bought { per_pass, inside }
    }
}

/// Most passes in the next second by the stock; `None` where nothing is counted. Not a rate that is spread over a stay: that
/// would let the last units out ever more slowly while people wait for them. As many may be inside as will buy what is left;
/// who leaves without buying makes room for the next.
pub(super) fn refill_max(stats: &RoomStats, bought: Bought) -> Option<f64> {
    let units = stats.stock?;
    let free = units.free? as f64;
    if stats.reserves {
        // The line itself lets nobody in for whom there is no unit.
        return None;
    }
    let served = (units.held + units.in_flight) as f64 + bought.inside;
    let customers = (f64::from(stats.seats_live) - served).max(0.0);
    let wanted = (free + OVER_SD * free.sqrt() + OVER_MIN) / bought.per_pass;
    Some((wanted - customers).max(0.0))
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
        let half = Bought { per_pass: 0.5, inside: 0.0 };
        // Every other pass buys: of 49 units that are left 98 customers take all, give or take 7; and eight units more.
        assert_eq!(refill_max(&stats(49, 0, 128, 128, 0), half), Some(0.0));
        assert_eq!(refill_max(&stats(49, 0, 300, 300, 0), half), Some(0.0));
        assert_eq!(refill_max(&stats(49, 0, 100, 100, 0), half), Some(28.0), "at once, not over a minute");
        // Those who hold a unit already have theirs.
        assert_eq!(refill_max(&stats(49, 0, 128, 128, 40), half), Some(40.0));
        // The last unit is not sold to one after the other.
        assert_eq!(refill_max(&stats(1, 0, 0, 0, 0), half), Some(20.0));
        assert_eq!(refill_max(&RoomStats::default(), half), None);
    }

    #[test]
    fn conversion_is_learnt_in_each_sale() {
        let mut c = Conversion::default();
        let first = Bought { per_pass: 0.9, inside: 0.0 };
        assert_eq!(c.learn(&stats(500, 0, 0, 0, 0), 60.0), first);
        let v = c.learn(&stats(400, 100, 1_000, 50, 0), 60.0);
        assert_eq!(v, Bought { per_pass: 118.0 / 1_020.0, inside: 50.0 });
        let other = RoomStats { sale: Some("t".into()), ..stats(500, 0, 1_000, 0, 0) };
        assert_eq!(c.learn(&other, 60.0), first, "another sale, other people");
    }

    #[test]
    fn who_has_bought_and_is_still_inside_is_no_second_customer() {
        let (mut c, mut bought) = (Conversion::default(), None);
        // 300 are let in at once, ten buy each second, and nobody has left yet.
        for second in 0..=25 {
            let now = stats(500 - 10 * second, 10 * second, 300, 300, 0);
            bought = Some((c.learn(&now, 60.0), now));
        }
        let (bought, now) = bought.unwrap();
        assert!(bought.per_pass < 1.2 && bought.inside > 150.0, "{bought:?}");
        assert!(refill_max(&now, bought) > Some(60.0), "the room goes on: {bought:?}");
        // A minute after the last sale they have gone, and those inside are customers again.
        for _ in 0..120 {
            c.learn(&now, 60.0);
        }
        assert!(c.learn(&now, 60.0).inside < 30.0);
    }
}
