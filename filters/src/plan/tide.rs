//! What will be offered in the next seconds and minutes: the forecasters of one gate, from the counts the planner sees.

use crate::forecast::{Forecast, Forecaster, History, NetSays, Q90, Q95, Q99, Standing};

/// Horizons on counts of seconds, seconds.
pub const SECONDS: [usize; 6] = [1, 2, 5, 10, 30, 60];
/// Horizons on counts of minutes, minutes.
pub const MINUTES: [usize; 5] = [1, 2, 3, 5, 10];
/// Horizons of the load that needs no pass, seconds.
const EXEMPT: [usize; 2] = [1, 10];
/// Seconds of a minute that must have been seen for its count to mean anything.
const MINUTE_SEEN_MIN: u32 = 45;
/// An outlook older than this many seconds is not used.
pub const STALE_S: u64 = 5;

/// What is expected at one time ahead, a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ahead {
    /// Seconds from now.
    pub in_s: f64,
    /// The middle.
    pub middle: f64,
    /// Nine in ten times less.
    pub q90: f64,
    /// 95 in 100 times less.
    pub q95: f64,
    /// 99 in 100 times less.
    pub q99: f64,
    /// It has beaten "as it is now" lately.
    pub on: bool,
}

/// What is expected, for the planner.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    /// When it was made, seconds.
    pub at_s: u64,
    /// People who arrive, by rising time ahead.
    pub arrivals: Vec<Ahead>,
    /// Cost units a second that need no pass, by rising time ahead: the next second, and the tenth.
    pub exempt: Vec<Ahead>,
}

impl Outlook {
    /// What needs no pass in the tenth second from now.
    pub fn exempt_later(&self) -> Option<&Ahead> {
        self.exempt.iter().find(|a| a.in_s == EXEMPT[1] as f64)
    }
}

/// One kind of count at one horizon, for metrics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HorizonStanding {
    /// Seconds ahead.
    pub horizon_s: u64,
    /// How it did.
    pub standing: Standing,
}

/// The forecasters.
#[derive(Clone, Debug)]
pub struct Tide {
    seconds: Forecaster,
    exempt: Forecaster,
    minutes: Forecaster,
    /// The minute that is being counted: start, people, seconds seen.
    minute: Option<(u64, f64, u32)>,
    /// What was said when the last minute ended.
    by_minute: Vec<Forecast>,
    at_s: u64,
}

impl Default for Tide {
    fn default() -> Self {
        Tide {
            seconds: Forecaster::new(1, &SECONDS),
            exempt: Forecaster::new(1, &EXEMPT),
            minutes: Forecaster::new(60, &MINUTES),
            minute: None,
            by_minute: Vec::new(),
            at_s: 0,
        }
    }
}

impl Tide {
    /// Takes what a second showed: people who arrived, cost units a second that needed no pass; `None` where it could not be
    /// counted. True when a minute ended with it: then a net may speak in [`Tide::outlook`]. A second that is not later than
    /// the last is passed over.
    pub fn second(&mut self, at_s: u64, arrivals: Option<f64>, exempt_per_s: Option<f64>) -> bool {
        if at_s <= self.at_s && self.at_s > 0 {
            return false;
        }
        self.at_s = at_s;
        self.seconds.observe(at_s, arrivals);
        self.exempt.observe(at_s, exempt_per_s);
        let start = at_s - at_s % 60;
        let mut ended = false;
        if let Some((begun, people, seen)) = self.minute.filter(|m| m.0 != start) {
            // A minute of which some seconds are missing is scaled up; of which most are, is a gap.
            let whole = (seen >= MINUTE_SEEN_MIN).then(|| people * 60.0 / f64::from(seen.max(1)));
            self.minutes.observe(begun, whole);
            self.minute = None;
            ended = true;
        }
        let minute = self.minute.get_or_insert((start, 0.0, 0));
        if let Some(n) = arrivals.filter(|n| n.is_finite() && *n >= 0.0) {
            (minute.1, minute.2) = (minute.1 + n, minute.2 + 1);
        }
        if ended {
            self.by_minute.clear();
        }
        ended
    }

    /// Counts of minutes: what a net's inputs are made of.
    pub fn minutes(&self) -> &History {
        self.minutes.history()
    }

    /// What is expected from here. `net` is what a net says; it counts in the second in which a minute ended.
    pub fn outlook(&mut self, net: &[NetSays]) -> Outlook {
        let fresh = self.minutes.forecast(net);
        if !fresh.is_empty() {
            self.by_minute = fresh;
        }
        let mut arrivals: Vec<Ahead> = self.seconds.forecast(&[]).iter().map(|f| ahead(f, 1.0)).collect();
        for f in &self.by_minute {
            let a = ahead(f, 60.0);
            match arrivals.iter_mut().find(|s| s.in_s == a.in_s) {
                Some(second) => *second = reconciled(*second, a),
                None => arrivals.push(a),
            }
        }
        let exempt = self.exempt.forecast(&[]).iter().map(|f| ahead(f, 1.0)).collect();
        Outlook { at_s: self.at_s, arrivals, exempt }
    }

    /// Another net speaks from now on.
    pub fn forget_net(&mut self) {
        self.minutes.forget_net();
    }

    /// How each horizon did lately: arrivals in seconds, then in minutes, then the load that needs no pass.
    pub fn standings(&self) -> [(&'static str, Vec<HorizonStanding>); 3] {
        let of = |f: &Forecaster| {
            let step = f.history().step_s();
            f.standings().into_iter().map(|(h, standing)| HorizonStanding { horizon_s: h as u64 * step, standing }).collect()
        };
        [("arrivals_1s", of(&self.seconds)), ("arrivals_1min", of(&self.minutes)), ("exempt", of(&self.exempt))]
    }

    /// Share of the net among the experts at one minute.
    pub fn net_weight(&self) -> f64 {
        self.minutes.weights(1).and_then(|w| w.last().copied()).unwrap_or(0.0)
    }
}

fn ahead(f: &Forecast, step_s: f64) -> Ahead {
    let a = |q: usize| f.quantiles[q] / step_s;
    Ahead { in_s: f.horizon as f64 * step_s, middle: f.point() / step_s, q90: a(Q90), q95: a(Q95), q99: a(Q99), on: f.on }
}

/// At a minute both speak. One that has earned its place goes before one that has not; else they meet in the middle, and the
/// upper quantiles are those of the minute, for a single second scatters more than the rate that plans are made from.
fn reconciled(second: Ahead, minute: Ahead) -> Ahead {
    match (second.on, minute.on) {
        (true, false) => Ahead { middle: second.middle, on: true, ..minute },
        (false, true) => minute,
        _ => {
            let middle = 0.5 * (second.middle + minute.middle);
            Ahead { middle, q90: minute.q90.max(middle), q95: minute.q95.max(middle), q99: minute.q99.max(middle), ..minute }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_minutes_and_meet_at_one() {
        let mut t = Tide::default();
        let mut ended = 0;
        let mut last = Outlook::default();
        for s in 0..7_500u64 {
            let wave = if s % 7 == 0 { 4.0 } else { 2.0 };
            ended += u32::from(t.second(1_000_020 + s, Some(wave), Some(10.0)));
            last = t.outlook(&[]);
        }
        assert_eq!(ended, 124);
        let times: Vec<f64> = last.arrivals.iter().map(|a| a.in_s).collect();
        assert_eq!(times, [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0]);
        let mean = 16.0 / 7.0;
        let far = last.arrivals.last().unwrap();
        assert!((far.middle - mean).abs() < 0.1, "{far:?}");
        assert!(last.exempt.len() == 2 && last.exempt.iter().all(|e| (e.middle - 10.0).abs() < 0.5));
        assert!(!t.second(1_000_020, Some(5.0), None), "a clock that went back is passed over");
        assert!(t.standings().iter().all(|(_, s)| !s.is_empty()));
    }

    #[test]
    fn a_minute_that_was_mostly_missed_is_a_gap() {
        let mut t = Tide::default();
        for s in 0..600u64 {
            let seen = s / 60 != 8 || s % 60 < 20;
            t.second(6_000 + s, seen.then_some(1.0), None);
            t.outlook(&[]);
        }
        t.second(6_600, Some(1.0), None);
        let h = t.minutes();
        assert_eq!((h.ago(0), h.ago(1), h.ago(2)), (60.0, 60.0, 60.0), "bridged with the last one");
        let (minutes, _) = (t.standings()[1].1.clone(), 0);
        assert!(minutes[0].standing.seen < 9);
    }
}
