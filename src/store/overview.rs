//! What the store holds, looked at as a whole or for one order: for those who compare it with what was published, and for
//! those who watch an order's story unfold. Reads across tenants; nothing that serves a request may.

use super::{Database, Row, StoreError};

/// A tenant and an order of it.
pub type OrderKey = (String, String);

/// An event of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEvent {
    /// The tenant.
    pub tenant: String,
    /// The order.
    pub order: String,
    /// The event.
    pub id: String,
    /// Its dotted type.
    pub kind: String,
    /// Its offset in its partition.
    pub offset: i64,
}

/// A dispute, as far as it matters whether somebody has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownDispute {
    /// The tenant.
    pub tenant: String,
    /// The dispute.
    pub id: String,
    /// Whether it is open.
    pub is_open: bool,
    /// Who has it.
    pub moderator: Option<String>,
}

/// How full the tables are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events in the history.
    pub history: u64,
    /// Messages in conversations.
    pub messages: u64,
    /// Disputes.
    pub disputes: u64,
}

/// What is known of one order, each in the order in which it came about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderStory {
    /// Versions and dotted types of its events.
    pub events: Vec<(i64, String)>,
    /// Roles and ids of those in its conversation.
    pub people: Vec<(String, String)>,
    /// Ids of its messages, and the types of the events that they tell of.
    pub messages: Vec<(String, String)>,
    /// Its disputes: id, stage, status, moderator.
    pub disputes: Vec<(String, String, String, Option<String>)>,
}

/// Every event of the history, by tenant, order and version.
///
/// # Errors
/// When the store is away. So for all below.
pub async fn history(db: &Database) -> Result<Vec<KeptEvent>, StoreError> {
    let sql = "SELECT tenant_id, order_id, event_id, event_type, record_offset FROM order_events
               ORDER BY tenant_id, order_id, version";
    let kept = |row: &Row| {
        Ok(KeptEvent {
            tenant: row.text("tenant_id")?,
            order: row.text("order_id")?,
            id: row.text("event_id")?,
            kind: row.text("event_type")?,
            offset: row.int("record_offset")?,
        })
    };
    db.rows(sql, &[]).await?.iter().map(kept).collect()
}

/// How many webhooks were delivered, and how many of them at the first try.
pub async fn deliveries(db: &Database) -> Result<(u64, u64), StoreError> {
    let sql =
        "SELECT COUNT(*) AS deliveries, COALESCE(SUM(CASE WHEN first = 1 THEN 1 ELSE 0 END), 0) AS first_try
               FROM (SELECT MIN(attempt) AS first FROM webhook_attempts WHERE status >= 200 AND status < 300
                     GROUP BY tenant_id, endpoint_id, event_id) AS delivered";
    let Some(row) = db.row(sql, &[]).await? else { return Ok((0, 0)) };
    Ok((row.int("deliveries")?.unsigned_abs(), row.int("first_try")?.unsigned_abs()))
}

/// Every dispute.
pub async fn disputes(db: &Database) -> Result<Vec<KnownDispute>, StoreError> {
    let known = |row: &Row| {
        Ok(KnownDispute {
            tenant: row.text("tenant_id")?,
            id: row.text("dispute_id")?,
            is_open: row.flag("is_open")?,
            moderator: row.opt_text("moderator_id")?,
        })
    };
    let sql = "SELECT tenant_id, dispute_id, is_open, moderator_id FROM disputes";
    db.rows(sql, &[]).await?.iter().map(known).collect()
}

/// The orders whose conversation has a buyer, a seller and a message.
pub async fn conversations(db: &Database) -> Result<Vec<OrderKey>, StoreError> {
    let sql = "SELECT c.tenant_id, c.order_id FROM conversations c
               WHERE EXISTS (SELECT 1 FROM conversation_messages m
                             WHERE m.tenant_id = c.tenant_id AND m.order_id = c.order_id)
                 AND (SELECT COUNT(*) FROM conversation_participants p WHERE p.tenant_id = c.tenant_id
                      AND p.order_id = c.order_id AND p.role IN ('buyer', 'seller')) = 2";
    db.rows(sql, &[]).await?.iter().map(order).collect()
}

/// Every message of a conversation: its order and the event that it tells of.
pub async fn messages(db: &Database) -> Result<Vec<(OrderKey, String)>, StoreError> {
    let sql = "SELECT tenant_id, order_id, event_id FROM conversation_messages";
    db.rows(sql, &[]).await?.iter().map(|row| Ok((order(row)?, row.text("event_id")?))).collect()
}

/// Every notification that was sent to a buyer or seller: its order, and event, recipient and channel.
pub async fn notices(db: &Database) -> Result<Vec<(OrderKey, (String, String, String))>, StoreError> {
    let sql = "SELECT tenant_id, order_id, event_id, recipient, channel FROM notifications
               WHERE outcome = 'sent' AND role IN ('buyer', 'seller')";
    let notice =
        |row: &Row| Ok((order(row)?, (row.text("event_id")?, row.text("recipient")?, row.text("channel")?)));
    db.rows(sql, &[]).await?.iter().map(notice).collect()
}

/// Every mail that counts as sent: its order, and the id that its server gave.
pub async fn mails(db: &Database) -> Result<Vec<(String, String)>, StoreError> {
    let sql = "SELECT order_id, provider_id FROM notifications
               WHERE channel = 'email' AND outcome = 'sent' AND provider_id IS NOT NULL";
    db.rows(sql, &[]).await?.iter().map(|row| Ok((row.text("order_id")?, row.text("provider_id")?))).collect()
}

/// How full the tables are.
pub async fn counts(db: &Database) -> Result<Counts, StoreError> {
    let sql = "SELECT (SELECT COUNT(*) FROM order_events) AS history,
                   (SELECT COUNT(*) FROM conversation_messages) AS messages,
                   (SELECT COUNT(*) FROM disputes) AS disputes";
    let Some(row) = db.row(sql, &[]).await? else { return Ok(Counts::default()) };
    Ok(Counts {
        history: row.int("history")?.unsigned_abs(),
        messages: row.int("messages")?.unsigned_abs(),
        disputes: row.int("disputes")?.unsigned_abs(),
    })
}

/// What is known of one order.
pub async fn story(db: &Database, tenant: &str, order: &str) -> Result<OrderStory, StoreError> {
    let of = [tenant.into(), order.into()];
    let events = "SELECT version, event_type FROM order_events
                  WHERE tenant_id = $1 AND order_id = $2 ORDER BY version";
    let people = "SELECT role, user_id FROM conversation_participants
                  WHERE tenant_id = $1 AND order_id = $2 ORDER BY joined_at, role";
    let messages = "SELECT message_id, event_type FROM conversation_messages
                    WHERE tenant_id = $1 AND order_id = $2 ORDER BY occurred_at, created_at";
    let disputes = "SELECT dispute_id, stage, status, moderator_id FROM disputes
                    WHERE tenant_id = $1 AND order_id = $2";
    let two = |row: &Row, first, second| Ok::<_, StoreError>((row.text(first)?, row.text(second)?));
    let dispute = |row: &Row| {
        Ok((row.text("dispute_id")?, row.text("stage")?, row.text("status")?, row.opt_text("moderator_id")?))
    };
    Ok(OrderStory {
        events: db
            .rows(events, &of)
            .await?
            .iter()
            .map(|row| Ok((row.int("version")?, row.text("event_type")?)))
            .collect::<Result<_, StoreError>>()?,
        people: db
            .rows(people, &of)
            .await?
            .iter()
            .map(|row| two(row, "role", "user_id"))
            .collect::<Result<_, _>>()?,
        messages: db
            .rows(messages, &of)
            .await?
            .iter()
            .map(|row| two(row, "message_id", "event_type"))
            .collect::<Result<_, _>>()?,
        disputes: db.rows(disputes, &of).await?.iter().map(dispute).collect::<Result<_, StoreError>>()?,
    })
}

fn order(row: &Row) -> Result<OrderKey, StoreError> {
    Ok((row.text("tenant_id")?, row.text("order_id")?))
}
