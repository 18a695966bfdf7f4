//! What the API is made of: handles that whoever starts the program passes in.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::inbound::Senders;
use super::live::Hub;
use super::{Auth, HttpOptions, Operate, Publish};
use crate::admin::stages::Stages;
use crate::admin::webhooks::{Registrar, Trials};
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
    /// Who may send us webhooks.
    pub inbound: Arc<Senders>,
    /// Registers webhook endpoints.
    pub webhooks: Registrar,
    /// Sends tests to them.
    pub webhook_trials: Trials,
    /// Pauses and resumes stages.
    pub stages: Stages,
    /// What operators may do beyond the database.
    pub operations: Arc<dyn Operate>,
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

/// How long an answer of a probe counts as news. Anybody may ask for health, and asking costs the services.
const NEWS: Duration = Duration::from_secs(1);

/// Asks something that may take a moment or fail; at most once at a time and once a second, however many want
/// to know. Cheap to clone.
pub struct Probe<T>(Arc<Asked<T>>);

struct Asked<T> {
    ask: Box<dyn Fn() -> BoxFuture<'static, Result<T, String>> + Send + Sync>,
    /// The last answer and when it came. Held while asking, so that others wait for the same answer.
    last: Mutex<Option<(Instant, Result<T, String>)>>,
}

impl<T: Clone> Probe<T> {
    /// A probe that calls `ask` when its last answer is no news any more.
    pub fn new<F, Fut>(ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, String>> + Send + 'static,
    {
        Self(Arc::new(Asked { ask: Box::new(move || ask().boxed()), last: Mutex::new(None) }))
    }

    /// Asks, or says what was answered just before.
    ///
    /// # Errors
    /// What is wrong, in words for an operator.
    pub async fn ask(&self) -> Result<T, String> {
        let mut last = self.0.last.lock().await;
        if let Some((when, answer)) = &*last
            && when.elapsed() < NEWS
        {
            return answer.clone();
        }
        let answer = (self.0.ask)().await;
        *last = Some((Instant::now(), answer.clone()));
        answer
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventsHealth {
    /// Kafka takes and gives events.
    pub active: bool,
    /// Stages that read the order events.
    pub subscribers: u64,
    /// Stages that are paused, by an operator or by themselves.
    pub paused: u64,
    /// What is wrong with the stages that run in this process, each with the stage's name.
    pub troubles: Vec<String>,
    /// Webhook endpoints there are.
    pub webhooks_registered: u64,
    /// Those of them that are delivered to.
    pub webhooks_healthy: u64,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn however_many_want_to_know_the_service_is_asked_once() {
        let asked = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&asked);
        let probe = Probe::new(move || {
            let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                tokio::task::yield_now().await;
                Ok::<_, String>(number)
            }
        });
        assert!(join_all((0..100).map(|_| probe.ask())).await.into_iter().all(|answer| answer == Ok(1)));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
