//! Conversations: one per order, with who takes part, what was said, the payment and the tracking records.
//!
//! Everything here may be written again with the same effect: rows are named by the order, the person or the
//! event they come from, and the times are the events' own. What to write is the notification stage's
//! decision; who may read is the API's.

use std::collections::HashMap;

use uuid::Uuid;

use super::text_enum::text_enum;
use super::{Database, Row, StoreError, Transaction, Value, batch};
use crate::crypto::Sealed;

mod write;

pub use write::{change, join, say, track};

/// Names an order, and so its conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderKey {
    /// The tenant.
    pub tenant: String,
    /// The order within the tenant.
    pub order: String,
}

impl OrderKey {
    /// The key of `order` of `tenant`.
    pub fn new(tenant: impl Into<String>, order: impl Into<String>) -> Self {
        Self { tenant: tenant.into(), order: order.into() }
    }
}

text_enum! {
    /// What a conversation is about.
    Kind {
        /// An order that goes its way.
        Order = "order",
        /// An order that is, or was, disputed.
        Dispute = "dispute",
    }
}

text_enum! {
    /// What a participant is to the order.
    Role {
        /// Who ordered.
        Buyer = "buyer",
        /// Who sells.
        Seller = "seller",
        /// Who mediates.
        Moderator = "moderator",
    }
}

/// A conversation without its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// What it is about.
    pub kind: Kind,
    /// The number that people use for the order, once known.
    pub order_number: Option<i64>,
    /// The newest payment.
    pub payment: Option<Payment>,
    /// When the first event of the order that we saw happened, epoch milliseconds.
    pub opened_at: i64,
    /// When the last one did.
    pub updated_at: i64,
}

/// A payment as the conversation shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The payment, as the provider names it.
    pub payment_id: String,
    /// How it stands: processed, failed or paid.
    pub status: String,
    /// How it is paid.
    pub method: String,
    /// The amount in the currency's smallest unit.
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// When, epoch milliseconds.
    pub at: i64,
}

/// What an event changes in a conversation; `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// An order's conversation can become a dispute's, never the other way.
    pub becomes_dispute: bool,
    /// The number that people use.
    pub order_number: Option<i64>,
    /// A payment; an older one than the one stored is ignored.
    pub payment: Option<Payment>,
}

/// Somebody who takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant {
    /// What they are to the order.
    pub role: Role,
    /// The user within the tenant.
    pub user_id: String,
    /// Name, address and language, sealed for that person.
    pub contact: Option<Sealed>,
    /// When they joined, epoch milliseconds.
    pub joined_at: i64,
}

/// A message in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Names it for ever.
    pub message_id: Uuid,
    /// The event it tells of.
    pub event_id: Uuid,
    /// The event's dotted type.
    pub event_type: String,
    /// The fact it tells of.
    pub fact: String,
    /// The order status that the event resulted in.
    pub status_fact: Option<String>,
    /// For whom the body is sealed; `None`: for the tenant.
    pub person_id: Option<String>,
    /// The language.
    pub locale: String,
    /// The text, sealed.
    pub body: Sealed,
    /// When the event happened, epoch milliseconds.
    pub occurred_at: i64,
}

/// A fact that a message already tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldFact {
    /// The dotted type of the event that told it.
    pub event_type: String,
    /// The fact itself.
    pub fact: String,
    /// The order status that the event resulted in.
    pub status_fact: Option<String>,
}

/// A tracking record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipment {
    /// The carrier's number.
    pub tracking_number: String,
    /// Who carries it.
    pub carrier: Option<String>,
    /// Where to follow it.
    pub tracking_url: Option<String>,
    /// What was last heard of it.
    pub status: String,
    /// When it should arrive, epoch milliseconds.
    pub estimated_delivery: Option<i64>,
    /// When that was said, epoch milliseconds.
    pub updated_at: i64,
}

/// What plans need to know of an order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The number that people use.
    pub order_number: Option<i64>,
    /// Who takes part.
    pub participants: Vec<Participant>,
    /// Which facts its messages tell of.
    pub told: Vec<ToldFact>,
}

/// What plans need to know of the orders `keys`, as the transaction sees it; orders of which nothing is known
/// are left out.
///
/// # Errors
/// As the database says; so for all below.
pub async fn held_in(tx: &mut Transaction, keys: &[OrderKey]) -> Result<HashMap<OrderKey, Held>, StoreError> {
    let mut held: HashMap<OrderKey, Held> = HashMap::new();
    for row in batch::of_orders(tx, NUMBER, NUMBERS, keys).await? {
        held.entry(order_key(&row)?).or_default().order_number = row.opt_int("order_number")?;
    }
    for row in batch::of_orders(tx, PARTICIPANTS, ALL_PARTICIPANTS, keys).await? {
        held.entry(order_key(&row)?).or_default().participants.push(participant(&row)?);
    }
    for row in batch::of_orders(tx, FACTS, ALL_FACTS, keys).await? {
        held.entry(order_key(&row)?).or_default().told.push(ToldFact {
            event_type: row.text("event_type")?,
            fact: row.text("fact")?,
            status_fact: row.opt_text("status_fact")?,
        });
    }
    Ok(held)
}

/// The conversation of an order.
pub async fn find(db: &Database, key: &OrderKey) -> Result<Option<Conversation>, StoreError> {
    let row = db
        .row("SELECT * FROM conversations WHERE tenant_id = $1 AND order_id = $2", &key_values(key))
        .await?;
    row.map(|row| {
        let payment = match (row.opt_text("payment_id")?, row.opt_int("payment_at")?) {
            (Some(payment_id), Some(at)) => Some(Payment {
                payment_id,
                status: row.text("payment_status")?,
                method: row.text("payment_method")?,
                amount_minor: row.int("payment_minor")?,
                currency: row.text("payment_currency")?,
                at,
            }),
            (None, _) | (_, None) => None,
        };
        Ok(Conversation {
            kind: Kind::read(&row, "kind")?,
            order_number: row.opt_int("order_number")?,
            payment,
            opened_at: row.int("opened_at")?,
            updated_at: row.int("updated_at")?,
        })
    })
    .transpose()
}

/// Who takes part in the conversation of an order.
pub async fn participants(db: &Database, key: &OrderKey) -> Result<Vec<Participant>, StoreError> {
    db.rows(PARTICIPANTS, &key_values(key)).await?.iter().map(participant).collect()
}

/// The messages of a conversation, oldest first.
pub async fn messages(db: &Database, key: &OrderKey) -> Result<Vec<Message>, StoreError> {
    let rows = db
        .rows(
            "SELECT * FROM conversation_messages WHERE tenant_id = $1 AND order_id = $2
             ORDER BY occurred_at, created_at, message_id",
            &key_values(key),
        )
        .await?;
    let message = |row: &Row| {
        Ok(Message {
            message_id: row.uuid("message_id")?,
            event_id: row.uuid("event_id")?,
            event_type: row.text("event_type")?,
            fact: row.text("fact")?,
            status_fact: row.opt_text("status_fact")?,
            person_id: row.opt_text("person_id")?,
            locale: row.text("locale")?,
            body: row.sealed("body")?,
            occurred_at: row.int("occurred_at")?,
        })
    };
    rows.iter().map(message).collect()
}

/// The tracking records linked to a conversation.
pub async fn shipments(db: &Database, key: &OrderKey) -> Result<Vec<Shipment>, StoreError> {
    let rows = db
        .rows(
            "SELECT * FROM shipments WHERE tenant_id = $1 AND order_id = $2 ORDER BY tracking_number",
            &key_values(key),
        )
        .await?;
    let shipment = |row: &Row| {
        Ok(Shipment {
            tracking_number: row.text("tracking_number")?,
            carrier: row.opt_text("carrier")?,
            tracking_url: row.opt_text("tracking_url")?,
            status: row.text("status")?,
            estimated_delivery: row.opt_int("estimated_delivery")?,
            updated_at: row.int("updated_at")?,
        })
    };
    rows.iter().map(shipment).collect()
}

/// How many messages there are, over all tenants: for ledgers.
pub async fn count_messages(db: &Database) -> Result<i64, StoreError> {
    let row = db.row("SELECT COUNT(*) AS messages FROM conversation_messages", &[]).await?;
    row.map_or(Ok(0), |row| row.int("messages"))
}

const NUMBER: &str = "SELECT tenant_id, order_id, order_number FROM conversations
     WHERE tenant_id = $1 AND order_id = $2";
const NUMBERS: &str = "SELECT c.tenant_id, c.order_id, c.order_number
     FROM UNNEST($1::TEXT[], $2::TEXT[]) AS asked (tenant_id, order_id)
     JOIN conversations c ON c.tenant_id = asked.tenant_id AND c.order_id = asked.order_id";
const PARTICIPANTS: &str = "SELECT tenant_id, order_id, role, user_id, contact, joined_at
     FROM conversation_participants WHERE tenant_id = $1 AND order_id = $2 ORDER BY role, user_id";
const ALL_PARTICIPANTS: &str = "SELECT p.tenant_id, p.order_id, p.role, p.user_id, p.contact, p.joined_at
     FROM UNNEST($1::TEXT[], $2::TEXT[]) AS asked (tenant_id, order_id)
     JOIN conversation_participants p ON p.tenant_id = asked.tenant_id AND p.order_id = asked.order_id
     ORDER BY p.role, p.user_id";
const FACTS: &str = "SELECT tenant_id, order_id, event_type, fact, status_fact
     FROM conversation_messages WHERE tenant_id = $1 AND order_id = $2";
const ALL_FACTS: &str = "SELECT m.tenant_id, m.order_id, m.event_type, m.fact, m.status_fact
     FROM UNNEST($1::TEXT[], $2::TEXT[]) AS asked (tenant_id, order_id)
     JOIN conversation_messages m ON m.tenant_id = asked.tenant_id AND m.order_id = asked.order_id";

fn order_key(row: &Row) -> Result<OrderKey, StoreError> {
    Ok(OrderKey::new(row.text("tenant_id")?, row.text("order_id")?))
}

fn key_values(key: &OrderKey) -> [Value<'_>; 2] {
    [key.tenant.as_str().into(), key.order.as_str().into()]
}

fn participant(row: &Row) -> Result<Participant, StoreError> {
    Ok(Participant {
        role: Role::read(row, "role")?,
        user_id: row.text("user_id")?,
        contact: row.opt_sealed("contact")?,
        joined_at: row.int("joined_at")?,
    })
}

#[cfg(test)]
mod tests;
