//! A broker's topics, observed and changed over Kafka's admin protocol.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;

use super::plan::{Change, Observed, ObservedTopic, Plan, is_left_over};
use crate::runtime::{KafkaOptions, Role};
use crate::task;
use crate::topology::Topology;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(15);
/// How long the question whether it is there at all may take.
const PING: Duration = Duration::from_secs(2);
/// How long a new topic may take until every partition has a leader.
const SETTLE: Duration = Duration::from_secs(30);
/// How long brokers may take to know of each other's topics.
const SPREAD: Duration = Duration::from_secs(5);
/// How often these are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why the broker couldn't be observed or changed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The client can't be made of these settings.
    #[error("[kafka] can't be used: {0}")]
    Settings(String),
    /// It didn't answer.
    #[error("kafka at {servers} does not answer: {why}; start it or set kafka.bootstrap_servers")]
    Unavailable {
        /// The bootstrap servers that were asked.
        servers: String,
        /// The client's words.
        why: String,
    },
    /// It refused one change; those before it have been made.
    #[error("kafka refused to {what} topic {topic}: {why}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Of which topic.
        topic: String,
        /// The broker's words.
        why: String,
    },
}

/// A connection to a broker's admin protocol. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    client: Arc<AdminClient<DefaultClientContext>>,
    servers: String,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Broker {
    /// A connection with these options; nothing is sent yet.
    ///
    /// # Errors
    /// When the client refuses the options.
    pub fn new(options: &KafkaOptions) -> Result<Self, AdminError> {
        let servers = options.bootstrap_servers.clone();
        let client = options
            .client_config(Role::Admin)
            .create()
            .map_err(|error| AdminError::Settings(error.to_string()))?;
        Ok(Self { client: Arc::new(client), servers })
    }

    /// The broker's topics with their settings, as far as they concern `topology`: those it declares, and those
    /// that are left over from it. A broker may hold thousands of others.
    ///
    /// # Errors
    /// When the broker doesn't answer.
    pub async fn observe(&self, topology: &Topology) -> Result<Observed, AdminError> {
        let mut observed = self.partition_counts(REQUEST, |_| true).await?;
        observed.retain(|name, _| topology.topic_on_broker(name).is_some() || is_left_over(topology, name));
        let names: Vec<String> = observed.keys().cloned().collect();
        let asked: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        // A broker without topics: the client refuses to ask about nothing.
        if asked.is_empty() {
            return Ok(observed);
        }
        let answers = self
            .client
            .describe_configs(&asked, &options())
            .await
            .map_err(|error| self.unavailable(&error))?;
        for (name, answer) in names.iter().zip(answers) {
            let resource = answer.map_err(|why| self.unavailable(&KafkaError::AdminOp(why)))?;
            let Some(topic) = observed.get_mut(name) else { continue };
            for entry in resource.entries {
                let Some(value) = entry.value else { continue };
                if entry.source == ConfigSource::DynamicTopic {
                    topic.own.insert(entry.name.clone(), value.clone());
                }
                topic.settings.insert(entry.name, value);
            }
        }
        Ok(observed)
    }

    /// Asks for an answer, nothing more.
    ///
    /// # Errors
    /// When the broker doesn't answer.
    pub async fn ping(&self) -> Result<(), AdminError> {
        self.partition_counts(PING, |_| true).await.map(drop)
    }

    /// The declared topics that the broker doesn't have, by their names there. Those that it doesn't tell of it is asked for
    /// again, for a few seconds: not every broker knows at once of what was made a moment ago.
    ///
    /// # Errors
    /// When the broker doesn't answer.
    pub async fn missing(&self, topology: &Topology) -> Result<Vec<Arc<str>>, AdminError> {
        let began = tokio::time::Instant::now();
        loop {
            let observed = self.partition_counts(REQUEST, |_| true).await?;
            let absent = topology.topics().filter(|topic| !observed.contains_key(&*topic.name));
            let absent: Vec<Arc<str>> = absent.map(|topic| Arc::clone(&topic.name)).collect();
            if absent.is_empty() || began.elapsed() >= SPREAD {
                return Ok(absent);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Makes the changes of `plan`, in order. Refusals and left-overs are passed over: tell them before.
    ///
    /// # Errors
    /// At the first change that the broker refuses; those before it have been made.
    pub async fn apply(&self, plan: &Plan) -> Result<(), AdminError> {
        for change in &plan.changes {
            match change {
                Change::Create { topic, partitions, replication, settings } => {
                    self.create(topic, *partitions, *replication, settings).await?;
                }
                Change::Configure { topic, all, .. } => self.configure(topic, all).await?,
                Change::Delete { topic } => self.delete(topic).await?,
                Change::LeftOver { .. } | Change::Refused { .. } => {}
            }
        }
        self.settled(plan).await
    }

    async fn create(
        &self,
        topic: &str,
        partitions: i32,
        replication: Option<i32>,
        settings: &BTreeMap<String, String>,
    ) -> Result<(), AdminError> {
        // -1 leaves the number of copies to the broker (KIP-464).
        let copies = TopicReplication::Fixed(replication.unwrap_or(-1));
        let mut new = NewTopic::new(topic, partitions, copies);
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let answers =
            self.client.create_topics([&new], &options()).await.map_err(|error| self.unavailable(&error))?;
        for answer in answers {
            match answer {
                // Somebody else who applies the same topology was faster, or it is made later than a busy broker answers: whether
                // it is there is looked at in the end.
                Ok(_)
                | Err((_, RDKafkaErrorCode::TopicAlreadyExists | RDKafkaErrorCode::RequestTimedOut)) => {}
                Err((_, why)) => return Err(refused("create", topic, why)),
            }
        }
        Ok(())
    }

    async fn configure(&self, topic: &str, all: &BTreeMap<String, String>) -> Result<(), AdminError> {
        let specifier = ResourceSpecifier::Topic(topic);
        let mut alter = AlterConfig::new(specifier);
        for (name, value) in all {
            alter = alter.set(name, value);
        }
        let answers = self
            .client
            .alter_configs([&alter], &options())
            .await
            .map_err(|error| self.unavailable(&error))?;
        answers
            .into_iter()
            .try_for_each(|answer| answer.map(|_| ()).map_err(|(_, why)| refused("configure", topic, why)))
    }

    async fn delete(&self, topic: &str) -> Result<(), AdminError> {
        let answers = self
            .client
            .delete_topics(&[topic], &options())
            .await
            .map_err(|error| self.unavailable(&error))?;
        answers
            .into_iter()
            .try_for_each(|answer| answer.map(|_| ()).map_err(|(_, why)| refused("delete", topic, why)))
    }

    /// Waits until every created topic can be written to, so that what follows `apply` needn't.
    async fn settled(&self, plan: &Plan) -> Result<(), AdminError> {
        let expected: Vec<(&str, i32)> = plan
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::Create { topic, partitions, .. } => Some((topic.as_str(), *partitions)),
                Change::Configure { .. }
                | Change::Delete { .. }
                | Change::LeftOver { .. }
                | Change::Refused { .. } => None,
            })
            .collect();
        let waiting = async {
            loop {
                // No answer is no end: a broker that makes topics may be busy with them.
                let observed = self.partition_counts(REQUEST, has_leader).await.unwrap_or_default();
                let there =
                    |(name, count): &(&str, i32)| observed.get(*name).is_some_and(|t| t.partitions == *count);
                if expected.iter().all(there) {
                    return;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        match tokio::time::timeout(SETTLE, waiting).await {
            Ok(()) => Ok(()),
            Err(_) => Err(AdminError::Unavailable {
                servers: self.servers.clone(),
                why: format!("created topics have no leaders after {SETTLE:?}"),
            }),
        }
    }

    /// The topics and how many of their partitions are as asked for.
    async fn partition_counts(
        &self,
        within: Duration,
        counts: fn(&MetadataPartition) -> bool,
    ) -> Result<Observed, AdminError> {
        let client = Arc::clone(&self.client);
        let metadata = task::spawn_blocking(move || client.inner().fetch_metadata(None, within))
            .await
            .map_err(|ended| AdminError::Unavailable {
                servers: self.servers.clone(),
                why: ended.to_string(),
            })?
            .map_err(|error| self.unavailable(&error))?;
        let topics = metadata.topics().iter().filter(|topic| !topic.name().starts_with("__"));
        Ok(topics
            .map(|topic| {
                let counted = topic.partitions().iter().filter(|partition| counts(partition)).count();
                let partitions = i32::try_from(counted).unwrap_or(i32::MAX);
                (topic.name().to_owned(), ObservedTopic { partitions, ..ObservedTopic::default() })
            })
            .collect())
    }

    fn unavailable(&self, error: &KafkaError) -> AdminError {
        AdminError::Unavailable { servers: self.servers.clone(), why: error.to_string() }
    }
}

/// A partition without one exists, but can't be written to.
fn has_leader(partition: &MetadataPartition) -> bool {
    partition.leader() >= 0
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
}

fn refused(what: &'static str, topic: &str, why: RDKafkaErrorCode) -> AdminError {
    AdminError::Refused { what, topic: topic.to_owned(), why: why.to_string() }
}
