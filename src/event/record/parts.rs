//! The named parts that several events share: money, parties, addresses, lines and the order's snapshot.
//!
//! They are inlined in each published schema, so a schema can be read alone and no registry references are needed.
//! Nothing here knows an event.

use serde::{Deserialize, Serialize};

/// An amount in the smallest unit of its currency.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Money {
    /// Cents for EUR, yen for JPY.
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
}

/// A buyer or a seller, and how to reach them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Party {
    /// The user id within the tenant.
    pub user_id: String,
    /// The name to greet with.
    pub name: Option<String>,
    /// Where mail goes.
    pub email: Option<String>,
    /// In E.164 form.
    pub phone: Option<String>,
    /// BCP 47 tag, such as de-CH.
    pub locale: Option<String>,
    /// IANA name, such as Europe/Zurich.
    pub time_zone: Option<String>,
}

/// A postal address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Address {
    /// Who receives it.
    pub recipient: Option<String>,
    /// Street and number.
    pub line1: String,
    /// Anything more.
    pub line2: Option<String>,
    /// City or town.
    pub city: String,
    /// State, canton or province.
    pub region: Option<String>,
    /// Postal code.
    pub postal_code: Option<String>,
    /// ISO 3166-1 alpha-2 code.
    pub country: String,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LineItem {
    /// The product.
    pub product_id: String,
    /// The stock keeping unit.
    pub sku: Option<String>,
    /// What the buyer saw.
    pub title: String,
    /// How many.
    pub quantity: i32,
    /// The price of one.
    pub unit_price: Money,
}

/// The order as it is after the event, so that consumers need not ask back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderSnapshot {
    /// The number that people use.
    pub order_number: i64,
    /// Where the order stands now.
    pub status: OrderStatus,
    /// The buyer's user id.
    pub customer_id: Option<String>,
    /// What the order costs.
    pub total: Money,
    /// What was ordered.
    pub items: Vec<LineItem>,
}

/// Where an order stands. A value that this version doesn't know reads as [`Unknown`](OrderStatus::Unknown).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Named by a newer version of the schema.
    #[default]
    Unknown,
    /// `created`
    Created,
    /// `confirmed`
    Confirmed,
    /// `paid`
    Paid,
    /// `processing`
    Processing,
    /// `shipped`
    Shipped,
    /// `delivered`
    Delivered,
    /// `completed`
    Completed,
    /// `cancelled`
    Cancelled,
    /// `returned`
    Returned,
    /// `refunded`
    Refunded,
    /// `disputed`
    Disputed,
}

impl OrderStatus {
    /// The word that schemas, JSON and stores use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Created => "created",
            Self::Confirmed => "confirmed",
            Self::Paid => "paid",
            Self::Processing => "processing",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Returned => "returned",
            Self::Refunded => "refunded",
            Self::Disputed => "disputed",
        }
    }
}

impl Money {
    /// An amount in the smallest unit of its currency.
    pub fn new(amount_minor: i64, currency: impl Into<String>) -> Money {
        Money { amount_minor, currency: currency.into() }
    }
}
