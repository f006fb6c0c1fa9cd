//! The forecast beside the request path: each second it hears what came and says what will. A net's file is read on a thread
//! of its own, after a trial in a child process; until that went well the one before goes on.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    time::SystemTime,
};

use serde::Serialize;
use tidegate_config::ForecastSettings;
use tidegate_filters::{
    Now,
    plan::{Observed, Outlook, Tide, tide::HorizonStanding},
};
use tidegate_models::{
    card::path_of,
    forecast::{
        inputs::Planned,
        net::{ForecastNet, medians},
    },
};

use crate::{
    clock::Clock,
    deep::Deep,
    metrics::{Metrics, gauges},
};

/// Seconds between two looks at the file.
const LOOK_EVERY_S: u64 = 5;
/// A sale farther away than this is no sale near, milliseconds.
const SALE_NEAR_MS: i64 = 3_600_000;

/// What is known about the forecast, for the admin API.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ForecastStatus {
    /// What it is made with.
    pub model: String,
    /// Why the last model file was not taken; the one before goes on.
    pub refused: Option<String>,
    /// Share of the net among the experts at one minute.
    pub net_weight: f64,
    /// How each horizon does.
    pub horizons: Vec<HorizonStatus>,
    /// What the last second cost, microseconds.
    pub tick_us: u64,
}

/// One horizon.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HorizonStatus {
    /// `arrivals_1s`, `arrivals_1min` or `exempt`.
    pub series: &'static str,
    /// Seconds ahead.
    pub horizon_s: u64,
    /// Forecasts compared with what came, so far.
    pub judged: u64,
    /// Mean absolute error lately; `null` like the next three while nothing was compared.
    pub mae: Option<f64>,
    /// The same for "as it is now".
    pub mae_naive: Option<f64>,
    /// Share at or below the 0.95 quantile.
    pub coverage_95: Option<f64>,
    /// Share at or below the 0.99 quantile.
    pub coverage_99: Option<f64>,
    /// It beats "as it is now" and is used.
    pub on: bool,
}

impl HorizonStatus {
    fn of(series: &'static str, h: HorizonStanding) -> Self {
        let s = h.standing;
        let judged = |v: f64| (s.seen > 0).then_some(v);
        HorizonStatus {
            series,
            horizon_s: h.horizon_s,
            judged: s.seen,
            mae: judged(s.mae),
            mae_naive: judged(s.mae_naive),
            coverage_95: judged(s.coverage_95),
            coverage_99: judged(s.coverage_99),
            on: s.on,
        }
    }
}

/// When a model and its card were as they are.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// The forecasters, the net, and where its file is.
pub(crate) struct Forecasting {
    tide: Tide,
    net: Option<ForecastNet>,
    settings: ForecastSettings,
    deep: Deep,
    stamp: Stamp,
    loading: Option<mpsc::Receiver<Result<ForecastNet, String>>>,
    looked_s: u64,
    refused: Option<String>,
    at_s: u64,
    clock: Clock,
    tick_us: u64,
}

impl Forecasting {
    /// Nothing is known yet; the net is loaded in the background.
    pub(crate) fn new(settings: &ForecastSettings, deep: &Deep) -> Self {
        let mut f = Forecasting {
            tide: Tide::default(),
            net: None,
            settings: ForecastSettings::default(),
            deep: deep.clone(),
            stamp: [None; 2],
            loading: None,
            looked_s: 0,
            refused: None,
            at_s: 0,
            clock: Clock::new(),
            tick_us: 0,
        };
        f.follow(settings);
        f
    }

    /// Another policy: another model is loaded, the experts keep what they learnt.
    pub(crate) fn follow(&mut self, settings: &ForecastSettings) {
        if *settings == self.settings {
            return;
        }
        self.settings = settings.clone();
        self.refused = None;
        if settings.file().is_none() {
            self.net = None;
            self.loading = None;
            self.tide.forget_net();
        } else {
            self.load();
        }
    }

    /// A second: what came, what is expected.
    pub(crate) fn second(&mut self, now: Now, seen: Observed, opens_ms: impl Iterator<Item = u64>) -> Outlook {
        let began = self.clock.mono_ns();
        self.take_loaded();
        self.look(now.mono_s());
        // Ticks are a second apart, roughly: two of them may begin in the same second and none in the next.
        let wall_s = now.wall_ms / 1_000;
        self.at_s = if self.at_s == 0 || wall_s > self.at_s + 1 { wall_s } else { self.at_s + 1 };
        let ended = self.tide.second(self.at_s, Some(seen.arrivals), Some(seen.exempt_per_s));
        let planned = Planned { to_sale_s: nearest(opens_ms, now.wall_ms), to_push_s: None };
        let says = if ended { self.net.as_mut().and_then(|n| n.says(self.tide.minutes(), &planned)) } else { None };
        let outlook = self.tide.outlook(&medians(&says.unwrap_or_default()));
        self.tick_us = self.clock.mono_ns().saturating_sub(began) / 1_000;
        outlook
    }

    /// The second that the last outlook is about.
    pub(crate) fn at_s(&self) -> u64 {
        self.at_s
    }

    pub(crate) fn status(&self) -> ForecastStatus {
        let model = match (&self.net, self.net.as_ref().and_then(ForecastNet::broken)) {
            (_, Some(why)) => format!("experts alone: the net failed too often: {why}"),
            (Some(net), None) => net.describe(),
            (None, None) => "experts alone".into(),
        };
        let horizons = self
            .tide
            .standings()
            .into_iter()
            .flat_map(|(series, all)| all.into_iter().map(move |h| HorizonStatus::of(series, h)));
        ForecastStatus {
            model,
            refused: self.refused.clone(),
            net_weight: if self.net.is_some() { self.tide.net_weight() } else { 0.0 },
            horizons: horizons.collect(),
            tick_us: self.tick_us,
        }
    }

    fn look(&mut self, mono_s: u64) {
        let Some(file) = self.settings.file() else { return };
        if self.loading.is_some() || mono_s < self.looked_s + LOOK_EVERY_S {
            return;
        }
        self.looked_s = mono_s;
        if stamp(file) != self.stamp {
            self.load();
        }
    }

    /// Starts reading the file; what comes of it is taken in a later second.
    fn load(&mut self) {
        self.stamp = stamp(Path::new(&self.settings.model));
        let (tell, told) = mpsc::channel();
        let (settings, deep) = (self.settings.clone(), self.deep.clone());
        let read = move || {
            let net = deep
                .try_forecast(&settings)
                .and_then(|()| ForecastNet::open(&PathBuf::from(&settings.model), settings.runtime).map_err(|e| e.to_string()));
            // Nobody hears it when the policy has changed meanwhile.
            let _ = tell.send(net);
        };
        match std::thread::Builder::new().name("forecast-load".into()).spawn(read) {
            Ok(_) => self.loading = Some(told),
            Err(e) => self.refuse(format!("no thread to load it: {e}")),
        }
    }

    fn take_loaded(&mut self) {
        let Some(loading) = &self.loading else { return };
        let came = match loading.try_recv() {
            Ok(came) => came,
            Err(mpsc::TryRecvError::Empty) => return,
            Err(mpsc::TryRecvError::Disconnected) => Err("reading it ended without a word".into()),
        };
        self.loading = None;
        match came {
            Ok(net) => {
                tracing::info!("{}", net.describe());
                self.net = Some(net);
                self.refused = None;
                self.tide.forget_net();
            }
            Err(why) => self.refuse(why),
        }
    }

    fn refuse(&mut self, why: String) {
        let stays = if self.net.is_some() { "the one before stays" } else { "experts go on alone" };
        tracing::error!(model = %self.settings.model, error = %why, "the forecast's model is refused; {stays}");
        self.refused = Some(why);
    }
}

/// Gauges of everything that is known about it.
pub(crate) fn gauge(metrics: &Metrics, status: &ForecastStatus) {
    let yes = |b: bool| f64::from(u8::from(b));
    for h in &status.horizons {
        let horizon = h.horizon_s.to_string();
        let labels = [("series", h.series), ("horizon_s", horizon.as_str())];
        let judged = [
            (gauges::FORECAST_MAE, h.mae),
            (gauges::FORECAST_MAE_NAIVE, h.mae_naive),
            (gauges::FORECAST_COVERAGE_95, h.coverage_95),
            (gauges::FORECAST_COVERAGE_99, h.coverage_99),
        ];
        // What was never compared has no series: zeros would look like a perfect forecast that covers nothing.
        judged.into_iter().filter_map(|(name, v)| Some((name, v?))).for_each(|(name, v)| metrics.gauge(name, &labels, v));
        metrics.gauge(gauges::FORECAST_ON, &labels, yes(h.on));
    }
    metrics.gauge(gauges::FORECAST_NET_WEIGHT, &[], status.net_weight);
    metrics.gauge(gauges::FORECAST_MODEL_WELL, &[], yes(status.refused.is_none()));
    metrics.gauge(gauges::FORECAST_TICK, &[], status.tick_us as f64 / 1e6);
}

fn stamp(model: &Path) -> Stamp {
    let of = |file: &Path| {
        let m = fs::metadata(file).ok()?;
        Some((m.modified().ok()?, m.len()))
    };
    [of(model), of(&path_of(model))]
}

fn nearest(opens_ms: impl Iterator<Item = u64>, wall_ms: u64) -> Option<f64> {
    let away = opens_ms.map(|o| o as i64 - wall_ms as i64).filter(|d| d.abs() <= SALE_NEAR_MS);
    away.min_by_key(|d| d.abs()).map(|d| d as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn seen(arrivals: f64) -> Observed {
        Observed { arrivals, exempt_per_s: 5.0, span_s: 1.0 }
    }

    fn settings(model: &str) -> ForecastSettings {
        ForecastSettings { model: model.into(), ..ForecastSettings::default() }
    }

    fn until(f: &mut Forecasting, from: u64, what: impl Fn(&Forecasting) -> bool) -> u64 {
        for i in 0..20_000u64 {
            f.second(Now::at(1_700_000_000_000 + (from + i) * 1_000, (from + i) * 1_000), seen(3.0), std::iter::empty());
            if what(f) {
                return from + i + 1;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("it never came: {:?}", f.status());
    }

    #[test]
    fn a_bad_file_is_refused_the_old_one_stays_and_a_good_one_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.onnx");
        let artifact = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/foreign/sklearn.onnx");
        let put = |bytes: &[u8]| fs::write(&path, bytes).unwrap();
        put(&fs::read(&artifact).unwrap());
        fs::copy(artifact.with_extension("json"), path.with_extension("json")).unwrap();
        let mut f = Forecasting::new(&settings(path.to_str().unwrap()), &Deep::default());
        let at = until(&mut f, 1, |f| f.net.is_some());
        put(b"rubbish");
        let at = until(&mut f, at, |f| f.refused.is_some());
        assert!(f.net.is_some(), "the old one stays");
        assert!(f.status().refused.unwrap().contains("SHA-256"), "{:?}", f.status());
        put(&fs::read(&artifact).unwrap());
        let at = until(&mut f, at, |f| f.refused.is_none());
        // A card that comes after its model.
        fs::write(path.with_extension("json"), "{}").unwrap();
        let at = until(&mut f, at, |f| f.refused.is_some());
        fs::copy(artifact.with_extension("json"), path.with_extension("json")).unwrap();
        let at = until(&mut f, at, |f| f.refused.is_none());
        f.follow(&settings("none"));
        assert!(f.net.is_none() && f.status().model == "experts alone");
        f.follow(&settings("/nowhere/m.onnx"));
        until(&mut f, at, |f| f.refused.is_some());
        assert!(f.net.is_none());
    }

    #[test]
    fn seconds_go_on_whatever_the_clock_says() {
        let mut f = Forecasting::new(&settings("none"), &Deep::default());
        let mut last = 0;
        for (i, wall) in [5_000u64, 6_000, 6_900, 7_000, 7_999, 9_000, 12_000, 12_500].into_iter().enumerate() {
            let outlook = f.second(Now::at(1_700_000_000_000 + wall, i as u64 * 1_000), seen(i as f64), std::iter::empty());
            assert!(f.at_s() > last && outlook.at_s == f.at_s());
            last = f.at_s();
        }
        let status = f.status();
        let of = |series: &str, s: u64| status.horizons.iter().find(|h| h.series == series && h.horizon_s == s).unwrap();
        assert!(of("arrivals_1s", 1).mae.is_some() && of("arrivals_1s", 1).judged > 0);
        let far = of("arrivals_1min", 600);
        assert_eq!((far.judged, far.mae, far.coverage_99), (0, None, None), "nothing was compared yet");
        assert_eq!(status.net_weight, 0.0, "nobody speaks for a net");
        assert_eq!(nearest([10_000, 50_000].into_iter(), 40_000), Some(10.0));
        assert_eq!(nearest([10_000].into_iter(), 4_000_000_000), None);
    }
}
