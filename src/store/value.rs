//! What goes into a statement and comes out of a row, the same for both engines.

use std::borrow::Cow;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{ColumnIndex, Decode, Row as _, Type};

use super::StoreError;

/// A parameter of a statement, borrowed where it can be. The typed nulls are there because PostgreSQL asks for the type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// BIGINT.
    Int(Option<i64>),
    /// TEXT.
    Text(Option<Cow<'a, str>>),
    /// BYTEA or BLOB.
    Bytes(Option<Cow<'a, [u8]>>),
    /// BIGINT[], PostgreSQL only (for UNNEST).
    Ints(Vec<Option<i64>>),
    /// TEXT[], PostgreSQL only (for UNNEST).
    Texts(Vec<Option<Cow<'a, str>>>),
    /// BYTEA[], PostgreSQL only (for UNNEST).
    Blobs(Vec<Option<Cow<'a, [u8]>>>),
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<i32> for Value<'_> {
    fn from(value: i32) -> Self {
        Self::Int(Some(i64::from(value)))
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Int(Some(i64::from(value)))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Some(value.into()))
    }
}

impl From<String> for Value<'_> {
    fn from(value: String) -> Self {
        Self::Text(Some(value.into()))
    }
}

impl From<Option<String>> for Value<'_> {
    fn from(value: Option<String>) -> Self {
        Self::Text(value.map(Cow::Owned))
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Self::Text(value.map(Cow::Borrowed))
    }
}

impl From<uuid::Uuid> for Value<'_> {
    fn from(value: uuid::Uuid) -> Self {
        Self::Text(Some(value.to_string().into()))
    }
}

impl From<Vec<u8>> for Value<'_> {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(Some(value.into()))
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(Some(value.into()))
    }
}

impl<'a> From<Option<&'a [u8]>> for Value<'a> {
    fn from(value: Option<&'a [u8]>) -> Self {
        Self::Bytes(value.map(Cow::Borrowed))
    }
}

impl From<Option<Vec<u8>>> for Value<'_> {
    fn from(value: Option<Vec<u8>>) -> Self {
        Self::Bytes(value.map(Cow::Owned))
    }
}

impl<'a> From<&'a crate::crypto::Sealed> for Value<'a> {
    fn from(value: &'a crate::crypto::Sealed) -> Self {
        Self::Bytes(Some(value.as_bytes().into()))
    }
}

impl<'a> From<Option<&'a crate::crypto::Sealed>> for Value<'a> {
    fn from(value: Option<&'a crate::crypto::Sealed>) -> Self {
        Self::Bytes(value.map(|sealed| sealed.as_bytes().into()))
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
