//! How many dead letters wait for somebody, and since when: for the metrics, at the price of a few questions a minute.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{DeadLetterError, DeadLetters};
use crate::admin::{OfStage, Operations};
use crate::runtime::inspect;
use crate::store::redrives;
use crate::telemetry::Metrics;

/// How often it is measured.
const EVERY: Duration = Duration::from_secs(30);

/// Measures the dead letters of every stage, until it is told to stop.
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
        loop {
            match self.operations.all().await {
                Ok(stages) => {
                    for of in stages {
                        self.measure(of).await;
                    }
                }
                Err(error) => tracing::debug!(%error, "dead letters can't be counted"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.operations.clock().sleep(EVERY) => {}
            }
        }
    }

    async fn measure(&self, of: OfStage<'_>) {
        let letters = DeadLetters { of };
        match letters.waiting().await {
            Ok((depth, oldest_ms)) => self.tell(&letters.of.stage.name, depth, oldest_ms),
            // Kafka or the store is away: others say so, and the figures stand.
            Err(error) => {
                tracing::debug!(stage = letters.of.stage.name, %error, "dead letters can't be counted");
            }
        }
    }

    fn tell(&self, stage: &str, depth: u64, oldest_ms: Option<i64>) {
        let age_ms = oldest_ms.map_or(0, |oldest| (self.operations.clock().now_ms() - oldest).max(0));
        self.metrics.dlq_depth.with_label_values(&[stage]).set(i64::try_from(depth).unwrap_or(i64::MAX));
        self.metrics.dlq_oldest.with_label_values(&[stage]).set(age_ms as f64 / 1_000.0);
    }
}

impl DeadLetters<'_> {
    /// How many letters no redrive has taken up, and when the oldest of them was dead-lettered (epoch milliseconds).
    ///
    /// # Errors
    /// When Kafka or the store is away, or the topic doesn't exist.
    pub async fn waiting(&self) -> Result<(u64, Option<i64>), DeadLetterError> {
        let ends = inspect::ends(self.of.kafka, &self.of.stage.dead_letters).await?;
        let taken: BTreeSet<(i32, i64)> =
            redrives::taken(self.of.db, self.shelf()).await?.into_iter().collect();
        let (mut depth, mut oldest) = (0, None);
        for (partition, (low, high)) in ends {
            let gone = taken.range((partition, low)..(partition, high)).count() as u64;
            let open = u64::try_from(high - low).unwrap_or(0).saturating_sub(gone);
            let first = (low..high).find(|offset| !taken.contains(&(partition, *offset)));
            depth += open;
            if let Some(first) = first {
                let at = self.at(partition, first).await.ok().and_then(|letter| letter.record.timestamp_ms);
                oldest = oldest.into_iter().chain(at).min();
            }
        }
        Ok((depth, oldest))
    }
}
