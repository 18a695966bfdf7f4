//! What may be shown of endpoints, their secrets and what was tried for them: the form in which the API and the command
//! line show it. Secrets and the values of headers are never in it, but a fresh secret once.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Registered, Registrar, WebhookError};
use crate::clock::rfc3339;
use crate::crypto::{CryptoError, SigningKey, Subject};
use crate::store::attempts::Attempt;
use crate::store::webhooks::{self, Endpoint, EndpointState, SignatureScheme};

/// A registered endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// The registration's id.
    pub id: String,
    /// Where requests go.
    pub url: String,
    /// Dotted types and families (`order.*`); `*` is all.
    pub events: Vec<String>,
    /// JSONPath: which bodies are wanted of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The names of the endpoint's own headers; their values are not told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub header_names: Vec<String>,
    /// `enabled`, `paused` or `disabled`.
    pub state: &'static str,
    /// Since when it fails: nothing was accepted for so long that its owner was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<String>,
    /// Why it is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<String>,
    /// Milliseconds that one whole attempt may take.
    pub timeout: i64,
    /// Requests per second, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// Requests at once, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// All attempts, and the milliseconds between them.
    pub schedule: ScheduleShown,
    /// How requests are signed: `hmac` or `ed25519`.
    pub signature: &'static str,
    /// The secrets that sign, newest first.
    pub secrets: Vec<SecretShown>,
    /// The mail address of whoever is told how the endpoint does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// A few words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The partner that registered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When it was registered.
    pub created_at: String,
    /// When it was changed last.
    pub updated_at: String,
    /// Signs every request. Told once, in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// When failed deliveries are tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleShown {
    /// All attempts counted.
    pub attempts: u32,
    /// Milliseconds after the first, second, … failed attempt, each varied by up to `jitterPercent`.
    pub delays: Vec<u64>,
    /// By how much a delay varies.
    pub jitter_percent: u32,
}

/// A secret that signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretShown {
    /// `hmac` or `ed25519`.
    pub signature: &'static str,
    /// `whpk_` and the base64 of the public key, where the endpoint signs with a key pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Since when it signs.
    pub created_at: String,
    /// Until when; absent is for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// One attempt to deliver an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptShown {
    /// Names the attempt.
    pub id: String,
    /// The same for all attempts to deliver this event here.
    pub delivery_id: String,
    /// The header `webhook-id`.
    pub webhook_id: String,
    /// The event.
    pub event_id: String,
    /// Its type.
    pub event: String,
    /// Its order.
    pub order_id: String,
    /// From 1.
    pub attempt: i64,
    /// `delivered`, `failed` (tried again), `refused` (your answer was 3xx or 4xx) or `gone` (410).
    pub outcome: String,
    /// The HTTP status, if one was answered.
    pub status: Option<i64>,
    /// The whole exchange, in milliseconds.
    pub latency_ms: i64,
    /// What went wrong.
    pub error: Option<String>,
    /// The beginning of the answer.
    pub response: Option<String>,
    /// When it began.
    pub attempted_at: String,
    /// When it is tried again.
    pub next_attempt_at: Option<String>,
    /// Somebody asked for the delivery to be sent again.
    pub resend: bool,
}

impl Registrar {
    /// `endpoint` as it may be shown.
    ///
    /// # Errors
    /// When what is sealed of it can't be opened.
    pub fn show(&self, endpoint: &Endpoint) -> Result<Webhook, WebhookError> {
        let secrets = self.secrets(endpoint)?;
        Ok(Webhook {
            id: endpoint.id.clone(),
            url: endpoint.url.clone(),
            events: endpoint.events.patterns(),
            filter: endpoint.filter.clone(),
            header_names: webhooks::open_headers(&self.vault, endpoint)?.into_keys().collect(),
            state: endpoint.state.as_str(),
            disabled_reason: match &endpoint.state {
                EndpointState::Enabled | EndpointState::Paused => None,
                EndpointState::Disabled(reason) => Some(reason.clone()),
            },
            failing_since: endpoint.failing_since.map(rfc3339),
            timeout: endpoint.timeout_ms,
            rate: endpoint.rate,
            concurrency: endpoint.concurrency,
            schedule: self.schedule_shown(endpoint),
            signature: secrets.first().map_or(SignatureScheme::Hmac.as_str(), |newest| newest.signature),
            secrets,
            contact: webhooks::open_contact(&self.vault, endpoint)?,
            description: endpoint.description.clone(),
            owner: endpoint.owner.clone(),
            created_at: rfc3339(endpoint.created_at),
            updated_at: rfc3339(endpoint.updated_at),
            secret: None,
        })
    }

    /// The same with its fresh secret, which is told this once.
    ///
    /// # Errors
    /// As [`Registrar::show`].
    pub fn show_once(&self, registered: &Registered) -> Result<Webhook, WebhookError> {
        let secret = registered.shown_secret().map(str::to_owned);
        Ok(Webhook { secret, ..self.show(&registered.endpoint)? })
    }

    /// `attempt` as it may be shown.
    ///
    /// # Errors
    /// When what was answered can't be opened.
    pub fn show_attempt(&self, attempt: Attempt) -> Result<AttemptShown, CryptoError> {
        let tenant = Subject::Tenant { tenant: &attempt.tenant };
        let response = attempt.response.as_ref().map(|sealed| self.vault.open_text(tenant, sealed));
        Ok(AttemptShown {
            response: response.transpose()?,
            id: attempt.attempt_id,
            delivery_id: attempt.delivery_id,
            webhook_id: attempt.webhook_id,
            event_id: attempt.event_id,
            event: attempt.event_type,
            order_id: attempt.order_id,
            attempt: attempt.attempt,
            outcome: attempt.outcome,
            status: attempt.status,
            latency_ms: attempt.latency_ms,
            error: attempt.error,
            attempted_at: rfc3339(attempt.attempted_at),
            next_attempt_at: attempt.next_attempt_at.map(rfc3339),
            resend: attempt.resend,
        })
    }

    fn schedule_shown(&self, endpoint: &Endpoint) -> ScheduleShown {
        let schedule = self.schedule(endpoint);
        let millis = |delay: &Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let retries = schedule.attempts.saturating_sub(1) as usize;
        // A schedule's last delay repeats; shown is one for each retry.
        let last = schedule.delays.last();
        let delays = schedule.delays.iter().chain(std::iter::repeat_n(last, retries).flatten()).take(retries);
        ScheduleShown {
            attempts: schedule.attempts,
            delays: delays.map(millis).collect(),
            jitter_percent: schedule.jitter_percent,
        }
    }

    /// What may be shown of the secrets of `endpoint` that sign, newest first.
    fn secrets(&self, endpoint: &Endpoint) -> Result<Vec<SecretShown>, WebhookError> {
        let now_ms = self.clock.now_ms();
        let secrets = webhooks::open_secrets(&self.vault, endpoint)?;
        let shown = secrets.iter().filter(|secret| secret.signs(now_ms)).map(|secret| {
            let public_key = match secret.scheme() {
                SignatureScheme::Hmac => None,
                SignatureScheme::Ed25519 => Some(SigningKey::read(&secret.secret)?.public()),
            };
            Ok(SecretShown {
                signature: secret.scheme().as_str(),
                public_key,
                created_at: rfc3339(secret.created_at),
                expires_at: secret.expires_at.map(rfc3339),
            })
        });
        shown.collect()
    }
}
