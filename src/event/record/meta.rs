//! What every event carries besides its own facts: identity, time, origin and actor.
//!
//! The fields and their order equal `EventMeta` in every file under `schemas/`; a test holds them together.

use serde::{Deserialize, Serialize};

/// What every event carries: its identity, its order, its tenant, when and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EventMeta {
    /// UUID; the same for every copy of this event.
    pub event_id: String,
    /// The order, and the Kafka key of order events.
    pub order_id: String,
    /// The shop or marketplace that owns the order.
    pub tenant_id: String,
    /// The buyer's user id.
    pub customer_id: Option<String>,
    /// When it happened, in milliseconds since the epoch.
    pub occurred_at: i64,
    /// The same for everything that one request led to.
    pub correlation_id: Option<String>,
    /// The id of the event that led to this one.
    pub causation_id: Option<String>,
    /// The system that published the event.
    pub source: Option<String>,
    /// Who did it.
    pub actor: Option<Actor>,
    /// The address that the request came from.
    pub ip: Option<String>,
    /// The program that the request came from.
    pub user_agent: Option<String>,
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Actor {
    /// The user or service id.
    pub id: String,
    /// What the actor is to the order.
    pub role: ActorRole,
}

/// Who an actor is to the order. A value that this version doesn't know reads as [`Unknown`](ActorRole::Unknown).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorRole {
    /// Named by a newer version of the schema.
    #[default]
    Unknown,
    /// `buyer`
    Buyer,
    /// `seller`
    Seller,
    /// `moderator`
    Moderator,
    /// `admin`
    Admin,
    /// `system`
    System,
    /// `service`
    Service,
}
