//! The schema's history, one numbered file per subject and engine, applied in order and never changed.

use sqlx::migrate::{MigrateError, Migrator};

use super::{Database, Engine, StoreError};

/// One step of the schema's history.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Migration {
    /// Its number.
    pub version: i64,
    /// Its subject.
    pub subject: String,
    /// Whether the database has it.
    pub applied: bool,
}

/// Every migration that this program knows, and which of them the database has.
///
/// # Errors
/// When the database is away.
pub async fn status(db: &Database) -> Result<Vec<Migration>, StoreError> {
    let (known, exists) = match db.engine() {
        Engine::Postgres => (
            postgres(),
            "SELECT count(*) AS tables FROM information_schema.tables \
             WHERE table_schema = current_schema() AND table_name = '_sqlx_migrations'",
        ),
        Engine::Sqlite => {
            (sqlite(), "SELECT count(*) AS tables FROM sqlite_master WHERE name = '_sqlx_migrations'")
        }
    };
    let begun = match db.row(exists, &[]).await? {
        Some(row) => row.int("tables")? > 0,
        None => false,
    };
    let rows = match begun {
        true => db.rows("SELECT version FROM _sqlx_migrations WHERE success", &[]).await?,
        false => Vec::new(),
    };
    let applied = rows.iter().map(|row| row.int("version")).collect::<Result<Vec<_>, _>>()?;
    let migration = |known: &sqlx::migrate::Migration| Migration {
        version: known.version,
        subject: known.description.to_string(),
        applied: applied.contains(&known.version),
    };
    Ok(known.iter().map(migration).collect())
}

/// Migrations for PostgreSQL.
pub(super) fn postgres() -> Migrator {
    sqlx::migrate!("src/store/migrations/postgres")
}

/// Migrations for SQLite.
pub(super) fn sqlite() -> Migrator {
    sqlx::migrate!("src/store/migrations/sqlite")
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        let told = error.to_string();
        if let MigrateError::Execute(inner) = error
            && let Self::Unavailable(reason) = Self::from(inner)
        {
            return Self::Unavailable(reason);
        }
        Self::Migration(told)
    }
}
