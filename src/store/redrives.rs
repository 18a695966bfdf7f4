//! Redrives and the dead letters that they took up.
//!
//! A dead letter is claimed before its record is appended anywhere, and marked as sent afterwards: of two redrives at once
//! only one appends it, and one that crashed can be continued. A lane belongs to one runner at a time, so that two
//! redrives don't mix up its order.

use super::audit::{self, Entry};
use super::{Database, Row, StoreError, Transaction};

/// What a redrive was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    /// Its id.
    pub id: String,
    /// Which stage's dead letters.
    pub stage: String,
    /// Which of them and how, as JSON.
    pub wanted: String,
    /// When it came to its end, epoch milliseconds.
    pub ended_at_ms: Option<i64>,
}

/// A dead-letter topic of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shelf<'a> {
    /// The Kafka cluster's id.
    pub cluster_id: &'a str,
    /// The topic.
    pub topic: &'a str,
}

/// Dead letters of one lane, to be claimed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The redrive.
    pub redrive: &'a str,
    /// This run of it: a process that continues a crashed one is another runner.
    pub runner: &'a str,
    /// The lane.
    pub lane: &'a str,
    /// Where the letters lie: partition and offset.
    pub letters: &'a [(i32, i64)],
    /// The end of the partition to which they will be appended.
    pub target_end: i64,
    /// Now, epoch milliseconds.
    pub now_ms: i64,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// These are ours; the others were taken up before.
    Ours(Vec<(i32, i64)>),
    /// Another runner is at this lane.
    Busy,
}

/// A letter that was claimed and not marked as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// Where it lies: partition.
    pub partition: i32,
    /// Where it lies: offset.
    pub offset: i64,
    /// Its lane.
    pub lane: String,
    /// The end that the partition it was to be appended to had before.
    pub target_end: i64,
}

/// Notes that a redrive begins, or is taken up again, together with its entry in the audit.
///
/// # Errors
/// As the database says.
pub async fn begin(db: &Database, redrive: &Redrive, audited: &Entry) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    tx.execute(
        "INSERT INTO redrives (id, stage, wanted, started_by, started_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (id) DO NOTHING",
        &[
            redrive.id.as_str().into(),
            redrive.stage.as_str().into(),
            redrive.wanted.as_str().into(),
            audited.actor.as_str().into(),
            audited.at_ms.into(),
        ],
    )
    .await?;
    audit::write(&mut tx, audited).await?;
    tx.commit().await
}

/// Notes that a redrive came to its end, unless letters of it are claimed and not sent.
///
/// # Errors
/// As the database says.
pub async fn end(db: &Database, id: &str, audited: &Entry) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    tx.execute(
        "UPDATE redrives SET ended_at = $2 WHERE id = $1
         AND NOT EXISTS (SELECT 1 FROM redriven WHERE redrive_id = $1 AND sent_at IS NULL)",
        &[id.into(), audited.at_ms.into()],
    )
    .await?;
    audit::write(&mut tx, audited).await?;
    tx.commit().await
}

/// How many letters a redrive has claimed and not marked as sent.
///
/// # Errors
/// As the database says.
pub async fn unsent(db: &Database, id: &str) -> Result<u64, StoreError> {
    let sql = "SELECT count(*) AS letters FROM redriven WHERE redrive_id = $1 AND sent_at IS NULL";
    let row = db.row(sql, &[id.into()]).await?;
    let letters = row.map(|row| row.int("letters")).transpose()?;
    Ok(letters.and_then(|letters| u64::try_from(letters).ok()).unwrap_or(0))
}

/// The redrive called `id`.
///
/// # Errors
/// As the database says.
pub async fn find(db: &Database, id: &str) -> Result<Option<Redrive>, StoreError> {
    let row = db.row("SELECT id, stage, wanted, ended_at FROM redrives WHERE id = $1", &[id.into()]).await?;
    row.map(|row| {
        Ok(Redrive {
            id: row.text("id")?,
            stage: row.text("stage")?,
            wanted: row.text("wanted")?,
            ended_at_ms: row.opt_int("ended_at")?,
        })
    })
    .transpose()
}

/// Every letter of a topic that a redrive has taken up: partition and offset.
///
/// # Errors
/// As the database says.
pub async fn taken(db: &Database, shelf: Shelf<'_>) -> Result<Vec<(i32, i64)>, StoreError> {
    let rows = db
        .rows(
            "SELECT partition, at_offset FROM redriven WHERE cluster_id = $1 AND topic = $2",
            &[shelf.cluster_id.into(), shelf.topic.into()],
        )
        .await?;
    rows.iter().map(place).collect()
}

/// Claims letters of one lane.
///
/// # Errors
/// As the database says; nothing is claimed then.
pub async fn claim(db: &Database, shelf: Shelf<'_>, claim: &Claim<'_>) -> Result<Claimed, StoreError> {
    let mut tx = db.begin().await?;
    take_turn(&mut tx, shelf.topic).await?;
    let busy = tx
        .row(
            "SELECT 1 AS busy FROM redriven
             WHERE topic = $1 AND lane = $2 AND sent_at IS NULL AND cluster_id = $3 AND runner <> $4 LIMIT 1",
            &[shelf.topic.into(), claim.lane.into(), shelf.cluster_id.into(), claim.runner.into()],
        )
        .await?;
    if busy.is_some() {
        return Ok(Claimed::Busy);
    }
    let mut ours = Vec::new();
    for &(partition, offset) in claim.letters {
        let inserted = tx
            .execute(
                "INSERT INTO redriven (cluster_id, topic, partition, at_offset, lane, redrive_id, runner, claimed_at,
                     target_end)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
                &[
                    shelf.cluster_id.into(),
                    shelf.topic.into(),
                    partition.into(),
                    offset.into(),
                    claim.lane.into(),
                    claim.redrive.into(),
                    claim.runner.into(),
                    claim.now_ms.into(),
                    claim.target_end.into(),
                ],
            )
            .await?;
        if inserted == 1 {
            ours.push((partition, offset));
        }
    }
    tx.commit().await?;
    Ok(Claimed::Ours(ours))
}

/// Gives `runner` what a crashed run of the redrive claimed before `before_ms` and didn't mark as sent.
///
/// # Errors
/// As the database says.
pub async fn take_over(
    db: &Database,
    shelf: Shelf<'_>,
    redrive: &str,
    runner: &str,
    before_ms: i64,
    now_ms: i64,
) -> Result<Vec<Unsent>, StoreError> {
    let mut tx = db.begin().await?;
    take_turn(&mut tx, shelf.topic).await?;
    tx.execute(
        "UPDATE redriven SET runner = $4, claimed_at = $6
         WHERE cluster_id = $1 AND topic = $2 AND redrive_id = $3 AND sent_at IS NULL AND claimed_at <= $5",
        &[
            shelf.cluster_id.into(),
            shelf.topic.into(),
            redrive.into(),
            runner.into(),
            before_ms.into(),
            now_ms.into(),
        ],
    )
    .await?;
    let rows = tx
        .rows(
            "SELECT partition, at_offset, lane, target_end FROM redriven
             WHERE cluster_id = $1 AND topic = $2 AND redrive_id = $3 AND runner = $4 AND sent_at IS NULL",
            &[shelf.cluster_id.into(), shelf.topic.into(), redrive.into(), runner.into()],
        )
        .await?;
    tx.commit().await?;
    rows.iter()
        .map(|row| {
            let (partition, offset) = place(row)?;
            Ok(Unsent { partition, offset, lane: row.text("lane")?, target_end: row.int("target_end")? })
        })
        .collect()
}

/// Marks letters of a topic as sent.
///
/// # Errors
/// As the database says.
pub async fn sent(
    db: &Database,
    shelf: Shelf<'_>,
    letters: &[(i32, i64)],
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    for &(partition, offset) in letters {
        tx.execute(
            "UPDATE redriven SET sent_at = $5
             WHERE cluster_id = $1 AND topic = $2 AND partition = $3 AND at_offset = $4",
            &[shelf.cluster_id.into(), shelf.topic.into(), partition.into(), offset.into(), now_ms.into()],
        )
        .await?;
    }
    tx.commit().await
}

/// Claims on one topic come one after the other, so that none misses what another just did.
async fn take_turn(tx: &mut Transaction, topic: &str) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO redrive_turns (topic, taken) VALUES ($1, 1)
         ON CONFLICT (topic) DO UPDATE SET taken = redrive_turns.taken + 1",
        &[topic.into()],
    )
    .await
    .map(drop)
}

fn place(row: &Row) -> Result<(i32, i64), StoreError> {
    let partition = i32::try_from(row.int("partition")?).map_err(|_| StoreError::Corrupt {
        column: "partition".to_owned(),
        reason: "no partition has that number".to_owned(),
    })?;
    Ok((partition, row.int("at_offset")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_engine;

    const SHELF: Shelf<'_> = Shelf { cluster_id: "c", topic: "dlq" };

    fn of<'a>(runner: &'a str, letters: &'a [(i32, i64)]) -> Claim<'a> {
        Claim { redrive: "r", runner, lane: "a", letters, target_end: 7, now_ms: 1_000 }
    }

    #[tokio::test]
    async fn a_letter_is_claimed_once_and_a_lane_belongs_to_one_runner_at_a_time() {
        each_engine(async |db| {
            let first = claim(&db, SHELF, &of("one", &[(0, 1), (0, 2)])).await.unwrap();
            assert_eq!(first, Claimed::Ours(vec![(0, 1), (0, 2)]));
            // Another letter of that lane has to wait until those before it are there.
            assert_eq!(claim(&db, SHELF, &of("two", &[(0, 3)])).await.unwrap(), Claimed::Busy);
            let other = Claim { lane: "b", ..of("two", &[(0, 4)]) };
            assert_eq!(claim(&db, SHELF, &other).await.unwrap(), Claimed::Ours(vec![(0, 4)]));
            sent(&db, SHELF, &[(0, 1), (0, 2)], 2_000).await.unwrap();
            let second = claim(&db, SHELF, &of("two", &[(0, 2), (0, 3)])).await.unwrap();
            assert_eq!(second, Claimed::Ours(vec![(0, 3)]), "what was sent is not sent again");
            let mut all = taken(&db, SHELF).await.unwrap();
            all.sort_unstable();
            assert_eq!(all, [(0, 1), (0, 2), (0, 3), (0, 4)]);
        })
        .await;
    }

    #[tokio::test]
    async fn what_a_crashed_run_claimed_is_taken_over_when_it_is_old_enough() {
        each_engine(async |db| {
            claim(&db, SHELF, &of("one", &[(0, 1), (0, 2)])).await.unwrap();
            sent(&db, SHELF, &[(0, 1)], 1_500).await.unwrap();
            assert_eq!(take_over(&db, SHELF, "r", "two", 999, 5_000).await.unwrap(), []);
            let unsent = Unsent { partition: 0, offset: 2, lane: "a".to_owned(), target_end: 7 };
            assert_eq!(take_over(&db, SHELF, "r", "two", 1_000, 5_000).await.unwrap(), [unsent]);
            assert_eq!(
                take_over(&db, SHELF, "r", "three", 4_999, 5_000).await.unwrap(),
                [],
                "it has a new owner"
            );
        })
        .await;
    }
}
