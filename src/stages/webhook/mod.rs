//! The webhook stage: tells partners what happens to orders, by signed requests, in order per order and endpoint.
//!
//! ```text
//! record ──► body (facts, once) ──► a task per subscribed endpoint ──► sign ──► POST ──► verdict ──► outcome
//!                                          ▲                                       │
//!                                      registry                                receipt ──► webhooks.attempts
//! ```
//!
//! - `stage`: the engine's port, and the chain above.
//! - `registry`, `target`: endpoints as deliveries need them, never older than a moment.
//! - `breaker`, `pace`, `traffic`: when an endpoint is to be left alone; the engine asks before it starts a task.
//! - `delivery`: what an event is to all its endpoints.
//! - `body`, `facts`, `signature`, `headers`, `verdict`: what is sent and what an answer means; pure.
//! - `client`: one bounded POST, pooled connections, the check of addresses.
//! - `trial`: test requests, at once and by the same client.
//! - `receipts`, `told`: what was tried, acknowledged by Kafka before the task ends. The `attempts` stage stores it.
//!
//! Which registrations are allowed is `admin::webhooks`' business. The engine keeps lanes in order, bounds the
//! tasks of an endpoint and parks what must wait.

mod body;
mod breaker;
#[cfg(test)]
mod catalogue;
mod client;
mod delivery;
mod doubt;
mod facts;
mod headers;
mod options;
mod pace;
mod receipts;
mod registry;
mod signature;
mod stage;
mod target;
mod told;
mod traffic;
mod trial;
mod verdict;

pub use breaker::BreakerOptions;
pub use options::WebhookOptions;
pub use receipts::ReceiptTopics;
pub use stage::{NAME, WebhookParts, WebhookStage};
pub use traffic::Traffic;
pub use trial::{Tried, Try, trial};

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Parts, schedule_of, taken_by};
use crate::event::EventType;
use crate::runtime::retry::Schedule;
use crate::runtime::{StageHandle, StageSpec, start_effect_stage};
use crate::task;
use crate::topology::{Stage, Topology};

/// Starts a member of the stage.
pub(super) fn start(
    parts: &Parts,
    declared: &Stage,
    spec: StageSpec,
    stop: CancellationToken,
) -> StageHandle {
    let stage = WebhookStage::new(
        WebhookParts {
            declared: declared.clone(),
            reader: parts.reader(&spec.stage),
            db: parts.db.clone(),
            vault: parts.vault.clone(),
            codec: parts.codec.clone(),
            producer: parts.env.producer.clone(),
            receipts: ReceiptTopics {
                attempts: parts.topic("webhooks.attempts"),
                exhausted: parts.topic("webhooks.exhausted"),
            },
            policy: schedule_of(declared),
            partitions: parts
                .topology
                .topic_on_broker(&declared.source)
                .map_or(1, |source| source.partitions.unsigned_abs() as usize),
            traffic: parts.traffic.clone(),
            metrics: Arc::clone(&parts.env.metrics),
            clock: parts.env.clock.clone(),
        },
        &parts.options.webhook,
    );
    // Nobody waits for it: whatever isn't known when the first receipt is written is asked for then.
    task::spawn("webhook receipts", stage.prepared());
    start_effect_stage(spec, Arc::new(stage), parts.env.clone(), stop)
}

/// The event types that the stage sees, and endpoints can be told of.
pub fn deliverable(topology: &Topology) -> BTreeSet<EventType> {
    taken_by(topology, NAME)
}

/// When failed deliveries are tried again where an endpoint doesn't say: the topology's policy for this stage.
pub fn policy(topology: &Topology) -> Schedule {
    topology.stage(NAME).map(schedule_of).unwrap_or_default()
}
