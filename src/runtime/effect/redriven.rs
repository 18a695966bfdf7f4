//! Redriven dead letters in the retry partition: what is open already is refused, what never was a task is opened now.

use std::sync::Arc;

use super::engine::Engine;
use super::intake;
use super::put_aside;
use super::report::What;
use crate::runtime::backoff::Backoff;
use crate::runtime::error::PartitionFault;
use crate::runtime::lanes::Identity;
use crate::runtime::outcome::{ErrorClass, SkipReason};
use crate::runtime::producer::ProduceError;
use crate::runtime::record::Record;
use crate::runtime::redrive;
use crate::runtime::retry::{Mark, TaskOf};
use crate::runtime::stage::{EffectStage, TaskSpec, Tasks};

impl<S: EffectStage> Engine<S> {
    /// Takes care of a redriven record that is not simply a parked task. Answers true when nothing is left to be done.
    ///
    /// Rule 8: an identity that is still open, and isn't held, is a duplicate: it runs anyway, and once.
    pub(super) fn is_redrive_settled(&mut self, partition: i32, record: &Record) -> bool {
        let Ok(mark) = Mark::read(&record.headers) else { return false };
        if !redrive::is_fresh(record, &mark) || mark.source.partition != partition {
            return false;
        }
        let Some(of) = &mark.task else {
            self.unfold(partition, record, &mark);
            return true;
        };
        let identity = Identity {
            partition,
            lane: &of.lane,
            target: (&of.target).into(),
            offset: mark.source.offset,
            priority: of.priority,
        };
        let open = self.lanes.is_open(identity);
        if open && let Some(owned) = self.partitions.get_mut(&partition) {
            tracing::info!(stage = %self.name, partition, offset = record.offset,
                "a redriven task is still open; its copy is refused");
            owned.retry.complete(record.offset);
        }
        open
    }

    /// Opens a redriven record as one of the source is opened, and parks its tasks behind it under its source offset. A
    /// crash on the way repeats that; what is open already is then refused.
    fn unfold(&mut self, partition: i32, marked: &Record, mark: &Mark) {
        let (stage, clock) = (Arc::clone(&self.hands.stage), self.env.clock.clone());
        let (producer, name) = (self.env.producer.clone(), Arc::clone(&self.name));
        let (retry_topic, dead_letters) = (Arc::clone(&self.retry_topic), Arc::clone(&self.dead_letters));
        let (original, place) = (mark.original(marked), marked.offset);
        // The tasks are redriven as well: they keep its id, and have no epoch.
        let mark = Mark::of(&original, &name, "");
        self.spawn(partition, async move {
            let (mut backoff, mut tasks) = (Backoff::default(), Tasks::default());
            let opened = loop {
                match intake::open(&*stage, &clock, &original, &mut tasks).await {
                    Ok(opened) => break opened,
                    Err(_away) => clock.sleep(backoff.next_pause()).await,
                }
            };
            let mut out = Vec::new();
            let (mut skipped, mut dead) = (None, None);
            match opened {
                intake::What::Tasks(_, opened, _seen) => {
                    for TaskSpec { lane, target, priority } in opened.filter_map(|at| tasks.get(at)) {
                        let task = TaskOf { lane: lane.into(), target: Arc::clone(target), priority };
                        let mark = Mark { task: Some(task), ..mark.clone() };
                        out.push(put_aside::marked(&original, &mark, &retry_topic));
                    }
                }
                intake::What::Skipped(reason) => skipped = Some(reason),
                intake::What::Known(_) => skipped = Some(SkipReason::Duplicate),
                intake::What::Dead(why) => {
                    let mark = Mark { error: Some(why.clone()), ..mark.clone() };
                    out.push(put_aside::marked(&original, &mark, &dead_letters));
                    dead = Some(why.class);
                }
            }
            let mut result = Ok(());
            for record in out {
                if let Err(error) = put_aside::send(&producer, &clock, record).await {
                    result = Err(error);
                    break;
                }
            }
            What::Unfolded { place, skipped, dead, result }
        });
    }

    pub(super) fn on_unfolded(
        &mut self,
        partition: i32,
        place: i64,
        skipped: Option<SkipReason>,
        dead: Option<ErrorClass>,
        result: Result<(), ProduceError>,
    ) {
        if let Err(error) = result {
            let (topic, why) = (self.retry_topic.to_string(), error.to_string());
            let fault = PartitionFault::CannotPutAside { topic, partition, offset: place, why };
            self.stop(partition, fault);
            return;
        }
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.retry.complete(place);
        }
        if skipped.is_some() || dead.is_some() {
            self.balance.opened += 1;
            self.count("opened", 1);
        }
        if let Some(reason) = skipped {
            self.balance.skipped += 1;
            self.tally.skipped(reason);
            self.count("skipped", 1);
        }
        if let Some(class) = dead {
            self.balance.dead += 1;
            self.dead_lettered(class.as_str());
            self.count("dead", 1);
        }
    }
}
