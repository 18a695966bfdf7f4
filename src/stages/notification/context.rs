//! What templates may say of an event: plain names and values, the same for every channel.
//!
//! Every name is always there; what an event doesn't tell is `none`. Personal data of third parties (addresses,
//! what a party wrote in a dispute) is not offered at all.

use serde_json::{Value as Json, json};

use super::facts::word;
use super::plan::Contact;
use crate::event::{Event, LineItem, Money};
use crate::store::conversations::Role;

/// The names that a template may use when it speaks to `role`, whose name and zone `contact` holds.
pub fn context(
    event: &Event,
    order_number: Option<i64>,
    recipient: Option<(Role, &Contact)>,
    locale: &str,
) -> Json {
    let order_id = &event.meta().order_id;
    let number = order_number.map_or_else(|| order_id.clone(), |number| number.to_string());
    json!({
        "locale": locale,
        "time_zone": recipient.and_then(|(_, contact)| contact.time_zone.clone()),
        "order": { "id": order_id, "number": number },
        "recipient": {
            "role": recipient.map(|(role, _)| role.as_str()),
            "name": recipient.and_then(|(_, contact)| contact.name.clone()),
        },
        "event": told(event),
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "events without a rule have no templates")]
fn told(event: &Event) -> Json {
    match event {
        Event::OrderCreated(e) => json!({
            "total": e.total, "lines": lines(&e.lines), "estimated_delivery": e.estimated_delivery,
        }),
        Event::PaymentProcessed(e) => paid(&e.amount, &e.method),
        Event::OrderPaid(e) => paid(&e.amount, &e.method),
        Event::PaymentFailed(e) => {
            json!({ "amount": e.amount, "method": e.method, "failure_code": e.failure_code })
        }
        Event::OrderShipped(e) => json!({
            "carrier": e.carrier, "tracking_number": e.tracking_number, "tracking_url": e.tracking_url,
            "estimated_delivery": e.estimated_delivery,
        }),
        Event::ShipmentTrackingUpdated(e) => json!({
            "tracking_number": e.tracking_number, "status": e.status, "location": e.location,
            "estimated_delivery": e.estimated_delivery,
        }),
        Event::ShipmentDelayed(e) => json!({
            "tracking_number": e.tracking_number, "estimated_delivery": e.estimated_delivery, "reason": e.reason,
        }),
        Event::OrderDelivered(e) => json!({ "delivered_at": e.delivered_at, "signed_by": e.signed_by }),
        Event::OrderCancelled(e) => json!({
            "reason": e.reason, "refund_amount": e.refund_amount, "refund_method": e.refund_method,
        }),
        Event::OrderReturned(e) => json!({ "lines": lines(&e.lines), "reason": e.reason }),
        Event::OrderRefunded(e) => paid(&e.amount, &e.method),
        Event::OrderStatusChanged(e) => json!({
            "old_status": word(&e.old_status), "new_status": word(&e.new_status), "reason": e.reason,
        }),
        Event::DisputeInitiated(e) => json!({
            "dispute_id": e.dispute_id, "reason": e.reason, "amount": e.amount,
        }),
        Event::DisputeAssigned(e) => json!({ "dispute_id": e.dispute_id, "moderator_id": e.moderator_id }),
        Event::DisputeEscalated(e) => json!({
            "dispute_id": e.dispute_id, "from_stage": word(&e.from_stage), "to_stage": word(&e.to_stage),
            "reason": e.reason, "respond_by": e.respond_by,
        }),
        Event::DisputeResolved(e) => json!({
            "dispute_id": e.dispute_id, "outcome": word(&e.outcome), "note": e.note, "amount": e.amount,
        }),
        Event::DisputeClosed(e) => json!({ "dispute_id": e.dispute_id, "reason": e.reason }),
        _ => json!({}),
    }
}

fn paid(amount: &Money, method: &str) -> Json {
    json!({ "amount": amount, "method": method })
}

fn lines(lines: &[LineItem]) -> Json {
    let line = |line: &LineItem| json!({ "title": line.title, "quantity": line.quantity, "unit_price": line.unit_price });
    lines.iter().map(line).collect()
}
