//! Writing conversations: always many at once, always so that the same again changes nothing.

use super::super::{StoreError, Transaction, Value, batch};
use super::{Change, Kind, Message, OrderKey, Participant, Shipment};

macro_rules! later_payment {
    ($column:literal) => {
        concat!(
            $column,
            " = CASE WHEN excluded.payment_at >= COALESCE(conversations.payment_at, 0) THEN excluded.",
            $column,
            " ELSE conversations.",
            $column,
            " END, "
        )
    };
}

macro_rules! change_sql {
    ($rows:literal) => {
        concat!(
            "INSERT INTO conversations (tenant_id, order_id, kind, order_number, payment_id, payment_status,
                 payment_method, payment_minor, payment_currency, payment_at, opened_at, updated_at) ",
            $rows,
            " ON CONFLICT (tenant_id, order_id) DO UPDATE SET
                 kind = CASE WHEN excluded.kind = 'dispute' THEN excluded.kind ELSE conversations.kind END,
                 order_number = COALESCE(conversations.order_number, excluded.order_number), ",
            later_payment!("payment_id"),
            later_payment!("payment_status"),
            later_payment!("payment_method"),
            later_payment!("payment_minor"),
            later_payment!("payment_currency"),
            later_payment!("payment_at"),
            "opened_at = CASE WHEN excluded.opened_at < conversations.opened_at
                 THEN excluded.opened_at ELSE conversations.opened_at END,
             updated_at = CASE WHEN excluded.updated_at > conversations.updated_at
                 THEN excluded.updated_at ELSE conversations.updated_at END"
        )
    };
}

/// Opens conversations that aren't there yet, and applies to each its change as of its time (epoch
/// milliseconds). An order occurs once among `changes`.
///
/// # Errors
/// As the database says; so for all below.
pub async fn change(tx: &mut Transaction, changes: &[(OrderKey, Change, i64)]) -> Result<(), StoreError> {
    let rows = changes.iter().map(|(key, change, at_ms)| {
        let kind = if change.becomes_dispute { Kind::Dispute } else { Kind::Order };
        let payment = change.payment.as_ref();
        [
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
            (*at_ms).into(),
            (*at_ms).into(),
        ]
    });
    batch::write(
        tx,
        change_sql!("VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"),
        change_sql!(
            "SELECT UNNEST($1::TEXT[]), UNNEST($2::TEXT[]), UNNEST($3::TEXT[]), UNNEST($4::BIGINT[]),
                 UNNEST($5::TEXT[]), UNNEST($6::TEXT[]), UNNEST($7::TEXT[]), UNNEST($8::BIGINT[]),
                 UNNEST($9::TEXT[]), UNNEST($10::BIGINT[]), UNNEST($11::BIGINT[]), UNNEST($12::BIGINT[])"
        ),
        rows.collect(),
    )
    .await
}

macro_rules! join_sql {
    ($rows:literal) => {
        concat!(
            "INSERT INTO conversation_participants (tenant_id, order_id, role, user_id, contact, joined_at) ",
            $rows,
            " ON CONFLICT (tenant_id, order_id, role, user_id) DO UPDATE SET
                 contact = COALESCE(conversation_participants.contact, excluded.contact)"
        )
    };
}

/// Lets people take part. Who takes part already stays as they are, but for a contact that was missing. A person
/// occurs once per order and role.
pub async fn join(tx: &mut Transaction, joins: &[(OrderKey, Participant)]) -> Result<(), StoreError> {
    let rows = joins.iter().map(|(key, participant)| {
        [
            key.tenant.as_str().into(),
            key.order.as_str().into(),
            participant.role.as_str().into(),
            participant.user_id.as_str().into(),
            participant.contact.as_ref().into(),
            participant.joined_at.into(),
        ]
    });
    batch::write(
        tx,
        join_sql!("VALUES ($1, $2, $3, $4, $5, $6)"),
        join_sql!(
            "SELECT UNNEST($1::TEXT[]), UNNEST($2::TEXT[]), UNNEST($3::TEXT[]), UNNEST($4::TEXT[]),
                 UNNEST($5::BYTEA[]), UNNEST($6::BIGINT[])"
        ),
        rows.collect(),
    )
    .await
}

macro_rules! say_sql {
    ($rows:literal) => {
        concat!(
            "INSERT INTO conversation_messages (tenant_id, order_id, message_id, event_id, event_type, fact,
                 status_fact, person_id, locale, body, occurred_at, created_at) ",
            $rows,
            " ON CONFLICT (tenant_id, order_id, message_id) DO NOTHING"
        )
    };
}

/// Adds messages that aren't there yet.
pub async fn say(
    tx: &mut Transaction,
    messages: &[(OrderKey, Message)],
    now_ms: i64,
) -> Result<(), StoreError> {
    let rows = messages.iter().map(|(key, message)| -> [Value<'_>; 12] {
        [
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
        ]
    });
    batch::write(
        tx,
        say_sql!("VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"),
        say_sql!(
            "SELECT UNNEST($1::TEXT[]), UNNEST($2::TEXT[]), UNNEST($3::TEXT[]), UNNEST($4::TEXT[]),
                 UNNEST($5::TEXT[]), UNNEST($6::TEXT[]), UNNEST($7::TEXT[]), UNNEST($8::TEXT[]),
                 UNNEST($9::TEXT[]), UNNEST($10::BYTEA[]), UNNEST($11::BIGINT[]), UNNEST($12::BIGINT[])"
        ),
        rows.collect(),
    )
    .await
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
