//! Typed constructors: one per event, asking for what its schema requires.
//!
//! ```
//! use orderflow::event::{Event, Factory, Money};
//!
//! let factory = Factory::new("shop-1", "checkout");
//! let now_ms = 1_760_000_000_000;
//! let mut shipped = factory.order_shipped("o-1", now_ms, "DHL", "JD014600");
//! shipped.tracking_url = Some("https://example.com/JD014600".to_owned());
//! let paid: Event = factory.order_paid("o-1", now_ms, "pay-1", "card", Money::new(1999, "EUR")).into();
//! assert_eq!(paid.meta().tenant_id, "shop-1");
//! ```
//!
//! The factory has no clock: the caller says when. Ids are random UUIDs of version 7 unless one is given, which
//! is what makes a retried request publish the same event.

use uuid::Uuid;

use super::record::*;
use super::table::EventRecord;

/// Makes events of one tenant and source.
#[derive(Debug, Clone)]
pub struct Factory {
    tenant: String,
    source: String,
    correlation_id: Option<String>,
    causation_id: Option<String>,
    customer_id: Option<String>,
    actor: Option<Actor>,
    event_id: Option<String>,
}

impl Factory {
    /// A factory for events of `tenant`, published by the system `source`.
    pub fn new(tenant: impl Into<String>, source: impl Into<String>) -> Factory {
        Factory {
            tenant: tenant.into(),
            source: source.into(),
            correlation_id: None,
            causation_id: None,
            customer_id: None,
            actor: None,
            event_id: None,
        }
    }

    /// The same factory for events that `cause` led to: they carry on its correlation, or begin one under its id.
    pub fn follow(mut self, cause: &EventMeta) -> Factory {
        self.correlation_id = Some(cause.correlation_id.clone().unwrap_or_else(|| cause.event_id.clone()));
        self.causation_id = Some(cause.event_id.clone());
        self.customer_id = cause.customer_id.clone().or(self.customer_id);
        self
    }

    /// The same factory with a correlation id.
    pub fn correlated(mut self, correlation_id: impl Into<String>) -> Factory {
        self.correlation_id = Some(correlation_id.into());
        self
    }

    /// The same factory for events of a customer's orders.
    pub fn customer(mut self, customer_id: impl Into<String>) -> Factory {
        self.customer_id = Some(customer_id.into());
        self
    }

    /// The same factory for events that `actor` brings about.
    pub fn acting(mut self, actor: Actor) -> Factory {
        self.actor = Some(actor);
        self
    }

    /// The same factory, whose next event has this id. Use it for one event.
    pub fn with_id(mut self, event_id: Uuid) -> Factory {
        self.event_id = Some(event_id.to_string());
        self
    }

    /// Identity, time and origin for an event of `order_id` that happens at `now_ms`.
    pub fn meta(&self, order_id: impl Into<String>, now_ms: i64) -> EventMeta {
        EventMeta {
            event_id: self.event_id.clone().unwrap_or_else(|| random_event_id(now_ms).to_string()),
            order_id: order_id.into(),
            tenant_id: self.tenant.clone(),
            customer_id: self.customer_id.clone(),
            occurred_at: now_ms,
            correlation_id: self.correlation_id.clone(),
            causation_id: self.causation_id.clone(),
            source: Some(self.source.clone()),
            actor: self.actor.clone(),
            ip: None,
            user_agent: None,
        }
    }

    /// Puts identity, time and origin into a record that was made by hand.
    pub fn complete<R: EventRecord>(&self, order_id: impl Into<String>, now_ms: i64, mut record: R) -> R {
        record.set_meta(self.meta(order_id, now_ms));
        record
    }
}

/// A random UUID of version 7 whose time is `now_ms`.
pub fn random_event_id(now_ms: i64) -> Uuid {
    let millis = u64::try_from(now_ms).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}

/// Makes one constructor per row of `name: Record { required fields }`.
macro_rules! constructors {
    ($( $(#[doc = $doc:literal])* $name:ident: $record:ident { $($field:ident: $type:ty),* }; )*) => {
        impl Factory {
            $(
                $(#[doc = $doc])*
                #[allow(clippy::too_many_arguments, reason = "one argument per field that the schema requires")]
                pub fn $name(&self, order_id: impl Into<String>, now_ms: i64, $($field: impl Into<$type>),*) -> $record {
                    let mut record = $record::default();
                    record.meta = self.meta(order_id, now_ms);
                    $(record.$field = $field.into();)*
                    record
                }
            )*
        }
    };
}

constructors! {
    /// The buyer began to check out a cart.
    checkout_initiated: CheckoutInitiated { cart_id: String, lines: Vec<LineItem>, total: Money };
    /// An order was placed.
    order_created: OrderCreated { order_number: i64, buyer: Party, seller: Party, lines: Vec<LineItem>, total: Money };
    /// Fields of an order were changed.
    order_updated: OrderUpdated { changes: Vec<FieldChange> };
    /// An order went from one status to another.
    order_status_changed: OrderStatusChanged { old_status: OrderStatus, new_status: OrderStatus };
    /// A payment was begun.
    payment_processing: PaymentProcessing { payment_id: String, method: String, amount: Money };
    /// The provider took a payment.
    payment_processed: PaymentProcessed { payment_id: String, method: String, amount: Money };
    /// A payment was refused.
    payment_failed: PaymentFailed { payment_id: String, method: String, amount: Money };
    /// An order is paid.
    order_paid: OrderPaid { payment_id: String, method: String, amount: Money };
    /// The stock of a product changed because of an order.
    inventory_updated: InventoryUpdated { product_id: String, delta: i64, on_hand: i64, reserved: i64, low_stock: bool };
    /// The confirmation of an order was accepted by its provider.
    order_confirmation_sent: OrderConfirmationSent { channel: String, message_id: String };
    /// An order left the seller.
    order_shipped: OrderShipped { carrier: String, tracking_number: String };
    /// A carrier reported on a shipment.
    shipment_tracking_updated: ShipmentTrackingUpdated { tracking_number: String, status: String };
    /// A shipment will be late.
    shipment_delayed: ShipmentDelayed { tracking_number: String };
    /// An order reached the buyer.
    order_delivered: OrderDelivered { delivered_at: i64 };
    /// Nothing more is to be done for an order.
    order_completed: OrderCompleted {  };
    /// An order was called off.
    order_cancelled: OrderCancelled { reason: String };
    /// Lines of an order came back.
    order_returned: OrderReturned { lines: Vec<LineItem> };
    /// Money was given back.
    order_refunded: OrderRefunded { refund_id: String, amount: Money, method: String };
    /// Money could not be given back.
    refund_failed: RefundFailed { refund_id: String, amount: Money, method: String };
    /// A party disputes an order.
    dispute_initiated: DisputeInitiated { dispute_id: String, opened_by: String, reason: String };
    /// A moderator was given a dispute.
    dispute_assigned: DisputeAssigned { dispute_id: String, moderator_id: String };
    /// A party handed in evidence.
    dispute_evidence_submitted: DisputeEvidenceSubmitted { dispute_id: String, evidence_id: String, submitted_by: String, kind: String };
    /// A dispute was taken further.
    dispute_escalated: DisputeEscalated { dispute_id: String, from_stage: DisputeStage, to_stage: DisputeStage };
    /// The disputed money is held back.
    dispute_funds_held: DisputeFundsHeld { dispute_id: String, amount: Money };
    /// Held money went to the seller.
    dispute_funds_released: DisputeFundsReleased { dispute_id: String, amount: Money };
    /// Held money went back to the buyer.
    dispute_funds_refunded: DisputeFundsRefunded { dispute_id: String, amount: Money };
    /// A dispute was decided.
    dispute_resolved: DisputeResolved { dispute_id: String, outcome: DisputeOutcome };
    /// Nothing more is to be done for a dispute.
    dispute_closed: DisputeClosed { dispute_id: String };
    /// A user changed how they can be reached.
    user_updated: UserUpdated { user_id: String };
    /// A mail was accepted by its provider.
    email_sent: EmailSent { template: String, recipient: String, message_id: String };
    /// Work was put into a queue.
    job_enqueued: JobEnqueued { job_id: String, job_type: String, queue: String };
    /// A worker took up a job.
    job_started: JobStarted { job_id: String, job_type: String, queue: String, worker_id: String };
    /// A worker finished a job.
    job_completed: JobCompleted { job_id: String, job_type: String, queue: String, worker_id: String, processing_time_ms: i64 };
    /// A worker gave up on a job.
    job_failed: JobFailed { job_id: String, job_type: String, queue: String, error: String };
}
