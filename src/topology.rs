//! The typed view of `topology/`: topics, consumer groups, retry and dead-letter policy, who publishes what.
//!
//! Every topic name in the program comes from here. A topology is made from text (a file and its overlays,
//! the later one winning), resolved and checked as a whole, and never changed afterwards; `admin::topology`
//! compares it with a broker. Nothing here talks to one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::event::{Condition, EventType};

mod file;
pub mod layers;
mod resolve;
#[cfg(test)]
mod tests;
mod work;

pub use file::{AfterLast, Cleanup, ORDINARY, Objective, Retention, RetryPolicy, StageKind, StartAt};

use layers::Layer;

/// The topology that the program carries.
pub const BUILT_IN: &str = include_str!("../topology/orders.yaml");

/// What `orderflow demo` lays over it: few partitions and short delays.
pub const DEMO_OVERLAY: &str = include_str!("../topology/overlays/demo.yaml");

/// How much larger than its source's largest record a record of a retry or dead-letter topic may be: room
/// for the headers that say where it came from.
pub const HEADER_ROOM_BYTES: usize = 64 * 1024;

/// Every role that a token can carry.
pub const ROLES: &[&str] = &["buyer", "seller", "moderator", "service", "partner", "operator", "admin"];

/// Why a topology can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A file can't be read, or a key or value in it is wrong.
    #[error("{0}")]
    Unreadable(String),
    /// Every key can be read, but the whole contradicts itself. All contradictions are listed.
    #[error("the topology contradicts itself: {}", .0.join("; "))]
    Contradiction(Vec<String>),
}

/// Topics, stages and who may publish what, resolved and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// What the topology, or the last overlay that names itself, is called. Shown on screens.
    pub name: String,
    /// What every topic and group name begins with.
    pub prefix: String,
    topics: BTreeMap<String, Topic>,
    stages: BTreeMap<String, Stage>,
    routes: BTreeMap<EventType, Route>,
}

/// One topic, as the broker is to have it.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    /// The name in the topology, without prefix.
    pub id: String,
    /// The name on the broker.
    pub name: Arc<str>,
    /// What it holds, in a few words.
    pub about: String,
    /// What its records are keyed by.
    pub key: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Copies of each partition; `None` leaves it to the broker.
    pub replication: Option<i32>,
    /// How long records are kept.
    pub retention: Retention,
    /// Whether old records are deleted or compacted.
    pub cleanup: Cleanup,
    /// The largest record in bytes, uncompressed.
    pub max_message_bytes: usize,
    /// Further settings of the topic, by the broker's names.
    pub config: BTreeMap<String, String>,
    /// Why the topic exists.
    pub purpose: Purpose,
    /// The event types that live on it.
    pub events: BTreeSet<EventType>,
    /// Internal records that live on it, by record name (`orderflow.internal.<name>`).
    pub records: Vec<String>,
}

/// Why a topic exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Declared in the topology: producers write to it.
    Declared,
    /// Parked work of the stage that it is named after.
    Retry,
    /// Dead letters of the stage that it is named after.
    DeadLetters,
}

/// One consumer group and what it does with its source.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// The name, also in metrics, headers and derived topics.
    pub name: String,
    /// What it does, in a few words.
    pub about: String,
    /// The program's stage that does it; its own name, unless it is a further group of another one.
    pub runs: String,
    /// Whether it runs on a thread of its own, whatever its kind.
    pub background: bool,
    /// Whether its effects are rows or outside.
    pub kind: StageKind,
    /// The topic it reads, as named on the broker.
    pub source: Arc<str>,
    /// Its consumer group.
    pub group: Arc<str>,
    /// Where a group without positions begins.
    pub start: StartAt,
    /// The event types it handles; empty when its source carries internal records.
    pub takes: BTreeSet<EventType>,
    /// The tenants whose events it handles; empty is all of them.
    pub tenants: BTreeSet<String>,
    /// What else must hold for an event to be handled: all of it.
    pub conditions: Vec<Condition>,
    /// The topics it writes to, as named on the broker.
    pub emits: Vec<Arc<str>>,
    /// How urgent its tasks are, of all types that `priorities` doesn't name: lower runs first; effect stages only.
    pub priority: u16,
    /// How urgent those of some types are.
    pub priorities: BTreeMap<EventType, u16>,
    /// How long one attempt of its handler may take (of a store stage: at a batch); then it is cut off.
    pub timeout: Option<Duration>,
    /// How many of its tasks may run at once in one process.
    pub concurrency: usize,
    /// When and how often failed work is tried again; effect stages only.
    pub retry: Option<RetryPolicy>,
    /// Where its parked work waits; effect stages only.
    pub retry_topic: Option<Arc<str>>,
    /// Where its dead letters go.
    pub dead_letters: Arc<str>,
    /// What operators are promised.
    pub objective: Objective,
}

/// Where an event type lives and who may publish it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    topic: String,
    publishers: BTreeSet<String>,
}

impl Topology {
    /// The topology that the program carries, without overlays.
    ///
    /// # Errors
    /// Never in a released program: a test loads it.
    pub fn built_in() -> Result<Self, TopologyError> {
        Self::from_yaml(&[("the built-in topology", BUILT_IN)])
    }

    /// What `orderflow demo` runs with.
    ///
    /// # Errors
    /// Never in a released program: a test loads it.
    pub fn demo() -> Result<Self, TopologyError> {
        Self::from_yaml(&[("the built-in topology", BUILT_IN), ("the demo overlay", DEMO_OVERLAY)])
    }

    /// Reads YAML layers, each a name for messages and its text, the later one winning key by key.
    ///
    /// # Errors
    /// When a layer isn't YAML, a key is unknown, a value is wrong, or the whole contradicts itself.
    pub fn from_yaml(layers: &[(&str, &str)]) -> Result<Self, TopologyError> {
        let layers = layers
            .iter()
            .map(|(name, text)| Layer::from_yaml(name, text))
            .collect::<Result<Vec<_>, _>>()
            .map_err(TopologyError::Unreadable)?;
        let file: file::File = layers::merge(layers)
            .extract()
            .map_err(|error| TopologyError::Unreadable(layers::explain(&error)))?;
        resolve::resolve(file)
    }

    /// Every topic, declared or derived, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values()
    }

    /// The topic called `id` in the topology (without prefix), or a retry or dead-letter topic derived from it.
    pub fn topic(&self, id: &str) -> Option<&Topic> {
        self.topics.get(id)
    }

    /// The topic called `name` on the broker.
    pub fn topic_on_broker(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name.strip_prefix(self.prefix.as_str())?)
    }

    /// Every stage, by name.
    pub fn stages(&self) -> impl Iterator<Item = &Stage> {
        self.stages.values()
    }

    /// The stage called `name`.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.get(name)
    }

    /// The topic on which events of this type live. Every type has one: a topology without is refused.
    pub fn topic_of(&self, event_type: EventType) -> &Topic {
        &self.topics[&self.routes[&event_type].topic]
    }

    /// Whether somebody with `role` may publish events of this type over the API.
    pub fn may_publish(&self, role: &str, event_type: EventType) -> bool {
        self.routes[&event_type].publishers.contains(role)
    }
}

impl Topic {
    /// The settings that the broker is to have for this topic, by its own names.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = self.config.clone();
        let retention = match self.retention {
            Retention::Forever => "-1".to_owned(),
            Retention::For(time) => time.as_millis().to_string(),
        };
        settings.insert("retention.ms".to_owned(), retention);
        settings.insert("cleanup.policy".to_owned(), self.cleanup.as_str().to_owned());
        settings.insert("max.message.bytes".to_owned(), self.max_message_bytes.to_string());
        settings
    }
}

impl Stage {
    /// How urgent what follows from events of this type is; lower runs first.
    pub fn priority_of(&self, event_type: EventType) -> u16 {
        self.priorities.get(&event_type).copied().unwrap_or(self.priority)
    }

    /// Whether some types are more urgent than others.
    pub fn has_priorities(&self) -> bool {
        self.priorities.values().any(|priority| *priority != self.priority)
    }
}

impl RetryPolicy {
    /// How long to wait after attempt number `attempt` (from 1) has failed; `None` when it was the last.
    /// The last delay is used again when there are more attempts than delays.
    pub fn delay_after(&self, attempt: u32) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let step = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        self.delays.get(step).or(self.delays.last()).copied()
    }
}
