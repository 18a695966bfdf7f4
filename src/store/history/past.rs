//! The history by where its events lay in Kafka: for those who need records that have left the log.
//!
//! A program of an older version, which may run beside this one while it is replaced, keeps events without their cluster. Where
//! the store knows positions of one cluster alone in a partition, such events are that cluster's, and are noted so when they are
//! asked for. Where it knows several, nobody can tell: they are nobody's events, and [`doubtful`] names those that may be missing.

use super::{StoredEvent, stored_event};
use crate::crypto::Vault;
use crate::event::{Codec, Defaults, EncodeError, Event};
use crate::store::{Database, Row, StoreError};

/// An event, and where it lay.
#[derive(Debug, Clone, PartialEq)]
pub struct PastEvent {
    /// The tenant.
    pub tenant: String,
    /// The order.
    pub order_id: String,
    /// The offset.
    pub offset: i64,
    /// The event.
    pub stored: StoredEvent,
}

/// A partition of a topic. What lay at the same offset of another cluster is another event.
#[derive(Debug, Clone, Copy)]
pub struct Log<'a> {
    /// The Kafka cluster.
    pub cluster_id: &'a str,
    /// The topic, as named on the broker.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
}

/// The lowest offset whose event is kept.
///
/// # Errors
/// As the database says.
pub async fn first(db: &Database, log: Log<'_>) -> Result<Option<i64>, StoreError> {
    adopt(db, log).await?;
    let sql = "SELECT MIN(record_offset) AS first FROM order_events WHERE cluster_id = $1 AND topic = $2 AND partition = $3";
    let row = db.row(sql, &[log.cluster_id.into(), log.topic.into(), log.partition.into()]).await?;
    row.map_or(Ok(None), |row| row.opt_int("first"))
}

/// The lowest offset below `below` whose event happened at `at_ms` or later.
///
/// # Errors
/// As the database says.
pub async fn first_since(
    db: &Database,
    log: Log<'_>,
    below: i64,
    at_ms: i64,
) -> Result<Option<i64>, StoreError> {
    adopt(db, log).await?;
    let sql = "SELECT record_offset FROM order_events
               WHERE cluster_id = $1 AND topic = $2 AND partition = $3 AND record_offset < $4 AND occurred_at >= $5
               ORDER BY record_offset LIMIT 1";
    let values = [log.cluster_id.into(), log.topic.into(), log.partition.into(), below.into(), at_ms.into()];
    db.row(sql, &values).await?.map(|row| row.int("record_offset")).transpose()
}

/// The events of `from..to`, by offset, at most `limit`.
///
/// # Errors
/// As the database says.
pub async fn between(
    db: &Database,
    log: Log<'_>,
    (from, to): (i64, i64),
    limit: i64,
) -> Result<Vec<PastEvent>, StoreError> {
    adopt(db, log).await?;
    let sql = "SELECT * FROM order_events
               WHERE cluster_id = $1 AND topic = $2 AND partition = $3 AND record_offset >= $4 AND record_offset < $5
               ORDER BY record_offset LIMIT $6";
    let values =
        [log.cluster_id.into(), log.topic.into(), log.partition.into(), from.into(), to.into(), limit.into()];
    db.rows(sql, &values).await?.iter().map(past_event).collect()
}

/// The lowest offset of `from..to` at which an event without a cluster was kept, later than the first of this log, and none of
/// this log: it may be this log's, or another cluster's.
///
/// # Errors
/// As the database says.
pub async fn doubtful(
    db: &Database,
    log: Log<'_>,
    (from, to): (i64, i64),
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT MIN(u.record_offset) AS first FROM order_events u
               WHERE u.cluster_id IS NULL AND u.topic = $2 AND u.partition = $3 AND u.record_offset >= $4
                 AND u.record_offset < $5
                 AND u.recorded_at >= (SELECT e.recorded_at FROM order_events e
                     WHERE e.cluster_id = $1 AND e.topic = $2 AND e.partition = $3 ORDER BY e.record_offset LIMIT 1)
                 AND NOT EXISTS (SELECT 1 FROM order_events e WHERE e.cluster_id = $1 AND e.topic = $2
                     AND e.partition = $3 AND e.record_offset = u.record_offset)";
    let values = [log.cluster_id.into(), log.topic.into(), log.partition.into(), from.into(), to.into()];
    db.row(sql, &values).await?.map_or(Ok(None), |row| row.opt_int("first"))
}

/// What is done with the events of a partition that no cluster is known of, where only the one asked for can be theirs.
macro_rules! orphans_sql {
    ($verb:literal, $rest:literal) => {
        concat!(
            $verb,
            " WHERE cluster_id IS NULL AND topic = $2 AND partition = $3
              AND EXISTS (SELECT 1 FROM stage_offsets
                  WHERE cluster_id = $1 AND topic_id = $2 AND partition = $3)
              AND NOT EXISTS (SELECT 1 FROM stage_offsets
                  WHERE cluster_id <> $1 AND topic_id = $2 AND partition = $3)",
            $rest
        )
    };
}

/// Gives events without a cluster the one of `log`, if no other is known in its partition.
async fn adopt(db: &Database, log: Log<'_>) -> Result<(), StoreError> {
    let values = [log.cluster_id.into(), log.topic.into(), log.partition.into()];
    // Reading asks often, and mostly there is nothing to adopt: nobody waits for a transaction that writes nothing.
    if db.row(orphans_sql!("SELECT 1 AS one FROM order_events", " LIMIT 1"), &values).await?.is_none() {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    let adopted = tx.execute(orphans_sql!("UPDATE order_events SET cluster_id = $1", ""), &values).await?;
    tx.commit().await?;
    if adopted > 0 {
        let (topic, partition) = (log.topic, log.partition);
        tracing::info!(
            topic,
            partition,
            adopted,
            "events that an older program kept are of the only cluster there is"
        );
    }
    Ok(())
}

/// Why an event's record can't be made anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotMade {
    /// The registry is away.
    #[error("{0}")]
    Away(String),
    /// What is kept is no event, or doesn't fit its schema.
    #[error("{0}")]
    Never(String),
}

/// The value of the record that `past` was, written with the newest schema of `topic`: the same event, not the same
/// bytes.
///
/// # Errors
/// See [`NotMade`].
pub async fn value(past: &PastEvent, topic: &str, vault: &Vault, codec: &Codec) -> Result<Vec<u8>, NotMade> {
    let never = |why: String| NotMade::Never(why);
    let mut json = past.stored.unmasked(vault, &past.tenant).map_err(|error| never(error.to_string()))?;
    if let Some(envelope) = json.as_object_mut() {
        // A record without an id of its own has the one that was made of its place.
        envelope.insert("id".to_owned(), past.stored.event_id.as_str().into());
    }
    let event = Event::from_json(&json, &Defaults::default()).map_err(|faults| never(faults.to_string()))?;
    codec.encode(topic, &event).await.map_err(|error| match error {
        EncodeError::Invalid(why) => NotMade::Never(why),
        EncodeError::NotRegistered { .. } | EncodeError::Refused(_) | EncodeError::RegistryUnavailable(_) => {
            NotMade::Away(error.to_string())
        }
    })
}

fn past_event(row: &Row) -> Result<PastEvent, StoreError> {
    Ok(PastEvent {
        tenant: row.text("tenant_id")?,
        order_id: row.text("order_id")?,
        offset: row.int("record_offset")?,
        stored: stored_event(row)?,
    })
}
