//! What Kafka delivers, as the engine and the stages see it: raw bytes, headers and coordinates.
//!
//! A [`Record`] owns one buffer that holds its key, payload and header values; cloning it shares the bytes.
//! Nothing here decodes, and nothing here borrows from the client's fetch buffers (a borrowed message pins
//! its whole fetch response while work is out of order).

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// The headers of a record, in the order in which they were written; a name may occur more than once.
#[derive(Clone, Default)]
pub struct Headers {
    pairs: Vec<(String, Option<Bytes>)>,
    /// What they count in memory. Those of a record that was read count what they take in its batch, so that as much is let
    /// go as was taken up.
    bytes: usize,
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.pairs == other.pairs
    }
}

impl Eq for Headers {}

impl Headers {
    /// Headers made of `pairs`, in that order.
    pub fn new(pairs: Vec<(String, Option<Bytes>)>) -> Self {
        let bytes = pairs.iter().map(size).sum();
        Self { pairs, bytes }
    }

    /// Headers that were read, of which a batch holds so many bytes.
    pub(crate) fn read(pairs: Vec<(String, Option<Bytes>)>, bytes: usize) -> Self {
        Self { pairs, bytes }
    }

    /// The value of the last header called `name`, as Kafka's own clients read it; a null value is `None`.
    pub fn last(&self, name: &str) -> Option<&Bytes> {
        self.pairs.iter().rev().find(|(key, _)| key == name).and_then(|(_, value)| value.as_ref())
    }

    /// The value of the last header called `name` when it is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.last(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Adds a header behind the others.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<Bytes>) {
        let pair = (name.into(), Some(value.into()));
        self.bytes += size(&pair);
        self.pairs.push(pair);
    }

    /// Keeps only the headers for whose name `keep` answers true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.pairs.retain(|(name, _)| keep(name));
        self.bytes = self.pairs.iter().map(size).sum();
    }

    /// All headers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&Bytes>)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_ref()))
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

/// About what a header takes, with two lengths.
fn size((name, value): &(String, Option<Bytes>)) -> usize {
    const LENGTHS: usize = 8;
    name.len() + value.as_ref().map_or(0, Bytes::len) + LENGTHS
}

impl From<Vec<(String, Vec<u8>)>> for Headers {
    fn from(pairs: Vec<(String, Vec<u8>)>) -> Self {
        Self::new(pairs.into_iter().map(|(name, value)| (name, Some(value.into()))).collect())
    }
}

impl fmt::Debug for Headers {
    /// Names only: values may be personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|(name, _)| name)).finish()
    }
}

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
            + self.headers.bytes
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
        if self.headers.bytes > 0 {
            self.headers = Headers::default();
        }
    }

    /// The same record with a buffer of its own: it no longer holds the batch that it was read with.
    pub(crate) fn detached(&self) -> Self {
        let values = self.headers.pairs.iter().filter_map(|(_, value)| value.as_ref());
        let parts = self.key.iter().chain(&self.payload).chain(values);
        let mut buffer = BytesMut::with_capacity(parts.map(Bytes::len).sum());
        let mut copy = |part: &Bytes| {
            buffer.extend_from_slice(part);
            buffer.split().freeze()
        };
        Self {
            topic: Arc::clone(&self.topic),
            key: self.key.as_ref().map(&mut copy),
            payload: self.payload.as_ref().map(&mut copy),
            headers: Headers {
                pairs: self
                    .headers
                    .pairs
                    .iter()
                    .map(|(name, value)| (name.clone(), value.as_ref().map(&mut copy)))
                    .collect(),
                bytes: self.headers.bytes,
            },
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
