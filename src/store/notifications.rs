//! Decisions: for every event, recipient and channel one row that says what became of it, and why.
//!
//! A decision is named by its event, so a repeated event finds its decisions made. What to decide is the
//! notification stage's business, what came of sending the delivery stage's.

use uuid::Uuid;

use super::conversations::{OrderKey, Role};
use super::text_enum::text_enum;
use super::{Database, Row, StoreError, Transaction, Value, batch};

text_enum! {
    /// What became of telling somebody.
    Outcome {
        /// On its way.
        Queued = "queued",
        /// Not told, for the stated reason.
        Suppressed = "suppressed",
        /// Given up, for the stated reason.
        Failed = "failed",
        /// The channel's provider accepted it.
        Sent = "sent",
    }
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Names it, and the message, for ever.
    pub notification_id: Uuid,
    /// The order.
    pub key: OrderKey,
    /// The event it is about.
    pub event_id: Uuid,
    /// The event's dotted type.
    pub event_type: String,
    /// The fact that is told.
    pub fact: String,
    /// The order status that the event resulted in.
    pub status_fact: Option<String>,
    /// What the recipient is to the order.
    pub role: Role,
    /// The recipient's user id, if known.
    pub recipient: Option<String>,
    /// By which channel.
    pub channel: String,
    /// What the recipient's preferences go by.
    pub category: String,
    /// Which template.
    pub template: String,
    /// Which language.
    pub locale: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, unless it was sent or is on its way.
    pub reason: Option<String>,
    /// The provider's id of the message.
    pub provider_id: Option<String>,
    /// When the event happened, epoch milliseconds.
    pub occurred_at: i64,
}

/// Decisions by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// On their way.
    pub queued: i64,
    /// Not told.
    pub suppressed: i64,
    /// Given up.
    pub failed: i64,
    /// Accepted by the provider.
    pub sent: i64,
}

macro_rules! decide_sql {
    ($rows:literal) => {
        concat!(
            "INSERT INTO notifications (tenant_id, notification_id, order_id, event_id, event_type, fact,
                 status_fact, role, recipient, channel, category, template, locale, outcome, reason,
                 provider_id, occurred_at, decided_at, updated_at) ",
            $rows,
            " ON CONFLICT (tenant_id, notification_id) DO NOTHING"
        )
    };
}

/// Records decisions; one that was made before stays as it is.
///
/// # Errors
/// As the database says; so for all below.
pub async fn decide(tx: &mut Transaction, decisions: &[Decision], now_ms: i64) -> Result<(), StoreError> {
    let rows = decisions.iter().map(|decision| -> [Value<'_>; 19] {
        [
            decision.key.tenant.as_str().into(),
            decision.notification_id.into(),
            decision.key.order.as_str().into(),
            decision.event_id.into(),
            decision.event_type.as_str().into(),
            decision.fact.as_str().into(),
            decision.status_fact.as_deref().into(),
            decision.role.as_str().into(),
            decision.recipient.as_deref().into(),
            decision.channel.as_str().into(),
            decision.category.as_str().into(),
            decision.template.as_str().into(),
            decision.locale.as_str().into(),
            decision.outcome.as_str().into(),
            decision.reason.as_deref().into(),
            decision.provider_id.as_deref().into(),
            decision.occurred_at.into(),
            now_ms.into(),
            now_ms.into(),
        ]
    });
    batch::write(
        tx,
        decide_sql!(
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)"
        ),
        decide_sql!(
            "SELECT UNNEST($1::TEXT[]), UNNEST($2::TEXT[]), UNNEST($3::TEXT[]), UNNEST($4::TEXT[]),
                 UNNEST($5::TEXT[]), UNNEST($6::TEXT[]), UNNEST($7::TEXT[]), UNNEST($8::TEXT[]),
                 UNNEST($9::TEXT[]), UNNEST($10::TEXT[]), UNNEST($11::TEXT[]), UNNEST($12::TEXT[]),
                 UNNEST($13::TEXT[]), UNNEST($14::TEXT[]), UNNEST($15::TEXT[]), UNNEST($16::TEXT[]),
                 UNNEST($17::BIGINT[]), UNNEST($18::BIGINT[]), UNNEST($19::BIGINT[])"
        ),
        rows.collect(),
    )
    .await
}

/// Marks a message as accepted by its provider; false when it was before. One that was given up and then sent
/// after all (a redrive) is sent.
pub async fn mark_sent(
    tx: &mut Transaction,
    tenant: &str,
    notification_id: &str,
    provider_id: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let touched = tx
        .execute(
            "UPDATE notifications SET outcome = 'sent', reason = NULL, provider_id = $3, updated_at = $4
             WHERE tenant_id = $1 AND notification_id = $2 AND outcome IN ('queued', 'failed')",
            &[tenant.into(), notification_id.into(), provider_id.into(), now_ms.into()],
        )
        .await?;
    Ok(touched == 1)
}

/// Marks a queued message as given up; false when it wasn't queued (any more).
pub async fn mark_failed(
    tx: &mut Transaction,
    tenant: &str,
    notification_id: &str,
    reason: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let touched = tx
        .execute(
            "UPDATE notifications SET outcome = 'failed', reason = $3, updated_at = $4
             WHERE tenant_id = $1 AND notification_id = $2 AND outcome = 'queued'",
            &[tenant.into(), notification_id.into(), reason.into(), now_ms.into()],
        )
        .await?;
    Ok(touched == 1)
}

/// What became of one message so far; `None` when it isn't known here.
pub async fn outcome(
    db: &Database,
    tenant: &str,
    notification_id: &str,
) -> Result<Option<Outcome>, StoreError> {
    let row = db
        .row(
            "SELECT outcome FROM notifications WHERE tenant_id = $1 AND notification_id = $2",
            &[tenant.into(), notification_id.into()],
        )
        .await?;
    row.map(|row| Outcome::read(&row, "outcome")).transpose()
}

/// All decisions about the orders `keys`, as the transaction sees them.
pub async fn of_orders_in(tx: &mut Transaction, keys: &[OrderKey]) -> Result<Vec<Decision>, StoreError> {
    batch::of_orders(tx, OF_ORDER, OF_ORDERS, keys).await?.iter().map(decision).collect()
}

/// All decisions about an order, oldest event first.
pub async fn of_order(db: &Database, key: &OrderKey) -> Result<Vec<Decision>, StoreError> {
    db.rows(OF_ORDER, &key_values(key)).await?.iter().map(decision).collect()
}

/// How many decisions there are by outcome, over all tenants: for ledgers.
pub async fn count(db: &Database) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    for row in db.rows("SELECT outcome, COUNT(*) AS n FROM notifications GROUP BY outcome", &[]).await? {
        let n = row.int("n")?;
        match Outcome::read(&row, "outcome")? {
            Outcome::Queued => counts.queued = n,
            Outcome::Suppressed => counts.suppressed = n,
            Outcome::Failed => counts.failed = n,
            Outcome::Sent => counts.sent = n,
        }
    }
    Ok(counts)
}

const OF_ORDER: &str = "SELECT * FROM notifications WHERE tenant_id = $1 AND order_id = $2
     ORDER BY occurred_at, decided_at, role, channel";

const OF_ORDERS: &str = "SELECT n.* FROM UNNEST($1::TEXT[], $2::TEXT[]) AS asked (tenant_id, order_id)
     JOIN notifications n ON n.tenant_id = asked.tenant_id AND n.order_id = asked.order_id";

fn key_values(key: &OrderKey) -> [Value<'_>; 2] {
    [key.tenant.as_str().into(), key.order.as_str().into()]
}

fn decision(row: &Row) -> Result<Decision, StoreError> {
    Ok(Decision {
        notification_id: row.uuid("notification_id")?,
        key: OrderKey::new(row.text("tenant_id")?, row.text("order_id")?),
        event_id: row.uuid("event_id")?,
        event_type: row.text("event_type")?,
        fact: row.text("fact")?,
        status_fact: row.opt_text("status_fact")?,
        role: Role::read(row, "role")?,
        recipient: row.opt_text("recipient")?,
        channel: row.text("channel")?,
        category: row.text("category")?,
        template: row.text("template")?,
        locale: row.text("locale")?,
        outcome: Outcome::read(row, "outcome")?,
        reason: row.opt_text("reason")?,
        provider_id: row.opt_text("provider_id")?,
        occurred_at: row.int("occurred_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::each_engine;

    fn decision_for(tenant: &str, outcome: Outcome) -> Decision {
        Decision {
            notification_id: Uuid::from_u128(7),
            key: OrderKey::new(tenant, "o-1"),
            event_id: Uuid::from_u128(1),
            event_type: "order.created".to_owned(),
            fact: "status:created".to_owned(),
            status_fact: Some("status:created".to_owned()),
            role: Role::Buyer,
            recipient: Some("u-1".to_owned()),
            channel: "email".to_owned(),
            category: "orders".to_owned(),
            template: "order.created".to_owned(),
            locale: "de".to_owned(),
            outcome,
            reason: None,
            provider_id: None,
            occurred_at: 5,
        }
    }

    #[tokio::test]
    async fn a_decision_is_made_once_and_marked_once() {
        each_engine(async |db| {
            let made = decision_for("shop", Outcome::Queued);
            let mut tx = db.begin().await.unwrap();
            decide(&mut tx, std::slice::from_ref(&made), 10).await.unwrap();
            let changed = Decision { locale: "en".to_owned(), ..made.clone() };
            decide(&mut tx, &[changed], 11).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(of_order(&db, &made.key).await.unwrap(), std::slice::from_ref(&made));

            let id = made.notification_id.to_string();
            let mut tx = db.begin().await.unwrap();
            assert!(!mark_sent(&mut tx, "other", &id, "m", 12).await.unwrap());
            assert!(mark_sent(&mut tx, "shop", &id, "m", 12).await.unwrap());
            assert!(!mark_sent(&mut tx, "shop", &id, "n", 13).await.unwrap());
            assert!(!mark_failed(&mut tx, "shop", &id, "late", 14).await.unwrap());
            tx.commit().await.unwrap();
            assert_eq!(outcome(&db, "shop", &id).await.unwrap(), Some(Outcome::Sent));
            assert_eq!(outcome(&db, "other", &id).await.unwrap(), None);
            assert_eq!(count(&db).await.unwrap(), Counts { sent: 1, ..Counts::default() });
        })
        .await;
    }

    #[tokio::test]
    async fn equal_ids_of_two_tenants_are_two_decisions() {
        each_engine(async |db| {
            let mut tx = db.begin().await.unwrap();
            let both = [decision_for("a", Outcome::Queued), decision_for("b", Outcome::Suppressed)];
            decide(&mut tx, &both, 1).await.unwrap();
            assert_eq!(of_orders_in(&mut tx, &[OrderKey::new("b", "o-1")]).await.unwrap(), both[1..]);
            tx.commit().await.unwrap();
            let counted = Counts { queued: 1, suppressed: 1, ..Counts::default() };
            assert_eq!(count(&db).await.unwrap(), counted);
        })
        .await;
    }
}
