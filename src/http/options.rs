//! `[http]` in the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::crypto::Secret;

/// How the API listens, whom it believes and what it refuses by size and time.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpOptions {
    /// Where it listens; loopback unless told otherwise.
    pub bind: SocketAddr,
    /// Where a process that serves no API tells its metrics and health; nowhere when not set.
    pub observe_bind: Option<SocketAddr>,
    /// Checks tokens signed with HS256. At least 32 bytes (RFC 7518, section 3.2).
    pub jwt_secret: Option<Secret<String>>,
    /// A JSON Web Key Set whose public keys check RS256, ES256 and EdDSA tokens.
    pub jwks_file: Option<PathBuf>,
    /// The same from a URL, fetched again every `jwks_refresh`.
    pub jwks_url: Option<Url>,
    /// How often the key set is read again.
    #[serde(with = "humantime_serde")]
    pub jwks_refresh: Duration,
    /// What a token's `iss` must be.
    pub issuer: String,
    /// What a token's `aud` must be or contain.
    pub audience: String,
    /// Origins whose pages may call the API and open the live socket; none by default.
    pub cors_origins: Vec<String>,
    /// When set, `/metrics` asks for it as a bearer token.
    pub metrics_token: Option<Secret<String>>,
    /// Connections at once; further ones wait until one ends. Live sockets don't count: `live.max_clients`.
    pub max_connections: u32,
    /// How long a connection may take to send the header of a request, or the next one.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// The largest request body taken, in bytes.
    pub max_body_bytes: usize,
    /// How long a request may take before it is answered with 503.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// How long to wait for Kafka's acknowledgement before answering 503; shorter than `request_timeout`.
    #[serde(with = "humantime_serde")]
    pub publish_timeout: Duration,
    /// How long an answer is kept for the same `Idempotency-Key`.
    #[serde(with = "humantime_serde")]
    pub idempotency_ttl: Duration,
    /// How long open requests may take to end at shutdown.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            observe_bind: None,
            jwt_secret: None,
            jwks_file: None,
            jwks_url: None,
            jwks_refresh: Duration::from_secs(600),
            issuer: "orderflow".to_owned(),
            audience: "orderflow".to_owned(),
            cors_origins: Vec::new(),
            metrics_token: None,
            max_connections: 10_000,
            header_timeout: Duration::from_secs(10),
            max_body_bytes: 1024 * 1024,
            request_timeout: Duration::from_secs(15),
            publish_timeout: Duration::from_secs(10),
            idempotency_ttl: Duration::from_secs(24 * 3600),
            drain: Duration::from_secs(10),
        }
    }
}
