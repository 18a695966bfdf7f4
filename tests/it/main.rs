//! End-to-end scenarios on real services, one binary. Each file says what a user could see.

mod harness;

mod cli_events;
mod cli_service;
mod cli_set_up;
mod cursor_backfill;
mod cursors;
mod demo;
mod duplicates;
mod history;
mod http;
mod main_job;
mod membership;
mod operators;
mod outages;
mod outbox;
mod partner_kit;
mod people_delivered;
mod people_told;
mod python_producer;
mod runtime_effect;
mod runtime_handlers;
mod runtime_held;
mod runtime_priorities;
mod runtime_protocol;
mod runtime_retry_topic;
mod runtime_store;
mod watchdog;
mod webhook_attempts;
mod webhook_backfill;
mod webhook_down;
mod webhook_health;
mod webhook_hostile;
mod webhook_order;
mod webhook_resend;
mod webhooks;
