//! librdkafka's commit that is answered later (`rd_kafka_commit_queue`), which the safe wrapper doesn't offer.
//!
//! One of the three files of the crate that may hold `unsafe`. The reason: of the wrapper's two commits one keeps its
//! thread until the broker answers, and the other is never answered at all. librdkafka answers to the queue that is named
//! with a commit, or to a callback in the settings, and the wrapper names neither. What is unsafe stays in here: a queue
//! can't outlive its client, and each answer is freed exactly once.
//!
//! What was sent is answered exactly once, however late: librdkafka sends a request that failed on the way again, and keeps one
//! while the coordinator is away, as long as that lasts. It says one error for all partitions; where the broker refused some of
//! them, one of those. Without an error all of them were taken.

#![expect(unsafe_code, reason = "C calls that the wrapper lacks; the contract of each is stated at the call")]

use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

/// How a commit went.
pub(super) type Answer = Result<(), KafkaError>;

/// Where commits of one client are sent and answered, while there is a [`CommitQueue`].
#[derive(Debug, Default)]
pub(super) struct Committing(Mutex<Option<Queue>>);

/// A live queue of a live client.
#[derive(Debug)]
struct Queue {
    queue: NonNull<ffi::rd_kafka_queue_t>,
    client: *mut ffi::rd_kafka_t,
}

// SAFETY: librdkafka's queues and clients may be used from any thread, and the mutex around it keeps a queue from being
// destroyed while somebody uses it.
unsafe impl Send for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_new`, destroyed only here, and the client still lives (see `CommitQueue`). What
        // is still to be answered keeps a reference of its own; its answer is dropped.
        unsafe { ffi::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

impl Committing {
    /// Sends the positions in `list`. [`Committing::answer`] tells how it went.
    ///
    /// # Errors
    /// When they can't be sent; then no answer comes.
    pub(super) fn send(&self, list: &TopicPartitionList) -> Answer {
        let slot = self.lock();
        let Some(Queue { queue, client }) = slot.as_ref() else {
            return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::BrokerDestroy));
        };
        // SAFETY: queue and client live while they are in the slot, which is locked. The list lives to the end of the call,
        // which copies it. The commit keeps a reference of its own to the queue; without a callback nothing else is kept.
        let error =
            unsafe { ffi::rd_kafka_commit_queue(*client, list.ptr(), queue.as_ptr(), None, ptr::null_mut()) };
        said(error)
    }

    /// The answer to a commit that was sent, if it comes within `wait`.
    pub(super) fn answer(&self, wait: Duration) -> Option<Answer> {
        let slot = self.lock();
        let Queue { queue, .. } = slot.as_ref()?;
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue lives while it is in the slot, which is locked. Nothing but answers to commits comes to it. What
        // is given is ours until destroyed, which happens below and nowhere else.
        let event = NonNull::new(unsafe { ffi::rd_kafka_queue_poll(queue.as_ptr(), wait_ms) })?;
        // SAFETY: reads the live event.
        let error = unsafe { ffi::rd_kafka_event_error(event.as_ptr()) };
        // SAFETY: see above; nothing of it was kept.
        unsafe { ffi::rd_kafka_event_destroy(event.as_ptr()) };
        Some(said(error))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn said(error: ffi::rd_kafka_resp_err_t) -> Answer {
    if error == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        Ok(())
    } else {
        Err(KafkaError::ConsumerCommit(error.into()))
    }
}

/// Lets commits of one client be sent and answered. It borrows the client, so it goes first; commits that aren't answered by
/// then never are.
#[derive(Debug)]
pub(super) struct CommitQueue<'c>(&'c Committing);

impl<'c> CommitQueue<'c> {
    /// A queue for the commits of `client`; `None` when librdkafka has no memory for it.
    pub(super) fn new<C: ClientContext>(client: &'c Client<C>, committing: &'c Committing) -> Option<Self> {
        let client = client.native_ptr();
        // SAFETY: `client` is the live handle behind the borrow, and `'c` keeps it alive longer than the queue.
        let queue = NonNull::new(unsafe { ffi::rd_kafka_queue_new(client) })?;
        *committing.lock() = Some(Queue { queue, client });
        Some(Self(committing))
    }
}

impl Drop for CommitQueue<'_> {
    fn drop(&mut self) {
        self.0.lock().take();
    }
}
