//! An event made of what an order's state already knows, for callers that name only order and type.

use super::OrderState;
use crate::event::{Event, EventType, Factory, OrderSnapshot, OrderStatus};

/// The state doesn't hold what an event of the type has to say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stored state of order {order_id} doesn't hold what {} needs: {missing}", .event_type.as_str())]
pub struct Unavailable {
    /// The order.
    pub order_id: String,
    /// The type that was asked for.
    pub event_type: EventType,
    /// What is missing, or why such an event can't be made of a state at all.
    pub missing: &'static str,
}

impl OrderState {
    /// The order as events carry it.
    pub fn snapshot(&self) -> Option<OrderSnapshot> {
        Some(OrderSnapshot {
            order_number: self.order_number?,
            status: self.status,
            customer_id: self.customer_id.clone(),
            total: self.total.clone()?,
            items: self.items.clone(),
        })
    }

    /// An event of `event_type` with the data that this state holds.
    ///
    /// # Errors
    /// [`Unavailable`] when the state lacks something that the event must say.
    pub fn event(&self, event_type: EventType, factory: &Factory, now_ms: i64) -> Result<Event, Unavailable> {
        let missing =
            |missing: &'static str| Unavailable { order_id: self.order_id.clone(), event_type, missing };
        let order = self.order_id.as_str();
        #[expect(clippy::wildcard_enum_match_arm, reason = "a new type too says what only its caller knows")]
        let mut event: Event = match event_type {
            EventType::OrderPaid => {
                let payment = self.payment.as_ref().ok_or(missing("a payment"))?;
                let amount = payment.amount.clone();
                factory.order_paid(order, now_ms, &payment.payment_id, &payment.method, amount).into()
            }
            EventType::OrderShipped => {
                let shipment = self.shipment.as_ref().ok_or(missing("a shipment"))?;
                let mut shipped =
                    factory.order_shipped(order, now_ms, &shipment.carrier, &shipment.tracking_number);
                shipped.tracking_url.clone_from(&shipment.tracking_url);
                shipped.estimated_delivery = shipment.estimated_delivery;
                shipped.into()
            }
            EventType::OrderDelivered => factory.order_delivered(order, now_ms, now_ms).into(),
            EventType::OrderCompleted => factory.order_completed(order, now_ms).into(),
            _ => return Err(missing("data that only the caller knows; send it as eventData")),
        };
        event.meta_mut().customer_id.clone_from(&self.customer_id);
        if let Some(mut snapshot) = self.snapshot() {
            if let Some(status) = resulting_status(event_type) {
                snapshot.status = status;
            }
            event.set_snapshot(snapshot);
        }
        Ok(event)
    }
}

/// The status that an event of this type leads to.
fn resulting_status(event_type: EventType) -> Option<OrderStatus> {
    [
        (EventType::OrderPaid, OrderStatus::Paid),
        (EventType::OrderShipped, OrderStatus::Shipped),
        (EventType::OrderDelivered, OrderStatus::Delivered),
        (EventType::OrderCompleted, OrderStatus::Completed),
    ]
    .into_iter()
    .find_map(|(known, status)| (known == event_type).then_some(status))
}
