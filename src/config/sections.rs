//! Sections whose component isn't ours to change: plain values that `cli` turns into its options.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use crate::crypto::Secret;

/// The HTTP API (`[http]`).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSection {
    /// Where it listens.
    pub bind: SocketAddr,
    /// Checks tokens signed with HS256.
    pub jwt_secret: Option<Secret<String>>,
    /// Public keys that check tokens signed with RS256, ES256 or EdDSA.
    pub jwks_file: Option<PathBuf>,
    /// What a token's `iss` must be.
    pub issuer: String,
    /// What a token's `aud` must be.
    pub audience: String,
    /// Origins whose pages may call the API.
    pub cors_origins: Vec<String>,
    /// What /metrics asks for, when set.
    pub metrics_token: Option<Secret<String>>,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
            jwt_secret: None,
            jwks_file: None,
            issuer: "orderflow".to_owned(),
            audience: "orderflow".to_owned(),
            cors_origins: Vec::new(),
            metrics_token: None,
        }
    }
}
