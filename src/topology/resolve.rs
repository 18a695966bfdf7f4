//! From the file's form to the resolved topology: names derived, defaults filled in, references followed,
//! contradictions collected so that all are told at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::file::{Cleanup, File, Retention, StageEntry, StageKind, TopicEntry};
use super::layers::nearest;
use super::{HEADER_ROOM_BYTES, Purpose, ROLES, Route, Stage, Topic, Topology, TopologyError};
use crate::event::EventType;

/// How many tasks of an effect stage may run at once when its entry doesn't say.
const DEFAULT_CONCURRENCY: usize = 64;
/// Kafka's own limit on the length of a topic name.
const LONGEST_NAME: usize = 249;
/// Resolves and checks `file`.
pub(super) fn resolve(file: File) -> Result<Topology, TopologyError> {
    let mut resolver = Resolver { prefix: file.topic_prefix.clone(), ..Resolver::default() };
    for (id, entry) in &file.topics {
        let topic = resolver.declared(id, entry, &file);
        resolver.route(id, entry);
        resolver.topics.insert(id.clone(), topic);
    }
    for missing in EventType::ALL.iter().filter(|of| !resolver.routes.contains_key(of)) {
        resolver.problems.push(format!("no topic carries `{}`", missing.as_str()));
    }
    for (name, entry) in &file.stages {
        resolver.stage(name, entry);
    }
    resolver.check_names();
    if !resolver.problems.is_empty() {
        return Err(TopologyError::Contradiction(resolver.problems));
    }
    Ok(Topology {
        name: file.name,
        prefix: file.topic_prefix,
        topics: resolver.topics,
        stages: resolver.stages,
        routes: resolver.routes,
    })
}

#[derive(Default)]
pub(super) struct Resolver {
    prefix: String,
    topics: BTreeMap<String, Topic>,
    stages: BTreeMap<String, Stage>,
    routes: BTreeMap<EventType, Route>,
    pub(super) problems: Vec<String>,
}

impl Resolver {
    fn on_broker(&self, id: &str) -> Arc<str> {
        format!("{}{id}", self.prefix).into()
    }

    fn declared(&mut self, id: &str, entry: &TopicEntry, file: &File) -> Topic {
        let partitions = entry.partitions.unwrap_or(file.defaults.partitions);
        if partitions < 1 {
            self.problems.push(format!("topic `{id}` needs at least one partition"));
        }
        if id.ends_with(".retry") || id.ends_with(".dlq") {
            self.problems.push(format!(
                "topic `{id}` can't be declared: retry and dead-letter topics follow from stages"
            ));
        }
        if entry.events.is_empty() == entry.records.is_empty() {
            self.problems.push(format!("topic `{id}` must carry either `events` or `records`"));
        }
        Topic {
            id: id.to_owned(),
            name: self.on_broker(id),
            about: entry.about.clone(),
            key: entry.key.clone(),
            partitions,
            replication: entry.replication.unwrap_or(file.defaults.replication).0,
            retention: entry.retention,
            cleanup: entry.cleanup,
            max_message_bytes: entry.max_message_bytes.unwrap_or(file.defaults.max_message_bytes),
            config: entry.config.clone(),
            purpose: Purpose::Declared,
            events: BTreeSet::new(),
            records: entry.records.clone(),
        }
        .with_events(self.types(&format!("topic `{id}`"), entry.events.iter().flat_map(|list| &list.types)))
    }

    /// Remembers for each type of the topic where it lives and who may publish it.
    fn route(&mut self, id: &str, entry: &TopicEntry) {
        for list in &entry.events {
            for role in list.publishers.iter().filter(|role| !ROLES.contains(&role.as_str())) {
                let known = nearest(role, ROLES.iter().copied()).unwrap_or_default();
                self.problems
                    .push(format!("topic `{id}` names the unknown role `{role}`; the nearest is `{known}`"));
            }
            for event_type in self.types(&format!("topic `{id}`"), &list.types) {
                let route =
                    Route { topic: id.to_owned(), publishers: list.publishers.iter().cloned().collect() };
                if let Some(other) = self.routes.insert(event_type, route) {
                    let name = event_type.as_str();
                    self.problems
                        .push(format!("`{name}` is listed twice, on `{}` and on `{id}`", other.topic));
                }
            }
        }
    }

    fn stage(&mut self, name: &str, entry: &StageEntry) {
        let Some(source) =
            self.topics.get(&entry.source).filter(|topic| topic.purpose == Purpose::Declared).cloned()
        else {
            self.problems.push(self.unknown_topic(name, "reads", &entry.source));
            return;
        };
        let dead_letters = self.derived(&source, name, Purpose::DeadLetters);
        let retry_topic = match entry.kind {
            StageKind::Store => None,
            StageKind::Effect => Some(self.derived(&source, name, Purpose::Retry)),
        };
        let takes = self.taken(name, entry, &source);
        self.check_work(name, entry);
        let priorities = self.priorities(name, entry, &source, &takes);
        self.check_conditions(name, entry, &source, &takes);
        let mut emits = Vec::new();
        for id in &entry.emits {
            match self.topics.get(id) {
                Some(topic) => emits.push(Arc::clone(&topic.name)),
                None => self.problems.push(self.unknown_topic(name, "emits to", id)),
            }
        }
        let stage = Stage {
            name: name.to_owned(),
            about: entry.about.clone(),
            runs: entry.runs.clone().unwrap_or_else(|| name.to_owned()),
            background: entry.background,
            kind: entry.kind,
            source: Arc::clone(&source.name),
            group: self.on_broker(entry.group.as_deref().unwrap_or(&format!("orderflow.{name}"))),
            start: entry.start,
            takes,
            tenants: entry.tenants.iter().cloned().collect(),
            conditions: entry.conditions.clone(),
            emits,
            priority: entry.priority,
            priorities,
            timeout: entry.timeout,
            concurrency: entry.concurrency.unwrap_or(DEFAULT_CONCURRENCY),
            retry: match entry.kind {
                StageKind::Store => None,
                StageKind::Effect => Some(entry.retry.clone().unwrap_or_default()),
            },
            retry_topic,
            dead_letters,
            objective: entry.objective,
        };
        if let Some(other) = self.stages.values().find(|other| other.group == stage.group) {
            self.problems
                .push(format!("stages `{}` and `{name}` share the group `{}`", other.name, stage.group));
        }
        self.stages.insert(name.to_owned(), stage);
    }

    /// Adds the retry or dead-letter topic of a stage and gives its name on the broker. It has the source's
    /// partitions, so that a record keeps its partition number, and keeps its records until their owner
    /// deletes them.
    fn derived(&mut self, source: &Topic, stage: &str, purpose: Purpose) -> Arc<str> {
        let (ending, about) = match purpose {
            Purpose::Retry => ("retry", format!("parked work of `{stage}`")),
            Purpose::DeadLetters | Purpose::Declared => ("dlq", format!("dead letters of `{stage}`")),
        };
        let id = format!("{}.{stage}.{ending}", source.id);
        let name = self.on_broker(&id);
        let topic = Topic {
            id: id.clone(),
            name: Arc::clone(&name),
            about,
            retention: Retention::Forever,
            cleanup: Cleanup::Delete,
            max_message_bytes: source.max_message_bytes + HEADER_ROOM_BYTES,
            config: BTreeMap::new(),
            purpose,
            events: BTreeSet::new(),
            records: Vec::new(),
            ..source.clone()
        };
        self.topics.insert(id, topic);
        name
    }

    fn taken(&mut self, name: &str, entry: &StageEntry, source: &Topic) -> BTreeSet<EventType> {
        let place = format!("stage `{name}`");
        if source.events.is_empty() {
            if !entry.takes.is_empty() {
                self.problems.push(format!("{place} can't choose event types: `{}` carries none", source.id));
            }
            if !entry.tenants.is_empty() {
                self.problems
                    .push(format!("{place} can't choose tenants: `{}` carries no events", source.id));
            }
            return BTreeSet::new();
        }
        if entry.takes.is_empty() {
            self.problems.push(format!("{place} must say which event types it `takes`"));
        }
        let (wild, named): (Vec<_>, Vec<_>) = entry.takes.iter().partition(|pattern| pattern.ends_with('*'));
        let named = self.types(&place, named);
        for foreign in named.difference(&source.events) {
            let problem =
                format!("{place} takes `{}`, which `{}` doesn't carry", foreign.as_str(), source.id);
            self.problems.push(problem);
        }
        let wild = self.types(&place, wild);
        wild.union(&named).filter(|of| source.events.contains(of)).copied().collect()
    }

    /// The types that `patterns` name: a type in any spelling, `order.*`, or `*`.
    pub(super) fn types<'a>(
        &mut self,
        place: &str,
        patterns: impl IntoIterator<Item = &'a String>,
    ) -> BTreeSet<EventType> {
        let mut types = BTreeSet::new();
        for pattern in patterns {
            match pattern.strip_suffix('*') {
                Some(start) => {
                    let before = types.len();
                    types.extend(EventType::ALL.iter().filter(|of| of.as_str().starts_with(start)).copied());
                    if types.len() == before {
                        self.problems.push(format!("{place}: no event type begins with `{start}`"));
                    }
                }
                None => match pattern.parse::<EventType>() {
                    Ok(event_type) => {
                        types.insert(event_type);
                    }
                    Err(error) => self.problems.push(format!("{place}: {error}")),
                },
            }
        }
        types
    }

    fn unknown_topic(&self, stage: &str, verb: &str, topic: &str) -> String {
        let known = nearest(topic, self.topics.keys().map(String::as_str)).unwrap_or_default();
        format!("stage `{stage}` {verb} the unknown topic `{topic}`; the nearest is `{known}`")
    }

    fn check_names(&mut self) {
        let legal = |name: &str| {
            !name.is_empty()
                && name.len() <= LONGEST_NAME
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let names = self
            .topics
            .values()
            .map(|topic| &topic.name)
            .chain(self.stages.values().map(|stage| &stage.group));
        let illegal: Vec<_> = names.filter(|name| !legal(name)).map(ToString::to_string).collect();
        for name in illegal {
            self.problems.push(format!(
                "`{name}` is no name for a topic or group: use up to {LONGEST_NAME} letters, digits, `.`, `_` and `-`"
            ));
        }
    }
}

impl Topic {
    fn with_events(mut self, events: BTreeSet<EventType>) -> Self {
        self.events = events;
        self
    }
}
