//! The gate's metrics, in Prometheus text. Each gate has its own recorder, so several in one process never mix.
//!
//! [`CATALOGUE`] is the one list of names. A visitor, an address or a path is never a label; label values come from the
//! policy (route, room, filter) or from fixed lists of codes.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use dashmap::DashMap;
use metrics::{Counter, Histogram, Key, KeyName, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tidegate_filters::{Reason, Row, record::Kind};

use tidegate_models::scorer::ScorerCounts;

use crate::{bots::BotFacts, counts::Counts, store::StoreCounts};

mod catalogue;

use catalogue::{
    BOT_FETCHES, BOT_LISTS, BOT_LOOKUPS, BOT_SIGNATURES, CHALLENGES, CLAIMS_REFUSED, CONNECTIONS, CONNECTIONS_REFUSED, PARSED,
    QUEUE_SECONDS, REFUSED_HEADS, RELOADS, REQUESTS, ROWS, ROWS_DROPPED, SCORE, SCORE_BATCHES, SCORED, SHADOW, SHADOW_SCORE,
    SHADOW_UNSCORED, SHOP_RUBBISH, SHOP_SECONDS, SOLD, STORE_BATCHES, STORE_BUSY_MS, STORE_BYTES, STORE_FAILURES, STORE_FSYNCS,
    STORE_GROUPS, TOKENS_REFUSED, TOTAL_SECONDS, UNSCORED,
};
pub use catalogue::{CATALOGUE, Described, Type, gauges};

const SECONDS_BUCKETS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const SCORE_BUCKETS: &[f64] = &[0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0];
const METADATA: Metadata<'static> = Metadata::new("tidegate", Level::INFO, None);

const KINDS: [Kind; 6] = [Kind::Visit, Kind::Poll, Kind::Claim, Kind::Leave, Kind::Own, Kind::Operator];
const VERDICTS: [&str; 7] = ["forward", "wait", "challenge", "throttle", "refuse", "sold_out", "own"];
const CLASSES: [&str; 4] = ["human", "unsure", "suspect", "unknown"];
/// What shadow filters can say is bounded by the policy; after many reloads, old handles are let go.
const SHADOWS_MAX: usize = 1_024;
/// Room for reasons; [`Reason`] has fewer. Slot 0 is "none".
const REASONS_MAX: usize = 64;

/// What [`Counts`] counts, and its metric.
const COUNTS: [(&str, &str); 8] = [
    ("refused_heads", REFUSED_HEADS),
    ("connections_turned_away", CONNECTIONS_REFUSED),
    ("tokens_refused", TOKENS_REFUSED),
    ("challenges_answered", CHALLENGES),
    ("connections_accepted", CONNECTIONS),
    ("requests_parsed", PARSED),
    ("claims_refused", CLAIMS_REFUSED),
    ("shop_rubbish", SHOP_RUBBISH),
];

/// A gate's metrics. Handles of the request path are made once and kept.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    requests: Box<[Slot]>,
    total_seconds: [Histogram; VERDICTS.len()],
    shop_seconds: Histogram,
    queue_seconds: Histogram,
    score: Histogram,
    shadow_score: Histogram,
    scored: [Counter; CLASSES.len()],
    shadows: DashMap<String, Counter>,
    rows: Counter,
    sold: Counter,
}

/// One combination of kind, verdict and reason. A `Counter` cannot be read back, so the count stands beside it.
#[derive(Default)]
struct Slot {
    counter: OnceLock<Counter>,
    count: AtomicU64,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// A recorder of its own, with every metric described.
    pub fn new() -> Result<Metrics, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS_BUCKETS)?
            .set_buckets_for_metric(Matcher::Full(SCORE.into()), SCORE_BUCKETS)?
            .set_buckets_for_metric(Matcher::Full(SHADOW_SCORE.into()), SCORE_BUCKETS)?
            .build_recorder();
        for d in CATALOGUE {
            let name = KeyName::from_const_str(d.name);
            match d.kind {
                Type::Counter => recorder.describe_counter(name, None, d.help.into()),
                Type::Gauge => recorder.describe_gauge(name, None, d.help.into()),
                Type::Histogram => recorder.describe_histogram(name, None, d.help.into()),
            }
        }
        let histogram = |name| recorder.register_histogram(&Key::from_static_name(name), &METADATA);
        let total = |verdict| {
            recorder.register_histogram(
                &Key::from_parts(TOTAL_SECONDS, vec![Label::from_static_parts("verdict", verdict)]),
                &METADATA,
            )
        };
        Ok(Metrics {
            handle: recorder.handle(),
            requests: (0..KINDS.len() * VERDICTS.len() * REASONS_MAX).map(|_| Slot::default()).collect(),
            total_seconds: VERDICTS.map(total),
            shop_seconds: histogram(SHOP_SECONDS),
            queue_seconds: histogram(QUEUE_SECONDS),
            score: histogram(SCORE),
            shadow_score: histogram(SHADOW_SCORE),
            scored: CLASSES.map(|class| {
                let labels = vec![Label::from_static_parts("outcome", class)];
                recorder.register_counter(&Key::from_parts(SCORED, labels), &METADATA)
            }),
            shadows: DashMap::new(),
            rows: recorder.register_counter(&Key::from_static_name(ROWS), &METADATA),
            sold: recorder.register_counter(&Key::from_static_name(SOLD), &METADATA),
            recorder,
        })
    }

    /// Counts a finished request.
    pub fn request(&self, row: &Row) {
        let verdict = VERDICTS.iter().position(|v| *v == row.verdict).unwrap_or(VERDICTS.len() - 1);
        self.count(row.kind, verdict, row.reason);
        self.total_seconds[verdict].record(seconds(row.total_us));
        if row.shop_us > 0 {
            self.shop_seconds.record(seconds(row.shop_us));
        }
        if row.queued_us > 0 {
            self.queue_seconds.record(seconds(row.queued_us));
        }
        if !row.class.is_empty() {
            let known = row.score.is_finite();
            let class = if known { row.class } else { "unknown" };
            self.scored[CLASSES.iter().position(|c| *c == class).unwrap_or(CLASSES.len() - 1)].increment(1);
            if known {
                self.score.record(f64::from(row.score));
            }
        }
        if !row.shadow_model.is_empty() {
            match row.shadow_score.is_finite() {
                true => self.shadow_score.record(f64::from(row.shadow_score)),
                false => self.counter(SHADOW_UNSCORED, &[]).increment(1),
            }
        }
        if row.sold > 0 {
            self.sold.increment(u64::from(row.sold));
        }
        if !row.shadow.is_empty() {
            self.shadow(&row.shadow);
        }
    }

    /// Takes over the counts of the data plane. Called before the metrics are read.
    pub fn counts(&self, counts: &Counts) {
        counts.each(|what, reason, value| {
            let Some((_, name)) = COUNTS.iter().find(|(w, _)| *w == what) else { return };
            let reason = [("reason", reason)];
            self.counter(name, if reason[0].1.is_empty() { &[] } else { &reason }).absolute(value);
        });
    }

    /// Takes over the counts of the scorer.
    pub fn scorer(&self, counts: &ScorerCounts) {
        let ScorerCounts {
            scored: _,
            wrong_width,
            failed,
            panicked,
            out_of_range,
            busy,
            switched_off,
            late,
            queue_full,
            batches,
        } = *counts;
        self.counter(SCORE_BATCHES, &[]).absolute(batches);
        let reasons = [
            ("wrong_width", wrong_width),
            ("failed", failed),
            ("panicked", panicked),
            ("out_of_range", out_of_range),
            ("busy", busy),
            ("switched_off", switched_off),
            ("late", late),
            ("queue_full", queue_full),
        ];
        for (reason, count) in reasons {
            self.counter(UNSCORED, &[("reason", reason)]).absolute(count);
        }
    }

    /// Takes over what was found out about programs.
    pub fn bots(&self, facts: &BotFacts) {
        facts.lookups().for_each(|(outcome, n)| self.counter(BOT_LOOKUPS, &[("outcome", outcome)]).absolute(n));
        facts
            .published
            .fetches()
            .into_iter()
            .for_each(|(outcome, n)| self.counter(BOT_FETCHES, &[("outcome", outcome)]).absolute(n));
        facts.published.states().into_iter().for_each(|(state, n)| self.gauge(BOT_LISTS, &[("state", state)], n as f64));
        facts.signatures().for_each(|(outcome, n)| self.counter(BOT_SIGNATURES, &[("outcome", outcome)]).absolute(n));
    }

    /// Takes over the counts of the store.
    pub fn store(&self, counts: &StoreCounts) {
        let StoreCounts { batches, groups, fsyncs, bytes, failures, busy_ms } = *counts;
        let all = [
            (STORE_BATCHES, batches),
            (STORE_GROUPS, groups),
            (STORE_FSYNCS, fsyncs),
            (STORE_BYTES, bytes),
            (STORE_FAILURES, failures),
            (STORE_BUSY_MS, busy_ms),
        ];
        all.into_iter().for_each(|(name, count)| self.counter(name, &[]).absolute(count));
    }

    /// Rows that are in the journal.
    pub fn rows_written(&self, rows: u64) {
        self.rows.increment(rows);
    }

    /// A row that is not in the journal; `cause` is `queue` or `disk`.
    pub fn row_dropped(&self, kind: Kind, cause: &'static str, rows: u64) {
        self.counter(ROWS_DROPPED, &[("kind", kind.name()), ("cause", cause)]).increment(rows);
    }

    /// Requests of a killed process that have no row and are not among the dropped ones of that time.
    pub fn rows_killed(&self, rows: u64) {
        self.counter(ROWS_DROPPED, &[("kind", "any"), ("cause", "killed")]).increment(rows);
    }

    /// A policy was loaded while running, or refused.
    pub fn policy_load(&self, applied: bool) {
        self.counter(RELOADS, &[("outcome", if applied { "applied" } else { "refused" })]).increment(1);
    }

    /// Sets a gauge of [`gauges`].
    pub fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.recorder.register_gauge(&key(name, labels), &METADATA).set(value);
    }

    /// Prometheus text.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds recorded samples into their buckets; without it they would pile up between scrapes. Once a second.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Requests counted so far by verdict, in a fixed order; polls and our own pages among them.
    pub fn verdicts(&self) -> Vec<(&'static str, u64)> {
        let per_kind = VERDICTS.len() * REASONS_MAX;
        let sum = |verdict: usize| {
            let of_kind = |kind: usize| &self.requests[kind * per_kind + verdict * REASONS_MAX..][..REASONS_MAX];
            (0..KINDS.len()).flat_map(of_kind).map(|s| s.count.load(Relaxed)).sum()
        };
        VERDICTS.iter().enumerate().map(|(i, v)| (*v, sum(i))).collect()
    }

    /// `filter:verdict:REASON`, as in the journal.
    fn shadow(&self, said: &str) {
        if let Some(counter) = self.shadows.get(said) {
            return counter.increment(1);
        }
        let mut parts = said.splitn(3, ':');
        if let (Some(filter), Some(verdict), Some(reason)) = (parts.next(), parts.next(), parts.next()) {
            let counter = self.counter(SHADOW, &[("filter", filter), ("verdict", verdict), ("reason", reason)]);
            counter.increment(1);
            if self.shadows.len() >= SHADOWS_MAX {
                self.shadows.clear();
            }
            self.shadows.insert(said.to_owned(), counter);
        }
    }

    fn count(&self, kind: Kind, verdict: usize, reason: Option<Reason>) {
        let kind_at = KINDS.iter().position(|k| *k == kind).unwrap_or(0);
        let reason_at = reason.map_or(0, |r| r as usize + 1).min(REASONS_MAX - 1);
        let slot = &self.requests[(kind_at * VERDICTS.len() + verdict) * REASONS_MAX + reason_at];
        slot.count.fetch_add(1, Relaxed);
        let make = || {
            let code = reason.map_or("NONE", Reason::code);
            self.counter(REQUESTS, &[("kind", kind.name()), ("verdict", VERDICTS[verdict]), ("reason", code)])
        };
        slot.counter.get_or_init(make).increment(1);
    }

    fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.recorder.register_counter(&key(name, labels), &METADATA)
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    Key::from_parts(name, labels.iter().map(|(k, v)| Label::new(*k, (*v).to_owned())).collect::<Vec<_>>())
}

fn seconds(us: u32) -> f64 {
    f64::from(us) / 1e6
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use tidegate_filters::seats::token::TokenError;

    use super::*;

    fn row() -> Row {
        Row {
            verdict: "forward",
            reason: Some(Reason::Pass),
            class: "human",
            score: 0.25,
            shadow: "bot_gate:refuse:SCORE_REFUSE".into(),
            shop_us: 2_000,
            queued_us: 10,
            total_us: 3_000,
            sold: 2,
            ..Row::default()
        }
    }

    #[test]
    fn everything_scraped_is_in_the_catalogue_and_the_other_way_round() {
        let m = Metrics::new().unwrap();
        m.request(&row());
        let beside = Row { shadow_model: "89ab".into(), shadow_score: 0.5, ..row() };
        m.request(&beside);
        m.request(&Row { shadow_score: f32::NAN, ..beside });
        assert!(m.render().contains("tidegate_shadow_unscored_total 1"), "{}", m.render());
        let counts = Counts::default();
        counts.token(TokenError::WrongTag);
        counts.each(|what, _, _| assert!(COUNTS.iter().any(|(w, _)| *w == what), "{what} has no metric"));
        m.counts(&counts);
        assert!(m.render().contains("tidegate_tokens_refused_total{reason=\"wrong_tag\"} 1"), "{}", m.render());
        m.scorer(&ScorerCounts { busy: 3, ..ScorerCounts::default() });
        assert!(m.render().contains("tidegate_unscored_total{reason=\"busy\"} 3"), "{}", m.render());
        m.store(&StoreCounts { fsyncs: 7, ..StoreCounts::default() });
        assert!(m.render().contains("tidegate_store_fsyncs_total 7"), "{}", m.render());
        m.bots(&BotFacts::default());
        assert!(m.render().contains("tidegate_bot_signatures_total{outcome=\"replayed\"} 0"), "{}", m.render());
        m.rows_written(1);
        m.row_dropped(Kind::Poll, "queue", 1);
        m.policy_load(false);
        for d in CATALOGUE.iter().filter(|d| d.kind == Type::Gauge) {
            m.gauge(d.name, &d.labels.iter().map(|l| (*l, "x")).collect::<Vec<_>>(), 1.0);
        }
        let text = m.render();
        for d in CATALOGUE {
            let word = format!("{:?}", d.kind).to_lowercase();
            assert!(text.contains(&format!("# TYPE {} {word}", d.name)), "{}\n{text}", d.name);
            assert!(text.contains(&format!("# HELP {} {}", d.name, d.help)), "{}", d.name);
            for label in d.labels {
                assert!(text.contains(&format!("{label}=\"")), "{} {label}", d.name);
            }
        }
        let known: Vec<_> = CATALOGUE.iter().map(|d| d.name).collect();
        for name in text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).filter_map(|l| l.split(' ').next()) {
            assert!(known.contains(&name), "{name} is not documented");
        }
    }

    #[test]
    fn requests_are_counted_by_kind_verdict_and_reason_and_gates_do_not_mix() {
        let (a, b) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        a.request(&row());
        a.request(&row());
        let shadow = "tidegate_shadow_total{filter=\"bot_gate\",verdict=\"refuse\",reason=\"SCORE_REFUSE\"} 2";
        assert!(a.render().contains(shadow), "{}", a.render());
        a.request(&Row { verdict: "own", kind: Kind::Poll, reason: None, ..Row::default() });
        b.request(&row());
        assert!(
            a.render().contains("tidegate_requests_total{kind=\"visit\",verdict=\"forward\",reason=\"PASS\"} 2"),
            "{}",
            a.render()
        );
        assert!(a.render().contains("tidegate_requests_total{kind=\"poll\",verdict=\"own\",reason=\"NONE\"} 1"));
        assert!(b.render().contains("tidegate_requests_total{kind=\"visit\",verdict=\"forward\",reason=\"PASS\"} 1"));
        assert!(a.render().contains("tidegate_shop_seconds_bucket{le=\"0.0025\"} 2"));
        assert_eq!((a.verdicts()[0], a.verdicts()[6]), (("forward", 2), ("own", 1)));
    }
}
