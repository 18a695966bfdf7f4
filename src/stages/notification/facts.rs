//! What an event tells of, so that one fact told by two events is told once.
//!
//! A fact is the payment, refund, parcel or dispute step that an event names, and beside it the order status
//! that the event results in. Two events tell the same fact when they name the same one, or when two events of
//! different types result in the same status (`order.status_changed` to shipped and `order.shipped`). Two
//! events of one type that name different parcels, refunds or disputes are two facts, whatever the status.

use serde::Serialize;

use crate::event::{Event, OrderStatus};

/// What an event tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The event's dotted type.
    pub event_type: String,
    /// The fact itself.
    pub fact: String,
    /// The order status that the event results in, if any.
    pub status: Option<String>,
}

impl Facts {
    /// What `event` tells of.
    pub fn of(event: &Event) -> Self {
        let (fact, natural) = named(event);
        // A snapshot that shows another status says that the event didn't bring the order there (a part
        // shipment, a partial refund).
        let status = natural.filter(|natural| {
            event
                .snapshot()
                .is_none_or(|order| order.status == *natural || order.status == OrderStatus::Unknown)
        });
        Self {
            event_type: event.event_type().as_str().to_owned(),
            fact,
            status: status.or(processed_to_paid(event)).map(status_fact),
        }
    }

    /// Whether `earlier` told what this tells.
    pub fn told_by(&self, earlier: &Facts) -> bool {
        if self.fact == earlier.fact {
            return true;
        }
        let statuses = |facts: &Facts| -> Vec<String> {
            facts
                .status
                .iter()
                .chain(Some(&facts.fact))
                .filter(|fact| fact.starts_with(STATUS))
                .cloned()
                .collect()
        };
        let earlier_statuses = statuses(earlier);
        self.event_type != earlier.event_type
            && statuses(self).iter().any(|status| earlier_statuses.contains(status))
    }
}

const STATUS: &str = "status:";

fn status_fact(status: OrderStatus) -> String {
    format!("{STATUS}{}", word(&status))
}

/// A taken payment makes an order paid only if its snapshot says so.
fn processed_to_paid(event: &Event) -> Option<OrderStatus> {
    let Event::PaymentProcessed(record) = event else { return None };
    record.order.as_ref().map(|order| order.status).filter(|status| *status == OrderStatus::Paid)
}

/// The fact that an event names, and the status that events of its type bring an order to.
#[expect(clippy::wildcard_enum_match_arm, reason = "events without a rule tell nothing but themselves")]
fn named(event: &Event) -> (String, Option<OrderStatus>) {
    let status = |status| (status_fact(status), Some(status));
    match event {
        Event::OrderCreated(_) => status(OrderStatus::Created),
        Event::OrderDelivered(_) => status(OrderStatus::Delivered),
        Event::OrderCompleted(_) => status(OrderStatus::Completed),
        Event::OrderCancelled(_) => status(OrderStatus::Cancelled),
        Event::OrderReturned(_) => status(OrderStatus::Returned),
        Event::OrderStatusChanged(record) => (status_fact(record.new_status), Some(record.new_status)),
        Event::PaymentProcessed(record) => (format!("payment:{}", record.payment_id), None),
        Event::OrderPaid(record) => (format!("payment:{}", record.payment_id), Some(OrderStatus::Paid)),
        Event::PaymentFailed(record) => {
            // The same payment may fail again after another try: each failure is a fact of its own.
            (format!("payment-failed:{}:{}", record.payment_id, record.meta.occurred_at), None)
        }
        Event::OrderRefunded(record) => (format!("refund:{}", record.refund_id), Some(OrderStatus::Refunded)),
        Event::OrderShipped(record) => {
            (format!("parcel:{}", record.tracking_number), Some(OrderStatus::Shipped))
        }
        Event::ShipmentTrackingUpdated(record) => {
            (format!("parcel:{}:{}:{}", record.tracking_number, record.status, record.meta.occurred_at), None)
        }
        Event::ShipmentDelayed(record) => {
            let until = record.estimated_delivery.map_or_else(|| "unknown".to_owned(), |at| at.to_string());
            (format!("delay:{}:{until}", record.tracking_number), None)
        }
        Event::DisputeInitiated(record) => {
            (format!("dispute:{}", record.dispute_id), Some(OrderStatus::Disputed))
        }
        Event::DisputeAssigned(record) => {
            (format!("dispute:{}:assigned:{}", record.dispute_id, record.moderator_id), None)
        }
        Event::DisputeEscalated(record) => {
            (format!("dispute:{}:{}", record.dispute_id, word(&record.to_stage)), None)
        }
        Event::DisputeResolved(record) => {
            (format!("dispute:{}:resolved:{}", record.dispute_id, word(&record.outcome)), None)
        }
        Event::DisputeClosed(record) => (format!("dispute:{}:closed", record.dispute_id), None),
        other => (format!("event:{}:{}", other.event_type(), other.meta().event_id), None),
    }
}

/// The word that stands for an enum's value in our JSON.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Factory, Money, OrderSnapshot};

    fn facts(event: impl Into<Event>) -> Facts {
        Facts::of(&event.into())
    }

    #[test]
    fn one_fact_told_by_two_events_is_one() {
        let factory = Factory::new("shop", "test");
        let euros = Money::new(100, "EUR");
        let processed = facts(factory.payment_processed("o", 1, "p-1", "card", euros.clone()));
        let paid = facts(factory.order_paid("o", 2, "p-1", "card", euros.clone()));
        let shipped = facts(factory.order_shipped("o", 3, "DHL", "T1"));
        let changed = |status| facts(factory.order_status_changed("o", 4, OrderStatus::Created, status));
        assert!(paid.told_by(&processed) && processed.told_by(&paid));
        assert!(changed(OrderStatus::Paid).told_by(&paid) && paid.told_by(&changed(OrderStatus::Paid)));
        assert!(changed(OrderStatus::Shipped).told_by(&shipped));
        assert!(shipped.told_by(&changed(OrderStatus::Shipped)));
        assert!(!shipped.told_by(&paid) && !changed(OrderStatus::Delivered).told_by(&shipped));
    }

    #[test]
    fn a_second_parcel_and_a_partial_refund_are_facts_of_their_own() {
        let factory = Factory::new("shop", "test");
        let first = facts(factory.order_shipped("o", 1, "DHL", "T1"));
        let second = facts(factory.order_shipped("o", 2, "DHL", "T2"));
        assert!(!second.told_by(&first) && second.told_by(&second));

        let mut refund = factory.order_refunded("o", 3, "r-1", Money::new(100, "EUR"), "card");
        refund.order = Some(OrderSnapshot { status: OrderStatus::Delivered, ..OrderSnapshot::default() });
        let partial = facts(refund);
        assert_eq!(partial.status, None, "the order isn't refunded by it");
        let changed =
            facts(factory.order_status_changed("o", 4, OrderStatus::Delivered, OrderStatus::Refunded));
        assert!(!changed.told_by(&partial));
    }
}
