//! What must follow from a list of events, per tenant and order: for a test to compare with the store, the
//! mailbox and the receivers.
//!
//! Written from the promises alone, not from the stages' own rules: it would be no check if it shared their
//! mistakes. Events that the program itself adds (a moderator assigned, a confirmation sent) are not listed:
//! leave out what has the source `orderflow` before comparing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Event;

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Expected {
    /// Its events in order: what the history holds, and what each endpoint that takes the type receives.
    pub history: Vec<Told>,
    /// Its disputes, in the order of their opening.
    pub disputes: Vec<Dispute>,
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
    }
}

impl Expected {
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
