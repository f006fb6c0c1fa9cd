//! How probable it is that stock lasts to a place: from how passes turned out so far, with the doubt that few of them leave.

use super::ledger::{Conversion, Units};

/// What people with a pass come to, measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    /// Units there will be for those who come next: free ones, and what holds will give back.
    pub units: f32,
    /// Share of passes that buy.
    pub share: f32,
    /// Standard error of that share.
    pub error: f32,
    /// Live passes that have neither bought nor hold anything: they come before everybody who waits.
    pub inside: f32,
}

impl Default for Outlook {
    /// Nothing was measured: any share is as good as another.
    fn default() -> Self {
        Outlook { units: f32::INFINITY, share: 0.5, error: 0.289, inside: 0.0 }
    }
}

impl Outlook {
    /// From counts. Passes that are over count whole; those that bought count at once, since nothing can change that.
    /// So early on buyers are over-represented and the chance is told too low rather than too high.
    pub fn measure(c: &Conversion, units: &Units, given: u64, live: u64) -> Self {
        let Some(free) = units.free else { return Outlook::default() };
        // Beta(1, 1) before anything was seen, one more for each pass that is decided.
        let over = given.saturating_sub(live);
        let left_without = over.saturating_sub(c.buyers - c.buyers_inside.min(c.buyers));
        let (a, b) = (c.buyers as f64 + 1.0, left_without as f64 + 1.0);
        let n = a + b;
        let holds_sell = (c.holds_sold as f64 + 1.0) / (c.holds_sold as f64 + c.holds_freed as f64 + 2.0);
        let open = (units.held + units.in_flight) as f64;
        // Buyers and holders inside have taken theirs.
        let inside = live.saturating_sub(c.buyers_inside).saturating_sub(units.held + units.in_flight);
        Outlook {
            units: (free as f64 + open * (1.0 - holds_sell)) as f32,
            share: (a / n) as f32,
            error: (a * b / (n * n * (n + 1.0))).sqrt() as f32,
            inside: inside as f32,
        }
    }

    /// The chance in percent, 1 to 99, that a unit is left when `ahead` people have had their turn: that fewer than
    /// `units` of the `m = ahead + inside` buy, where `m·share` do on average, give or take `m·share·(1 − share)` by luck and
    /// `(m·error)²` since the share itself is only measured. `None` when stock is not limited.
    pub fn percent(&self, ahead: f64) -> Option<u8> {
        if !self.units.is_finite() {
            return None;
        }
        let (m, share) = (ahead + f64::from(self.inside), f64::from(self.share));
        let spread = (m * share * (1.0 - share) + (m * f64::from(self.error)).powi(2)).sqrt().max(1e-6);
        let z = (f64::from(self.units) - 0.5 - m * share) / spread;
        Some((100.0 * normal(z)).round().clamp(1.0, 99.0) as u8)
    }

    /// Four floats in two words.
    pub fn to_bits(self) -> [u64; 2] {
        let pair = |a: f32, b: f32| u64::from(a.to_bits()) << 32 | u64::from(b.to_bits());
        [pair(self.units, self.inside), pair(self.share, self.error)]
    }

    /// The inverse of [`Outlook::to_bits`].
    pub fn from_bits(words: [u64; 2]) -> Self {
        let (high, low) = (|w: u64| f32::from_bits((w >> 32) as u32), |w: u64| f32::from_bits(w as u32));
        Outlook { units: high(words[0]), inside: low(words[0]), share: high(words[1]), error: low(words[1]) }
    }
}

/// Φ(z), off by less than 0.002 %: Abramowitz and Stegun 26.2.17.
fn normal(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - normal(-z);
    }
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let poly = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum = poly.iter().rev().fold(0.0, |acc, c| (acc + c) * t);
    1.0 - (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(free: u64) -> Units {
        Units { stock: Some(1_000), free: Some(free), ..Units::default() }
    }

    #[test]
    fn the_normal_curve() {
        for (z, p) in [(0.0, 0.5), (1.0, 0.841_345), (-1.96, 0.024_998), (3.0, 0.998_650)] {
            assert!((normal(z) - p).abs() < 2e-5, "{z}: {}", normal(z));
        }
    }

    #[test]
    fn doubt_shrinks_with_what_was_seen() {
        let at = |bought: u64, passes: u64, ahead: f64| {
            let c = Conversion { buyers: bought, ..Conversion::default() };
            Outlook::measure(&c, &units(100), passes, 0).percent(ahead).expect("limited")
        };
        // Half of all buy: 100 units last to about the 200th, and the more was seen the surer that is.
        assert!(at(500, 1_000, 150.0) > 98 && at(500, 1_000, 250.0) < 3, "{} {}", at(500, 1_000, 150.0), at(500, 1_000, 250.0));
        let few = at(2, 4, 150.0);
        assert!((55..90).contains(&few), "{few}: four passes prove little");
        assert_eq!(Outlook::default().percent(1e6), None);
        assert!(at(0, 0, 1_000.0) >= 1);
        // One who buys in ten: a thousand people ahead are no reason to give up.
        assert!((35..65).contains(&at(100, 1_000, 1_000.0)), "{}", at(100, 1_000, 1_000.0));
    }

    /// The formula against what it stands for: sales drawn by chance.
    #[test]
    fn the_chance_is_kept_as_often_as_it_is_told() {
        // A generator of a few lines: the core knows no other.
        let mut state = 7u64;
        let mut unit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let (mut told, mut kept, mut n) = (0.0, 0.0, 0.0);
        for _ in 0..4_000 {
            let (share, passes) = (0.05 + 0.9 * unit(), 5 + (195.0 * unit()) as u64);
            let buyers = (0..passes).filter(|_| unit() < share).count() as u64;
            let (free, ahead) = (1 + (79.0 * unit()) as u64, (160.0 * unit()) as u32);
            let c = Conversion { buyers, ..Conversion::default() };
            let percent = Outlook::measure(&c, &units(free), passes, 0).percent(f64::from(ahead)).expect("limited");
            if !(20..=80).contains(&percent) {
                continue;
            }
            let bought = (0..ahead).filter(|_| unit() < share).count() as u64;
            told += f64::from(percent) / 100.0;
            kept += f64::from(u8::from(bought < free));
            n += 1.0;
        }
        assert!(n > 300.0 && (told - kept).abs() / n < 0.04, "told {:.3}, kept {:.3} of {n}", told / n, kept / n);
    }

    #[test]
    fn words_come_back() {
        let o = Outlook { units: 3.5, share: 0.25, error: 0.1, inside: 7.0 };
        assert_eq!(Outlook::from_bits(o.to_bits()), o);
    }
}
