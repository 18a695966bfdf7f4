//! What may be registered. Pure: every fault of a registration is found and named at once.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;
use uuid::Uuid;

use crate::crypto::Secret;
use crate::event::EventType;
use crate::runtime::retry::Schedule;
use crate::store::webhooks::Subscription;

/// No delay between two attempts is longer.
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(12 * 60 * 60);

/// What Standard Webhooks puts in front of a symmetric secret.
pub(super) const SECRET_PREFIX: &str = "whsec_";

const MOST_URL_BYTES: usize = 2_048;
const MOST_EVENTS: usize = 200;
const MOST_ATTEMPTS: i64 = 20;
const SHORTEST_TIMEOUT_MS: i64 = 100;
const LONGEST_TIMEOUT_MS: i64 = 60_000;
const SECRET_CHARACTERS: std::ops::RangeInclusive<usize> = 8..=256;
const SECRET_KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// What holds for every registration.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Plain http is allowed.
    pub allow_http: bool,
    /// The bound on one attempt, where none is asked for.
    pub timeout: Duration,
    /// Endpoints of one tenant, at most.
    pub endpoints_per_tenant: u32,
    /// How long until every process knows of a change.
    pub refresh: Duration,
    /// The event types that the webhook stage sees; nobody can be told of others.
    pub deliverable: BTreeSet<EventType>,
    /// The topology's policy, where neither attempts nor delay are asked for.
    pub policy: Schedule,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Where requests are to go.
    pub url: String,
    /// A secret of the partner's own.
    pub secret: Option<Secret<String>>,
    /// Event types in any spelling; none, or `*`, is all.
    pub events: Vec<String>,
    /// All attempts counted.
    pub retry_attempts: Option<i64>,
    /// The first delay in milliseconds, doubled from attempt to attempt.
    pub retry_delay: Option<i64>,
    /// The bound on one attempt, in milliseconds.
    pub timeout: Option<i64>,
    /// Names the request: asked again under the same name, it is the same endpoint. None is always a new one.
    pub request: Option<Uuid>,
}

/// One thing that is wrong with a registration.
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

/// A registration that is right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) url: String,
    pub(super) events: Subscription,
    pub(super) retry_attempts: Option<u32>,
    pub(super) timeout_ms: i64,
}

impl Rules {
    /// What `registration` comes to, or everything that is wrong with it.
    pub(super) fn check(&self, registration: &Registration) -> Result<Accepted, Vec<FieldFault>> {
        let mut faults = Vec::new();
        let mut refuse = |field: &str, message: String| {
            faults.push(FieldFault { field: field.to_owned(), message, unknown_event: false });
        };
        let url = self.url(&registration.url).map_err(|message| refuse("url", message)).ok();
        if let Some(secret) = &registration.secret
            && let Err(message) = usable(secret.expose())
        {
            refuse("secret", message);
        }
        let mut within = |field: &str, given: Option<i64>, least: i64, most: i64| {
            if given.is_some_and(|given| !(least..=most).contains(&given)) {
                refuse(field, format!("must be between {least} and {most}"));
            }
        };
        let longest_delay = i64::try_from(LONGEST_DELAY.as_millis()).unwrap_or(i64::MAX);
        within("retryAttempts", registration.retry_attempts, 1, MOST_ATTEMPTS);
        within("retryDelay", registration.retry_delay, 1, longest_delay);
        within("timeout", registration.timeout, SHORTEST_TIMEOUT_MS, LONGEST_TIMEOUT_MS);
        let events = self.events(&registration.events, &mut faults);
        match url {
            Some(url) if faults.is_empty() => Ok(Accepted {
                url,
                events,
                retry_attempts: registration.retry_attempts.and_then(|given| u32::try_from(given).ok()),
                timeout_ms: registration
                    .timeout
                    .unwrap_or_else(|| i64::try_from(self.timeout.as_millis()).unwrap_or(LONGEST_TIMEOUT_MS)),
            }),
            Some(_) | None => Err(faults),
        }
    }

    /// The URL in its canonical form.
    fn url(&self, text: &str) -> Result<String, String> {
        if text.len() > MOST_URL_BYTES {
            return Err(format!("must have at most {MOST_URL_BYTES} bytes"));
        }
        let url = Url::parse(text).map_err(|error| format!("isn't a URL: {error}"))?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            "http" => return Err("must be https (plain http is off: webhook.allow_http)".to_owned()),
            _ => return Err("must be https".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user name or password: requests are signed instead".to_owned());
        }
        if url.fragment().is_some() {
            return Err("must not have a fragment: it is never sent".to_owned());
        }
        if url.host_str().is_none_or(str::is_empty) || url.port() == Some(0) {
            return Err("must name a host and a port that can be connected to".to_owned());
        }
        Ok(url.into())
    }

    fn events(&self, names: &[String], faults: &mut Vec<FieldFault>) -> Subscription {
        if names.len() > MOST_EVENTS {
            let message = format!("must name at most {MOST_EVENTS} types");
            faults.push(FieldFault { field: "events".to_owned(), message, unknown_event: false });
            return Subscription::All;
        }
        let mut types = BTreeSet::new();
        let mut all = names.is_empty();
        for (at, name) in names.iter().enumerate() {
            if name == "*" {
                all = true;
                continue;
            }
            let fault = match name.parse::<EventType>() {
                Ok(event_type) if self.deliverable.contains(&event_type) => {
                    types.insert(event_type);
                    continue;
                }
                Ok(event_type) => (format!("webhooks are never told of {}", event_type.as_str()), false),
                Err(unknown) => (unknown.to_string(), true),
            };
            let (message, unknown_event) = fault;
            faults.push(FieldFault { field: format!("events[{at}]"), message, unknown_event });
        }
        if all { Subscription::All } else { Subscription::Only(types.into_iter().collect()) }
    }
}

fn usable(secret: &str) -> Result<(), String> {
    if !SECRET_CHARACTERS.contains(&secret.len()) || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        let (least, most) = SECRET_CHARACTERS.into_inner();
        return Err(format!("must be {least} to {most} printable ASCII characters without spaces"));
    }
    let Some(encoded) = secret.strip_prefix(SECRET_PREFIX) else { return Ok(()) };
    let key = STANDARD.decode(encoded).map_err(|_| format!("must be base64 after {SECRET_PREFIX}"))?;
    if SECRET_KEY_BYTES.contains(&key.len()) {
        return Ok(());
    }
    let (least, most) = SECRET_KEY_BYTES.into_inner();
    Err(format!("must stand for {least} to {most} bytes after {SECRET_PREFIX}"))
}
