//! The history stage: keeps every event of every order once, and each order as it is now.
//!
//! A repeated event (same id, same bytes) changes nothing; the same id with other bytes is a conflict, which is
//! dead-lettered, never dropped in silence.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::crypto::Vault;
use crate::event::EventType;
use crate::order::OrderState;
use crate::runtime::{StageHandle, StageSpec};
use crate::store::history::{self, NewEvent, OrderRow};
use crate::store::{Transaction, personal};
use crate::topology::Stage;

use super::Parts;
use super::store_stage::{self, HandlerError, Incoming, StoreHandler};

/// The stage's name.
pub const NAME: &str = "history";

/// Keeps events.
#[derive(Debug, Clone)]
pub struct History {
    vault: Vault,
    clock: Clock,
    cluster_id: Arc<str>,
}

impl History {
    /// A history of the Kafka cluster called `cluster_id`, whose personal values are sealed by `vault`.
    pub fn new(vault: Vault, clock: Clock, cluster_id: Arc<str>) -> Self {
        Self { vault, clock, cluster_id }
    }
}

impl StoreHandler for History {
    type Tally = ();

    fn takes(&self, _event_type: EventType) -> bool {
        true
    }

    async fn apply(&self, tx: &mut Transaction, batch: &[Incoming]) -> Result<Self::Tally, HandlerError> {
        let fresh = self.without_repeats(tx, batch).await?;
        let mut orders = self.load_orders(tx, &fresh).await?;
        let mut events = Vec::with_capacity(fresh.len());
        for (incoming, event_id) in &fresh {
            let meta = incoming.event.meta();
            let state = orders
                .entry((meta.tenant_id.clone(), meta.order_id.clone()))
                .or_insert_with(|| OrderState::new(&meta.tenant_id, &meta.order_id));
            state.apply(&incoming.event);
            events.push(self.new_event(incoming, event_id, state.version)?);
        }
        let now_ms = self.clock.now_ms();
        history::add(tx, &events, now_ms).await?;
        let rows = orders
            .into_values()
            .map(|state| OrderRow::seal(&self.vault, &state))
            .collect::<Result<Vec<_>, _>>()?;
        history::save_orders(tx, &rows, now_ms).await?;
        Ok(())
    }

    fn committed(&self, (): ()) {}
}

impl History {
    /// The events of `batch` that aren't kept yet, each with its id as text.
    async fn without_repeats<'a>(
        &self,
        tx: &mut Transaction,
        batch: &'a [Incoming],
    ) -> Result<Vec<(&'a Incoming, String)>, HandlerError> {
        let ids: Vec<(&str, String)> = batch
            .iter()
            .map(|incoming| (incoming.event.meta().tenant_id.as_str(), incoming.event_id.to_string()))
            .collect();
        let asked: Vec<(&str, &str)> = ids.iter().map(|(tenant, id)| (*tenant, id.as_str())).collect();
        let mut seen: HashMap<(String, String), Vec<u8>> = history::known(tx, &asked)
            .await?
            .into_iter()
            .map(|(tenant, id, hash)| ((tenant, id), hash))
            .collect();
        let mut fresh = Vec::with_capacity(batch.len());
        for (incoming, (tenant, id)) in batch.iter().zip(ids) {
            let hash = incoming.payload_hash();
            match seen.get(&(tenant.to_owned(), id.clone())) {
                None => {
                    seen.insert((tenant.to_owned(), id.clone()), hash);
                    fresh.push((incoming, id));
                }
                Some(known) if *known == hash => {}
                Some(_) => {
                    return Err(HandlerError::Conflict(format!("event {id} came before with other bytes")));
                }
            }
        }
        Ok(fresh)
    }

    async fn load_orders(
        &self,
        tx: &mut Transaction,
        events: &[(&Incoming, String)],
    ) -> Result<HashMap<(String, String), OrderState>, HandlerError> {
        let mut keys: Vec<(&str, &str)> = events
            .iter()
            .map(|(incoming, _)| {
                let meta = incoming.event.meta();
                (meta.tenant_id.as_str(), meta.order_id.as_str())
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let rows = history::lock_orders(tx, &keys).await?;
        rows.into_iter()
            .map(|row| {
                // What can't be opened now can't be in a minute: its events wait as dead letters, not as the partition.
                let state = row.open(&self.vault).map_err(|error| {
                    HandlerError::Data(format!(
                        "what is stored of order {} can't be opened: {error}",
                        row.order_id
                    ))
                })?;
                Ok(((row.tenant, row.order_id), state))
            })
            .collect()
    }

    fn new_event(&self, incoming: &Incoming, event_id: &str, version: i64) -> Result<NewEvent, HandlerError> {
        let (event, record) = (&incoming.event, &incoming.record);
        let meta = event.meta();
        let (full, masked) = (event.to_json(), event.to_json_masked());
        let person = meta.customer_id.as_deref().unwrap_or(&meta.order_id);
        let personal = personal::seal(&self.vault, &meta.tenant_id, &full, &masked, person)
            .map_err(|error| HandlerError::Data(error.to_string()))?;
        Ok(NewEvent {
            tenant: meta.tenant_id.clone(),
            order_id: meta.order_id.clone(),
            version,
            event_id: event_id.to_owned(),
            kind: event.event_type().as_str().to_owned(),
            schema_id: i64::from(incoming.schema_id),
            occurred_at: meta.occurred_at,
            correlation_id: meta.correlation_id.clone(),
            causation_id: meta.causation_id.clone(),
            source: meta.source.clone(),
            cluster_id: self.cluster_id.to_string(),
            coordinates: (record.topic.to_string(), record.partition, record.offset),
            payload_hash: incoming.payload_hash(),
            masked: masked.to_string(),
            personal,
        })
    }
}

/// Starts one member of the stage.
pub fn start(parts: &Parts, _: &Stage, spec: StageSpec, stop: CancellationToken) -> StageHandle {
    let handler = History::new(parts.vault.clone(), parts.env.clock.clone(), Arc::clone(&parts.cluster_id));
    store_stage::start(parts, handler, spec, stop)
}
