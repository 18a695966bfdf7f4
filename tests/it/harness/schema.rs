//! A PostgreSQL schema of a test's own, gone with the test.

use std::time::Duration;

use orderflow::crypto::Secret;
use orderflow::store::{Database, StoreOptions};

/// A fresh schema.
pub(crate) struct TestSchema {
    name: String,
}

impl TestSchema {
    pub(crate) async fn create() -> Self {
        let name = format!("t_{}", uuid::Uuid::now_v7().simple());
        admin(format!("CREATE SCHEMA {name}")).await;
        Self { name }
    }

    /// The URL of the test PostgreSQL with everything in this schema.
    pub(crate) fn url(&self) -> String {
        self.url_at(&super::service("ORDERFLOW_TEST_POSTGRES"))
    }

    /// The same, reaching the server by `url`.
    pub(crate) fn url_at(&self, url: &str) -> String {
        let separator = if url.contains('?') { '&' } else { '?' };
        format!("{url}{separator}options=-c%20search_path%3D{}", self.name)
    }

    /// Connections to it.
    pub(crate) fn database(&self, url: &str) -> Database {
        let options = StoreOptions {
            url: Secret::new(self.url_at(url)),
            acquire_timeout: Duration::from_secs(5),
            ..StoreOptions::default()
        };
        Database::open(&options).expect("a valid URL")
    }

    pub(crate) async fn drop(self) {
        admin(format!("DROP SCHEMA {} CASCADE", self.name)).await;
    }
}

async fn admin(statement: String) {
    let pool =
        sqlx::PgPool::connect(&super::service("ORDERFLOW_TEST_POSTGRES")).await.expect("postgres answers");
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.expect("the statement is fine");
    pool.close().await;
}
