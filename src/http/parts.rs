//! What the API is made of: handles that whoever starts the program passes in.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::live::Hub;
use super::{Auth, HttpOptions, Publish};
use crate::admin::webhooks::Registrar;
use crate::clock::Clock;
use crate::crypto::Vault;
use crate::store::Database;
use crate::telemetry::Metrics;

/// The handles of one API server; the state of every handler. Cheap to clone.
#[derive(Clone)]
pub struct Parts {
    /// `[http]`.
    pub options: Arc<HttpOptions>,
    /// Checks tokens.
    pub auth: Arc<Auth>,
    /// What we remember.
    pub db: Database,
    /// Opens what is stored sealed.
    pub vault: Vault,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Tells the time.
    pub clock: Clock,
    /// Puts events on their topics.
    pub publisher: Arc<dyn Publish>,
    /// The rooms of the live socket.
    pub hub: Hub,
    /// Registers webhook endpoints.
    pub webhooks: Registrar,
    /// What must answer for `/health/ready`: database, Kafka, registry.
    pub readiness: Arc<[Check]>,
    /// What `/health/events` tells.
    pub events_health: Probe<EventsHealth>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Asks something that may take a moment or fail. Cheap to clone.
pub struct Probe<T>(Arc<dyn Fn() -> BoxFuture<'static, Result<T, String>> + Send + Sync>);

impl<T> Probe<T> {
    /// A probe that calls `ask` each time.
    pub fn new<F, Fut>(ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, String>> + Send + 'static,
    {
        Self(Arc::new(move || ask().boxed()))
    }

    /// Asks.
    ///
    /// # Errors
    /// What is wrong, in words for an operator.
    pub async fn ask(&self) -> Result<T, String> {
        (self.0)().await
    }
}

impl<T> Clone for Probe<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Probe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

/// Something that must answer before the program counts as ready.
#[derive(Debug, Clone)]
pub struct Check {
    /// What it is called in `/health/ready`: `database`, `kafka`, `registry`.
    pub name: &'static str,
    /// Asks it.
    pub probe: Probe<()>,
}

/// How the flow of events is, as far as this process can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventsHealth {
    /// Kafka takes and gives events.
    pub active: bool,
    /// Stages that read the order events.
    pub subscribers: u64,
    /// Webhook endpoints there are.
    pub webhooks_registered: u64,
    /// Those of them that are delivered to.
    pub webhooks_healthy: u64,
}
