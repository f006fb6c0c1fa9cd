//! A series of counts: equal steps, gaps that are no zeros.

use std::{fmt::Write as _, path::Path};

use serde::Serialize;

use super::{COUNT_MAX, DataError, time};

/// Longest series: 38 years of minutes, most of a year of seconds.
pub const STEPS_MAX: usize = 20_000_000;
/// So many absent steps in a row were not counted, whatever was asked for.
pub(super) const ABSENT_RUN_MAX: usize = 10;

/// What a step without a line means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Nobody came; but ten in a row were not counted.
    Zero,
    /// Nothing was counted.
    Gap,
    /// Zero where the steps beside are quiet too, else a gap.
    Auto,
}

/// A run of steps that were not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Start, seconds since 1970.
    pub from_s: u64,
    /// Steps.
    pub steps: usize,
}

/// Counts by step.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// For tables.
    pub name: String,
    /// Length of a step, seconds.
    pub step_s: u32,
    /// Start of the first step, seconds since 1970.
    pub start_s: u64,
    /// `None` is a gap.
    pub counts: Vec<Option<f64>>,
}

impl Series {
    /// From step numbers and counts, in any order; a step that comes twice keeps the last. `absent` says
    /// what steps without a row are.
    pub(super) fn of(name: String, step_s: u32, start_s: u64, rows: &[(usize, Option<f64>)], absent: Absent) -> Self {
        let n = rows.iter().map(|r| r.0 + 1).max().unwrap_or(0);
        let mut counts = vec![None; n];
        let mut there = vec![false; n];
        for (i, c) in rows {
            (counts[*i], there[*i]) = (*c, true);
        }
        let mut series = Series { name, step_s, start_s, counts };
        series.fill(&there, absent);
        series
    }

    fn fill(&mut self, there: &[bool], absent: Absent) {
        let zero = match absent {
            Absent::Zero => true,
            Absent::Gap => false,
            Absent::Auto => self.absent_is_quiet(there),
        };
        if !zero {
            return;
        }
        for (from, len) in runs(there.iter().map(|t| !t)) {
            if len < ABSENT_RUN_MAX {
                self.counts[from..from + len].fill(Some(0.0));
            }
        }
    }

    /// A log that writes only what happened leaves out quiet steps: then the steps beside an absent one are quiet too.
    fn absent_is_quiet(&self, there: &[bool]) -> bool {
        let mut known: Vec<f64> = self.counts.iter().flatten().copied().collect();
        let mut beside: Vec<f64> = Vec::new();
        for (from, len) in runs(there.iter().map(|t| !t)).filter(|r| r.1 < ABSENT_RUN_MAX) {
            beside.extend(from.checked_sub(1).and_then(|i| self.counts[i]));
            beside.extend(self.counts.get(from + len).copied().flatten());
        }
        if beside.len() < 8 {
            return false;
        }
        known.sort_by(f64::total_cmp);
        beside.sort_by(f64::total_cmp);
        let beside = beside[beside.len() / 2];
        beside <= known[known.len() / 4] && 2.0 * beside <= known[known.len() / 2] && known[0] <= 3.0
    }

    /// Steps.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Start of a step, seconds since 1970.
    pub fn at_s(&self, i: usize) -> u64 {
        self.start_s + i as u64 * u64::from(self.step_s)
    }

    /// The counts that are there.
    pub fn known(&self) -> impl Iterator<Item = f64> + '_ {
        self.counts.iter().flatten().copied()
    }

    /// Runs of steps without a count.
    pub fn gaps(&self) -> Vec<Gap> {
        runs(self.counts.iter().map(Option::is_none)).map(|(i, steps)| Gap { from_s: self.at_s(i), steps }).collect()
    }

    /// Steps of a day; `None` when a day is no whole number of steps, or fewer than two.
    pub fn day(&self) -> Option<usize> {
        let n = 86_400 / self.step_s as usize;
        (86_400 % self.step_s as usize == 0 && n >= 2).then_some(n)
    }

    /// Gaps inside that are shorter than this many steps were quiet, not uncounted.
    pub(super) fn quiet_below(&mut self, steps: usize) {
        for (from, len) in runs(self.counts.iter().map(Option::is_none)) {
            if len < steps {
                self.counts[from..from + len].fill(Some(0.0));
            }
        }
    }

    /// Sums of `by` steps. A sum of which more than half was counted is scaled up; less is a gap.
    pub fn coarser(&self, by: usize) -> Series {
        let by = by.max(1);
        let sum = |c: &[Option<f64>]| {
            let there = c.iter().flatten().count();
            (2 * there > by).then(|| c.iter().flatten().sum::<f64>() * by as f64 / there as f64)
        };
        let counts = self.counts.chunks_exact(by).map(sum).collect();
        Series { name: self.name.clone(), step_s: self.step_s * by as u32, start_s: self.start_s, counts }
    }

    /// Why it cannot be worked with, if so.
    pub(super) fn check(&self, path: &Path) -> Result<(), DataError> {
        let whole = |why: String| Err(DataError::Whole { path: path.to_owned(), why });
        if self.known().count() < 2 {
            return whole("has fewer than two counts; a series needs at least two".into());
        }
        match self.known().find(|c| !(0.0..=COUNT_MAX).contains(c)) {
            Some(c) => whole(format!("has a count of {c}; counts are between 0 and {COUNT_MAX:e}")),
            None => Ok(()),
        }
    }

    /// As CSV with a header; gaps have no line.
    pub fn to_csv(&self) -> String {
        let mut text = String::from("timestamp,count\n");
        for (i, c) in self.counts.iter().enumerate() {
            if let Some(c) = c {
                let _ = writeln!(text, "{},{c}", time::show(self.at_s(i)));
            }
        }
        text
    }
}

/// Runs of `true`: start and length.
fn runs(flags: impl Iterator<Item = bool>) -> std::vec::IntoIter<(usize, usize)> {
    let mut out = Vec::new();
    let mut open: Option<usize> = None;
    let mut n = 0;
    for (i, f) in flags.enumerate() {
        match (f, open) {
            (true, None) => open = Some(i),
            (false, Some(from)) => {
                out.push((from, i - from));
                open = None;
            }
            _ => {}
        }
        n = i + 1;
    }
    out.extend(open.map(|from| (from, n - from)));
    out.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(rows: &[(usize, f64)], absent: Absent) -> Vec<Option<f64>> {
        let rows: Vec<_> = rows.iter().map(|(i, c)| (*i, Some(*c))).collect();
        Series::of("s".into(), 60, 0, &rows, absent).counts
    }

    #[test]
    fn a_gap_is_no_zero() {
        let rows = [(0, 1.0), (2, 2.0), (20, 3.0)];
        let gap = series(&rows, Absent::Gap);
        assert_eq!((gap[1], gap.iter().flatten().count()), (None, 3));
        let zero = series(&rows, Absent::Zero);
        assert_eq!(zero[1], Some(0.0));
        assert_eq!(zero[10], None, "a long run was not counted");
        assert_eq!(series(&rows, Absent::Auto)[1], None, "too little to tell");
        let quiet: Vec<_> =
            (0..200).filter(|i| i % 10 != 5).map(|i| (i, if i % 10 < 7 && i % 10 > 3 { 1.0 } else { 90.0 })).collect();
        assert_eq!(series(&quiet, Absent::Auto)[15], Some(0.0), "what is left out beside ones is a zero");
        let loud: Vec<_> = (0..200).filter(|i| i % 10 != 5).map(|i| (i, if i % 10 > 7 { 1.0 } else { 90.0 })).collect();
        assert_eq!(series(&loud, Absent::Auto)[15], None, "what is left out among nineties is a gap");
    }

    #[test]
    fn steps_are_summed_and_gaps_stay() {
        let s = Series {
            name: "s".into(),
            step_s: 10,
            start_s: 600,
            counts: [Some(1.0), Some(2.0), None, None, None, Some(4.0), Some(1.0)].to_vec(),
        };
        let c = s.coarser(3);
        assert_eq!((c.counts.clone(), c.step_s), (vec![Some(4.5), None], 30));
        assert_eq!(s.gaps(), [Gap { from_s: 620, steps: 3 }]);
        assert_eq!(s.day(), Some(8640));
    }
}
