//! The records of our own topics: what goes to people's channels and what became of webhooks.
//!
//! They aren't order events: they have no [`EventMeta`](super::EventMeta) and are read and written by
//! [`Codec::decode_record`](crate::event::Codec::decode_record) and
//! [`Codec::encode_record`](crate::event::Codec::encode_record). Their schemas are in `schemas/internal/`.

use serde::{Deserialize, Serialize};

use super::Actor;

/// What to send to whom by which channel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OutboundNotification {
    /// Names this message to this recipient by this channel for ever.
    pub notification_id: String,
    /// The tenant.
    pub tenant_id: String,
    /// The order, and the Kafka key.
    pub order_id: String,
    /// The event it tells of.
    pub event_id: String,
    /// The event's dotted type.
    pub event_type: String,
    /// The recipient.
    pub user_id: String,
    /// live or email.
    pub channel: String,
    /// What the recipient's preferences go by.
    pub category: String,
    /// Which template it was made from.
    pub template: String,
    /// The language it is written in.
    pub locale: String,
    /// Where it goes, for channels that need one.
    pub address: Option<String>,
    /// The subject line.
    pub subject: Option<String>,
    /// The message as plain text.
    pub text: String,
    /// The message as HTML.
    pub html: Option<String>,
    /// When the event happened, in milliseconds since the epoch.
    pub occurred_at: i64,
    /// The event's correlation id.
    pub correlation_id: Option<String>,
    /// Who did what the event tells of.
    pub actor: Option<Actor>,
}

/// What the live socket shows to a user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LiveNotification {
    /// Names this message for ever; clients resume after it.
    pub notification_id: String,
    /// The tenant.
    pub tenant_id: String,
    /// The recipient, and the Kafka key.
    pub user_id: String,
    /// The order.
    pub order_id: String,
    /// The event it tells of.
    pub event_id: String,
    /// The event's dotted type.
    pub event_type: String,
    /// The message as plain text.
    pub message: String,
    /// When the event happened, in milliseconds since the epoch.
    pub occurred_at: i64,
}

/// One attempt to deliver a webhook, as it ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WebhookAttempt {
    /// The attempt.
    pub attempt_id: String,
    /// The tenant.
    pub tenant_id: String,
    /// The registration.
    pub endpoint_id: String,
    /// The webhook-id header.
    pub webhook_id: String,
    /// The event.
    pub event_id: String,
    /// The event's dotted type.
    pub event_type: String,
    /// The order, and the Kafka key.
    pub order_id: String,
    /// From 1.
    pub attempt: i32,
    /// delivered, failed or refused.
    pub outcome: String,
    /// The HTTP status, if one was answered.
    pub status: Option<i32>,
    /// The whole exchange, in milliseconds.
    pub latency_ms: i64,
    /// What went wrong.
    pub error: Option<String>,
    /// The beginning of the answer.
    pub response: Option<String>,
    /// When it was begun, in milliseconds since the epoch.
    pub attempted_at: i64,
    /// When it will be tried again, in milliseconds since the epoch.
    pub next_attempt_at: Option<i64>,
    /// Where the event lies: the topic.
    pub source_topic: Option<String>,
    /// Where the event lies: the partition.
    pub source_partition: Option<i32>,
    /// Where the event lies: the offset.
    pub source_offset: Option<i64>,
    /// Somebody asked for the delivery to be sent again.
    pub resend: bool,
    /// Counts the endpoint's starts: another URL, or being served again, is a new one.
    pub endpoint_generation: Option<i64>,
}

/// A webhook that will not be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WebhookExhausted {
    /// The tenant.
    pub tenant_id: String,
    /// The registration.
    pub endpoint_id: String,
    /// The webhook-id header.
    pub webhook_id: String,
    /// The event.
    pub event_id: String,
    /// The event's dotted type.
    pub event_type: String,
    /// The order, and the Kafka key.
    pub order_id: String,
    /// How many were made.
    pub attempts: i32,
    /// The last HTTP status.
    pub status: Option<i32>,
    /// What went wrong last.
    pub error: Option<String>,
    /// Where the event lies.
    pub source_topic: String,
    /// Where the event lies.
    pub source_partition: i32,
    /// Where the event lies.
    pub source_offset: i64,
    /// When it was given up, in milliseconds since the epoch.
    pub exhausted_at: i64,
}

/// A webhook endpoint began to fail, was disabled, or works again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WebhookEndpointChanged {
    /// Names the change for ever.
    pub change_id: String,
    /// The tenant.
    pub tenant_id: String,
    /// The registration, and the Kafka key.
    pub endpoint_id: String,
    /// The partner that registered it; none is the tenant itself.
    pub owner: Option<String>,
    /// Where its requests go.
    pub url: String,
    /// failing, disabled, recovered, or gap.
    pub change: String,
    /// Why, in one sentence.
    pub reason: String,
    /// The first failure since it accepted something last, in milliseconds since the epoch.
    pub failing_since: Option<i64>,
    /// The end of the attempt that showed it, in milliseconds since the epoch.
    pub changed_at: i64,
}
