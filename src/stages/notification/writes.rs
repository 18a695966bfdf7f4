//! What a batch of events writes, gathered and then written table by table, many rows at once.

use std::collections::HashMap;

use crate::store::conversations::{self, Change, Message, OrderKey, Participant, Shipment};
use crate::store::notifications::{self, Decision};
use crate::store::{StoreError, Transaction, outbox};

/// Everything that one batch writes, in the order of its events.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// How many events of each order there were: the n-th of every order belong to round n, so that a
    /// conversation occurs once in a round.
    events: HashMap<OrderKey, usize>,
    rounds: Vec<Round>,
    pub(super) shipments: Vec<(OrderKey, Shipment)>,
    pub(super) messages: Vec<(OrderKey, Message)>,
    pub(super) decisions: Vec<Decision>,
    pub(super) outgoing: Vec<outbox::Message>,
}

#[derive(Debug, Default)]
struct Round {
    changes: Vec<(OrderKey, Change, i64)>,
    joins: Vec<(OrderKey, Participant)>,
}

impl Writes {
    /// Adds what one event, which happened at `at_ms`, changes in the conversation of `key`.
    pub(super) fn change(&mut self, key: &OrderKey, change: Change, joins: Vec<Participant>, at_ms: i64) {
        let place = self.events.entry(key.clone()).or_default();
        if *place == self.rounds.len() {
            self.rounds.push(Round::default());
        }
        if let Some(round) = self.rounds.get_mut(*place) {
            round.changes.push((key.clone(), change, at_ms));
            round.joins.extend(joins.into_iter().map(|participant| (key.clone(), participant)));
        }
        *place += 1;
    }

    /// Writes it all.
    pub(super) async fn write(&self, tx: &mut Transaction, now_ms: i64) -> Result<(), StoreError> {
        for round in &self.rounds {
            conversations::change(tx, &round.changes).await?;
            conversations::join(tx, &round.joins).await?;
        }
        for (key, shipment) in &self.shipments {
            conversations::track(tx, key, shipment).await?;
        }
        conversations::say(tx, &self.messages, now_ms).await?;
        notifications::decide(tx, &self.decisions, now_ms).await?;
        outbox::append_all(tx, &self.outgoing, now_ms).await
    }
}
