//! Why the store refused, sorted by whose fault it is.

use sqlx::error::ErrorKind;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, overloaded or refuses us: wait and try again, the record isn't at fault.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The settings can't be used.
    #[error("{0}")]
    Settings(String),
    /// A constraint (unique, foreign key, not null, check) refused the row: the record's own fault.
    #[error("a constraint refused the row: {0}")]
    Constraint(String),
    /// The value itself can't be stored (out of range, not valid text): the record's own fault.
    #[error("the value can't be stored: {0}")]
    Data(String),
    /// What is stored can't be read back as what it should be.
    #[error("column {column} holds something else than expected: {reason}")]
    Corrupt {
        /// Column name.
        column: String,
        /// What was found.
        reason: String,
    },
    /// The schema isn't what this program needs.
    #[error("the database schema can't be brought up to date: {0}")]
    Migration(String),
}

impl StoreError {
    /// The closed list of errors that a record brings upon itself; anything else means "database away".
    pub fn is_records_fault(&self) -> bool {
        match self {
            Self::Constraint(_) | Self::Data(_) => true,
            Self::Unavailable(_) | Self::Settings(_) | Self::Corrupt { .. } | Self::Migration(_) => false,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            // The pool tries a server that refuses connections again until its time is over, and doesn't say so.
            return Self::Unavailable(if matches!(error, sqlx::Error::PoolTimedOut) {
                "no connection within store.acquire_timeout".to_owned()
            } else {
                error.to_string()
            });
        };
        let message = database.message().to_owned();
        let is_constraint = matches!(
            database.kind(),
            ErrorKind::UniqueViolation
                | ErrorKind::ForeignKeyViolation
                | ErrorKind::NotNullViolation
                | ErrorKind::CheckViolation
                | ErrorKind::ExclusionViolation
        );
        if is_constraint {
            Self::Constraint(message)
        } else if is_data_error(database.code().as_deref()) {
            Self::Data(message)
        } else {
            Self::Unavailable(message)
        }
    }
}

/// PostgreSQL's class 22 (data exception) and 54000 (program limit), SQLite's TOOBIG (18) and MISMATCH (20).
fn is_data_error(code: Option<&str>) -> bool {
    code.is_some_and(|code| {
        (code.len() == 5 && (code.starts_with("22") || code == "54000")) || code == "18" || code == "20"
    })
}
