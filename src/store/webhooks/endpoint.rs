//! What an endpoint is.

use std::fmt;

use super::choices::PastChoices;
use crate::crypto::Sealed;
use crate::event::{EventPattern, EventType};

/// What an endpoint is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscription {
    /// Every event, also of types that come later.
    All,
    /// What these patterns mean.
    Only(Vec<EventPattern>),
}

impl Subscription {
    /// Whether events of `event_type` are among it.
    pub fn takes(&self, event_type: EventType) -> bool {
        match self {
            Self::All => true,
            Self::Only(patterns) => patterns.iter().any(|pattern| pattern.matches(event_type)),
        }
    }

    /// Its patterns in words; `*` is all.
    pub fn patterns(&self) -> Vec<String> {
        match self {
            Self::All => vec!["*".to_owned()],
            Self::Only(patterns) => patterns.iter().map(ToString::to_string).collect(),
        }
    }

    /// Reads what [`fmt::Display`] wrote. Names that a newer program wrote and this one doesn't know are left out:
    /// their events are unknown here too.
    pub(super) fn written(text: &str) -> Self {
        match text {
            "*" => Self::All,
            names => Self::Only(names.split_whitespace().filter_map(EventPattern::written).collect()),
        }
    }

    /// This and `other` together.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Only(ours), Self::Only(theirs)) => {
                let mut both: Vec<_> = ours.iter().chain(theirs).cloned().collect();
                both.sort();
                both.dedup();
                Self::Only(both)
            }
        }
    }
}

/// `*`, or the patterns with spaces between them.
impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.patterns().join(" "))
    }
}

/// Whether an endpoint is delivered to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointState {
    /// It is.
    Enabled,
    /// It isn't, because somebody said so; what concerns it is kept for it.
    Paused,
    /// It isn't, because of what it did, and why.
    Disabled(String),
}

impl EndpointState {
    /// The names of all states.
    pub const NAMES: [&'static str; 3] = ["enabled", "paused", "disabled"];

    /// The name in the store, the API and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Paused => "paused",
            Self::Disabled(_) => "disabled",
        }
    }
}

/// A registered endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The tenant.
    pub tenant: String,
    /// Its id, unique in the tenant.
    pub id: String,
    /// Where requests go.
    pub url: String,
    /// What it is told of.
    pub events: Subscription,
    /// What it was told of before and perhaps isn't any more: work for it may still wait.
    pub events_before: Subscription,
    /// Which bodies it wants of those ([`crate::event::BodyFilter`]); `None` is all.
    pub filter: Option<String>,
    /// What it chose before, and where that still holds.
    pub choices: PastChoices,
    /// The sealed headers that its requests carry besides ours; see [`super::open_headers`].
    pub headers: Option<Sealed>,
    /// Requests per second, at most.
    pub rate: Option<u32>,
    /// Requests at once, at most.
    pub concurrency: Option<u32>,
    /// All attempts counted; `None` leaves it to the topology's policy.
    pub retry_attempts: Option<u32>,
    /// The first delay in milliseconds, doubled from attempt to attempt; `None` leaves it to the policy.
    pub retry_delay_ms: Option<i64>,
    /// The bound on one whole attempt, in milliseconds.
    pub timeout_ms: i64,
    /// The sealed list of [`super::SigningSecret`]s; see [`super::open_secrets`].
    pub secrets: Sealed,
    /// The sealed mail address of whoever is told how it does; see [`super::open_contact`].
    pub contact: Option<Sealed>,
    /// A few words of its owner's.
    pub description: Option<String>,
    /// Whether it is delivered to.
    pub state: EndpointState,
    /// Counts its starts, from 1: another URL, or being served again, is a new one. What came of attempts of an earlier
    /// one says nothing of it.
    pub generation: i64,
    /// Since when it fails, epoch milliseconds, where its owner was told so. It isn't stored here.
    pub failing_since: Option<i64>,
    /// The partner that registered it and alone sees it among partners; `None` is the tenant itself.
    pub owner: Option<String>,
    /// When it was registered, epoch milliseconds.
    pub created_at: i64,
    /// When it was changed last, epoch milliseconds.
    pub updated_at: i64,
}
