//! What each type of event tells beyond the order's snapshot, in the terms of the webhook body. Pure; one arm a
//! type, without `_`, so that a new type can't be forgotten. Personal fields are left out here, field by field.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::event::{Event, LineItem, Money, OrderStatus, card_numbers};

/// The facts of one event.
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    /// The status that the event put the order into.
    pub(super) status: Option<OrderStatus>,
    /// The number that people use.
    pub(super) order_number: Option<i64>,
    /// The buyer's user id.
    pub(super) customer_id: Option<&'a str>,
    /// What the order costs.
    pub(super) total: Option<&'a Money>,
    /// What was ordered.
    pub(super) items: Option<&'a [LineItem]>,
    /// Money that moved or failed to.
    pub(super) payment: Option<Payment<'a>>,
    /// Goods that moved.
    pub(super) shipment: Option<Shipment<'a>>,
    /// A job, and how far it is; it takes the place of everything else.
    pub(super) work: Option<Work<'a>>,
    /// The rest, by name.
    pub(super) metadata: BTreeMap<&'static str, Value>,
}

/// Money that moved or failed to.
#[derive(Debug)]
pub(super) struct Payment<'a> {
    pub(super) payment_id: Option<&'a str>,
    pub(super) refund_id: Option<&'a str>,
    pub(super) method: Option<&'a str>,
    pub(super) amount: &'a Money,
    pub(super) failure_code: Option<&'a str>,
}

/// Goods that moved. Times are epoch milliseconds.
#[derive(Debug, Default)]
pub(super) struct Shipment<'a> {
    pub(super) shipment_id: Option<&'a str>,
    pub(super) carrier: Option<&'a str>,
    pub(super) tracking_number: Option<&'a str>,
    pub(super) tracking_url: Option<&'a str>,
    pub(super) status: Option<&'a str>,
    pub(super) estimated_delivery: Option<i64>,
    pub(super) delivered_at: Option<i64>,
}

/// A job, as its worker reports it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Work<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_id: Option<&'a str>,
    queue_name: &'a str,
    job_id: &'a str,
    job_type: &'a str,
    status: &'static str,
    /// In milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    processing_time: Option<i64>,
    /// The worker's words, without card numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, str>>,
}

impl<'a> Facts<'a> {
    /// The facts of `event`.
    pub(super) fn of(event: &'a Event) -> Self {
        match event {
            Event::CheckoutInitiated(e) => {
                Self { total: Some(&e.total), items: Some(&e.lines), ..Self::default() }
                    .with("cartId", &e.cart_id)
            }
            Event::OrderCreated(e) => Self {
                order_number: Some(e.order_number),
                customer_id: Some(&e.buyer.user_id),
                total: Some(&e.total),
                items: Some(&e.lines),
                ..Self::status(OrderStatus::Created)
            },
            Event::OrderUpdated(e) => {
                let names: Vec<&str> = e.changes.iter().map(|change| change.field.as_str()).collect();
                Self::default().with("changedFields", names)
            }
            Event::OrderStatusChanged(e) => {
                Self::status(e.new_status).with("oldStatus", e.old_status).maybe("reason", e.reason.as_ref())
            }
            Event::PaymentProcessing(e) => Self::paying(&e.payment_id, &e.method, &e.amount, None),
            Event::PaymentProcessed(e) => Self::paying(&e.payment_id, &e.method, &e.amount, None),
            Event::PaymentFailed(e) => {
                Self::paying(&e.payment_id, &e.method, &e.amount, e.failure_code.as_deref())
            }
            Event::OrderPaid(e) => Self {
                status: Some(OrderStatus::Paid),
                ..Self::paying(&e.payment_id, &e.method, &e.amount, None)
            },
            Event::InventoryUpdated(e) => Self::default()
                .with("productId", &e.product_id)
                .with("delta", e.delta)
                .with("onHand", e.on_hand)
                .with("reserved", e.reserved)
                .with("lowStock", e.low_stock),
            Event::OrderConfirmationSent(e) => {
                Self::default().with("channel", &e.channel).with("messageId", &e.message_id)
            }
            Event::OrderShipped(e) => Self {
                shipment: Some(Shipment {
                    shipment_id: e.shipment_id.as_deref(),
                    carrier: Some(&e.carrier),
                    tracking_number: Some(&e.tracking_number),
                    tracking_url: e.tracking_url.as_deref(),
                    estimated_delivery: e.estimated_delivery,
                    ..Shipment::default()
                }),
                ..Self::status(OrderStatus::Shipped)
            },
            Event::ShipmentTrackingUpdated(e) => Self {
                shipment: Some(Shipment {
                    tracking_number: Some(&e.tracking_number),
                    status: Some(&e.status),
                    estimated_delivery: e.estimated_delivery,
                    ..Shipment::default()
                }),
                ..Self::default()
            },
            Event::ShipmentDelayed(e) => Self {
                shipment: Some(Shipment {
                    tracking_number: Some(&e.tracking_number),
                    estimated_delivery: e.estimated_delivery,
                    ..Shipment::default()
                }),
                ..Self::default()
            }
            .maybe("reason", e.reason.as_ref()),
            Event::OrderDelivered(e) => Self {
                shipment: Some(Shipment { delivered_at: Some(e.delivered_at), ..Shipment::default() }),
                ..Self::status(OrderStatus::Delivered)
            },
            Event::OrderCompleted(_) => Self::status(OrderStatus::Completed),
            Event::OrderCancelled(e) => Self {
                payment: e.refund_amount.as_ref().map(|amount| Payment {
                    payment_id: None,
                    refund_id: None,
                    method: e.refund_method.as_deref(),
                    amount,
                    failure_code: None,
                }),
                ..Self::status(OrderStatus::Cancelled)
            }
            .with("reason", &e.reason)
            .maybe("cancelledBy", e.cancelled_by.as_ref()),
            Event::OrderReturned(e) => {
                let lines: Vec<Value> = e
                    .lines
                    .iter()
                    .map(|line| json!({"productId": line.product_id, "quantity": line.quantity}))
                    .collect();
                Self::status(OrderStatus::Returned).with("returned", lines).maybe("reason", e.reason.as_ref())
            }
            Event::OrderRefunded(e) => Self {
                status: Some(OrderStatus::Refunded),
                ..Self::refunding(&e.refund_id, &e.method, &e.amount, None)
            },
            Event::RefundFailed(e) => {
                Self::refunding(&e.refund_id, &e.method, &e.amount, e.failure_code.as_deref())
            }
            Event::DisputeInitiated(e) => Self::status(OrderStatus::Disputed)
                .with("disputeId", &e.dispute_id)
                .with("openedBy", &e.opened_by)
                .with("reason", &e.reason),
            Event::DisputeAssigned(e) => Self::dispute(&e.dispute_id).with("moderatorId", &e.moderator_id),
            Event::DisputeEvidenceSubmitted(e) => Self::dispute(&e.dispute_id)
                .with("evidenceId", &e.evidence_id)
                .with("submittedBy", &e.submitted_by)
                .with("kind", &e.kind),
            Event::DisputeEscalated(e) => {
                Self::dispute(&e.dispute_id).with("fromStage", e.from_stage).with("toStage", e.to_stage)
            }
            Event::DisputeFundsHeld(e) => Self::dispute(&e.dispute_id).money(&e.amount),
            Event::DisputeFundsReleased(e) => Self::dispute(&e.dispute_id).money(&e.amount),
            Event::DisputeFundsRefunded(e) => Self::dispute(&e.dispute_id).money(&e.amount),
            Event::DisputeResolved(e) => Self::dispute(&e.dispute_id).with("outcome", e.outcome),
            Event::DisputeClosed(e) => Self::dispute(&e.dispute_id),
            Event::UserUpdated(e) => Self::default().with("userId", &e.user_id),
            Event::EmailSent(e) => {
                Self::default().with("template", &e.template).with("messageId", &e.message_id)
            }
            Event::JobEnqueued(e) => Self::job((&e.job_id, &e.job_type, &e.queue), "enqueued", None),
            Event::JobStarted(e) => {
                Self::job((&e.job_id, &e.job_type, &e.queue), "started", Some(&e.worker_id))
            }
            Event::JobCompleted(e) => {
                Self::job((&e.job_id, &e.job_type, &e.queue), "completed", Some(&e.worker_id))
                    .took(Some(e.processing_time_ms), None)
            }
            Event::JobFailed(e) => {
                Self::job((&e.job_id, &e.job_type, &e.queue), "failed", e.worker_id.as_deref())
                    .took(e.processing_time_ms, Some(&e.error))
            }
        }
    }

    fn status(status: OrderStatus) -> Self {
        Self { status: Some(status).filter(|status| *status != OrderStatus::Unknown), ..Self::default() }
    }

    fn paying(id: &'a str, method: &'a str, amount: &'a Money, failure_code: Option<&'a str>) -> Self {
        let payment =
            Payment { payment_id: Some(id), refund_id: None, method: Some(method), amount, failure_code };
        Self { payment: Some(payment), ..Self::default() }
    }

    fn refunding(id: &'a str, method: &'a str, amount: &'a Money, failure_code: Option<&'a str>) -> Self {
        let payment =
            Payment { payment_id: None, refund_id: Some(id), method: Some(method), amount, failure_code };
        Self { payment: Some(payment), ..Self::default() }
    }

    fn dispute(id: &str) -> Self {
        Self::default().with("disputeId", id)
    }

    fn money(mut self, amount: &'a Money) -> Self {
        self.payment =
            Some(Payment { payment_id: None, refund_id: None, method: None, amount, failure_code: None });
        self
    }

    fn job(
        (job_id, job_type, queue_name): (&'a str, &'a str, &'a str),
        status: &'static str,
        worker_id: Option<&'a str>,
    ) -> Self {
        let work =
            Work { worker_id, queue_name, job_id, job_type, status, processing_time: None, error: None };
        Self { work: Some(work), ..Self::default() }
    }

    fn took(mut self, processing_time: Option<i64>, error: Option<&'a str>) -> Self {
        if let Some(work) = &mut self.work {
            (work.processing_time, work.error) = (processing_time, error.map(card_numbers));
        }
        self
    }

    fn with(mut self, name: &'static str, value: impl serde::Serialize) -> Self {
        self.metadata.insert(name, json!(value));
        self
    }

    fn maybe(self, name: &'static str, value: Option<&String>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}
