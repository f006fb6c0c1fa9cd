//! Every metric the gate has: its name, its labels, what it means.

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

pub(super) const REQUESTS: &str = "tidegate_requests_total";
pub(super) const SHADOW: &str = "tidegate_shadow_total";
pub(super) const REFUSED_HEADS: &str = "tidegate_refused_heads_total";
pub(super) const TOKENS_REFUSED: &str = "tidegate_tokens_refused_total";
pub(super) const CHALLENGES: &str = "tidegate_challenges_answered_total";
pub(super) const CONNECTIONS: &str = "tidegate_connections_total";
pub(super) const CONNECTIONS_REFUSED: &str = "tidegate_connections_refused_total";
pub(super) const PARSED: &str = "tidegate_requests_parsed_total";
pub(super) const CLAIMS_REFUSED: &str = "tidegate_claims_refused_total";
pub(super) const SHOP_RUBBISH: &str = "tidegate_shop_rubbish_total";
pub(super) const SCORED: &str = "tidegate_scored_total";
pub(super) const SCORE: &str = "tidegate_score";
pub(super) const SHADOW_SCORE: &str = "tidegate_shadow_score";
pub(super) const SHADOW_UNSCORED: &str = "tidegate_shadow_unscored_total";
pub(super) const UNSCORED: &str = "tidegate_unscored_total";
pub(super) const SCORE_BATCHES: &str = "tidegate_score_batches_total";
pub(super) const ROWS: &str = "tidegate_journal_rows_total";
pub(super) const ROWS_DROPPED: &str = "tidegate_journal_rows_dropped_total";
pub(super) const RELOADS: &str = "tidegate_policy_loads_total";
pub(super) const TOTAL_SECONDS: &str = "tidegate_total_seconds";
pub(super) const SHOP_SECONDS: &str = "tidegate_shop_seconds";
pub(super) const QUEUE_SECONDS: &str = "tidegate_queue_seconds";
pub(super) const SOLD: &str = "tidegate_units_sold_total";
pub(super) const BOT_LOOKUPS: &str = "tidegate_bot_lookups_total";
pub(super) const BOT_FETCHES: &str = "tidegate_bot_list_fetches_total";
pub(super) const BOT_LISTS: &str = "tidegate_bot_lists";
pub(super) const BOT_SIGNATURES: &str = "tidegate_bot_signatures_total";
pub(super) const STORE_BATCHES: &str = "tidegate_store_batches_total";
pub(super) const STORE_GROUPS: &str = "tidegate_store_groups_total";
pub(super) const STORE_FSYNCS: &str = "tidegate_store_fsyncs_total";
pub(super) const STORE_BYTES: &str = "tidegate_store_bytes_total";
pub(super) const STORE_FAILURES: &str = "tidegate_store_failures_total";
pub(super) const STORE_BUSY_MS: &str = "tidegate_store_busy_milliseconds_total";
/// Gauges by name, set with [`super::Metrics::gauge`].
pub mod gauges {
    /// The clock's doubt.
    pub const CLOCK_DOUBT: &str = "tidegate_clock_doubt_seconds";
    /// A device scores.
    pub const SCORES_ON_CUDA: &str = "tidegate_scores_on_cuda";
    /// The store works.
    pub const STORE_WELL: &str = "tidegate_store_well";
    /// Appeals that nobody has decided.
    pub const APPEALS_UNDECIDED: &str = "tidegate_appeals_undecided";
    /// Visitors of honeypots.
    pub const HONEYPOT_VISITORS: &str = "tidegate_honeypot_visitors";
    /// A drawn sale that cannot go on: its beacon's round or the disk is missing.
    pub const DRAW_STUCK: &str = "tidegate_draw_stuck";
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
    /// Promised waits whose end is known.
    pub const ROOM_PROMISES: &str = "tidegate_room_promises";
    /// Those that were kept.
    pub const ROOM_PROMISES_KEPT: &str = "tidegate_room_promises_kept";
    /// Live pages.
    pub const STREAMS: &str = "tidegate_streams";
    /// Paused by the operator.
    pub const ROOM_PAUSED: &str = "tidegate_room_paused";
    /// Error of the forecast.
    pub const FORECAST_MAE: &str = "tidegate_forecast_mae";
    /// Error of "as it is now".
    pub const FORECAST_MAE_NAIVE: &str = "tidegate_forecast_mae_naive";
    /// Coverage of the 0.95 quantile.
    pub const FORECAST_COVERAGE_95: &str = "tidegate_forecast_coverage_95";
    /// Coverage of the 0.99 quantile.
    pub const FORECAST_COVERAGE_99: &str = "tidegate_forecast_coverage_99";
    /// Used.
    pub const FORECAST_ON: &str = "tidegate_forecast_on";
    /// Share of the net.
    pub const FORECAST_NET_WEIGHT: &str = "tidegate_forecast_net_weight";
    /// The model's file is the one in use.
    pub const FORECAST_MODEL_WELL: &str = "tidegate_forecast_model_well";
    /// Cost of a tick.
    pub const FORECAST_TICK: &str = "tidegate_forecast_tick_seconds";
    /// Units of the sale that is on.
    pub const SALE_UNITS: &str = "tidegate_sale_units";
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
    counter(CHALLENGES, &["reason"], "Answers to challenges: worked, slowly, or refused."),
    counter(
        SCORED,
        &["outcome"],
        "Visits of scored routes by class: human, unsure, suspect, or unknown when no score came in time.",
    ),
    counter(UNSCORED, &["reason"], "Model runs that gave no score, by reason."),
    counter(SCORE_BATCHES, &[], "Batches of visits that were scored together; 0 while the CPU scores each on its own."),
    gauge(gauges::SCORES_ON_CUDA, &[], "1 while a CUDA device scores visits, 0 while the CPU does; absent without a bot gate."),
    histogram(SCORE, &[], "Bot scores given, 0 to 1."),
    histogram(SHADOW_SCORE, &[], "Scores of the shadow model, which do nothing."),
    counter(SHADOW_UNSCORED, &[], "Visits that the shadow model gave no score to in time."),
    counter(ROWS, &[], "Rows written to the journal."),
    counter(
        ROWS_DROPPED,
        &["kind", "cause"],
        "Journal rows dropped: the queue was full, the disk refused them, or the gate was killed before they were in a file.",
    ),
    counter(RELOADS, &["outcome"], "Policies loaded while running: applied, or refused and the old one kept."),
    histogram(TOTAL_SECONDS, &["verdict"], "From parsed head to the end of the answer."),
    histogram(SHOP_SECONDS, &[], "From forwarding to the first byte of the shop's answer."),
    histogram(QUEUE_SECONDS, &[], "Time in the short queue in front of the shop, of forwarded visits that queued."),
    counter(SOLD, &[], "Units the shop reported sold."),
    counter(BOT_LOOKUPS, &["outcome"], "Addresses of programs that say to be welcome, looked up by name."),
    counter(
        BOT_FETCHES,
        &["outcome"],
        "Times a published list or key directory was asked for: good, or failed and asked for again.",
    ),
    gauge(BOT_LISTS, &["state"], "Published lists: fresh, old (the last fetch failed) or missing (never had)."),
    counter(BOT_SIGNATURES, &["outcome"], "Signed requests (Web Bot Auth), by what was wrong with them."),
    counter(STORE_BATCHES, &[], "Batches of state that became durable."),
    counter(STORE_GROUPS, &[], "Groups of batches that became durable together."),
    counter(STORE_FSYNCS, &[], "Calls to fsync for the state."),
    counter(STORE_BYTES, &[], "Bytes of state that became durable."),
    counter(STORE_FAILURES, &[], "Groups of batches that the disk refused."),
    counter(STORE_BUSY_MS, &[], "Milliseconds spent on writing groups of batches."),
    gauge(gauges::APPEALS_UNDECIDED, &[], "Appeals of refused visitors that wait for an operator."),
    gauge(gauges::HONEYPOT_VISITORS, &[], "Names of honeypot visitors that are remembered; one visitor may have two."),
    gauge(
        gauges::STORE_WELL,
        &[],
        "1 when the state can be written, or the policy keeps none; 0 while the disk refuses or hangs.",
    ),
    gauge(
        gauges::CLOCK_DOUBT,
        &[],
        "By how much the system's clock stepped away from the time the gate believes; 0 when it did not.",
    ),
    gauge(gauges::DRAW_STUCK, &["sale"], "1 while a drawn sale waits for its beacon's round or the disk: its room stays closed."),
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
    gauge(gauges::ROOM_PROMISES, &["room"], "Visitors who were shown a waiting time and have been called since."),
    gauge(gauges::ROOM_PROMISES_KEPT, &["room"], "Those of them whose wait fell into the interval first shown."),
    gauge(gauges::STREAMS, &[], "Live waiting pages that listen now."),
    gauge(gauges::ROOM_PAUSED, &["room"], "1 when the operator paused the room."),
    gauge(gauges::FORECAST_MAE, &["series", "horizon_s"], "Mean absolute error of the forecast lately, in counts of its series."),
    gauge(gauges::FORECAST_MAE_NAIVE, &["series", "horizon_s"], "The same for taking the count as it is now."),
    gauge(gauges::FORECAST_COVERAGE_95, &["series", "horizon_s"], "Share of counts at or below the 0.95 quantile lately."),
    gauge(gauges::FORECAST_COVERAGE_99, &["series", "horizon_s"], "Share of counts at or below the 0.99 quantile lately."),
    gauge(
        gauges::FORECAST_ON,
        &["series", "horizon_s"],
        "1 while the forecast beats taking the count as it is now, and is used.",
    ),
    gauge(gauges::FORECAST_NET_WEIGHT, &[], "Share of the trained net among the experts, one minute ahead."),
    gauge(gauges::FORECAST_MODEL_WELL, &[], "0 when the last model file was refused; the one before, or none, goes on."),
    gauge(gauges::FORECAST_TICK, &[], "What the last second's forecast cost."),
    gauge(
        gauges::SALE_UNITS,
        &["sale", "state"],
        "Units of the sale that is on: free, of those reserved, held, in_flight, uncertain, sold; over: sold beyond the stock by others.",
    ),
];
