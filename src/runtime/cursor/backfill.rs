//! A backfill: a stretch of the log that one target gets once more, on one partition. Data, but for its progress.

use std::sync::Arc;
use std::time::Duration;

/// What is to be delivered again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// Names it; the parts of one backfill on several partitions have the same.
    pub id: Arc<str>,
    /// From this offset on.
    pub from: i64,
    /// Up to this one, which is not delivered, but never beyond the oldest event that the target had not finished
    /// when it began: that and what follows comes to it anyway.
    pub to: Option<i64>,
    /// The time from one event to the next, at least: how fast it may go.
    pub every: Option<Duration>,
    /// Of every lane only the newest event of the stretch.
    pub newest_only: bool,
}

/// A backfill that was begun, as far as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Names it.
    pub id: Arc<str>,
    /// The first offset.
    pub from: i64,
    /// Behind the last.
    pub to: i64,
    /// The time from one event to the next, at least.
    pub every: Option<Duration>,
    /// Of every lane only the newest event of the stretch.
    pub newest_only: bool,
    /// Events that took effect.
    pub delivered: u64,
    /// Events that ended otherwise: in the retry or dead-letter topic, or skipped.
    pub set_aside: u64,
}

impl Running {
    /// The part that begins to carry out `asked`, up to `to`.
    pub(super) fn begin(asked: &Backfill, to: i64) -> Self {
        Self {
            id: Arc::clone(&asked.id),
            from: asked.from,
            to,
            every: asked.every,
            newest_only: asked.newest_only,
            delivered: 0,
            set_aside: 0,
        }
    }

    /// True when `offset` is in the stretch.
    pub(crate) fn covers(&self, offset: i64) -> bool {
        (self.from..self.to).contains(&offset)
    }

    /// How far it is, while everything below `next` is finished.
    pub(super) fn progress(&self, next: i64, state: BackfillState) -> BackfillProgress {
        BackfillProgress {
            id: Arc::clone(&self.id),
            from: self.from,
            at: next.clamp(self.from, self.to),
            to: self.to,
            delivered: self.delivered,
            set_aside: self.set_aside,
            state,
        }
    }
}

/// How far a backfill is on one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackfillProgress {
    /// Names it.
    pub id: Arc<str>,
    /// The first offset.
    pub from: i64,
    /// Everything below is finished.
    pub at: i64,
    /// Behind the last offset.
    pub to: i64,
    /// Events that took effect.
    pub delivered: u64,
    /// Events that ended otherwise.
    pub set_aside: u64,
    /// Whether it goes on.
    pub state: BackfillState,
}

impl BackfillProgress {
    /// A part that ends without having begun: its stretch is empty.
    pub(super) fn without(asked: &Backfill, state: BackfillState) -> Self {
        Running::begin(asked, asked.from).progress(asked.from, state)
    }
}

/// Whether a backfill goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackfillState {
    /// It does.
    Running,
    /// Everything was delivered, or put aside.
    Done,
    /// It was cancelled, or its target is gone.
    Cancelled,
}

impl BackfillState {
    /// The name in the store and in listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}
