//! End-to-end scenarios on real services, one binary. Each file says what a user could see.

mod harness;

mod history;
mod outages;
mod runtime_store;
mod webhook_attempts;
