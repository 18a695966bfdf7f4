//! What happens to an order itself: it is placed, changed, confirmed, completed, cancelled or returned.
//!
//! Fields and their order are those of the `.avsc` of the same name, which is the source.

use serde::{Deserialize, Serialize};

use super::{Address, EventMeta, LineItem, Money, OrderSnapshot, OrderStatus, Party};

/// `order.checkout_initiated`: the buyer began to check out a cart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CheckoutInitiated {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The cart.
    pub cart_id: String,
    /// What is in the cart.
    pub lines: Vec<LineItem>,
    /// What the cart costs.
    pub total: Money,
}

/// `order.created`: an order was placed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderCreated {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The number that people use.
    pub order_number: i64,
    /// Who ordered.
    pub buyer: Party,
    /// Who sells.
    pub seller: Party,
    /// What was ordered.
    pub lines: Vec<LineItem>,
    /// What the order costs.
    pub total: Money,
    /// Where it goes.
    pub shipping_address: Option<Address>,
    /// When it should arrive, in milliseconds since the epoch.
    pub estimated_delivery: Option<i64>,
}

/// `order.updated`: fields of an order were changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderUpdated {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// What changed.
    pub changes: Vec<FieldChange>,
}

/// `order.status_changed`: an order went from one status to another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderStatusChanged {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The status before.
    pub old_status: OrderStatus,
    /// The status after.
    pub new_status: OrderStatus,
    /// Why.
    pub reason: Option<String>,
}

/// `inventory.updated`: the stock of a product changed because of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InventoryUpdated {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The product.
    pub product_id: String,
    /// What was added; negative when taken.
    pub delta: i64,
    /// What is in stock now.
    pub on_hand: i64,
    /// What of it is promised to orders.
    pub reserved: i64,
    /// Whether the stock is below its limit.
    pub low_stock: bool,
}

/// `order.confirmation_sent`: the confirmation of an order was accepted by its provider.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderConfirmationSent {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// How it was sent.
    pub channel: String,
    /// The provider's id of the message.
    pub message_id: String,
}

/// `order.completed`: nothing more is to be done for an order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderCompleted {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
}

/// `order.cancelled`: an order was called off.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderCancelled {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// Why.
    pub reason: String,
    /// The user who did it.
    pub cancelled_by: Option<String>,
    /// What is given back.
    pub refund_amount: Option<Money>,
    /// How it is given back.
    pub refund_method: Option<String>,
}

/// `order.returned`: lines of an order came back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderReturned {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// What came back.
    pub lines: Vec<LineItem>,
    /// Why.
    pub reason: Option<String>,
}

/// One field of an order that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FieldChange {
    /// The field's name.
    pub field: String,
    /// The value before, as text.
    pub before: Option<String>,
    /// The value after, as text.
    pub after: Option<String>,
}
