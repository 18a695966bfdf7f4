//! Our schemas and a registry: what is there, whether ours may come beside it, and putting them there.
//!
//! The topology says which records live on which topic, and so which subjects there are
//! (`<topic>-<record's full name>`). The rule is ours whatever level the registry is set to: a new version reads
//! every older one (BACKWARD_TRANSITIVE). Only [`register`] changes anything, and only adds versions: it sets no
//! level, deletes nothing, and writes one canonical text per record.

use serde::Serialize;

use crate::event::compatibility::text_obstacle;
use crate::event::{RecordSchema, RegisteredVersion, Registry, RegistryError, internal};
use crate::topology::Topology;

/// One record on one topic.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The topic as the broker names it.
    pub topic: String,
    /// The subject in the registry.
    pub name: String,
    /// Our schema of the record.
    pub schema: &'static RecordSchema,
}

/// What the registry holds for a subject, compared with ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Nothing yet.
    Absent,
    /// Our schema is its latest version.
    Current,
    /// Our schema is one of its versions, and there are newer ones: this program is older than another's.
    Superseded,
    /// Other versions, but not ours.
    Outdated,
}

/// A subject as it stands in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// The topic as the broker names it.
    pub topic: String,
    /// The subject in the registry.
    pub subject: String,
    /// The version that our schema states of itself.
    pub our_version: i32,
    /// The id of our schema, if it is registered.
    pub id: Option<i32>,
    /// The registry's versions of the subject, oldest first.
    pub versions: Vec<i32>,
    /// How the two compare.
    pub state: State,
}

/// Whether our schema may become a subject's next version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The subject in the registry.
    pub subject: String,
    /// How many versions ours was compared with.
    pub compared: usize,
    /// Why ours can't read what some version wrote; empty if it reads them all.
    pub problems: Vec<String>,
}

/// What registering did for a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Done {
    /// Our schema is its newest version now.
    Registered {
        /// The schema's id.
        id: u32,
    },
    /// It was there before.
    Unchanged {
        /// The schema's id.
        id: u32,
    },
    /// It was not registered: it doesn't fit the versions that are there.
    Refused {
        /// Why.
        problems: Vec<String>,
    },
}

/// A subject and what registering did for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    /// The subject in the registry.
    pub subject: String,
    /// What was done.
    pub done: Done,
}

/// Every subject that the topology calls for, by topic and record.
pub fn subjects(topology: &Topology) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for topic in topology.topics() {
        let events = topic.events.iter().map(|event_type| event_type.schema());
        let records = internal().into_iter().filter(|schema| {
            topic.records.iter().any(|record| schema.full_name() == format!("orderflow.internal.{record}"))
        });
        subjects.extend(events.chain(records).map(|schema| Subject {
            topic: topic.name.to_string(),
            name: schema.subject(&topic.name),
            schema,
        }));
    }
    subjects
}

/// Every subject as it stands in the registry.
///
/// # Errors
/// When the registry can't be asked.
pub async fn list(registry: &Registry, topology: &Topology) -> Result<Vec<Listed>, RegistryError> {
    let mut listed = Vec::new();
    for subject in subjects(topology) {
        let versions = registry.versions(&subject.name).await?;
        let ours = ours(registry, &subject, &versions).await?;
        let state = match (&ours, versions.last()) {
            (_, None) => State::Absent,
            (None, Some(_)) => State::Outdated,
            (Some(ours), Some(last)) if ours.version == last.version => State::Current,
            (Some(_), Some(_)) => State::Superseded,
        };
        listed.push(Listed {
            topic: subject.topic,
            subject: subject.name,
            our_version: subject.schema.version(),
            id: ours.map(|version| version.id),
            versions: versions.iter().map(|version| version.version).collect(),
            state,
        });
    }
    Ok(listed)
}

/// Whether our schemas read everything that any registered version of their subjects wrote.
///
/// # Errors
/// When the registry can't be asked.
pub async fn check(registry: &Registry, topology: &Topology) -> Result<Vec<Checked>, RegistryError> {
    let mut checked = Vec::new();
    for subject in subjects(topology) {
        let versions = registry.versions(&subject.name).await?;
        let problems = problems(&subject, &versions);
        checked.push(Checked { subject: subject.name, compared: versions.len(), problems });
    }
    Ok(checked)
}

/// Registers what is missing. Repeating it changes nothing; subjects that refuse don't keep the others back.
///
/// # Errors
/// When the registry can't be asked; what was registered until then stays.
pub async fn register(registry: &Registry, topology: &Topology) -> Result<Vec<Registered>, RegistryError> {
    let mut registered = Vec::new();
    for subject in subjects(topology) {
        let done = register_one(registry, &subject).await?;
        registered.push(Registered { subject: subject.name, done });
    }
    Ok(registered)
}

async fn register_one(registry: &Registry, subject: &Subject) -> Result<Done, RegistryError> {
    let versions = registry.versions(&subject.name).await?;
    if let Some(ours) = ours(registry, subject, &versions).await? {
        return Ok(Done::Unchanged { id: ours.id.cast_unsigned() });
    }
    let problems = problems(subject, &versions);
    if !problems.is_empty() {
        return Ok(Done::Refused { problems });
    }
    match registry.register(&subject.name, subject.schema).await {
        Ok(id) => Ok(Done::Registered { id }),
        Err(RegistryError::Refused { why, .. }) => Ok(Done::Refused { problems: vec![why] }),
        Err(error) => Err(error),
    }
}

/// The version that is our schema.
async fn ours(
    registry: &Registry,
    subject: &Subject,
    versions: &[RegisteredVersion],
) -> Result<Option<RegisteredVersion>, RegistryError> {
    if let Some(same) = versions.iter().rev().find(|version| version.text == subject.schema.text()) {
        return Ok(Some(same.clone()));
    }
    if versions.is_empty() {
        return Ok(None);
    }
    // A registry may keep texts written in its own way; it knows best whether one of them is ours.
    match registry.lookup(&subject.name, subject.schema).await {
        Ok(version) => Ok(Some(version)),
        Err(RegistryError::Unknown(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn problems(subject: &Subject, versions: &[RegisteredVersion]) -> Vec<String> {
    let problem = |version: &RegisteredVersion| {
        let obstacle = text_obstacle(&version.text, subject.schema.avro())?;
        Some(format!("it can't read version {}: {obstacle}", version.version))
    };
    versions.iter().filter_map(problem).collect()
}

#[cfg(test)]
mod tests;
