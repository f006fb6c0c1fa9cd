//! How much will arrive: experts that learn online, combined, with bands that come true, and switched off while "as it is now"
//! is the better forecast. Pure: the same counts give the same forecasts, bit for bit.
//!
//! One [`Forecaster`] works on one length of step. Each step it is told a count ([`Forecaster::observe`]) and asked
//! ([`Forecaster::forecast`]); a trained net may be one more expert, by what it says in that call.

mod band;
mod combine;
mod experts;
mod history;
mod merit;
mod rls;
mod spread;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub use self::{
    band::Band,
    combine::Combination,
    experts::{EXPERTS, RLS_SHOWN},
    history::{History, WINDOW},
    merit::{Merit, Standing},
    rls::Rls,
};
use experts::{Days, Experts, Moment, Smoothers};
use spread::Spread;

/// Quantiles that are forecast.
pub const QUANTILES: [f64; Q] = [0.1, 0.5, 0.9, 0.95, 0.99];
/// How many.
pub const Q: usize = 5;
/// Place of the median in [`QUANTILES`].
pub const MEDIAN: usize = 1;
/// Place of 0.9.
pub const Q90: usize = 2;
/// Place of 0.95.
pub const Q95: usize = 3;
/// Place of 0.99.
pub const Q99: usize = 4;
/// A forecast above so many times the largest recent count is cut: nothing that was counted says so.
const ABOVE_RECENT_MAX: f64 = 8.0;
/// Steps of a series that must have been counted before the linear experts speak.
const READY: usize = WINDOW;

/// What a trained net says at one horizon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetSays {
    /// Steps ahead.
    pub horizon: usize,
    /// The middle of what it expects.
    pub median: f64,
}

/// What is expected at one horizon.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Steps ahead.
    pub horizon: usize,
    /// What is used: the combination while it has earned its place, else "as it is now".
    pub quantiles: [f64; Q],
    /// The forecast has earned its place.
    pub on: bool,
    /// What the combination says, used or not.
    pub combined: f64,
    /// Its quantiles.
    pub combined_quantiles: [f64; Q],
    /// "As it is now", the naive forecast.
    pub naive: f64,
    /// Its quantiles, by the same method.
    pub naive_quantiles: [f64; Q],
    /// What each of [`EXPERTS`] says, then the net.
    pub said: Vec<Option<f64>>,
}

impl Forecast {
    /// The middle of what is expected.
    pub fn point(&self) -> f64 {
        self.quantiles[MEDIAN]
    }
}

/// A forecast waiting for what really comes.
#[derive(Clone, Debug)]
struct Pending {
    moment: Option<Moment>,
    days: Days,
    forecast: Forecast,
    scales: [f64; 2],
    spread: [f64; spread::WIDTH],
}

/// One horizon.
#[derive(Clone, Debug)]
struct Track {
    horizon: usize,
    experts: Experts,
    combination: Combination,
    band: Band,
    spread: Spread,
    naive_band: Band,
    merit: Merit,
    /// Made at each of the last `horizon` steps, oldest first; `None` where none was made.
    pending: VecDeque<Option<Pending>>,
}

/// Forecasts a series of counts, step by step.
#[derive(Clone, Debug)]
pub struct Forecaster {
    history: History,
    smoothers: Smoothers,
    tracks: Vec<Track>,
    asked: bool,
}

impl Forecaster {
    /// For steps of `step_s` seconds and these horizons, in steps; zeros and repetitions are left out.
    pub fn new(step_s: u32, horizons: &[usize]) -> Self {
        let mut horizons: Vec<usize> = horizons.iter().copied().filter(|h| *h > 0).collect();
        horizons.sort_unstable();
        horizons.dedup();
        let longest = horizons.last().copied().unwrap_or(1);
        let track = |horizon| Track {
            horizon,
            experts: Experts::new(horizon),
            combination: Combination::new(EXPERTS.len() + 1),
            band: Band::default(),
            spread: Spread::new(),
            naive_band: Band::default(),
            merit: Merit::default(),
            pending: VecDeque::with_capacity(horizon + 1),
        };
        Forecaster {
            history: History::new(step_s, longest),
            smoothers: Smoothers::default(),
            tracks: horizons.into_iter().map(track).collect(),
            asked: true,
        }
    }

    /// Takes the count of the step that began at `at_s`, `None` when nothing was counted, and learns from it what was
    /// forecast for it. `false`: the step is not later than the last one, and nothing was learnt.
    pub fn observe(&mut self, at_s: u64, count: Option<f64>) -> bool {
        let before_s = self.history.at_s();
        let began = self.history.fresh() > 0;
        if !self.history.push(at_s, count) {
            return false;
        }
        let skipped = if began { ((self.history.at_s() - before_s) / self.history.step_s()).saturating_sub(1) } else { 0 };
        for track in &mut self.tracks {
            track.pass(skipped as usize, self.asked);
        }
        self.asked = false;
        if !self.history.is_live() {
            self.tracks.iter_mut().for_each(|t| drop(t.due()));
            return true;
        }
        let y = self.history.ago(0);
        self.smoothers.learn(y, self.history.fresh() == 1);
        for track in &mut self.tracks {
            if let Some(due) = track.due() {
                track.learn(&due, y);
            }
        }
        true
    }

    /// What is expected from here, by rising horizon. Nothing before the first count, and nothing while counts are missing.
    pub fn forecast(&mut self, net: &[NetSays]) -> Vec<Forecast> {
        if !self.history.is_live() || self.asked {
            return Vec::new();
        }
        self.asked = true;
        let ready = self.history.fresh() >= READY;
        let moment = Moment::of(&self.history);
        let most = ABOVE_RECENT_MAX * self.history.recent_max() + 10.0;
        let mut out = Vec::with_capacity(self.tracks.len());
        for track in &mut self.tracks {
            let days = Experts::days(&self.history, track.horizon);
            let mut said = track.experts.predict(&moment, &days, &self.smoothers, ready);
            said.push(net.iter().find(|n| n.horizon == track.horizon).map(|n| n.median));
            for s in &mut said {
                *s = s.filter(|v| v.is_finite()).map(|v| v.clamp(0.0, most));
            }
            let (mut forecast, scales, spread) = track.forecast(&self.history, said, moment.y());
            // A band that chases its misses does not get wider than anything that ever came.
            let widest = most.max(2.0 * self.history.largest());
            for q in [&mut forecast.quantiles, &mut forecast.combined_quantiles, &mut forecast.naive_quantiles] {
                let middle = q[MEDIAN];
                q.iter_mut().for_each(|q| *q = q.min(widest.max(middle)));
            }
            let kept = ready.then(|| moment.clone());
            track.pending.push_back(Some(Pending { moment: kept, days, forecast: forecast.clone(), scales, spread }));
            out.push(forecast);
        }
        out
    }

    /// How each horizon did lately, by rising horizon.
    pub fn standings(&self) -> Vec<(usize, Standing)> {
        self.tracks.iter().map(|t| (t.horizon, t.merit.standing())).collect()
    }

    /// Weights of [`EXPERTS`], then the net, at a horizon.
    pub fn weights(&self, horizon: usize) -> Option<&[f64]> {
        self.tracks.iter().find(|t| t.horizon == horizon).map(|t| t.combination.weights())
    }

    /// Another net speaks from now on: what the last one earned is not its own.
    pub fn forget_net(&mut self) {
        self.tracks.iter_mut().for_each(|t| t.combination.forget(EXPERTS.len()));
    }

    /// What was counted lately: a net's inputs are made of it.
    pub fn history(&self) -> &History {
        &self.history
    }
}

impl Track {
    /// `skipped` steps went by untold, and at the last step nobody may have asked.
    fn pass(&mut self, skipped: usize, asked: bool) {
        let unasked = skipped.min(self.horizon) + usize::from(!asked);
        (0..unasked).for_each(|_| self.pending.push_back(None));
        while self.pending.len() > self.horizon {
            self.pending.pop_front();
        }
    }

    /// The forecast that was made for the step that has come.
    fn due(&mut self) -> Option<Pending> {
        if self.pending.len() < self.horizon { None } else { self.pending.pop_front().flatten() }
    }

    fn learn(&mut self, due: &Pending, y: f64) {
        let f = &due.forecast;
        let naive_error = (y - f.naive).abs();
        self.merit.learn((y - f.combined).abs(), naive_error, y <= f.quantiles[Q95], y <= f.quantiles[Q99]);
        self.band.learn(f.combined, due.scales[0], &f.combined_quantiles, y);
        self.spread.learn(&due.spread, y - f.combined);
        self.naive_band.learn(f.naive, due.scales[1], &f.naive_quantiles, y);
        self.combination.learn(&f.said, y, naive_error);
        if let Some(moment) = &due.moment {
            self.experts.learn(moment, &due.days, y);
        }
    }

    fn forecast(&self, history: &History, said: Vec<Option<f64>>, naive: f64) -> (Forecast, [f64; 2], [f64; spread::WIDTH]) {
        let combined = self.combination.predict(&said).unwrap_or(naive);
        let spread = self.spread.inputs(history, self.horizon, combined, &said);
        let scales = [self.spread.scale(&spread), self.naive_band.scale(naive)];
        let combined_quantiles = self.band.around(combined, scales[0]);
        let naive_quantiles = self.naive_band.around(naive, scales[1]);
        let on = self.merit.is_on();
        let quantiles = if on { combined_quantiles } else { naive_quantiles };
        (
            Forecast { horizon: self.horizon, quantiles, on, combined, combined_quantiles, naive, naive_quantiles, said },
            scales,
            spread,
        )
    }
}
