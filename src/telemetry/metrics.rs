//! Every metric of the program, declared once: the doc comment is the help text.
//!
//! Names follow Prometheus: base units, `_total` for counters, no ids as labels. A [`Metrics`] owns its
//! registry, so two programs in one process (tests, `demo`) don't share counters.

use std::sync::Arc;

use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::durations::{BOUNDS, Durations};

/// How one kind of series is made from its name, help and labels.
trait Series: Sized {
    fn make(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self>;
}

impl Series for IntCounterVec {
    fn make(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        Self::new(Opts::new(name, help), labels)
    }
}

impl Series for IntGaugeVec {
    fn make(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        Self::new(Opts::new(name, help), labels)
    }
}

impl Series for GaugeVec {
    fn make(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        Self::new(Opts::new(name, help), labels)
    }
}

impl Series for HistogramVec {
    fn make(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        Self::new(HistogramOpts::new(name, help).buckets(BOUNDS.to_vec()), labels)
    }
}

impl Series for Durations {
    fn make(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        Self::new(name, help, labels)
    }
}

/// A series without labels exists from the start.
macro_rules! initialise_unlabelled {
    ($field:ident, []) => {
        let _ = $field.with_label_values::<&str>(&[]);
    };
    ($field:ident, [$($label:literal),+]) => {};
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ty, $name:literal, [$($label:literal),*];)+) => {
        /// The series of one program.
        #[derive(Debug, Clone)]
        pub struct Metrics {
            registry: Registry,
            $($(#[doc = $help])+ pub $field: $kind,)+
        }

        /// Every name, with its labels.
        #[cfg(test)]
        const NAMES: &[(&str, &[&str])] = &[$((concat!("orderflow_", $name), &[$($label),*])),+];

        impl Metrics {
            /// Every series, registered and (where it has no labels) at zero.
            ///
            /// # Errors
            /// Never for the table below: a test builds it.
            fn build() -> prometheus::Result<Self> {
                let registry = Registry::new();
                $(
                    let $field = <$kind as Series>::make(
                        concat!("orderflow_", $name), concat!($($help),+).trim(), &[$($label),*])?;
                    registry.register(Box::new($field.clone()))?;
                    initialise_unlabelled!($field, [$($label),*]);
                )+
                Ok(Self { registry, $($field),+ })
            }
        }
    };
}

metrics! {
    /// Events acknowledged by Kafka, by type.
    events_published: IntCounterVec, "events_published_total", ["type"];
    /// Seconds from taking an event up to its outcome.
    event_processing_duration: Durations, "event_processing_duration_seconds", ["stage", "type"];
    /// Failures of handlers, by class.
    event_handler_errors: IntCounterVec, "event_handler_errors_total", ["stage", "type", "class"];
    /// Kafka producers that couldn't go on and were replaced, by why.
    producer_rebuilds: IntCounterVec, "producer_rebuilds_total", ["why"];
    /// Records on their way to a retry or dead-letter topic for which Kafka's acknowledgement is overdue.
    appends_waiting: IntGaugeVec, "appends_waiting", ["stage"];
    /// Clients of group members that broke for good and were made anew.
    member_rebuilds: IntCounterVec, "member_rebuilds_total", ["stage"];
    /// What the watchdog found and acted on, by kind.
    watchdog: IntCounterVec, "watchdog_total", ["stage", "kind"];
    /// Partitions that have not gone on since the watchdog found something, by kind.
    watchdog_partitions: IntGaugeVec, "watchdog_partitions", ["stage", "kind"];
    /// Records taken from the source.
    records_in: IntCounterVec, "records_in_total", ["stage"];
    /// Tasks by what became of them; `opened` counts the openings.
    tasks: IntCounterVec, "tasks_total", ["stage", "outcome"];
    /// Tasks without an effect, by the reason.
    tasks_skipped: IntCounterVec, "tasks_skipped_total", ["stage", "reason"];
    /// Tasks running now.
    tasks_in_flight: IntGaugeVec, "tasks_in_flight", ["stage"];
    /// 1 while a stage is paused by an operator or by its dead-letter breaker.
    stage_paused: IntGaugeVec, "stage_paused", ["stage"];
    /// Lanes with running or waiting tasks.
    lanes_active: IntGaugeVec, "lanes_active", ["stage"];
    /// Lanes with parked tasks.
    lanes_parked: IntGaugeVec, "lanes_parked", ["stage"];
    /// Lanes whose first task is held until somebody decides.
    lanes_held: IntGaugeVec, "lanes_held", ["stage"];
    /// Tasks parked, by the attempt that failed before.
    retry_parked: IntCounterVec, "retry_parked_total", ["stage", "step"];
    /// Parked tasks waiting now.
    retry_depth: IntGaugeVec, "retry_depth", ["stage"];
    /// Records of retry topics that a new owner still has to read back before it starts anything.
    retry_unread: IntGaugeVec, "retry_unread", ["stage"];
    /// Parked records that were void: their writer had lost the partition to a later owner.
    retry_void: IntCounterVec, "retry_void_total", ["stage"];
    /// Age in seconds of the oldest parked task.
    retry_oldest: GaugeVec, "retry_oldest_seconds", ["stage"];
    /// Records dead-lettered, by class.
    dead_letters: IntCounterVec, "dead_letters_total", ["stage", "class"];
    /// Dead letters that no redrive has taken up.
    dlq_depth: IntGaugeVec, "dlq_depth", ["stage"];
    /// Age in seconds of the oldest of them.
    dlq_oldest: GaugeVec, "dlq_oldest_seconds", ["stage"];
    /// Records between a consumer group's position and the end of the partition.
    consumer_lag: IntGaugeVec, "consumer_lag", ["group", "topic", "partition"];
    /// Age in seconds of the oldest record that a consumer group has not handled.
    consumer_lag_seconds: GaugeVec, "consumer_lag_seconds", ["group", "topic"];
    /// What a consumer group's lag means: 0 ok, 1 warning, 2 stalled, 3 stopped, 4 rewound.
    consumer_verdict: IntGaugeVec, "consumer_verdict", ["group"];
    /// Bytes of the completed-runs map in the last commit of a partition; brokers take 4,096.
    offset_map_bytes: IntGaugeVec, "offset_map_bytes", ["group", "topic", "partition"];
    /// Rebalances, by kind (assign, revoke, lost).
    rebalances: IntCounterVec, "rebalances_total", ["group", "kind"];
    /// Unix time in seconds of the last completed record.
    last_processed_timestamp: GaugeVec, "last_processed_timestamp_seconds", ["stage"];
    /// Seconds from the time that a record carries (when it was written) to its outcome in a stage.
    event_end_to_end: Durations, "event_end_to_end_seconds", ["stage"];
    /// Webhook attempts, by outcome.
    webhook_attempts: IntCounterVec, "webhook_attempts_total", ["outcome"];
    /// Seconds of one webhook attempt, from connecting to the end of the answer.
    webhook_delivery: HistogramVec, "webhook_delivery_seconds", [];
    /// Source offsets between targets that cursors serve and the live stream, over all of them.
    cursor_lag: IntGaugeVec, "cursor_lag", ["stage"];
    /// Source offsets between webhook endpoints that cursors serve and the live stream, over all of them.
    webhook_cursor_lag: IntGaugeVec, "webhook_cursor_lag", [];
    /// Webhook endpoints that this process leaves alone but for probes, as they failed for every order.
    webhook_breakers_open: IntGaugeVec, "webhook_breakers_open", ["stage"];
    /// Webhook endpoints, by state.
    webhook_endpoints: IntGaugeVec, "webhook_endpoints", ["state"];
    /// Notifications, by channel and outcome.
    notifications: IntCounterVec, "notifications_total", ["channel", "outcome"];
    /// Live socket clients connected now.
    ws_clients: IntGaugeVec, "ws_clients", [];
    /// Messages for the live socket, by outcome.
    ws_messages: IntCounterVec, "ws_messages_total", ["outcome"];
    /// Live socket connections refused or broken, by reason.
    ws_connection_failures: IntCounterVec, "ws_connection_failures_total", ["reason"];
    /// Open disputes, by stage.
    dispute_open: IntGaugeVec, "dispute_open", ["dispute_stage"];
    /// Outbox rows not yet published.
    outbox_depth: IntGaugeVec, "outbox_depth", [];
    /// Age in seconds of the oldest unpublished outbox row.
    outbox_oldest: GaugeVec, "outbox_oldest_seconds", [];
    /// HTTP requests, by route and status.
    http_requests: IntCounterVec, "http_requests_total", ["method", "route", "status"];
    /// Seconds of an HTTP request.
    http_request_duration: HistogramVec, "http_request_duration_seconds", ["method", "route"];
    /// Events whose header and record disagree (the record wins), by header.
    header_mismatches: IntCounterVec, "header_mismatches_total", ["header"];
    /// Always 1; the labels say what runs.
    build_info: IntGaugeVec, "build_info", ["version"];
}

impl Metrics {
    /// The table above, fresh.
    pub fn new() -> Arc<Self> {
        let metrics =
            Self::build().expect("the table holds no name twice and no bad label, which a test proves");
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Arc::new(metrics)
    }

    /// All series in Prometheus' text format, version 0.0.4.
    pub fn text(&self) -> String {
        let mut buffer = Vec::new();
        // Encoding into memory fails only for a family without series, which `gather` leaves out.
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut buffer) {
            tracing::error!(%error, "metrics can't be written as text");
        }
        String::from_utf8_lossy(&buffer).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_builds_and_unlabelled_series_start_at_zero() {
        let metrics = Metrics::new();
        let text = metrics.text();
        assert!(text.contains("orderflow_outbox_depth 0"), "{text}");
        assert!(text.contains("# HELP orderflow_ws_clients Live socket clients connected now."), "{text}");
        metrics.records_in.with_label_values(&["history"]).inc();
        assert!(metrics.text().contains("orderflow_records_in_total{stage=\"history\"} 1"));
    }

    /// The metrics that a PromQL expression names, each with the labels that it asks for.
    fn named(expression: &str) -> Vec<(&str, Vec<&str>)> {
        let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let begins = expression.match_indices("orderflow_").map(|(at, _)| &expression[at..]);
        let metrics = begins.map(|from| {
            let (name, rest) = from.split_at(from.find(|letter| !is_of_name(letter)).unwrap_or(from.len()));
            let asked =
                rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(asked, _)| asked);
            let labels = asked.split(',').filter(|label| !label.is_empty());
            let labels =
                labels.map(|text| text.split(|letter| !is_of_name(letter)).next().unwrap_or_default());
            (name, labels.collect())
        });
        metrics.collect()
    }

    #[test]
    fn alerts_ask_for_metrics_and_labels_that_there_are() {
        let rules = include_str!("../../ops/prometheus/webhooks.yml");
        let rules: serde_yaml_ng::Value = serde_yaml_ng::from_str(rules).expect("it is YAML");
        let groups = rules["groups"].as_sequence().expect("groups");
        let alerts = groups.iter().flat_map(|group| group["rules"].as_sequence().expect("rules"));
        let mut checked = 0;
        for alert in alerts {
            let (alert, expression) = (alert["alert"].as_str().expect("a name"), alert["expr"].as_str());
            let metrics = named(expression.expect("an expression"));
            assert!(!metrics.is_empty(), "{alert} asks for nothing of ours");
            for (name, labels) in metrics {
                let known = NAMES.iter().find(|(known, _)| *known == name);
                let (_, has) = known.unwrap_or_else(|| panic!("{alert}: there is no {name}"));
                assert!(
                    labels.iter().all(|label| has.contains(label)),
                    "{alert}: {name} has {has:?}, not {labels:?}"
                );
                checked += 1;
            }
        }
        assert!(checked >= 9, "{checked}");
    }
}
