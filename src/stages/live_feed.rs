//! Brings `notifications.live` to the live socket of this process, whatever that is: every gateway reads the
//! whole topic, so each can serve any user.
//!
//! No group and no position: after a start the topic is read from its oldest record (it keeps a day), which
//! fills what the socket keeps for clients that come back. What must not live here: rooms and sockets.

use std::collections::HashMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::event::{Codec, DecodeError, LiveNotification};
use crate::runtime::{KafkaOptions, ReadFrom, Record, TopicReader};

/// How long to wait before Kafka or the registry is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Where live notifications come from.
#[derive(Debug, Clone)]
pub struct LiveFeed {
    /// How to reach Kafka.
    pub kafka: KafkaOptions,
    /// `notifications.live`, as named on the broker.
    pub topic: String,
    /// Reads the records.
    pub codec: Codec,
    /// Waits.
    pub clock: Clock,
}

impl LiveFeed {
    /// Hands each notification to `show`, with the time (epoch milliseconds) at which it was put on the topic,
    /// until `stop`. While Kafka or the registry is away it waits; a record that can't be read is logged and
    /// left out. Across reconnections each record is shown once.
    pub async fn follow(self, stop: CancellationToken, show: impl Fn(LiveNotification, i64) + Send + Sync) {
        let mut next_offsets = HashMap::new();
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.read(&mut next_offsets, &show) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep(ASK_AGAIN) => {}
            }
        }
    }

    /// Reads until the reader ends.
    async fn read(
        &self,
        next_offsets: &mut HashMap<i32, i64>,
        show: &(impl Fn(LiveNotification, i64) + Sync),
    ) {
        let opened = TopicReader::open(&self.kafka, &self.topic, None, ReadFrom::Earliest).await;
        let mut reader = match opened {
            Ok(reader) => reader,
            Err(error) => {
                tracing::warn!(topic = self.topic, %error, "live notifications can't be read; trying again");
                return;
            }
        };
        while let Some(record) = reader.next().await {
            let next = next_offsets.entry(record.partition).or_insert(0);
            if record.offset < *next {
                continue;
            }
            if let Some(notification) = self.decode(&record).await {
                show(notification, record.timestamp_ms.unwrap_or_else(|| self.clock.now_ms()));
            }
            *next = record.offset + 1;
        }
    }

    async fn decode(&self, record: &Record) -> Option<LiveNotification> {
        let payload = record.payload.as_deref()?;
        loop {
            match self.codec.decode_record::<LiveNotification>(payload).await {
                Ok(notification) => return Some(notification),
                Err(DecodeError::RegistryUnavailable(reason)) => {
                    tracing::warn!(reason, "live notifications wait for the schema registry");
                    self.clock.sleep(ASK_AGAIN).await;
                }
                Err(error) => {
                    let (partition, offset) = (record.partition, record.offset);
                    tracing::warn!(%error, topic = self.topic, partition, offset, "a live notification can't be read");
                    return None;
                }
            }
        }
    }
}
