//! Reads the live topic and hands every message to whoever shows it: the hub of a gateway's live socket.
//!
//! Every gateway reads all of the topic, outside any group, from its end: what was before is on the clients'
//! screens or, after a reconnect, theirs to ask for.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::event::{Codec, LiveNotification};
use crate::runtime::{KafkaOptions, ReadFrom, Record, TopicReader};

/// How long to wait before the topic is opened again.
const PAUSE: Duration = Duration::from_secs(1);

/// Reads one topic for one gateway.
#[derive(Debug, Clone)]
pub struct LiveFeed {
    kafka: KafkaOptions,
    codec: Codec,
    topic: Arc<str>,
    clock: Clock,
}

impl LiveFeed {
    /// A feed from the topic `topic`.
    pub fn new(kafka: KafkaOptions, codec: Codec, topic: impl Into<Arc<str>>, clock: Clock) -> Self {
        Self { kafka, codec, topic: topic.into(), clock }
    }

    /// Hands messages to `show` until `stop`. Kafka being away is waited out; what can't be read is left out.
    pub async fn run(self, mut show: impl FnMut(LiveNotification) + Send, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let opened = tokio::select! {
                () = stop.cancelled() => return,
                opened = TopicReader::open(&self.kafka, &self.topic, None, ReadFrom::Latest) => opened,
            };
            match opened {
                Ok(mut reader) => loop {
                    let record = tokio::select! {
                        () = stop.cancelled() => return,
                        record = reader.next() => record,
                    };
                    let Some(record) = record else { break };
                    if let Some(message) = self.read(&record).await {
                        show(message);
                    }
                },
                Err(error) => tracing::warn!(%error, "live messages can't be read; trying again"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep(PAUSE) => {}
            }
        }
    }

    async fn read(&self, record: &Record) -> Option<LiveNotification> {
        let payload = record.payload.as_ref()?;
        match self.codec.decode_record(payload).await {
            Ok(message) => Some(message),
            Err(error) => {
                let (partition, offset) = (record.partition, record.offset);
                tracing::warn!(%error, partition, offset, "a live message can't be read; it is left out");
                None
            }
        }
    }
}
