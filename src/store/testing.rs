//! Runs one test over both engines: SQLite in a temporary folder, PostgreSQL in a schema of its own.

use std::time::Duration;

use super::{Database, StoreOptions};
use crate::crypto::Secret;

/// Names the PostgreSQL that the tests use. It must be set: a suite that skips an engine proves nothing.
const POSTGRES: &str = "ORDERFLOW_TEST_POSTGRES";

/// Calls `test` with a migrated, empty database of each engine in turn.
pub(crate) async fn each_engine(test: impl AsyncFn(Database)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sqlite = open(format!("sqlite://{}", folder.path().join("test.db").display()));
    sqlite.migrate().await.expect("sqlite migrates");
    test(sqlite.clone()).await;
    sqlite.close().await;

    let url = std::env::var(POSTGRES)
        .unwrap_or_else(|_| panic!("{POSTGRES} must name a PostgreSQL: start one with ops/dev/services up"));
    let admin = sqlx::PgPool::connect(&url).await.expect("the test PostgreSQL answers");
    let schema = format!("t_{}", uuid::Uuid::new_v4().simple());
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}")))
        .execute(&admin)
        .await
        .expect("create schema");
    let separator = if url.contains('?') { '&' } else { '?' };
    let postgres = open(format!("{url}{separator}options=-c%20search_path%3D{schema}"));
    postgres.migrate().await.expect("postgres migrates");
    test(postgres.clone()).await;
    postgres.close().await;
    sqlx::query(sqlx::AssertSqlSafe(format!("DROP SCHEMA {schema} CASCADE")))
        .execute(&admin)
        .await
        .expect("drop schema");
}

fn open(url: String) -> Database {
    let options = StoreOptions {
        url: Secret::new(url),
        max_connections: 4,
        acquire_timeout: Duration::from_secs(10),
        ..StoreOptions::default()
    };
    Database::open(&options).expect("a valid URL")
}
