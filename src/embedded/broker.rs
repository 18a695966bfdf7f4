//! A Kafka broker inside the process: librdkafka's, listening on loopback, open to any client.
//!
//! It keeps groups, commits with their metadata and idempotent producers as a broker does. What it doesn't
//! have: an administration API (topics are made through [`Broker::create_topic`]), `read_committed`, a look-up
//! by time, and room: a partition keeps its newest 5 MiB or 100,000 batches, everything is in memory. So a
//! writer must not run far ahead of its readers, and what is written is gone with the process.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer as _};

use super::mock_settings;
use crate::runtime::KafkaOptions;

/// How long a new group waits for further members.
const GROUP_SETTLES_AFTER: Duration = Duration::from_millis(50);

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// librdkafka couldn't start it.
    #[error("the in-process broker didn't start: {0}")]
    Start(#[source] KafkaError),
    /// It runs, but offers no handle; would be a change in librdkafka.
    #[error("the in-process broker started without a handle")]
    NoHandle,
    /// A topic couldn't be made.
    #[error("the in-process broker can't make topic {topic}: {source}")]
    Topic {
        /// The topic.
        topic: String,
        /// The broker's words.
        source: KafkaError,
    },
}

/// A running broker; it ends when this is dropped.
pub struct Broker {
    /// The client in which the broker runs. librdkafka gives the broker threads of its own, and its handle may
    /// be asked for from any thread, so this needs none.
    host: BaseProducer,
    address: String,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Broker {
    /// Starts a broker on a free loopback port.
    ///
    /// # Errors
    /// When librdkafka can't start one.
    pub fn start() -> Result<Self, BrokerError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "this client hosts the broker and never sends a record"
        )]
        let mut settings = ClientConfig::new();
        settings.set("test.mock.num.brokers", "1");
        let host: BaseProducer = settings.create().map_err(BrokerError::Start)?;
        if !mock_settings::settle_groups_after(host.client(), GROUP_SETTLES_AFTER) {
            return Err(BrokerError::NoHandle);
        }
        let address = host.client().mock_cluster().ok_or(BrokerError::NoHandle)?.bootstrap_servers();
        Ok(Self { host, address })
    }

    /// `host:port`, for clients here and in other processes.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The cluster's id; empty if the broker doesn't tell one.
    pub fn cluster_id(&self) -> String {
        self.host.client().fetch_cluster_id(Duration::from_secs(5)).unwrap_or_default()
    }

    /// Makes a topic. There is no other way: the broker has no administration API.
    ///
    /// # Errors
    /// When the topic exists or its name isn't one.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), BrokerError> {
        let cluster = self.host.client().mock_cluster().ok_or(BrokerError::NoHandle)?;
        cluster
            .create_topic(topic, partitions, 1)
            .map_err(|source| BrokerError::Topic { topic: topic.to_owned(), source })
    }

    /// How our own clients reach it: groups here notice a lost member within two seconds, not ten.
    pub fn client_options(&self) -> KafkaOptions {
        KafkaOptions {
            bootstrap_servers: self.address.clone(),
            properties: BTreeMap::from([
                ("fetch.wait.max.ms".to_owned(), "50".to_owned()),
                ("topic.metadata.refresh.interval.ms".to_owned(), "30000".to_owned()),
            ]),
            session_timeout: Duration::from_millis(1500),
            heartbeat_interval: Duration::from_millis(200),
            ..KafkaOptions::default()
        }
    }
}

#[cfg(test)]
mod tests;
