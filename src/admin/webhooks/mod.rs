//! Registering webhook endpoints: what is allowed, what an endpoint's schedule comes to, and the secret that is
//! shown once.
//!
//! `rules` decides (pure); the [`Registrar`] does. The API and the command line come through here. How
//! endpoints are delivered to is the webhook stage's business.

mod rules;
#[cfg(test)]
mod tests;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::TryRngCore as _;
use rand::rngs::OsRng;

use crate::clock::Clock;
use crate::crypto::{CryptoError, Secret, Vault};
use crate::event::random_event_id;

use crate::store::webhooks::{self, Endpoint, EndpointState, SigningSecret};
use crate::store::{Database, StoreError};

pub use crate::runtime::retry::Schedule;
pub use rules::{FieldFault, Registration, Rules};

/// How many random bytes a secret of ours has (Standard Webhooks asks for 24 to 64).
const SECRET_BYTES: usize = 32;

/// Why an endpoint isn't registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Fields that aren't right; each is named.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Fields(Vec<FieldFault>),
    /// The tenant has as many endpoints as it may.
    #[error("the tenant has {0} webhook endpoints, which is as many as it may have; delete one first")]
    TooMany(u32),
    /// The store refused or is away.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The secret couldn't be sealed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The operating system gave no random bytes.
    #[error("no random bytes for a secret: {0}")]
    Random(String),
}

/// A fresh registration.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The endpoint as it is stored.
    pub endpoint: Endpoint,
    /// Its secret: this is the only time that it is told.
    pub secret: Secret<String>,
}

/// Registers and removes endpoints. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registrar {
    db: Database,
    vault: Vault,
    clock: Clock,
    rules: Rules,
}

impl Registrar {
    /// A registrar that keeps to `rules`.
    pub fn new(db: Database, vault: Vault, clock: Clock, rules: Rules) -> Self {
        Self { db, vault, clock, rules }
    }

    /// Registers an endpoint of `tenant`, for the partner `owner` or for the tenant itself. Returns when every
    /// process knows it: an event published afterwards reaches it. A request that was carried out before, and is
    /// asked again because its answer was lost, gets the endpoint that it made.
    ///
    /// # Errors
    /// See [`RegisterError`]; nothing is stored then.
    pub async fn register(
        &self,
        tenant: &str,
        owner: Option<&str>,
        registration: &Registration,
    ) -> Result<Registered, RegisterError> {
        let accepted = self.rules.check(registration).map_err(RegisterError::Fields)?;
        let now_ms = self.clock.now_ms();
        let id = format!("wh_{}", registration.request.unwrap_or_else(|| random_event_id(now_ms)).simple());
        if registration.request.is_some()
            && let Some(endpoint) = webhooks::find(&self.db, tenant, &id, owner).await?
        {
            return self.registered_before(endpoint).await;
        }
        let secret = match &registration.secret {
            Some(given) => given.clone(),
            None => generated()?,
        };
        let signing = SigningSecret { secret: secret.clone(), created_at: now_ms, expires_at: None };
        let endpoint = Endpoint {
            tenant: tenant.to_owned(),
            id,
            url: accepted.url,
            events: accepted.events,
            retry_attempts: accepted.retry_attempts,
            retry_delay_ms: registration.retry_delay,
            timeout_ms: accepted.timeout_ms,
            secrets: webhooks::seal_secrets(&self.vault, tenant, &[signing])?,
            state: EndpointState::Enabled,
            owner: owner.map(str::to_owned),
            created_at: now_ms,
        };
        let most = self.rules.endpoints_per_tenant;
        let mut tx = self.db.begin().await?;
        if !webhooks::add(&mut tx, &endpoint, i64::from(most)).await? {
            return Err(RegisterError::TooMany(most));
        }
        tx.commit().await?;
        self.clock.sleep(self.rules.refresh).await;
        Ok(Registered { endpoint, secret })
    }

    /// The endpoint that the same request made before its answer was lost, and its secret.
    async fn registered_before(&self, endpoint: Endpoint) -> Result<Registered, RegisterError> {
        let newest = webhooks::open_secrets(&self.vault, &endpoint)?.into_iter().next();
        let secret = newest.ok_or(CryptoError::DoesNotOpen)?.secret;
        self.clock.sleep(self.rules.refresh).await;
        Ok(Registered { endpoint, secret })
    }

    /// Removes an endpoint; what is still to be delivered to it is skipped. Answers whether there was one.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn remove(&self, tenant: &str, owner: Option<&str>, id: &str) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        let removed = webhooks::remove(&mut tx, tenant, id, owner).await?;
        tx.commit().await?;
        Ok(removed)
    }

    /// When failed deliveries to `endpoint` are tried again.
    pub fn schedule(&self, endpoint: &Endpoint) -> Schedule {
        let first = endpoint.retry_delay_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        self.rules.policy.overridden(endpoint.retry_attempts, first, rules::LONGEST_DELAY)
    }
}

/// A fresh secret in the form of Standard Webhooks.
fn generated() -> Result<Secret<String>, RegisterError> {
    let mut bytes = [0; SECRET_BYTES];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| RegisterError::Random(error.to_string()))?;
    Ok(Secret::new(format!("{}{}", rules::SECRET_PREFIX, STANDARD.encode(bytes))))
}
