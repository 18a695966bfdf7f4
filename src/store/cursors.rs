//! Cursors: targets of a stage that are served from a position of their own, per partition.
//!
//! A partition's cursors are written under the highest epoch that they were claimed with, and under no lower one, so that of
//! two members that believe they own the partition only one can change them. Rows are data here; what they mean is
//! `runtime::cursor`'s business.

use super::cursor_gaps::{self, Gap};
use super::outbox::{self, Message};
use super::positions::Place;
use super::{Database, Row, StoreError, Transaction, Value};

/// A cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The target.
    pub target: String,
    /// Offsets below are finished.
    pub next: i64,
    /// The map of what is finished above.
    pub done: String,
    /// The live stream owns the offsets from here on; `None` leaves it nothing.
    pub until: Option<i64>,
    /// The state's name.
    pub state: String,
    /// Why it is in that state.
    pub reason: Option<String>,
    /// While a backfill runs: the `next` that its cancel restores.
    pub resume: Option<i64>,
    /// That backfill, as JSON.
    pub backfill: Option<String>,
    /// Places in the retry topic, as JSON.
    pub places: Option<String>,
}

/// What is asked of a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The target.
    pub target: String,
    /// What, by name.
    pub kind: String,
    /// From which offset on.
    pub from: Option<i64>,
    /// Up to which.
    pub to: Option<i64>,
    /// The backfill that is meant.
    pub backfill: Option<String>,
    /// Microseconds between two events, at least.
    pub every_micros: Option<i64>,
    /// Of every lane only the newest event.
    pub newest_only: bool,
}

/// How far a backfill is on a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackfillPart {
    /// The backfill.
    pub backfill: String,
    /// The first offset.
    pub from: i64,
    /// Offsets below are finished.
    pub at: i64,
    /// Behind the last offset; `None` before it has begun.
    pub to: Option<i64>,
    /// Events that took effect.
    pub delivered: i64,
    /// Events that ended otherwise.
    pub set_aside: i64,
    /// The state's name.
    pub state: String,
}

/// What changes at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Targets whose cursors go.
    pub gone: Vec<String>,
    /// Cursors as they are from now on.
    pub cursors: Vec<Cursor>,
    /// Gaps to record.
    pub gaps: Vec<Gap>,
    /// What is to be published of it.
    pub messages: Vec<Message>,
    /// How far backfills are.
    pub backfills: Vec<BackfillPart>,
    /// Wishes that are carried out.
    pub granted: Vec<i64>,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The partition's cursors, which nobody writes under a lower epoch any more.
    Ours(Vec<Cursor>),
    /// Nothing changed: they were claimed with this epoch, which is as high.
    Above(i64),
}

/// Raises the epoch of a partition to `epoch`, unless it is as high already.
///
/// # Errors
/// When the database is away.
pub async fn claim(db: &Database, place: &Place<'_>, epoch: i64) -> Result<Claim, StoreError> {
    let mut tx = db.begin().await?;
    let raised = tx
        .execute(
            "INSERT INTO cursor_epochs (stage, cluster_id, topic_id, partition, epoch) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (stage, cluster_id, topic_id, partition) DO UPDATE SET epoch = excluded.epoch
             WHERE cursor_epochs.epoch < excluded.epoch",
            &with(place, [epoch.into()]),
        )
        .await?;
    if raised == 0 {
        let sql = "SELECT epoch FROM cursor_epochs
                   WHERE stage = $1 AND cluster_id = $2 AND topic_id = $3 AND partition = $4";
        let row = tx.row(sql, &key(place)).await?;
        return Ok(Claim::Above(row.map_or(Ok(epoch), |row| row.int("epoch"))?));
    }
    let rows = tx
        .rows(
            "SELECT * FROM cursors WHERE stage = $1 AND cluster_id = $2 AND topic_id = $3 AND partition = $4
             ORDER BY target",
            &key(place),
        )
        .await?;
    let cursors = rows.iter().map(cursor).collect::<Result<_, _>>()?;
    tx.commit().await?;
    Ok(Claim::Ours(cursors))
}

/// Below which offset a target has finished everything on a partition, where it has a cursor.
///
/// # Errors
/// When the database is away.
pub async fn next(db: &Database, place: &Place<'_>, target: &str) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT next_offset FROM cursors
               WHERE stage = $1 AND cluster_id = $2 AND topic_id = $3 AND partition = $4 AND target = $5";
    let row = db.row(sql, &with(place, [target.into()])).await?;
    row.map(|row| row.int("next_offset")).transpose()
}

/// Writes `change`, if `epoch` is the partition's newest; answers whether it is.
///
/// # Errors
/// When the database is away.
pub async fn store(
    db: &Database,
    place: &Place<'_>,
    epoch: i64,
    (change, now_ms): (&Change, i64),
) -> Result<bool, StoreError> {
    let mut tx = db.begin().await?;
    // Touching the row locks it: a claim waits until this is committed or gone.
    let current = tx
        .execute(
            "UPDATE cursor_epochs SET epoch = epoch
             WHERE stage = $1 AND cluster_id = $2 AND topic_id = $3 AND partition = $4 AND epoch = $5",
            &with(place, [epoch.into()]),
        )
        .await?;
    if current == 0 {
        return Ok(false);
    }
    for target in &change.gone {
        tx.execute(
            "DELETE FROM cursors
             WHERE stage = $1 AND cluster_id = $2 AND topic_id = $3 AND partition = $4 AND target = $5",
            &with(place, [target.as_str().into()]),
        )
        .await?;
    }
    for cursor in &change.cursors {
        write(&mut tx, place, cursor).await?;
    }
    for gap in &change.gaps {
        cursor_gaps::note(&mut tx, place, gap).await?;
    }
    outbox::append_all(&mut tx, &change.messages, now_ms).await?;
    for part in &change.backfills {
        note_progress(&mut tx, place, part).await?;
    }
    for &id in &change.granted {
        tx.execute("DELETE FROM cursor_wishes WHERE id = $1", &[id.into()]).await?;
    }
    tx.commit().await?;
    Ok(true)
}

/// Asks something of a target's cursor on a partition.
///
/// # Errors
/// When the database is away.
pub async fn ask(db: &Database, place: &Place<'_>, wish: &Wish) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    ask_within(&mut tx, place, wish).await?;
    tx.commit().await
}

/// The same, together with what else `tx` does.
///
/// # Errors
/// When the database is away.
pub async fn ask_within(tx: &mut Transaction, place: &Place<'_>, wish: &Wish) -> Result<(), StoreError> {
    let values = [
        wish.target.as_str().into(),
        wish.kind.as_str().into(),
        wish.from.into(),
        wish.to.into(),
        wish.backfill.as_deref().into(),
        wish.every_micros.into(),
        i64::from(wish.newest_only).into(),
    ];
    tx.execute(
        "INSERT INTO cursor_wishes (stage, cluster_id, topic_id, partition, target, kind, from_offset, to_offset,
             backfill_id, every_micros, newest_only)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        &with(place, values),
    )
    .await?;
    Ok(())
}

/// What is asked and not carried out yet, oldest first, each with its number.
///
/// # Errors
/// When the database is away.
pub async fn wishes(db: &Database, place: &Place<'_>) -> Result<Vec<(i64, Wish)>, StoreError> {
    let rows = db
        .rows(
            "SELECT * FROM cursor_wishes
             WHERE stage = $1 AND cluster_id = $2 AND topic_id = $3 AND partition = $4 ORDER BY id",
            &key(place),
        )
        .await?;
    rows.iter()
        .map(|row| {
            let wish = Wish {
                target: row.text("target")?,
                kind: row.text("kind")?,
                from: row.opt_int("from_offset")?,
                to: row.opt_int("to_offset")?,
                backfill: row.opt_text("backfill_id")?,
                every_micros: row.opt_int("every_micros")?,
                newest_only: row.opt_int("newest_only")? == Some(1),
            };
            Ok((row.int("id")?, wish))
        })
        .collect()
}

async fn write(tx: &mut Transaction, place: &Place<'_>, cursor: &Cursor) -> Result<(), StoreError> {
    let values = [
        cursor.target.as_str().into(),
        cursor.next.into(),
        cursor.done.as_str().into(),
        cursor.until.into(),
        cursor.state.as_str().into(),
        cursor.reason.as_deref().into(),
        cursor.resume.into(),
        cursor.backfill.as_deref().into(),
        cursor.places.as_deref().into(),
    ];
    tx.execute(
        "INSERT INTO cursors (stage, cluster_id, topic_id, partition, target, next_offset, done, until_offset,
             state, reason, resume_offset, backfill, places)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         ON CONFLICT (stage, cluster_id, topic_id, partition, target) DO UPDATE SET
             next_offset = excluded.next_offset, done = excluded.done, until_offset = excluded.until_offset,
             state = excluded.state, reason = excluded.reason, resume_offset = excluded.resume_offset,
             backfill = excluded.backfill, places = excluded.places",
        &with(place, values),
    )
    .await?;
    Ok(())
}

/// A part that nobody asked for in the store (its endpoint is gone) has no row, and needs none.
async fn note_progress(
    tx: &mut Transaction,
    place: &Place<'_>,
    part: &BackfillPart,
) -> Result<(), StoreError> {
    let values = [
        part.backfill.as_str().into(),
        part.from.into(),
        part.at.into(),
        part.to.into(),
        part.delivered.into(),
        part.set_aside.into(),
        part.state.as_str().into(),
    ];
    tx.execute(
        "UPDATE backfill_parts SET from_offset = $6, at_offset = $7, to_offset = $8, delivered = $9, set_aside = $10,
             state = $11
         WHERE stage = $1 AND cluster_id = $2 AND topic_id = $3 AND partition = $4 AND backfill_id = $5",
        &with(place, values),
    )
    .await?;
    Ok(())
}

fn key<'a>(place: &Place<'a>) -> Vec<Value<'a>> {
    vec![place.stage.into(), place.cluster_id.into(), place.topic_id.into(), place.partition.into()]
}

fn with<'a, const N: usize>(place: &Place<'a>, values: [Value<'a>; N]) -> Vec<Value<'a>> {
    key(place).into_iter().chain(values).collect()
}

fn cursor(row: &Row) -> Result<Cursor, StoreError> {
    Ok(Cursor {
        target: row.text("target")?,
        next: row.int("next_offset")?,
        done: row.text("done")?,
        until: row.opt_int("until_offset")?,
        state: row.text("state")?,
        reason: row.opt_text("reason")?,
        resume: row.opt_int("resume_offset")?,
        backfill: row.opt_text("backfill")?,
        places: row.opt_text("places")?,
    })
}
