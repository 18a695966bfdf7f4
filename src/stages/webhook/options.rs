//! `[webhook]` in the configuration. Attempts and delays are policy of the topology, not of this section.

use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::breaker::BreakerOptions;

/// How webhooks are registered and delivered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookOptions {
    /// Endpoints may be plain http. Signed, but readable by anyone on the way: for tests and closed networks.
    pub allow_http: bool,
    /// Requests may go to private, loopback and link-local addresses: for tests and closed networks.
    pub allow_private_networks: bool,
    /// Networks that requests may go to whatever they are (CIDR), and nothing else that isn't public.
    pub allowed_networks: Vec<IpNet>,
    /// The bound on one whole attempt, where an endpoint names none.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Requests that one endpoint gets at once from one process, at least 1.
    pub concurrency_per_endpoint: usize,
    /// Endpoints of one tenant, at most.
    pub endpoints_per_tenant: u32,
    /// A change to an endpoint is known to every process after so long; a registration is answered then.
    #[serde(with = "humantime_serde")]
    pub refresh: Duration,
    /// How long attempts stay in the log.
    #[serde(with = "humantime_serde")]
    pub attempts_retention: Duration,
    /// Unused connections that are kept, over all endpoints.
    pub idle_connections: usize,
    /// An unused connection is closed after so long.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// An endpoint's owner is told that it fails when it has accepted nothing for so long.
    #[serde(with = "humantime_serde")]
    pub failing_after: Duration,
    /// An endpoint is disabled when it has accepted nothing for so long.
    #[serde(with = "humantime_serde")]
    pub disable_after: Duration,
    /// An endpoint's contact is told of gaps when no further one was met for so long, or after ten times as long.
    #[serde(with = "humantime_serde")]
    pub gap_mail_after: Duration,
    /// When an endpoint that fails for every order is left alone.
    pub breaker: BreakerOptions,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self {
            allow_http: false,
            allow_private_networks: false,
            allowed_networks: Vec::new(),
            timeout: Duration::from_secs(10),
            concurrency_per_endpoint: 16,
            endpoints_per_tenant: 10_000,
            refresh: Duration::from_millis(100),
            attempts_retention: Duration::from_secs(30 * 24 * 60 * 60),
            idle_connections: 1_000,
            idle_timeout: Duration::from_secs(20),
            failing_after: Duration::from_secs(60 * 60),
            disable_after: Duration::from_secs(5 * 24 * 60 * 60),
            gap_mail_after: Duration::from_secs(60),
            breaker: BreakerOptions::default(),
        }
    }
}
