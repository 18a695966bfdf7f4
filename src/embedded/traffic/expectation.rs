//! What must follow from a list of events, per tenant and order: for a test to compare with the store, the
//! mailbox and the receivers.
//!
//! Written from the promises alone, not from the stages' own rules: it would be no check if it shared their
//! mistakes. Events that the program itself adds (a moderator assigned, a confirmation sent) are not listed:
//! leave out what has the source `orderflow` before comparing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::event::{Event, EventType};

/// What must follow from all events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Expectation {
    /// How many events there are.
    pub events: u64,
    /// How many of each type.
    pub events_by_type: BTreeMap<String, u64>,
    /// By tenant and order id.
    pub tenants: BTreeMap<String, BTreeMap<String, Expected>>,
}

/// What must follow for one order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Expected {
    /// Its events in order: what the history holds, and what each endpoint that takes the type receives.
    pub history: Vec<Told>,
    /// Its disputes, in the order of their opening.
    pub disputes: Vec<Dispute>,
    /// The ids of the events that leave a message in its conversation, in order.
    pub messages: Vec<String>,
    /// What buyer and seller are told, in order. Moderators are left out: who they are isn't in the events.
    pub notices: Vec<Notice>,
    /// The buyer's user id.
    pub buyer: String,
    /// The seller's user id.
    pub seller: String,
    /// Facts that a message told.
    #[serde(skip)]
    said: BTreeSet<String>,
    /// Facts that somebody was told by a channel.
    #[serde(skip)]
    told: BTreeSet<(String, String, &'static str)>,
}

impl PartialEq for Expected {
    /// What was only needed on the way doesn't count.
    fn eq(&self, other: &Self) -> bool {
        let parts =
            |of: &Self| (of.history.clone(), of.disputes.clone(), of.messages.clone(), of.notices.clone());
        parts(self) == parts(other) && (&self.buyer, &self.seller) == (&other.buyer, &other.seller)
    }
}

impl Eq for Expected {}

/// One message to one person by one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// The event that is told.
    pub event_id: String,
    /// The user who is told.
    pub recipient: String,
    /// `email` or `live`.
    pub channel: String,
}

/// One event that was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// The event's id; a webhook's id is `evt_` before it.
    pub id: String,
    /// The event's dotted type.
    #[serde(rename = "type")]
    pub event_type: String,
}

/// A dispute that was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dispute {
    /// Its id.
    pub id: String,
    /// The user who opened it.
    pub opened_by: String,
    /// Whether it was resolved in the end.
    pub resolved: bool,
    /// Whether it was escalated on its way.
    pub escalated: bool,
}

impl Expectation {
    /// What follows from `events`, which are in the order in which they were published.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut expectation = Self::default();
        events.into_iter().for_each(|event| expectation.add(event));
        expectation
    }

    /// Adds what follows from one more event.
    pub fn add(&mut self, event: &Event) {
        let (meta, event_type) = (event.meta(), event.event_type().as_str());
        self.events += 1;
        *self.events_by_type.entry(event_type.to_owned()).or_default() += 1;
        let orders = self.tenants.entry(meta.tenant_id.clone()).or_default();
        let order = orders.entry(meta.order_id.clone()).or_default();
        order.history.push(Told { id: meta.event_id.clone(), event_type: event_type.to_owned() });
        order.follow_dispute(event);
        order.follow_telling(event);
    }
}

/// Who is told of an event, and whether it leaves a message.
struct Telling {
    message: bool,
    buyer: &'static [&'static str],
    seller: &'static [&'static str],
}

const NOBODY: &[&str] = &[];
const LIVE: &[&str] = &["live"];
const EMAIL: &[&str] = &["email"];
const BOTH: &[&str] = &["live", "email"];

/// The promises of N1 to N5, as far as generated events go; `None` for what nobody is told of.
fn promised(event_type: EventType) -> Option<Telling> {
    type Channels = &'static [&'static str];
    use EventType::{
        DisputeEscalated, DisputeInitiated, DisputeResolved, OrderCancelled, OrderCompleted, OrderCreated,
        OrderDelivered, OrderPaid, OrderRefunded, OrderReturned, OrderShipped, OrderStatusChanged,
        PaymentFailed, PaymentProcessed, ShipmentDelayed, ShipmentTrackingUpdated,
    };
    let rows: [(&[EventType], bool, Channels, Channels); 7] = [
        (&[OrderCreated], true, EMAIL, LIVE),
        (
            &[PaymentProcessed, OrderPaid, OrderCancelled, OrderReturned, DisputeInitiated, DisputeResolved],
            true,
            BOTH,
            BOTH,
        ),
        (&[PaymentFailed, OrderShipped, ShipmentDelayed], true, BOTH, NOBODY),
        (&[OrderDelivered, OrderRefunded], true, BOTH, LIVE),
        (&[OrderCompleted, DisputeEscalated], true, LIVE, LIVE),
        (&[OrderStatusChanged], true, LIVE, NOBODY),
        (&[ShipmentTrackingUpdated], false, LIVE, NOBODY),
    ];
    let row = rows.into_iter().find(|(types, ..)| types.contains(&event_type))?;
    Some(Telling { message: row.1, buyer: row.2, seller: row.3 })
}

/// Two generated events tell the same fact when this is equal: one payment, or one shipment, told twice.
fn fact(event: &Event) -> String {
    if let Event::PaymentProcessed(processed) = event {
        return processed.payment_id.clone();
    }
    if let Event::OrderPaid(paid) = event {
        return paid.payment_id.clone();
    }
    match event.event_type() == EventType::OrderShipped || event.event_type() == EventType::OrderStatusChanged
    {
        true => "shipped".to_owned(),
        false => event.meta().event_id.clone(),
    }
}

impl Expected {
    fn follow_telling(&mut self, event: &Event) {
        if let Event::OrderCreated(created) = event {
            self.buyer = created.buyer.user_id.clone();
            self.seller = created.seller.user_id.clone();
        }
        let Some(telling) = promised(event.event_type()) else { return };
        let (id, fact) = (event.meta().event_id.clone(), fact(event));
        if telling.message && self.said.insert(fact.clone()) {
            self.messages.push(id.clone());
        }
        for (recipient, channels) in [(&self.buyer, telling.buyer), (&self.seller, telling.seller)] {
            for channel in channels {
                if self.told.insert((fact.clone(), recipient.clone(), channel)) {
                    let channel = (*channel).to_owned();
                    self.notices.push(Notice { event_id: id.clone(), recipient: recipient.clone(), channel });
                }
            }
        }
    }

    fn follow_dispute(&mut self, event: &Event) {
        if let Event::DisputeInitiated(opened) = event {
            self.disputes.push(Dispute {
                id: opened.dispute_id.clone(),
                opened_by: opened.opened_by.clone(),
                resolved: false,
                escalated: false,
            });
        }
        if let Event::DisputeEscalated(escalated) = event {
            let id = &escalated.dispute_id;
            self.disputes
                .iter_mut()
                .filter(|dispute| dispute.id == *id)
                .for_each(|dispute| dispute.escalated = true);
        }
        if let Event::DisputeResolved(resolved) = event {
            let id = &resolved.dispute_id;
            self.disputes
                .iter_mut()
                .filter(|dispute| dispute.id == *id)
                .for_each(|dispute| dispute.resolved = true);
        }
    }
}
