//! Where each webhook endpoint begins: the ends of the partitions when it was registered.
//!
//! Every change counts up the revision of the endpoints, so that whoever keeps a copy of them keeps this too.

use std::collections::BTreeMap;

use super::webhooks::count_change;
use super::{Database, StoreError, Transaction};

/// A partition of a topic, as named on the broker.
pub type At = (String, i32);

/// Sets where an endpoint that is being registered begins.
///
/// # Errors
/// As the database says.
pub async fn set(
    tx: &mut Transaction,
    (tenant, endpoint_id): (&str, &str),
    starts: &BTreeMap<At, i64>,
) -> Result<(), StoreError> {
    for ((topic, partition), start) in starts {
        tx.execute(
            "INSERT INTO webhook_starts (tenant_id, endpoint_id, topic, partition, start_offset)
             VALUES ($1, $2, $3, $4, $5)",
            &[tenant.into(), endpoint_id.into(), topic.as_str().into(), (*partition).into(), (*start).into()],
        )
        .await?;
    }
    Ok(())
}

/// Lets an endpoint begin earlier where it begins behind these offsets.
///
/// # Errors
/// As the database says.
pub async fn lower(
    tx: &mut Transaction,
    (tenant, endpoint_id): (&str, &str),
    starts: &BTreeMap<At, i64>,
) -> Result<(), StoreError> {
    count_change(tx).await?;
    for ((topic, partition), start) in starts {
        tx.execute(
            "UPDATE webhook_starts SET start_offset = $5
             WHERE tenant_id = $1 AND endpoint_id = $2 AND topic = $3 AND partition = $4 AND start_offset > $5",
            &[
                tenant.into(),
                endpoint_id.into(),
                topic.as_str().into(),
                (*partition).into(),
                (*start).into(),
            ],
        )
        .await?;
    }
    Ok(())
}

/// Forgets where an endpoint that is being removed began.
///
/// # Errors
/// As the database says.
pub async fn forget(tx: &mut Transaction, tenant: &str, endpoint_id: &str) -> Result<(), StoreError> {
    let key = [tenant.into(), endpoint_id.into()];
    tx.execute("DELETE FROM webhook_starts WHERE tenant_id = $1 AND endpoint_id = $2", &key).await.map(drop)
}

/// Where every endpoint of every tenant begins, by tenant and id.
///
/// # Errors
/// As the database says.
pub async fn all(db: &Database) -> Result<BTreeMap<(String, String), Vec<(At, i64)>>, StoreError> {
    let mut starts: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in
        db.rows("SELECT * FROM webhook_starts WHERE start_offset > 0 ORDER BY topic, partition", &[]).await?
    {
        let partition = i32::try_from(row.int("partition")?).map_err(|error| StoreError::Corrupt {
            column: "partition".to_owned(),
            reason: error.to_string(),
        })?;
        let endpoint = (row.text("tenant_id")?, row.text("endpoint_id")?);
        starts.entry(endpoint).or_default().push(((row.text("topic")?, partition), row.int("start_offset")?));
    }
    Ok(starts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_engine;
    use crate::store::webhooks;

    #[tokio::test]
    async fn an_endpoint_begins_where_it_was_registered_and_only_ever_earlier() {
        each_engine(async |db| {
            let at = |partition| ("orders".to_owned(), partition);
            let before = webhooks::revision(&db).await.unwrap();
            let mut tx = db.begin().await.unwrap();
            set(&mut tx, ("shop", "wh_1"), &BTreeMap::from([(at(0), 10), (at(1), 20), (at(2), 0)]))
                .await
                .unwrap();
            set(&mut tx, ("other", "wh_1"), &BTreeMap::from([(at(0), 30)])).await.unwrap();
            lower(&mut tx, ("shop", "wh_1"), &BTreeMap::from([(at(0), 5), (at(1), 25)])).await.unwrap();
            tx.commit().await.unwrap();
            assert!(webhooks::revision(&db).await.unwrap() > before);
            let starts = all(&db).await.unwrap();
            assert_eq!(starts[&("shop".to_owned(), "wh_1".to_owned())], [(at(0), 5), (at(1), 20)]);
            let mut tx = db.begin().await.unwrap();
            forget(&mut tx, "shop", "wh_1").await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(all(&db).await.unwrap().len(), 1);
        })
        .await;
    }
}
