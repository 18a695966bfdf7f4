//! The live socket: what concerns a user, shown while it happens.
//!
//! ```text
//! notifications.live ──► feed (stages) ──► Hub: room (tenant, user) ──► queue per client ──► socket
//!                                            └─ ring of what came last, for clients that come back
//! ```
//!
//! Every gateway reads the whole topic, so any of them can serve any user. Nothing here is stored: who missed
//! more than the ring holds is told to `resync` over the API. What must not live here: deciding who is told.

mod hub;
mod message;
pub(super) mod socket;

use std::time::Duration;

use serde::Deserialize;

pub use hub::Hub;
pub use message::LiveMessage;

/// `[live]` in the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LiveOptions {
    /// Clients connected to this process at most.
    pub max_clients: usize,
    /// Clients of one user at most.
    pub max_clients_per_user: usize,
    /// Messages that may wait for one client; a client that is slower is disconnected.
    pub queue: usize,
    /// Messages kept per user for clients that come back.
    pub kept_per_user: usize,
    /// Messages kept for all users together; the oldest go first.
    pub kept_in_all: usize,
    /// How long a client may take to send its token.
    #[serde(with = "humantime_serde")]
    pub login_timeout: Duration,
    /// How often a client is asked whether it is still there.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// A client from which nothing came for this long is gone.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            max_clients: 10_000,
            max_clients_per_user: 10,
            queue: 64,
            kept_per_user: 100,
            kept_in_all: 100_000,
            login_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests;
