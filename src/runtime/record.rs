//! What Kafka delivers, as the engine and the stages see it: raw bytes, headers and coordinates.
//!
//! A [`Record`] owns one buffer that holds its key, payload and headers; cloning it shares the bytes.
//! Nothing here decodes, and nothing here borrows from the client's fetch buffers (a borrowed message pins
//! its whole fetch response while work is out of order).

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

pub use super::headers::Headers;

/// One record of a topic. Cheap to clone: the bytes are shared.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic it was read from.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// Its timestamp in epoch milliseconds (the producer's or the broker's, by topic setting).
    pub timestamp_ms: Option<i64>,
    /// Its key, byte for byte.
    pub key: Option<Bytes>,
    /// Its value, byte for byte; `None` is a tombstone.
    pub payload: Option<Bytes>,
    /// Its headers.
    pub headers: Headers,
}

impl Record {
    /// What the record counts for against byte bounds: key, value, headers and a fixed overhead.
    pub fn bytes(&self) -> usize {
        /// Struct, buffer bookkeeping and queue slot, measured generously.
        const OVERHEAD: usize = 192;
        self.key.as_ref().map_or(0, Bytes::len)
            + self.payload.as_ref().map_or(0, Bytes::len)
            + self.headers.bytes()
            + OVERHEAD
    }

    /// A record of nothing, to be filled.
    pub(crate) fn blank() -> Self {
        Self {
            topic: Arc::from(""),
            partition: 0,
            offset: 0,
            timestamp_ms: None,
            key: None,
            payload: None,
            headers: Headers::default(),
        }
    }

    /// Lets go of everything that the record holds of its batch.
    pub(crate) fn empty(&mut self) {
        (self.key, self.payload) = (None, None);
        self.headers = Headers::default();
    }

    /// The same record with a buffer of its own: it no longer holds the batch that it was read with.
    pub(crate) fn detached(&self) -> Self {
        let parts = self.key.as_deref().into_iter().chain(self.payload.as_deref());
        let headers = self.headers.as_slice();
        let mut buffer = BytesMut::with_capacity(parts.map(<[u8]>::len).sum::<usize>() + headers.len());
        let mut copy = |part: &[u8]| {
            buffer.extend_from_slice(part);
            buffer.split().freeze()
        };
        Self {
            topic: Arc::clone(&self.topic),
            key: self.key.as_deref().map(&mut copy),
            payload: self.payload.as_deref().map(&mut copy),
            headers: if headers.is_empty() { Headers::default() } else { self.headers.moved(copy(headers)) },
            ..*self
        }
    }
}

impl fmt::Debug for Record {
    /// Coordinates and sizes; never content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("at", &format_args!("{}/{}@{}", self.topic, self.partition, self.offset))
            .field("timestamp_ms", &self.timestamp_ms)
            .field("key_bytes", &self.key.as_ref().map(Bytes::len))
            .field("payload_bytes", &self.payload.as_ref().map(Bytes::len))
            .field("headers", &self.headers)
            .finish()
    }
}

/// A partition of a source topic, named so that a topic that was deleted and made again is another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourcePartition {
    /// The Kafka cluster's id.
    pub cluster_id: Arc<str>,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id (KIP-516); equal to the name where the broker doesn't tell ids.
    pub topic_id: Arc<str>,
    /// The partition.
    pub partition: i32,
}
