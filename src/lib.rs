//! **orderflow** turns a stream of Avro order events on Kafka into everything that has to happen next:
//! conversations and notifications, disputes with a moderator, signed webhooks, and a history that says
//! what happened and why.
//!
//! ```text
//! producers ──► orders.events ──► runtime ──► stages ──► store / outbox / HTTP out
//!  (any Avro,    (key = order)    poll        history        │
//!   HTTP, CLI,                    decode      notification ──┴─► notifications.outbound ─► delivery ─► SMTP, live socket
//!   outbox)                       lanes       dispute ───────┐
//!                                 offsets     webhook        └─► orders.events (through the outbox)
//!                                    │
//!                                    ├─► <source>.<stage>.retry (parked work, order kept)
//!                                    └─► <source>.<stage>.dlq
//! ```
//!
//! Per order everything takes effect in order, through failures and retries; nothing is lost; nothing
//! takes effect twice in the store; and outside, every repeat carries the same id.
//!
//! The modules below stand in the order in which an event meets them. Who may import whom is written down
//! in `ARCHITECTURE.md` and kept by `tests/tidy.rs`.

pub mod event;
pub mod topology;

pub mod runtime;
pub mod stages;

pub mod order;
pub mod store;

pub mod outbox;

pub mod admin;
pub mod http;

pub mod embedded;

pub mod cli;
pub mod config;

pub mod clock;
pub mod crypto;
pub mod shutdown;
pub mod task;
pub mod telemetry;
