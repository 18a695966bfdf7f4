//! The keys that check tokens, each for exactly one algorithm, and how they are kept fresh.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::Mutex;
use url::{Host, Url};

use super::TokenFault;
use crate::clock::Clock;
use crate::http::HttpOptions;

/// HS256 needs a key of at least its hash's size (RFC 7518, section 3.2).
pub(super) const SHORTEST_SECRET: usize = 32;
/// More keys than this are no key set but an attack on our time.
const MAX_KEYS: usize = 64;
/// The largest key set, in bytes.
const MAX_BYTES: usize = 256 * 1024;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// A token with an unknown key makes us look again, but not more often than this.
const LOOK_AGAIN_MS: i64 = 30_000;

/// Why tokens can't be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum AuthSetupError {
    /// Neither secret nor key set.
    #[error("nothing checks tokens: set http.jwt_secret, http.jwks_file or http.jwks_url")]
    NothingToCheckWith,
    /// Too easy to guess.
    #[error("http.jwt_secret must have at least {shortest} bytes (make one with: openssl rand -base64 48)")]
    ShortSecret {
        /// Bytes.
        shortest: usize,
    },
    /// Both name the same thing.
    #[error("http.jwks_file and http.jwks_url are both set; one of them must say where the keys are")]
    TwoSources,
    /// The key set can't be read or holds no key we can use.
    #[error("the key set {from}: {reason}")]
    KeySet {
        /// File or URL.
        from: String,
        /// What is wrong.
        reason: String,
    },
    /// An origin in `http.cors_origins` isn't one.
    #[error("http.cors_origins: {0:?} is not an origin such as https://shop.example")]
    BadOrigin(String),
}

#[derive(Debug, Clone)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: Arc<DecodingKey>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Url { url: Url, client: reqwest::Client },
}

#[derive(Debug)]
pub(super) struct KeySet {
    /// From the secret; never changes.
    fixed: Vec<Key>,
    source: Option<Source>,
    /// From the source, as last read.
    read: RwLock<Vec<Key>>,
    /// When the source was last asked, epoch milliseconds; the lock lets one ask at a time.
    asked_at_ms: Mutex<Option<i64>>,
    refresh: Duration,
    clock: Clock,
}

impl KeySet {
    pub(super) fn load(
        secret: Option<&[u8]>,
        options: &HttpOptions,
        clock: Clock,
    ) -> Result<Self, AuthSetupError> {
        let fixed: Vec<Key> = secret
            .map(|secret| Key {
                id: None,
                algorithm: Algorithm::HS256,
                key: Arc::new(DecodingKey::from_secret(secret)),
            })
            .into_iter()
            .collect();
        let source = match (&options.jwks_file, &options.jwks_url) {
            (Some(_), Some(_)) => return Err(AuthSetupError::TwoSources),
            (Some(file), None) => Some(Source::File(file.clone())),
            (None, Some(url)) => Some(Source::url(url)?),
            (None, None) if fixed.is_empty() => return Err(AuthSetupError::NothingToCheckWith),
            (None, None) => None,
        };
        let read = match &source {
            Some(Source::File(file)) => {
                let refuse = |reason| AuthSetupError::KeySet { from: file.display().to_string(), reason };
                let bytes = std::fs::read(file).map_err(|error| refuse(error.to_string()))?;
                parse(&bytes).map_err(refuse)?
            }
            Some(Source::Url { .. }) | None => Vec::new(),
        };
        Ok(Self {
            fixed,
            source,
            read: RwLock::new(read),
            asked_at_ms: Mutex::new(None),
            refresh: options.jwks_refresh.max(Duration::from_secs(1)),
            clock,
        })
    }

    /// The keys that may have signed a token of this algorithm and key id.
    pub(super) async fn matching(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> Result<Vec<Arc<DecodingKey>>, TokenFault> {
        let found = self.held(algorithm, id);
        if !found.is_empty() || self.source.is_none() || algorithm == Algorithm::HS256 {
            return Ok(found);
        }
        let looked = self.look_again().await;
        let found = self.held(algorithm, id);
        if self.read.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return Err(TokenFault::NoKeys(
                looked.err().unwrap_or_else(|| "none could be read yet".to_owned()),
            ));
        }
        Ok(found)
    }

    fn held(&self, algorithm: Algorithm, id: Option<&str>) -> Vec<Arc<DecodingKey>> {
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        self.fixed
            .iter()
            .chain(read.iter())
            .filter(|key| key.algorithm == algorithm)
            .filter(|key| key.id.is_none() || id.is_none() || key.id.as_deref() == id)
            .map(|key| Arc::clone(&key.key))
            .collect()
    }

    /// Reads the source unless that was done a moment ago.
    async fn look_again(&self) -> Result<(), String> {
        let mut asked_at = self.asked_at_ms.lock().await;
        let now = self.clock.now_ms();
        if asked_at.is_some_and(|at| now - at < LOOK_AGAIN_MS) {
            return Ok(());
        }
        *asked_at = Some(now);
        self.reload().await
    }

    async fn reload(&self) -> Result<(), String> {
        let Some(source) = &self.source else { return Ok(()) };
        let keys = parse(&source.bytes().await?)?;
        *self.read.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    pub(super) async fn keep_fresh(&self) {
        loop {
            self.clock.sleep(self.refresh).await;
            if let Err(reason) = self.reload().await {
                tracing::warn!(reason, "the key set can't be read again; the keys read before stay in use");
            }
        }
    }
}

impl Source {
    /// Whoever can change the keys on their way can be anybody, so they come over TLS, or from this machine.
    fn url(url: &Url) -> Result<Self, AuthSetupError> {
        let here = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && here) {
            let reason = "must be an https URL (http only on this machine)".to_owned();
            return Err(AuthSetupError::KeySet { from: url.to_string(), reason });
        }
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| AuthSetupError::KeySet { from: url.to_string(), reason: error.to_string() })?;
        Ok(Self::Url { url: url.clone(), client })
    }

    async fn bytes(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::File(file) => tokio::fs::read(file).await.map_err(|error| error.to_string()),
            Self::Url { url, client } => {
                let asked = client.get(url.clone()).send().await;
                let mut answer =
                    asked.and_then(reqwest::Response::error_for_status).map_err(|error| error.to_string())?;
                let mut bytes = Vec::new();
                while let Some(chunk) = answer.chunk().await.map_err(|error| error.to_string())? {
                    bytes.extend_from_slice(&chunk);
                    if bytes.len() > MAX_BYTES {
                        return Err(format!("it is larger than {MAX_BYTES} bytes"));
                    }
                }
                Ok(bytes)
            }
        }
    }
}

/// The usable keys of a JSON Web Key Set (RFC 7517). Keys of other kinds or uses are left out; secrets
/// (`oct`) have no place in a public set and are never taken from one.
fn parse(bytes: &[u8]) -> Result<Vec<Key>, String> {
    #[derive(serde::Deserialize)]
    struct Raw {
        keys: Vec<serde_json::Value>,
    }
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| format!("is no key set: {error}"))?;
    if raw.keys.len() > MAX_KEYS {
        return Err(format!("holds more than {MAX_KEYS} keys"));
    }
    let set =
        JwkSet { keys: raw.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect() };
    let keys: Vec<Key> = set.keys.iter().filter_map(usable).collect();
    if keys.is_empty() { Err("holds no RS256, ES256 or EdDSA key".to_owned()) } else { Ok(keys) }
}

fn usable(jwk: &Jwk) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|meant| *meant != PublicKeyUse::Signature) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        AlgorithmParameters::EllipticCurve(_)
        | AlgorithmParameters::OctetKeyPair(_)
        | AlgorithmParameters::OctetKey(_) => return None,
    };
    if jwk.common.key_algorithm.is_some_and(|named| named.to_string() != format!("{algorithm:?}")) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key { id: jwk.common.key_id.clone(), algorithm, key: Arc::new(key) })
}
