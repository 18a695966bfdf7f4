//! A real Kafka: topics of a test's own, records in, members of groups.

use std::sync::Arc;
use std::time::Duration;

use orderflow::clock::Clock;
use orderflow::embedded::broker::Broker;
use orderflow::runtime::{
    Environment, KafkaOptions, OutRecord, Producer, ReadFrom, Record, Role, RuntimeOptions, StageSpec,
    StartAt, TopicReader,
};
use orderflow::telemetry::Metrics;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// A corner of the real Kafka with names that no other test uses.
pub(crate) struct TestKafka {
    pub(crate) options: KafkaOptions,
    pub(crate) producer: Producer,
    tag: String,
    /// The in-process broker, when it is that.
    broker: Option<Broker>,
}

impl TestKafka {
    pub(crate) fn new(subject: &str) -> Self {
        Self::at(subject, super::service("ORDERFLOW_TEST_KAFKA"))
    }

    /// The same on the broker at `bootstrap_servers`.
    pub(crate) fn at(subject: &str, bootstrap_servers: String) -> Self {
        let options = KafkaOptions {
            bootstrap_servers,
            session_timeout: Duration::from_secs(6),
            heartbeat_interval: Duration::from_millis(500),
            ..KafkaOptions::default()
        };
        Self::with(subject, options, None)
    }

    /// The same on a broker inside this process.
    pub(crate) fn embedded(subject: &str) -> Self {
        let broker = Broker::start().expect("it starts");
        Self::with(subject, broker.client_options(), Some(broker))
    }

    fn with(subject: &str, options: KafkaOptions, broker: Option<Broker>) -> Self {
        let producer = Producer::new(&options).expect("settings are accepted");
        let tag = format!("t.{subject}.{}", uuid::Uuid::now_v7().simple());
        Self { options, producer, tag, broker }
    }

    pub(crate) fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.tag)
    }

    pub(crate) async fn create(&self, topics: &[String], partitions: i32) {
        if let Some(broker) = &self.broker {
            for topic in topics {
                broker.create_topic(topic, partitions).expect("created");
            }
            return;
        }
        let admin = self.admin();
        let new: Vec<_> =
            topics.iter().map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(1))).collect();
        let made = admin.create_topics(&new, &AdminOptions::new()).await.expect("kafka answers");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        for topic in topics {
            known(&admin, topic).await;
        }
    }

    /// Makes a topic that takes records of so many bytes.
    pub(crate) async fn create_sized(&self, topic: &str, partitions: i32, max_message_bytes: usize) {
        let admin = self.admin();
        let most = max_message_bytes.to_string();
        let new =
            NewTopic::new(topic, partitions, TopicReplication::Fixed(1)).set("max.message.bytes", &most);
        let made = admin.create_topics(&[new], &AdminOptions::new()).await.expect("kafka answers");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        known(&admin, topic).await;
    }

    /// Lets a topic take records of so many bytes.
    pub(crate) async fn resize(&self, topic: &str, max_message_bytes: usize) {
        let most = max_message_bytes.to_string();
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", &most);
        let made = self.admin().alter_configs(&[change], &AdminOptions::new()).await.expect("kafka answers");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// Forgets a group with its positions; it must have no members.
    pub(crate) async fn delete_group(&self, group: &str) {
        let deleted =
            self.admin().delete_groups(&[group], &AdminOptions::new()).await.expect("kafka answers");
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.options.client_config(Role::Admin).create().expect("settings are accepted")
    }

    /// Deletes the records of a partition below `before`, as retention would.
    pub(crate) async fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let admin = self.admin();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).expect("an offset");
        admin.delete_records(&list, &AdminOptions::new()).await.expect("deleted");
    }

    /// A stage with source, retry and dead-letter topics of its own; creates them.
    pub(crate) async fn stage(&self, stage: &str, partitions: i32, with_retry: bool) -> StageSpec {
        let spec = self.spec(stage, with_retry);
        let mut topics = vec![spec.source.clone(), spec.dead_letters.clone()];
        topics.extend(spec.retry.clone());
        self.create(&topics, partitions).await;
        spec
    }

    /// The same without creating anything.
    pub(crate) fn spec(&self, stage: &str, with_retry: bool) -> StageSpec {
        let source = self.name("events");
        StageSpec {
            stage: stage.to_owned(),
            group: self.name("group"),
            retry: with_retry.then(|| format!("{source}.{stage}.retry")),
            dead_letters: format!("{source}.{stage}.dlq"),
            source,
            start: StartAt::Earliest,
            control: Default::default(),
            cursors: None,
            options: RuntimeOptions {
                commit_interval: Duration::from_millis(100),
                ..RuntimeOptions::default()
            },
        }
    }

    pub(crate) fn environment(&self) -> Environment {
        Environment {
            kafka: self.options.clone(),
            producer: self.producer.clone(),
            metrics: Metrics::new(),
            clock: Clock::system(),
        }
    }

    /// Sends `values` under `key` to one partition, in order.
    pub(crate) async fn send(&self, topic: &str, partition: i32, key: &str, values: &[String]) {
        let topic: Arc<str> = topic.into();
        let sends = values.iter().map(|value| {
            let mut record =
                OutRecord::keyed(Arc::clone(&topic), key.as_bytes().to_vec(), value.as_bytes().to_vec());
            record.partition = Some(partition);
            self.producer.send(record)
        });
        for sent in futures_util::future::join_all(sends).await {
            sent.expect("acknowledged");
        }
    }

    /// Everything that a topic holds now.
    pub(crate) async fn all(&self, topic: &str) -> Vec<Record> {
        let mut reader = TopicReader::open(&self.options, topic, None, ReadFrom::Earliest)
            .await
            .expect("the topic is there");
        let mut records = Vec::new();
        while let Some(record) = reader.next_to_end().await {
            records.push(record);
        }
        records
    }
}

/// A record's payload as text.
pub(crate) fn text(record: &Record) -> String {
    String::from_utf8(record.payload.as_ref().expect("a value").to_vec()).expect("text")
}

/// Waits until the broker tells of a topic: a busy one takes a while after it has said that it is made.
async fn known(admin: &AdminClient<DefaultClientContext>, topic: &str) {
    let within = Duration::from_secs(60);
    super::eventually("the topic is known", within, async || {
        let told = admin.inner().fetch_metadata(Some(topic), within);
        told.is_ok_and(|told| told.topics().iter().any(|known| !known.partitions().is_empty()))
    })
    .await;
}
