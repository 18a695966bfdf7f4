//! An endpoint as deliveries need it: address parsed, keys made, subscription a set. Built once per change.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use url::Url;

use super::signature::Signer;
use super::verdict::LONGEST_WAIT;
use crate::crypto::Vault;
use crate::event::{BodyFilter, EventType};
use crate::runtime::retry::Schedule;
use crate::runtime::{Record, TargetState};
use crate::store::webhook_starts::At;
use crate::store::webhooks::{Endpoint, EndpointState, PastChoice, Subscription, open_headers, open_secrets};

/// An endpoint, ready to be delivered to.
#[derive(Debug)]
pub(super) struct Target {
    /// The tenant.
    pub(super) tenant: Arc<str>,
    /// The registration's id.
    pub(super) id: Arc<str>,
    /// What requests need, or in words why none can be sent: its events then fail by schedule, seen by all.
    pub(super) ready: Result<Ready, String>,
    /// When failed deliveries are tried again.
    pub(super) schedule: Schedule,
    /// The bound on one whole attempt.
    pub(super) timeout: Duration,
    /// Requests per second that it is told with, at most.
    pub(super) rate: Option<u32>,
    /// Requests that it gets at once, at most.
    pub(super) concurrency: Option<u32>,
    /// Whether it is delivered to.
    pub(super) state: EndpointState,
    /// Which of its starts this is: what came of attempts at an earlier one says nothing of it.
    pub(super) generation: i64,
    /// Where it begins, by topic and partition: what lies below was there before it was registered.
    pub(super) starts: Vec<(At, i64)>,
    /// What it chooses.
    pub(super) choice: Choice,
    /// What it chose before, and where that still holds.
    past: Vec<(PastChoice, Choice)>,
}

/// What an endpoint is told of.
#[derive(Debug)]
pub(super) struct Choice {
    /// Which types, by their places in [`EventType::ALL`].
    pub(super) types: Arc<[bool]>,
    filter: Option<Result<BodyFilter, String>>,
}

/// What requests to an endpoint need.
#[derive(Debug)]
pub(super) struct Ready {
    /// The endpoint's id, as it is told.
    pub(super) id: HeaderValue,
    /// Where they go.
    pub(super) address: Address,
    /// The secrets, newest first; never empty.
    pub(super) signers: Vec<Signer>,
    /// The endpoint's own headers.
    pub(super) own_headers: HeaderMap,
}

/// Where requests go.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// Whether the connection is TLS.
    pub(super) tls: bool,
    /// The host.
    pub(super) host: Host,
    /// The port.
    pub(super) port: u16,
    /// Scheme, host and port: connections are shared by requests of one origin.
    pub(super) origin: Arc<str>,
    /// The header `Host`.
    pub(super) host_header: HeaderValue,
    /// Path and query.
    pub(super) path: Uri,
}

/// A name that must be resolved, or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A DNS name.
    Name(String),
    /// An address.
    Literal(IpAddr),
}

impl Target {
    /// The target that `endpoint` describes at `now_ms`; `policy` holds where it names no schedule.
    pub(super) fn of(endpoint: &Endpoint, vault: &Vault, policy: &Schedule, now_ms: i64) -> Self {
        let past = endpoint.choices.iter().map(|past| {
            let choice = Choice::of(&past.events, past.filter.as_deref());
            (past.clone(), choice)
        });
        let first = endpoint.retry_delay_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        Self {
            tenant: endpoint.tenant.as_str().into(),
            id: endpoint.id.as_str().into(),
            ready: Ready::of(endpoint, vault, now_ms),
            schedule: policy.overridden(endpoint.retry_attempts, first, LONGEST_WAIT),
            timeout: Duration::from_millis(u64::try_from(endpoint.timeout_ms).unwrap_or_default()),
            rate: endpoint.rate,
            concurrency: endpoint.concurrency,
            state: endpoint.state.clone(),
            generation: endpoint.generation,
            starts: Vec::new(),
            choice: Choice::of(&endpoint.events, endpoint.filter.as_deref()),
            past: past.collect(),
        }
    }

    /// What it chose when `record` was published.
    pub(super) fn choice_for(&self, record: &Record) -> &Choice {
        let holds = |past: &PastChoice| past.holds(&record.topic, record.partition, record.offset);
        self.past.iter().find(|(past, _)| holds(past)).map_or(&self.choice, |(_, choice)| choice)
    }

    /// Whether it chose otherwise before.
    pub(super) fn has_chosen_before(&self) -> bool {
        !self.past.is_empty()
    }

    /// Whether `record` was there before it was registered.
    pub(super) fn begins_behind(&self, record: &Record) -> bool {
        let lies = |(topic, partition): &At| *partition == record.partition && **topic == *record.topic;
        self.starts.iter().any(|(at, start)| record.offset < *start && lies(at))
    }

    /// Whether it is to be served now.
    pub(super) fn serving(&self) -> TargetState {
        match &self.state {
            EndpointState::Enabled => TargetState::Flowing,
            EndpointState::Paused => TargetState::Held("the endpoint is paused".into()),
            EndpointState::Disabled(_) => TargetState::Held("the endpoint is disabled".into()),
        }
    }
}

impl Choice {
    fn of(events: &Subscription, filter: Option<&str>) -> Self {
        Self {
            types: EventType::ALL.iter().map(|event_type| events.takes(*event_type)).collect(),
            filter: filter.map(|text| BodyFilter::parse(text).map_err(|error| error.to_string())),
        }
    }

    /// Whether events of `event_type` are among it.
    pub(super) fn takes(&self, event_type: EventType) -> bool {
        self.types.get(event_type as usize).copied().unwrap_or(false)
    }

    /// Whether it is one among bodies.
    pub(super) fn chooses(&self) -> bool {
        self.filter.is_some()
    }

    /// Whether this body is wanted. A filter that this program can't read, which only a newer one can have stored,
    /// lets everything pass: too much is told sooner than too little.
    pub(super) fn wants(&self, body: &Value) -> bool {
        match &self.filter {
            Some(Ok(filter)) => filter.passes(body),
            Some(Err(_)) | None => true,
        }
    }
}

impl Ready {
    fn of(endpoint: &Endpoint, vault: &Vault, now_ms: i64) -> Result<Self, String> {
        let secrets = open_secrets(vault, endpoint).map_err(|error| error.to_string())?;
        let active = secrets.iter().filter(|secret| secret.signs(now_ms));
        let signers: Vec<Signer> = active.map(Signer::of).collect::<Result<_, _>>()?;
        if signers.is_empty() {
            return Err("it has no active secret".to_owned());
        }
        let mut own_headers = HeaderMap::new();
        for (name, value) in open_headers(vault, endpoint).map_err(|error| error.to_string())? {
            let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
            let mut value = HeaderValue::try_from(value.expose()).map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            own_headers.insert(name, value);
        }
        let id = HeaderValue::try_from(&endpoint.id).map_err(|error| error.to_string())?;
        Ok(Self { id, address: Address::of(&endpoint.url)?, signers, own_headers })
    }
}

impl Address {
    /// The address that `url` names, or in words why it names none.
    pub(super) fn of(url: &str) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| format!("the URL can't be parsed: {error}"))?;
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(format!("the scheme {other} isn't one of webhooks")),
        };
        let host = match url.host() {
            Some(url::Host::Domain(name)) => Host::Name(name.to_owned()),
            Some(url::Host::Ipv4(ip)) => Host::Literal(IpAddr::V4(ip)),
            Some(url::Host::Ipv6(ip)) => Host::Literal(IpAddr::V6(ip)),
            None => return Err("the URL has no host".to_owned()),
        };
        let shown = url.host_str().unwrap_or_default();
        let authority = url.port().map_or_else(|| shown.to_owned(), |port| format!("{shown}:{port}"));
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self {
            tls,
            host,
            port: url.port_or_known_default().unwrap_or(if tls { 443 } else { 80 }),
            origin: url.origin().ascii_serialization().into(),
            host_header: HeaderValue::from_str(&authority).map_err(|error| error.to_string())?,
            path: path.parse().map_err(|error: hyper::http::uri::InvalidUri| error.to_string())?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::crypto::Secret;
    use crate::store::webhooks::SigningSecret;

    /// What requests to an endpoint called `id` with these headers of its own need.
    pub(in crate::stages::webhook) fn ready(id: &'static str, own: &[(&'static str, &'static str)]) -> Ready {
        let secret = Secret::new("whsec_AAAA".to_owned());
        let secret = SigningSecret { secret, created_at: 0, expires_at: None, request: None };
        let own =
            own.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Ready {
            id: HeaderValue::from_static(id),
            address: Address::of("http://127.0.0.1:1/").unwrap(),
            signers: vec![Signer::of(&secret).unwrap()],
            own_headers: own.collect(),
        }
    }

    #[test]
    fn addresses_are_taken_apart_as_registered() {
        let address = Address::of("https://hooks.example.com/a%20b?x=1&y=2#gone").unwrap();
        assert!(address.tls);
        assert_eq!((address.port, address.host), (443, Host::Name("hooks.example.com".to_owned())));
        assert_eq!(address.path.to_string(), "/a%20b?x=1&y=2");
        assert_eq!(address.host_header, "hooks.example.com");

        let address = Address::of("http://[::1]:8080").unwrap();
        assert_eq!(address.host, Host::Literal("::1".parse().unwrap()));
        assert_eq!(
            (address.host_header.to_str().unwrap(), address.path.to_string()),
            ("[::1]:8080", "/".to_owned())
        );
        // The URL standard reads these as the address that they are.
        assert_eq!(
            Address::of("http://2130706433/").unwrap().host,
            Host::Literal("127.0.0.1".parse().unwrap())
        );

        for bad in ["ftp://example.com", "not a url", "http://"] {
            assert!(Address::of(bad).is_err(), "{bad}");
        }
    }
}
