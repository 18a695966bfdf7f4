//! What we remember: one file per subject over one [`Database`], which is PostgreSQL or SQLite.
//!
//! Every table begins its key with the tenant; times are epoch milliseconds; personal data and secrets are
//! stored sealed (see [`crate::crypto`]). Writers take a [`Transaction`], readers a [`Database`]. What must
//! not live here: decisions. A subject stores and finds; what to store is the stages' business.

pub mod attempts;
pub mod audit;
pub mod backfills;
mod batch;
pub mod controls;
pub mod conversations;
pub mod cursor_gaps;
pub mod cursors;
mod database;
pub mod deliveries;
pub mod disputes;
mod error;
pub mod history;
pub mod idempotency;
pub mod migrations;
pub mod notifications;
pub mod orders;
pub mod outbox;
pub mod overview;
pub mod personal;
pub mod positions;
pub mod redrives;
pub mod scratch;
mod text_enum;
mod value;
pub mod webhook_starts;
pub mod webhooks;

#[cfg(test)]
pub(crate) mod testing;

pub use database::{Database, Engine, StoreOptions, Transaction};
pub use error::StoreError;
pub use value::{Row, Value};
