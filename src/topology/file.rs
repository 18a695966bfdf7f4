//! The form of a topology file, key by key. Unknown keys are errors; what keys mean together is settled in
//! `resolve`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::event::Condition;

/// A whole file with its overlays merged in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: String,
    #[serde(default)]
    pub(super) topic_prefix: String,
    #[serde(default)]
    pub(super) defaults: Defaults,
    pub(super) topics: BTreeMap<String, TopicEntry>,
    #[serde(default)]
    pub(super) stages: BTreeMap<String, StageEntry>,
}

/// What a topic has unless it says otherwise.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Defaults {
    pub(super) partitions: i32,
    pub(super) replication: Replication,
    pub(super) max_message_bytes: usize,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { partitions: 12, replication: Replication(None), max_message_bytes: 1024 * 1024 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TopicEntry {
    pub(super) about: String,
    pub(super) key: String,
    pub(super) partitions: Option<i32>,
    pub(super) replication: Option<Replication>,
    pub(super) retention: Retention,
    #[serde(default)]
    pub(super) cleanup: Cleanup,
    pub(super) max_message_bytes: Option<usize>,
    #[serde(default)]
    pub(super) config: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) events: Vec<EventsEntry>,
    #[serde(default)]
    pub(super) records: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsEntry {
    pub(super) types: Vec<String>,
    #[serde(default)]
    pub(super) publishers: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StageEntry {
    pub(super) about: String,
    pub(super) kind: StageKind,
    pub(super) source: String,
    pub(super) group: Option<String>,
    #[serde(default)]
    pub(super) start: StartAt,
    #[serde(default)]
    pub(super) takes: Vec<String>,
    #[serde(default)]
    pub(super) tenants: Vec<String>,
    #[serde(default, rename = "where")]
    pub(super) conditions: Vec<Condition>,
    #[serde(default)]
    pub(super) emits: Vec<String>,
    pub(super) runs: Option<String>,
    #[serde(default)]
    pub(super) background: bool,
    #[serde(default = "ordinary")]
    pub(super) priority: u16,
    #[serde(default)]
    pub(super) priorities: BTreeMap<String, u16>,
    #[serde(default, with = "humantime_serde")]
    pub(super) timeout: Option<Duration>,
    pub(super) concurrency: Option<usize>,
    pub(super) retry: Option<RetryPolicy>,
    pub(super) objective: Objective,
}

/// The priority of what names none.
pub const ORDINARY: u16 = 100;

fn ordinary() -> u16 {
    ORDINARY
}

/// Copies of each partition; `None` is the word `broker`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replication(pub(super) Option<i32>);

impl<'de> Deserialize<'de> for Replication {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Copies(i32),
            Word(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Copies(copies) if copies > 0 => Ok(Self(Some(copies))),
            Form::Word(word) if word == "broker" => Ok(Self(None)),
            Form::Copies(_) | Form::Word(_) => {
                Err(de::Error::custom("expected a number above 0 or `broker`"))
            }
        }
    }
}

/// How long a topic keeps its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// Until their owner deletes them.
    Forever,
    /// For this long.
    For(Duration),
}

impl<'de> Deserialize<'de> for Retention {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "forever" {
            return Ok(Self::Forever);
        }
        humantime_serde::re::humantime::parse_duration(&text).map(Self::For).map_err(|error| {
            de::Error::custom(format!("expected a duration such as `7d`, or `forever`: {error}"))
        })
    }
}

/// What becomes of old records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cleanup {
    /// They are deleted when retention is over.
    #[default]
    Delete,
    /// The newest record of each key stays.
    Compact,
}

impl Cleanup {
    /// The broker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
        }
    }
}

/// Whether a stage's effects are rows in our database or happen outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// Effects and position commit in one database transaction.
    Store,
    /// Effects happen outside, at least once and under one id.
    Effect,
}

/// Where a group without positions begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// At the oldest record.
    #[default]
    Earliest,
    /// At records that are yet to come.
    Latest,
}

/// When and how often failed work is tried again.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// How many attempts there are, the first included.
    pub attempts: u32,
    /// The wait after the first, second, … failed attempt; the last one repeats.
    #[serde(deserialize_with = "durations")]
    pub delays: Vec<Duration>,
    /// The share of a delay by which it varies, up or down: 0.1 is ±10 %.
    pub jitter: f64,
    /// Delays up to this long wait in place, longer ones are parked in the retry topic.
    #[serde(with = "humantime_serde")]
    pub in_place: Duration,
    /// How long a task may wait for its next attempt, counted from the first failure; then it is given up. None: as long
    /// as its attempts last.
    #[serde(with = "humantime_serde")]
    pub age_limit: Option<Duration>,
    /// What becomes of a lane whose first task was given up.
    pub after_last: AfterLast,
    /// The classes of failures that are given up at once, without another attempt.
    pub not_retryable: BTreeSet<String>,
}

impl Default for RetryPolicy {
    /// Three retries, a second apart, in place.
    fn default() -> Self {
        Self {
            attempts: 4,
            delays: vec![Duration::from_secs(1)],
            jitter: 0.0,
            in_place: Duration::from_secs(5),
            age_limit: None,
            after_last: AfterLast::Release,
            not_retryable: BTreeSet::new(),
        }
    }
}

/// What becomes of a lane whose first task was given up and lies in the dead-letter topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterLast {
    /// It goes on; a redrive makes up for the task later.
    #[default]
    Release,
    /// It waits until the task is redriven or the lane is released by hand: full order.
    Hold,
}

/// What operators are promised about a stage; alerts are derived from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// 99 of 100 events take effect within this time.
    #[serde(with = "humantime_serde")]
    pub within: Duration,
    /// The group is at most this far behind.
    #[serde(with = "humantime_serde")]
    pub lag: Duration,
}

fn durations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
    let texts = Vec::<humantime_serde::Serde<Duration>>::deserialize(deserializer)?;
    Ok(texts.into_iter().map(humantime_serde::Serde::into_inner).collect())
}
