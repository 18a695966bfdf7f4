//! What of an endpoint is stored sealed: its secrets, its own headers, its owner's mail address.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Endpoint;
use crate::crypto::{CryptoError, Sealed, Secret, SigningKey, Subject, Vault};

/// One of an endpoint's secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningSecret {
    /// The secret as it was given or shown, or the private key of a pair ([`SigningKey`]).
    #[serde(with = "exposed")]
    pub secret: Secret<String>,
    /// Since when it signs, epoch milliseconds.
    pub created_at: i64,
    /// Until when it signs; `None` is for good.
    pub expires_at: Option<i64>,
    /// The request that made it, so that the request's repeat is told the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// How requests are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureScheme {
    /// HMAC-SHA256 with a shared secret (`v1`).
    Hmac,
    /// ed25519 with a key pair of ours (`v1a`).
    Ed25519,
}

impl SignatureScheme {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hmac => "hmac",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The scheme called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Hmac, Self::Ed25519].into_iter().find(|scheme| scheme.as_str() == name)
    }
}

impl SigningSecret {
    /// How it signs.
    pub fn scheme(&self) -> SignatureScheme {
        match SigningKey::is_private(self.secret.expose()) {
            true => SignatureScheme::Ed25519,
            false => SignatureScheme::Hmac,
        }
    }

    /// Whether it signs at `now_ms`.
    pub fn signs(&self, now_ms: i64) -> bool {
        self.expires_at.is_none_or(|end| end > now_ms)
    }
}

/// Secrets are written out only into the text that is sealed at once.
mod exposed {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::crypto::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret<String>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Secret<String>, D::Error> {
        Secret::deserialize(from)
    }
}

/// Seals an endpoint's secrets, newest first.
///
/// # Errors
/// When the list is too large to seal.
pub fn seal_secrets(vault: &Vault, tenant: &str, secrets: &[SigningSecret]) -> Result<Sealed, CryptoError> {
    let text = serde_json::to_vec(secrets).map_err(|_| CryptoError::TooLarge)?;
    vault.seal(Subject::Tenant { tenant }, &text)
}

/// Opens an endpoint's secrets, newest first.
///
/// # Errors
/// When they were sealed with another key or for another tenant.
pub fn open_secrets(vault: &Vault, endpoint: &Endpoint) -> Result<Vec<SigningSecret>, CryptoError> {
    let text = vault.open(Subject::Tenant { tenant: &endpoint.tenant }, &endpoint.secrets)?;
    serde_json::from_slice(&text).map_err(|_| CryptoError::DoesNotOpen)
}

/// Headers by their names in lower case.
pub type Headers = BTreeMap<String, Secret<String>>;

/// Seals an endpoint's own headers; none are no envelope.
///
/// # Errors
/// When they are too large to seal.
pub fn seal_headers(vault: &Vault, tenant: &str, headers: &Headers) -> Result<Option<Sealed>, CryptoError> {
    if headers.is_empty() {
        return Ok(None);
    }
    let shown: BTreeMap<&str, &str> =
        headers.iter().map(|(name, value)| (name.as_str(), value.expose().as_str())).collect();
    let text = serde_json::to_vec(&shown).map_err(|_| CryptoError::TooLarge)?;
    vault.seal(Subject::Tenant { tenant }, &text).map(Some)
}

/// Opens an endpoint's own headers.
///
/// # Errors
/// When they were sealed with another key or for another tenant.
pub fn open_headers(vault: &Vault, endpoint: &Endpoint) -> Result<Headers, CryptoError> {
    let Some(sealed) = &endpoint.headers else { return Ok(Headers::new()) };
    let text = vault.open(Subject::Tenant { tenant: &endpoint.tenant }, sealed)?;
    serde_json::from_slice(&text).map_err(|_| CryptoError::DoesNotOpen)
}

/// Whose the mail address of an endpoint is: its owner's, or, where the tenant itself registered it, the endpoint's.
fn person<'a>(tenant: &'a str, id: &'a str, owner: Option<&'a str>) -> Subject<'a> {
    Subject::Person { tenant, person: owner.unwrap_or(id) }
}

/// Seals the mail address of whoever is told how `endpoint` does.
///
/// # Errors
/// When it is too large to seal.
pub fn seal_contact(vault: &Vault, endpoint: &Endpoint, contact: &str) -> Result<Sealed, CryptoError> {
    let Endpoint { tenant, id, owner, .. } = endpoint;
    vault.seal(person(tenant, id, owner.as_deref()), contact.as_bytes())
}

/// Opens the mail address of whoever is told how `endpoint` does, if there is one.
///
/// # Errors
/// When it was sealed with another key or for another endpoint.
pub fn open_contact(vault: &Vault, endpoint: &Endpoint) -> Result<Option<String>, CryptoError> {
    let Endpoint { tenant, id, owner, contact, .. } = endpoint;
    let person = person(tenant, id, owner.as_deref());
    contact.as_ref().map(|sealed| vault.open_text(person, sealed)).transpose()
}
