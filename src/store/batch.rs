//! Many rows in one round trip: PostgreSQL takes whole columns by UNNEST, SQLite takes row after row.
//!
//! Where rows are written, each column is unnested in the list of what is selected: PostgreSQL goes through them side by
//! side there. Behind FROM it puts each column aside as a whole before the first row is seen, which costs as much as a key.
//!
//! What is read or written is said twice, once for one row and once for many; this file only turns rows into
//! columns and chooses.

use super::conversations::OrderKey;
use super::{Engine, Row, StoreError, Transaction, Value};

/// Writes `rows`: by `many` at once, whose parameters are columns, or by `one` for each.
pub(super) async fn write<const COLUMNS: usize>(
    tx: &mut Transaction,
    one: &'static str,
    many: &'static str,
    rows: Vec<[Value<'_>; COLUMNS]>,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    match tx.engine() {
        Engine::Postgres => {
            tx.execute(many, &columns(rows)?).await?;
        }
        Engine::Sqlite => {
            for row in rows {
                tx.execute(one, &row).await?;
            }
        }
    }
    Ok(())
}

/// Reads what belongs to `keys`: by `many` at once (tenants and orders as `$1` and `$2`), or by `one` for each.
pub(super) async fn of_orders(
    tx: &mut Transaction,
    one: &'static str,
    many: &'static str,
    keys: &[OrderKey],
) -> Result<Vec<Row>, StoreError> {
    match tx.engine() {
        Engine::Postgres => {
            let tenants = keys.iter().map(|key| Some(key.tenant.as_str().into())).collect();
            let orders = keys.iter().map(|key| Some(key.order.as_str().into())).collect();
            tx.rows(many, &[Value::Texts(tenants), Value::Texts(orders)]).await
        }
        Engine::Sqlite => {
            let mut rows = Vec::new();
            for key in keys {
                rows.extend(tx.rows(one, &[key.tenant.as_str().into(), key.order.as_str().into()]).await?);
            }
            Ok(rows)
        }
    }
}

/// Rows as columns; every row holds the same kinds of values.
fn columns<const COLUMNS: usize>(rows: Vec<[Value<'_>; COLUMNS]>) -> Result<Vec<Value<'_>>, StoreError> {
    let count = rows.len();
    let mut columns: Vec<Value<'_>> = match rows.first() {
        Some(first) => first.iter().map(|value| empty(value, count)).collect(),
        None => Vec::new(),
    };
    for row in rows {
        for (at, (column, value)) in columns.iter_mut().zip(row).enumerate() {
            match (column, value) {
                (Value::Ints(column), Value::Int(value)) => column.push(value),
                (Value::Texts(column), Value::Text(value)) => column.push(value),
                (Value::Blobs(column), Value::Bytes(value)) => column.push(value),
                (_, _) => return Err(StoreError::Data(format!("column {at} holds values of two kinds"))),
            }
        }
    }
    Ok(columns)
}

/// A column for `count` values such as this one.
fn empty<'a>(value: &Value<'_>, count: usize) -> Value<'a> {
    match value {
        Value::Int(_) | Value::Ints(_) => Value::Ints(Vec::with_capacity(count)),
        Value::Text(_) | Value::Texts(_) => Value::Texts(Vec::with_capacity(count)),
        Value::Bytes(_) | Value::Blobs(_) => Value::Blobs(Vec::with_capacity(count)),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn rows_become_columns_of_one_kind_each() {
        let rows = vec![[Value::from(1_i64), Value::from("a")], [Value::Int(None), Value::from("b")]];
        let texts = vec![Some("a".into()), Some("b".into())];
        assert_eq!(columns(rows).unwrap(), [Value::Ints(vec![Some(1), None]), Value::Texts(texts)]);
        assert!(columns(vec![[Value::from(1_i64)], [Value::from("a")]]).is_err());
    }

    #[test]
    fn what_rows_hold_is_not_copied_into_columns() {
        let (text, bytes) = ("a".to_owned(), vec![1]);
        let row = [Value::from(text.as_str()), Value::from(bytes.as_slice())];
        let columns = columns(vec![row]).unwrap();
        let [Value::Texts(texts), Value::Blobs(blobs)] = columns.as_slice() else { panic!("{columns:?}") };
        assert!(matches!(texts.as_slice(), [Some(Cow::Borrowed("a"))]), "{texts:?}");
        assert!(matches!(blobs.as_slice(), [Some(Cow::Borrowed([1]))]), "{blobs:?}");
    }
}
