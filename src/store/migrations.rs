//! The schema's history, one numbered file per subject and engine, applied in order and never changed.

use sqlx::migrate::{MigrateError, Migrator};

use super::StoreError;

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
        match error {
            MigrateError::Execute(inner) => match Self::from(inner) {
                Self::Unavailable(reason) => Self::Unavailable(reason),
                other => Self::Migration(other.to_string()),
            },
            other => Self::Migration(other.to_string()),
        }
    }
}
