//! What goes into a statement and comes out of a row, the same for both engines.

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{ColumnIndex, Decode, Row as _, Type};

use super::StoreError;

/// A parameter of a statement. The typed nulls are there because PostgreSQL asks for the type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// BIGINT.
    Int(Option<i64>),
    /// TEXT.
    Text(Option<String>),
    /// BYTEA or BLOB.
    Bytes(Option<Vec<u8>>),
    /// BIGINT[], PostgreSQL only (for UNNEST).
    Ints(Vec<Option<i64>>),
    /// TEXT[], PostgreSQL only (for UNNEST).
    Texts(Vec<Option<String>>),
    /// BYTEA[], PostgreSQL only (for UNNEST).
    Blobs(Vec<Option<Vec<u8>>>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(Some(i64::from(value)))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(Some(i64::from(value)))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}

impl From<uuid::Uuid> for Value {
    fn from(value: uuid::Uuid) -> Self {
        Self::Text(Some(value.to_string()))
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(Some(value))
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(Some(value.to_vec()))
    }
}

impl From<Option<Vec<u8>>> for Value {
    fn from(value: Option<Vec<u8>>) -> Self {
        Self::Bytes(value)
    }
}

impl From<&crate::crypto::Sealed> for Value {
    fn from(value: &crate::crypto::Sealed) -> Self {
        Self::Bytes(Some(value.as_bytes().to_vec()))
    }
}

/// One row of an answer; columns are read by name.
pub struct Row(Inner);

enum Inner {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row").finish_non_exhaustive()
    }
}

impl From<PgRow> for Row {
    fn from(row: PgRow) -> Self {
        Self(Inner::Postgres(row))
    }
}

impl From<SqliteRow> for Row {
    fn from(row: SqliteRow) -> Self {
        Self(Inner::Sqlite(row))
    }
}

impl Row {
    /// TEXT NOT NULL.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the column is missing, null or of another type. So for all below.
    pub fn text(&self, column: &str) -> Result<String, StoreError> {
        self.get(column)
    }

    /// TEXT.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn opt_text(&self, column: &str) -> Result<Option<String>, StoreError> {
        self.get(column)
    }

    /// TEXT NOT NULL that holds a UUID.
    ///
    /// # Errors
    /// See [`Row::text`]; also when it isn't one.
    pub fn uuid(&self, column: &str) -> Result<uuid::Uuid, StoreError> {
        self.text(column)?.parse().map_err(|_| StoreError::Corrupt {
            column: column.to_owned(),
            reason: "it isn't a UUID".to_owned(),
        })
    }

    /// BIGINT NOT NULL.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn int(&self, column: &str) -> Result<i64, StoreError> {
        self.get(column)
    }

    /// BIGINT.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn opt_int(&self, column: &str) -> Result<Option<i64>, StoreError> {
        self.get(column)
    }

    /// BYTEA or BLOB NOT NULL.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn bytes(&self, column: &str) -> Result<Vec<u8>, StoreError> {
        self.get(column)
    }

    /// BYTEA or BLOB.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn opt_bytes(&self, column: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(column)
    }

    /// A sealed envelope.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn sealed(&self, column: &str) -> Result<crate::crypto::Sealed, StoreError> {
        self.bytes(column).map(crate::crypto::Sealed::from_bytes)
    }

    /// A sealed envelope, or null.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn opt_sealed(&self, column: &str) -> Result<Option<crate::crypto::Sealed>, StoreError> {
        Ok(self.opt_bytes(column)?.map(crate::crypto::Sealed::from_bytes))
    }

    /// BIGINT used as a truth value: 0 is false.
    ///
    /// # Errors
    /// See [`Row::text`].
    pub fn flag(&self, column: &str) -> Result<bool, StoreError> {
        self.int(column).map(|value| value != 0)
    }

    fn get<T>(&self, column: &str) -> Result<T, StoreError>
    where
        T: for<'r> Decode<'r, sqlx::Postgres> + Type<sqlx::Postgres>,
        T: for<'r> Decode<'r, sqlx::Sqlite> + Type<sqlx::Sqlite>,
        for<'a> &'a str: ColumnIndex<PgRow> + ColumnIndex<SqliteRow>,
    {
        let value = match &self.0 {
            Inner::Postgres(row) => row.try_get(column),
            Inner::Sqlite(row) => row.try_get(column),
        };
        value.map_err(|error| StoreError::Corrupt { column: column.to_owned(), reason: error.to_string() })
    }
}
