//! A schema of its own in the real PostgreSQL, to give to the program and to look into.

use sqlx::PgPool;

/// A fresh schema; drop it at the end of the test.
pub(crate) struct Schema {
    admin: PgPool,
    name: String,
    url: String,
}

impl Schema {
    pub(crate) async fn new() -> Self {
        let base = super::service("ORDERFLOW_TEST_POSTGRES");
        let name = format!("t_{}", uuid::Uuid::now_v7().simple());
        let admin = PgPool::connect(&base).await.expect("postgres answers");
        let create = format!("CREATE SCHEMA {name}");
        sqlx::query(sqlx::AssertSqlSafe(create)).execute(&admin).await.expect("the schema is made");
        let url = format!("{base}?options=-c%20search_path%3D{name}");
        admin.close().await;
        let admin = PgPool::connect(&url).await.expect("postgres answers");
        Self { admin, name, url }
    }

    /// What `store.url` is set to.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What a counting query gives; 0 while its table isn't there.
    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.admin).await.unwrap_or(0)
    }

    /// The ids of an order's events, in the order of their versions.
    pub(crate) async fn event_ids(&self, tenant: &str, order: &str) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT event_id FROM order_events WHERE tenant_id = $1 AND order_id = $2 ORDER BY version",
        )
        .bind(tenant)
        .bind(order)
        .fetch_all(&self.admin)
        .await
        .expect("the history is read")
    }

    pub(crate) async fn drop(self) {
        let drop = format!("DROP SCHEMA {} CASCADE", self.name);
        sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&self.admin).await.expect("the schema is dropped");
    }
}
