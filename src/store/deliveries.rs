//! Deliveries: of one event to one endpoint, with all their attempts. What resending needs to know of them.

use super::history::Place;
use super::{Database, Row, StoreError};

/// A delivery, by its newest attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: String,
    /// The event.
    pub event_id: String,
    /// The event's dotted type.
    pub event_type: String,
    /// The order.
    pub order_id: String,
    /// Where the event lay in Kafka, where the receipt told.
    pub place: Option<Place>,
}

/// Which deliveries of an endpoint are meant, by their newest attempts.
#[derive(Debug, Clone, Copy)]
pub struct Range<'a> {
    /// Begun then or later, epoch milliseconds.
    pub from_ms: i64,
    /// Begun before then.
    pub to_ms: i64,
    /// That ended so.
    pub outcome: Option<&'a str>,
    /// Of this order.
    pub order_id: Option<&'a str>,
}

/// A delivery to the endpoint `of` (tenant and id).
///
/// # Errors
/// As the database says.
pub async fn find(
    db: &Database,
    (tenant, endpoint_id): (&str, &str),
    id: &str,
) -> Result<Option<Delivery>, StoreError> {
    let row = db
        .row(
            "SELECT * FROM webhook_attempts WHERE tenant_id = $1 AND delivery_id = $2 AND endpoint_id = $3
             ORDER BY attempted_at DESC, attempt_id DESC LIMIT 1",
            &[tenant.into(), id.into(), endpoint_id.into()],
        )
        .await?;
    row.as_ref().map(delivery).transpose()
}

/// The deliveries of a range, by the time of their newest attempt, at most `limit`.
///
/// # Errors
/// As the database says.
pub async fn between(
    db: &Database,
    (tenant, endpoint_id): (&str, &str),
    range: Range<'_>,
    limit: i64,
) -> Result<Vec<Delivery>, StoreError> {
    let rows = db
        .rows(
            "SELECT * FROM webhook_attempts a
             WHERE a.tenant_id = $1 AND a.endpoint_id = $2 AND a.attempted_at >= $3 AND a.attempted_at < $4
               AND ($5 IS NULL OR a.outcome = $5) AND ($6 IS NULL OR a.order_id = $6)
               AND NOT EXISTS (
                   SELECT 1 FROM webhook_attempts b
                   WHERE b.tenant_id = a.tenant_id AND b.delivery_id = a.delivery_id
                     AND (b.attempted_at > a.attempted_at
                          OR (b.attempted_at = a.attempted_at AND b.attempt_id > a.attempt_id)))
             ORDER BY a.attempted_at, a.attempt_id LIMIT $7",
            &[
                tenant.into(),
                endpoint_id.into(),
                range.from_ms.into(),
                range.to_ms.into(),
                range.outcome.into(),
                range.order_id.into(),
                limit.into(),
            ],
        )
        .await?;
    rows.iter().map(delivery).collect()
}

fn delivery(row: &Row) -> Result<Delivery, StoreError> {
    let place = match (
        row.opt_text("source_topic")?,
        row.opt_int("source_partition")?,
        row.opt_int("source_offset")?,
    ) {
        (Some(topic), Some(partition), Some(offset)) => {
            let partition = i32::try_from(partition).map_err(|error| StoreError::Corrupt {
                column: "source_partition".to_owned(),
                reason: error.to_string(),
            })?;
            Some(Place { topic, partition, offset })
        }
        _ => None,
    };
    Ok(Delivery {
        id: row.text("delivery_id")?,
        event_id: row.text("event_id")?,
        event_type: row.text("event_type")?,
        order_id: row.text("order_id")?,
        place,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::attempts::{self, Attempt};
    use crate::store::testing::each_engine;

    fn attempt(delivery: &str, number: i64, outcome: &str, offset: Option<i64>) -> Attempt {
        Attempt {
            tenant: "shop".to_owned(),
            attempt_id: format!("{delivery}-{number}"),
            endpoint_id: "wh_1".to_owned(),
            delivery_id: delivery.to_owned(),
            webhook_id: "evt_1".to_owned(),
            event_id: "1".to_owned(),
            event_type: "order.paid".to_owned(),
            order_id: format!("o-{delivery}"),
            attempt: number,
            outcome: outcome.to_owned(),
            status: None,
            latency_ms: 1,
            error: None,
            response: None,
            attempted_at: number * 100,
            next_attempt_at: None,
            source_topic: offset.map(|_| "orders".to_owned()),
            source_partition: offset.map(|_| 2),
            source_offset: offset,
            resend: false,
        }
    }

    #[tokio::test]
    async fn a_delivery_is_told_by_its_newest_attempt() {
        each_engine(async |db| {
            let rows = [
                attempt("a", 1, "failed", Some(7)),
                attempt("a", 3, "delivered", Some(7)),
                attempt("b", 2, "refused", None),
                attempt("c", 9, "refused", Some(9)),
            ];
            let mut tx = db.begin().await.unwrap();
            attempts::add(&mut tx, &rows).await.unwrap();
            tx.commit().await.unwrap();
            let of = ("shop", "wh_1");
            let range = Range { from_ms: 0, to_ms: 900, outcome: None, order_id: None };
            let ids = async |range, limit| {
                let found = between(&db, of, range, limit).await.unwrap();
                found.into_iter().map(|delivery| delivery.id).collect::<Vec<_>>()
            };
            assert_eq!(ids(range, 9).await, ["b", "a"]);
            assert_eq!(ids(range, 1).await, ["b"]);
            assert_eq!(ids(Range { outcome: Some("failed"), ..range }, 9).await, [""; 0]);
            assert_eq!(ids(Range { order_id: Some("o-a"), ..range }, 9).await, ["a"]);
            let place = Place { topic: "orders".to_owned(), partition: 2, offset: 7 };
            assert_eq!(find(&db, of, "a").await.unwrap().unwrap().place, Some(place));
            assert_eq!(find(&db, of, "b").await.unwrap().unwrap().place, None);
            assert_eq!(find(&db, ("shop", "wh_2"), "a").await.unwrap(), None);
        })
        .await;
    }
}
