//! What was counted lately, aligned to steps, and the inputs that linear experts see.

use std::collections::VecDeque;

/// Longest window of recent counts an expert looks at, steps.
pub const WINDOW: usize = 64;
/// Lags kept as inputs.
pub(super) const LAGS: usize = 30;
/// Trailing means kept as inputs, steps.
const MEANS: [usize; 3] = [15, 30, 60];
/// Inputs of one transform before the daily ones: a one, lags, means, the level.
pub(super) const BASE: usize = 1 + LAGS + MEANS.len() + 1;
/// Inputs that know the day: how yesterday and the usual day went on from here, and how they compare with now.
pub(super) const DAILY: usize = 4;
/// Steps a day's shape is smoothed over.
const SMOOTH: usize = 15;
/// Days longer than this many steps are not kept: the forecaster of seconds has none.
const DAY_STEPS_MAX: u64 = 10_000;
/// Missing steps that are bridged with the last count; more, and what follows is another series.
const BRIDGED_MAX: usize = 5;
const DAY_S: u64 = 86_400;
/// What is larger is no count.
const COUNT_MAX: f64 = 1e12;

/// How a count is seen by a linear expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// `ln(1 + y)`: growth by a factor looks alike at any level.
    Log,
    /// `y` over the level.
    Plain,
    /// The square root over that of the level: counts scatter alike at any level.
    Root,
}

impl Scale {
    pub(super) const ALL: [Scale; 3] = [Scale::Log, Scale::Plain, Scale::Root];

    pub(super) fn of(self, y: f64, level: f64) -> f64 {
        match self {
            Scale::Log => y.ln_1p(),
            Scale::Plain => y / level,
            Scale::Root => ((y + 0.375) / level).sqrt(),
        }
    }

    /// The count `step` above `y` on this scale.
    pub(super) fn back(self, y: f64, step: f64, level: f64) -> f64 {
        let v = match self {
            // No count grows twentyfold in the horizons we look at without an input that said so.
            Scale::Log => (1.0 + y) * step.clamp(-3.0, 3.0).exp() - 1.0,
            Scale::Plain => y + level * step,
            Scale::Root => {
                let root = (self.of(y, level) + step).max(0.0);
                root * root * level - 0.375
            }
        };
        v.max(0.0)
    }
}

/// Counts of the last day and the usual day.
#[derive(Clone, Debug)]
pub struct History {
    step_s: u64,
    /// Steps of a day; 0 when a day is too long to keep.
    day: usize,
    kept_max: usize,
    /// Oldest first; missing steps are bridged.
    counts: VecDeque<f64>,
    /// Start of the latest step, seconds.
    at_s: Option<u64>,
    /// Steps since the series began anew.
    fresh: usize,
    missing: usize,
    level: f64,
    /// Largest level lately.
    top: f64,
    /// Largest count, fading slowly.
    largest: f64,
    /// The usual day, by step of the day; negative where nothing was seen.
    usual: Vec<f64>,
}

impl History {
    pub(super) fn new(step_s: u32, horizon_max: usize) -> Self {
        let step_s = u64::from(step_s.max(1));
        let day = if DAY_S.is_multiple_of(step_s) && DAY_S / step_s <= DAY_STEPS_MAX { (DAY_S / step_s) as usize } else { 0 };
        History {
            step_s,
            day,
            kept_max: day + SMOOTH + WINDOW + horizon_max,
            counts: VecDeque::new(),
            at_s: None,
            fresh: 0,
            missing: 0,
            level: 1.0,
            top: 1.0,
            largest: 0.0,
            usual: vec![-1.0; day],
        }
    }

    /// Takes the next step's count; `None` when nothing was counted. A step that is not later than the last is refused;
    /// steps that were skipped are missing.
    pub(super) fn push(&mut self, at_s: u64, count: Option<f64>) -> bool {
        let at_s = at_s - at_s % self.step_s;
        let count = count.filter(|c| (0.0..=COUNT_MAX).contains(c));
        let skipped = match self.at_s {
            Some(last) if at_s <= last => return false,
            Some(last) => ((at_s - last) / self.step_s - 1) as usize,
            None => 0,
        };
        self.at_s = Some(at_s);
        if skipped > BRIDGED_MAX {
            self.begin_anew(skipped);
        } else {
            (0..skipped).for_each(|_| self.push_one(None));
        }
        self.push_one(count);
        true
    }

    /// A longer gap: yesterday stays yesterday, but what came before the gap says nothing about now.
    fn begin_anew(&mut self, skipped: usize) {
        self.fresh = 0;
        self.missing = 0;
        let last = self.counts.back().copied().unwrap_or(0.0);
        for _ in 0..skipped.min(self.kept_max) {
            self.keep(last);
        }
    }

    fn push_one(&mut self, count: Option<f64>) {
        match count {
            Some(y) => {
                self.missing = 0;
                if self.fresh == 0 {
                    self.level = y + 1.0;
                }
                self.fresh += 1;
                self.keep(y);
                self.level += 0.02 * (y + 1.0 - self.level);
                self.top = (self.top * 0.9999).max(self.level);
                self.largest = (self.largest * 0.9999).max(y);
            }
            None => {
                self.missing += 1;
                if self.missing > BRIDGED_MAX {
                    self.fresh = 0;
                } else if self.fresh > 0 {
                    self.fresh += 1;
                }
                self.keep(self.counts.back().copied().unwrap_or(0.0));
            }
        }
        self.learn_day();
    }

    fn keep(&mut self, y: f64) {
        if self.counts.len() == self.kept_max {
            self.counts.pop_front();
        }
        self.counts.push_back(y);
    }

    fn learn_day(&mut self) {
        if self.day == 0 || self.fresh < SMOOTH {
            return;
        }
        let Some(bin) = self.bin(0) else { return };
        let mean = self.mean(0, SMOOTH);
        let middle = (bin + self.day - SMOOTH / 2) % self.day;
        let usual = &mut self.usual[middle];
        *usual = if *usual < 0.0 { mean } else { *usual + 0.25 * (mean - *usual) };
    }

    /// Step of the day, `ahead` steps from now.
    fn bin(&self, ahead: usize) -> Option<usize> {
        Some(((self.at_s? / self.step_s) as usize + ahead) % self.day.max(1))
    }

    fn mean(&self, ago: usize, width: usize) -> f64 {
        (ago..ago + width).map(|i| self.ago(i)).sum::<f64>() / width as f64
    }

    /// The count so many steps ago; 0 is the latest. Bridged steps hold the last count before them.
    pub fn ago(&self, steps: usize) -> f64 {
        let n = self.counts.len();
        if steps < n { self.counts[n - 1 - steps] } else { 0.0 }
    }

    /// The latest count was counted, not bridged.
    pub fn is_live(&self) -> bool {
        self.fresh > 0 && self.missing == 0
    }

    /// Steps since the series began or went on after a long gap.
    pub fn fresh(&self) -> usize {
        self.fresh
    }

    /// Start of the latest step, seconds since 1970.
    pub fn at_s(&self) -> u64 {
        self.at_s.unwrap_or(0)
    }

    /// Length of a step, seconds.
    pub fn step_s(&self) -> u64 {
        self.step_s
    }

    /// Steps of a day; 0 when a day has too many to be kept.
    pub fn day(&self) -> usize {
        self.day
    }

    /// What was counted about a day before the step `ahead` of now, smoothed; `None` when that day was not seen.
    pub fn yesterday(&self, ahead: usize) -> Option<f64> {
        let middle = self.day.checked_sub(ahead).filter(|_| self.day > 0)?;
        let from = middle.checked_sub(SMOOTH / 2)?;
        (self.counts.len() > middle + SMOOTH).then(|| self.mean(from, SMOOTH))
    }

    /// The usual count at this time of day, `ahead` steps from now.
    pub fn usual(&self, ahead: usize) -> Option<f64> {
        let usual = *self.usual.get(self.bin(ahead)?)?;
        (usual >= 0.0).then_some(usual)
    }

    /// Slow mean of the count, plus one.
    pub(super) fn level(&self) -> f64 {
        self.level
    }

    /// How large the level is beside the largest lately, in (0, 1].
    pub(super) fn prominence(&self) -> f64 {
        (self.level / self.top).clamp(1e-4, 1.0)
    }

    /// Largest count so far; old ones fade.
    pub(super) fn largest(&self) -> f64 {
        self.largest
    }

    /// Largest of the last window.
    pub(super) fn recent_max(&self) -> f64 {
        (0..WINDOW).map(|i| self.ago(i)).fold(0.0, f64::max)
    }

    /// The inputs of one scale, all relative to the latest count.
    pub(super) fn base(&self, scale: Scale) -> [f64; BASE] {
        let z0 = scale.of(self.ago(0), self.level);
        let z: [f64; WINDOW] = std::array::from_fn(|i| scale.of(self.ago(i), self.level));
        let mut x = [0.0; BASE];
        x[0] = 1.0;
        for (i, x) in x[1..=LAGS].iter_mut().enumerate() {
            *x = z[i + 1] - z0;
        }
        for (width, x) in MEANS.iter().zip(&mut x[1 + LAGS..]) {
            *x = z[..*width].iter().sum::<f64>() / *width as f64 - z0;
        }
        x[BASE - 1] = if scale == Scale::Log { 0.1 * z0 } else { 0.0 };
        x
    }

    /// The inputs that know the day; zeros where it was not seen.
    pub(super) fn daily(&self, scale: Scale, ahead: usize) -> [f64; DAILY] {
        let z = |y: f64| scale.of(y, self.level);
        let z0 = z(self.ago(0));
        let pair = |then: Option<f64>, now: Option<f64>| match (then, now) {
            (Some(then), Some(now)) => [z(then) - z(now), z(now) - z0],
            _ => [0.0, 0.0],
        };
        let [a, b] = pair(self.yesterday(ahead), self.yesterday(0));
        let [c, d] = pair(self.usual(ahead), self.usual(0));
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_gaps_are_bridged_and_long_ones_begin_anew() {
        let mut h = History::new(60, 10);
        for i in 0..100u64 {
            assert!(h.push(i * 60, Some(i as f64)));
        }
        assert!(!h.push(99 * 60 + 59, Some(1.0)), "the same minute again");
        assert!(!h.push(50 * 60, Some(1.0)), "the clock went back");
        assert_eq!((h.ago(0), h.ago(3), h.fresh()), (99.0, 96.0, 100));
        h.push(103 * 60, Some(7.0));
        assert_eq!((h.ago(0), h.ago(1), h.ago(4), h.fresh()), (7.0, 99.0, 99.0, 104));
        h.push(200 * 60, Some(5.0));
        assert_eq!((h.ago(0), h.fresh()), (5.0, 1));
        for i in 201..=206 {
            h.push(i * 60, None);
        }
        assert!(!h.is_live() && h.fresh() == 0);
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            h.push(h.at_s() + 60, Some(bad));
            assert!(!h.is_live(), "{bad} is no count");
        }
    }

    #[test]
    fn a_day_is_remembered_by_its_shape() {
        let mut h = History::new(600, 6);
        let shape = |i: u64| 100.0 + 50.0 * (i % 144) as f64;
        for i in 0..400u64 {
            h.push(i * 600, Some(shape(i)));
        }
        // 399 % 144 = 111; twelve steps on is 123.
        assert_eq!(h.yesterday(0), Some(shape(111)));
        assert_eq!(h.yesterday(12), Some(shape(123)));
        assert_eq!(h.usual(12), Some(shape(123)));
        assert_eq!(History::new(1, 60).day(), 0, "a day of seconds is not kept");
        assert_eq!(History::new(7, 60).yesterday(0), None);
    }

    #[test]
    fn scales_go_there_and_back() {
        for scale in Scale::ALL {
            for (y, to) in [(0.0, 3.0), (17.0, 40.0), (90_000.0, 120_000.0), (5.0, 0.0)] {
                let level = 20.0;
                let step = scale.of(to, level) - scale.of(y, level);
                assert!((scale.back(y, step, level) - to).abs() < 1e-6 * (1.0 + to), "{scale:?} {y} {to}");
            }
        }
    }
}
