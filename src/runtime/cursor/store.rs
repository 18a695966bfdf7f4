//! The port to where cursors are kept.

use futures_util::future::BoxFuture;

use super::backfill::BackfillProgress;
use super::row::{CursorRow, Gap, Wish};
use crate::runtime::outcome::Failure;
use crate::runtime::record::{Record, SourcePartition};

/// Keeps the cursors of one stage.
///
/// Duties: everything that one call writes takes effect as a whole or not at all, and is durable when it
/// answers. An epoch belongs to one partition and only grows: [`CursorStore::store`] writes nothing under an epoch
/// that isn't the highest, and nobody claims with one that isn't higher. A failure means "away": the caller waits and tries again.
pub trait CursorStore: std::fmt::Debug + Send + Sync {
    /// Takes a partition's cursors over: raises its epoch to `epoch`, so that nobody writes under a lower one any more. Refused
    /// when it is as high already: who comes late takes nothing from whoever came after.
    fn claim<'a>(&'a self, at: &'a SourcePartition, epoch: i64) -> BoxFuture<'a, Result<Claimed, Failure>>;

    /// Writes what changed, by compare-and-set on the epoch.
    fn store<'a>(
        &'a self,
        at: &'a SourcePartition,
        epoch: i64,
        write: &'a CursorWrite,
    ) -> BoxFuture<'a, Result<StoreAnswer, Failure>>;

    /// What is asked of cursors of this partition and not carried out yet, oldest first, each with its number.
    fn wishes<'a>(
        &'a self,
        at: &'a SourcePartition,
    ) -> BoxFuture<'a, Result<Vec<(i64, CursorWish)>, Failure>>;

    /// Asks something of a target's cursor; the partition's owner carries it out within a few seconds.
    fn ask<'a>(&'a self, at: &'a SourcePartition, wish: &'a CursorWish)
    -> BoxFuture<'a, Result<(), Failure>>;

    /// What is kept elsewhere of the records `from..to` of the partition, which have left the log; at least one step
    /// on the way to `to`.
    fn past<'a>(
        &'a self,
        at: &'a SourcePartition,
        from: i64,
        to: i64,
    ) -> BoxFuture<'a, Result<Past, Failure>>;
}

/// Records that have left the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Those that are kept, in order, under their own offsets.
    pub records: Vec<Record>,
    /// The offset behind what this tells of.
    pub next: i64,
    /// What is kept nowhere: its first offset, and the one behind its last.
    pub gap: Option<(i64, i64)>,
}

impl Past {
    /// Nothing of `from..to` is kept.
    pub fn nothing(from: i64, to: i64) -> Self {
        Self { records: Vec::new(), next: to, gap: Some((from, to)) }
    }
}

/// What is asked of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorWish {
    /// The target.
    pub target: std::sync::Arc<str>,
    /// What.
    pub wish: Wish,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The partition's cursors, taken over.
    Ours(Vec<CursorRow>),
    /// Nothing changed: they were claimed with this epoch before.
    Above(i64),
}

/// What changed of a partition's cursors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CursorWrite {
    /// Cursors that are new or changed.
    pub rows: Vec<CursorRow>,
    /// Targets whose cursors are gone.
    pub gone: Vec<std::sync::Arc<str>>,
    /// Gaps that were met.
    pub gaps: Vec<Gap>,
    /// How far backfills are.
    pub backfills: Vec<BackfillProgress>,
    /// Numbers of wishes that are carried out with this.
    pub granted: Vec<i64>,
}

impl CursorWrite {
    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        let Self { rows, gone, gaps, backfills, granted } = self;
        rows.is_empty() && gone.is_empty() && gaps.is_empty() && backfills.is_empty() && granted.is_empty()
    }
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreAnswer {
    /// It is durable.
    Stored,
    /// Somebody claimed the partition since: nothing was written.
    Lost,
}
