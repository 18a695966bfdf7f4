//! Appends a task or record to the retry or dead-letter topic, same partition number, and waits for the
//! acknowledgement: only then is it complete where it came from.
//!
//! A record that the producer sent more than once may lie in the log more than once: below the copy that was acknowledged, or
//! above it, where it may come at any later time, as long as a connection of a client that was replaced still holds it. Read when
//! its task is over, a copy in the retry partition would be a task of its own and run behind later ones of its lane. Nothing tells
//! it from the first but that its epoch is over; so the partition is taken up anew, under a higher one (rule 5). What came before
//! the new marker is read before anything starts, so that all copies there are one task; what comes behind it is void.
//!
//! That can't go on for ever. Each time an append was acknowledged, so that something got on; a failure of the producer costs a
//! partition one taking up, however many of its records were sent again, for what is acknowledged after the first one belongs to a
//! partition that is closed; and the producer leaves ever longer pauses between its clients.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;

use super::attempt::panic_failure;
use super::engine::Engine;
use super::report::{Aside, What};
use super::settle::HELD_MS;
use crate::clock::Clock;
use crate::runtime::backoff::Backoff;
use crate::runtime::error::PartitionFault;
use crate::runtime::lanes::TaskNo;
use crate::runtime::outcome::{ErrorClass, Failure};
use crate::runtime::producer::{Delivered, OutRecord, ProduceError, Producer};
use crate::runtime::record::Record;
use crate::runtime::retry::{self, Mark, REDRIVE_ID, TaskOf};
use crate::runtime::stage::{EffectStage, Task};

impl<S: EffectStage> Engine<S> {
    /// A mark for a task, as far as it came. A task that ran or waited in memory has a lane whose name is known.
    fn mark(&mut self, no: TaskNo, record: &Record) -> Option<Mark> {
        let known = self.lanes.known(no)?;
        let history = self.lanes.history(no)?;
        let epoch = self.epoch(known.partition);
        let Some(lane) = known.lane.map(Arc::from) else {
            self.cannot_put_aside(no, "the name of its lane is not known");
            return None;
        };
        Some(Mark {
            task: Some(TaskOf { lane, target: Arc::clone(known.target), priority: known.priority }),
            attempt: history.attempt,
            first_failed_at_ms: history.first_failed_at_ms,
            ..Mark::of(record, &self.name, &epoch)
        })
    }

    fn epoch(&self, partition: i32) -> String {
        self.partitions.get(&partition).map_or_else(String::new, |owned| owned.tenure.own().to_string())
    }

    /// Rule 5: appends this assignment's marker to the retry partition; reading it tells that it is there.
    pub(super) fn put_marker(&mut self, partition: i32) {
        let Some(owned) = self.partitions.get(&partition) else { return };
        let out = OutRecord {
            topic: Arc::clone(&self.retry_topic),
            partition: Some(partition),
            key: None,
            payload: None,
            headers: retry::marker(&self.name, owned.tenure.own()),
            timestamp_ms: None,
        };
        self.put(partition, 0, Aside::Marker, out);
    }

    /// Rule 2: appends a task to the retry topic.
    pub(super) fn put_parked(&mut self, no: TaskNo, due_ms: i64, why: Option<Failure>) {
        let Some(record) = self.record_of(no) else { return };
        let Some(mut mark) = self.mark(no, &record) else { return };
        mark.held = due_ms == HELD_MS;
        mark.not_before_ms = Some(due_ms).filter(|_| !mark.held);
        mark.error = why;
        let mut out = marked(&record, &mark, &self.retry_topic);
        // From here on it is ours, with our epoch.
        out.headers.retain(|name| name != REDRIVE_ID);
        self.put(record.partition, record.offset, Aside::Parked { task: no, due_ms }, out);
    }

    /// Dead-letters a task, once its stage was told that it is given up.
    pub(super) fn put_dead(&mut self, no: TaskNo, why: &Failure) {
        let Some(record) = self.record_of(no) else { return };
        let Some(mark) = self.mark(no, &record) else { return };
        let out = marked(&record, &dead(mark, why), &self.dead_letters);
        let what = Aside::DeadTask { task: no, class: why.class };
        let (partition, offset) = (record.partition, record.offset);
        let input = self.parts_of(no).and_then(|parts| parts.input);
        let (Some(input), Some(known)) = (input, self.lanes.known(no)) else {
            return self.put(partition, offset, what, out);
        };
        let history = self.lanes.history(no).unwrap_or_default();
        let task = Task {
            record: record.into(),
            input: input.into(),
            target: Arc::clone(known.target),
            attempt: history.attempt,
            first_failed_at_ms: history.first_failed_at_ms,
        };
        let (stage, why) = (Arc::clone(&self.hands.stage), why.clone());
        let sending = self.sending(partition, out);
        self.spawn(partition, async move {
            let told = AssertUnwindSafe(stage.given_up(&task, &why)).catch_unwind().await;
            match told.unwrap_or_else(|_| Err(panic_failure())) {
                Ok(()) => What::PutAside { what, offset, result: sending.await },
                Err(why) => What::NotGivenUp { offset, why },
            }
        });
    }

    /// Dead-letters a record that opened no task.
    pub(super) fn put_dead_record(&mut self, record: &Record, why: &Failure) {
        let mark = dead(Mark::of(record, &self.name, &self.epoch(record.partition)), why);
        let out = marked(record, &mark, &self.dead_letters);
        let aside = Aside::DeadRecord { bytes: record.bytes(), class: why.class };
        if let Some(owned) = self.partitions.get_mut(&record.partition) {
            owned.records_moving += 1;
        }
        self.put(record.partition, record.offset, aside, out);
    }

    /// Dead-letters a record of the retry topic that can't be understood.
    pub(super) fn put_foreign(&mut self, partition: i32, record: &Record) {
        tracing::warn!(stage = %self.name, partition, offset = record.offset,
            "a record of the retry topic is not ours; dead-lettering it");
        let why = Failure::new(ErrorClass::Decode, "a record of the retry topic without its headers");
        let mark = dead(Mark::of(record, &self.name, &self.epoch(partition)), &why);
        let out = marked(record, &mark, &self.dead_letters);
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.records_moving += 1;
        }
        self.balance.opened += 1;
        self.count("opened", 1);
        self.put(partition, record.offset, Aside::Foreign { place: record.offset }, out);
    }

    fn put(&mut self, partition: i32, offset: i64, what: Aside, out: OutRecord) {
        let sending = self.sending(partition, out);
        self.spawn(partition, async move { What::PutAside { what, offset, result: sending.await } });
    }

    /// Sends a record; from the first poll on the partition's state tells if it waits for that.
    fn sending(
        &self,
        partition: i32,
        out: OutRecord,
    ) -> impl Future<Output = Result<Delivered, ProduceError>> + Send + 'static + use<S> {
        let (producer, clock) = (self.env.producer.clone(), self.env.clock.clone());
        let appends = Arc::clone(&self.appends);
        async move {
            let _under_way = appends.begin(partition, &out.topic);
            send(&producer, &clock, out).await
        }
    }

    /// Makes void what may still land of records of the retry partition that were sent more than once. Whoever takes up a
    /// partition next that is closed already has a higher epoch anyway.
    pub(super) fn void_copies(&mut self, partition: i32) {
        if self.partitions.get(&partition).is_none_or(|owned| owned.closed) {
            return;
        }
        tracing::warn!(stage = %self.name, partition,
            "a parked record was sent more than once: the partition is taken up anew, so that a late copy is void");
        self.take_up_anew(partition);
    }

    /// The record of a task that is to be put aside: it ran or waited in memory, so it is there.
    fn record_of(&mut self, no: TaskNo) -> Option<Arc<Record>> {
        let record = self.parts_of(no).and_then(|parts| parts.record);
        if record.is_none() {
            self.cannot_put_aside(no, "it is not in memory");
        }
        record
    }

    fn cannot_put_aside(&mut self, no: TaskNo, why: &str) {
        let Some((partition, offset)) = self.lanes.known(no).map(|known| (known.partition, known.offset))
        else {
            return;
        };
        let (topic, why) = (self.spec.source.clone(), format!("a task is to be put aside, but {why}"));
        self.stop(partition, PartitionFault::CannotPutAside { topic, partition, offset, why });
    }
}

/// `record` with `mark`, for `topic`: key, payload and original headers byte for byte.
pub(super) fn marked(record: &Record, mark: &Mark, topic: &Arc<str>) -> OutRecord {
    OutRecord {
        topic: Arc::clone(topic),
        partition: Some(record.partition),
        key: record.key.clone(),
        payload: record.payload.clone(),
        headers: mark.write(&record.headers),
        timestamp_ms: None,
    }
}

/// Sends `record` until it is acknowledged, or refused for good. While Kafka is away its lane waits.
pub(super) async fn send(
    producer: &Producer,
    clock: &Clock,
    record: OutRecord,
) -> Result<Delivered, ProduceError> {
    let (mut backoff, mut is_in_doubt) = (Backoff::default(), false);
    loop {
        match producer.send(record.clone()).await {
            Ok(delivered) => {
                return Ok(Delivered { resent: delivered.resent || is_in_doubt, ..delivered });
            }
            Err(error) if error.is_transient() => {
                if !backoff.is_waiting() {
                    tracing::warn!(topic = %record.topic, %error, "putting a record aside fails; trying until it works");
                }
                is_in_doubt |= error.is_in_doubt();
                clock.sleep(backoff.next_pause()).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Puts why something was dead-lettered into its mark.
fn dead(mut mark: Mark, why: &Failure) -> Mark {
    mark.not_before_ms = None;
    mark.error = Some(why.clone());
    mark
}
