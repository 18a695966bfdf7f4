//! What receipts say of an attempt. Pure.

use std::time::Duration;

use super::body::WebhookId;
use super::delivery::Delivery;
use super::stage::{Attempted, NAME};
use super::target::Target;
use crate::event::{WebhookAttempt, WebhookExhausted, effect_id};
use crate::runtime::{Failure, Outcome, Task};

/// The receipt of one attempt and what it led to.
pub(super) fn receipt(
    target: &Target,
    task: &Task<Delivery>,
    attempted: &Attempted,
    outcome: &Outcome,
) -> WebhookAttempt {
    let delivery = &task.input;
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let attempt = format!("attempt {} at {}", task.attempt, attempted.at_ms);
    let webhook_id = WebhookId::of(delivery.event_id);
    let answer = attempted.ended.as_ref().ok();
    let next_attempt_at = match outcome {
        Outcome::Retry { after, .. } => {
            Some(attempted.at_ms.saturating_add(millis(attempted.took)).saturating_add(millis(*after)))
        }
        Outcome::Postponed(_) => attempted.resumes_at,
        Outcome::Done | Outcome::Skipped(_) | Outcome::Dead(_) | Outcome::Handed(_) | Outcome::Fatal(_) => {
            None
        }
    };
    WebhookAttempt {
        attempt_id: effect_id(&delivery.tenant, delivery.event_id, NAME, &attempt, &target.id).to_string(),
        tenant_id: delivery.tenant.clone(),
        endpoint_id: target.id.to_string(),
        webhook_id: webhook_id.as_str().to_owned(),
        event_id: webhook_id.event_id().to_owned(),
        event_type: delivery.event_type.as_str().to_owned(),
        order_id: delivery.order_id.clone(),
        attempt: i32::try_from(task.attempt).unwrap_or(i32::MAX),
        outcome: attempted.verdict.as_str().to_owned(),
        status: answer.map(|answer| i32::from(answer.status)),
        latency_ms: millis(attempted.took),
        error: attempted.verdict.error().map(str::to_owned),
        response: answer
            .filter(|answer| !answer.body.is_empty())
            .map(|answer| String::from_utf8_lossy(&answer.body).into_owned()),
        attempted_at: attempted.at_ms,
        next_attempt_at,
        source_topic: Some(task.record.topic.to_string()),
        source_partition: Some(task.record.partition),
        source_offset: Some(task.record.offset),
        resend: delivery.resend,
        endpoint_generation: Some(target.generation),
    }
}

/// The receipt of a delivery that isn't tried again.
pub(super) fn exhausted(task: &Task<Delivery>, why: &Failure, now_ms: i64) -> WebhookExhausted {
    let delivery = &task.input;
    let webhook_id = WebhookId::of(delivery.event_id);
    WebhookExhausted {
        tenant_id: delivery.tenant.clone(),
        endpoint_id: task.target.to_string(),
        webhook_id: webhook_id.as_str().to_owned(),
        event_id: webhook_id.event_id().to_owned(),
        event_type: delivery.event_type.as_str().to_owned(),
        order_id: delivery.order_id.clone(),
        attempts: i32::try_from(task.attempt).unwrap_or(i32::MAX),
        status: why.answered.map(i32::from),
        error: Some(why.message.clone()),
        source_topic: task.record.topic.to_string(),
        source_partition: task.record.partition,
        source_offset: task.record.offset,
        exhausted_at: now_ms,
    }
}
