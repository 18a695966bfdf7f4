//! What may be registered. Pure: every fault of what is asked for is found and named at once.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::own_headers;
use super::settings::{Accepted, Change, FieldFault, Registration};
use crate::crypto::SigningKey;
use crate::event::{BodyFilter, EventPattern, EventType, PatternError};
use crate::runtime::retry::Schedule;
use crate::store::webhooks::{SignatureScheme, Subscription};

/// No delay between two attempts is longer.
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(12 * 60 * 60);

/// What Standard Webhooks puts in front of a symmetric secret.
pub(super) const SECRET_PREFIX: &str = "whsec_";

const MOST_URL_BYTES: usize = 2_048;
const MOST_EVENTS: usize = 200;
const MOST_ATTEMPTS: i64 = 20;
const MOST_PER_SECOND: i64 = 10_000;
const MOST_AT_ONCE: i64 = 1_000;
const MOST_DESCRIPTION_BYTES: usize = 200;
/// RFC 5321: a path has at most 256 characters with its brackets.
const MOST_CONTACT_BYTES: usize = 254;
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

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<FieldFault>);

impl Faults {
    pub(super) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        let (field, message) = (field.into(), message.into());
        self.0.push(FieldFault { field, message, unknown_event: false });
    }

    /// The value, or nothing and what is wrong with it.
    fn take<T>(&mut self, field: &str, checked: Result<T, String>) -> Option<T> {
        checked.map_err(|message| self.add(field, message)).ok()
    }

    /// A number that may be left out or taken away, within its bounds.
    fn number(
        &mut self,
        field: &str,
        given: Option<Option<i64>>,
        least: i64,
        most: i64,
    ) -> Option<Option<i64>> {
        if given.flatten().is_some_and(|given| !(least..=most).contains(&given)) {
            self.add(field, format!("must be between {least} and {most}"));
        }
        given
    }

    fn ended<T>(self, value: T) -> Result<T, Vec<FieldFault>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

impl Rules {
    /// What `registration` comes to, or everything that is wrong with it.
    pub(super) fn check(&self, registration: &Registration) -> Result<Accepted, Vec<FieldFault>> {
        let mut faults = Faults::default();
        if let Some(secret) = &registration.secret {
            let scheme = registration.signature.unwrap_or(SignatureScheme::Hmac);
            faults.take("secret", usable(secret.expose(), scheme));
        }
        let accepted = self.settle(&registration.settings(), &mut faults);
        faults.ended(accepted)
    }

    /// What `change` comes to, or everything that is wrong with it. What isn't changed isn't asked about.
    pub(super) fn check_change(&self, change: &Change) -> Result<Accepted, Vec<FieldFault>> {
        let mut faults = Faults::default();
        let accepted = self.settle(change, &mut faults);
        faults.ended(accepted)
    }

    fn settle(&self, change: &Change, faults: &mut Faults) -> Accepted {
        let url = change.url.as_ref().and_then(|url| faults.take("url", self.url(url)));
        let events = change.events.as_ref().map(|events| self.events(events, faults));
        let filter = change.filter.as_ref().and_then(|filter| {
            let checked =
                filter.as_deref().map(|text| BodyFilter::parse(text).map(|filter| filter.to_string()));
            faults.take("filter", checked.transpose().map_err(|error| error.to_string()))
        });
        let headers = change.headers.as_ref().map(|headers| own_headers::check(headers, faults));
        let small =
            |given: Option<Option<i64>>| given.map(|given| given.and_then(|given| u32::try_from(given).ok()));
        let longest_delay = i64::try_from(LONGEST_DELAY.as_millis()).unwrap_or(i64::MAX);
        let usual_timeout = i64::try_from(self.timeout.as_millis()).unwrap_or(LONGEST_TIMEOUT_MS);
        Accepted {
            url,
            events,
            filter,
            headers,
            rate: small(faults.number("rate", change.rate, 1, MOST_PER_SECOND)),
            concurrency: small(faults.number("concurrency", change.concurrency, 1, MOST_AT_ONCE)),
            retry_attempts: small(faults.number("retryAttempts", change.retry_attempts, 1, MOST_ATTEMPTS)),
            retry_delay_ms: faults.number("retryDelay", change.retry_delay, 1, longest_delay),
            timeout_ms: faults
                .number("timeout", change.timeout, SHORTEST_TIMEOUT_MS, LONGEST_TIMEOUT_MS)
                .map(|given| given.unwrap_or(usual_timeout)),
            contact: change
                .contact
                .as_ref()
                .and_then(|contact| faults.take("contact", contact.as_deref().map(mail_address).transpose())),
            description: change
                .description
                .as_ref()
                .and_then(|words| faults.take("description", words.as_deref().map(few_words).transpose())),
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

    fn events(&self, names: &[String], faults: &mut Faults) -> Subscription {
        if names.len() > MOST_EVENTS {
            faults.add("events", format!("must name at most {MOST_EVENTS} types"));
            return Subscription::All;
        }
        let mut patterns = BTreeSet::new();
        let mut all = names.is_empty();
        for (at, name) in names.iter().enumerate() {
            if name == "*" {
                all = true;
                continue;
            }
            let (message, unknown_event) = match name.parse::<EventPattern>() {
                Ok(pattern) if self.deliverable.iter().any(|known| pattern.matches(*known)) => {
                    patterns.insert(pattern);
                    continue;
                }
                Ok(pattern) => (format!("webhooks are never told of {pattern}"), false),
                Err(error @ (PatternError::Unknown(_) | PatternError::NoFamily(_))) => {
                    (error.to_string(), true)
                }
            };
            faults.0.push(FieldFault { field: format!("events[{at}]"), message, unknown_event });
        }
        if all { Subscription::All } else { Subscription::Only(patterns.into_iter().collect()) }
    }
}

/// Whether `secret` may be a partner's own.
pub(super) fn usable(secret: &str, scheme: SignatureScheme) -> Result<(), String> {
    match scheme {
        SignatureScheme::Hmac => {}
        SignatureScheme::Ed25519 => {
            return Err("must be left out: a key pair is made here, so that its private key travels nowhere"
                .to_owned());
        }
    }
    if !SECRET_CHARACTERS.contains(&secret.len()) || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        let (least, most) = SECRET_CHARACTERS.into_inner();
        return Err(format!("must be {least} to {most} printable ASCII characters without spaces"));
    }
    if SigningKey::is_private(secret) {
        return Err("must not be a private key".to_owned());
    }
    let Some(encoded) = secret.strip_prefix(SECRET_PREFIX) else { return Ok(()) };
    let key = STANDARD.decode(encoded).map_err(|_| format!("must be base64 after {SECRET_PREFIX}"))?;
    if SECRET_KEY_BYTES.contains(&key.len()) {
        return Ok(());
    }
    let (least, most) = SECRET_KEY_BYTES.into_inner();
    Err(format!("must stand for {least} to {most} bytes after {SECRET_PREFIX}"))
}

/// One plain address: what is before the `@` and a name with a dot behind it. That it takes mail is seen by sending some.
fn mail_address(text: &str) -> Result<String, String> {
    let plain = |part: &str| {
        part.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c))
            && !part.starts_with('.')
            && !part.ends_with('.')
            && !part.contains("..")
            && !part.is_empty()
    };
    match text.rsplit_once('@') {
        Some((local, domain))
            if text.len() <= MOST_CONTACT_BYTES && plain(local) && plain(domain) && domain.contains('.') =>
        {
            Ok(text.to_owned())
        }
        Some(_) | None => Err("must be one mail address, as in ops@partner.example".to_owned()),
    }
}

fn few_words(text: &str) -> Result<String, String> {
    if text.len() > MOST_DESCRIPTION_BYTES || text.chars().any(char::is_control) {
        return Err(format!("must have at most {MOST_DESCRIPTION_BYTES} bytes and be one line"));
    }
    Ok(text.to_owned())
}
