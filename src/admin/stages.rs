//! Pauses and resumes stages, and says which are.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::Operator;
use crate::clock::{Clock, rfc3339};
use crate::store::{Database, StoreError, controls};
use crate::topology::{self, Topology};

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

/// Tells which stages are paused, and changes that. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stages {
    db: Database,
    clock: Clock,
    names: Arc<[String]>,
}

impl Stages {
    /// Over the stages called `names`.
    pub fn new(db: Database, clock: Clock, names: impl IntoIterator<Item = String>) -> Self {
        Self { db, clock, names: names.into_iter().collect() }
    }

    /// Every stage, by name.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn list(&self) -> Result<Vec<StageState>, StoreError> {
        let known = controls::all(&self.db).await?;
        let state = |name: &String| {
            let control = known.iter().find(|control| control.stage == *name);
            StageState {
                stage: name.clone(),
                paused: control.is_some_and(|control| control.paused),
                reason: control.map(|control| control.reason.clone()),
                changed_by: control.map(|control| control.changed_by.clone()),
                changed_at: control.map(|control| rfc3339(control.changed_at_ms)),
            }
        };
        Ok(self.names.iter().map(state).collect())
    }

    /// Pauses a stage (`paused`), or lets it go on, and writes down who wanted it. Answers false when it is so already.
    /// Members heed it within about a second, and after a restart.
    ///
    /// # Errors
    /// [`StageError::Unknown`], or when the store is away.
    pub async fn set_paused(&self, stage: &str, paused: bool, by: &Operator) -> Result<bool, StageError> {
        if !self.names.iter().any(|name| name == stage) {
            return Err(StageError::unknown(stage, self.names.iter().map(String::as_str)));
        }
        let action = if paused { "stage.pause" } else { "stage.resume" };
        let audited = by.entry(&self.clock, action, stage, &json!({}));
        Ok(controls::set_paused(&self.db, paused, &audited).await?)
    }
}

/// The stage called `name`.
///
/// # Errors
/// [`StageError::Unknown`] lists those there are.
pub fn known<'a>(topology: &'a Topology, name: &str) -> Result<&'a topology::Stage, StageError> {
    let names = || topology.stages().map(|stage| stage.name.as_str());
    topology.stage(name).ok_or_else(|| StageError::unknown(name, names()))
}

impl StageError {
    fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        Self::Unknown { name: name.to_owned(), known: known.collect::<Vec<_>>().join(", ") }
    }
}
