//! From a token to a [`Caller`]: the one place that believes or doubts who asks.
//!
//! Each key checks exactly one algorithm, fixed when the key is loaded, so a token can't choose how it is
//! checked: a public key never serves as an HMAC secret, and `none` has no key at all. Why a token was
//! refused is logged, not told.

mod caller;
mod keys;

use axum::http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, Validation};
use serde::Deserialize;

pub use caller::{Caller, Role, Roles};
pub use keys::AuthSetupError;
use keys::{KeySet, SHORTEST_SECRET};

use super::{Code, HttpOptions, Problem};
use crate::clock::Clock;

/// How far the clocks of issuer and checker may differ, in seconds.
const LEEWAY_SECONDS: f64 = 30.0;
/// No honest token is longer, in bytes.
const MAX_TOKEN: usize = 8 * 1024;
/// The longest subject or tenant, in bytes.
const MAX_NAME: usize = 255;
const SCHEME: &str = "bearer ";

/// Checks tokens.
#[derive(Debug)]
pub struct Auth {
    keys: KeySet,
    issuer: String,
    audience: String,
    clock: Clock,
}

/// Why a token isn't believed. [`Auth::caller`] turns it into an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// None was sent.
    #[error("no bearer token was sent")]
    Missing,
    /// Not ours, or not meant for us.
    #[error("the token is not valid: {0}")]
    Invalid(String),
    /// Was good once.
    #[error("the token has expired")]
    Expired,
    /// The keys can't be fetched now.
    #[error("the keys that check tokens can't be had: {0}")]
    NoKeys(String),
}

/// RFC 7519's claims and ours. Others are ignored, as that standard asks.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
    sub: String,
    roles: Vec<String>,
    tenant: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Auth {
    /// A checker by the secret, the key set, or both, that `options` name. A key-set file is read here; a URL
    /// is fetched when it is first needed.
    ///
    /// # Errors
    /// When there is nothing to check tokens with, or what there is can't be used.
    pub fn new(options: &HttpOptions, clock: Clock) -> Result<Self, AuthSetupError> {
        let secret = options.jwt_secret.as_ref().map(|secret| secret.expose().as_bytes());
        if secret.is_some_and(|secret| secret.len() < SHORTEST_SECRET) {
            return Err(AuthSetupError::ShortSecret { shortest: SHORTEST_SECRET });
        }
        Ok(Self {
            keys: KeySet::load(secret, options, clock.clone())?,
            issuer: options.issuer.clone(),
            audience: options.audience.clone(),
            clock,
        })
    }

    /// Who sends a request with these headers.
    ///
    /// # Errors
    /// 401 with `WWW-Authenticate` (RFC 6750), or 503 while the keys can't be fetched.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let checked = match bearer(headers) {
            Some(token) => self.check(token).await,
            None => Err(TokenFault::Missing),
        };
        checked.map_err(TokenFault::into_problem)
    }

    /// Who `token` speaks for.
    ///
    /// # Errors
    /// Why it isn't believed.
    pub async fn check(&self, token: &str) -> Result<Caller, TokenFault> {
        if token.len() > MAX_TOKEN {
            return Err(TokenFault::Invalid(format!("it is longer than {MAX_TOKEN} bytes")));
        }
        let header = jsonwebtoken::decode_header(token).map_err(invalid)?;
        if header.crit.is_some() {
            return Err(TokenFault::Invalid("it demands extensions that aren't understood".to_owned()));
        }
        let keys = self.keys.matching(header.alg, header.kid.as_deref()).await?;
        let mut last = TokenFault::Invalid(format!("no key checks {:?} {:?}", header.alg, header.kid));
        for key in keys {
            match jsonwebtoken::decode::<Claims>(token, &key, &signature_only(header.alg)) {
                Ok(token) => return self.judge(token.claims),
                Err(error) => last = invalid(error),
            }
        }
        Err(last)
    }

    /// The claims of a token whose signature holds.
    fn judge(&self, claims: Claims) -> Result<Caller, TokenFault> {
        let wrong = |what: &str| Err(TokenFault::Invalid(format!("its {what} is not what it should be")));
        if claims.iss != self.issuer {
            return wrong("iss");
        }
        let meant_for_us = match &claims.aud {
            Audience::One(audience) => *audience == self.audience,
            Audience::Many(audiences) => audiences.contains(&self.audience),
        };
        if !meant_for_us {
            return wrong("aud");
        }
        if !is_name(&claims.sub) {
            return wrong("sub");
        }
        if !is_name(&claims.tenant) {
            return wrong("tenant");
        }
        let now = self.clock.now_ms() as f64 / 1000.0;
        if claims.nbf.is_some_and(|from| now + LEEWAY_SECONDS < from) {
            return wrong("nbf");
        }
        if now - LEEWAY_SECONDS >= claims.exp {
            return Err(TokenFault::Expired);
        }
        let roles = claims.roles.iter().filter_map(|role| role.parse().ok()).collect();
        Ok(Caller {
            subject: claims.sub,
            roles,
            tenant: claims.tenant,
            expires_at_ms: (claims.exp * 1000.0) as i64,
        })
    }

    /// Reads the key set again every `jwks_refresh`, until dropped; never returns. Without a key set it only
    /// waits.
    pub async fn keep_keys_fresh(&self) {
        self.keys.keep_fresh().await;
    }
}

/// The token in `Authorization: Bearer …` (the scheme in any case, RFC 9110).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty()).then_some(token)
}

/// The library checks the signature by the one algorithm; the claims are judged here, by our clock.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

/// Whether `text` can be a user or a tenant in a token.
pub fn is_name(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= MAX_NAME && !text.chars().any(char::is_control)
}

fn invalid(error: jsonwebtoken::errors::Error) -> TokenFault {
    TokenFault::Invalid(error.to_string())
}

impl TokenFault {
    /// What the client is told: whether to send a token, get a new one or wait, but not what is wrong with it.
    pub(super) fn into_problem(self) -> Problem {
        let (code, detail, challenge) = match &self {
            Self::Missing => (
                Code::TokenMissing,
                "send a token: Authorization: Bearer <token>",
                r#"Bearer realm="orderflow""#,
            ),
            Self::Invalid(reason) => {
                tracing::info!(reason, "a token was refused");
                (
                    Code::TokenInvalid,
                    "the token was not issued for this program, or was changed",
                    r#"Bearer realm="orderflow", error="invalid_token""#,
                )
            }
            Self::Expired => (
                Code::TokenExpired,
                "the token has expired; get a new one",
                r#"Bearer realm="orderflow", error="invalid_token", error_description="expired""#,
            ),
            Self::NoKeys(reason) => {
                tracing::warn!(reason, "tokens can't be checked");
                return Problem::new(
                    Code::KeysUnavailable,
                    "the keys that check tokens can't be fetched now",
                );
            }
        };
        Problem::new(code, detail)
            .with_header(header::WWW_AUTHENTICATE, header::HeaderValue::from_static(challenge))
    }
}

#[cfg(test)]
mod tests;
