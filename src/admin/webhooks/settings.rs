//! What is asked for, and what of it was accepted.

use std::collections::BTreeMap;
use std::fmt;

use uuid::Uuid;

use crate::crypto::{CryptoError, Secret, Vault};
use crate::store::webhooks::{Endpoint, EndpointState, Headers, PastChoices, SignatureScheme, Subscription};
use crate::store::webhooks::{seal_contact, seal_headers};

/// A new endpoint.
#[derive(Debug, Clone, Default)]
pub struct Registration {
    /// Where requests are to go.
    pub url: String,
    /// A secret of the partner's own.
    pub secret: Option<Secret<String>>,
    /// How requests are signed; HMAC unless said.
    pub signature: Option<SignatureScheme>,
    /// Event types in any spelling, and families (`order.*`); none, or `*`, is all.
    pub events: Vec<String>,
    /// Which bodies are wanted of those: JSONPath.
    pub filter: Option<String>,
    /// Headers of the partner's own.
    pub headers: BTreeMap<String, Secret<String>>,
    /// Requests per second, at most.
    pub rate: Option<i64>,
    /// Requests at once, at most.
    pub concurrency: Option<i64>,
    /// All attempts counted.
    pub retry_attempts: Option<i64>,
    /// The first delay in milliseconds, doubled from attempt to attempt.
    pub retry_delay: Option<i64>,
    /// The bound on one attempt, in milliseconds.
    pub timeout: Option<i64>,
    /// The mail address of whoever is told how the endpoint does.
    pub contact: Option<String>,
    /// A few words.
    pub description: Option<String>,
    /// Names the request: asked again under the same name, it is the same endpoint. None is always a new one.
    pub request: Option<Uuid>,
}

/// What is to become of an endpoint's fields: `None` leaves one as it is, and `Some(None)` takes its value away.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Where requests are to go.
    pub url: Option<String>,
    /// Event types and families; none, or `*`, is all.
    pub events: Option<Vec<String>>,
    /// JSONPath.
    pub filter: Option<Option<String>>,
    /// All headers of the partner's own.
    pub headers: Option<BTreeMap<String, Secret<String>>>,
    /// Requests per second.
    pub rate: Option<Option<i64>>,
    /// Requests at once.
    pub concurrency: Option<Option<i64>>,
    /// All attempts counted.
    pub retry_attempts: Option<Option<i64>>,
    /// The first delay in milliseconds.
    pub retry_delay: Option<Option<i64>>,
    /// The bound on one attempt, in milliseconds; taken away it is the default.
    pub timeout: Option<Option<i64>>,
    /// A mail address.
    pub contact: Option<Option<String>>,
    /// A few words.
    pub description: Option<Option<String>>,
}

impl Registration {
    /// The fields that can be changed later.
    pub(super) fn settings(&self) -> Change {
        Change {
            url: Some(self.url.clone()),
            events: Some(self.events.clone()),
            filter: Some(self.filter.clone()),
            headers: Some(self.headers.clone()),
            rate: Some(self.rate),
            concurrency: Some(self.concurrency),
            retry_attempts: Some(self.retry_attempts),
            retry_delay: Some(self.retry_delay),
            timeout: Some(self.timeout),
            contact: Some(self.contact.clone()),
            description: Some(self.description.clone()),
        }
    }
}

/// One thing that is wrong with what is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFault {
    /// The field as the API names it: `events[0]`.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// True when an event type isn't known.
    pub unknown_event: bool,
}

impl fmt::Display for FieldFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A [`Change`] that is right.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) url: Option<String>,
    pub(super) events: Option<Subscription>,
    pub(super) filter: Option<Option<String>>,
    pub(super) headers: Option<Headers>,
    pub(super) rate: Option<Option<u32>>,
    pub(super) concurrency: Option<Option<u32>>,
    pub(super) retry_attempts: Option<Option<u32>>,
    pub(super) retry_delay_ms: Option<Option<i64>>,
    pub(super) timeout_ms: Option<i64>,
    pub(super) contact: Option<Option<String>>,
    pub(super) description: Option<Option<String>>,
}

impl Accepted {
    /// Changes `endpoint` accordingly.
    ///
    /// # Errors
    /// When something can't be sealed; the endpoint is of no use then.
    pub(super) fn apply(self, endpoint: &mut Endpoint, vault: &Vault) -> Result<(), CryptoError> {
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        if let Some(events) = self.events {
            endpoint.events_before = endpoint.events_before.with(&endpoint.events);
            endpoint.events = events;
        }
        if let Some(headers) = self.headers {
            endpoint.headers = seal_headers(vault, &endpoint.tenant, &headers)?;
        }
        if let Some(contact) = self.contact {
            endpoint.contact = contact.map(|contact| seal_contact(vault, endpoint, &contact)).transpose()?;
        }
        set(&mut endpoint.url, self.url);
        set(&mut endpoint.filter, self.filter);
        set(&mut endpoint.rate, self.rate);
        set(&mut endpoint.concurrency, self.concurrency);
        set(&mut endpoint.retry_attempts, self.retry_attempts);
        set(&mut endpoint.retry_delay_ms, self.retry_delay_ms);
        set(&mut endpoint.timeout_ms, self.timeout_ms);
        set(&mut endpoint.description, self.description);
        Ok(())
    }
}

/// An endpoint of which only these are known; [`Accepted::apply`] and its secrets make it whole.
pub(super) fn blank(tenant: &str, id: String, owner: Option<&str>, now_ms: i64) -> Endpoint {
    Endpoint {
        tenant: tenant.to_owned(),
        id,
        url: String::new(),
        events: Subscription::Only(Vec::new()),
        events_before: Subscription::Only(Vec::new()),
        filter: None,
        choices: PastChoices::default(),
        headers: None,
        rate: None,
        concurrency: None,
        retry_attempts: None,
        retry_delay_ms: None,
        timeout_ms: 0,
        secrets: crate::crypto::Sealed::from_bytes(Vec::new()),
        contact: None,
        description: None,
        state: EndpointState::Enabled,
        generation: 1,
        failing_since: None,
        owner: owner.map(str::to_owned),
        created_at: now_ms,
        updated_at: now_ms,
    }
}
