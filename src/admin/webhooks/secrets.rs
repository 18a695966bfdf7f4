//! Making secrets, and rotating them: for a while the old ones sign beside the new one.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use uuid::Uuid;

use super::rules::{SECRET_PREFIX, usable};
use super::{FieldFault, Registered, Registrar, WebhookError};
use crate::crypto::{CryptoError, Secret, SigningKey};
use crate::store::webhooks::{self, SignatureScheme, SigningSecret};

/// How many random bytes a secret of ours has (Standard Webhooks asks for 24 to 64).
pub(super) const SECRET_BYTES: usize = 32;
/// Secrets of one endpoint that sign at once, at most.
pub(super) const MOST_LIVE: usize = 10;
const USUAL_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
const LONGEST_OVERLAP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A new secret in place of the ones there are.
#[derive(Debug, Clone, Default)]
pub struct Rotation {
    /// A secret of the partner's own.
    pub secret: Option<Secret<String>>,
    /// How requests are signed from now on; as before unless said.
    pub signature: Option<SignatureScheme>,
    /// How long the older secrets sign beside it, in milliseconds; a day unless said.
    pub overlap: Option<i64>,
    /// Names the request: asked again under the same name, it is the same secret.
    pub request: Option<Uuid>,
}

impl Registrar {
    /// Gives an endpoint a new secret. The older ones sign beside it for a while, so that a receiver may take the new
    /// one into use at any moment of it. Returns when every process knows.
    ///
    /// # Errors
    /// See [`WebhookError`].
    pub async fn rotate(
        &self,
        tenant: &str,
        owner: Option<&str>,
        id: &str,
        rotation: &Rotation,
    ) -> Result<Registered, WebhookError> {
        let overlap = overlap(rotation)?;
        let request = rotation.request.map(|request| request.to_string());
        let mut made = None;
        let endpoint = self
            .alter(tenant, owner, id, |endpoint| {
                let secrets = webhooks::open_secrets(&self.vault, endpoint)?;
                let known = |secret: &&SigningSecret| request.is_some() && secret.request == request;
                if let Some(before) = secrets.iter().find(known) {
                    made = Some(before.secret.clone());
                    return Ok(());
                }
                let rotated = rotated(secrets, rotation, overlap, self.clock.now_ms())?;
                endpoint.secrets = webhooks::seal_secrets(&self.vault, tenant, &rotated)?;
                made = rotated.into_iter().next().map(|newest| newest.secret);
                Ok(())
            })
            .await?;
        let secret = made.ok_or(CryptoError::DoesNotOpen)?;
        Ok(Registered { endpoint, secret })
    }
}

/// The secrets after a rotation, newest first.
fn rotated(
    mut secrets: Vec<SigningSecret>,
    rotation: &Rotation,
    overlap: i64,
    now_ms: i64,
) -> Result<Vec<SigningSecret>, WebhookError> {
    let request = rotation.request.map(|request| request.to_string());
    let as_before = secrets.first().map_or(SignatureScheme::Hmac, SigningSecret::scheme);
    let secret = fresh(rotation.secret.as_ref(), rotation.signature.or(Some(as_before)))?;
    let end = now_ms.saturating_add(overlap);
    for older in &mut secrets {
        older.expires_at = Some(older.expires_at.map_or(end, |expires_at| expires_at.min(end)));
    }
    // One that is brought again starts anew.
    secrets.retain(|older| older.signs(now_ms) && older.secret != secret);
    if secrets.len() >= MOST_LIVE {
        return Err(WebhookError::TooManySecrets(secrets.len()));
    }
    secrets.insert(0, SigningSecret { secret, created_at: now_ms, expires_at: None, request });
    Ok(secrets)
}

fn overlap(rotation: &Rotation) -> Result<i64, WebhookError> {
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let longest = millis(LONGEST_OVERLAP);
    match rotation.overlap {
        None => Ok(millis(USUAL_OVERLAP)),
        Some(given) if (0..=longest).contains(&given) => Ok(given),
        Some(_) => Err(fault("overlap", format!("must be between 0 and {longest}"))),
    }
}

/// The partner's own secret, or one made here.
pub(super) fn fresh(
    own: Option<&Secret<String>>,
    signature: Option<SignatureScheme>,
) -> Result<Secret<String>, WebhookError> {
    let scheme = signature.unwrap_or(SignatureScheme::Hmac);
    if let Some(own) = own {
        usable(own.expose(), scheme).map_err(|message| fault("secret", message))?;
        return Ok(own.clone());
    }
    match scheme {
        SignatureScheme::Hmac => generated(),
        SignatureScheme::Ed25519 => Ok(SigningKey::generate()?.private()?),
    }
}

fn fault(field: &str, message: String) -> WebhookError {
    WebhookError::Fields(vec![FieldFault { field: field.to_owned(), message, unknown_event: false }])
}

/// A fresh secret in the form of Standard Webhooks.
fn generated() -> Result<Secret<String>, WebhookError> {
    let mut bytes = [0; SECRET_BYTES];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| WebhookError::Random(error.to_string()))?;
    Ok(Secret::new(format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes))))
}
