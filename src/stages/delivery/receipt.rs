//! What is recorded once a message was handed over or given up, and the events that tell of it.

use uuid::Uuid;

use super::Outgoing;
use super::channel::Accepted;
use crate::event::{self, Codec, EncodeError, Event, EventMeta, EventType, Factory, effect_id};
use crate::stages::notification::rules::Channel;
use crate::store::{Database, StoreError, notifications, outbox};

/// The events that follow when a message was accepted, ready for the outbox: the confirmation mail of an order
/// is itself something that happened to the order. Their ids come from the order's creation.
pub(super) async fn events(
    codec: &Codec,
    topic: &str,
    outgoing: &Outgoing,
    accepted: &Accepted,
    now_ms: i64,
) -> Result<Vec<outbox::Message>, EncodeError> {
    let message = &outgoing.message;
    let created = EventType::OrderCreated.as_str();
    if outgoing.channel != Channel::Email || message.event_type != created || message.template != created {
        return Ok(Vec::new());
    }
    let cause = EventMeta {
        event_id: message.event_id.clone(),
        correlation_id: message.correlation_id.clone(),
        customer_id: Some(message.user_id.clone()),
        ..EventMeta::default()
    };
    let id = |kind: EventType| {
        effect_id(&message.tenant_id, outgoing.event_id, super::NAME, kind.as_str(), &message.user_id)
    };
    let at_ms = now_ms.max(message.occurred_at);
    let factory =
        |kind: EventType| Factory::new(&message.tenant_id, "orderflow").follow(&cause).with_id(id(kind));
    let confirmed: Event = factory(EventType::OrderConfirmationSent)
        .order_confirmation_sent(
            &message.order_id,
            at_ms,
            message.channel.as_str(),
            accepted.provider_id.as_str(),
        )
        .into();
    let sent: Event = factory(EventType::EmailSent)
        .email_sent(
            &message.order_id,
            at_ms,
            message.template.as_str(),
            message.address.as_deref().unwrap_or_default(),
            accepted.provider_id.as_str(),
        )
        .into();
    let mut messages = Vec::with_capacity(2);
    for event in [confirmed, sent] {
        match codec.encode(topic, &event).await {
            Ok(payload) => messages.push(wire(topic, &event, id(event.event_type()), payload)),
            Err(EncodeError::Invalid(why)) => {
                tracing::error!(why, "an event doesn't fit its schema; it is left out");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(messages)
}

/// Marks the message as sent and lets the events leave with that; false when it was marked before.
pub(super) async fn mark_sent(
    db: &Database,
    outgoing: &Outgoing,
    accepted: &Accepted,
    follows: &[outbox::Message],
    now_ms: i64,
) -> Result<bool, StoreError> {
    let (tenant, id) = (&outgoing.message.tenant_id, &outgoing.message.notification_id);
    let mut tx = db.begin().await?;
    let marked = notifications::mark_sent(&mut tx, tenant, id, &accepted.provider_id, now_ms).await?;
    if marked {
        for message in follows {
            outbox::append(&mut tx, message, now_ms).await?;
        }
    }
    tx.commit().await?;
    Ok(marked)
}

/// Marks the message as given up; false when it was marked before.
pub(super) async fn mark_failed(
    db: &Database,
    outgoing: &Outgoing,
    reason: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let (tenant, id) = (&outgoing.message.tenant_id, &outgoing.message.notification_id);
    let mut tx = db.begin().await?;
    let marked = notifications::mark_failed(&mut tx, tenant, id, reason, now_ms).await?;
    tx.commit().await?;
    Ok(marked)
}

fn wire(topic: &str, event: &Event, id: Uuid, payload: Vec<u8>) -> outbox::Message {
    let meta = event.meta();
    outbox::Message {
        id,
        tenant: meta.tenant_id.clone(),
        topic: topic.to_owned(),
        partition: None,
        key: Some(meta.order_id.clone().into_bytes()),
        kind: event.event_type().as_str().to_owned(),
        payload: Some(payload),
        headers: event::headers(event, None),
    }
}
