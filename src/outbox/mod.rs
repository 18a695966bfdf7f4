//! Publishes what the store's outbox holds.
