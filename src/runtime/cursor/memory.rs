//! Cursors without a database, for tests of stages: they live as long as the value.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt};

use super::backfill::BackfillProgress;
use super::row::{CursorRow, Gap};
use super::store::{Claimed, CursorStore, CursorWish, CursorWrite, Past, StoreAnswer};
use crate::runtime::outcome::Failure;
use crate::runtime::record::{Record, SourcePartition};

/// See the module. Clones share what is kept.
#[derive(Debug, Clone, Default)]
pub struct MemoryCursors(Arc<Mutex<HashMap<SourcePartition, Kept>>>);

#[derive(Debug, Default)]
struct Kept {
    epoch: i64,
    rows: BTreeMap<Arc<str>, CursorRow>,
    gaps: Vec<Gap>,
    backfills: BTreeMap<Arc<str>, BackfillProgress>,
    /// What has left the log, by offset.
    past: BTreeMap<i64, Record>,
    wishes: BTreeMap<i64, CursorWish>,
    asked: i64,
    written: u64,
}

impl MemoryCursors {
    /// The cursors of a partition.
    pub fn rows(&self, at: &SourcePartition) -> Vec<CursorRow> {
        self.lock().get(at).map(|kept| kept.rows.values().cloned().collect()).unwrap_or_default()
    }

    /// The gaps that were recorded.
    pub fn gaps(&self, at: &SourcePartition) -> Vec<Gap> {
        self.lock().get(at).map(|kept| kept.gaps.clone()).unwrap_or_default()
    }

    /// How far the backfill called `id` is on a partition.
    pub fn backfill(&self, at: &SourcePartition, id: &str) -> Option<BackfillProgress> {
        self.lock().get(at)?.backfills.get(id).cloned()
    }

    /// How many rows of a partition were written, those of before included.
    pub fn written(&self, at: &SourcePartition) -> u64 {
        self.lock().get(at).map_or(0, |kept| kept.written)
    }

    /// Keeps a record for when it has left the log.
    pub fn keep(&self, at: &SourcePartition, record: Record) {
        self.lock().entry(at.clone()).or_default().past.insert(record.offset, record);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SourcePartition, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, at: &SourcePartition, epoch: i64, write: &CursorWrite) -> StoreAnswer {
        let mut partitions = self.lock();
        let Some(kept) = partitions.get_mut(at).filter(|kept| kept.epoch == epoch) else {
            return StoreAnswer::Lost;
        };
        for target in &write.gone {
            kept.rows.remove(target);
        }
        kept.written += write.rows.len() as u64;
        for row in &write.rows {
            kept.rows.insert(Arc::clone(&row.target), row.clone());
        }
        kept.gaps.extend(write.gaps.iter().cloned());
        for progress in &write.backfills {
            kept.backfills.insert(Arc::clone(&progress.id), progress.clone());
        }
        for wish in &write.granted {
            kept.wishes.remove(wish);
        }
        StoreAnswer::Stored
    }
}

impl CursorStore for MemoryCursors {
    fn claim<'a>(&'a self, at: &'a SourcePartition, epoch: i64) -> BoxFuture<'a, Result<Claimed, Failure>> {
        async move {
            let mut partitions = self.lock();
            let kept = partitions.entry(at.clone()).or_default();
            if epoch <= kept.epoch {
                return Ok(Claimed::Above(kept.epoch));
            }
            kept.epoch = epoch;
            Ok(Claimed::Ours(kept.rows.values().cloned().collect()))
        }
        .boxed()
    }

    fn store<'a>(
        &'a self,
        at: &'a SourcePartition,
        epoch: i64,
        write: &'a CursorWrite,
    ) -> BoxFuture<'a, Result<StoreAnswer, Failure>> {
        async move { Ok(self.write(at, epoch, write)) }.boxed()
    }

    fn wishes<'a>(
        &'a self,
        at: &'a SourcePartition,
    ) -> BoxFuture<'a, Result<Vec<(i64, CursorWish)>, Failure>> {
        async move {
            let partitions = self.lock();
            let wishes = partitions.get(at).map(|kept| kept.wishes.clone()).unwrap_or_default();
            Ok(wishes.into_iter().collect())
        }
        .boxed()
    }

    fn ask<'a>(
        &'a self,
        at: &'a SourcePartition,
        wish: &'a CursorWish,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let mut partitions = self.lock();
            let kept = partitions.entry(at.clone()).or_default();
            kept.asked += 1;
            kept.wishes.insert(kept.asked, wish.clone());
            Ok(())
        }
        .boxed()
    }

    fn past<'a>(
        &'a self,
        at: &'a SourcePartition,
        from: i64,
        to: i64,
    ) -> BoxFuture<'a, Result<Past, Failure>> {
        async move {
            let partitions = self.lock();
            let Some(kept) = partitions.get(at).filter(|kept| !kept.past.is_empty()) else {
                return Ok(Past::nothing(from, to));
            };
            let records: Vec<Record> = kept.past.range(from..to).map(|(_, record)| record.clone()).collect();
            let first = records.first().map_or(to, |record| record.offset);
            // What is kept is kept without holes.
            Ok(Past { records, next: to, gap: (from < first).then_some((from, first)) })
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_keeps_cursors_as_the_port_asks() {
        crate::runtime::cursor::suite::check(&MemoryCursors::default()).await;
    }
}
