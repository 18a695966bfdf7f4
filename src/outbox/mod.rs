//! Publishes what the stages wrote into the outbox, at least once and in order per key.
//!
//! Rows are found by being there: each pass begins with the oldest, never with `sequence > last seen`, since
//! transactions don't commit in the order of their sequences. A row is deleted after Kafka has acknowledged it; a process that dies in between publishes
//! it again, under the same id. Debezium may relay the table instead of us, but never both at once.

mod held;
mod relay;

pub use relay::{Relay, RelayOptions};
