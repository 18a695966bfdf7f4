//! Many events at once, those of one key in order.

use std::future::Future;
use std::pin::Pin;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::{PublishError, Published, Publisher};
use crate::event::{Event, TraceParent};

type Sending<T> = Pin<Box<dyn Future<Output = (T, Result<Published, PublishError>)> + Send>>;

/// Publishes a stream of events with a bounded number on their way. Each comes with a tag (its line, say) that
/// is given back with its result.
pub struct InOrder<T> {
    publisher: Publisher,
    most: usize,
    sending: FuturesUnordered<Sending<T>>,
}

impl<T> std::fmt::Debug for InOrder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InOrder")
            .field("on_their_way", &self.sending.len())
            .field("most", &self.most)
            .finish()
    }
}

impl<T: Send + 'static> InOrder<T> {
    /// At most `most` events are on their way at once.
    pub fn new(publisher: Publisher, most: usize) -> Self {
        Self { publisher, most: most.max(1), sending: FuturesUnordered::new() }
    }

    /// Sends one more event. Gives the result of an event if one is known: of this one when it failed at once,
    /// or of an earlier one that had to end first.
    pub async fn push(&mut self, tag: T, event: &Event) -> Option<(T, Result<Published, PublishError>)> {
        let freed = if self.sending.len() >= self.most { self.sending.next().await } else { None };
        // Encoding is waited for here: it may have to ask the registry, and a later event of the same order
        // must not overtake this one meanwhile.
        let prepared = match self.publisher.prepare(event, Some(TraceParent::random())).await {
            Ok(prepared) => prepared,
            Err(error) => {
                self.sending.push(Box::pin(std::future::ready((tag, Err(error)))));
                return freed;
            }
        };
        let publisher = self.publisher.clone();
        let mut sending: Sending<T> = Box::pin(async move { (tag, publisher.send(prepared).await) });
        // The first poll hands the record to the producer, whose queue keeps the order from there on.
        match futures_util::poll!(&mut sending) {
            std::task::Poll::Ready(result) => self.sending.push(Box::pin(std::future::ready(result))),
            std::task::Poll::Pending => self.sending.push(sending),
        }
        freed
    }

    /// A result that is known already, without waiting for one.
    pub fn known(&mut self) -> Option<(T, Result<Published, PublishError>)> {
        self.sending.next().now_or_never().flatten()
    }

    /// The next result, in the order in which they become known; `None` when nothing is on its way.
    pub async fn next(&mut self) -> Option<(T, Result<Published, PublishError>)> {
        self.sending.next().await
    }
}
