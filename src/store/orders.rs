//! Orders for the owners of partitions: asked by an operator, carried out by whichever process owns the partition.

use super::audit::{self, Entry};
use super::text_enum::text_enum;
use super::{Database, Row, StoreError};

text_enum! {
    /// What an owner is asked for.
    Kind {
        /// Let a lane go on.
        Release = "release",
        /// End the first task of a lane without its effect.
        Skip = "skip",
        /// Read the source again from an offset.
        Replay = "replay",
    }
}

text_enum! {
    /// Where an order stands.
    State {
        /// Nobody has answered yet.
        Open = "open",
        /// It was carried out.
        Done = "done",
        /// The owner couldn't, and said why.
        Refused = "refused",
        /// Nobody answered in time, and it was taken back.
        Withdrawn = "withdrawn",
    }
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOrder {
    /// Its id.
    pub id: String,
    /// Which stage.
    pub stage: String,
    /// Which partition.
    pub partition: i32,
    /// What kind of order.
    pub kind: Kind,
    /// The lane, or the offset in decimal, by `kind`.
    pub argument: String,
    /// Where it stands.
    pub state: State,
    /// What came of it, in words.
    pub answer: Option<String>,
}

/// Asks for `orders`, which are open from then on, and writes down who did.
///
/// # Errors
/// As the database says; nothing is asked then.
pub async fn ask(db: &Database, orders: &[StoredOrder], audited: &Entry) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    for order in orders {
        tx.execute(
            "INSERT INTO stage_orders (id, stage, partition, kind, argument, asked_by, asked_at, state)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                order.id.as_str().into(),
                order.stage.as_str().into(),
                order.partition.into(),
                order.kind.as_str().into(),
                order.argument.as_str().into(),
                audited.actor.as_str().into(),
                audited.at_ms.into(),
                State::Open.as_str().into(),
            ],
        )
        .await?;
    }
    audit::write(&mut tx, audited).await?;
    tx.commit().await
}

/// Every order that nobody has answered, oldest first.
///
/// # Errors
/// As the database says.
pub async fn open(db: &Database) -> Result<Vec<StoredOrder>, StoreError> {
    let rows = db
        .rows(
            "SELECT id, stage, partition, kind, argument, state, answer FROM stage_orders
             WHERE state = 'open' ORDER BY asked_at, id",
            &[],
        )
        .await?;
    rows.iter().map(order).collect()
}

/// The order called `id`.
///
/// # Errors
/// As the database says.
pub async fn find(db: &Database, id: &str) -> Result<Option<StoredOrder>, StoreError> {
    let sql = "SELECT id, stage, partition, kind, argument, state, answer FROM stage_orders WHERE id = $1";
    db.row(sql, &[id.into()]).await?.as_ref().map(order).transpose()
}

/// Settles an open order; answers false when it was settled before.
///
/// # Errors
/// As the database says.
pub async fn settle(
    db: &Database,
    id: &str,
    state: State,
    answer: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let mut tx = db.begin().await?;
    let settled = tx
        .execute(
            "UPDATE stage_orders SET state = $2, answer = $3, answered_at = $4 WHERE id = $1 AND state = 'open'",
            &[id.into(), state.as_str().into(), answer.into(), now_ms.into()],
        )
        .await?;
    tx.commit().await?;
    Ok(settled == 1)
}

fn order(row: &Row) -> Result<StoredOrder, StoreError> {
    Ok(StoredOrder {
        id: row.text("id")?,
        stage: row.text("stage")?,
        partition: i32::try_from(row.int("partition")?).map_err(|_| StoreError::Corrupt {
            column: "partition".to_owned(),
            reason: "no partition has that number".to_owned(),
        })?,
        kind: Kind::read(row, "kind")?,
        argument: row.text("argument")?,
        state: State::read(row, "state")?,
        answer: row.opt_text("answer")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_engine;

    #[tokio::test]
    async fn an_order_is_open_until_it_is_settled_once() {
        each_engine(async |db| {
            let order = StoredOrder {
                id: "1".to_owned(),
                stage: "webhook".to_owned(),
                partition: 2,
                kind: Kind::Replay,
                argument: "40".to_owned(),
                state: State::Open,
                answer: None,
            };
            let audited = Entry {
                id: "0".to_owned(),
                at_ms: 5,
                actor: "ann".to_owned(),
                action: "stage.replay".to_owned(),
                stage: "webhook".to_owned(),
                reason: String::new(),
                detail: "{}".to_owned(),
            };
            ask(&db, std::slice::from_ref(&order), &audited).await.unwrap();
            assert_eq!(open(&db).await.unwrap(), std::slice::from_ref(&order));
            assert!(settle(&db, "1", State::Done, "read again", 9).await.unwrap());
            assert!(!settle(&db, "1", State::Withdrawn, "too late", 10).await.unwrap());
            assert_eq!(open(&db).await.unwrap(), []);
            let settled = StoredOrder { state: State::Done, answer: Some("read again".to_owned()), ..order };
            assert_eq!(find(&db, "1").await.unwrap(), Some(settled));
            assert_eq!(audit::newest(&db, None, None, 5).await.unwrap(), [audited]);
        })
        .await;
    }
}
