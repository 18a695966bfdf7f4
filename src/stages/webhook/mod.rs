//! The webhook stage: tells partners what happens to orders, by signed requests, in order per order and endpoint.
//!
//! ```text
//! record ──► body (facts, once) ──► a task per subscribed endpoint ──► sign ──► POST ──► verdict ──► outcome
//!                                          ▲                                       │
//!                                      registry                                receipt ──► webhooks.attempts
//! ```
//!
//! - [`stage`]: the engine's port, and the chain above.
//! - `registry`, `target`: endpoints as deliveries need them, never older than a moment.
//! - `body`, `facts`, `signature`, `headers`, `verdict`: what is sent and what an answer means; pure.
//! - `client`: one bounded POST, pooled connections, the check of addresses.
//! - `receipts`, `told`: what was tried, acknowledged by Kafka before the task ends. The `attempts` stage stores it.
//!
//! Which registrations are allowed is `admin::webhooks`' business. The engine keeps lanes in order, bounds the
//! tasks of an endpoint and parks what must wait.

mod body;
mod client;
mod facts;
mod headers;
mod options;
mod receipts;
mod registry;
mod signature;
mod stage;
mod target;
mod told;
mod verdict;

pub use options::WebhookOptions;
pub use receipts::ReceiptTopics;
pub use stage::{STAGE, WebhookParts, WebhookStage};

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Parts;
use crate::runtime::retry::Schedule;
use crate::runtime::{StageHandle, StageSpec, start_effect_stage};
use crate::topology::Topology;

/// Starts a member of the stage.
pub(super) fn start(parts: &Parts, spec: StageSpec, stop: CancellationToken) -> StageHandle {
    let topic =
        |id: &str| parts.topology.topic(id).map_or_else(|| id.into(), |topic| Arc::clone(&topic.name));
    let stage = WebhookStage::new(
        WebhookParts {
            reader: parts.reader(),
            db: parts.db.clone(),
            vault: parts.vault.clone(),
            codec: parts.codec.clone(),
            producer: parts.env.producer.clone(),
            receipts: ReceiptTopics {
                attempts: topic("webhooks.attempts"),
                exhausted: topic("webhooks.exhausted"),
            },
            policy: policy(&parts.topology),
            metrics: Arc::clone(&parts.env.metrics),
            clock: parts.env.clock.clone(),
        },
        &parts.options.webhook,
    );
    start_effect_stage(spec, Arc::new(stage), parts.env.clone(), stop)
}

/// When failed deliveries are tried again where an endpoint doesn't say: the topology's policy for this stage. A
/// topology without one tries once.
pub fn policy(topology: &Topology) -> Schedule {
    let declared = topology.stage(STAGE).and_then(|stage| stage.retry.as_ref());
    declared.map_or(Schedule { attempts: 1, delays: Vec::new(), jitter_percent: 0 }, |retry| Schedule {
        attempts: retry.attempts,
        delays: retry.delays.clone(),
        // A share between 0 and 1, as the topology's own checks see to.
        jitter_percent: (retry.jitter * 100.0).round() as u32,
    })
}
