//! The broker by bare clients, and by the engine that runs on it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::*;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::runtime::{
    Environment, Failure, OutRecord, Producer, Role, RuntimeOptions, SourcePartition, StageSpec, StartAt,
    StoreBatch, StoreFault, StoreStage, Stored, start_store_stage,
};
use crate::telemetry::Metrics;

const TOPIC: &str = "orders.events";

#[test]
fn a_topic_is_made_once() {
    let broker = Broker::start().unwrap();
    broker.create_topic(TOPIC, 4).unwrap();
    let again = broker.create_topic(TOPIC, 4).unwrap_err();
    assert!(again.to_string().contains(TOPIC), "{again}");
}

#[tokio::test]
async fn a_group_settles_soon_and_goes_on_from_its_commit() {
    let broker = Broker::start().unwrap();
    broker.create_topic(TOPIC, 2).unwrap();
    let options = broker.client_options();
    let producer = Producer::new(&options).unwrap();
    for value in ["a", "b", "c"] {
        producer
            .send(OutRecord { partition: Some(1), ..OutRecord::keyed(TOPIC, "o-1", value) })
            .await
            .unwrap();
    }
    crate::task::spawn_blocking(move || {
        // A busy machine may take its time, the default delay of three seconds is there each time.
        let soon = ["g-1", "g-2", "g-3"].into_iter().find_map(|group| {
            let member = Role::Member { group, stage: "s", gather: Duration::ZERO };
            let mut config = options.client_config(member);
            config.set("auto.offset.reset", "earliest");
            let consumer: BaseConsumer = config.create().unwrap();
            let began = Instant::now();
            consumer.subscribe(&[TOPIC]).unwrap();
            let read: Vec<_> = (0..2).map(|_| next(&consumer)).collect();
            assert_eq!(read, ["a", "b"]);
            (began.elapsed() < Duration::from_millis(2800)).then_some((member, consumer))
        });
        let (member, consumer) = soon.expect("one of three groups settles before the default delay is over");
        assert_eq!(consumer.fetch_watermarks(TOPIC, 1, Duration::from_secs(5)).unwrap(), (0, 3));
        let mut done = TopicPartitionList::new();
        done.add_partition_offset(TOPIC, 1, Offset::Offset(2)).unwrap();
        done.set_partition_offset(TOPIC, 1, Offset::Offset(2)).unwrap();
        consumer.commit(&done, CommitMode::Sync).unwrap();
        drop(consumer);

        let successor: BaseConsumer = options.client_config(member).create().unwrap();
        successor.subscribe(&[TOPIC]).unwrap();
        assert_eq!(next(&successor), "c");
    })
    .await
    .unwrap();
}

fn next(consumer: &BaseConsumer) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => return String::from_utf8(message.payload().unwrap().to_vec()).unwrap(),
            Some(Err(KafkaError::MessageConsumption(_))) | None => {}
            Some(Err(error)) => panic!("{error}"),
        }
    }
    panic!("no record within 20 s");
}

/// Remembers what it stored, and how far.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<i32, Vec<String>>>);

impl StoreStage for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    async fn position(&self, at: &SourcePartition) -> Result<Option<i64>, Failure> {
        let stored = self.0.lock().unwrap();
        Ok(stored.get(&at.partition).map(|records| records.len() as i64))
    }

    async fn store(&self, at: &SourcePartition, batch: StoreBatch) -> Result<Stored, StoreFault> {
        let mut stored = self.0.lock().unwrap();
        let partition = stored.entry(at.partition).or_default();
        let values = batch.records.iter().filter_map(|record| record.payload.as_ref());
        partition.extend(values.map(|value| String::from_utf8(value.to_vec()).unwrap()));
        Ok(Stored { done: batch.records.len() as u64, ..Stored::default() })
    }
}

#[tokio::test]
async fn a_store_stage_reads_everything_and_a_successor_goes_on_from_there() {
    let broker = Broker::start().unwrap();
    for topic in [TOPIC, "orders.events.memory.dlq"] {
        broker.create_topic(topic, 3).unwrap();
    }
    let kafka = broker.client_options();
    let producer = Producer::new(&kafka).unwrap();
    let memory = Arc::new(Memory::default());
    let env = Environment {
        kafka: kafka.clone(),
        producer: producer.clone(),
        metrics: Metrics::new(),
        clock: Clock::system(),
    };
    let spec = StageSpec {
        stage: "memory".to_owned(),
        group: "orders.memory".to_owned(),
        source: TOPIC.to_owned(),
        retry: None,
        dead_letters: "orders.events.memory.dlq".to_owned(),
        start: StartAt::Earliest,
        control: Default::default(),
        cursors: None,
        options: RuntimeOptions::default(),
    };
    for round in 0..2 {
        for n in 0..100 {
            let record = OutRecord::keyed(TOPIC, format!("o-{n}"), format!("{round}"));
            producer.send(record).await.unwrap();
        }
        let stop = CancellationToken::new();
        let stage = Arc::clone(&memory);
        let mut member = start_store_stage(spec.clone(), stage, env.clone(), stop.clone());
        let caught_up = member.progress.wait_for(|progress| progress.is_caught_up());
        tokio::time::timeout(Duration::from_secs(30), caught_up).await.unwrap().unwrap();
        stop.cancel();
        assert!(member.join.await.unwrap().unwrap().drained);
        let stored: usize = memory.0.lock().unwrap().values().map(Vec::len).sum();
        assert_eq!(stored, 100 * (round + 1));
    }
}
