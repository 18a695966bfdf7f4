//! A producer whose client breaks, on librdkafka's own broker.

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::runtime::reader::{ReadFrom, TopicReader};

const TOPIC: &str = "t";

fn producer(
    cluster: &MockCluster<'_, impl rdkafka::client::ClientContext>,
) -> (Producer, KafkaOptions, Arc<Metrics>) {
    let kafka = KafkaOptions { bootstrap_servers: cluster.bootstrap_servers(), ..KafkaOptions::default() };
    let (producer, metrics) = (Producer::new(&kafka).expect("settings are accepted"), Metrics::new());
    producer.tell(&metrics);
    (producer, kafka, metrics)
}

fn record(number: u32) -> OutRecord {
    OutRecord { partition: Some(0), ..OutRecord::keyed(TOPIC, "k", number.to_string().into_bytes()) }
}

/// Sends them all at once, and gives which of them are in the log.
async fn send(
    producer: &Producer,
    kafka: &KafkaOptions,
    numbers: std::ops::Range<u32>,
) -> (Vec<Delivered>, Vec<u32>) {
    let sends = numbers.map(|number| producer.send(record(number)));
    let delivered =
        futures_util::future::join_all(sends).await.into_iter().map(|sent| sent.expect("delivered"));
    let delivered = delivered.collect();
    let mut reader = TopicReader::open(kafka, TOPIC, None, ReadFrom::Earliest).await.expect("it is there");
    let mut log = Vec::new();
    while let Some(record) = reader.next_to_end().await {
        let text = String::from_utf8(record.payload.expect("a value").to_vec()).expect("text");
        log.push(text.parse().expect("a number"));
    }
    (delivered, log)
}

#[tokio::test]
async fn a_client_that_is_fatally_broken_is_replaced_and_what_it_had_is_sent_again_in_order() {
    let cluster = MockCluster::new(1).expect("it starts");
    cluster.create_topic(TOPIC, 1, 1).expect("a topic");
    let (producer, kafka, metrics) = producer(&cluster);
    send(&producer, &kafka, 0..1).await;
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER],
    );
    let (delivered, log) = send(&producer, &kafka, 1..50).await;
    assert_eq!(log, (0..50).collect::<Vec<_>>());
    assert!(delivered.iter().all(|delivered| delivered.resent));
    let text = metrics.text();
    assert!(text.contains("orderflow_producer_rebuilds_total{why=\"fatal\"} 1"), "{text}");
}
