//! Many rows as columns: how a bulk write is handed to either engine.

use super::Value;

/// One column of many rows: as an array for PostgreSQL's UNNEST, or value by value for SQLite.
pub(super) enum Column {
    /// TEXT.
    Texts(Vec<Option<String>>),
    /// BIGINT.
    Ints(Vec<Option<i64>>),
    /// BYTEA or BLOB.
    Blobs(Vec<Option<Vec<u8>>>),
}

impl Column {
    /// A column of texts.
    pub(super) fn texts<T>(rows: &[T], of: impl Fn(&T) -> &str) -> Self {
        Self::Texts(rows.iter().map(|row| Some(of(row).to_owned())).collect())
    }

    /// A column of texts that may be null.
    pub(super) fn optional_texts<T>(rows: &[T], of: impl Fn(&T) -> &Option<String>) -> Self {
        Self::Texts(rows.iter().map(|row| of(row).clone()).collect())
    }

    /// A column of integers.
    pub(super) fn ints<T>(rows: &[T], of: impl Fn(&T) -> i64) -> Self {
        Self::Ints(rows.iter().map(|row| Some(of(row))).collect())
    }

    /// The whole column as a parameter for UNNEST.
    pub(super) fn into_array(self) -> Value {
        match self {
            Self::Texts(values) => Value::Texts(values),
            Self::Ints(values) => Value::Ints(values),
            Self::Blobs(values) => Value::Blobs(values),
        }
    }

    /// The value of one row as a parameter.
    pub(super) fn value(&self, row: usize) -> Value {
        match self {
            Self::Texts(values) => Value::Text(values[row].clone()),
            Self::Ints(values) => Value::Int(values[row]),
            Self::Blobs(values) => Value::Bytes(values[row].clone()),
        }
    }
}
