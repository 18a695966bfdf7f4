//! librdkafka's batch call (`rd_kafka_consume_batch_queue`) over one queue, which the safe wrapper doesn't offer.
//!
//! One of the three files of the crate that may hold `unsafe`. The reason: polling message by message costs 0.3 µs a
//! record more than the batch call, which is more than everything else that the engine does with a record
//! together. What is unsafe stays in here: a queue can't outlive its client, a message can't outlive the call of
//! the closure that it is handed to, and each is freed exactly once, on the thread that read it (freeing on
//! another one costs a third more).
//!
//! Messages of partitions that are forwarded to the queue come from here; rebalances and errors of the client
//! still come from polling the client, which therefore goes on. No callback runs while a batch is read, so a
//! partition isn't revoked between reading and handing on.

#![expect(unsafe_code, reason = "C calls that the wrapper lacks; the contract of each is stated at the call")]

use std::ffi::{CStr, CString, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::wire;
use crate::runtime::headers::format;

/// Messages read by one call, at most.
const SLOTS: usize = 1_000;

/// Where the partitions of one client are forwarded to, while there is a [`BatchQueue`].
#[derive(Debug, Default)]
pub struct Forwarding(Mutex<Option<Queue>>);

/// A live queue.
#[derive(Debug)]
struct Queue(NonNull<ffi::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread, and the mutex around it keeps a queue from being
// destroyed while somebody forwards to it.
unsafe impl Send for Queue {}

impl Forwarding {
    /// Lets what is fetched of a partition go to the queue. To be called before the partition is assigned, each time.
    /// False when there is no queue or no such partition: then the client gives it out itself.
    pub fn forward<C: ClientContext>(&self, client: &Client<C>, topic: &str, partition: i32) -> bool {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(queue), Ok(topic)) = (slot.as_ref(), CString::new(topic)) else { return false };
        // SAFETY: the borrow keeps the client alive; `topic` is a C string that lives to the end of the call, which
        // copies it. The answer is a new reference or null.
        let source =
            unsafe { ffi::rd_kafka_queue_get_partition(client.native_ptr(), topic.as_ptr(), partition) };
        let Some(source) = NonNull::new(source) else { return false };
        // SAFETY: both are live queues: ours is destroyed only after it was taken out of the slot, which is locked.
        // Forwarding takes a reference of its own to the destination; ours to the source is given back here.
        unsafe {
            ffi::rd_kafka_queue_forward(source.as_ptr(), queue.0.as_ptr());
            ffi::rd_kafka_queue_destroy(source.as_ptr());
        }
        true
    }
}

/// A queue of one client, to which partitions are forwarded. It borrows the client, so it goes first.
pub struct BatchQueue<'c> {
    queue: NonNull<ffi::rd_kafka_queue_t>,
    slots: Vec<*mut ffi::rd_kafka_message_t>,
    forwarding: &'c Forwarding,
}

impl std::fmt::Debug for BatchQueue<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchQueue").finish_non_exhaustive()
    }
}

impl<'c> BatchQueue<'c> {
    /// A new queue of `client`, to be filled through `forwarding`; `None` when librdkafka has no memory for it.
    pub fn new<C: ClientContext>(client: &'c Client<C>, forwarding: &'c Forwarding) -> Option<Self> {
        // SAFETY: `native_ptr` is the live handle that `client` owns, and `'c` keeps it alive longer than the queue.
        let queue = NonNull::new(unsafe { ffi::rd_kafka_queue_new(client.native_ptr()) })?;
        *forwarding.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Queue(queue));
        Some(Self { queue, slots: vec![ptr::null_mut(); SLOTS], forwarding })
    }

    /// Reads what is there, at most a thousand messages, waiting up to `wait` for the first; hands each to `take`,
    /// in the order of its partition. Answers how many there were.
    pub fn read(&mut self, wait: Duration, mut take: impl FnMut(Fetched<'_>)) -> usize {
        let mut count = self.fill(0, self.slots.len());
        if count == 0 && !wait.is_zero() {
            // With time to wait, the call waits until all slots are full: ask for one.
            let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
            count = self.fill(wait_ms, 1);
        }
        for slot in &self.slots[..count] {
            // SAFETY: the call filled the first `count` slots with live messages, ours until destroyed, which
            // happens below and nowhere else; the reference given to `take` ends with its call.
            let message = unsafe { &**slot };
            take(Fetched { message });
            // SAFETY: see above; `take` can't have kept the reference.
            unsafe { ffi::rd_kafka_message_destroy(*slot) };
        }
        count
    }

    fn fill(&mut self, wait_ms: i32, most: usize) -> usize {
        // SAFETY: the queue lives as long as self; `slots` has room for `most` pointers or more.
        let count = unsafe {
            ffi::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                wait_ms,
                self.slots.as_mut_ptr(),
                most.min(self.slots.len()),
            )
        };
        usize::try_from(count).unwrap_or(0)
    }
}

impl Drop for BatchQueue<'_> {
    fn drop(&mut self) {
        self.forwarding.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // SAFETY: made by `rd_kafka_queue_new`, destroyed only here, and the client still lives. Partitions that
        // are forwarded here keep a reference of their own; what they fetch from now on is dropped.
        unsafe { ffi::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// A message that librdkafka holds: to be copied from before it is handed back.
#[derive(Clone, Copy)]
pub struct Fetched<'m> {
    message: &'m ffi::rd_kafka_message_t,
}

impl std::fmt::Debug for Fetched<'_> {
    /// Coordinates only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Fetched").field(&self.partition()).field(&self.offset()).finish()
    }
}

impl<'m> Fetched<'m> {
    /// What it is instead of a message.
    pub fn error(&self) -> Option<KafkaError> {
        let (error, code) = (self.message.err, RDKafkaErrorCode::from(self.message.err));
        if error == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            None
        } else if error == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__FATAL {
            Some(KafkaError::MessageConsumptionFatal(code))
        } else {
            Some(KafkaError::MessageConsumption(code))
        }
    }

    /// The topic's name; empty for an error that belongs to none.
    pub fn topic(&self) -> &'m str {
        if self.message.rkt.is_null() {
            return "";
        }
        // SAFETY: the topic handle isn't null and lives as long as its message; its name is a C string that
        // lives as long as the handle.
        let name = unsafe { CStr::from_ptr(ffi::rd_kafka_topic_name(self.message.rkt)) };
        name.to_str().unwrap_or("")
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.message.partition
    }

    /// The offset.
    pub fn offset(&self) -> i64 {
        self.message.offset
    }

    /// The key.
    pub fn key(&self) -> Option<&'m [u8]> {
        self.bytes(self.message.key, self.message.key_len)
    }

    /// The value.
    pub fn payload(&self) -> Option<&'m [u8]> {
        self.bytes(self.message.payload, self.message.len)
    }

    /// The timestamp in epoch milliseconds.
    pub fn timestamp_ms(&self) -> Option<i64> {
        let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: reads the live message and writes one enum to a local.
        let at = unsafe { ffi::rd_kafka_message_timestamp(self.message, &mut kind) };
        (at >= 0 && kind != ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(at)
    }

    /// Tells messages of one topic from those of another, as long as one of them lives.
    pub(super) fn topic_handle(&self) -> usize {
        self.message.rkt.addr()
    }

    /// The value where it lies in a batch of Kafka's record format 2 (KIP-98), if it does. The number of headers is behind it.
    fn value_in_place(&self) -> Option<(*const u8, usize)> {
        let (value, length) = (self.message.payload.cast::<u8>().cast_const(), self.message.len);
        // An empty value is none of the batch: librdkafka puts a constant of its own there.
        if value.is_null() || length == 0 {
            return None;
        }
        // SAFETY: reads the live message. Only batches of that format carry a leader epoch.
        let epoch = unsafe { ffi::rd_kafka_message_leader_epoch(self.message) };
        (epoch >= 0).then_some((value, length))
    }

    /// True when the message is known to have no headers, without asking librdkafka: to find out, that allocates and
    /// frees a kilobyte, which is more than everything else costs that is done with a message.
    fn has_no_headers(&self) -> bool {
        // SAFETY: the value points into the batch as it was fetched (librdkafka copies nothing out of it), where at
        // least the number of headers follows it in the same buffer, which lives as long as the message.
        self.value_in_place().is_some_and(|(value, length)| unsafe { *value.add(length) } == 0)
    }

    /// The message's headers where they lie in its batch, if that can be told; librdkafka allocates for each of them. Only of a
    /// message of a retry topic, which this program alone writes, and which is never compacted.
    fn headers_in_place(&self) -> Option<&'m [u8]> {
        let (value, length) = self.value_in_place()?;
        let key = (!self.message.key.is_null()).then_some(self.message.key_len);
        // SAFETY: the batch lives as long as the message. librdkafka found the record whole: it lies there in one piece, from
        // its length to the end that its length says. `to_end` asks for bytes of the record, and for the one before it unless
        // it is the first of its batch, whose offset there is 0.
        let rest = wire::to_end(length, key, |distance| unsafe { *value.sub(distance) })?;
        // SAFETY: see above; so many bytes of the record there are at least, from the start of the value on, which is at
        // least the value and the number of headers.
        Some(unsafe { std::slice::from_raw_parts(value.add(length), rest - length) })
    }

    /// Writes the headers as they lie in a record (see `wire`); nothing when there are none. `is_ours` says that the message is
    /// one of a retry topic.
    pub(super) fn put_headers(&self, bytes: &mut Vec<u8>, is_ours: bool) {
        if self.has_no_headers() {
            return;
        }
        let found = if is_ours { self.headers_in_place() } else { None };
        if let Some(found) = found.filter(|found| wire::are_headers(found)) {
            return bytes.extend_from_slice(found);
        }
        let mut found = Vec::new();
        self.headers(|name, value| found.push((name, value)));
        if !found.is_empty() {
            wire::put_count(bytes, found.len());
            found.into_iter().for_each(|(name, value)| format::put(bytes, name, value));
        }
    }

    /// Hands each header to `take`, in order: its name, which is bytes to Kafka, and its value.
    fn headers(&self, mut take: impl FnMut(&'m [u8], Option<&'m [u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is live. The headers are parsed into it and stay its own; the cast is for a C
        // signature without const on a call that other threads don't make for this message.
        let found = unsafe { ffi::rd_kafka_message_headers(self.message, &mut headers) };
        if found != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        for at in 0.. {
            let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
            // SAFETY: `headers` is the live list of the message; past its end the call says so.
            let got =
                unsafe { ffi::rd_kafka_header_get_all(headers, at, &mut name, &mut value, &mut length) };
            if got != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            // SAFETY: a header that was found has a name that is a C string and lives as long as the message.
            let name = unsafe { CStr::from_ptr(name) };
            take(name.to_bytes(), self.bytes(value, length));
        }
    }

    fn bytes(&self, at: *const c_void, length: usize) -> Option<&'m [u8]> {
        if at.is_null() {
            return None;
        }
        // SAFETY: librdkafka gives the start and length of bytes that live as long as the message.
        Some(unsafe { std::slice::from_raw_parts(at.cast(), length) })
    }
}
