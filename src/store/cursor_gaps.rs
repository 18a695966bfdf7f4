//! Gaps: offsets that a target of a stage never got, because they had left the log.
//!
//! Gaps that somebody is to hear of wait in their own rows (`untold_since`) until they are told, so that several that are met
//! close in time are told at once, whoever met them, and none is told twice or forgotten over a restart.

use super::positions::Place;
use super::{Database, Row, StoreError, Transaction};

/// Offsets that a target never got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The target.
    pub target: String,
    /// The first.
    pub from: i64,
    /// Behind the last.
    pub to: i64,
    /// Since when somebody is to hear of it, epoch milliseconds; `None` where nobody is.
    pub untold_since: Option<i64>,
}

/// A gap that nobody has heard of yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// The stage.
    pub stage: String,
    /// The Kafka cluster's id.
    pub cluster_id: String,
    /// The topic's id.
    pub topic_id: String,
    /// The partition.
    pub partition: i64,
    /// The first offset.
    pub from: i64,
    /// Behind the last.
    pub to: i64,
    /// Since when it waits, epoch milliseconds.
    pub since: i64,
}

/// Keeps a gap. The same gap again changes nothing, whether it was told or not.
///
/// # Errors
/// As the database says; so for all below.
pub(super) async fn note(tx: &mut Transaction, place: &Place<'_>, gap: &Gap) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO cursor_gaps (stage, cluster_id, topic_id, partition, target, from_offset, to_offset, untold_since)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (stage, cluster_id, topic_id, partition, target, from_offset)
         DO UPDATE SET to_offset = excluded.to_offset, untold_since = excluded.untold_since
         WHERE cursor_gaps.to_offset <> excluded.to_offset",
        &[
            place.stage.into(),
            place.cluster_id.into(),
            place.topic_id.into(),
            place.partition.into(),
            gap.target.as_str().into(),
            gap.from.into(),
            gap.to.into(),
            gap.untold_since.into(),
        ],
    )
    .await
    .map(drop)
}

/// Targets, at most `limit`, that have untold gaps: none that is newer than `quiet_since`, or one that is at least as old as
/// `long_since` (epoch milliseconds).
pub async fn due(
    db: &Database,
    (quiet_since, long_since): (i64, i64),
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT target FROM cursor_gaps WHERE untold_since IS NOT NULL GROUP BY target
               HAVING MAX(untold_since) <= $1 OR MIN(untold_since) <= $2 ORDER BY MIN(untold_since) LIMIT $3";
    let rows = db.rows(sql, &[quiet_since.into(), long_since.into(), limit.into()]).await?;
    rows.iter().map(|row| row.text("target")).collect()
}

/// What `target` is to hear of, by place, at most `limit`.
pub async fn untold(db: &Database, target: &str, limit: i64) -> Result<Vec<Untold>, StoreError> {
    let sql = "SELECT * FROM cursor_gaps WHERE target = $1 AND untold_since IS NOT NULL
               ORDER BY stage, cluster_id, topic_id, partition, from_offset LIMIT $2";
    db.rows(sql, &[target.into(), limit.into()]).await?.iter().map(read).collect()
}

/// Notes that `target` heard of `gaps`, as [`untold`] gave them. False when one of them changed since or was told by somebody
/// else: then the transaction is to be dropped.
pub async fn tell(tx: &mut Transaction, target: &str, gaps: &[Untold]) -> Result<bool, StoreError> {
    for gap in gaps {
        let told = tx
            .execute(
                "UPDATE cursor_gaps SET untold_since = NULL
                 WHERE stage = $1 AND cluster_id = $2 AND topic_id = $3 AND partition = $4 AND target = $5
                   AND from_offset = $6 AND to_offset = $7 AND untold_since IS NOT NULL",
                &[
                    gap.stage.as_str().into(),
                    gap.cluster_id.as_str().into(),
                    gap.topic_id.as_str().into(),
                    gap.partition.into(),
                    target.into(),
                    gap.from.into(),
                    gap.to.into(),
                ],
            )
            .await?;
        if told == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read(row: &Row) -> Result<Untold, StoreError> {
    Ok(Untold {
        stage: row.text("stage")?,
        cluster_id: row.text("cluster_id")?,
        topic_id: row.text("topic_id")?,
        partition: row.int("partition")?,
        from: row.int("from_offset")?,
        to: row.int("to_offset")?,
        since: row.int("untold_since")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_engine;

    async fn met(db: &Database, partition: i32, (from, to): (i64, i64), at: Option<i64>) {
        let place = Place { stage: "webhook", cluster_id: "c", topic_id: "orders.events", partition };
        let mut tx = db.begin().await.unwrap();
        note(&mut tx, &place, &Gap { target: "wh_1".to_owned(), from, to, untold_since: at }).await.unwrap();
        tx.commit().await.unwrap();
    }

    #[tokio::test]
    async fn gaps_wait_for_each_other_and_are_told_once() {
        each_engine(async |db| {
            let due = async |quiet, long| due(&db, (quiet, long), 10).await.unwrap();
            let waiting = async || untold(&db, "wh_1", 10).await.unwrap();
            met(&db, 1, (5, 9), Some(2_000)).await;
            met(&db, 0, (1, 4), Some(1_000)).await;
            met(&db, 2, (1, 2), None).await;
            assert!(due(1_999, 999).await.is_empty(), "the newest is too new, the oldest not too old");
            assert_eq!(due(2_000, 0).await, ["wh_1"]);
            assert_eq!(due(0, 1_000).await, ["wh_1"]);
            let found = waiting().await;
            assert_eq!(
                found.iter().map(|gap| (gap.partition, gap.from)).collect::<Vec<_>>(),
                [(0, 1), (1, 5)]
            );

            // It is met again, longer than it was, while it is being told.
            met(&db, 1, (5, 12), Some(3_000)).await;
            let mut tx = db.begin().await.unwrap();
            assert!(!tell(&mut tx, "wh_1", &found).await.unwrap());
            drop(tx);
            let found = waiting().await;
            assert_eq!(found.len(), 2);
            let mut tx = db.begin().await.unwrap();
            assert!(tell(&mut tx, "wh_1", &found).await.unwrap());
            tx.commit().await.unwrap();

            // The write that met it is repeated, because its answer was lost.
            met(&db, 1, (5, 12), Some(4_000)).await;
            assert!(waiting().await.is_empty() && due(9_999, 9_999).await.is_empty());
            let mut tx = db.begin().await.unwrap();
            assert!(!tell(&mut tx, "wh_1", &found).await.unwrap(), "somebody told it already");
        })
        .await;
    }
}
