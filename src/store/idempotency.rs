//! Answers to requests that carried an `Idempotency-Key`, so that a repeat gets the answer and does nothing.
//!
//! A key is reserved before the work and completed after it. A reservation that was never completed (a crash,
//! a failure) can be taken up again by the same request, which then sees when the first try was: what the
//! request makes (an event's id and time) can so be the same in every try.

use super::{Database, StoreError, Transaction};
use crate::crypto::Sealed;

/// What a request asks for under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The key, as the client chose it.
    pub key: &'a str,
    /// Hash of everything that makes the request what it is.
    pub request_hash: &'a [u8],
    /// Now, epoch milliseconds.
    pub now_ms: i64,
    /// Until when nobody else may take the key up, epoch milliseconds.
    pub locked_until_ms: i64,
    /// Until when the key is remembered, epoch milliseconds.
    pub expires_at_ms: i64,
}

/// What came of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved {
    /// Do the work. `first_seen_ms` is when the key was first tried with this request.
    Ours {
        /// Epoch milliseconds.
        first_seen_ms: i64,
    },
    /// It was done: answer this.
    Done(Answer),
    /// Another request with this key is running.
    InFlight,
    /// The key belongs to another request.
    OtherRequest,
}

/// A kept answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: i64,
    /// Its `content-type`.
    pub content_type: Option<String>,
    /// Its body, sealed for the tenant: it may hold a secret that is shown once.
    pub body: Sealed,
}

/// Reserves a key, or says why not.
///
/// # Errors
/// As the database says.
pub async fn reserve(db: &Database, wanted: &Reservation<'_>) -> Result<Reserved, StoreError> {
    let mut tx = db.begin().await?;
    let id = [wanted.tenant.into(), wanted.key.into()];
    tx.execute(
        "DELETE FROM idempotency WHERE tenant_id = $1 AND key = $2 AND expires_at <= $3",
        &[wanted.tenant.into(), wanted.key.into(), wanted.now_ms.into()],
    )
    .await?;
    let inserted = tx
        .execute(
            "INSERT INTO idempotency (tenant_id, key, request_hash, first_seen_at, locked_until, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, key) DO NOTHING",
            &[
                wanted.tenant.into(),
                wanted.key.into(),
                wanted.request_hash.into(),
                wanted.now_ms.into(),
                wanted.locked_until_ms.into(),
                wanted.expires_at_ms.into(),
            ],
        )
        .await?;
    if inserted == 1 {
        tx.commit().await?;
        return Ok(Reserved::Ours { first_seen_ms: wanted.now_ms });
    }
    let taken_up = tx
        .row(
            "UPDATE idempotency SET locked_until = $3
             WHERE tenant_id = $1 AND key = $2 AND status IS NULL AND locked_until <= $4 AND request_hash = $5
             RETURNING first_seen_at",
            &[
                wanted.tenant.into(),
                wanted.key.into(),
                wanted.locked_until_ms.into(),
                wanted.now_ms.into(),
                wanted.request_hash.into(),
            ],
        )
        .await?;
    if let Some(row) = taken_up {
        let first_seen_ms = row.int("first_seen_at")?;
        tx.commit().await?;
        return Ok(Reserved::Ours { first_seen_ms });
    }
    let found = tx.row("SELECT * FROM idempotency WHERE tenant_id = $1 AND key = $2", &id).await?;
    let Some(row) = found else { return Ok(Reserved::InFlight) };
    if row.bytes("request_hash")? != wanted.request_hash {
        return Ok(Reserved::OtherRequest);
    }
    match row.opt_int("status")? {
        None => Ok(Reserved::InFlight),
        Some(status) => Ok(Reserved::Done(Answer {
            status,
            content_type: row.opt_text("content_type")?,
            body: row.sealed("body")?,
        })),
    }
}

/// Keeps the answer of a reserved key.
///
/// # Errors
/// As the database says.
pub async fn complete(
    tx: &mut Transaction,
    tenant: &str,
    key: &str,
    answer: &Answer,
) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE idempotency SET status = $3, content_type = $4, body = $5 WHERE tenant_id = $1 AND key = $2",
        &[
            tenant.into(),
            key.into(),
            answer.status.into(),
            answer.content_type.as_deref().into(),
            (&answer.body).into(),
        ],
    )
    .await?;
    Ok(())
}

/// Lets the same request try again at once: the work failed in a way that may pass.
///
/// # Errors
/// As the database says.
pub async fn unlock(tx: &mut Transaction, tenant: &str, key: &str) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE idempotency SET locked_until = 0 WHERE tenant_id = $1 AND key = $2 AND status IS NULL",
        &[tenant.into(), key.into()],
    )
    .await?;
    Ok(())
}

/// Forgets a reserved key: the request was refused, nothing was done, and a corrected one may use the key.
///
/// # Errors
/// As the database says.
pub async fn release(tx: &mut Transaction, tenant: &str, key: &str) -> Result<(), StoreError> {
    tx.execute(
        "DELETE FROM idempotency WHERE tenant_id = $1 AND key = $2 AND status IS NULL",
        &[tenant.into(), key.into()],
    )
    .await?;
    Ok(())
}

/// Deletes keys that are no longer remembered.
///
/// # Errors
/// As the database says.
pub async fn sweep(db: &Database, now_ms: i64) -> Result<u64, StoreError> {
    let mut tx = db.begin().await?;
    let gone = tx.execute("DELETE FROM idempotency WHERE expires_at <= $1", &[now_ms.into()]).await?;
    tx.commit().await?;
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_engine;

    fn wanted<'a>(tenant: &'a str, hash: &'a [u8], now_ms: i64) -> Reservation<'a> {
        Reservation {
            tenant,
            key: "k",
            request_hash: hash,
            now_ms,
            locked_until_ms: now_ms + 10,
            expires_at_ms: now_ms + 100,
        }
    }

    #[tokio::test]
    async fn a_key_works_once_and_then_answers() {
        each_engine(async |db| {
            let ours = |first_seen_ms| Reserved::Ours { first_seen_ms };
            assert_eq!(reserve(&db, &wanted("a", b"1", 0)).await.unwrap(), ours(0));
            assert_eq!(reserve(&db, &wanted("a", b"1", 5)).await.unwrap(), Reserved::InFlight);
            assert_eq!(reserve(&db, &wanted("a", b"2", 5)).await.unwrap(), Reserved::OtherRequest);
            assert_eq!(reserve(&db, &wanted("b", b"2", 5)).await.unwrap(), ours(5), "tenants share no keys");
            assert_eq!(
                reserve(&db, &wanted("a", b"1", 20)).await.unwrap(),
                ours(0),
                "taken up after a crash"
            );

            let mut tx = db.begin().await.unwrap();
            unlock(&mut tx, "a", "k").await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(reserve(&db, &wanted("a", b"1", 21)).await.unwrap(), ours(0), "tried again at once");

            let answer = Answer {
                status: 202,
                content_type: Some("application/json".to_owned()),
                body: Sealed::from_bytes(vec![1, 2]),
            };
            let mut tx = db.begin().await.unwrap();
            complete(&mut tx, "a", "k", &answer).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(reserve(&db, &wanted("a", b"1", 50)).await.unwrap(), Reserved::Done(answer));
            assert_eq!(reserve(&db, &wanted("a", b"2", 50)).await.unwrap(), Reserved::OtherRequest);
            assert_eq!(reserve(&db, &wanted("a", b"2", 100)).await.unwrap(), ours(100), "forgotten in time");

            let mut tx = db.begin().await.unwrap();
            release(&mut tx, "a", "k").await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(reserve(&db, &wanted("a", b"3", 101)).await.unwrap(), ours(101));
            assert_eq!(sweep(&db, 1_000).await.unwrap(), 2);
        })
        .await;
    }
}
