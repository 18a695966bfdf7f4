//! Gaps: offsets that a target of a stage never got, because they had left the log.
//!
//! Gaps that somebody is to hear of wait in their own rows (`untold_since`) until they are told, so that several that are met
//! close in time are told at once, whoever met them, and none is told twice or forgotten over a restart. What was told, or is
//! nobody's to hear, is forgotten some time after it was met.

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
    /// When it was met, epoch milliseconds.
    pub met_at: i64,
    /// Somebody is to hear of it.
    pub to_tell: bool,
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
        "INSERT INTO cursor_gaps (stage, cluster_id, topic_id, partition, target, from_offset, to_offset, met_at,
             untold_since)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (stage, cluster_id, topic_id, partition, target, from_offset)
         DO UPDATE SET to_offset = excluded.to_offset, met_at = excluded.met_at,
             untold_since = excluded.untold_since
         WHERE cursor_gaps.to_offset <> excluded.to_offset",
        &[
            place.stage.into(),
            place.cluster_id.into(),
            place.topic_id.into(),
            place.partition.into(),
            gap.target.as_str().into(),
            gap.from.into(),
            gap.to.into(),
            gap.met_at.into(),
            gap.to_tell.then_some(gap.met_at).into(),
        ],
    )
    .await
    .map(drop)
}

/// Targets behind `after` by name, at most `limit`, that have untold gaps: none that is newer than `quiet_since`, or one that is
/// at least as old as `long_since` (epoch milliseconds). Whoever asks on behind the last of them gets at each in the end.
pub async fn due(
    db: &Database,
    (quiet_since, long_since): (i64, i64),
    after: &str,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT target FROM cursor_gaps WHERE untold_since IS NOT NULL AND target > $3 GROUP BY target
               HAVING MAX(untold_since) <= $1 OR MIN(untold_since) <= $2 ORDER BY target LIMIT $4";
    let values = [quiet_since.into(), long_since.into(), after.into(), limit.into()];
    let rows = db.rows(sql, &values).await?;
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

/// Forgets at most `limit` of the gaps that were met before `before_ms` and that nobody is to hear of any more. Those of an
/// older program, which doesn't say when it met them, count as met at `now_ms`: at most `limit` are marked so. Answers how many
/// were forgotten or marked, whichever are more: fewer than `limit` leave nothing for another call.
pub async fn forget(db: &Database, before_ms: i64, now_ms: i64, limit: i64) -> Result<u64, StoreError> {
    let mut tx = db.begin().await?;
    let marked = tx
        .execute(
            "UPDATE cursor_gaps SET met_at = $1 WHERE (stage, cluster_id, topic_id, partition, target, from_offset) IN
                 (SELECT stage, cluster_id, topic_id, partition, target, from_offset FROM cursor_gaps
                  WHERE met_at IS NULL LIMIT $2)",
            &[now_ms.into(), limit.into()],
        )
        .await?;
    let forgotten = tx
        .execute(
            "DELETE FROM cursor_gaps WHERE (stage, cluster_id, topic_id, partition, target, from_offset) IN
                 (SELECT stage, cluster_id, topic_id, partition, target, from_offset FROM cursor_gaps
                  WHERE met_at < $1 AND untold_since IS NULL LIMIT $2)",
            &[before_ms.into(), limit.into()],
        )
        .await?;
    tx.commit().await?;
    Ok(forgotten.max(marked))
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

    fn gap(target: &str, (from, to): (i64, i64), met_at: i64) -> Gap {
        Gap { target: target.to_owned(), from, to, met_at, to_tell: true }
    }

    async fn met(db: &Database, partition: i32, gap: Gap) {
        let place = Place { stage: "webhook", cluster_id: "c", topic_id: "orders.events", partition };
        let mut tx = db.begin().await.unwrap();
        note(&mut tx, &place, &gap).await.unwrap();
        tx.commit().await.unwrap();
    }

    #[tokio::test]
    async fn gaps_wait_for_each_other_and_are_told_once() {
        each_engine(async |db| {
            let due = async |quiet, long| due(&db, (quiet, long), "", 10).await.unwrap();
            let waiting = async || untold(&db, "wh_1", 10).await.unwrap();
            met(&db, 1, gap("wh_1", (5, 9), 2_000)).await;
            met(&db, 0, gap("wh_1", (1, 4), 1_000)).await;
            met(&db, 2, Gap { to_tell: false, ..gap("wh_1", (1, 2), 2_000) }).await;
            assert!(due(1_999, 999).await.is_empty(), "the newest is too new, the oldest not too old");
            assert_eq!(due(2_000, 0).await, ["wh_1"]);
            assert_eq!(due(0, 1_000).await, ["wh_1"]);
            let found = waiting().await;
            assert_eq!(
                found.iter().map(|gap| (gap.partition, gap.from)).collect::<Vec<_>>(),
                [(0, 1), (1, 5)]
            );

            // It is met again, longer than it was, while it is being told.
            met(&db, 1, gap("wh_1", (5, 12), 3_000)).await;
            let mut tx = db.begin().await.unwrap();
            assert!(!tell(&mut tx, "wh_1", &found).await.unwrap());
            drop(tx);
            let found = waiting().await;
            assert_eq!(found.len(), 2);
            let mut tx = db.begin().await.unwrap();
            assert!(tell(&mut tx, "wh_1", &found).await.unwrap());
            tx.commit().await.unwrap();

            // The write that met it is repeated, because its answer was lost.
            met(&db, 1, gap("wh_1", (5, 12), 4_000)).await;
            assert!(waiting().await.is_empty() && due(9_999, 9_999).await.is_empty());
            let mut tx = db.begin().await.unwrap();
            assert!(!tell(&mut tx, "wh_1", &found).await.unwrap(), "somebody told it already");
        })
        .await;
    }

    #[tokio::test]
    async fn whoever_asks_on_gets_at_each_target_though_none_is_told() {
        each_engine(async |db| {
            for (nth, target) in ["wh_3", "wh_1", "wh_5", "wh_4", "wh_2"].into_iter().enumerate() {
                met(&db, 0, gap(target, (1, 4), 1_000 + nth as i64)).await;
            }
            let mut behind = String::new();
            let mut seen = Vec::new();
            for _ in 0..3 {
                let page = due(&db, (2_000, 0), &behind, 2).await.unwrap();
                behind = page.last().cloned().unwrap();
                seen.extend(page);
            }
            assert_eq!(seen, ["wh_1", "wh_2", "wh_3", "wh_4", "wh_5"]);
            assert!(due(&db, (2_000, 0), &behind, 2).await.unwrap().is_empty());
        })
        .await;
    }

    #[tokio::test]
    async fn gaps_are_forgotten_in_time_but_not_before_they_are_told() {
        each_engine(async |db| {
            let left = async || {
                let rows =
                    db.rows("SELECT partition FROM cursor_gaps ORDER BY partition", &[]).await.unwrap();
                rows.iter().map(|row| row.int("partition").unwrap()).collect::<Vec<_>>()
            };
            for (partition, met_at, to_tell) in [(0, 1_000, false), (1, 1_000, true), (2, 2_000, false)] {
                met(&db, partition, Gap { to_tell, ..gap("wh_1", (1, 4), met_at) }).await;
            }
            // As a program does that doesn't know when it met them.
            met(&db, 3, Gap { to_tell: false, ..gap("wh_1", (1, 4), 1) }).await;
            let mut tx = db.begin().await.unwrap();
            tx.execute("UPDATE cursor_gaps SET met_at = NULL WHERE partition = 3", &[]).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!((forget(&db, 2_000, 5_000, 10).await.unwrap(), left().await), (1, vec![1, 2, 3]));

            let told = untold(&db, "wh_1", 10).await.unwrap();
            let mut tx = db.begin().await.unwrap();
            assert!(tell(&mut tx, "wh_1", &told).await.unwrap());
            tx.commit().await.unwrap();
            assert_eq!((forget(&db, 5_000, 6_000, 1).await.unwrap(), left().await.len()), (1, 2));
            assert_eq!((forget(&db, 5_000, 6_000, 10).await.unwrap(), left().await), (1, vec![3]));
            assert_eq!((forget(&db, 5_001, 7_000, 10).await.unwrap(), left().await), (1, vec![]));
        })
        .await;
    }
}
