//! The gate's metrics, in Prometheus text. Each gate has its own recorder, so several in one process never mix.
//!
//! [`CATALOGUE`] is the one list of names. A visitor, an address or a path is never a label; label values come from the
//! policy (route, room, filter) or from fixed lists of codes.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use metrics::{Counter, Histogram, Key, KeyName, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tidegate_filters::{Reason, Row, record::Kind};

use crate::counts::Counts;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// A distribution in buckets.
    Histogram,
}

/// One metric's documentation.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// As scraped.
    pub name: &'static str,
    /// What it is.
    pub kind: Type,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// The help text.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Described {
    Described { name, kind: Type::Counter, labels, help }
}
const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Described {
    Described { name, kind: Type::Gauge, labels, help }
}
const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Described {
    Described { name, kind: Type::Histogram, labels, help }
}

const REQUESTS: &str = "tidegate_requests_total";
const SHADOW: &str = "tidegate_shadow_total";
const REFUSED_HEADS: &str = "tidegate_refused_heads_total";
const TOKENS_REFUSED: &str = "tidegate_tokens_refused_total";
const CONNECTIONS: &str = "tidegate_connections_total";
const CONNECTIONS_REFUSED: &str = "tidegate_connections_refused_total";
const PARSED: &str = "tidegate_requests_parsed_total";
const CLAIMS_REFUSED: &str = "tidegate_claims_refused_total";
const SHOP_RUBBISH: &str = "tidegate_shop_rubbish_total";
const SCORED: &str = "tidegate_scored_total";
const SCORE: &str = "tidegate_score";
const ROWS: &str = "tidegate_journal_rows_total";
const ROWS_DROPPED: &str = "tidegate_journal_rows_dropped_total";
const RELOADS: &str = "tidegate_policy_loads_total";
const TOTAL_SECONDS: &str = "tidegate_total_seconds";
const SHOP_SECONDS: &str = "tidegate_shop_seconds";
const QUEUE_SECONDS: &str = "tidegate_queue_seconds";
const SOLD: &str = "tidegate_units_sold_total";
/// Gauges by name, set with [`Metrics::gauge`].
pub mod gauges {
    /// Build information.
    pub const BUILD: &str = "tidegate_build_info";
    /// Ready to take visits.
    pub const READY: &str = "tidegate_ready";
    /// Open connections.
    pub const CONNECTIONS: &str = "tidegate_connections";
    /// Upstream health.
    pub const UPSTREAM_HEALTHY: &str = "tidegate_upstream_healthy";
    /// Requests at the shop.
    pub const IN_FLIGHT: &str = "tidegate_in_flight";
    /// Requests queued before the shop.
    pub const IN_FLIGHT_QUEUED: &str = "tidegate_in_flight_queued";
    /// The in-flight limit.
    pub const IN_FLIGHT_LIMIT: &str = "tidegate_in_flight_limit";
    /// The capacity estimate.
    pub const CAPACITY: &str = "tidegate_capacity_per_second";
    /// People waiting.
    pub const ROOM_WAITING: &str = "tidegate_room_waiting";
    /// People called.
    pub const ROOM_CALLED: &str = "tidegate_room_called";
    /// Live seats.
    pub const ROOM_SEATS: &str = "tidegate_room_seats";
    /// Most seats.
    pub const ROOM_SEATS_MAX: &str = "tidegate_room_seats_max";
    /// New passes a second.
    pub const ROOM_REFILL: &str = "tidegate_room_refill_per_second";
    /// Largest burst.
    pub const ROOM_BURST: &str = "tidegate_room_burst";
    /// Newcomers wait.
    pub const ROOM_ARMED: &str = "tidegate_room_armed";
    /// Paused by the operator.
    pub const ROOM_PAUSED: &str = "tidegate_room_paused";
}

/// Every metric the gate has.
pub const CATALOGUE: &[Described] = &[
    counter(REQUESTS, &["kind", "verdict", "reason"], "Parsed requests by kind, verdict and reason code."),
    counter(SHADOW, &["filter", "verdict", "reason"], "What filters in shadow mode would have decided."),
    counter(CONNECTIONS, &[], "Connections accepted."),
    counter(CONNECTIONS_REFUSED, &["reason"], "Connections closed before a request: too many, no TLS, no HTTP."),
    counter(PARSED, &[], "Request heads accepted; each becomes one request and one journal row."),
    counter(REFUSED_HEADS, &["reason"], "Request heads refused before they became a request."),
    counter(CLAIMS_REFUSED, &[], "Claims that found too many others waiting for an answer."),
    counter(SHOP_RUBBISH, &[], "Answers of the shop that could not be read."),
    counter(TOKENS_REFUSED, &["reason"], "Tickets, passes and other tokens that were not accepted."),
    counter(
        SCORED,
        &["outcome"],
        "Visits of scored routes by class: human, unsure, suspect, or unknown when no score came in time.",
    ),
    histogram(SCORE, &[], "Bot scores given, 0 to 1."),
    counter(ROWS, &[], "Rows written to the journal."),
    counter(ROWS_DROPPED, &["kind", "cause"], "Journal rows dropped: the queue was full, or the disk refused them."),
    counter(RELOADS, &["outcome"], "Policies loaded while running: applied, or refused and the old one kept."),
    histogram(TOTAL_SECONDS, &["verdict"], "From parsed head to the end of the answer."),
    histogram(SHOP_SECONDS, &[], "From forwarding to the first byte of the shop's answer."),
    histogram(QUEUE_SECONDS, &[], "Time in the short queue in front of the shop, of forwarded visits that queued."),
    counter(SOLD, &[], "Units the shop reported sold."),
    gauge(gauges::BUILD, &["version"], "Always 1; the labels say what runs."),
    gauge(gauges::READY, &[], "1 when the gate takes visits, 0 while it stops."),
    gauge(gauges::CONNECTIONS, &[], "Open client connections."),
    gauge(gauges::UPSTREAM_HEALTHY, &["upstream"], "1 when the health check of this upstream passes."),
    gauge(gauges::IN_FLIGHT, &[], "Requests at the shop now."),
    gauge(gauges::IN_FLIGHT_QUEUED, &[], "Requests in the short queue in front of the shop now."),
    gauge(gauges::IN_FLIGHT_LIMIT, &[], "Most requests at the shop at the same time, as planned."),
    gauge(gauges::CAPACITY, &[], "What the shop can take, estimated, in cost units a second."),
    gauge(gauges::ROOM_WAITING, &["room"], "People waiting in the room who were seen lately."),
    gauge(gauges::ROOM_CALLED, &["room"], "People called who have not claimed."),
    gauge(gauges::ROOM_SEATS, &["room"], "Live seats."),
    gauge(gauges::ROOM_SEATS_MAX, &["room"], "Most live seats, as planned."),
    gauge(gauges::ROOM_REFILL, &["room"], "New passes a second, as planned."),
    gauge(gauges::ROOM_BURST, &["room"], "Passes at once after a pause, as planned."),
    gauge(gauges::ROOM_ARMED, &["room"], "1 when newcomers take a place instead of walking in."),
    gauge(gauges::ROOM_PAUSED, &["room"], "1 when the operator paused the room."),
];

const SECONDS_BUCKETS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const SCORE_BUCKETS: &[f64] = &[0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0];
const METADATA: Metadata<'static> = Metadata::new("tidegate", Level::INFO, None);

const KINDS: [Kind; 5] = [Kind::Visit, Kind::Poll, Kind::Claim, Kind::Leave, Kind::Own];
const VERDICTS: [&str; 7] = ["forward", "wait", "challenge", "throttle", "refuse", "sold_out", "own"];
/// Room for reasons; [`Reason`] has fewer. Slot 0 is "none".
const REASONS_MAX: usize = 64;

/// What [`Counts`] counts, and its metric.
const COUNTS: [(&str, &str); 7] = [
    ("refused_heads", REFUSED_HEADS),
    ("connections_turned_away", CONNECTIONS_REFUSED),
    ("tokens_refused", TOKENS_REFUSED),
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
            self.counter(SCORED, &[("outcome", if known { row.class } else { "unknown" })]).increment(1);
            if known {
                self.score.record(f64::from(row.score));
            }
        }
        if row.sold > 0 {
            self.sold.increment(u64::from(row.sold));
        }
        let mut shadow = row.shadow.splitn(3, ':');
        if let (Some(filter), Some(verdict), Some(reason)) = (shadow.next(), shadow.next(), shadow.next()) {
            let labels = [("filter", filter), ("verdict", verdict), ("reason", reason)];
            self.counter(SHADOW, &labels).increment(1);
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

    /// Rows that are in the journal.
    pub fn rows_written(&self, rows: u64) {
        self.rows.increment(rows);
    }

    /// A row that is not in the journal; `cause` is `queue` or `disk`.
    pub fn row_dropped(&self, kind: Kind, cause: &'static str, rows: u64) {
        self.counter(ROWS_DROPPED, &[("kind", kind.name()), ("cause", cause)]).increment(rows);
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
        let counts = Counts::default();
        counts.token(TokenError::WrongTag);
        counts.each(|what, _, _| assert!(COUNTS.iter().any(|(w, _)| *w == what), "{what} has no metric"));
        m.counts(&counts);
        assert!(m.render().contains("tidegate_tokens_refused_total{reason=\"wrong_tag\"} 1"), "{}", m.render());
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
