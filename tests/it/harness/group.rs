//! What a consumer group has committed, read as a tool in another language would: by the documented format alone.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use orderflow::runtime::{Role, StageSpec};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::kafka::TestKafka;

/// A committed position with its map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    /// Offsets above the position that are complete.
    pub(crate) above: Vec<i64>,
}

/// What the group of `spec` has committed for a partition of `topic`.
pub(crate) async fn committed(kafka: &TestKafka, spec: &StageSpec, topic: &str, partition: i32) -> Committed {
    let mut config = kafka.options.client_config(Role::Reader);
    config.set("group.id", &spec.group);
    let topic = topic.to_owned();
    let asking = move || {
        let consumer: BaseConsumer = config.create().expect("settings are accepted");
        let mut list = TopicPartitionList::new();
        list.add_partition(&topic, partition);
        let answer = consumer.committed_offsets(list, Duration::from_secs(60)).expect("kafka answers");
        let element = answer.find_partition(&topic, partition).expect("it was asked for");
        let Offset::Offset(offset) = element.offset() else { return Committed::default() };
        Committed { offset, above: above(element.metadata()) }
    };
    tokio::task::spawn_blocking(asking).await.expect("no panic")
}

/// Offsets that a completed-runs map of version 1 names.
fn above(metadata: &str) -> Vec<i64> {
    let bytes = STANDARD_NO_PAD.decode(metadata).expect("base64");
    let Some((1, rest)) = bytes.split_first().map(|(version, rest)| (*version, rest)) else {
        return Vec::new();
    };
    let mut numbers = Vec::new();
    let (mut number, mut shift) = (0_i64, 0);
    for byte in &rest[..rest.len() - 4] {
        number |= i64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            numbers.push(number);
            (number, shift) = (0, 0);
        }
    }
    let mut end = numbers[0];
    let mut offsets = Vec::new();
    for run in numbers[2..].chunks(2) {
        let first = end + run[0];
        end = first + run[1];
        offsets.extend(first..end);
    }
    offsets
}
