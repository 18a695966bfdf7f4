//! How far a store stage has got in a partition. It moves by compare-and-set, in the transaction that
//! stores the effects, so that of two members that believe they own a partition only one takes effect.

use super::{Database, StoreError, Transaction};

/// A stage's place in one partition of one topic of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    /// The stage.
    pub stage: &'a str,
    /// The Kafka cluster's id.
    pub cluster_id: &'a str,
    /// The topic's id, or its name where the broker tells none.
    pub topic_id: &'a str,
    /// The partition.
    pub partition: i32,
}

/// The next offset to take up, or `None` when the stage has stored nothing of this partition yet.
///
/// # Errors
/// When the database is away.
pub async fn position(db: &Database, place: &Place<'_>) -> Result<Option<i64>, StoreError> {
    let row = db
        .row(
            "SELECT next_offset FROM stage_offsets
             WHERE stage = $1 AND cluster_id = $2 AND topic_id = $3 AND partition = $4",
            &[place.stage.into(), place.cluster_id.into(), place.topic_id.into(), place.partition.into()],
        )
        .await?;
    row.map(|row| row.int("next_offset")).transpose()
}

/// The next offset of every partition that the stage called `stage` has handled anything of.
///
/// # Errors
/// When the store is away.
pub async fn of_stage(db: &Database, stage: &str) -> Result<Vec<(i32, i64)>, StoreError> {
    let rows =
        db.rows("SELECT partition, next_offset FROM stage_offsets WHERE stage = $1", &[stage.into()]).await?;
    rows.iter()
        .map(|row| {
            let partition = i32::try_from(row.int("partition")?).map_err(|error| StoreError::Corrupt {
                column: "partition".to_owned(),
                reason: error.to_string(),
            })?;
            Ok((partition, row.int("next_offset")?))
        })
        .collect()
}

/// Moves the position from `expected` to `next`; false when somebody else moved it meanwhile, and then
/// the caller rolls its transaction back.
///
/// # Errors
/// When the database is away.
pub async fn advance(
    tx: &mut Transaction,
    place: &Place<'_>,
    expected: Option<i64>,
    next: i64,
    last_event_id: Option<&str>,
) -> Result<bool, StoreError> {
    let key = [place.stage.into(), place.cluster_id.into(), place.topic_id.into(), place.partition.into()];
    let touched = match expected {
        None => {
            let values: Vec<_> = key.into_iter().chain([next.into(), last_event_id.into()]).collect();
            tx.execute(
                "INSERT INTO stage_offsets (stage, cluster_id, topic_id, partition, next_offset, last_event_id)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
                &values,
            )
            .await?
        }
        Some(expected) => {
            let values: Vec<_> =
                key.into_iter().chain([next.into(), last_event_id.into(), expected.into()]).collect();
            tx.execute(
                "UPDATE stage_offsets SET next_offset = $5, last_event_id = $6
                 WHERE stage = $1 AND cluster_id = $2 AND topic_id = $3 AND partition = $4 AND next_offset = $7",
                &values,
            )
            .await?
        }
    };
    Ok(touched == 1)
}

/// Moves the position back to `to`, whatever it is above that; false when it stands there or below. Whoever works on the
/// partition loses the next compare-and-set, and reads again from `to`.
///
/// # Errors
/// When the database is away.
pub async fn move_back(tx: &mut Transaction, place: &Place<'_>, to: i64) -> Result<bool, StoreError> {
    let touched = tx
        .execute(
            "UPDATE stage_offsets SET next_offset = $5, last_event_id = NULL
             WHERE stage = $1 AND cluster_id = $2 AND topic_id = $3 AND partition = $4 AND next_offset > $5",
            &[
                place.stage.into(),
                place.cluster_id.into(),
                place.topic_id.into(),
                place.partition.into(),
                to.into(),
            ],
        )
        .await?;
    Ok(touched == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_engine;

    const PLACE: Place<'_> = Place { stage: "history", cluster_id: "c", topic_id: "t", partition: 3 };

    #[tokio::test]
    async fn a_position_moves_only_from_where_the_mover_saw_it() {
        each_engine(async |db| {
            assert_eq!(position(&db, &PLACE).await.unwrap(), None);
            let mut tx = db.begin().await.unwrap();
            assert!(advance(&mut tx, &PLACE, None, 10, Some("e1")).await.unwrap());
            tx.commit().await.unwrap();

            let mut zombie = db.begin().await.unwrap();
            assert!(!advance(&mut zombie, &PLACE, None, 12, None).await.unwrap());
            assert!(!advance(&mut zombie, &PLACE, Some(9), 12, None).await.unwrap());
            drop(zombie);

            let mut tx = db.begin().await.unwrap();
            assert!(advance(&mut tx, &PLACE, Some(10), 11, None).await.unwrap());
            drop(tx);
            assert_eq!(position(&db, &PLACE).await.unwrap(), Some(10), "a dropped transaction is undone");
        })
        .await;
    }
}
