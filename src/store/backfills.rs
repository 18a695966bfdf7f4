//! Backfills of webhook endpoints: what was asked for, and how far each partition's part is.
//!
//! The parts are written by the owners of the partitions, together with their cursors (see [`super::cursors`]); what
//! is asked of them travels as a wish.

use super::cursors::{self, BackfillPart, Wish};
use super::positions::Place;
use super::{Database, Row, StoreError, Transaction};

/// A backfill as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// The tenant.
    pub tenant: String,
    /// Its id.
    pub id: String,
    /// The endpoint.
    pub endpoint_id: String,
    /// Who asked.
    pub asked_by: String,
    /// When, epoch milliseconds.
    pub asked_at: i64,
    /// `running`, `done` or `cancelled`.
    pub state: String,
    /// Events per second, times 1,000; `None` is as fast as it goes.
    pub rate_milli: Option<i64>,
    /// Of every order only the newest event.
    pub newest_only: bool,
}

/// One partition's part, with the place that its owner is asked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The stage.
    pub stage: String,
    /// The Kafka cluster.
    pub cluster_id: String,
    /// The topic, as the stage knows it.
    pub topic_id: String,
    /// The partition.
    pub partition: i32,
    /// How far it is.
    pub progress: BackfillPart,
}

impl Part {
    /// Where its owner is asked.
    pub fn place(&self) -> Place<'_> {
        Place {
            stage: &self.stage,
            cluster_id: &self.cluster_id,
            topic_id: &self.topic_id,
            partition: self.partition,
        }
    }
}

/// Asks for a backfill: each part's owner is asked with its wish. Answers false when one of the endpoint runs already;
/// nothing is stored then.
///
/// # Errors
/// When the database is away.
pub async fn begin(db: &Database, backfill: &Backfill, parts: &[(Part, Wish)]) -> Result<bool, StoreError> {
    let mut tx = db.begin().await?;
    close(&mut tx, backfill.asked_at).await?;
    let added = tx
        .execute(
            "INSERT INTO backfills (tenant_id, id, endpoint_id, asked_by, asked_at, state, rate_milli, newest_only)
             VALUES ($1, $2, $3, $4, $5, 'running', $6, $7) ON CONFLICT DO NOTHING",
            &[
                backfill.tenant.as_str().into(),
                backfill.id.as_str().into(),
                backfill.endpoint_id.as_str().into(),
                backfill.asked_by.as_str().into(),
                backfill.asked_at.into(),
                backfill.rate_milli.into(),
                i64::from(backfill.newest_only).into(),
            ],
        )
        .await?;
    if added == 0 {
        return Ok(false);
    }
    for (part, wish) in parts {
        add_part(&mut tx, &backfill.tenant, part).await?;
        cursors::ask_within(&mut tx, &part.place(), wish).await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// Whether a backfill of an endpoint runs.
///
/// # Errors
/// When the database is away.
pub async fn is_running(db: &Database, tenant: &str, endpoint_id: &str) -> Result<bool, StoreError> {
    let sql = "SELECT b.id FROM backfills b JOIN backfill_parts p ON p.tenant_id = b.tenant_id AND p.backfill_id = b.id
               WHERE b.tenant_id = $1 AND b.endpoint_id = $2 AND b.state = 'running' AND p.state = 'running' LIMIT 1";
    Ok(db.row(sql, &[tenant.into(), endpoint_id.into()]).await?.is_some())
}

/// A backfill of an endpoint and its parts, by stage and partition. It is over when its parts are.
///
/// # Errors
/// When the database is away.
pub async fn find(
    db: &Database,
    (tenant, endpoint_id, id): (&str, &str, &str),
) -> Result<Option<(Backfill, Vec<Part>)>, StoreError> {
    let row = db
        .row(
            "SELECT * FROM backfills WHERE tenant_id = $1 AND endpoint_id = $2 AND id = $3",
            &[tenant.into(), endpoint_id.into(), id.into()],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let sql = "SELECT * FROM backfill_parts WHERE tenant_id = $1 AND backfill_id = $2
               ORDER BY stage, topic_id, partition";
    let parts = db.rows(sql, &[tenant.into(), id.into()]).await?;
    let parts = parts.iter().map(part).collect::<Result<Vec<_>, _>>()?;
    let mut found = backfill(&row)?;
    if found.state == "running" && parts.iter().all(|part| part.progress.state != "running") {
        found.state = "done".to_owned();
    }
    Ok(Some((found, parts)))
}

/// Cancels a backfill that runs: the owners of its unfinished parts are asked to. Answers whether it ran.
///
/// # Errors
/// When the database is away.
pub async fn cancel(
    db: &Database,
    (tenant, endpoint_id, id): (&str, &str, &str),
    now_ms: i64,
) -> Result<bool, StoreError> {
    let Some((found, parts)) = find(db, (tenant, endpoint_id, id)).await? else { return Ok(false) };
    if found.state != "running" {
        return Ok(false);
    }
    let mut tx = db.begin().await?;
    let cancelled = tx
        .execute(
            "UPDATE backfills SET state = 'cancelled', ended_at = $4
             WHERE tenant_id = $1 AND endpoint_id = $2 AND id = $3 AND state = 'running'",
            &[tenant.into(), endpoint_id.into(), id.into(), now_ms.into()],
        )
        .await?;
    if cancelled == 0 {
        return Ok(false);
    }
    for part in parts.iter().filter(|part| part.progress.state == "running") {
        let wish = Wish {
            target: endpoint_id.to_owned(),
            kind: "cancel_backfill".to_owned(),
            from: None,
            to: None,
            backfill: Some(id.to_owned()),
            every_micros: None,
            newest_only: false,
        };
        cursors::ask_within(&mut tx, &part.place(), &wish).await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// Forgets backfills that ended before `before_ms`; at `now_ms` those whose parts are over end. Answers how many are
/// forgotten.
///
/// # Errors
/// When the database is away.
pub async fn forget(db: &Database, before_ms: i64, now_ms: i64) -> Result<u64, StoreError> {
    let mut tx = db.begin().await?;
    close(&mut tx, now_ms).await?;
    tx.execute(
        "DELETE FROM backfill_parts WHERE EXISTS (
             SELECT 1 FROM backfills b
             WHERE b.tenant_id = backfill_parts.tenant_id AND b.id = backfill_parts.backfill_id
               AND b.state <> 'running' AND b.ended_at < $1)",
        &[before_ms.into()],
    )
    .await?;
    let sql = "DELETE FROM backfills WHERE state <> 'running' AND ended_at < $1";
    let forgotten = tx.execute(sql, &[before_ms.into()]).await?;
    tx.commit().await?;
    Ok(forgotten)
}

/// Closes the backfills whose parts have all ended.
async fn close(tx: &mut Transaction, now_ms: i64) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE backfills SET state = 'done', ended_at = $1
         WHERE state = 'running' AND NOT EXISTS (
             SELECT 1 FROM backfill_parts p
             WHERE p.tenant_id = backfills.tenant_id AND p.backfill_id = backfills.id AND p.state = 'running')",
        &[now_ms.into()],
    )
    .await?;
    Ok(())
}

async fn add_part(tx: &mut Transaction, tenant: &str, part: &Part) -> Result<(), StoreError> {
    let progress = &part.progress;
    tx.execute(
        "INSERT INTO backfill_parts (backfill_id, stage, cluster_id, topic_id, partition, from_offset, at_offset,
             to_offset, delivered, set_aside, state, tenant_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        &[
            progress.backfill.as_str().into(),
            part.stage.as_str().into(),
            part.cluster_id.as_str().into(),
            part.topic_id.as_str().into(),
            part.partition.into(),
            progress.from.into(),
            progress.at.into(),
            progress.to.into(),
            progress.delivered.into(),
            progress.set_aside.into(),
            progress.state.as_str().into(),
            tenant.into(),
        ],
    )
    .await?;
    Ok(())
}

fn backfill(row: &Row) -> Result<Backfill, StoreError> {
    Ok(Backfill {
        tenant: row.text("tenant_id")?,
        id: row.text("id")?,
        endpoint_id: row.text("endpoint_id")?,
        asked_by: row.text("asked_by")?,
        asked_at: row.int("asked_at")?,
        state: row.text("state")?,
        rate_milli: row.opt_int("rate_milli")?,
        newest_only: row.int("newest_only")? == 1,
    })
}

fn part(row: &Row) -> Result<Part, StoreError> {
    let partition = i32::try_from(row.int("partition")?)
        .map_err(|error| StoreError::Corrupt { column: "partition".to_owned(), reason: error.to_string() })?;
    Ok(Part {
        stage: row.text("stage")?,
        cluster_id: row.text("cluster_id")?,
        topic_id: row.text("topic_id")?,
        partition,
        progress: BackfillPart {
            backfill: row.text("backfill_id")?,
            from: row.int("from_offset")?,
            at: row.int("at_offset")?,
            to: row.opt_int("to_offset")?,
            delivered: row.int("delivered")?,
            set_aside: row.int("set_aside")?,
            state: row.text("state")?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_engine;

    const ONE: (&str, &str, &str) = ("shop", "wh_1", "bf_1");

    fn asked(id: &str) -> Backfill {
        Backfill {
            tenant: "shop".to_owned(),
            id: id.to_owned(),
            endpoint_id: "wh_1".to_owned(),
            asked_by: "p".to_owned(),
            asked_at: 5,
            state: "running".to_owned(),
            rate_milli: Some(1_500),
            newest_only: true,
        }
    }

    fn part_of(id: &str, partition: i32) -> (Part, Wish) {
        let progress = BackfillPart {
            backfill: id.to_owned(),
            from: 3,
            at: 3,
            to: None,
            delivered: 0,
            set_aside: 0,
            state: "running".to_owned(),
        };
        let wish = Wish {
            target: "wh_1".to_owned(),
            kind: "backfill".to_owned(),
            from: Some(3),
            to: Some(9),
            backfill: Some(id.to_owned()),
            every_micros: Some(7),
            newest_only: true,
        };
        let [stage, cluster_id, topic_id] = ["webhook", "c", "t"].map(str::to_owned);
        (Part { stage, cluster_id, topic_id, partition, progress }, wish)
    }

    async fn told(db: &Database, part: &Part, at: i64, state: &str) {
        let (place, mut epoch) = (part.place(), 1);
        while let cursors::Claim::Above(highest) = cursors::claim(db, &place, epoch).await.unwrap() {
            epoch = highest + 1;
        }
        let state = state.to_owned();
        let progress = BackfillPart { at, to: Some(9), delivered: 2, state, ..part.progress.clone() };
        let change = cursors::Change { backfills: vec![progress], ..cursors::Change::default() };
        assert!(cursors::store(db, &place, epoch, (&change, 0)).await.unwrap());
    }

    #[tokio::test]
    async fn one_backfill_of_an_endpoint_runs_at_a_time_and_is_over_with_its_last_part() {
        each_engine(async |db| {
            let parts = [part_of("bf_1", 0), part_of("bf_1", 1)];
            assert!(begin(&db, &asked("bf_1"), &parts).await.unwrap());
            assert!(!begin(&db, &asked("bf_2"), &[part_of("bf_2", 0)]).await.unwrap());
            let wishes = cursors::wishes(&db, &parts[1].0.place()).await.unwrap();
            assert_eq!(wishes.iter().map(|(_, wish)| wish).collect::<Vec<_>>(), [&parts[1].1]);
            told(&db, &parts[0].0, 9, "done").await;
            told(&db, &parts[1].0, 5, "running").await;
            let (found, told_parts) = find(&db, ONE).await.unwrap().unwrap();
            assert_eq!(found, asked("bf_1"));
            let shown: Vec<_> = told_parts.iter().map(|part| (part.partition, part.progress.at)).collect();
            assert_eq!(shown, [(0, 9), (1, 5)]);
            told(&db, &parts[1].0, 9, "done").await;
            assert_eq!(find(&db, ONE).await.unwrap().unwrap().0.state, "done");
            assert!(!is_running(&db, "shop", "wh_1").await.unwrap(), "though nobody wrote that down yet");
            assert!(begin(&db, &asked("bf_2"), &[part_of("bf_2", 0)]).await.unwrap());
            assert!(is_running(&db, "shop", "wh_1").await.unwrap());
            assert!(!is_running(&db, "other", "wh_1").await.unwrap());
            assert_eq!(forget(&db, 100, 99).await.unwrap(), 1, "what ended, and not what runs");
            assert_eq!(find(&db, ("shop", "wh_1", "bf_2")).await.unwrap().unwrap().1.len(), 1);
            assert_eq!(find(&db, ("other", "wh_1", "bf_1")).await.unwrap(), None);
        })
        .await;
    }

    #[tokio::test]
    async fn a_cancel_asks_the_owners_of_what_is_unfinished() {
        each_engine(async |db| {
            let parts = [part_of("bf_1", 0), part_of("bf_1", 1)];
            assert!(begin(&db, &asked("bf_1"), &parts).await.unwrap());
            told(&db, &parts[0].0, 9, "done").await;
            assert!(!cancel(&db, ("shop", "wh_2", "bf_1"), 8).await.unwrap());
            assert!(cancel(&db, ONE, 8).await.unwrap());
            assert!(!cancel(&db, ONE, 8).await.unwrap(), "once");
            let kinds = async |part: &Part| {
                let wishes = cursors::wishes(&db, &part.place()).await.unwrap();
                wishes.into_iter().map(|(_, wish)| wish.kind).collect::<Vec<_>>()
            };
            assert_eq!(kinds(&parts[0].0).await, ["backfill"]);
            assert_eq!(kinds(&parts[1].0).await, ["backfill", "cancel_backfill"]);
            assert_eq!(find(&db, ONE).await.unwrap().unwrap().0.state, "cancelled");
            assert_eq!(forget(&db, 8, 100).await.unwrap(), 0, "it is young");
            assert_eq!(forget(&db, 9, 100).await.unwrap(), 1);
            assert_eq!(find(&db, ONE).await.unwrap(), None);
        })
        .await;
    }
}
