//! Who asks for something, and why: it ends up in the audit.

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::clock::{Clock, rfc3339};
use crate::store::audit::{self, Entry};
use crate::store::{Database, StoreError};

/// Somebody who operates the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Who it is: a user of the machine, or the subject of a token.
    pub name: String,
    /// Why, in their words; may be empty.
    pub reason: String,
}

impl Operator {
    /// An entry of the audit for what this operator does now.
    pub(super) fn entry(&self, clock: &Clock, action: &str, stage: &str, detail: &Value) -> Entry {
        Entry {
            id: Uuid::now_v7().to_string(),
            at_ms: clock.now_ms(),
            actor: self.name.clone(),
            action: action.to_owned(),
            stage: stage.to_owned(),
            reason: self.reason.clone(),
            detail: detail.to_string(),
        }
    }
}

/// One thing that somebody did, for people and machines to read.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audited {
    /// Its id; ids sort by time.
    pub id: String,
    /// When, RFC 3339.
    pub at: String,
    /// Who.
    pub actor: String,
    /// What, as `stage.pause`.
    pub action: String,
    /// To which stage.
    pub stage: String,
    /// Why, in the actor's words.
    pub reason: String,
    /// What belongs to it.
    pub detail: Value,
}

/// What was done last, newest first: the `limit` entries before `before`, of one stage or of all.
///
/// # Errors
/// When the store is away.
pub async fn audit(
    db: &Database,
    stage: Option<&str>,
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<Audited>, StoreError> {
    let entries = audit::newest(db, stage, before, limit).await?;
    let audited = |entry: Entry| Audited {
        id: entry.id,
        at: rfc3339(entry.at_ms),
        actor: entry.actor,
        action: entry.action,
        stage: entry.stage,
        reason: entry.reason,
        detail: serde_json::from_str(&entry.detail).unwrap_or(Value::String(entry.detail)),
    };
    Ok(entries.into_iter().map(audited).collect())
}
