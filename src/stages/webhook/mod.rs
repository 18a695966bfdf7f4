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
//! - `receipts`: what was tried, acknowledged by Kafka before the task ends. The `attempts` stage stores it.
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
mod verdict;

pub use options::WebhookOptions;
pub use stage::{STAGE, WebhookParts, WebhookStage};
