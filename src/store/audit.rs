//! Who did what to a running system, and why. Entries are written in the transaction of what they tell of, and never
//! changed.

use super::{Database, Row, StoreError, Transaction};

/// One thing that somebody did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id: a UUIDv7, so that ids sort by time.
    pub id: String,
    /// When, epoch milliseconds.
    pub at_ms: i64,
    /// Who.
    pub actor: String,
    /// What, as `stage.pause`.
    pub action: String,
    /// To which stage.
    pub stage: String,
    /// Why, in the actor's words; may be empty.
    pub reason: String,
    /// Whatever belongs to the action, as JSON.
    pub detail: String,
}

/// Writes an entry.
///
/// # Errors
/// As the database says.
pub async fn write(tx: &mut Transaction, entry: &Entry) -> Result<(), StoreError> {
    let Entry { id, at_ms, actor, action, stage, reason, detail } = entry;
    tx.execute(
        "INSERT INTO audit (id, at, actor, action, stage, reason, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[
            id.as_str().into(),
            (*at_ms).into(),
            actor.as_str().into(),
            action.as_str().into(),
            stage.as_str().into(),
            reason.as_str().into(),
            detail.as_str().into(),
        ],
    )
    .await
    .map(drop)
}

/// The newest `limit` entries before the entry called `before` (of all, without), of one stage or of all.
///
/// # Errors
/// As the database says.
pub async fn newest(
    db: &Database,
    stage: Option<&str>,
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<Entry>, StoreError> {
    let rows = db
        .rows(
            "SELECT id, at, actor, action, stage, reason, detail FROM audit
             WHERE ($1 = '' OR stage = $1) AND ($2 = '' OR id < $2) ORDER BY id DESC LIMIT $3",
            &[stage.unwrap_or_default().into(), before.unwrap_or_default().into(), limit.into()],
        )
        .await?;
    rows.iter().map(entry).collect()
}

fn entry(row: &Row) -> Result<Entry, StoreError> {
    Ok(Entry {
        id: row.text("id")?,
        at_ms: row.int("at")?,
        actor: row.text("actor")?,
        action: row.text("action")?,
        stage: row.text("stage")?,
        reason: row.text("reason")?,
        detail: row.text("detail")?,
    })
}
