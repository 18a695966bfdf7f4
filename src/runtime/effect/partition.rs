//! What is known of an assigned partition of an effect stage.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use tokio::task::AbortHandle;

use crate::runtime::backoff::Backoff;
use crate::runtime::consumer::{Assigned, Gauge, Position, Side};
use crate::runtime::offsets::Tracker;
use crate::runtime::progress::PartitionState;
use crate::runtime::record::Record;

/// A source record whose tasks are not all complete.
#[derive(Debug)]
pub(super) struct OpenRecord {
    /// Tasks that are not.
    pub(super) tasks: usize,
    /// What it counts for in memory.
    pub(super) bytes: usize,
}

/// One assignment of one partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) generation: u64,
    pub(super) gauge: Arc<Gauge>,
    pub(super) source: Tracker,
    /// The next source offset that may be admitted.
    next_admitted: i64,
    /// The end of the source when the partition was assigned.
    source_end: i64,
    pub(super) retry: Tracker,
    /// Delivered and not yet opened.
    pub(super) queue: VecDeque<Record>,
    /// The round of intake that runs.
    pub(super) intake: Option<AbortHandle>,
    /// Something that the intake needs is away: not before this time.
    pub(super) intake_at_ms: i64,
    pub(super) backoff: Backoff,
    pub(super) open: HashMap<i64, OpenRecord>,
    /// Attempts and appends that run, by job number.
    pub(super) jobs: BTreeMap<u64, AbortHandle>,
    /// Whole records on their way to the dead-letter topic.
    pub(super) records_moving: u64,
    /// Going away, or stopped: nothing more is started.
    pub(super) closed: bool,
    pub(super) state: PartitionState,
}

impl Partition {
    pub(super) fn new(assigned: &Assigned) -> Self {
        Self {
            generation: assigned.generation,
            gauge: Arc::clone(&assigned.gauge),
            source: Tracker::new(assigned.source.position),
            next_admitted: assigned.source.position,
            source_end: assigned.source.high,
            retry: Tracker::new(assigned.retry.map_or(0, |retry| retry.position)),
            queue: VecDeque::new(),
            intake: None,
            intake_at_ms: 0,
            backoff: Backoff::default(),
            open: HashMap::new(),
            jobs: BTreeMap::new(),
            records_moving: 0,
            closed: false,
            state: PartitionState::Starting,
        }
    }

    /// Notes that the source record at `offset` was admitted: its tasks are known to the lanes.
    pub(super) fn admit(&mut self, offset: i64) {
        self.next_admitted = self.next_admitted.max(offset + 1);
    }

    /// Below this no source record is to come that a former owner may have parked work of. Behind the end that
    /// the source had at the assignment there is none at all.
    pub(super) fn admitted(&self) -> i64 {
        if self.next_admitted >= self.source_end { i64::MAX } else { self.next_admitted }
    }

    /// Source and retry position, from one moment: they are committed in one request.
    pub(super) fn positions(&self, partition: i32) -> [Position; 2] {
        [
            Position { side: Side::Source, partition, offset: self.source.committable() },
            Position { side: Side::Retry, partition, offset: self.retry.committable() },
        ]
    }

    /// Notes that one task of a source record is complete; the last one completes the record.
    pub(super) fn task_complete(&mut self, offset: i64) {
        let Some(record) = self.open.get_mut(&offset) else { return };
        record.tasks -= 1;
        if record.tasks == 0 {
            let bytes = record.bytes;
            self.open.remove(&offset);
            self.record_complete(offset, bytes);
        }
    }

    /// Notes that a source record is complete and leaves memory.
    pub(super) fn record_complete(&mut self, offset: i64, bytes: usize) {
        self.source.complete(offset);
        self.gauge.release(1, bytes);
    }

    /// Starts nothing more; what runs may end.
    pub(super) fn close(&mut self) {
        self.closed = true;
        if let Some(intake) = self.intake.take() {
            intake.abort();
        }
        self.queue.clear();
    }

    /// Cuts off what runs.
    pub(super) fn abort(&mut self) {
        self.close();
        for job in std::mem::take(&mut self.jobs).into_values() {
            job.abort();
        }
    }
}
