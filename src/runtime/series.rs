//! The engine's metric series: every one that will exist is there from the start, and gone with its partition.

use super::options::StageSpec;
use super::outcome::{ErrorClass, SkipReason};
use super::progress::PartitionProgress;
use super::watchdog;
use crate::telemetry::Metrics;

/// Endings of tasks, as the label `outcome` of `tasks_total`; `opened` counts the beginnings.
const OUTCOMES: [&str; 6] = ["opened", "done", "skipped", "handed", "dead", "given_up"];
/// Kinds of rebalance.
const REBALANCES: [&str; 3] = ["assign", "revoke", "lost"];

/// Makes the series of a stage, at zero.
pub(crate) fn initialise(metrics: &Metrics, spec: &StageSpec) {
    let stage = spec.stage.as_str();
    metrics.records_in.with_label_values(&[stage]);
    metrics.tasks_in_flight.with_label_values(&[stage]);
    metrics.stage_paused.with_label_values(&[stage]);
    metrics.member_rebuilds.with_label_values(&[stage]);
    for kind in watchdog::KINDS {
        metrics.watchdog.with_label_values(&[stage, kind]);
        metrics.watchdog_partitions.with_label_values(&[stage, kind]);
    }
    for outcome in OUTCOMES {
        metrics.tasks.with_label_values(&[stage, outcome]);
    }
    for reason in SkipReason::ALL {
        metrics.tasks_skipped.with_label_values(&[stage, reason.as_str()]);
    }
    for class in ErrorClass::ALL {
        metrics.dead_letters.with_label_values(&[stage, class.as_str()]);
    }
    for kind in REBALANCES {
        metrics.rebalances.with_label_values(&[spec.group.as_str(), kind]);
    }
    if spec.retry.is_some() {
        metrics.lanes_active.with_label_values(&[stage]);
        metrics.lanes_parked.with_label_values(&[stage]);
        metrics.lanes_held.with_label_values(&[stage]);
        metrics.retry_depth.with_label_values(&[stage]);
        metrics.retry_unread.with_label_values(&[stage]);
        metrics.cursor_lag.with_label_values(&[stage]);
        metrics.retry_void.with_label_values(&[stage]);
        metrics.appends_waiting.with_label_values(&[stage]);
    }
}

/// Says how far a partition lags.
pub(crate) fn lag(metrics: &Metrics, spec: &StageSpec, partition: i32, records: i64) {
    let labels = [spec.group.as_str(), spec.source.as_str(), &partition.to_string()];
    metrics.consumer_lag.with_label_values(&labels).set(records);
}

/// Says how many partitions are in which trouble.
pub(crate) fn troubles<'p>(
    metrics: &Metrics,
    stage: &str,
    partitions: impl Iterator<Item = &'p PartitionProgress> + Clone,
) {
    for kind in watchdog::KINDS {
        let of_kind = partitions
            .clone()
            .filter(|partition| partition.trouble.is_some_and(|trouble| trouble.kind() == kind));
        metrics.watchdog_partitions.with_label_values(&[stage, kind]).set(of_kind.count() as i64);
    }
}

/// Says how large the maps of a partition are, of its source and of its retry topic.
pub(crate) fn maps(metrics: &Metrics, spec: &StageSpec, partition: i32, [source, retry]: [usize; 2]) {
    let partition = partition.to_string();
    for (topic, characters) in [(Some(&spec.source), source), (spec.retry.as_ref(), retry)] {
        let Some(topic) = topic else { continue };
        let labels = [spec.group.as_str(), topic.as_str(), partition.as_str()];
        metrics.offset_map_bytes.with_label_values(&labels).set(characters as i64);
    }
}

/// Says no more about a partition: its next owner does, and two would be added up.
pub(crate) fn forget_partition(metrics: &Metrics, spec: &StageSpec, partition: i32) {
    let partition = partition.to_string();
    for topic in [Some(&spec.source), spec.retry.as_ref()].into_iter().flatten() {
        let labels = [spec.group.as_str(), topic.as_str(), partition.as_str()];
        // Not there when the partition goes before anything was told of it.
        let _ = metrics.consumer_lag.remove_label_values(&labels);
        let _ = metrics.offset_map_bytes.remove_label_values(&labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{RuntimeOptions, StartAt};

    #[test]
    fn series_exist_before_anything_happens_and_the_lag_goes_with_its_partition() {
        let metrics = Metrics::new();
        let spec = StageSpec {
            stage: "webhook".to_owned(),
            group: "g".to_owned(),
            source: "orders.events".to_owned(),
            retry: Some("orders.events.webhook.retry".to_owned()),
            dead_letters: "orders.events.webhook.dlq".to_owned(),
            start: StartAt::Earliest,
            options: RuntimeOptions::default(),
            control: Default::default(),
            cursors: None,
        };
        initialise(&metrics, &spec);
        lag(&metrics, &spec, 3, 7);
        let text = metrics.text();
        for series in [
            "orderflow_tasks_total{outcome=\"given_up\",stage=\"webhook\"} 0",
            "orderflow_dead_letters_total{class=\"schema_unknown\",stage=\"webhook\"} 0",
            "orderflow_consumer_lag{group=\"g\",partition=\"3\",topic=\"orders.events\"} 7",
        ] {
            assert!(text.contains(series), "{series} is not in {text}");
        }
        maps(&metrics, &spec, 3, [12, 16]);
        let retry = "orderflow_offset_map_bytes{group=\"g\",partition=\"3\",topic=\"orders.events.webhook.retry\"} 16";
        assert!(metrics.text().contains(retry));
        forget_partition(&metrics, &spec, 3);
        let text = metrics.text();
        assert!(!text.contains("orderflow_consumer_lag{") && !text.contains("orderflow_offset_map_bytes{"));
    }
}
