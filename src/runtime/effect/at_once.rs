//! The way of most records: opened, run and over in one go, without a round of intake, a lane or a look at the clock of
//! their own.
//!
//! What can't be told without waiting goes through a round of intake (`intake`); what has to wait gets a lane (`admit`).
//! What ended in one go is counted and completed together, as a [`Pass`].

use std::time::{Duration, Instant};

use super::backlog::Chunk;
use super::engine::Engine;
use super::intake::{self, Opened};
use super::partition::Partition;
use crate::runtime::stage::EffectStage;

/// Records of one partition that are taken in one after the other, and what is still to be noted of them.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) partition: i32,
    pub(super) generation: u64,
    /// When it began, in epoch milliseconds.
    pub(super) now_ms: i64,
    /// Behind the last attempt whose time was noted.
    lap: Instant,
    /// Attempts at things of one kind that ended well at once, and share one look at the clock.
    kind: &'static str,
    attempts: u32,
    /// Complete records without one missing between them: the first offset, the one behind the last.
    complete: (i64, i64),
    records: usize,
    bytes: usize,
    /// Something else than success happened: the partition may have been stopped.
    pub(super) disturbed: bool,
}

impl Pass {
    pub(super) fn new(partition: i32, generation: u64, now_ms: i64, began: Instant) -> Self {
        Self {
            partition,
            generation,
            now_ms,
            lap: began,
            kind: "",
            attempts: 0,
            complete: (0, 0),
            records: 0,
            bytes: 0,
            disturbed: false,
        }
    }

    /// The time since it was asked last, or since the pass began.
    pub(super) fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.lap, now))
    }

    fn hand_in(&mut self, owned: &mut Partition) {
        let (first, behind) = self.complete;
        if first < behind {
            owned.source.complete_run(first, behind);
            owned.admit(behind - 1);
            owned.gauge.release(self.records, self.bytes);
        }
        (self.records, self.bytes) = (0, 0);
    }
}

/// Why taking records in came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// There are no more of them, no slots for them, or something else is to be looked at first.
    Off,
    /// The next one has to wait for something.
    Waiting,
}

impl<S: EffectStage> Engine<S> {
    /// Takes in at most `most` of `records`, as far as it can be told without waiting what they open.
    pub(super) fn take_now(&mut self, pass: &mut Pass, records: &mut Chunk, most: usize) -> Left {
        let stage = std::sync::Arc::clone(&self.hands.stage);
        let (cursors, priorities) = (self.spec.cursors.is_some(), stage.has_priorities());
        let mut tasks = std::mem::take(&mut self.opening);
        let mut left = Left::Off;
        for _ in 0..most {
            let crowded = self.waits > 0 && !priorities;
            let no_slot = crowded && self.lanes.free_slots(self.spec.options.concurrency) == 0;
            if no_slot || self.stretch.is_over() {
                break;
            }
            let Some(record) = records.next() else { break };
            tasks.truncate(0);
            let Some(what) = intake::open_now(&*stage, &record, &mut tasks) else {
                records.put_back(record);
                left = Left::Waiting;
                break;
            };
            let offset = record.offset;
            let plain = self.admit(pass, Opened { record, what }, &tasks);
            if cursors || !plain {
                self.note(pass);
                if let Some(owned) = self.partitions.get_mut(&pass.partition) {
                    owned.admit(offset);
                }
            }
            if std::mem::take(&mut pass.disturbed)
                && self.partitions.get(&pass.partition).is_none_or(|owned| owned.closed)
            {
                break;
            }
        }
        self.note(pass);
        self.opening = tasks;
        left
    }

    /// Counts an attempt that ended well at once.
    #[inline]
    pub(super) fn count_at_once(&mut self, pass: &mut Pass, kind: &'static str, written_ms: Option<i64>) {
        if !std::ptr::eq(pass.kind, kind) && pass.kind != kind {
            self.time(pass);
            pass.kind = kind;
        }
        pass.attempts += 1;
        self.tally.complete(written_ms, pass.now_ms);
    }

    /// Notes a record that is complete and leaves memory.
    #[inline]
    pub(super) fn complete_at_once(&mut self, pass: &mut Pass, offset: i64, bytes: usize) {
        if pass.complete.1 != offset || pass.records == 0 {
            if let Some(owned) = self.partitions.get_mut(&pass.partition) {
                pass.hand_in(owned);
            }
            pass.complete = (offset, offset);
        }
        pass.complete.1 = offset + 1;
        pass.records += 1;
        pass.bytes += bytes;
    }

    /// Notes what a pass came to so far.
    pub(super) fn note(&mut self, pass: &mut Pass) {
        self.time(pass);
        if let Some(owned) = self.partitions.get_mut(&pass.partition) {
            pass.hand_in(owned);
        }
        pass.complete = (0, 0);
    }

    /// Attempts that ended at once took each its part of the time that all of them took.
    fn time(&mut self, pass: &mut Pass) {
        let attempts = std::mem::take(&mut pass.attempts);
        if attempts == 0 {
            return;
        }
        let each = pass.lap().checked_div(attempts).unwrap_or(Duration::ZERO);
        let attempts = u64::from(attempts);
        self.tally.took(pass.kind, each, attempts);
        self.balance.opened += attempts;
        self.balance.done += attempts;
        self.count("opened", attempts);
        self.count("done", attempts);
    }
}
