//! Tells the metrics how far groups are behind, at the price of a few questions a minute.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Meter;
use crate::admin::Operations;
use crate::telemetry::Metrics;

/// How often the groups are looked at.
const EVERY: Duration = Duration::from_secs(15);

/// Looks at every group until it is told to stop.
#[derive(Debug)]
pub struct Watch {
    /// Reaches the stages.
    pub operations: Operations,
    /// Where it is told.
    pub metrics: Arc<Metrics>,
}

impl Watch {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let clock = self.operations.clock().clone();
        let mut meter = Meter::new(self.operations);
        loop {
            match meter.look().await {
                Ok(groups) => {
                    for group in groups {
                        let labels = [group.group.as_str(), group.topic.as_str()];
                        self.metrics.consumer_lag_seconds.with_label_values(&labels).set(group.seconds);
                        let verdict = self.metrics.consumer_verdict.with_label_values(&[&group.group]);
                        verdict.set(group.verdict.number());
                    }
                }
                // Kafka or the store is away: others say so, and the figures stand.
                Err(error) => tracing::debug!(%error, "the lag of the groups can't be told"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.sleep(EVERY) => {}
            }
        }
    }
}
