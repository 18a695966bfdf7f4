//! Goods on their way: shipped, seen, late, delivered.
//!
//! Fields and their order are those of the `.avsc` of the same name, which is the source.

use serde::{Deserialize, Serialize};

use super::{EventMeta, OrderSnapshot};

/// `order.shipped`: an order left the seller.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderShipped {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// Who carries it.
    pub carrier: String,
    /// The carrier's number.
    pub tracking_number: String,
    /// Where to follow it.
    pub tracking_url: Option<String>,
    /// When it should arrive, in milliseconds since the epoch.
    pub estimated_delivery: Option<i64>,
    /// The seller's own id of the shipment; since version 2.
    pub shipment_id: Option<String>,
}

/// `shipment.tracking_updated`: a carrier reported on a shipment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ShipmentTrackingUpdated {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The carrier's number.
    pub tracking_number: String,
    /// What the carrier says.
    pub status: String,
    /// Where it was seen.
    pub location: Option<String>,
    /// The new estimate, in milliseconds since the epoch.
    pub estimated_delivery: Option<i64>,
}

/// `shipment.delayed`: a shipment will be late.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ShipmentDelayed {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The carrier's number.
    pub tracking_number: String,
    /// The new estimate, in milliseconds since the epoch.
    pub estimated_delivery: Option<i64>,
    /// Why.
    pub reason: Option<String>,
}

/// `order.delivered`: an order reached the buyer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OrderDelivered {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// When it arrived, in milliseconds since the epoch.
    pub delivered_at: i64,
    /// Who took it.
    pub signed_by: Option<String>,
}
