//! The index of parked work: what was read back from the retry partition, and how much of it is in memory.
//!
//! Invariant 6 (bounds): of a parked task the lanes keep about ninety bytes, see `lanes`. Its record is kept beside them
//! while both together take no more than `runtime.max_parked_bytes`, and read again by its offset otherwise.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt::{Parts, Payload};
use super::engine::Engine;
use super::partition::{Partition, Standing};
use super::settle::HELD_MS;
use crate::runtime::consumer::{RecordBatch, Records};
use crate::runtime::lanes::{History, Identity, Indexed, Lanes, Place, TaskNo};
use crate::runtime::progress::PartitionState;
use crate::runtime::record::Record;
use crate::runtime::redrive;
use crate::runtime::retry::{self, Glimpse, Mark};
use crate::runtime::stage::EffectStage;

/// Notes of kept records beyond twice their number, at most.
const SLACK: usize = 1_024;
/// How often the log tells how much is still to be read back.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Records of parked tasks that are kept in memory.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// What they count for.
    pub(super) bytes: usize,
    /// Whose they are, those that were kept first in front. Some may be gone.
    kept: VecDeque<TaskNo>,
    /// When the log was last told how much is still to be read back.
    told_at: Option<Instant>,
}

/// A parked task as its record's headers tell it.
struct Told<'n> {
    identity: Identity<'n>,
    due_ms: i64,
    history: History,
}

impl<S: EffectStage> Engine<S> {
    /// Takes in records of the retry partition.
    pub(super) fn index_all(&mut self, partition: i32, records: RecordBatch) {
        let mut records = records.into_iter();
        // Room that there isn't now doesn't come while a batch is read.
        let (keeps, now) = (self.has_room(0), self.env.clock.now_ms());
        while records.len() > 0 {
            if !self.index_at_sight(partition, &mut records, (keeps, now))
                && let Some(record) = records.next()
            {
                self.index(partition, &record, now);
            }
        }
        self.unfold(partition);
        self.shed();
    }

    /// Takes in the next record when it is simply a parked task of ours, without making anything of it but its entry in the
    /// index and, where it `keeps` them and has room, its record. Answers false, and has done nothing, when it may be something
    /// else.
    fn index_at_sight(&mut self, partition: i32, records: &mut Records, (keeps, now): (bool, i64)) -> bool {
        let Some(sight) = records.sight() else { return false };
        let Some(glimpse) = Glimpse::of(sight.headers()) else { return false };
        // What an operator put back gives no glimpse.
        let is_put_back = false;
        let (place, bytes) = (sight.offset(), sight.bytes());
        let Some(owned) = self.partitions.get_mut(&partition) else { return false };
        let is_plain = glimpse.source_partition == partition
            && !owned.closed
            && !owned.unfolding.is_of(glimpse.source_offset)
            && owned.standing(
                Some(glimpse.epoch),
                is_put_back,
                glimpse.target,
                (glimpse.source_offset, place),
            ) == Standing::Valid;
        if !is_plain {
            return false;
        }
        if !owned.retry.deliver(place) {
            records.pass();
            return true;
        }
        owned.note_parked(glimpse.source_offset);
        let Glimpse { lane, target, priority, .. } = glimpse;
        let told = Told {
            identity: Identity {
                partition,
                lane,
                target: target.into(),
                offset: glimpse.source_offset,
                priority,
            },
            due_ms: if glimpse.held { HELD_MS } else { glimpse.not_before_ms.unwrap_or(0) },
            history: History {
                attempt: glimpse.attempt,
                first_failed_at_ms: glimpse.first_failed_at_ms,
                is_put_back,
            },
        };
        match self.note_told(partition, place, told, now) {
            Some(no) if keeps && self.has_room(bytes) => {
                if let Some(record) = records.next() {
                    self.keep_marked(no, &record);
                }
            }
            Some(_) | None => records.pass(),
        }
        true
    }

    /// Rule 4: the open part of the retry partition, by lane and source offset.
    fn index(&mut self, partition: i32, record: &Record, now: i64) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        if owned.closed {
            return;
        }
        let is_open = owned.retry.deliver(record.offset);
        // Also one that an owner before us completed: what zombies wrote behind it is void for us as well.
        if let Some(epoch) = retry::marker_of(&record.headers) {
            self.on_marker(partition, record.offset, epoch);
            return;
        }
        if self.is_unfolded_twice(partition, record) || !is_open || self.is_redrive_settled(partition, record)
        {
            return;
        }
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        let mark = Mark::read(&record.headers).ok().filter(|mark| mark.source.partition == partition);
        let Some((mark, of)) = mark.and_then(|mark| mark.task.clone().map(|of| (mark, of))) else {
            self.put_foreign(partition, record);
            return;
        };
        let epoch = match mark.epoch.parse() {
            _ if redrive::is_fresh(record, &mark) => None,
            Ok(epoch) => Some(epoch),
            Err(_malformed) => {
                self.put_foreign(partition, record);
                return;
            }
        };
        let is_put_back = retry::is_put_back(&record.headers);
        match owned.standing(epoch, is_put_back, &of.target, (mark.source.offset, record.offset)) {
            Standing::Valid => {}
            Standing::Void => {
                tracing::info!(stage = %self.name, partition, offset = record.offset, epoch = %mark.epoch,
                    "a parked record is void: its writer had lost the partition");
                owned.retry.complete(record.offset);
                self.env.metrics.retry_void.with_label_values(&[&*self.name]).inc();
                return;
            }
            Standing::Over => return owned.place_was_complete(&of.target, record.offset),
        }
        owned.note_parked(mark.source.offset);
        let (lane, target, priority) = (&*of.lane, &*of.target, of.priority);
        let told = Told {
            identity: Identity {
                partition,
                lane,
                target: target.into(),
                offset: mark.source.offset,
                priority,
            },
            // A held lane waits until somebody decides.
            due_ms: if mark.held { HELD_MS } else { mark.not_before_ms.unwrap_or(0) },
            history: History {
                attempt: mark.attempt,
                first_failed_at_ms: mark.first_failed_at_ms,
                is_put_back,
            },
        };
        if let Some(no) = self.note_told(partition, record.offset, told, now)
            && self.has_room(record.bytes())
        {
            self.keep_marked(no, record);
        }
    }

    /// Puts a task into the index that a redrive put back at `place`.
    pub(super) fn index_redriven(&mut self, identity: Identity<'_>, place: i64) {
        let history = History { is_put_back: true, ..History::default() };
        let told = Told { identity, due_ms: 0, history };
        self.note_told(identity.partition, place, told, self.env.clock.now_ms());
    }

    /// Puts a parked task into the index. Gives it when the record at `offset` stands for it now.
    fn note_told(&mut self, partition: i32, offset: i64, told: Told<'_>, now: i64) -> Option<TaskNo> {
        let place = Place { offset, due_ms: told.due_ms };
        let owned = self.partitions.get_mut(&partition)?;
        match self.lanes.index(told.identity, place, told.history, now) {
            Indexed::New(no) => {
                self.balance.opened += 1;
                self.count("opened", 1);
                Some(no)
            }
            Indexed::Replaced { task: no, older } => {
                owned.place_complete(self.lanes.known(no).map(|known| known.target), older);
                self.note_placed(partition, no);
                self.forget(no);
                Some(no)
            }
            Indexed::Older => {
                let newer = self.lanes.open_of(told.identity);
                let target = newer.and_then(|no| self.lanes.known(no)).map(|known| known.target);
                owned.place_complete(target, offset);
                None
            }
            Indexed::Known => None,
        }
    }

    /// True when the record of one more parked task, of about so many bytes, may be kept. What is still to be read back is
    /// counted as if it were in the index.
    fn has_room(&self, bytes: usize) -> bool {
        let most = self.spec.options.max_parked_bytes;
        let taken = self.parked.bytes + bytes + self.lanes.bytes();
        taken <= most && {
            let unread: u64 = self.partitions.values().map(|owned| self.unread(owned)).sum();
            let to_come = usize::try_from(unread).unwrap_or(usize::MAX).saturating_mul(Lanes::BYTES_EACH);
            taken.saturating_add(to_come) <= most
        }
    }

    fn keep_marked(&mut self, no: TaskNo, record: &Record) {
        if let Some((mark, lane)) =
            Mark::read(&record.headers).ok().and_then(|mark| mark.task.clone().map(|of| (mark, of.lane)))
        {
            self.keep(no, 0, || (Arc::new(mark.original(record).detached()), lane));
        }
    }

    /// Keeps a parked task's record of about so many bytes, and the name of its lane, while the bound on them allows.
    pub(super) fn keep(
        &mut self,
        no: TaskNo,
        bytes: usize,
        record: impl FnOnce() -> (Arc<Record>, Arc<str>),
    ) {
        if !self.has_room(bytes) {
            return;
        }
        let (record, lane) = record();
        self.parked.bytes += record.bytes();
        let parts = Parts { record: Some(record), input: None, lane: Some(lane) };
        self.payloads.insert(no, Payload::Parts(parts));
        self.parked.kept.push_back(no);
        if self.parked.kept.len() > 2 * self.payloads.len() + SLACK {
            self.parked.kept.retain(|no| self.payloads.contains_key(no));
        }
    }

    /// Lets go of kept records when the index takes their room; the first kept goes first.
    pub(super) fn shed(&mut self) {
        let most = self.spec.options.max_parked_bytes;
        while self.parked.bytes + self.lanes.bytes() > most
            && let Some(no) = self.parked.kept.pop_front()
        {
            // What runs needs its record.
            if self.lanes.is_asleep(no) {
                self.forget(no);
            }
        }
    }

    /// Records of a partition's retry topic that are still to be read back before it flows.
    pub(super) fn unread(&self, owned: &Partition) -> u64 {
        let is_read_back = owned.closed || owned.state != PartitionState::Starting;
        let unread = if is_read_back { 0 } else { owned.retry_end - owned.retry.delivered() };
        u64::try_from(unread).unwrap_or(0)
    }

    /// Makes room for what is still to be read back, of all partitions.
    pub(super) fn expect_unread(&mut self) {
        let unread: u64 = self.partitions.values().map(|owned| self.unread(owned)).sum();
        self.lanes.expect(usize::try_from(unread).unwrap_or(usize::MAX));
    }

    /// Says in the metric, and now and then in the log, how much is still to be read back.
    pub(super) fn tell_unread(&mut self, unread: u64) {
        self.env.metrics.retry_unread.with_label_values(&[&*self.name]).set(unread as i64);
        if unread == 0 {
            self.parked.told_at = None;
            return;
        }
        let now = Instant::now();
        let told_at = *self.parked.told_at.get_or_insert(now);
        if now.duration_since(told_at) >= TELL_EVERY {
            self.parked.told_at = Some(now);
            tracing::info!(stage = %self.name, unread, index_bytes = self.lanes.bytes(), "reading parked work back");
        }
    }

    /// What is in memory of a task, to be held by others as well.
    pub(super) fn parts_of(&mut self, no: TaskNo) -> Option<Parts<S::Input>> {
        self.payloads.get_mut(&no).map(Payload::parts)
    }

    /// Drops what is in memory of a task. A parked one's record counts against the bound until then.
    pub(super) fn forget(&mut self, no: TaskNo) {
        let Some(payload) = self.payloads.remove(&no) else { return };
        if let (Some(record), true) = (payload.record(), self.lanes.place(no).is_some()) {
            self.parked.bytes = self.parked.bytes.saturating_sub(record.bytes());
        }
    }

    /// Tells the lanes the name of a task's lane, as its record had it.
    pub(super) fn learn(&mut self, no: TaskNo, lane: &str) {
        if !self.lanes.learn(no, lane) {
            tracing::error!(stage = %self.name, "the record of a parked task names another lane than before");
        }
    }
}
