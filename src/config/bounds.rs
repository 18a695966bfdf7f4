//! Settings that make no sense as nothing: a batch of no records never ends, a time-out of no time always ends.

use std::time::Duration;

use super::{Config, ConfigError};

/// Refuses the first setting that is zero and mustn't be.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let Config { kafka, registry, store, runtime, webhook, smtp, outbox, http, live, inbound, .. } = config;
    let numbers = [
        ("kafka.max_message_bytes", kafka.max_message_bytes),
        ("store.max_connections", store.max_connections as usize),
        ("runtime.max_buffered_records", runtime.max_buffered_records),
        ("runtime.max_buffered_bytes", runtime.max_buffered_bytes),
        ("runtime.batch_records", runtime.batch_records),
        ("runtime.batch_bytes", runtime.batch_bytes),
        ("webhook.concurrency_per_endpoint", webhook.concurrency_per_endpoint),
        ("webhook.breaker.failures", webhook.breaker.failures as usize),
        ("webhook.breaker.orders", webhook.breaker.orders as usize),
        ("smtp.connections", smtp.connections as usize),
        ("outbox.batch", outbox.batch as usize),
        ("http.max_connections", http.max_connections as usize),
        ("http.max_body_bytes", http.max_body_bytes),
        ("live.queue", live.queue),
        ("inbound.max_body_bytes", inbound.max_body_bytes),
    ];
    if let Some((key, _)) = numbers.iter().find(|(_, number)| *number == 0) {
        return Err(ConfigError(format!("{key} must be at least 1")));
    }
    let durations = [
        ("kafka.session_timeout", kafka.session_timeout),
        ("kafka.heartbeat_interval", kafka.heartbeat_interval),
        ("kafka.max_poll_interval", kafka.max_poll_interval),
        ("registry.timeout", registry.timeout),
        ("store.acquire_timeout", store.acquire_timeout),
        ("runtime.commit_interval", runtime.commit_interval),
        ("runtime.recommit_interval", runtime.recommit_interval),
        ("runtime.prune_interval", runtime.prune_interval),
        ("runtime.breaker.window", runtime.breaker.window),
        ("webhook.timeout", webhook.timeout),
        ("webhook.refresh", webhook.refresh),
        ("webhook.failing_after", webhook.failing_after),
        ("webhook.disable_after", webhook.disable_after),
        ("webhook.gap_mail_after", webhook.gap_mail_after),
        ("webhook.breaker.first_pause", webhook.breaker.first_pause),
        ("webhook.breaker.longest_pause", webhook.breaker.longest_pause),
        ("webhook.attempts_retention", webhook.attempts_retention),
        ("smtp.timeout", smtp.timeout),
        ("outbox.poll_interval", outbox.poll_interval),
        ("outbox.retry_interval", outbox.retry_interval),
        ("http.jwks_refresh", http.jwks_refresh),
        ("http.header_timeout", http.header_timeout),
        ("http.request_timeout", http.request_timeout),
        ("http.publish_timeout", http.publish_timeout),
        ("http.idempotency_ttl", http.idempotency_ttl),
        ("live.login_timeout", live.login_timeout),
        ("live.ping_interval", live.ping_interval),
        ("live.idle_timeout", live.idle_timeout),
        ("inbound.tolerance", inbound.tolerance),
    ];
    match durations.iter().find(|(_, duration)| *duration < Duration::from_millis(1)) {
        Some((key, _)) => {
            Err(ConfigError(format!("{key} must be longer than nothing; write it as in `10s`")))
        }
        None => Ok(()),
    }
}
