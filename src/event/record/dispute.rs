//! A dispute from its opening to its end, and the money held meanwhile.
//!
//! Fields and their order are those of the `.avsc` of the same name, which is the source.

use serde::{Deserialize, Serialize};

use super::{EventMeta, Money, OrderSnapshot};

/// How far a dispute has been taken. A value that this version doesn't know reads as [`Unknown`](DisputeStage::Unknown).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisputeStage {
    /// Named by a newer version of the schema.
    #[default]
    Unknown,
    /// `inquiry`
    Inquiry,
    /// `chargeback`
    Chargeback,
    /// `pre_arbitration`
    PreArbitration,
    /// `arbitration`
    Arbitration,
}

/// How a dispute ended, as the seller sees it. A value that this version doesn't know reads as [`Unknown`](DisputeOutcome::Unknown).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisputeOutcome {
    /// Named by a newer version of the schema.
    #[default]
    Unknown,
    /// `won`
    Won,
    /// `lost`
    Lost,
    /// `settled`
    Settled,
    /// `withdrawn`
    Withdrawn,
}

/// `dispute.initiated`: a party disputes an order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DisputeInitiated {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The dispute.
    pub dispute_id: String,
    /// The user who opened it.
    pub opened_by: String,
    /// A short code, such as not_received.
    pub reason: String,
    /// What the party wrote.
    pub description: Option<String>,
    /// What is disputed.
    pub amount: Option<Money>,
}

/// `dispute.assigned`: a moderator was given a dispute.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DisputeAssigned {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The dispute.
    pub dispute_id: String,
    /// The moderator.
    pub moderator_id: String,
    /// Who had it before.
    pub previous_moderator_id: Option<String>,
}

/// `dispute.evidence_submitted`: a party handed in evidence.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DisputeEvidenceSubmitted {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The dispute.
    pub dispute_id: String,
    /// The evidence.
    pub evidence_id: String,
    /// The user who handed it in.
    pub submitted_by: String,
    /// What it is, such as photo or receipt.
    pub kind: String,
    /// What the party wrote.
    pub description: Option<String>,
}

/// `dispute.escalated`: a dispute was taken further.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DisputeEscalated {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The dispute.
    pub dispute_id: String,
    /// The stage before.
    pub from_stage: DisputeStage,
    /// The stage after.
    pub to_stage: DisputeStage,
    /// Why.
    pub reason: Option<String>,
    /// By when somebody must act, in milliseconds since the epoch.
    pub respond_by: Option<i64>,
}

/// `dispute.funds_held`: the disputed money is held back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DisputeFundsHeld {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The dispute.
    pub dispute_id: String,
    /// What is held.
    pub amount: Money,
}

/// `dispute.funds_released`: held money went to the seller.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DisputeFundsReleased {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The dispute.
    pub dispute_id: String,
    /// What was released.
    pub amount: Money,
}

/// `dispute.funds_refunded`: held money went back to the buyer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DisputeFundsRefunded {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The dispute.
    pub dispute_id: String,
    /// What was refunded.
    pub amount: Money,
}

/// `dispute.resolved`: a dispute was decided.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DisputeResolved {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The dispute.
    pub dispute_id: String,
    /// How it ended.
    pub outcome: DisputeOutcome,
    /// Who decided.
    pub resolved_by: Option<String>,
    /// What was written about it.
    pub note: Option<String>,
    /// What the buyer gets back.
    pub amount: Option<Money>,
}

/// `dispute.closed`: nothing more is to be done for a dispute.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DisputeClosed {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The order as it is after the event.
    pub order: Option<OrderSnapshot>,
    /// The dispute.
    pub dispute_id: String,
    /// Why.
    pub reason: Option<String>,
}
