//! Pauses and resumes stages, and says which are.

use serde::Serialize;
use serde_json::json;

use super::Operator;
use crate::clock::Clock;
use crate::store::{Database, StoreError, controls};
use crate::topology::Topology;

/// Why a stage can't be paused or resumed.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The topology has no such stage.
    #[error("there is no stage {name:?}; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The stages there are.
        known: String,
    },
    /// The store refused or is away.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A stage and whether it is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StageState {
    /// Its name.
    pub stage: String,
    /// Whether it starts nothing new.
    pub paused: bool,
    /// Why it was paused or resumed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who did that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_by: Option<String>,
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<String>,
}

/// Every stage of the topology, by name.
///
/// # Errors
/// When the store is away.
pub async fn list(db: &Database, topology: &Topology) -> Result<Vec<StageState>, StoreError> {
    let known = controls::all(db).await?;
    let state = |name: &str| {
        let control = known.iter().find(|control| control.stage == name);
        StageState {
            stage: name.to_owned(),
            paused: control.is_some_and(|control| control.paused),
            reason: control.map(|control| control.reason.clone()),
            changed_by: control.map(|control| control.changed_by.clone()),
            changed_at: control.map(|control| crate::clock::rfc3339(control.changed_at_ms)),
        }
    };
    Ok(topology.stages().map(|stage| state(&stage.name)).collect())
}

/// Pauses a stage (`paused`), or lets it go on, and writes down who wanted it. Answers false when it is so already. Members
/// heed it within about a second, and after a restart.
///
/// # Errors
/// [`StageError::Unknown`], or when the store is away.
pub async fn set_paused(
    db: &Database,
    topology: &Topology,
    clock: &Clock,
    stage: &str,
    paused: bool,
    by: &Operator,
) -> Result<bool, StageError> {
    known(topology, stage)?;
    let action = if paused { "stage.pause" } else { "stage.resume" };
    Ok(controls::set_paused(db, paused, &by.entry(clock, action, stage, &json!({}))).await?)
}

/// The stage called `name`.
///
/// # Errors
/// [`StageError::Unknown`] lists those there are.
pub fn known<'a>(topology: &'a Topology, name: &str) -> Result<&'a crate::topology::Stage, StageError> {
    topology.stage(name).ok_or_else(|| StageError::Unknown {
        name: name.to_owned(),
        known: topology.stages().map(|stage| stage.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}
