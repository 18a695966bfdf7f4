//! What happens because of an event: one folder a stage, and one table that lists them.
//!
//! A stage is a consumer group of its own over the engine in [`crate::runtime`]. A **store stage** writes rows
//! (history, notification, dispute, attempts): it is a [`store_stage::StoreHandler`], and everything around it is the
//! same for all. An **effect stage** reaches outside (webhook, delivery): it is a
//! [`EffectStage`](crate::runtime::EffectStage). A new stage is a folder and a row in [`TABLE`], and its groups and
//! topics are declared in `topology/`.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use self::cursors::StoredCursors;
use crate::crypto::Vault;
use crate::event::{Codec, EventType};
use crate::runtime::cursor::CursorStore;
use crate::runtime::retry::Schedule;
use crate::runtime::{Environment, RuntimeOptions, StageControl, StageHandle, StageSpec, StartAt};
use crate::store::Database;
use crate::topology::{self, Topology};

pub mod attempts;
pub mod control;
mod cursors;
pub mod delivery;
pub mod dispute;
pub mod history;
pub mod intake;
pub mod live_feed;
pub mod notification;
pub mod store_stage;
pub mod webhook;

/// What stages are made of; one per process, cheap to clone.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Kafka, the producer, metrics and the clock.
    pub env: Environment,
    /// The Kafka cluster's id: part of the identity of records that have no event id.
    pub cluster_id: Arc<str>,
    /// The store.
    pub db: Database,
    /// Seals secrets and personal data.
    pub vault: Vault,
    /// Reads and writes events.
    pub codec: Codec,
    /// Topics, groups and policies.
    pub topology: Arc<Topology>,
    /// The stages' own settings.
    pub options: Arc<StageOptions>,
}

/// The settings of all stages, from their sections of the configuration.
#[derive(Debug, Clone, Default)]
pub struct StageOptions {
    /// `[runtime]`: bounds and times of the engine.
    pub runtime: RuntimeOptions,
    /// What messages are made from; `[notification]` may name a folder of own ones.
    pub templates: notification::templates::Templates,
    /// `[dispute]`: who may be given one.
    pub dispute: dispute::DisputeOptions,
    /// `[smtp]`: the mail server.
    pub mail: delivery::email::MailServer,
    /// `[webhook]`: where requests may go, and their bounds.
    pub webhook: webhook::WebhookOptions,
}

impl Parts {
    /// The broker's name of the topic called `id` in the topology.
    pub fn topic(&self, id: &str) -> Arc<str> {
        self.topology.topic(id).map_or_else(|| Arc::from(id), |topic| Arc::clone(&topic.name))
    }

    /// Reads the source of the stage called `name`: the event types and tenants that the topology lets it take.
    pub fn reader(&self, name: &str) -> intake::Reader {
        let takes = taken_by(&self.topology, name);
        let metrics = Arc::clone(&self.env.metrics);
        let tenants = self.topology.stage(name).map(|stage| stage.tenants.clone()).unwrap_or_default();
        intake::Reader::new(self.codec.clone(), Arc::clone(&self.cluster_id), takes, metrics)
            .for_tenants(tenants)
    }
}

/// The event types that the topology lets the stage called `name` take.
pub fn taken_by(topology: &Topology, name: &str) -> BTreeSet<EventType> {
    topology.stage(name).map(|stage| stage.takes.clone()).unwrap_or_default()
}

/// When failed work of the stage called `name` is tried again: the topology's policy. Without one it is tried once.
pub fn schedule_of(topology: &Topology, name: &str) -> Schedule {
    let declared = topology.stage(name).and_then(|stage| stage.retry.as_ref());
    declared.map_or(Schedule { attempts: 1, delays: Vec::new(), jitter_percent: 0 }, |retry| Schedule {
        attempts: retry.attempts,
        delays: retry.delays.clone(),
        // A share between 0 and 1, as the topology's own checks see to.
        jitter_percent: (retry.jitter * 100.0).round() as u32,
    })
}

/// A stage that can be started.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name, as in the topology, in topics and in metrics.
    pub name: &'static str,
    /// Starts one member of its group.
    pub start: fn(&Parts, StageSpec, CancellationToken) -> StageHandle,
}

/// Every stage there is.
pub const TABLE: &[Row] = &[
    Row { name: history::NAME, start: history::start },
    Row { name: notification::NAME, start: notification::start },
    Row { name: webhook::STAGE, start: webhook::start },
    Row { name: attempts::NAME, start: attempts::start },
    Row { name: dispute::NAME, start: dispute::start },
    Row { name: delivery::NAME, start: delivery::start },
];

/// Why a stage can't be started.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StartError {
    /// No such stage.
    #[error("there is no stage {name:?}; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The stages there are.
        known: String,
    },
    /// The program has the stage, but the topology doesn't declare it.
    #[error("the topology declares no stage {0:?}; add it under `stages`, or leave it out of --stages")]
    NotDeclared(&'static str),
}

/// The rows of the stages called `names`; `all` is every one.
///
/// # Errors
/// [`StartError::Unknown`] names the first that isn't there.
pub fn select(names: &[String]) -> Result<Vec<Row>, StartError> {
    if names.iter().any(|name| name == "all") {
        return Ok(TABLE.to_vec());
    }
    names
        .iter()
        .map(|name| {
            TABLE.iter().find(|row| row.name == name).copied().ok_or_else(|| StartError::Unknown {
                name: name.clone(),
                known: TABLE.iter().map(|row| row.name).collect::<Vec<_>>().join(", "),
            })
        })
        .collect()
}

/// Starts one member of each stage in `rows`; they end after `stop`.
///
/// # Errors
/// [`StartError::NotDeclared`] when the topology lacks one; nothing is started then.
pub fn start(parts: &Parts, rows: &[Row], stop: &CancellationToken) -> Result<Vec<StageHandle>, StartError> {
    let specs = rows
        .iter()
        .map(|row| {
            let stage = parts.topology.stage(row.name).ok_or(StartError::NotDeclared(row.name))?;
            Ok((row, spec(stage, parts)))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let specs = control::take_charge(parts, specs, stop);
    Ok(specs.into_iter().map(|(row, spec)| (row.start)(parts, spec, stop.clone())).collect())
}

/// What the engine has to know of a stage that the topology declares.
fn spec(stage: &topology::Stage, parts: &Parts) -> StageSpec {
    let options = &parts.options.runtime;
    // A stage that retries has targets outside, which may fall behind.
    let cursors = stage
        .retry_topic
        .as_ref()
        .map(|_| -> Arc<dyn CursorStore> { Arc::new(StoredCursors::new(parts.db.clone(), &stage.name)) });
    StageSpec {
        stage: stage.name.clone(),
        group: stage.group.to_string(),
        source: stage.source.to_string(),
        retry: stage.retry_topic.as_ref().map(ToString::to_string),
        dead_letters: stage.dead_letters.to_string(),
        start: match stage.start {
            topology::StartAt::Earliest => StartAt::Earliest,
            topology::StartAt::Latest => StartAt::Latest,
        },
        control: StageControl::default(),
        cursors,
        options: RuntimeOptions {
            concurrency: stage.concurrency,
            in_place_limit: stage.retry.as_ref().map_or(options.in_place_limit, |retry| retry.in_place),
            age_limit: stage.retry.as_ref().and_then(|retry| retry.age_limit),
            holds_lanes: stage
                .retry
                .as_ref()
                .is_some_and(|retry| retry.after_last == topology::AfterLast::Hold),
            ..options.clone()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_of_the_table_is_declared_in_the_built_in_topology() {
        let topology = Topology::built_in().unwrap();
        for row in TABLE {
            assert!(topology.stage(row.name).is_some(), "{} is not declared", row.name);
        }
        for stage in topology.stages() {
            assert!(TABLE.iter().any(|row| row.name == stage.name), "there is no stage {}", stage.name);
        }
    }

    #[test]
    fn an_unknown_stage_is_named() {
        assert_eq!(select(&["all".to_owned()]).unwrap().len(), TABLE.len());
        let error = select(&["histroy".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("histroy") && error.contains("history"), "{error}");
    }
}
