//! The index of parked work: what was read back from the retry partition, and how much of it is in memory.

use std::sync::Arc;

use super::attempt::Payload;
use super::engine::Engine;
use super::settle::HELD_MS;
use crate::runtime::lanes::{History, Identity, Indexed, Place, TaskNo};
use crate::runtime::record::Record;
use crate::runtime::redrive;
use crate::runtime::retry::{self, Mark};
use crate::runtime::stage::EffectStage;

impl<S: EffectStage> Engine<S> {
    /// Rule 4: the open part of the retry partition, by lane and source offset.
    pub(super) fn index(&mut self, partition: i32, record: Record) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        if owned.closed || !owned.retry.deliver(record.offset) {
            return;
        }
        if let Some(epoch) = retry::marker_of(&record.headers) {
            self.on_marker(partition, record.offset, epoch);
            return;
        }
        if self.is_redrive_settled(partition, &record) {
            return;
        }
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        let mark = Mark::read(&record.headers).ok().filter(|mark| mark.source.partition == partition);
        let Some((mark, of)) = mark.and_then(|mark| mark.task.clone().map(|of| (mark, of))) else {
            self.put_foreign(partition, &record);
            return;
        };
        match mark.epoch.parse() {
            // A redrive put it back, so no owner's epoch is due. What an owner parks of it later has one.
            _ if redrive::is_fresh(&record, &mark) => {}
            Ok(epoch) if owned.tenure.is_void(epoch) => {
                tracing::info!(stage = %self.name, partition, offset = record.offset, %epoch,
                    "a parked record is void: its writer had lost the partition");
                owned.retry.complete(record.offset);
                self.env.metrics.retry_void.with_label_values(&[&*self.name]).inc();
                return;
            }
            Ok(_valid) => {}
            Err(_malformed) => {
                self.put_foreign(partition, &record);
                return;
            }
        }
        // A cursor took it back, and the owner before us went before the retry topic knew.
        let is_taken_back = owned
            .cursors
            .as_deref()
            .is_some_and(|own| !own.is_open && own.table.owes(&of.target, mark.source.offset));
        if is_taken_back {
            owned.retry.complete(record.offset);
            return;
        }
        owned.note_parked(mark.source.offset);
        let identity = Identity {
            partition,
            lane: of.lane,
            target: of.target,
            offset: mark.source.offset,
            priority: of.priority,
        };
        // A held lane waits until somebody decides.
        let due_ms = if mark.held { HELD_MS } else { mark.not_before_ms.unwrap_or(0) };
        let place = Place { offset: record.offset, due_ms };
        let history = History { attempt: mark.attempt, first_failed_at_ms: mark.first_failed_at_ms };
        match self.lanes.index(identity, place, history, self.env.clock.now_ms()) {
            Indexed::New(no) => {
                self.balance.opened += 1;
                self.count("opened", 1);
                self.note_placed(partition, no, record.offset);
                self.keep(no, record.bytes(), || Arc::new(mark.original(&record).detached()));
            }
            Indexed::Replaced { task: no, older } => {
                owned.place_complete(older);
                self.note_placed(partition, no, record.offset);
                self.forget(no);
                self.keep(no, record.bytes(), || Arc::new(mark.original(&record).detached()));
            }
            Indexed::Older => owned.retry.complete(record.offset),
            Indexed::Known => {}
        }
    }

    /// Keeps a parked task's record of about so many bytes while the bound on them allows.
    pub(super) fn keep(&mut self, no: TaskNo, bytes: usize, record: impl FnOnce() -> Arc<Record>) {
        if self.parked_bytes + bytes <= self.spec.options.max_parked_bytes {
            let record = record();
            self.parked_bytes += record.bytes();
            self.payloads.insert(no, Payload { record: Some(record), input: None });
        }
    }

    /// Drops what is in memory of a task. A parked one's record counts against the bound until then.
    pub(super) fn forget(&mut self, no: TaskNo) {
        let Some(payload) = self.payloads.remove(&no) else { return };
        if let (Some(record), true) = (payload.record, self.lanes.place(no).is_some()) {
            self.parked_bytes = self.parked_bytes.saturating_sub(record.bytes());
        }
    }
}
