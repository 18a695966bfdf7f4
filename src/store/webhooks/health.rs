//! How endpoints fare, as their attempts' receipts tell: since when one fails, and what its owner was told of that.
//!
//! Rows are locked in one order before they are changed, so that batches of several partitions take turns. What follows
//! from a row is the `attempts` stage's business.

use crate::store::conversations::OrderKey;
use crate::store::text_enum::text_enum;
use crate::store::{Row, StoreError, Transaction, batch};

text_enum! {
    /// What an endpoint's owner was told last.
    Told {
        /// Nothing, or that it works again.
        Well = "well",
        /// That it fails.
        Failing = "failing",
        /// That it is disabled.
        Disabled = "disabled",
    }
}

/// How one endpoint fares. Times are epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The tenant.
    pub tenant: String,
    /// The endpoint's id.
    pub endpoint: String,
    /// When it accepted something last.
    pub last_success_at: Option<i64>,
    /// The first failure since.
    pub failing_since: Option<i64>,
    /// The last failure since.
    pub last_failure_at: Option<i64>,
    /// What its owner was told last.
    pub told: Told,
    /// The endpoint's [`generation`](super::Endpoint::generation), as [`lock`] found it; `None` when there is no such
    /// endpoint. It isn't stored here.
    pub generation: Option<i64>,
}

impl Health {
    /// An endpoint of which nothing is known.
    pub fn new(tenant: impl Into<String>, endpoint: impl Into<String>) -> Self {
        Self {
            tenant: tenant.into(),
            endpoint: endpoint.into(),
            last_success_at: None,
            failing_since: None,
            last_failure_at: None,
            told: Told::Well,
            generation: None,
        }
    }
}

/// How the endpoints `keys` fare, (tenant, id) each, in ascending order; nobody else changes that until the transaction
/// ends.
///
/// # Errors
/// As the database says; so for all below.
pub async fn lock(tx: &mut Transaction, keys: &[(String, String)]) -> Result<Vec<Health>, StoreError> {
    batch::write(
        tx,
        "INSERT INTO webhook_health (tenant_id, endpoint_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        "INSERT INTO webhook_health (tenant_id, endpoint_id)
         SELECT UNNEST($1::TEXT[]), UNNEST($2::TEXT[]) ON CONFLICT DO NOTHING",
        keys.iter().map(|(tenant, id)| [tenant.as_str().into(), id.as_str().into()]).collect(),
    )
    .await?;
    let pairs: Vec<_> = keys.iter().map(|(tenant, id)| OrderKey::new(tenant, id)).collect();
    let rows = batch::of_orders(
        tx,
        "SELECT h.*, e.generation FROM webhook_health h
         LEFT JOIN webhook_endpoints e ON e.tenant_id = h.tenant_id AND e.id = h.endpoint_id
         WHERE h.tenant_id = $1 AND h.endpoint_id = $2",
        "SELECT h.*, e.generation FROM UNNEST($1::TEXT[], $2::TEXT[]) AS asked (tenant_id, endpoint_id)
         JOIN webhook_health h ON h.tenant_id = asked.tenant_id AND h.endpoint_id = asked.endpoint_id
         LEFT JOIN webhook_endpoints e ON e.tenant_id = h.tenant_id AND e.id = h.endpoint_id
         ORDER BY h.tenant_id, h.endpoint_id FOR UPDATE OF h",
        &pairs,
    )
    .await?;
    rows.iter().map(health).collect()
}

/// Stores rows over those that [`lock`] gave within the same transaction.
pub async fn put(tx: &mut Transaction, rows: &[Health]) -> Result<(), StoreError> {
    batch::write(
        tx,
        "UPDATE webhook_health SET last_success_at = $3, failing_since = $4, last_failure_at = $5, told = $6
         WHERE tenant_id = $1 AND endpoint_id = $2",
        "UPDATE webhook_health AS h SET last_success_at = n.s, failing_since = n.f, last_failure_at = n.l, told = n.told
         FROM UNNEST($1::TEXT[], $2::TEXT[], $3::BIGINT[], $4::BIGINT[], $5::BIGINT[], $6::TEXT[])
             AS n (tenant_id, endpoint_id, s, f, l, told)
         WHERE h.tenant_id = n.tenant_id AND h.endpoint_id = n.endpoint_id",
        rows.iter()
            .map(|row| {
                [
                    row.tenant.as_str().into(),
                    row.endpoint.as_str().into(),
                    row.last_success_at.into(),
                    row.failing_since.into(),
                    row.last_failure_at.into(),
                    row.told.as_str().into(),
                ]
            })
            .collect(),
    )
    .await
}

/// Forgets how an endpoint fared: it is gone, or begins anew.
pub async fn forget(tx: &mut Transaction, tenant: &str, id: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM webhook_health WHERE tenant_id = $1 AND endpoint_id = $2";
    tx.execute(sql, &[tenant.into(), id.into()]).await.map(drop)
}

fn health(row: &Row) -> Result<Health, StoreError> {
    Ok(Health {
        tenant: row.text("tenant_id")?,
        endpoint: row.text("endpoint_id")?,
        last_success_at: row.opt_int("last_success_at")?,
        failing_since: row.opt_int("failing_since")?,
        last_failure_at: row.opt_int("last_failure_at")?,
        told: Told::read(row, "told")?,
        generation: row.opt_int("generation")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_engine;

    #[tokio::test]
    async fn rows_are_made_when_they_are_asked_for_and_kept_per_tenant() {
        each_engine(async |db| {
            let key = |tenant: &str, id: &str| (tenant.to_owned(), id.to_owned());
            let keys = [key("a", "wh_1"), key("a", "wh_2"), key("b", "wh_1")];
            let mut tx = db.begin().await.unwrap();
            let mut rows = lock(&mut tx, &keys).await.unwrap();
            let blank: Vec<_> = keys.iter().map(|(tenant, id)| Health::new(tenant, id)).collect();
            assert_eq!(rows, blank);
            rows[1].failing_since = Some(5);
            rows[1].last_failure_at = Some(9);
            rows[1].told = Told::Failing;
            rows[2].last_success_at = Some(7);
            put(&mut tx, &rows[1..]).await.unwrap();
            tx.commit().await.unwrap();

            let mut tx = db.begin().await.unwrap();
            assert_eq!(lock(&mut tx, &keys).await.unwrap(), rows);
            forget(&mut tx, "a", "wh_2").await.unwrap();
            assert_eq!(lock(&mut tx, &keys[1..]).await.unwrap(), [blank[1].clone(), rows[2].clone()]);
            assert_eq!(lock(&mut tx, &[]).await.unwrap(), []);
        })
        .await;
    }
}
