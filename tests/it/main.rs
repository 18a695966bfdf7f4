//! End-to-end scenarios on real services, one binary. Each file says what a user could see.

mod harness;

mod cli_events;
mod cli_set_up;

mod history;
mod http;
mod outages;
mod python_producer;
mod runtime_effect;
mod people_told;
mod runtime_store;
mod webhook_attempts;
