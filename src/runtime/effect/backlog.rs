//! Records of one partition that were delivered and not opened yet.

use std::collections::VecDeque;

use crate::runtime::consumer::{RecordBatch, Records};
use crate::runtime::record::Record;

/// Batches in offset order, each as far as nobody got to it.
#[derive(Debug, Default)]
pub(super) struct Backlog(VecDeque<Chunk>);

/// What is left of a batch: perhaps a record that was taken out and came back, then the rest.
#[derive(Debug)]
pub(super) struct Chunk {
    returned: Option<Record>,
    rest: Records,
}

impl Chunk {
    /// Puts the record that was taken out last back in front.
    pub(super) fn put_back(&mut self, record: Record) {
        self.returned = Some(record);
    }

    /// Writes the next record over another one. Answers false when there is none.
    #[inline]
    pub(super) fn next_into(&mut self, record: &mut Record) -> bool {
        match self.returned.take() {
            Some(returned) => {
                *record = returned;
                true
            }
            None => self.rest.next_into(record),
        }
    }

    /// Their offsets, in order.
    pub(super) fn offsets(&self) -> impl Iterator<Item = i64> {
        self.returned.iter().map(|record| record.offset).chain(self.rest.offsets())
    }

    /// Bytes of the buffers that records of this member have views of.
    pub(super) fn bytes_in_use(&self) -> usize {
        self.rest.bytes_in_use()
    }

    fn is_empty(&self) -> bool {
        self.returned.is_none() && self.rest.len() == 0
    }
}

impl Iterator for Chunk {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        self.returned.take().or_else(|| self.rest.next())
    }
}

impl Backlog {
    /// Adds a batch behind the others.
    pub(super) fn push(&mut self, batch: RecordBatch) {
        if batch.len() > 0 {
            self.0.push_back(Chunk { returned: None, rest: batch.into_iter() });
        }
    }

    /// Takes out the first chunk.
    pub(super) fn take(&mut self) -> Option<Chunk> {
        self.0.pop_front()
    }

    /// Puts what is left of the chunk that was taken out last in front again.
    pub(super) fn put_back(&mut self, chunk: Chunk) {
        if !chunk.is_empty() {
            self.0.push_front(chunk);
        }
    }

    /// True when there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
