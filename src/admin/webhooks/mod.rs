//! Webhook endpoints: what is allowed to be registered and changed, what an endpoint's schedule comes to, and the secret
//! that is shown once.
//!
//! `rules` and `own_headers` decide (pure), `settings` says on what; the [`Registrar`] does, and `secrets` makes and
//! rotates secrets; `backfill` and `resend` deliver the past again; `shown` is what may be seen of it all, `log` what was
//! tried, and `trial` sends tests. The API and the command line come through here. How endpoints are delivered to is the
//! webhook stage's business.

mod backfill;
mod log;
mod own_headers;
mod resend;
mod rules;
mod secrets;
mod settings;
mod shown;
#[cfg(test)]
mod tests;
mod trial;

use std::collections::BTreeMap;
use std::time::Duration;

use super::{OperationError, Operations};
use crate::clock::Clock;
use crate::crypto::{CryptoError, Secret, SigningKey, SigningKeyError, Vault};
use crate::event::{Codec, random_event_id};
use crate::runtime::{ProduceError, ReadError, inspect};
use crate::store::webhook_starts::{self, At};
use crate::store::webhooks::{self, Endpoint, EndpointState, SigningSecret, health};
use crate::store::{Database, StoreError};

pub use crate::runtime::retry::Schedule;
pub use backfill::{BackfillShown, BackfillWanted, PartShown, Point};
pub use log::{DeliveryShown, Forgetting, Stats};
pub use resend::{ResendWanted, Resent};
pub use rules::Rules;
pub use secrets::Rotation;
pub use settings::{Change, FieldFault, Registration};
pub use shown::{AttemptShown, ScheduleShown, SecretShown, Webhook};
pub use trial::{SendTest, TestOf, TestShown, Trials};

/// The stage that delivers, and what further groups of it run.
const STAGE: &str = "webhook";

/// Why what was asked isn't done. Nothing is stored then.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// Fields that aren't right; each is named.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Fields(Vec<FieldFault>),
    /// There is no such endpoint, or it is another's.
    #[error("webhook {0} is not known")]
    NotFound(String),
    /// There is no such delivery of the endpoint.
    #[error("delivery {0} of this webhook is not known")]
    NoDelivery(String),
    /// There is no such backfill of the endpoint.
    #[error("backfill {0} of this webhook is not known")]
    NoBackfill(String),
    /// A backfill of the endpoint runs.
    #[error("a backfill of webhook {0} runs already; wait for its end, or cancel it")]
    Backfilling(String),
    /// The endpoint isn't delivered to.
    #[error("webhook {id} is {state}; resume it first")]
    NotServed {
        /// Which.
        id: String,
        /// `paused` or `disabled`.
        state: &'static str,
    },
    /// The event is neither in the log nor in the history.
    #[error("the event of delivery {0} is neither in the log nor in the history any more")]
    EventGone(String),
    /// The tenant has as many endpoints as it may.
    #[error("the tenant has {0} webhook endpoints, which is as many as it may have; delete one first")]
    TooMany(u32),
    /// As many secrets of the endpoint sign as may.
    #[error("{0} secrets of this endpoint sign already, which is as many as may; wait until one has expired")]
    TooManySecrets(usize),
    /// The store refused or is away.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Kafka can't be asked.
    #[error(transparent)]
    Kafka(#[from] ReadError),
    /// A record was not taken.
    #[error(transparent)]
    Produce(#[from] ProduceError),
    /// The stages can't be reached.
    #[error(transparent)]
    Stages(Box<OperationError>),
    /// The schema registry is away.
    #[error("{0}")]
    Registry(String),
    /// This program was started without a way to the stages.
    #[error("there is no way to the stages from here")]
    OutOfReach,
    /// Something couldn't be sealed, or opened.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// There is no key pair.
    #[error(transparent)]
    SigningKey(#[from] SigningKeyError),
    /// The operating system gave no random bytes.
    #[error("no random bytes for a secret: {0}")]
    Random(String),
}

impl From<OperationError> for WebhookError {
    fn from(error: OperationError) -> Self {
        Self::Stages(Box::new(error))
    }
}

/// An endpoint with a fresh secret.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The endpoint as it is stored.
    pub endpoint: Endpoint,
    /// Its newest secret, or the private key of its pair, which nobody is told.
    pub secret: Secret<String>,
}

impl Registered {
    /// The secret as its owner is told it, this once; none when the endpoint signs with a key pair of ours.
    pub fn shown_secret(&self) -> Option<&str> {
        Some(self.secret.expose().as_str()).filter(|secret| !SigningKey::is_private(secret))
    }
}

/// Registers, changes and removes endpoints. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registrar {
    db: Database,
    vault: Vault,
    clock: Clock,
    rules: Rules,
    reach: Option<Reach>,
}

/// How the stages that deliver are reached.
#[derive(Debug, Clone)]
struct Reach {
    operations: Operations,
    codec: Codec,
}

impl Registrar {
    /// A registrar that keeps to `rules`.
    pub fn new(db: Database, vault: Vault, clock: Clock, rules: Rules) -> Self {
        Self { db, vault, clock, rules, reach: None }
    }

    /// The same with a way to the stages that deliver: endpoints begin at the ends of their sources, and the past can be
    /// delivered again, written by `codec` where the log doesn't hold it any more.
    pub fn over(self, operations: Operations, codec: Codec) -> Self {
        Self { reach: Some(Reach { operations, codec }), ..self }
    }

    /// Registers an endpoint of `tenant`, for the partner `owner` or for the tenant itself. Returns when every
    /// process knows it: an event published afterwards reaches it. A request that was carried out before, and is
    /// asked again because its answer was lost, gets the endpoint that it made.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn register(
        &self,
        tenant: &str,
        owner: Option<&str>,
        registration: &Registration,
    ) -> Result<Registered, WebhookError> {
        let accepted = self.rules.check(registration).map_err(WebhookError::Fields)?;
        let now_ms = self.clock.now_ms();
        let id = format!("wh_{}", registration.request.unwrap_or_else(|| random_event_id(now_ms)).simple());
        if registration.request.is_some()
            && let Some(endpoint) = webhooks::find(&self.db, tenant, &id, owner).await?
        {
            return self.registered_before(endpoint).await;
        }
        let secret = secrets::fresh(registration.secret.as_ref(), registration.signature)?;
        let signing =
            SigningSecret { secret: secret.clone(), created_at: now_ms, expires_at: None, request: None };
        let mut endpoint = settings::blank(tenant, id, owner, now_ms);
        accepted.apply(&mut endpoint, &self.vault)?;
        endpoint.secrets = webhooks::seal_secrets(&self.vault, tenant, &[signing])?;
        let most = self.rules.endpoints_per_tenant;
        let starts = self.ends().await?;
        let mut tx = self.db.begin().await?;
        if !webhooks::add(&mut tx, &endpoint, i64::from(most)).await? {
            return Err(WebhookError::TooMany(most));
        }
        webhook_starts::set(&mut tx, (tenant, &endpoint.id), &starts).await?;
        tx.commit().await?;
        self.known().await;
        Ok(Registered { endpoint, secret })
    }

    /// The endpoint that the same request made before its answer was lost, and its secret.
    async fn registered_before(&self, endpoint: Endpoint) -> Result<Registered, WebhookError> {
        let newest = webhooks::open_secrets(&self.vault, &endpoint)?.into_iter().next();
        let secret = newest.ok_or(CryptoError::DoesNotOpen)?.secret;
        self.known().await;
        Ok(Registered { endpoint, secret })
    }

    /// Changes an endpoint. URL, time-out, headers, attempts and delays hold for what is tried from then on; events and
    /// filter for what is published from then on: what was before is told as it was chosen then, however late. Returns
    /// when every process knows.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn change(
        &self,
        tenant: &str,
        owner: Option<&str>,
        id: &str,
        change: &Change,
    ) -> Result<Endpoint, WebhookError> {
        let accepted = self.rules.check_change(change).map_err(WebhookError::Fields)?;
        let ends = match change.events.is_some() || change.filter.is_some() {
            true => self.ends().await?,
            false => BTreeMap::new(),
        };
        self.alter(tenant, owner, id, |endpoint| {
            let (events, filter) = (endpoint.events.clone(), endpoint.filter.clone());
            accepted.apply(endpoint, &self.vault)?;
            if (&events, &filter) != (&endpoint.events, &endpoint.filter) {
                endpoint.choices.remember(events, filter, &ends);
            }
            Ok(())
        })
        .await
    }

    /// Delivers to an endpoint no longer, until [`Registrar::resume`]; what concerns it is kept for it. Requests that
    /// are under way end. One that is disabled stays so.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn pause(&self, tenant: &str, owner: Option<&str>, id: &str) -> Result<Endpoint, WebhookError> {
        self.alter(tenant, owner, id, |endpoint| {
            if endpoint.state == EndpointState::Enabled {
                endpoint.state = EndpointState::Paused;
            }
            Ok(())
        })
        .await
    }

    /// Delivers to an endpoint that is paused or disabled again: first, in order, what was kept for it.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn resume(
        &self,
        tenant: &str,
        owner: Option<&str>,
        id: &str,
    ) -> Result<Endpoint, WebhookError> {
        self.alter(tenant, owner, id, |endpoint| {
            endpoint.state = EndpointState::Enabled;
            Ok(())
        })
        .await
    }

    /// Removes an endpoint; what is still to be delivered to it is skipped. Answers whether there was one.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn remove(&self, tenant: &str, owner: Option<&str>, id: &str) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let removed = webhooks::remove(&mut tx, tenant, id, owner).await?;
        if removed {
            webhook_starts::forget(&mut tx, tenant, id).await?;
        }
        tx.commit().await?;
        Ok(removed)
    }

    /// When failed deliveries to `endpoint` are tried again.
    pub fn schedule(&self, endpoint: &Endpoint) -> Schedule {
        let first = endpoint.retry_delay_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        self.rules.policy.overridden(endpoint.retry_attempts, first, rules::LONGEST_DELAY)
    }

    /// The ends of every partition that endpoints are told of: what is written from now on lies behind them.
    async fn ends(&self) -> Result<BTreeMap<At, i64>, WebhookError> {
        let mut found = BTreeMap::new();
        let Some(reach) = &self.reach else { return Ok(found) };
        for of in reach.operations.running(STAGE).await? {
            let source = &of.stage.source;
            let ends = inspect::ends(reach.operations.kafka(), source).await?;
            found
                .extend(ends.into_iter().map(|(partition, (_, end))| ((source.to_string(), partition), end)));
        }
        Ok(found)
    }

    fn reach(&self) -> Result<&Reach, WebhookError> {
        self.reach.as_ref().ok_or(WebhookError::OutOfReach)
    }

    async fn find(&self, tenant: &str, owner: Option<&str>, id: &str) -> Result<Endpoint, WebhookError> {
        let found = webhooks::find(&self.db, tenant, id, owner).await?;
        found.ok_or_else(|| WebhookError::NotFound(id.to_owned()))
    }

    /// Finds an endpoint, alters it and stores it in one transaction, and waits until every process knows.
    async fn alter(
        &self,
        tenant: &str,
        owner: Option<&str>,
        id: &str,
        alter: impl FnOnce(&mut Endpoint) -> Result<(), WebhookError>,
    ) -> Result<Endpoint, WebhookError> {
        let mut tx = self.db.begin().await?;
        // In the order in which the stage that keeps health locks: a deadlock would make one of both begin again.
        health::lock(&mut tx, &[(tenant.to_owned(), id.to_owned())]).await?;
        let found = webhooks::find_to_change(&mut tx, tenant, id, owner).await?;
        let mut endpoint = found.ok_or_else(|| WebhookError::NotFound(id.to_owned()))?;
        let (was_served, url) = (endpoint.state == EndpointState::Enabled, endpoint.url.clone());
        alter(&mut endpoint)?;
        // How it fared at another address, or before it was stopped, is no longer held against it.
        if (!was_served && endpoint.state == EndpointState::Enabled) || endpoint.url != url {
            endpoint.generation += 1;
            endpoint.failing_since = None;
            health::forget(&mut tx, tenant, id).await?;
        }
        endpoint.updated_at = self.clock.now_ms();
        webhooks::change(&mut tx, &endpoint).await?;
        tx.commit().await?;
        self.known().await;
        Ok(endpoint)
    }

    /// Returns when every process knows of a change that was just stored.
    async fn known(&self) {
        self.clock.sleep(self.rules.refresh).await;
    }
}
