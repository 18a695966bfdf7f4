//! The limits that the engine is measured against: librdkafka without handling, tokio without Kafka.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, StreamConsumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::cases::Case;
use super::measure::{Measured, Meter};
use super::topic::PARTITIONS;
use crate::cli::exit::Fault;
use crate::runtime::{BatchQueue, Forwarding, KafkaOptions, Role};
use crate::task;

/// How long one read waits.
const WAIT: Duration = Duration::from_millis(100);
/// How long the bare loop turns before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);

/// One record at a time by `StreamConsumer`.
pub(super) async fn stream(kafka: &KafkaOptions, topic: &str, case: &Case) -> Result<Measured, Fault> {
    let consumer: StreamConsumer = kafka.client_config(Role::Reader).create().map_err(failed)?;
    consumer.assign(&everything(topic)?).map_err(failed)?;
    let meter = Meter::new(case.records);
    loop {
        match consumer.recv().await {
            Ok(_) if meter.hit() => break,
            Ok(_) | Err(rdkafka::error::KafkaError::PartitionEOF(_)) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    meter.measured().ok_or_else(|| Fault::internal("nothing was measured"))
}

/// Blocks of records by librdkafka's batch call, on a thread of its own.
pub(super) async fn batch(kafka: &KafkaOptions, topic: &str, case: &Case) -> Result<Measured, Fault> {
    let consumer: BaseConsumer = kafka.client_config(Role::Reader).create().map_err(failed)?;
    let (list, topic, records) = (everything(topic)?, topic.to_owned(), case.records);
    let reading = task::spawn_blocking(move || {
        let forwarding = Forwarding::default();
        let Some(mut queue) = BatchQueue::new(consumer.client(), &forwarding) else {
            return Err(Fault::internal("librdkafka gave no queue"));
        };
        for partition in 0..PARTITIONS {
            forwarding.forward(consumer.client(), &topic, partition);
        }
        consumer.assign(&list).map_err(failed)?;
        let meter = Meter::new(records);
        let (mut bytes, mut partitions) = (0, BTreeSet::new());
        while meter.seen() < records {
            queue.read(WAIT, |fetched| {
                if fetched.error().is_none() {
                    bytes += fetched.payload().map_or(0, <[u8]>::len);
                    meter.hit();
                    if meter.seen() & 0xfff == 0 {
                        partitions.insert(fetched.partition());
                    }
                }
            });
        }
        std::hint::black_box((bytes, partitions));
        meter.measured().ok_or_else(|| Fault::internal("nothing was measured"))
    });
    reading.await.map_err(|ended| Fault::internal(ended.to_string()))?
}

/// As many tasks as the concurrency, each sleeping in a loop.
pub(super) async fn tokio_loop(case: &Case) -> Result<Measured, Fault> {
    let meter = std::sync::Arc::new(Meter::new(case.records));
    let warm = tokio::time::Instant::now() + WARM_UP;
    let tasks: Vec<_> = (0..case.concurrency)
        .map(|_| {
            let (meter, wait) = (std::sync::Arc::clone(&meter), case.wait);
            task::spawn("sleeper", async move {
                loop {
                    tokio::time::sleep(wait).await;
                    if tokio::time::Instant::now() >= warm {
                        meter.hit();
                    }
                }
            })
        })
        .collect();
    meter.finished().await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    meter.measured().ok_or_else(|| Fault::internal("nothing was measured"))
}

fn everything(topic: &str) -> Result<TopicPartitionList, Fault> {
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning).map_err(failed)?;
    }
    Ok(list)
}

fn failed(error: rdkafka::error::KafkaError) -> Fault {
    Fault::unavailable(format!("kafka: {error}"))
}
