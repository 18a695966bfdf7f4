//! Conversations: one per order, with who takes part, what was said, the payment and the tracking records.
//!
//! Everything here may be written again with the same effect: rows are named by the order, the person or the
//! event they come from, and the times are the events' own. What to write is the notification stage's
//! decision; who may read is the API's.

use uuid::Uuid;

use super::text_enum::text_enum;
use super::{Database, Row, StoreError, Transaction, Value};
use crate::crypto::Sealed;

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

/// Opens the conversation of `key` if there is none, and applies `change` as of `at_ms`.
///
/// # Errors
/// As the database says; so for all below.
pub async fn change(
    tx: &mut Transaction,
    key: &OrderKey,
    change: &Change,
    at_ms: i64,
) -> Result<(), StoreError> {
    let kind = if change.becomes_dispute { Kind::Dispute } else { Kind::Order };
    let payment = change.payment.as_ref();
    tx.execute(
        "INSERT INTO conversations (tenant_id, order_id, kind, order_number, payment_id, payment_status,
             payment_method, payment_minor, payment_currency, payment_at, opened_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
         ON CONFLICT (tenant_id, order_id) DO UPDATE SET
             kind = CASE WHEN excluded.kind = 'dispute' THEN excluded.kind ELSE conversations.kind END,
             order_number = COALESCE(conversations.order_number, excluded.order_number),
             payment_id = CASE WHEN excluded.payment_at >= COALESCE(conversations.payment_at, 0)
                 THEN excluded.payment_id ELSE conversations.payment_id END,
             payment_status = CASE WHEN excluded.payment_at >= COALESCE(conversations.payment_at, 0)
                 THEN excluded.payment_status ELSE conversations.payment_status END,
             payment_method = CASE WHEN excluded.payment_at >= COALESCE(conversations.payment_at, 0)
                 THEN excluded.payment_method ELSE conversations.payment_method END,
             payment_minor = CASE WHEN excluded.payment_at >= COALESCE(conversations.payment_at, 0)
                 THEN excluded.payment_minor ELSE conversations.payment_minor END,
             payment_currency = CASE WHEN excluded.payment_at >= COALESCE(conversations.payment_at, 0)
                 THEN excluded.payment_currency ELSE conversations.payment_currency END,
             payment_at = CASE WHEN excluded.payment_at >= COALESCE(conversations.payment_at, 0)
                 THEN excluded.payment_at ELSE conversations.payment_at END,
             opened_at = CASE WHEN excluded.opened_at < conversations.opened_at
                 THEN excluded.opened_at ELSE conversations.opened_at END,
             updated_at = CASE WHEN excluded.updated_at > conversations.updated_at
                 THEN excluded.updated_at ELSE conversations.updated_at END",
        &[
            key.tenant.as_str().into(),
            key.order.as_str().into(),
            kind.as_str().into(),
            change.order_number.into(),
            payment.map(|payment| payment.payment_id.as_str()).into(),
            payment.map(|payment| payment.status.as_str()).into(),
            payment.map(|payment| payment.method.as_str()).into(),
            payment.map(|payment| payment.amount_minor).into(),
            payment.map(|payment| payment.currency.as_str()).into(),
            payment.map(|payment| payment.at).into(),
            at_ms.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Lets `participant` take part. Who takes part already stays as they are, but for a contact that was missing.
pub async fn join(tx: &mut Transaction, key: &OrderKey, participant: &Participant) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO conversation_participants (tenant_id, order_id, role, user_id, contact, joined_at)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant_id, order_id, role, user_id) DO UPDATE SET
             contact = COALESCE(conversation_participants.contact, excluded.contact)",
        &[
            key.tenant.as_str().into(),
            key.order.as_str().into(),
            participant.role.as_str().into(),
            participant.user_id.as_str().into(),
            participant.contact.as_ref().map(|sealed| sealed.as_bytes().to_vec()).into(),
            participant.joined_at.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Adds `message`; false when it is there already.
pub async fn say(
    tx: &mut Transaction,
    key: &OrderKey,
    message: &Message,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let added = tx
        .execute(
            "INSERT INTO conversation_messages (tenant_id, order_id, message_id, event_id, event_type, fact,
                 status_fact, person_id, locale, body, occurred_at, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
            &[
                key.tenant.as_str().into(),
                key.order.as_str().into(),
                message.message_id.into(),
                message.event_id.into(),
                message.event_type.as_str().into(),
                message.fact.as_str().into(),
                message.status_fact.as_deref().into(),
                message.person_id.as_deref().into(),
                message.locale.as_str().into(),
                (&message.body).into(),
                message.occurred_at.into(),
                now_ms.into(),
            ],
        )
        .await?;
    Ok(added == 1)
}

/// Links a tracking record, or brings it up to date; what is older than what is stored only fills gaps.
pub async fn track(tx: &mut Transaction, key: &OrderKey, shipment: &Shipment) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO shipments (tenant_id, order_id, tracking_number, carrier, tracking_url, status,
             estimated_delivery, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (tenant_id, order_id, tracking_number) DO UPDATE SET
             carrier = COALESCE(shipments.carrier, excluded.carrier),
             tracking_url = COALESCE(shipments.tracking_url, excluded.tracking_url),
             status = CASE WHEN excluded.updated_at >= shipments.updated_at
                 THEN excluded.status ELSE shipments.status END,
             estimated_delivery = CASE WHEN excluded.updated_at >= shipments.updated_at
                 THEN COALESCE(excluded.estimated_delivery, shipments.estimated_delivery)
                 ELSE COALESCE(shipments.estimated_delivery, excluded.estimated_delivery) END,
             updated_at = CASE WHEN excluded.updated_at > shipments.updated_at
                 THEN excluded.updated_at ELSE shipments.updated_at END",
        &[
            key.tenant.as_str().into(),
            key.order.as_str().into(),
            shipment.tracking_number.as_str().into(),
            shipment.carrier.as_deref().into(),
            shipment.tracking_url.as_deref().into(),
            shipment.status.as_str().into(),
            shipment.estimated_delivery.into(),
            shipment.updated_at.into(),
        ],
    )
    .await?;
    Ok(())
}

/// Who takes part, as the transaction sees it.
pub async fn participants_in(tx: &mut Transaction, key: &OrderKey) -> Result<Vec<Participant>, StoreError> {
    tx.rows(PARTICIPANTS, &key_values(key)).await?.iter().map(participant).collect()
}

/// The order's number and which facts its messages tell of, as the transaction sees it.
pub async fn told_in(
    tx: &mut Transaction,
    key: &OrderKey,
) -> Result<(Option<i64>, Vec<ToldFact>), StoreError> {
    const NUMBER: &str = "SELECT order_number FROM conversations WHERE tenant_id = $1 AND order_id = $2";
    const FACTS: &str = "SELECT event_type, fact, status_fact FROM conversation_messages
         WHERE tenant_id = $1 AND order_id = $2";
    let number = tx.row(NUMBER, &key_values(key)).await?;
    let number = number.map(|row| row.opt_int("order_number")).transpose()?.flatten();
    let facts = tx.rows(FACTS, &key_values(key)).await?;
    let facts = facts.iter().map(|row| {
        Ok(ToldFact {
            event_type: row.text("event_type")?,
            fact: row.text("fact")?,
            status_fact: row.opt_text("status_fact")?,
        })
    });
    Ok((number, facts.collect::<Result<_, StoreError>>()?))
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

const PARTICIPANTS: &str = "SELECT role, user_id, contact, joined_at FROM conversation_participants
     WHERE tenant_id = $1 AND order_id = $2 ORDER BY role, user_id";

fn key_values(key: &OrderKey) -> [Value; 2] {
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
