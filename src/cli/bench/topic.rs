//! The topics of a bench: made, filled, kept for the next run if asked to, and taken away.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::cases::{Keys, Values};
use super::events::Sample;
use crate::cli::exit::Fault;
use crate::runtime::{KafkaOptions, Role};
use crate::task;

/// Partitions of every topic.
pub(super) const PARTITIONS: i32 = 6;
/// Bytes of a text value.
const VALUE_BYTES: usize = 206;
/// How long one request may take.
const WITHIN: Duration = Duration::from_secs(30);
/// The name of the topic with these records.
pub(super) fn name(keys: Keys, values: Values, records: u64) -> String {
    let kind = match values {
        Values::Text => "text",
        Values::Avro => "avro",
    };
    format!("orderflow-bench.{kind}-{}-keys-{records}", keys.count())
}

/// The retry and the dead-letter topic of a group's stage.
pub(super) fn own(group: &str) -> [String; 2] {
    [format!("{group}.retry"), format!("{group}.dlq")]
}

/// Makes a group's own topics.
pub(super) async fn prepare(kafka: &KafkaOptions, group: &str) -> Result<(), Fault> {
    for topic in own(group) {
        create(kafka, &topic).await?;
    }
    Ok(())
}

/// Makes the topic unless it is there with all its records.
pub(super) async fn fill(
    kafka: &KafkaOptions,
    topic: &str,
    keys: Keys,
    values: Values,
    records: u64,
) -> Result<(), Fault> {
    if count(kafka, topic).await? == Some(records) {
        return Ok(());
    }
    remove(kafka, &[topic]).await?;
    create(kafka, topic).await?;
    let event = match values {
        Values::Text => None,
        Values::Avro => Some(Sample::new().await?.payload),
    };
    let producer: BaseProducer = kafka.client_config(Role::Producer).create().map_err(failed)?;
    let name = topic.to_owned();
    let sending =
        task::spawn_blocking(move || send(&producer, &name, keys.count(), event.as_deref(), records));
    sending.await.map_err(|ended| Fault::internal(ended.to_string()))??;
    match count(kafka, topic).await? {
        Some(there) if there == records => Ok(()),
        there => Err(Fault::failures(format!("{topic} holds {there:?} records instead of {records}"))),
    }
}

fn send(
    producer: &BaseProducer,
    topic: &str,
    keys: u64,
    event: Option<&[u8]>,
    records: u64,
) -> Result<(), Fault> {
    // Fixed, so that every topic filled with the same numbers is the same.
    let mut state = 0x5EED_1234_ABCD_EF01_u64;
    for number in 0..records {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let key = format!("order-{:08}", if keys >= records { number } else { state % keys });
        let text;
        let value = match event {
            Some(event) => event,
            None => {
                let head = format!("{{\"order_id\":\"{key}\",\"seq\":{number:09},\"trace\":\"");
                let mut filled = head;
                while filled.len() + 2 < VALUE_BYTES {
                    state = state.rotate_left(9).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    filled.push_str(&format!("{state:016x}"));
                }
                filled.truncate(VALUE_BYTES - 2);
                filled.push_str("\"}");
                text = filled;
                text.as_bytes()
            }
        };
        let mut record = BaseRecord::to(topic).key(key.as_str()).payload(value);
        while let Err((error, back)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(failed(error));
            }
            producer.poll(Duration::from_millis(5));
            record = back;
        }
        if number % 256 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(WITHIN * 4).map_err(failed)
}

/// How many records the topic holds; `None` when there is none.
async fn count(kafka: &KafkaOptions, topic: &str) -> Result<Option<u64>, Fault> {
    let consumer: BaseConsumer = kafka.client_config(Role::Reader).create().map_err(failed)?;
    let topic = topic.to_owned();
    let asked = task::spawn_blocking(move || {
        let metadata = consumer.fetch_metadata(None, WITHIN)?;
        let there = metadata.topics().iter().any(|found| found.name() == topic);
        if !there {
            return Ok(None);
        }
        let mut sum = 0;
        for partition in 0..PARTITIONS {
            let (low, high) = consumer.fetch_watermarks(&topic, partition, WITHIN)?;
            sum += u64::try_from(high - low).unwrap_or(0);
        }
        Ok(Some(sum))
    });
    asked.await.map_err(|ended| Fault::internal(ended.to_string()))?.map_err(failed)
}

async fn create(kafka: &KafkaOptions, topic: &str) -> Result<(), Fault> {
    let admin = admin(kafka)?;
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    // A topic that was just deleted may linger.
    for _ in 0..50 {
        let answers = admin.create_topics([&new], &AdminOptions::new()).await.map_err(failed)?;
        match answers.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            None | Some(Ok(_)) => return Ok(()),
            Some(Err((_, why))) => return Err(Fault::failures(format!("{topic} can't be made: {why}"))),
        }
    }
    Err(Fault::failures(format!("{topic} can't be made: its former self doesn't go away")))
}

/// Deletes topics; those that aren't there are no fault.
pub(super) async fn remove(kafka: &KafkaOptions, topics: &[&str]) -> Result<(), Fault> {
    if topics.is_empty() {
        return Ok(());
    }
    admin(kafka)?.delete_topics(topics, &AdminOptions::new()).await.map(drop).map_err(failed)
}

fn admin(kafka: &KafkaOptions) -> Result<AdminClient<DefaultClientContext>, Fault> {
    kafka.client_config(Role::Admin).create().map_err(failed)
}

fn failed(error: KafkaError) -> Fault {
    Fault::unavailable(format!("kafka: {error}"))
}
