//! What is sent to register or change an endpoint. Bounds are `admin::webhooks`' business.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::admin::webhooks::{Change, Registration};
use crate::crypto::Secret;
use crate::http::Problem;
use crate::store::webhooks::SignatureScheme;

/// An endpoint to be registered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct RegisterRequest {
    /// Where requests go: https, unless plain http is allowed.
    url: String,
    /// A secret of your own: `whsec_` and base64, or 8 to 256 printable characters. Left out, one is made.
    #[schema(value_type = Option<String>)]
    secret: Option<Secret<String>>,
    /// How requests are signed: `hmac` (a shared secret; when left out) or `ed25519` (a key pair that is made here).
    signature: Option<String>,
    /// Event types in any spelling and families (`order.*`); none, or `*`, is all.
    #[serde(default)]
    events: Vec<String>,
    /// JSONPath (RFC 9535, a subset): bodies of which it selects nothing are not delivered. At most 500 bytes.
    filter: Option<String>,
    /// Headers of your own that every request carries, at most 20. Their values are not told again.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    headers: BTreeMap<String, Secret<String>>,
    /// Requests per second, at most: 1 to 10000.
    rate: Option<i64>,
    /// Requests at once, at most: 1 to 1000, and never more than `webhook.concurrency_per_endpoint`.
    concurrency: Option<i64>,
    /// How many attempts there are, the first included: 1 to 20.
    retry_attempts: Option<i64>,
    /// Milliseconds before the second attempt; doubled from there, at most 12 hours.
    retry_delay: Option<i64>,
    /// Milliseconds that one whole attempt may take: 100 to 60000.
    timeout: Option<i64>,
    /// The mail address of whoever is to be told when the endpoint fails, is disabled or recovers.
    contact: Option<String>,
    /// A few words, at most 200 bytes.
    description: Option<String>,
}

impl RegisterRequest {
    /// What is asked for, by the request of that name.
    pub(super) fn registration(self, request: Option<Uuid>) -> Result<Registration, Problem> {
        Ok(Registration {
            url: self.url,
            secret: self.secret,
            signature: signature(self.signature.as_deref())?,
            events: self.events,
            filter: self.filter,
            headers: self.headers,
            rate: self.rate,
            concurrency: self.concurrency,
            retry_attempts: self.retry_attempts,
            retry_delay: self.retry_delay,
            timeout: self.timeout,
            contact: self.contact,
            description: self.description,
            request,
        })
    }
}

/// The scheme called `name`.
pub(super) fn signature(name: Option<&str>) -> Result<Option<SignatureScheme>, Problem> {
    let Some(name) = name else { return Ok(None) };
    match SignatureScheme::parse(name) {
        Some(scheme) => Ok(Some(scheme)),
        None => Err(Problem::field("signature", "must be hmac or ed25519")),
    }
}

/// What is to become of an endpoint. Fields that are left out stay; null takes a value away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct ChangeRequest {
    /// Where requests go.
    url: Option<String>,
    /// Event types and families, in place of those there are.
    events: Option<Vec<String>>,
    /// JSONPath.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    filter: Option<Option<String>>,
    /// All headers of your own, in place of those there are.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    headers: Option<BTreeMap<String, Secret<String>>>,
    /// Requests per second.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>)]
    rate: Option<Option<i64>>,
    /// Requests at once.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>)]
    concurrency: Option<Option<i64>>,
    /// All attempts.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>)]
    retry_attempts: Option<Option<i64>>,
    /// The first delay in milliseconds.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>)]
    retry_delay: Option<Option<i64>>,
    /// Milliseconds of one attempt; null is the default.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>)]
    timeout: Option<Option<i64>>,
    /// A mail address.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    contact: Option<Option<String>>,
    /// A few words.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
}

/// A field that is there, also when it is null.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl ChangeRequest {
    /// What is asked for.
    pub(super) fn change(self) -> Change {
        Change {
            url: self.url,
            events: self.events,
            filter: self.filter,
            headers: self.headers,
            rate: self.rate,
            concurrency: self.concurrency,
            retry_attempts: self.retry_attempts,
            retry_delay: self.retry_delay,
            timeout: self.timeout,
            contact: self.contact,
            description: self.description,
        }
    }
}
