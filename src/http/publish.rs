//! The one thing that the API needs from Kafka: a place to put an event.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::admin::publish::{PublishError, Publisher};
use crate::event::{EncodeError, Event, EventType, TraceParent};

/// Puts events on their topics. The real one is [`Publisher`]; tests bring their own.
pub trait Publish: Send + Sync {
    /// Whether somebody with `role` may publish events of this type.
    fn may_publish(&self, role: &str, event_type: EventType) -> bool;

    /// Publishes `event`; done when all replicas have it.
    ///
    /// # Errors
    /// See [`PublishRefused`].
    fn publish(
        &self,
        event: Event,
        trace: Option<TraceParent>,
    ) -> BoxFuture<'_, Result<Published, PublishRefused>>;
}

/// Where an acknowledged event lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The event's id.
    pub event_id: Uuid,
    /// The topic, as named on the broker.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// Why an event was not published, by what the client can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishRefused {
    /// Send less.
    #[error("{0}")]
    TooLarge(String),
    /// Send something else.
    #[error("{0}")]
    Invalid(String),
    /// Try again later.
    #[error("{0}")]
    RegistryUnavailable(String),
    /// Try again later, under the same id: it may have arrived.
    #[error("{0}")]
    KafkaUnavailable(String),
    /// Nothing; the set-up has to change.
    #[error("{0}")]
    Misconfigured(String),
}

impl Publish for Publisher {
    fn may_publish(&self, role: &str, event_type: EventType) -> bool {
        Publisher::may_publish(self, role, event_type)
    }

    fn publish(
        &self,
        event: Event,
        trace: Option<TraceParent>,
    ) -> BoxFuture<'_, Result<Published, PublishRefused>> {
        async move {
            let published = Publisher::publish(self, &event, trace).await.map_err(|error| refused(&error))?;
            Ok(Published {
                event_id: published.event_id,
                topic: published.topic.to_string(),
                partition: published.partition,
                offset: published.offset,
            })
        }
        .boxed()
    }
}

fn refused(error: &PublishError) -> PublishRefused {
    let words = error.to_string();
    match error {
        error if error.is_too_large() => PublishRefused::TooLarge(words),
        PublishError::NotAnId(_) | PublishError::NoKey | PublishError::TooLarge { .. } => {
            PublishRefused::Invalid(words)
        }
        PublishError::Encode(EncodeError::RegistryUnavailable(_)) => {
            PublishRefused::RegistryUnavailable(words)
        }
        PublishError::Encode(EncodeError::Invalid(_)) => PublishRefused::Invalid(words),
        PublishError::Encode(EncodeError::NotRegistered { .. } | EncodeError::Refused(_)) => {
            PublishRefused::Misconfigured(words)
        }
        PublishError::Produce(_) if error.is_transient() => PublishRefused::KafkaUnavailable(words),
        PublishError::Produce(_) => PublishRefused::Misconfigured(words),
    }
}
