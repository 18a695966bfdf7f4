//! The log of webhook attempts: what was tried, when, and how the other side answered.
//!
//! Rows come in batches from the receipts on `webhooks.attempts`; a receipt that comes twice is one row.

use super::batch;
use super::{Database, Row, StoreError, Transaction, Value};
use crate::crypto::Sealed;

/// One attempt, as it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The tenant.
    pub tenant: String,
    /// Names the attempt, made from delivery, number and time.
    pub attempt_id: String,
    /// The endpoint.
    pub endpoint_id: String,
    /// Names the delivery of one event to one endpoint, the same for all its attempts.
    pub delivery_id: String,
    /// The `webhook-id` header.
    pub webhook_id: String,
    /// The event.
    pub event_id: String,
    /// The event's dotted type.
    pub event_type: String,
    /// The order.
    pub order_id: String,
    /// Which attempt, from 1.
    pub attempt: i64,
    /// How it ended.
    pub outcome: String,
    /// The HTTP status, if one was answered.
    pub status: Option<i64>,
    /// The whole exchange, in milliseconds.
    pub latency_ms: i64,
    /// What went wrong.
    pub error: Option<String>,
    /// The beginning of the answer, sealed for the tenant.
    pub response: Option<Sealed>,
    /// When it began, epoch milliseconds.
    pub attempted_at: i64,
    /// When it is tried again, epoch milliseconds.
    pub next_attempt_at: Option<i64>,
    /// The topic that the event lies in, where the receipt told.
    pub source_topic: Option<String>,
    /// Its partition.
    pub source_partition: Option<i64>,
    /// Its offset.
    pub source_offset: Option<i64>,
    /// Somebody asked for the delivery to be sent again.
    pub resend: bool,
}

/// A place in an endpoint's log: the attempt that was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// Its [`Attempt::attempted_at`].
    pub attempted_at: i64,
    /// Its [`Attempt::attempt_id`].
    pub attempt_id: String,
}

/// The insert whose rows come as `$rows`.
macro_rules! add_sql {
    ($rows:literal) => {
        concat!(
            "INSERT INTO webhook_attempts (tenant_id, attempt_id, endpoint_id, delivery_id, webhook_id, event_id,
                 event_type, order_id, attempt, outcome, status, latency_ms, error, response, attempted_at,
                 next_attempt_at, source_topic, source_partition, source_offset, resend) ",
            $rows,
            " ON CONFLICT DO NOTHING"
        )
    };
}

/// Adds attempts; those that are there already stay as they are.
///
/// # Errors
/// As the database says.
pub async fn add(tx: &mut Transaction, attempts: &[Attempt]) -> Result<(), StoreError> {
    batch::write(
        tx,
        add_sql!(
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)"
        ),
        add_sql!(
            "SELECT * FROM UNNEST($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[],
                 $7::TEXT[], $8::TEXT[], $9::BIGINT[], $10::TEXT[], $11::BIGINT[], $12::BIGINT[], $13::TEXT[],
                 $14::BYTEA[], $15::BIGINT[], $16::BIGINT[], $17::TEXT[],
                 $18::BIGINT[], $19::BIGINT[], $20::BIGINT[])"
        ),
        attempts.iter().map(values).collect(),
    )
    .await
}

/// An endpoint's attempts, newest first, at most `limit`, those before `before`.
///
/// # Errors
/// As the database says.
pub async fn of_endpoint(
    db: &Database,
    tenant: &str,
    endpoint_id: &str,
    before: Option<&Before>,
    limit: i64,
) -> Result<Vec<Attempt>, StoreError> {
    let rows = db
        .rows(
            "SELECT * FROM webhook_attempts
             WHERE tenant_id = $1 AND endpoint_id = $2
               AND ($3 IS NULL OR attempted_at < $3 OR (attempted_at = $3 AND attempt_id < $4))
             ORDER BY attempted_at DESC, attempt_id DESC LIMIT $5",
            &[
                tenant.into(),
                endpoint_id.into(),
                before.map(|before| before.attempted_at).into(),
                before.map(|before| before.attempt_id.as_str()).into(),
                limit.into(),
            ],
        )
        .await?;
    rows.iter().map(attempt).collect()
}

/// The columns of one row, in the order of the statements above.
fn values(attempt: &Attempt) -> Vec<Value> {
    vec![
        attempt.tenant.as_str().into(),
        attempt.attempt_id.as_str().into(),
        attempt.endpoint_id.as_str().into(),
        attempt.delivery_id.as_str().into(),
        attempt.webhook_id.as_str().into(),
        attempt.event_id.as_str().into(),
        attempt.event_type.as_str().into(),
        attempt.order_id.as_str().into(),
        attempt.attempt.into(),
        attempt.outcome.as_str().into(),
        attempt.status.into(),
        attempt.latency_ms.into(),
        attempt.error.as_deref().into(),
        Value::Bytes(attempt.response.as_ref().map(|sealed| sealed.as_bytes().to_vec())),
        attempt.attempted_at.into(),
        attempt.next_attempt_at.into(),
        attempt.source_topic.as_deref().into(),
        attempt.source_partition.into(),
        attempt.source_offset.into(),
        i64::from(attempt.resend).into(),
    ]
}

fn attempt(row: &Row) -> Result<Attempt, StoreError> {
    Ok(Attempt {
        tenant: row.text("tenant_id")?,
        attempt_id: row.text("attempt_id")?,
        endpoint_id: row.text("endpoint_id")?,
        delivery_id: row.text("delivery_id")?,
        webhook_id: row.text("webhook_id")?,
        event_id: row.text("event_id")?,
        event_type: row.text("event_type")?,
        order_id: row.text("order_id")?,
        attempt: row.int("attempt")?,
        outcome: row.text("outcome")?,
        status: row.opt_int("status")?,
        latency_ms: row.int("latency_ms")?,
        error: row.opt_text("error")?,
        response: row.opt_sealed("response")?,
        attempted_at: row.int("attempted_at")?,
        next_attempt_at: row.opt_int("next_attempt_at")?,
        source_topic: row.opt_text("source_topic")?,
        source_partition: row.opt_int("source_partition")?,
        source_offset: row.opt_int("source_offset")?,
        resend: row.int("resend")? == 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_engine;

    fn attempt(tenant: &str, number: i64) -> Attempt {
        Attempt {
            tenant: tenant.to_owned(),
            attempt_id: format!("a-{number}"),
            endpoint_id: "wh_1".to_owned(),
            delivery_id: "d-1".to_owned(),
            webhook_id: "evt_1".to_owned(),
            event_id: "1".to_owned(),
            event_type: "order.paid".to_owned(),
            order_id: "o-1".to_owned(),
            attempt: number,
            outcome: "failed".to_owned(),
            status: (number > 1).then_some(503),
            latency_ms: 12,
            error: Some("503".to_owned()),
            response: (number > 1).then(|| Sealed::from_bytes(vec![0, 255])),
            attempted_at: 1_000 + number / 2,
            next_attempt_at: None,
            source_topic: (number > 1).then(|| "orders".to_owned()),
            source_partition: (number > 1).then_some(3),
            source_offset: (number > 1).then_some(40 + number),
            resend: number > 2,
        }
    }

    #[tokio::test]
    async fn attempts_are_kept_once_and_read_newest_first_page_by_page() {
        each_engine(async |db| {
            let attempts: Vec<_> = (1..=5).map(|number| attempt("shop", number)).collect();
            for batch in [&attempts[..], &attempts[2..], &[attempt("other", 1)], &[]] {
                let mut tx = db.begin().await.unwrap();
                add(&mut tx, batch).await.unwrap();
                tx.commit().await.unwrap();
            }
            let mut seen = Vec::new();
            let mut before = None;
            loop {
                let page = of_endpoint(&db, "shop", "wh_1", before.as_ref(), 2).await.unwrap();
                let Some(last) = page.last() else { break };
                before =
                    Some(Before { attempted_at: last.attempted_at, attempt_id: last.attempt_id.clone() });
                seen.extend(page);
            }
            seen.reverse();
            assert_eq!(seen, attempts);
        })
        .await;
    }
}
