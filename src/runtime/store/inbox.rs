//! Records of one partition between the poll thread's batches and its store worker.
//!
//! Bounded by the partition's gauge: the poll thread pauses the partition above its share.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::runtime::record::Record;

/// A queue with one reader.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    records: Mutex<VecDeque<Record>>,
    arrived: Notify,
}

impl Inbox {
    /// Adds records behind the others.
    pub(super) fn put(&self, records: impl IntoIterator<Item = Record>) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).extend(records);
        self.arrived.notify_one();
    }

    /// Waits until there is something and takes what is ready: at most `records`, about `bytes`.
    pub(super) async fn take(&self, records: usize, bytes: usize) -> Vec<Record> {
        loop {
            let taken = self.take_ready(records, bytes);
            if !taken.is_empty() {
                return taken;
            }
            self.arrived.notified().await;
        }
    }

    fn take_ready(&self, records: usize, bytes: usize) -> Vec<Record> {
        let mut queue = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let mut size = 0;
        let within = queue
            .iter()
            .take(records.max(1))
            .take_while(|record| {
                let first = size == 0;
                size += record.bytes();
                first || size <= bytes
            })
            .count();
        queue.drain(..within).collect()
    }
}
