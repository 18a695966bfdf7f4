//! Records of one partition between the poll thread's batches and its store worker.
//!
//! Bounded by the partition's gauge: the poll thread pauses the partition above its share.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

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

    /// Waits until there is something, and then for more of it for as long as `gather` while there are less than
    /// `records`; takes what is ready: at most `records`, about `bytes`.
    pub(super) async fn take(&self, records: usize, bytes: usize, gather: Duration) -> Vec<Record> {
        loop {
            self.has(1).await;
            if !gather.is_zero() {
                // What has come by then is enough.
                let _ = tokio::time::timeout(gather, self.has(records)).await;
            }
            let taken = self.take_ready(records, bytes);
            if !taken.is_empty() {
                return taken;
            }
        }
    }

    /// Waits until so many records are here.
    async fn has(&self, records: usize) {
        while self.records.lock().unwrap_or_else(PoisonError::into_inner).len() < records.max(1) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn what_may_gather_waits_for_a_full_batch_or_for_its_time() {
        let inbox = Inbox::default();
        let put = |count: usize| inbox.put((0..count).map(|_| Record::blank()));
        put(2);
        assert_eq!(inbox.take(3, usize::MAX, Duration::ZERO).await.len(), 2, "whatever is ready");
        put(2);
        assert_eq!(inbox.take(3, usize::MAX, Duration::from_millis(1)).await.len(), 2, "its time is over");
        put(2);
        let (taken, ()) = tokio::join!(inbox.take(3, usize::MAX, LONG), async {
            tokio::task::yield_now().await;
            put(2);
        });
        assert_eq!(taken.len(), 3, "full");
        put(4);
        assert_eq!(inbox.take(3, usize::MAX, LONG).await.len(), 3);
    }
}
