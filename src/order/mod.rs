//! An order as its events tell it: a pure fold, the same wherever it is computed.
//!
//! Events may come out of their natural order (a shipment before its payment) and may come twice: a status never
//! goes back to an earlier one, and a repeated fact changes nothing but the version. What must not live here: time,
//! stores, or what anyone does because of a state.

use serde::{Deserialize, Serialize};

use crate::event::{Address, DisputeOutcome, Event, LineItem, Money, OrderSnapshot, OrderStatus, Party};

mod known;

pub use known::Unavailable;

/// An order after some of its events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderState {
    /// The tenant.
    pub tenant_id: String,
    /// The order.
    pub order_id: String,
    /// How many events were applied.
    pub version: i64,
    /// When the newest of them happened, epoch milliseconds.
    pub updated_at: i64,
    /// Where the order stands.
    pub status: OrderStatus,
    /// When that status was reached, epoch milliseconds.
    pub status_changed_at: i64,
    /// The number that people know it by.
    pub order_number: Option<i64>,
    /// Who ordered, as a user id.
    pub customer_id: Option<String>,
    /// Who buys.
    pub buyer: Option<Party>,
    /// Who sells.
    pub seller: Option<Party>,
    /// What is ordered.
    pub items: Vec<LineItem>,
    /// What it costs.
    pub total: Option<Money>,
    /// Where it goes.
    pub shipping_address: Option<Address>,
    /// How it is paid.
    pub payment: Option<Payment>,
    /// How it travels.
    pub shipment: Option<Shipment>,
    /// What is disputed.
    pub dispute: Option<Dispute>,
    /// What was given back.
    pub refund: Option<Refund>,
}

/// How an order is paid.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Payment {
    /// The payment's id.
    pub payment_id: String,
    /// The method: card, invoice …
    pub method: String,
    /// How much.
    pub amount: Money,
}

/// How an order travels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shipment {
    /// The carrier; empty while only a tracking update told of the shipment.
    pub carrier: String,
    /// The tracking number.
    pub tracking_number: String,
    /// Where to follow it.
    pub tracking_url: Option<String>,
    /// When it should arrive, epoch milliseconds.
    pub estimated_delivery: Option<i64>,
    /// When it arrived, epoch milliseconds.
    pub delivered_at: Option<i64>,
}

/// What is disputed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dispute {
    /// The dispute's id.
    pub dispute_id: String,
    /// Why it was opened.
    pub reason: String,
    /// Who moderates it.
    pub moderator_id: Option<String>,
    /// How it ended.
    pub outcome: Option<DisputeOutcome>,
}

/// What was given back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refund {
    /// The refund's id, where an event named one.
    pub refund_id: Option<String>,
    /// How much.
    pub amount: Money,
    /// The method.
    pub method: Option<String>,
}

impl OrderState {
    /// An order of which nothing is known yet.
    pub fn new(tenant_id: &str, order_id: &str) -> Self {
        Self { tenant_id: tenant_id.to_owned(), order_id: order_id.to_owned(), ..Self::default() }
    }

    /// The state after `event`.
    pub fn apply(&mut self, event: &Event) {
        let meta = event.meta();
        self.version += 1;
        self.updated_at = self.updated_at.max(meta.occurred_at);
        if let Some(customer) = &meta.customer_id {
            self.customer_id.get_or_insert_with(|| customer.clone());
        }
        if let Some(snapshot) = event.snapshot() {
            self.apply_snapshot(snapshot, meta.occurred_at);
        }
        self.apply_details(event, meta.occurred_at);
    }

    /// A snapshot says how the order is after its event.
    fn apply_snapshot(&mut self, snapshot: &OrderSnapshot, at: i64) {
        self.order_number = Some(snapshot.order_number);
        if snapshot.customer_id.is_some() {
            self.customer_id.clone_from(&snapshot.customer_id);
        }
        self.total = Some(snapshot.total.clone());
        if !snapshot.items.is_empty() {
            self.items.clone_from(&snapshot.items);
        }
        self.advance(snapshot.status, at);
    }

    fn apply_details(&mut self, event: &Event, at: i64) {
        match event {
            Event::OrderCreated(created) => {
                self.order_number = Some(created.order_number);
                self.customer_id.get_or_insert_with(|| created.buyer.user_id.clone());
                self.buyer = Some(created.buyer.clone());
                self.seller = Some(created.seller.clone());
                self.items.clone_from(&created.lines);
                self.total = Some(created.total.clone());
                self.shipping_address.clone_from(&created.shipping_address);
                self.advance(OrderStatus::Created, at);
            }
            Event::OrderStatusChanged(changed) => self.advance(changed.new_status, at),
            Event::OrderPaid(paid) => self.pay(&paid.payment_id, &paid.method, &paid.amount, at),
            Event::PaymentProcessed(paid) => self.pay(&paid.payment_id, &paid.method, &paid.amount, at),
            Event::OrderShipped(shipped) => {
                self.shipment = Some(Shipment {
                    carrier: shipped.carrier.clone(),
                    tracking_number: shipped.tracking_number.clone(),
                    tracking_url: shipped.tracking_url.clone(),
                    estimated_delivery: shipped.estimated_delivery,
                    delivered_at: self.shipment.as_ref().and_then(|known| known.delivered_at),
                });
                self.advance(OrderStatus::Shipped, at);
            }
            Event::ShipmentTrackingUpdated(update) => {
                self.estimate(&update.tracking_number, update.estimated_delivery)
            }
            Event::ShipmentDelayed(delay) => self.estimate(&delay.tracking_number, delay.estimated_delivery),
            Event::OrderDelivered(delivered) => {
                self.shipment.get_or_insert_default().delivered_at = Some(delivered.delivered_at);
                self.advance(OrderStatus::Delivered, at);
            }
            Event::OrderCompleted(_) => self.advance(OrderStatus::Completed, at),
            Event::OrderCancelled(cancelled) => {
                if let Some(amount) = &cancelled.refund_amount {
                    self.refund = Some(Refund {
                        refund_id: None,
                        amount: amount.clone(),
                        method: cancelled.refund_method.clone(),
                    });
                }
                self.advance(OrderStatus::Cancelled, at);
            }
            Event::OrderReturned(_) => self.advance(OrderStatus::Returned, at),
            Event::OrderRefunded(refunded) => {
                self.refund = Some(Refund {
                    refund_id: Some(refunded.refund_id.clone()),
                    amount: refunded.amount.clone(),
                    method: Some(refunded.method.clone()),
                });
                self.advance(OrderStatus::Refunded, at);
            }
            Event::DisputeInitiated(opened) => {
                self.dispute_of(&opened.dispute_id).reason.clone_from(&opened.reason);
                self.advance(OrderStatus::Disputed, at);
            }
            Event::DisputeAssigned(assigned) => {
                self.dispute_of(&assigned.dispute_id).moderator_id = Some(assigned.moderator_id.clone());
            }
            Event::DisputeResolved(resolved) => {
                self.dispute_of(&resolved.dispute_id).outcome = Some(resolved.outcome);
            }
            Event::CheckoutInitiated(_)
            | Event::OrderUpdated(_)
            | Event::PaymentProcessing(_)
            | Event::PaymentFailed(_)
            | Event::InventoryUpdated(_)
            | Event::OrderConfirmationSent(_)
            | Event::RefundFailed(_)
            | Event::DisputeEvidenceSubmitted(_)
            | Event::DisputeEscalated(_)
            | Event::DisputeFundsHeld(_)
            | Event::DisputeFundsReleased(_)
            | Event::DisputeFundsRefunded(_)
            | Event::DisputeClosed(_)
            | Event::UserUpdated(_)
            | Event::EmailSent(_)
            | Event::JobEnqueued(_)
            | Event::JobStarted(_)
            | Event::JobCompleted(_)
            | Event::JobFailed(_) => {}
        }
    }

    /// Moves on to `status` unless the order is past it already.
    fn advance(&mut self, status: OrderStatus, at: i64) {
        if progress(status) > progress(self.status) {
            self.status = status;
            self.status_changed_at = at;
        }
    }

    fn pay(&mut self, payment_id: &str, method: &str, amount: &Money, at: i64) {
        self.payment = Some(Payment {
            payment_id: payment_id.to_owned(),
            method: method.to_owned(),
            amount: amount.clone(),
        });
        self.advance(OrderStatus::Paid, at);
    }

    fn estimate(&mut self, tracking_number: &str, estimated_delivery: Option<i64>) {
        let shipment = self.shipment.get_or_insert_with(|| Shipment {
            tracking_number: tracking_number.to_owned(),
            ..Shipment::default()
        });
        if estimated_delivery.is_some() {
            shipment.estimated_delivery = estimated_delivery;
        }
    }

    /// The dispute called `id`; a new one takes the place of one that came before.
    fn dispute_of(&mut self, id: &str) -> &mut Dispute {
        let known = self.dispute.take().filter(|dispute| dispute.dispute_id == id);
        self.dispute
            .insert(known.unwrap_or_else(|| Dispute { dispute_id: id.to_owned(), ..Dispute::default() }))
    }
}

/// How far along a status is. Endings outrank what leads to them; a dispute outranks completion, and a refund,
/// which ends a dispute, outranks the dispute.
fn progress(status: OrderStatus) -> u8 {
    match status {
        OrderStatus::Unknown => 0,
        OrderStatus::Created => 1,
        OrderStatus::Confirmed => 2,
        OrderStatus::Paid => 3,
        OrderStatus::Processing => 4,
        OrderStatus::Shipped => 5,
        OrderStatus::Delivered => 6,
        OrderStatus::Completed => 7,
        OrderStatus::Disputed => 8,
        OrderStatus::Cancelled => 9,
        OrderStatus::Returned => 10,
        OrderStatus::Refunded => 11,
    }
}

#[cfg(test)]
mod tests;
