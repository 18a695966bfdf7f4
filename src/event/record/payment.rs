//! Money on its way: taken, refused, given back.
//!
//! Fields and their order are those of the `.avsc` of the same name, which is the source.

use serde::{Deserialize, Serialize};

use super::{EventMeta, Money, OrderSnapshot};

/// `payment.processing`: a payment was begun.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PaymentProcessing {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The payment, as the provider names it.
    pub payment_id: String,
    /// How it is paid, such as card or invoice.
    pub method: String,
    /// What is paid.
    pub amount: Money,
}

/// `payment.processed`: the provider took a payment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PaymentProcessed {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The payment, as the provider names it.
    pub payment_id: String,
    /// How it is paid, such as card or invoice.
    pub method: String,
    /// What is paid.
    pub amount: Money,
}

/// `payment.failed`: a payment was refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PaymentFailed {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The payment, as the provider names it.
    pub payment_id: String,
    /// How it is paid, such as card or invoice.
    pub method: String,
    /// What is paid.
    pub amount: Money,
    /// The provider's code.
    pub failure_code: Option<String>,
}

/// `order.paid`: an order is paid.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderPaid {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The payment, as the provider names it.
    pub payment_id: String,
    /// How it is paid, such as card or invoice.
    pub method: String,
    /// What is paid.
    pub amount: Money,
}

/// `order.refunded`: money was given back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderRefunded {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The refund.
    pub refund_id: String,
    /// What was given back.
    pub amount: Money,
    /// How it was given back.
    pub method: String,
}

/// `refund.failed`: money could not be given back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RefundFailed {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The refund.
    pub refund_id: String,
    /// What should have been given back.
    pub amount: Money,
    /// How it should have been given back.
    pub method: String,
    /// The provider's code.
    pub failure_code: Option<String>,
}
