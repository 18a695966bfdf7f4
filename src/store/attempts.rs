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

/// The insert whose rows come as `$rows`, and what becomes of those that are there.
macro_rules! add_sql {
    ($rows:literal, $there:literal) => {
        concat!(
            "INSERT INTO webhook_attempts (tenant_id, attempt_id, endpoint_id, delivery_id, webhook_id, event_id,
                 event_type, order_id, attempt, outcome, status, latency_ms, error, response, attempted_at,
                 next_attempt_at, source_topic, source_partition, source_offset, resend) ",
            $rows,
            $there
        )
    };
}

/// Both forms of that insert: for one row, and for many.
macro_rules! add_both {
    ($there:literal) => {
        (
            add_sql!(
                "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
                $there
            ),
            add_sql!(
                "SELECT UNNEST($1::TEXT[]), UNNEST($2::TEXT[]), UNNEST($3::TEXT[]), UNNEST($4::TEXT[]),
                     UNNEST($5::TEXT[]), UNNEST($6::TEXT[]), UNNEST($7::TEXT[]), UNNEST($8::TEXT[]),
                     UNNEST($9::BIGINT[]), UNNEST($10::TEXT[]), UNNEST($11::BIGINT[]), UNNEST($12::BIGINT[]),
                     UNNEST($13::TEXT[]), UNNEST($14::BYTEA[]), UNNEST($15::BIGINT[]), UNNEST($16::BIGINT[]),
                     UNNEST($17::TEXT[]), UNNEST($18::BIGINT[]), UNNEST($19::BIGINT[]), UNNEST($20::BIGINT[])",
                $there
            ),
        )
    };
}

/// Adds attempts; those that are there already stay as they are.
///
/// # Errors
/// As the database says.
pub async fn add(
    tx: &mut Transaction,
    attempts: impl IntoIterator<Item = &Attempt>,
) -> Result<(), StoreError> {
    let (one, many) = add_both!(" ON CONFLICT DO NOTHING");
    batch::write(tx, one, many, attempts.into_iter().map(values).collect()).await
}

/// Adds attempts none of which should be there: without looking for them first, which costs as much as a third of the rows.
///
/// # Errors
/// [`StoreError::Constraint`] when one is there already, and the transaction is lost; else as the database says.
pub async fn add_new(
    tx: &mut Transaction,
    attempts: impl IntoIterator<Item = &Attempt>,
) -> Result<(), StoreError> {
    let (one, many) = add_both!("");
    batch::write(tx, one, many, attempts.into_iter().map(values).collect()).await
}

/// Which of an endpoint's attempts are meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Only of this order.
    pub order_id: Option<&'a str>,
    /// Only those that ended so.
    pub outcome: Option<&'a str>,
    /// Only those that were answered with this status.
    pub status: Option<i64>,
    /// Only of events of this dotted type.
    pub event_type: Option<&'a str>,
    /// Only those that began then or later, epoch milliseconds.
    pub from: Option<i64>,
    /// Only those that began before then, epoch milliseconds.
    pub to: Option<i64>,
    /// Only those before this one in the list.
    pub before: Option<&'a Before>,
    /// At most so many.
    pub limit: i64,
}

/// The list, narrowed to an order where that is asked for, so that each finds its index.
macro_rules! list_sql {
    ($order:literal) => {
        concat!(
            "SELECT * FROM webhook_attempts
             WHERE tenant_id = $1 AND endpoint_id = $2 AND ",
            $order,
            " AND ($4 IS NULL OR attempted_at < $4 OR (attempted_at = $4 AND attempt_id < $5))
               AND ($6 IS NULL OR outcome = $6) AND ($7 IS NULL OR status = $7)
               AND ($8 IS NULL OR event_type = $8)
               AND ($9 IS NULL OR attempted_at >= $9) AND ($10 IS NULL OR attempted_at < $10)
             ORDER BY attempted_at DESC, attempt_id DESC LIMIT $11"
        )
    };
}

/// An endpoint's attempts, newest first.
///
/// # Errors
/// As the database says.
pub async fn of_endpoint(
    db: &Database,
    tenant: &str,
    endpoint_id: &str,
    wanted: &Wanted<'_>,
) -> Result<Vec<Attempt>, StoreError> {
    let sql = match wanted.order_id {
        Some(_) => list_sql!("order_id = $3"),
        None => list_sql!("$3 IS NULL"),
    };
    let rows = db
        .rows(
            sql,
            &[
                tenant.into(),
                endpoint_id.into(),
                wanted.order_id.into(),
                wanted.before.map(|before| before.attempted_at).into(),
                wanted.before.map(|before| before.attempt_id.as_str()).into(),
                wanted.outcome.into(),
                wanted.status.into(),
                wanted.event_type.into(),
                wanted.from.into(),
                wanted.to.into(),
                wanted.limit.into(),
            ],
        )
        .await?;
    rows.iter().map(attempt).collect()
}

/// The attempts of one delivery, oldest first, at most `limit`.
///
/// # Errors
/// As the database says.
pub async fn of_delivery(
    db: &Database,
    tenant: &str,
    endpoint_id: &str,
    delivery_id: &str,
    limit: i64,
) -> Result<Vec<Attempt>, StoreError> {
    let rows = db
        .rows(
            "SELECT * FROM webhook_attempts WHERE tenant_id = $1 AND delivery_id = $2 AND endpoint_id = $3
             ORDER BY attempted_at, attempt LIMIT $4",
            &[tenant.into(), delivery_id.into(), endpoint_id.into(), limit.into()],
        )
        .await?;
    rows.iter().map(attempt).collect()
}

/// How a tenant's deliveries ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts that were taken.
    pub delivered: u64,
    /// Deliveries that were given up.
    pub failed: u64,
    /// Deliveries that failed and wait for their next attempt.
    pub waiting: u64,
}

/// Counts what was tried for a tenant's endpoints since `since_ms`. `owner` narrows it to that partner's own.
///
/// # Errors
/// As the database says.
pub async fn tally(
    db: &Database,
    tenant: &str,
    owner: Option<&str>,
    since_ms: i64,
) -> Result<Tally, StoreError> {
    let values = [tenant.into(), owner.into(), since_ms.into()];
    let ended = db
        .row(
            "SELECT COALESCE(SUM(CASE WHEN a.outcome = 'delivered' THEN 1 ELSE 0 END), 0) AS delivered,
                 COALESCE(SUM(CASE WHEN a.outcome <> 'delivered' AND a.next_attempt_at IS NULL THEN 1 ELSE 0 END), 0)
                     AS failed
             FROM webhook_endpoints e
             JOIN webhook_attempts a ON a.tenant_id = e.tenant_id AND a.endpoint_id = e.id AND a.attempted_at >= $3
             WHERE e.tenant_id = $1 AND ($2 IS NULL OR e.owner = $2)",
            &values,
        )
        .await?;
    let waiting = db
        .row(
            "SELECT COUNT(*) AS waiting
             FROM webhook_endpoints e
             JOIN webhook_attempts a ON a.tenant_id = e.tenant_id AND a.endpoint_id = e.id
                 AND a.next_attempt_at IS NOT NULL AND a.attempted_at >= $3
             WHERE e.tenant_id = $1 AND ($2 IS NULL OR e.owner = $2)
               AND NOT EXISTS (SELECT 1 FROM webhook_attempts later
                   WHERE later.tenant_id = a.tenant_id AND later.delivery_id = a.delivery_id
                     AND (later.attempted_at > a.attempted_at
                         OR (later.attempted_at = a.attempted_at AND later.attempt > a.attempt)))",
            &values,
        )
        .await?;
    let number = |row: &Option<Row>, column: &str| match row {
        Some(row) => row.int(column).map(i64::unsigned_abs),
        None => Ok(0),
    };
    Ok(Tally {
        delivered: number(&ended, "delivered")?,
        failed: number(&ended, "failed")?,
        waiting: number(&waiting, "waiting")?,
    })
}

/// Forgets at most `limit` of the attempts that began before `before_ms`, of all tenants; answers how many.
///
/// # Errors
/// As the database says.
pub async fn forget(db: &Database, before_ms: i64, limit: i64) -> Result<u64, StoreError> {
    let mut tx = db.begin().await?;
    let forgotten = tx
        .execute(
            "DELETE FROM webhook_attempts WHERE (tenant_id, endpoint_id, attempted_at, attempt_id) IN
                 (SELECT tenant_id, endpoint_id, attempted_at, attempt_id FROM webhook_attempts
                  WHERE attempted_at < $1 LIMIT $2)",
            &[before_ms.into(), limit.into()],
        )
        .await?;
    tx.commit().await?;
    Ok(forgotten)
}

/// The columns of one row, in the order of the statements above.
fn values(attempt: &Attempt) -> [Value<'_>; 20] {
    [
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
        attempt.response.as_ref().into(),
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
mod tests;
