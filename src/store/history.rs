//! The history: every event of every order, once, and each order as it is now.
//!
//! A version counts the events of one order from 1, in the order in which they took effect. An event is kept
//! masked, with the personal values sealed beside it (see [`super::personal`]).

pub mod past;

use serde_json::Value as Json;

use super::batch;
use super::{Database, Engine, Row, StoreError, Transaction, Value, personal};
use crate::crypto::{Sealed, Subject, Vault};
use crate::order::OrderState;

/// An event to be kept.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The tenant.
    pub tenant: String,
    /// The order.
    pub order_id: String,
    /// Its place among the order's events, from 1.
    pub version: i64,
    /// The event id.
    pub event_id: String,
    /// The dotted type.
    pub kind: String,
    /// The registry's id of the schema it was written with.
    pub schema_id: i64,
    /// When it happened, epoch milliseconds.
    pub occurred_at: i64,
    /// What it belongs to.
    pub correlation_id: Option<String>,
    /// What led to it.
    pub causation_id: Option<String>,
    /// The system that published it.
    pub source: Option<String>,
    /// The Kafka cluster it came from.
    pub cluster_id: String,
    /// The topic, partition and offset it came from.
    pub coordinates: (String, i32, i64),
    /// SHA-256 of the record's value.
    pub payload_hash: Vec<u8>,
    /// The event as JSON, masked.
    pub masked: String,
    /// The personal values, sealed.
    pub personal: String,
}

/// An event as it was kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// Its place among the order's events, from 1.
    pub version: i64,
    /// The event id.
    pub event_id: String,
    /// The dotted type.
    pub kind: String,
    /// When it was kept, epoch milliseconds.
    pub recorded_at: i64,
    /// The event as JSON, masked.
    pub event: Json,
    personal: String,
}

impl StoredEvent {
    /// The event with its personal values, for those who may see them.
    ///
    /// # Errors
    /// When what is stored can't be read.
    pub fn unmasked(&self, vault: &Vault, tenant: &str) -> Result<Json, personal::PersonalError> {
        let mut event = self.event.clone();
        personal::open(vault, tenant, &mut event, &self.personal)?;
        Ok(event)
    }
}

/// An order as it is now.
#[derive(Debug, Clone)]
pub struct OrderRow {
    /// The tenant.
    pub tenant: String,
    /// The order.
    pub order_id: String,
    /// How many events it has.
    pub version: i64,
    /// Its status.
    pub status: String,
    /// The number that people know it by.
    pub order_number: Option<i64>,
    /// The buyer's user id.
    pub buyer_id: Option<String>,
    /// The seller's user id.
    pub seller_id: Option<String>,
    /// The folded state as JSON, sealed for the order's parties.
    pub state: Sealed,
}

impl OrderRow {
    /// The row of `state`.
    ///
    /// # Errors
    /// When the state can't be sealed.
    pub fn seal(vault: &Vault, state: &OrderState) -> Result<Self, StoreError> {
        let plain = serde_json::to_vec(state).map_err(|error| StoreError::Data(error.to_string()))?;
        let sealed = vault
            .seal(state_subject(&state.tenant_id, &state.order_id), &plain)
            .map_err(|error| StoreError::Data(error.to_string()))?;
        Ok(Self {
            tenant: state.tenant_id.clone(),
            order_id: state.order_id.clone(),
            version: state.version,
            status: state.status.as_str().to_owned(),
            order_number: state.order_number,
            buyer_id: state.buyer.as_ref().map(|buyer| buyer.user_id.clone()),
            seller_id: state.seller.as_ref().map(|seller| seller.user_id.clone()),
            state: sealed,
        })
    }

    /// The state that the row holds.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it doesn't open with this vault, or isn't a state.
    pub fn open(&self, vault: &Vault) -> Result<OrderState, StoreError> {
        let corrupt = |reason: String| StoreError::Corrupt { column: "state".to_owned(), reason };
        let plain = vault
            .open(state_subject(&self.tenant, &self.order_id), &self.state)
            .map_err(|error| corrupt(error.to_string()))?;
        serde_json::from_slice(&plain).map_err(|error| corrupt(error.to_string()))
    }
}

/// Whom an order's sealed state is about: the order as such stands for its parties.
fn state_subject<'a>(tenant: &'a str, order_id: &'a str) -> Subject<'a> {
    Subject::Person { tenant, person: order_id }
}

/// Which of an order's events to give.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only these dotted types; empty is all.
    pub kinds: Vec<String>,
    /// Only what happened at or after this, epoch milliseconds.
    pub from_ms: Option<i64>,
    /// Only what happened before this, epoch milliseconds.
    pub to_ms: Option<i64>,
    /// Only versions below this one (for paging).
    pub before_version: Option<i64>,
}

/// The hashes of those of `ids` (tenant, event id) that are kept already.
///
/// # Errors
/// As the database says.
pub async fn known(
    tx: &mut Transaction,
    ids: &[(&str, &str)],
) -> Result<Vec<(String, String, Vec<u8>)>, StoreError> {
    let rows = match tx.engine() {
        Engine::Postgres => {
            tx.rows(
                "SELECT e.tenant_id, e.event_id, e.payload_hash
                 FROM UNNEST($1::TEXT[], $2::TEXT[]) AS asked (tenant_id, event_id)
                 JOIN order_events e ON e.tenant_id = asked.tenant_id AND e.event_id = asked.event_id",
                &columns(ids),
            )
            .await?
        }
        Engine::Sqlite => {
            let mut rows = Vec::new();
            for (tenant, id) in ids {
                let found = tx
                    .row(
                        "SELECT tenant_id, event_id, payload_hash FROM order_events WHERE tenant_id = $1 AND event_id = $2",
                        &[(*tenant).into(), (*id).into()],
                    )
                    .await?;
                rows.extend(found);
            }
            rows
        }
    };
    rows.iter()
        .map(|row| Ok((row.text("tenant_id")?, row.text("event_id")?, row.bytes("payload_hash")?)))
        .collect()
}

/// Those of `orders` (tenant, order id) that are known, locked until the transaction ends.
///
/// # Errors
/// As the database says.
pub async fn lock_orders(tx: &mut Transaction, orders: &[(&str, &str)]) -> Result<Vec<OrderRow>, StoreError> {
    let rows = match tx.engine() {
        Engine::Postgres => {
            tx.rows(
                "SELECT o.* FROM UNNEST($1::TEXT[], $2::TEXT[]) AS asked (tenant_id, order_id)
                 JOIN orders o ON o.tenant_id = asked.tenant_id AND o.order_id = asked.order_id
                 ORDER BY o.tenant_id, o.order_id FOR UPDATE OF o",
                &columns(orders),
            )
            .await?
        }
        Engine::Sqlite => {
            let mut rows = Vec::new();
            for (tenant, order) in orders {
                rows.extend(tx.row(ORDER, &[(*tenant).into(), (*order).into()]).await?);
            }
            rows
        }
    };
    rows.iter().map(order_row).collect()
}

/// The insert of events whose rows come as `$rows`.
macro_rules! add_sql {
    ($rows:literal) => {
        concat!(
            "INSERT INTO order_events (tenant_id, order_id, version, event_id, event_type, schema_id, occurred_at,
                 recorded_at, correlation_id, causation_id, source, topic, partition, record_offset, payload_hash,
                 event, personal, cluster_id) ",
            $rows
        )
    };
}

/// The write of orders whose rows come as `$rows`.
macro_rules! save_sql {
    ($rows:literal) => {
        concat!(
            "INSERT INTO orders (tenant_id, order_id, version, status, order_number, buyer_id, seller_id, state,
                 updated_at) ",
            $rows,
            " ON CONFLICT (tenant_id, order_id) DO UPDATE SET version = excluded.version, status = excluded.status,
                 order_number = excluded.order_number, buyer_id = excluded.buyer_id,
                 seller_id = excluded.seller_id, state = excluded.state, updated_at = excluded.updated_at"
        )
    };
}

/// Adds events.
///
/// # Errors
/// As the database says; a version or event id that is taken is [`StoreError::Constraint`].
pub async fn add(tx: &mut Transaction, events: &[NewEvent], now_ms: i64) -> Result<(), StoreError> {
    batch::write(
        tx,
        add_sql!("VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)"),
        add_sql!(
            "SELECT UNNEST($1::TEXT[]), UNNEST($2::TEXT[]), UNNEST($3::BIGINT[]), UNNEST($4::TEXT[]),
                 UNNEST($5::TEXT[]), UNNEST($6::BIGINT[]), UNNEST($7::BIGINT[]), UNNEST($8::BIGINT[]),
                 UNNEST($9::TEXT[]), UNNEST($10::TEXT[]), UNNEST($11::TEXT[]), UNNEST($12::TEXT[]),
                 UNNEST($13::BIGINT[]), UNNEST($14::BIGINT[]), UNNEST($15::BYTEA[]), UNNEST($16::TEXT[]),
                 UNNEST($17::TEXT[]), UNNEST($18::TEXT[])"
        ),
        events.iter().map(|event| event_values(event, now_ms)).collect(),
    )
    .await
}

/// Writes orders as they are now.
///
/// # Errors
/// As the database says.
pub async fn save_orders(tx: &mut Transaction, orders: &[OrderRow], now_ms: i64) -> Result<(), StoreError> {
    batch::write(
        tx,
        save_sql!("VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"),
        save_sql!(
            "SELECT UNNEST($1::TEXT[]), UNNEST($2::TEXT[]), UNNEST($3::BIGINT[]), UNNEST($4::TEXT[]),
                 UNNEST($5::BIGINT[]), UNNEST($6::TEXT[]), UNNEST($7::TEXT[]), UNNEST($8::BYTEA[]),
                 UNNEST($9::BIGINT[])"
        ),
        orders.iter().map(|order| order_values(order, now_ms)).collect(),
    )
    .await
}

/// An order as it is now, or `None` when it isn't known.
///
/// # Errors
/// As the database says.
pub async fn order(db: &Database, tenant: &str, order_id: &str) -> Result<Option<OrderRow>, StoreError> {
    db.row(ORDER, &[tenant.into(), order_id.into()]).await?.as_ref().map(order_row).transpose()
}

/// Up to `limit` events of an order, newest first.
///
/// # Errors
/// As the database says.
pub async fn events(
    db: &Database,
    tenant: &str,
    order_id: &str,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<StoredEvent>, StoreError> {
    let mut values = filter_values(tenant, order_id, filter)?;
    values.extend([filter.before_version.unwrap_or(i64::MAX).into(), limit.into()]);
    let sql = match db.engine() {
        Engine::Postgres => {
            "SELECT version, event_id, event_type, recorded_at, event, personal FROM order_events
             WHERE tenant_id = $1 AND order_id = $2 AND occurred_at >= $3 AND occurred_at < $4
               AND ($5 = '[]' OR event_type IN (SELECT jsonb_array_elements_text($5::JSONB))) AND version < $6
             ORDER BY version DESC LIMIT $7"
        }
        Engine::Sqlite => {
            "SELECT version, event_id, event_type, recorded_at, event, personal FROM order_events
             WHERE tenant_id = $1 AND order_id = $2 AND occurred_at >= $3 AND occurred_at < $4
               AND ($5 = '[]' OR event_type IN (SELECT value FROM json_each($5))) AND version < $6
             ORDER BY version DESC LIMIT $7"
        }
    };
    db.rows(sql, &values).await?.iter().map(stored_event).collect()
}

/// How many events of an order pass `filter`, whatever the page.
///
/// # Errors
/// As the database says.
pub async fn count(db: &Database, tenant: &str, order_id: &str, filter: &Filter) -> Result<i64, StoreError> {
    let values = filter_values(tenant, order_id, filter)?;
    let sql = match db.engine() {
        Engine::Postgres => {
            "SELECT COUNT(*) AS events FROM order_events
             WHERE tenant_id = $1 AND order_id = $2 AND occurred_at >= $3 AND occurred_at < $4
               AND ($5 = '[]' OR event_type IN (SELECT jsonb_array_elements_text($5::JSONB)))"
        }
        Engine::Sqlite => {
            "SELECT COUNT(*) AS events FROM order_events
             WHERE tenant_id = $1 AND order_id = $2 AND occurred_at >= $3 AND occurred_at < $4
               AND ($5 = '[]' OR event_type IN (SELECT value FROM json_each($5)))"
        }
    };
    db.row(sql, &values).await?.map_or(Ok(0), |row| row.int("events"))
}

/// Where an event lies in Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The topic, as named on the broker.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// Where the event called `event_id` was read, if it is kept.
///
/// # Errors
/// As the database says.
pub async fn place_of(db: &Database, tenant: &str, event_id: &str) -> Result<Option<Place>, StoreError> {
    const PLACE: &str =
        "SELECT topic, partition, record_offset FROM order_events WHERE tenant_id = $1 AND event_id = $2";
    let Some(row) = db.row(PLACE, &[tenant.into(), event_id.into()]).await? else { return Ok(None) };
    let partition = i32::try_from(row.int("partition")?)
        .map_err(|error| StoreError::Corrupt { column: "partition".to_owned(), reason: error.to_string() })?;
    Ok(Some(Place { topic: row.text("topic")?, partition, offset: row.int("record_offset")? }))
}

const ORDER: &str = "SELECT * FROM orders WHERE tenant_id = $1 AND order_id = $2";

fn filter_values<'a>(
    tenant: &'a str,
    order_id: &'a str,
    filter: &Filter,
) -> Result<Vec<Value<'a>>, StoreError> {
    let kinds = serde_json::to_string(&filter.kinds).map_err(|error| StoreError::Data(error.to_string()))?;
    Ok(vec![
        tenant.into(),
        order_id.into(),
        filter.from_ms.unwrap_or(i64::MIN).into(),
        filter.to_ms.unwrap_or(i64::MAX).into(),
        kinds.into(),
    ])
}

fn stored_event(row: &Row) -> Result<StoredEvent, StoreError> {
    let event = serde_json::from_str(&row.text("event")?)
        .map_err(|error| StoreError::Corrupt { column: "event".to_owned(), reason: error.to_string() })?;
    Ok(StoredEvent {
        version: row.int("version")?,
        event_id: row.text("event_id")?,
        kind: row.text("event_type")?,
        recorded_at: row.int("recorded_at")?,
        event,
        personal: row.text("personal")?,
    })
}

fn order_row(row: &Row) -> Result<OrderRow, StoreError> {
    Ok(OrderRow {
        tenant: row.text("tenant_id")?,
        order_id: row.text("order_id")?,
        version: row.int("version")?,
        status: row.text("status")?,
        order_number: row.opt_int("order_number")?,
        buyer_id: row.opt_text("buyer_id")?,
        seller_id: row.opt_text("seller_id")?,
        state: row.sealed("state")?,
    })
}

fn columns<'a>(pairs: &[(&'a str, &'a str)]) -> [Value<'a>; 2] {
    let (firsts, seconds) =
        pairs.iter().map(|(first, second)| (Some((*first).into()), Some((*second).into()))).unzip();
    [Value::Texts(firsts), Value::Texts(seconds)]
}

fn event_values(event: &NewEvent, now_ms: i64) -> [Value<'_>; 18] {
    let (topic, partition, offset) = &event.coordinates;
    [
        event.tenant.as_str().into(),
        event.order_id.as_str().into(),
        event.version.into(),
        event.event_id.as_str().into(),
        event.kind.as_str().into(),
        event.schema_id.into(),
        event.occurred_at.into(),
        now_ms.into(),
        event.correlation_id.as_deref().into(),
        event.causation_id.as_deref().into(),
        event.source.as_deref().into(),
        topic.as_str().into(),
        (*partition).into(),
        (*offset).into(),
        event.payload_hash.as_slice().into(),
        event.masked.as_str().into(),
        event.personal.as_str().into(),
        event.cluster_id.as_str().into(),
    ]
}

fn order_values(order: &OrderRow, now_ms: i64) -> [Value<'_>; 9] {
    [
        order.tenant.as_str().into(),
        order.order_id.as_str().into(),
        order.version.into(),
        order.status.as_str().into(),
        order.order_number.into(),
        order.buyer_id.as_deref().into(),
        order.seller_id.as_deref().into(),
        (&order.state).into(),
        now_ms.into(),
    ]
}

#[cfg(test)]
mod tests;
