//! Records of one partition as the poll thread hands them on: one buffer with their bytes, one list of where they are.
//!
//! Copied once, when they are read. A [`Record`] is made of its entry when somebody gets to it; until then a waiting
//! record costs its bytes and forty more. The memory of full batches is used again; what is in small ones is copied
//! into buffers of its size, so that a trickle of records doesn't hold a large buffer each.

use std::sync::Arc;

use bytes::Bytes;

use super::batch_queue::Fetched;
use super::desk::Side;
use super::pool::{Buffer, Pool, give_back, take_from};
use super::wire;
use crate::runtime::headers::format::Pair;
use crate::runtime::record::{Headers, Record};

/// Bytes of one batch, about: small enough that a few records of it which stay long don't hold much.
pub(super) const MOST_BYTES: usize = 120 * 1024;
/// Room for the record that goes beyond it.
pub(super) const SPARE_BYTES: usize = 8 * 1024;
/// Records of one batch, at most.
const MOST_RECORDS: usize = 512;
/// What a record counts for beside its bytes: struct, bookkeeping and queue slot, measured generously.
const OVERHEAD: usize = 192;
/// Stands for null.
const NULL: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct RecordBatch {
    topic: Arc<str>,
    partition: i32,
    data: Bytes,
    entries: Entries,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    offset: i64,
    /// −1 is none.
    timestamp_ms: i64,
    start: u32,
    /// Lengths of key, payload and headers, which lie one behind the other.
    key: u32,
    payload: u32,
    headers: u32,
}

impl Entry {
    fn bytes(&self) -> usize {
        let length = |length: u32| if length == NULL { 0 } else { length as usize };
        length(self.key) + length(self.payload) + self.headers as usize + OVERHEAD
    }
}

/// Where the records of a batch are; the list goes back in the end.
#[derive(Debug)]
struct Entries {
    list: Vec<Entry>,
    pool: Arc<Pool>,
}

impl Drop for Entries {
    fn drop(&mut self) {
        // Those of small batches are of their size.
        if self.list.capacity() >= MOST_RECORDS {
            give_back(&self.pool.lists, std::mem::take(&mut self.list), MOST_RECORDS);
        }
    }
}

impl RecordBatch {
    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.list.len()
    }

    /// The first offset and the one behind the last, if there is none missing between them.
    pub(crate) fn run(&self) -> Option<(i64, i64)> {
        let (first, last) = (self.entries.list.first()?.offset, self.entries.list.last()?.offset);
        let count = i64::try_from(self.len()).ok()?;
        (last - first + 1 == count).then_some((first, last + 1))
    }

    /// The partition that they are of.
    pub(crate) fn partition(&self) -> i32 {
        self.partition
    }

    /// What they count for against byte bounds.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.list.iter().map(Entry::bytes).sum()
    }

    /// Keeps the records for whose offset `keep` answers true; gives how many went, and their bytes.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(i64) -> bool) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        self.entries.list.retain(|entry| {
            let stays = keep(entry.offset);
            if !stays {
                count += 1;
                bytes += entry.bytes();
            }
            stays
        });
        (count, bytes)
    }
}

impl IntoIterator for RecordBatch {
    type Item = Record;
    type IntoIter = Records;

    fn into_iter(self) -> Records {
        Records {
            topic: self.topic,
            partition: self.partition,
            data: self.data,
            entries: self.entries,
            at: 0,
        }
    }
}

/// The records of a batch that nobody got to yet.
#[derive(Debug)]
pub(crate) struct Records {
    topic: Arc<str>,
    partition: i32,
    data: Bytes,
    entries: Entries,
    /// The first that nobody got to.
    at: usize,
}

impl Records {
    /// Bytes of the buffers that records of this member have views of; one view holds a whole buffer.
    pub(crate) fn bytes_in_use(&self) -> usize {
        self.entries.pool.bytes_in_use()
    }

    /// The next record, as it lies in its batch.
    pub(crate) fn sight(&self) -> Option<Sight<'_>> {
        self.entries.list.get(self.at).map(|entry| Sight { entry, data: &self.data })
    }

    /// Passes the next record over.
    pub(crate) fn pass(&mut self) {
        self.at = (self.at + 1).min(self.entries.list.len());
    }

    /// Their offsets, in order.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = i64> {
        self.entries.list[self.at..].iter().map(|entry| entry.offset)
    }
}

impl Records {
    /// Writes the next record over another one. Answers false when there is none.
    #[inline]
    pub(crate) fn next_into(&mut self, record: &mut Record) -> bool {
        let Some(entry) = self.entries.list.get(self.at) else { return false };
        self.at += 1;
        let mut at = entry.start as usize;
        let mut take = |length: u32| {
            let length = (length != NULL).then_some(length as usize)?;
            at += length;
            Some(self.data.slice(at - length..at))
        };
        record.key = take(entry.key);
        record.payload = take(entry.payload);
        if entry.headers > 0 {
            let bytes = &self.data[at..at + entry.headers as usize];
            record.headers = Headers::read(self.data.slice_ref(wire::pairs(bytes)), bytes.len());
        } else {
            record.headers = Headers::default();
        }
        if !Arc::ptr_eq(&record.topic, &self.topic) {
            record.topic = Arc::clone(&self.topic);
        }
        record.partition = self.partition;
        record.offset = entry.offset;
        record.timestamp_ms = (entry.timestamp_ms >= 0).then_some(entry.timestamp_ms);
        true
    }
}

impl Iterator for Records {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let mut record = Record::blank();
        self.next_into(&mut record).then_some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.entries.list.len() - self.at;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Records {}

/// Batches as they are filled, one for each run of messages of one partition.
#[derive(Debug)]
pub(super) struct Filling {
    source: Arc<str>,
    retry: Option<Arc<str>>,
    done: Vec<(Side, RecordBatch)>,
    open: Option<Open>,
    /// The topic of the last message, by its handle.
    last: Option<(usize, Side)>,
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Open {
    side: Side,
    partition: i32,
    data: Vec<u8>,
    entries: Vec<Entry>,
}

impl Filling {
    /// Fills batches of the member's two topics.
    pub(super) fn new(source: Arc<str>, retry: Option<Arc<str>>) -> Self {
        Self { source, retry, done: Vec::new(), open: None, last: None, pool: Arc::default() }
    }

    /// Copies a message.
    pub(super) fn push(&mut self, message: &Fetched<'_>) {
        let side = self.side_of(message);
        let partition = message.partition();
        let fits = |open: &Open| {
            let room = open.entries.len() < MOST_RECORDS && open.data.len() < MOST_BYTES;
            room && open.side == side && open.partition == partition
        };
        if !self.open.as_ref().is_some_and(fits) {
            self.close();
        }
        let pool = &self.pool;
        let open = self.open.get_or_insert_with(|| Open {
            side,
            partition,
            data: take_from(&pool.buffers, MOST_BYTES + SPARE_BYTES),
            entries: take_from(&pool.lists, MOST_RECORDS),
        });
        open.push(message);
    }

    fn side_of(&mut self, message: &Fetched<'_>) -> Side {
        let handle = message.topic_handle();
        if let Some((known, side)) = self.last
            && known == handle
        {
            return side;
        }
        let side = match &self.retry {
            Some(retry) if message.topic() == &**retry => Side::Retry,
            Some(_) | None => Side::Source,
        };
        self.last = Some((handle, side));
        side
    }

    /// Everything that was pushed, in that order.
    pub(super) fn take(&mut self) -> Vec<(Side, RecordBatch)> {
        self.close();
        // The handle may be another topic's when messages are read again.
        self.last = None;
        std::mem::take(&mut self.done)
    }

    fn close(&mut self) {
        let Some(Open { side, partition, data, entries }) = self.open.take() else { return };
        let topic = match side {
            Side::Source => &self.source,
            Side::Retry => self.retry.as_ref().unwrap_or(&self.source),
        };
        // A name of its own: a count that both threads change for every record would go back and forth between them.
        let topic = Arc::from(&**topic);
        let pool = &self.pool;
        let data = if data.len() >= MOST_BYTES / 2 {
            Buffer::share(data, pool)
        } else {
            let exact = data.clone();
            give_back(&pool.buffers, data, MOST_BYTES + SPARE_BYTES);
            Buffer::share(exact, pool)
        };
        let entries = if entries.len() >= MOST_RECORDS / 4 {
            Entries { list: entries, pool: Arc::clone(pool) }
        } else {
            let exact = entries.clone();
            give_back(&pool.lists, entries, MOST_RECORDS);
            Entries { list: exact, pool: Arc::clone(pool) }
        };
        self.done.push((side, RecordBatch { topic, partition, data, entries }));
    }
}

impl Open {
    fn push(&mut self, message: &Fetched<'_>) {
        let start = length(self.data.len());
        let key = put(&mut self.data, message.key());
        let payload = put(&mut self.data, message.payload());
        let before = self.data.len();
        message.put_headers(&mut self.data, self.side == Side::Retry);
        let headers = length(self.data.len() - before);
        let timestamp_ms = message.timestamp_ms().unwrap_or(-1);
        self.entries.push(Entry { offset: message.offset(), timestamp_ms, start, key, payload, headers });
    }
}

/// Messages are smaller than 2 GiB, and a batch holds one beyond its bound at most.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(NULL - 1)
}

fn put(data: &mut Vec<u8>, part: Option<&[u8]>) -> u32 {
    let Some(part) = part else { return NULL };
    data.extend_from_slice(part);
    length(part.len())
}

/// A record where it lies in its batch.
#[derive(Debug)]
pub(crate) struct Sight<'b> {
    entry: &'b Entry,
    data: &'b Bytes,
}

impl<'b> Sight<'b> {
    /// Its offset.
    pub(crate) fn offset(&self) -> i64 {
        self.entry.offset
    }

    /// What it counts for against byte bounds.
    pub(crate) fn bytes(&self) -> usize {
        self.entry.bytes()
    }

    /// The names and values of its headers, in order.
    pub(crate) fn headers(&self) -> impl Iterator<Item = Pair<'b>> + use<'b> {
        let length = |length: u32| if length == NULL { 0 } else { length as usize };
        let start = self.entry.start as usize + length(self.entry.key) + length(self.entry.payload);
        wire::headers(self.data.get(start..start + self.entry.headers as usize).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::headers::format;

    #[test]
    fn records_come_out_as_they_went_in() {
        let mut data = Vec::new();
        let mut entries = Vec::new();
        let parts = [(Some(&b"key"[..]), Some(&b"value"[..])), (None, Some(b"")), (Some(b"k"), None)];
        for (number, (key, payload)) in parts.into_iter().enumerate() {
            let start = length(data.len());
            let (key, payload) = (put(&mut data, key), put(&mut data, payload));
            let before = data.len();
            if number == 0 {
                wire::put_count(&mut data, 3);
                format::put(&mut data, b"a", Some(b"1"));
                format::put(&mut data, b"\xff", Some(b"left out"));
                format::put(&mut data, b"b", None);
            }
            let headers = length(data.len() - before);
            let offset = number as i64;
            entries.push(Entry { offset, timestamp_ms: offset - 1, start, key, payload, headers });
        }
        let entries = Entries { list: entries, pool: Arc::default() };
        let mut batch = RecordBatch { topic: "t".into(), partition: 3, data: data.into(), entries };
        assert_eq!(batch.run(), Some((0, 3)));
        assert_eq!((batch.len(), batch.partition()), (3, 3));
        let copy = RecordBatch {
            topic: "t".into(),
            partition: 3,
            data: batch.data.clone(),
            entries: Entries { list: batch.entries.list.clone(), pool: Arc::default() },
        };
        let all: Vec<Record> = copy.into_iter().collect();
        for (record, (key, payload)) in all.iter().zip(parts) {
            assert_eq!((record.key.as_deref(), record.payload.as_deref()), (key, payload));
            assert_eq!(record.partition, 3);
        }
        assert_eq!((all[0].timestamp_ms, all[1].timestamp_ms), (None, Some(0)));
        let headers: Vec<_> = all[0].headers.iter().collect();
        assert_eq!(headers, [("a", Some(&b"1"[..])), ("b", None)]);
        // As much is let go as was taken up, whatever the headers are and whoever holds the record.
        let bytes = batch.bytes();
        assert_eq!(all.iter().map(Record::bytes).sum::<usize>(), bytes);
        assert_eq!(all.iter().map(|record| record.detached().bytes()).sum::<usize>(), bytes);
        let (count, gone) = batch.retain(|offset| offset != 1);
        assert_eq!((count, batch.len(), batch.bytes() + gone), (1, 2, bytes));
        assert_eq!(batch.run(), None, "1 is missing");
    }
}
