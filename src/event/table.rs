//! The table of events: everything that has to be said once per type is said here, and the closed enums
//! [`EventType`] and [`Event`] are made from it.
//!
//! A new event is one `.avsc`, one struct under `record/` and one row here. What is not here: how a name may be
//! spelled (`name.rs`), how an event looks as JSON (`json.rs`) or on the wire (`codec/`).

use super::record::*;
use super::schema::{self, AvroRecord, RecordSchema};

/// Makes the enums from rows of `Record = "dotted.name", order|job|bare, [aliases]`. `order` rows carry a
/// snapshot, `job` rows are keyed by their job.
macro_rules! event_table {
    ($( $(#[doc = $doc:literal])* $record:ident = $name:literal, $shape:ident, [$($alias:literal),*]; )*) => {
        /// The type of an event. Closed: a type that isn't here is unknown, and is skipped and counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventType { $( $(#[doc = $doc])* $record, )* }

        impl EventType {
            /// Every type, in the order of the table.
            pub const ALL: &'static [EventType] = &[$(EventType::$record),*];

            /// The canonical dotted name, such as `order.created`.
            pub const fn as_str(self) -> &'static str {
                match self { $(EventType::$record => $name,)* }
            }

            /// The name of the Avro record, such as `OrderCreated`.
            pub const fn record_name(self) -> &'static str {
                match self { $(EventType::$record => stringify!($record),)* }
            }

            /// The full name of the Avro record, such as `orderflow.events.OrderCreated`.
            pub const fn full_name(self) -> &'static str {
                match self { $(EventType::$record => concat!("orderflow.events.", stringify!($record)),)* }
            }

            /// Other systems' names for the same type, in dotted form.
            pub const fn aliases(self) -> &'static [&'static str] {
                match self { $(EventType::$record => &[$($alias),*],)* }
            }

            /// What the type tells, in one sentence.
            pub const fn description(self) -> &'static str {
                match self { $(EventType::$record => concat!($($doc),*).trim_ascii(),)* }
            }

            /// Whether events of this type carry a snapshot of the order.
            pub const fn has_snapshot(self) -> bool {
                match self { $(EventType::$record => event_table!(@snapshot $shape),)* }
            }

            /// The published schema's text as it lies in `schemas/`.
            pub(super) const fn schema_file(self) -> &'static str {
                match self {
                    $(EventType::$record => include_str!(concat!("../../schemas/", stringify!($record), ".avsc")),)*
                }
            }
        }

        /// An event: one of the records, each of which begins with its [`EventMeta`].
        ///
        /// The records are boxed: they differ much in size, and events are moved through queues.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Event { $( $(#[doc = $doc])* $record(Box<$record>), )* }

        impl Event {
            /// The type.
            pub const fn event_type(&self) -> EventType {
                match self { $(Event::$record(_) => EventType::$record,)* }
            }

            /// Identity, time and origin.
            pub fn meta(&self) -> &EventMeta {
                match self { $(Event::$record(record) => &record.meta,)* }
            }

            /// Identity, time and origin, to be filled in before publishing.
            pub fn meta_mut(&mut self) -> &mut EventMeta {
                match self { $(Event::$record(record) => &mut record.meta,)* }
            }

            /// The order as it is after the event, if the producer said so.
            pub fn snapshot(&self) -> Option<&OrderSnapshot> {
                match self { $(Event::$record(_record) => event_table!(@get $shape _record),)* }
            }

            /// Sets the snapshot; types without one ignore it.
            pub fn set_snapshot(&mut self, _snapshot: OrderSnapshot) {
                match self { $(Event::$record(_record) => event_table!(@set $shape _record _snapshot),)* }
            }

            /// The Kafka key: the job id for job events, the order id for all others.
            pub fn key(&self) -> &str {
                match self { $(Event::$record(record) => event_table!(@key $shape record),)* }
            }

            /// Applies `visit` to the record, whatever its type.
            pub(super) fn visit<V: RecordVisitor>(&self, visit: V) -> V::Output {
                match self { $(Event::$record(record) => visit.record(record.as_ref()),)* }
            }

            /// Makes the record of `event_type` by `make`, whatever its type.
            pub(super) fn build<M: RecordMaker>(event_type: EventType, make: M) -> Result<Event, M::Error> {
                match event_type {
                    $(EventType::$record => make.record::<$record>().map(|record| Event::$record(Box::new(record))),)*
                }
            }
        }

        $(
            impl From<$record> for Event {
                fn from(record: $record) -> Event {
                    Event::$record(Box::new(record))
                }
            }

            impl AvroRecord for $record {
                fn schema() -> &'static RecordSchema {
                    EventType::$record.schema()
                }
            }

            impl EventRecord for $record {
                const TYPE: EventType = EventType::$record;

                fn set_meta(&mut self, meta: EventMeta) {
                    self.meta = meta;
                }
            }
        )*
    };
    (@snapshot order) => { true };
    (@snapshot $other:ident) => { false };
    (@get order $record:ident) => { $record.order.as_ref() };
    (@get $other:ident $record:ident) => { None };
    (@set order $record:ident $snapshot:ident) => { $record.order = Some($snapshot) };
    (@set $other:ident $record:ident $snapshot:ident) => { () };
    (@key job $record:ident) => { &$record.job_id };
    (@key $other:ident $record:ident) => { &$record.meta.order_id };
}

/// What every event's record can do.
pub trait EventRecord: AvroRecord + Into<Event> + Default {
    /// The record's type.
    const TYPE: EventType;

    /// Puts in identity, time and origin.
    fn set_meta(&mut self, meta: EventMeta);
}

/// Something done to a record of any type, such as encoding it.
pub(super) trait RecordVisitor {
    /// What comes of it.
    type Output;
    /// Does it.
    fn record<R: AvroRecord>(self, record: &R) -> Self::Output;
}

/// Something that makes a record of any type, such as decoding it.
pub(super) trait RecordMaker {
    /// Why it could not.
    type Error;
    /// Makes it.
    fn record<R: AvroRecord>(self) -> Result<R, Self::Error>;
}

event_table! {
    /// The buyer began to check out a cart.
    CheckoutInitiated = "order.checkout_initiated", order, [];
    /// An order was placed.
    OrderCreated = "order.created", order, [];
    /// Fields of an order were changed.
    OrderUpdated = "order.updated", order, [];
    /// An order went from one status to another.
    OrderStatusChanged = "order.status_changed", order, [];
    /// A payment was begun.
    PaymentProcessing = "payment.processing", order, [];
    /// The provider took a payment.
    PaymentProcessed = "payment.processed", order, [];
    /// A payment was refused.
    PaymentFailed = "payment.failed", order, [];
    /// An order is paid.
    OrderPaid = "order.paid", order, ["payment.received", "order.payment_completed", "payment.completed"];
    /// The stock of a product changed because of an order.
    InventoryUpdated = "inventory.updated", order, ["inventory.update"];
    /// The confirmation of an order was accepted by its provider.
    OrderConfirmationSent = "order.confirmation_sent", order, [];
    /// An order left the seller.
    OrderShipped = "order.shipped", order, [];
    /// A carrier reported on a shipment.
    ShipmentTrackingUpdated = "shipment.tracking_updated", order, [];
    /// A shipment will be late.
    ShipmentDelayed = "shipment.delayed", order, [];
    /// An order reached the buyer.
    OrderDelivered = "order.delivered", order, [];
    /// Nothing more is to be done for an order.
    OrderCompleted = "order.completed", order, [];
    /// An order was called off.
    OrderCancelled = "order.cancelled", order, [];
    /// Lines of an order came back.
    OrderReturned = "order.returned", order, [];
    /// Money was given back.
    OrderRefunded = "order.refunded", order, [];
    /// Money could not be given back.
    RefundFailed = "refund.failed", order, [];
    /// A party disputes an order.
    DisputeInitiated = "dispute.initiated", order, [];
    /// A moderator was given a dispute.
    DisputeAssigned = "dispute.assigned", order, [];
    /// A party handed in evidence.
    DisputeEvidenceSubmitted = "dispute.evidence_submitted", order, [];
    /// A dispute was taken further.
    DisputeEscalated = "dispute.escalated", order, [];
    /// The disputed money is held back.
    DisputeFundsHeld = "dispute.funds_held", order, [];
    /// Held money went to the seller.
    DisputeFundsReleased = "dispute.funds_released", order, [];
    /// Held money went back to the buyer.
    DisputeFundsRefunded = "dispute.funds_refunded", order, [];
    /// A dispute was decided.
    DisputeResolved = "dispute.resolved", order, [];
    /// Nothing more is to be done for a dispute.
    DisputeClosed = "dispute.closed", order, [];
    /// A user changed how they can be reached.
    UserUpdated = "user.updated", bare, [];
    /// A mail was accepted by its provider.
    EmailSent = "email.sent", bare, [];
    /// Work was put into a queue.
    JobEnqueued = "job.enqueued", job, [];
    /// A worker took up a job.
    JobStarted = "job.started", job, [];
    /// A worker finished a job.
    JobCompleted = "job.completed", job, [];
    /// A worker gave up on a job.
    JobFailed = "job.failed", job, [];
}

impl EventType {
    /// The published schema, parsed once.
    pub fn schema(self) -> &'static RecordSchema {
        &schema::published()[self as usize]
    }

    /// The version of the published schema, from 1.
    pub fn schema_version(self) -> i32 {
        self.schema().version()
    }

    /// The type whose Avro record has this full name.
    pub fn from_full_name(full_name: &str) -> Option<EventType> {
        let record = full_name.strip_prefix("orderflow.events.")?;
        EventType::ALL.iter().copied().find(|t| t.record_name() == record)
    }

    /// Whether the type lives on the topic of jobs, keyed by job id.
    pub fn is_job(self) -> bool {
        self.as_str().starts_with("job.")
    }
}
