//! Reads what is known of an order from the store, and seals how people can be reached.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::facts::Facts;
use super::plan::{Contact, Known, Person, Told};
use super::rules::Channel;
use crate::crypto::{Sealed, Subject, Vault};
use crate::stages::store_stage::HandlerError;
use crate::store::Transaction;
use crate::store::conversations::{self, OrderKey, Participant};
use crate::store::notifications::{self, Decision, Outcome};

/// What the store holds of an order.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// What plans are made from.
    pub(super) known: Known,
    /// Events whose decisions are made.
    pub(super) decided: HashSet<Uuid>,
}

/// Loads what is known of the orders `keys`; those of which nothing is known are left out.
pub(super) async fn load(
    tx: &mut Transaction,
    vault: &Vault,
    keys: &[OrderKey],
) -> Result<HashMap<OrderKey, Loaded>, HandlerError> {
    let mut orders: HashMap<OrderKey, Loaded> = HashMap::new();
    for (key, held) in conversations::held_in(tx, keys).await? {
        let said = held.told.into_iter().map(|told| Facts {
            event_type: told.event_type,
            fact: told.fact,
            status: told.status_fact,
        });
        let people = held.participants.into_iter().map(|participant| open(vault, &key, participant));
        let known = Known {
            order_number: held.order_number,
            people: people.collect(),
            said: said.collect(),
            told: Vec::new(),
        };
        orders.insert(key, Loaded { known, decided: HashSet::new() });
    }
    for decision in notifications::of_orders_in(tx, keys).await? {
        let loaded = orders.entry(decision.key.clone()).or_default();
        loaded.decided.insert(decision.event_id);
        loaded.known.told.extend(told(decision));
    }
    Ok(orders)
}

/// How `person` can be reached, sealed for them; `None` when nothing is known.
pub(super) fn seal(vault: &Vault, key: &OrderKey, person: &Person) -> Result<Option<Sealed>, HandlerError> {
    if person.contact == Contact::default() {
        return Ok(None);
    }
    let data = |error: String| HandlerError::Data(error);
    let plain = serde_json::to_vec(&person.contact).map_err(|error| data(error.to_string()))?;
    let subject = Subject::Person { tenant: &key.tenant, person: &person.user_id };
    vault.seal(subject, &plain).map(Some).map_err(|error| data(error.to_string()))
}

/// A contact that doesn't open (its key is gone: the person was erased) is as good as none.
fn open(vault: &Vault, key: &OrderKey, participant: Participant) -> Person {
    let subject = Subject::Person { tenant: &key.tenant, person: &participant.user_id };
    let contact = participant.contact.as_ref().and_then(|sealed| match vault.open(subject, sealed) {
        Ok(plain) => serde_json::from_slice(&plain).ok(),
        Err(error) => {
            tracing::warn!(tenant = key.tenant, order = key.order, %error, "a contact doesn't open");
            None
        }
    });
    Person { role: participant.role, user_id: participant.user_id, contact: contact.unwrap_or_default() }
}

fn told(decision: Decision) -> Option<Told> {
    if decision.outcome == Outcome::Suppressed {
        return None;
    }
    Some(Told {
        recipient: decision.recipient?,
        channel: Channel::parse(&decision.channel)?,
        facts: Facts { event_type: decision.event_type, fact: decision.fact, status: decision.status_fact },
    })
}
