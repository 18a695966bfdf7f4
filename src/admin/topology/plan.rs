//! What would have to change on a broker for it to be as declared. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::topology::{Purpose, Topic, Topology};

/// The topics of a broker.
pub type Observed = BTreeMap<String, ObservedTopic>;

/// One topic as a broker has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedTopic {
    /// Number of partitions.
    pub partitions: i32,
    /// What applies to it, by the broker's names, defaults included.
    pub settings: BTreeMap<String, String>,
    /// What of that was set for this very topic.
    pub own: BTreeMap<String, String>,
}

/// Everything that differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// In the order in which they are applied.
    pub changes: Vec<Change>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// The topic is missing.
    Create {
        /// Its name on the broker.
        topic: String,
        /// Its number of partitions.
        partitions: i32,
        /// Copies of each partition; the broker's default when absent.
        replication: Option<i32>,
        /// Its settings.
        settings: BTreeMap<String, String>,
    },
    /// Settings of the topic differ.
    Configure {
        /// Its name on the broker.
        topic: String,
        /// What differs.
        settings: Vec<SettingChange>,
        /// Everything that will be set for this topic: brokers forget what an alteration leaves out.
        #[serde(skip)]
        all: BTreeMap<String, String>,
    },
    /// The stage of a retry or dead-letter topic is gone: deleted with leave to delete.
    Delete {
        /// Its name on the broker.
        topic: String,
    },
    /// The same without that leave: it stays, and is only mentioned.
    LeftOver {
        /// Its name on the broker.
        topic: String,
    },
    /// The topic differs in a way that can't be changed in place.
    Refused {
        /// Its name on the broker.
        topic: String,
        /// Why, and what to do instead.
        reason: String,
    },
}

/// A setting whose value differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingChange {
    /// The broker's name of it.
    pub name: String,
    /// What applies now.
    pub from: Option<String>,
    /// What is declared.
    pub to: String,
}

impl Plan {
    /// Whether broker and topology agree. Topics that are merely left over don't count.
    pub fn agrees(&self) -> bool {
        self.changes.iter().all(|change| matches!(change, Change::LeftOver { .. }))
    }

    /// Why parts of the plan can't be applied.
    pub fn refusals(&self) -> impl Iterator<Item = (&str, &str)> {
        self.changes.iter().filter_map(|change| match change {
            Change::Refused { topic, reason } => Some((topic.as_str(), reason.as_str())),
            Change::Create { .. }
            | Change::Configure { .. }
            | Change::Delete { .. }
            | Change::LeftOver { .. } => None,
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { topic, partitions, replication, settings } => {
                let copies =
                    replication.map_or("the broker's number of".to_owned(), |copies| copies.to_string());
                write!(f, "create     {topic} with {partitions} partitions in {copies} copies")?;
                settings.iter().try_for_each(|(name, value)| write!(f, ", {name}={value}"))
            }
            Self::Configure { topic, settings, .. } => {
                write!(f, "configure  {topic}:")?;
                settings.iter().enumerate().try_for_each(|(index, SettingChange { name, from, to })| {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma} {name} {} → {to}", from.as_deref().unwrap_or("unset"))
                })
            }
            Self::Delete { topic } => write!(f, "delete     {topic} and everything in it"),
            Self::LeftOver { topic } => {
                write!(f, "left over  {topic}: no stage uses it; `apply --allow-delete` deletes it")
            }
            Self::Refused { topic, reason } => write!(f, "refused    {topic}: {reason}"),
        }
    }
}

/// Compares what is declared with what the broker has.
pub fn plan(topology: &Topology, observed: &Observed, allow_delete: bool) -> Plan {
    let mut changes = Vec::new();
    for topic in topology.topics() {
        match observed.get(&*topic.name) {
            None => changes.push(Change::Create {
                topic: topic.name.to_string(),
                partitions: topic.partitions,
                replication: topic.replication,
                settings: topic.settings(),
            }),
            Some(found) => {
                changes.extend(partitions(topic, found));
                changes.extend(settings(topic, found));
            }
        }
    }
    let strays = observed.keys().filter(|name| is_left_over(topology, name)).cloned();
    changes.extend(strays.map(|topic| match allow_delete {
        true => Change::Delete { topic },
        false => Change::LeftOver { topic },
    }));
    Plan { changes }
}

fn partitions(topic: &Topic, found: &ObservedTopic) -> Option<Change> {
    if found.partitions == topic.partitions {
        return None;
    }
    let (has, declared) = (found.partitions, topic.partitions);
    let reason = if has > declared {
        format!(
            "it has {has} partitions and {declared} are declared: partitions can't be taken away; declare {has}"
        )
    } else {
        format!(
            "it has {has} partitions and {declared} are declared: a topic keyed by {} isn't grown in place, because keys \
             would move away from work of theirs that is waiting; declare a new topic, drain this one, then switch",
            topic.key
        )
    };
    Some(Change::Refused { topic: topic.name.to_string(), reason })
}

fn settings(topic: &Topic, found: &ObservedTopic) -> Option<Change> {
    let declared = topic.settings();
    let differing: Vec<_> = declared
        .iter()
        .filter(|(name, value)| found.settings.get(*name) != Some(value))
        .map(|(name, to)| SettingChange {
            name: name.clone(),
            from: found.settings.get(name).cloned(),
            to: to.clone(),
        })
        .collect();
    if differing.is_empty() {
        return None;
    }
    let mut all = found.own.clone();
    all.extend(declared);
    Some(Change::Configure { topic: topic.name.to_string(), settings: differing, all })
}

/// A retry or dead-letter topic of one of our sources, whose stage isn't declared any more.
pub(super) fn is_left_over(topology: &Topology, name: &str) -> bool {
    let derived = name.ends_with(".retry") || name.ends_with(".dlq");
    let of_ours = topology
        .topics()
        .filter(|topic| topic.purpose == Purpose::Declared)
        .any(|topic| name.strip_prefix(&*topic.name).is_some_and(|rest| rest.starts_with('.')));
    derived && of_ours && topology.topic_on_broker(name).is_none()
}
