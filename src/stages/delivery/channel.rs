//! What the delivery stage asks of a channel. A new channel is one file beside this one that offers [`Carrier`],
//! a variant of [`Channel`](crate::stages::notification::rules::Channel), and templates.

use std::future::Future;

use crate::event::OutboundNotification;
use crate::runtime::Failure;

/// Brings messages to people by one way.
///
/// Duties: a message that is carried again (after a crash) carries the same name outside; nothing waits longer
/// than a time-out of the carrier's own; the future may be dropped at any await.
pub trait Carrier: Send + Sync {
    /// Hands one message over and waits until the other side has accepted it.
    fn carry(&self, message: &OutboundNotification)
    -> impl Future<Output = Result<Accepted, Refusal>> + Send;

    /// How many messages one member carries at once, at least 1.
    fn concurrency(&self) -> usize;
}

/// The other side took the message over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The message's name on the other side.
    pub provider_id: String,
}

/// The other side didn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Something of our own (Kafka, the registry) is away: the message waits as long as that takes.
    Away(Failure),
    /// Perhaps later, as often as the stage's policy allows.
    NotNow(Failure),
    /// Never, as far as this message goes.
    Never(Failure),
}
