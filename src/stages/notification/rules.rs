//! The rules: which event changes the conversation how, and who is told of it by which channels.
//!
//! One row an event, to be read and changed without reading any other code. An event without a row is not
//! taken by the stage. What the rows mean is carried out by `plan.rs`.

use crate::event::EventType;
use crate::event::EventType::{
    DisputeAssigned, DisputeClosed, DisputeEscalated, DisputeInitiated, DisputeResolved, OrderCancelled,
    OrderCompleted, OrderCreated, OrderDelivered, OrderPaid, OrderRefunded, OrderReturned, OrderShipped,
    OrderStatusChanged, PaymentFailed, PaymentProcessed, ShipmentDelayed, ShipmentTrackingUpdated,
};
use crate::store::conversations::Role;

/// By which way somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// The live socket.
    Live,
    /// E-mail over SMTP.
    Email,
}

impl Channel {
    /// All channels.
    pub const ALL: [Self; 2] = [Self::Live, Self::Email];

    /// The name used on the wire, in the store, in metrics and in template files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Email => "email",
        }
    }

    /// The channel called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == name)
    }
}

/// What a recipient's preferences go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// How an order goes its way.
    Orders,
    /// Money that moved, or didn't.
    Payments,
    /// Where the goods are.
    Shipping,
    /// Disputes; never held back.
    Disputes,
}

impl Category {
    /// The name used on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Payments => "payments",
            Self::Shipping => "shipping",
            Self::Disputes => "disputes",
        }
    }
}

/// What an event changes in the conversation, beside the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// Buyer and seller join.
    Opens,
    /// The payment is shown with this status.
    Pays(&'static str),
    /// The tracking record is linked or brought up to date.
    Tracks,
    /// It becomes a dispute's.
    BecomesDispute,
    /// The moderator joins, and it is a dispute's.
    ModeratorJoins,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The event.
    pub event: EventType,
    /// What it changes.
    pub effect: Effect,
    /// Whether it leaves a message in the conversation.
    pub message: bool,
    /// The folder of templates that its message and notifications are made from.
    pub template: &'static str,
    /// What the recipients' preferences go by.
    pub category: Category,
    /// Who is told by which channels.
    pub tells: &'static [(Role, &'static [Channel])],
}

const LIVE: &[Channel] = &[Channel::Live];
const MAIL: &[Channel] = &[Channel::Email];
const BOTH: &[Channel] = &[Channel::Live, Channel::Email];
use Role::{Buyer, Moderator, Seller};

/// The table.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    //   event                    conversation             message  template                     category              who is told how
    rule(OrderCreated,            Effect::Opens,           true,    "order.created",             Category::Orders,     &[(Buyer, MAIL), (Seller, LIVE)]),
    rule(PaymentProcessed,        Effect::Pays("processed"), true,  "order.paid",                Category::Payments,   &[(Buyer, BOTH), (Seller, BOTH)]),
    rule(OrderPaid,               Effect::Pays("paid"),    true,    "order.paid",                Category::Payments,   &[(Buyer, BOTH), (Seller, BOTH)]),
    rule(PaymentFailed,           Effect::Pays("failed"),  true,    "payment.failed",            Category::Payments,   &[(Buyer, BOTH)]),
    rule(OrderShipped,            Effect::Tracks,          true,    "order.shipped",             Category::Shipping,   &[(Buyer, BOTH)]),
    rule(ShipmentTrackingUpdated, Effect::Tracks,          false,   "shipment.tracking_updated", Category::Shipping,   &[(Buyer, LIVE)]),
    rule(ShipmentDelayed,         Effect::Tracks,          true,    "shipment.delayed",          Category::Shipping,   &[(Buyer, BOTH)]),
    rule(OrderDelivered,          Effect::Nothing,         true,    "order.delivered",           Category::Shipping,   &[(Buyer, BOTH), (Seller, LIVE)]),
    rule(OrderCompleted,          Effect::Nothing,         true,    "order.completed",           Category::Orders,     &[(Buyer, LIVE), (Seller, LIVE)]),
    rule(OrderCancelled,          Effect::Nothing,         true,    "order.cancelled",           Category::Orders,     &[(Buyer, BOTH), (Seller, BOTH)]),
    rule(OrderReturned,           Effect::Nothing,         true,    "order.returned",            Category::Orders,     &[(Buyer, BOTH), (Seller, BOTH)]),
    rule(OrderRefunded,           Effect::Nothing,         true,    "order.refunded",            Category::Payments,   &[(Buyer, BOTH), (Seller, LIVE)]),
    rule(OrderStatusChanged,      Effect::Nothing,         true,    "order.status_changed",      Category::Orders,     &[(Buyer, LIVE)]),
    rule(DisputeInitiated,        Effect::BecomesDispute,  true,    "dispute.initiated",         Category::Disputes,   &[(Buyer, BOTH), (Seller, BOTH)]),
    rule(DisputeAssigned,         Effect::ModeratorJoins,  true,    "dispute.assigned",          Category::Disputes,   &[(Buyer, LIVE), (Seller, LIVE), (Moderator, LIVE)]),
    rule(DisputeEscalated,        Effect::BecomesDispute,  true,    "dispute.escalated",         Category::Disputes,   &[(Buyer, LIVE), (Seller, LIVE), (Moderator, LIVE)]),
    rule(DisputeResolved,         Effect::BecomesDispute,  true,    "dispute.resolved",          Category::Disputes,   &[(Buyer, BOTH), (Seller, BOTH), (Moderator, LIVE)]),
    rule(DisputeClosed,           Effect::BecomesDispute,  true,    "dispute.closed",            Category::Disputes,   &[(Buyer, LIVE), (Seller, LIVE), (Moderator, LIVE)]),
];

/// The row of an event's type, if there is one.
pub fn rule_of(event: EventType) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.event == event)
}

const fn rule(
    event: EventType,
    effect: Effect,
    message: bool,
    template: &'static str,
    category: Category,
    tells: &'static [(Role, &'static [Channel])],
) -> Rule {
    Rule { event, effect, message, template, category, tells }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_event_has_two_rules_and_every_rule_tells_somebody() {
        for (at, rule) in RULES.iter().enumerate() {
            assert!(RULES[at + 1..].iter().all(|other| other.event != rule.event), "{}", rule.event);
            assert!(!rule.tells.is_empty(), "{} would leave no decision to find it again by", rule.event);
        }
    }
}
