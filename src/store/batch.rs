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
pub(super) async fn write(
    tx: &mut Transaction,
    one: &'static str,
    many: &'static str,
    rows: Vec<Vec<Value>>,
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
            let tenants = keys.iter().map(|key| Some(key.tenant.clone())).collect();
            let orders = keys.iter().map(|key| Some(key.order.clone())).collect();
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
fn columns(rows: Vec<Vec<Value>>) -> Result<Vec<Value>, StoreError> {
    let mut columns: Vec<Value> = Vec::new();
    for row in rows {
        for (at, value) in row.into_iter().enumerate() {
            match (columns.get_mut(at), value) {
                (None, Value::Int(value)) => columns.push(Value::Ints(vec![value])),
                (None, Value::Text(value)) => columns.push(Value::Texts(vec![value])),
                (None, Value::Bytes(value)) => columns.push(Value::Blobs(vec![value])),
                (Some(Value::Ints(column)), Value::Int(value)) => column.push(value),
                (Some(Value::Texts(column)), Value::Text(value)) => column.push(value),
                (Some(Value::Blobs(column)), Value::Bytes(value)) => column.push(value),
                (_, _) => return Err(StoreError::Data(format!("column {at} holds values of two kinds"))),
            }
        }
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns_of_one_kind_each() {
        let rows = vec![vec![Value::from(1_i64), Value::from("a")], vec![Value::Int(None), Value::from("b")]];
        let texts = vec![Some("a".to_owned()), Some("b".to_owned())];
        assert_eq!(columns(rows).unwrap(), [Value::Ints(vec![Some(1), None]), Value::Texts(texts)]);
        assert!(columns(vec![vec![Value::from(1_i64)], vec![Value::from("a")]]).is_err());
    }
}
