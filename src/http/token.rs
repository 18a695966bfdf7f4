//! Signs tokens for development and tests (`orderflow token issue`). In production an identity provider
//! does; this program then only checks.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::{HttpOptions, Role};
use crate::clock::Clock;
use crate::crypto::Secret;

/// Whom a token speaks for.
#[derive(Debug, Clone)]
pub struct Grant<'a> {
    /// The user or program.
    pub subject: &'a str,
    /// What they may be.
    pub roles: &'a [Role],
    /// Whose data they see.
    pub tenant: &'a str,
    /// How long it is good.
    pub ttl: Duration,
}

/// Why no token was signed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// Only HS256 tokens are signed here.
    #[error("http.jwt_secret is not set: tokens checked by a key set are signed by its owner")]
    NoSecret,
    /// The library refused.
    #[error("the token can't be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    tenant: &'a str,
    roles: Vec<&'static str>,
    iat: i64,
    exp: i64,
}

/// A token by `options.jwt_secret` for `grant`, good from now.
///
/// # Errors
/// When no secret is set.
pub fn issue(options: &HttpOptions, clock: &Clock, grant: &Grant<'_>) -> Result<Secret<String>, IssueError> {
    let secret = options.jwt_secret.as_ref().ok_or(IssueError::NoSecret)?;
    let now = clock.now_ms() / 1000;
    let lifetime = i64::try_from(grant.ttl.as_secs()).unwrap_or(i64::MAX);
    let claims = Claims {
        iss: &options.issuer,
        aud: &options.audience,
        sub: grant.subject,
        tenant: grant.tenant,
        roles: grant.roles.iter().map(|role| role.as_str()).collect(),
        iat: now,
        exp: now.saturating_add(lifetime),
    };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    Ok(Secret::new(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?))
}
