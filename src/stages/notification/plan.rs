//! What an event leads to, decided from the event and what is known of its order. Pure: no store, no clock.

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use super::rules::{Channel, Effect, Rule};
use crate::event::{Event, Party};
use crate::store::conversations::{Change, Payment, Role, Shipment};

/// How to reach somebody, and how to speak to them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// The name to greet with.
    pub name: Option<String>,
    /// Where mail goes.
    pub email: Option<String>,
    /// BCP 47 tag.
    pub locale: Option<String>,
    /// IANA name.
    pub time_zone: Option<String>,
}

impl From<&Party> for Contact {
    fn from(party: &Party) -> Self {
        Self {
            name: party.name.clone(),
            email: party.email.clone(),
            locale: party.locale.clone(),
            time_zone: party.time_zone.clone(),
        }
    }
}

/// Somebody who takes part in the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// What they are to the order.
    pub role: Role,
    /// The user within the tenant.
    pub user_id: String,
    /// How to reach them, as far as known.
    pub contact: Contact,
}

/// What is known of an order before the event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The number that people use.
    pub order_number: Option<i64>,
    /// Who takes part.
    pub people: Vec<Person>,
    /// What messages told.
    pub said: Vec<Facts>,
    /// Who was told what by which channel.
    pub told: Vec<Told>,
}

/// That somebody was told something (it was queued, sent, or tried in vain).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The user.
    pub recipient: String,
    /// By which channel.
    pub channel: Channel,
    /// What.
    pub facts: Facts,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What the event tells.
    pub facts: Facts,
    /// The change of the conversation.
    pub change: Change,
    /// Who joins it.
    pub joins: Vec<Person>,
    /// The tracking record that is linked to it.
    pub shipment: Option<Shipment>,
    /// Whether a message is said in it (an event may have none, or tell what was said before).
    pub says: bool,
    /// One decision per recipient and channel.
    pub tellings: Vec<Telling>,
}

/// A decision about one recipient and one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// What the recipient is to the order.
    pub role: Role,
    /// The recipient, if known.
    pub person: Option<Person>,
    /// By which channel.
    pub channel: Channel,
    /// Why not, or `None`: tell.
    pub suppressed: Option<Reason>,
}

/// Why somebody isn't told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Another event told the same.
    AlreadyTold,
    /// Nobody with that role is known (yet): the order's creation hasn't been seen.
    NoRecipient,
    /// The recipient has no address for that channel.
    NoAddress,
}

impl Reason {
    /// The words that are stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AlreadyTold => "already told",
            Self::NoRecipient => "no recipient",
            Self::NoAddress => "no address",
        }
    }
}

/// What `event` leads to under `rule`, given what is `known` of its order.
pub fn plan(event: &Event, rule: &Rule, known: &Known) -> Plan {
    let facts = Facts::of(event);
    let joins = joins(event, rule.effect);
    let mut people = joins.clone();
    for person in &known.people {
        if people.iter().all(|other| (other.role, &other.user_id) != (person.role, &person.user_id)) {
            people.push(person.clone());
        }
    }
    if people.iter().all(|person| person.role != Role::Buyer) {
        people.extend(customer(event));
    }
    let mut tellings: Vec<Telling> = Vec::new();
    for (role, channels) in rule.tells {
        let recipients: Vec<_> = people.iter().filter(|person| person.role == *role).collect();
        for channel in *channels {
            if recipients.is_empty() {
                tellings.push(Telling {
                    role: *role,
                    person: None,
                    channel: *channel,
                    suppressed: Some(Reason::NoRecipient),
                });
            }
            for person in &recipients {
                let told_now = tellings.iter().any(|other| {
                    other.suppressed.is_none()
                        && other.channel == *channel
                        && other.person.as_ref().is_some_and(|other| other.user_id == person.user_id)
                });
                let told_before = known.told.iter().any(|told| {
                    told.channel == *channel && told.recipient == person.user_id && facts.told_by(&told.facts)
                });
                let suppressed = if told_now || told_before {
                    Some(Reason::AlreadyTold)
                } else {
                    (*channel == Channel::Email && person.contact.email.is_none())
                        .then_some(Reason::NoAddress)
                };
                let person = Some((*person).clone());
                tellings.push(Telling { role: *role, person, channel: *channel, suppressed });
            }
        }
    }
    Plan {
        change: change(event, rule.effect),
        shipment: shipment(event),
        says: rule.message && !known.said.iter().any(|said| facts.told_by(said)),
        facts,
        joins,
        tellings,
    }
}

impl Known {
    /// What is known once `plan` has been carried out.
    pub fn absorb(&mut self, plan: &Plan) {
        self.order_number = self.order_number.or(plan.change.order_number);
        for person in &plan.joins {
            self.people.retain(|other| (other.role, &other.user_id) != (person.role, &person.user_id));
            self.people.push(person.clone());
        }
        if plan.says {
            self.said.push(plan.facts.clone());
        }
        for telling in plan.tellings.iter().filter(|telling| telling.suppressed.is_none()) {
            if let Some(person) = &telling.person {
                self.told.push(Told {
                    recipient: person.user_id.clone(),
                    channel: telling.channel,
                    facts: plan.facts.clone(),
                });
            }
        }
    }
}

fn joins(event: &Event, effect: Effect) -> Vec<Person> {
    match (event, effect) {
        (Event::OrderCreated(created), Effect::Opens) => {
            let party =
                |role, party: &Party| Person { role, user_id: party.user_id.clone(), contact: party.into() };
            vec![party(Role::Buyer, &created.buyer), party(Role::Seller, &created.seller)]
        }
        (Event::DisputeAssigned(assigned), Effect::ModeratorJoins) => vec![Person {
            role: Role::Moderator,
            user_id: assigned.moderator_id.clone(),
            contact: Contact::default(),
        }],
        (_, _) => Vec::new(),
    }
}

/// The buyer, as far as an event tells when the order's creation hasn't been seen.
fn customer(event: &Event) -> Option<Person> {
    let named = event.snapshot().and_then(|order| order.customer_id.clone());
    let user_id = named.or_else(|| event.meta().customer_id.clone())?;
    Some(Person { role: Role::Buyer, user_id, contact: Contact::default() })
}

fn change(event: &Event, effect: Effect) -> Change {
    let order_number = if let Event::OrderCreated(created) = event {
        Some(created.order_number)
    } else {
        event.snapshot().map(|order| order.order_number)
    };
    let becomes_dispute = matches!(effect, Effect::BecomesDispute | Effect::ModeratorJoins);
    Change { becomes_dispute, order_number, payment: payment(event, effect) }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only payments carry a payment")]
fn payment(event: &Event, effect: Effect) -> Option<Payment> {
    let Effect::Pays(status) = effect else { return None };
    let (payment_id, method, amount) = match event {
        Event::PaymentProcessed(record) => (&record.payment_id, &record.method, &record.amount),
        Event::PaymentFailed(record) => (&record.payment_id, &record.method, &record.amount),
        Event::OrderPaid(record) => (&record.payment_id, &record.method, &record.amount),
        _ => return None,
    };
    Some(Payment {
        payment_id: payment_id.clone(),
        status: status.to_owned(),
        method: method.clone(),
        amount_minor: amount.amount_minor,
        currency: amount.currency.clone(),
        at: event.meta().occurred_at,
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only these events tell of a parcel")]
fn shipment(event: &Event) -> Option<Shipment> {
    let updated_at = event.meta().occurred_at;
    match event {
        Event::OrderShipped(record) => Some(Shipment {
            tracking_number: record.tracking_number.clone(),
            carrier: Some(record.carrier.clone()),
            tracking_url: record.tracking_url.clone(),
            status: "shipped".to_owned(),
            estimated_delivery: record.estimated_delivery,
            updated_at,
        }),
        Event::ShipmentTrackingUpdated(record) => Some(Shipment {
            tracking_number: record.tracking_number.clone(),
            carrier: None,
            tracking_url: None,
            status: record.status.clone(),
            estimated_delivery: record.estimated_delivery,
            updated_at,
        }),
        Event::ShipmentDelayed(record) => Some(Shipment {
            tracking_number: record.tracking_number.clone(),
            carrier: None,
            tracking_url: None,
            status: "delayed".to_owned(),
            estimated_delivery: record.estimated_delivery,
            updated_at,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
