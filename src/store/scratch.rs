//! An empty database beside the real one, for measurements: a schema of its own in the same PostgreSQL, or another
//! file beside the SQLite one. One at a time: what a run before left behind goes first.

use super::{Database, StoreError, StoreOptions};
use crate::crypto::Secret;

const SCHEMA: &str = "orderflow_bench";
const DROP: &str = "DROP SCHEMA IF EXISTS orderflow_bench CASCADE";
const CREATE: &str = "CREATE SCHEMA orderflow_bench";

/// The empty database, migrated.
#[derive(Debug)]
pub struct Scratch {
    /// Connections to it.
    pub db: Database,
    /// How it is reached.
    options: StoreOptions,
    real: StoreOptions,
}

impl Scratch {
    /// Makes it beside the database of `real`, which is left alone.
    ///
    /// # Errors
    /// When the database is away, or refuses a schema.
    pub async fn create(real: &StoreOptions) -> Result<Self, StoreError> {
        let scratch = Self::at(real)?;
        scratch.clear().await?;
        if scratch.is_postgres() {
            statement(real, CREATE).await?;
        }
        scratch.db.migrate().await?;
        Ok(scratch)
    }

    /// Takes it away.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn remove(self) -> Result<(), StoreError> {
        self.db.close().await;
        self.clear().await
    }

    fn at(real: &StoreOptions) -> Result<Self, StoreError> {
        let url = real.url.expose();
        let url = match url.strip_prefix("sqlite:") {
            Some(_) => {
                let path = url.split('?').next().unwrap_or(url).trim_end_matches(".db");
                format!("{path}-bench.db")
            }
            None => {
                let separator = if url.contains('?') { '&' } else { '?' };
                format!("{url}{separator}options=-c%20search_path%3D{SCHEMA}")
            }
        };
        let options = StoreOptions { url: Secret::new(url), ..real.clone() };
        Ok(Self { db: Database::open(&options)?, options, real: real.clone() })
    }

    fn is_postgres(&self) -> bool {
        !self.options.url.expose().starts_with("sqlite:")
    }

    async fn clear(&self) -> Result<(), StoreError> {
        if self.is_postgres() {
            return statement(&self.real, DROP).await;
        }
        let url = self.options.url.expose();
        let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
        for suffix in ["", "-wal", "-shm"] {
            // What isn't there need not go.
            let _ = std::fs::remove_file(format!("{path}{suffix}"));
        }
        Ok(())
    }
}

async fn statement(options: &StoreOptions, sql: &'static str) -> Result<(), StoreError> {
    let db = Database::open(options)?;
    let mut tx = db.begin().await?;
    tx.execute(sql, &[]).await?;
    tx.commit().await?;
    db.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_stands_beside_the_real_one_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("real.db");
        let real = StoreOptions {
            url: Secret::new(format!("sqlite://{}", path.display())),
            ..StoreOptions::default()
        };
        let scratch = Scratch::create(&real).await.unwrap();
        assert!(folder.path().join("real-bench.db").exists() && !path.exists());
        scratch.db.row("SELECT revision FROM webhook_revision", &[]).await.unwrap();
        scratch.remove().await.unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
