//! Which Kafka cluster this is: asked once, when a process starts, which is also when it waits for Kafka.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio_util::sync::CancellationToken;

use super::error::RunError;
use super::options::{KafkaOptions, Role};
use crate::clock::Clock;
use crate::task;

/// How long one question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// The id of the cluster behind `kafka`, waiting for an answer for at most `within` (without it, until `stop`,
/// which answers `None`).
///
/// # Errors
/// When the client refuses its settings, or no broker answered in time.
pub async fn cluster_id(
    kafka: &KafkaOptions,
    within: Option<Duration>,
    clock: &Clock,
    stop: &CancellationToken,
) -> Result<Option<Arc<str>>, RunError> {
    let client: Arc<BaseConsumer> =
        Arc::new(kafka.client_config(Role::Reader).create().map_err(RunError::Settings)?);
    let began = clock.now_ms();
    let mut told = false;
    while !stop.is_cancelled() {
        let asked = Arc::clone(&client);
        let answer = task::spawn_blocking(move || asked.client().fetch_cluster_id(ANSWER_WITHIN)).await;
        if let Ok(Some(id)) = answer {
            return Ok(Some(id.into()));
        }
        let waited = Duration::from_millis(u64::try_from(clock.now_ms() - began).unwrap_or(0));
        if within.is_some_and(|bound| waited >= bound) {
            return Err(RunError::Unavailable { servers: kafka.bootstrap_servers.clone(), waited });
        }
        if !told {
            tracing::warn!(servers = kafka.bootstrap_servers, "kafka does not answer; waiting for it");
            told = true;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = clock.sleep(Duration::from_millis(500)) => {}
        }
    }
    Ok(None)
}
