//! Redriven dead letters in the retry partition: what is open already is refused, what never was a task is opened now.
//!
//! What a redrive wrote itself has no epoch and is never void. The tasks that an owner makes of a redriven record are its
//! own: they have its epoch, so that one which lands behind a later owner's marker is void as any other (rule 5). Therefore
//! nothing is opened before the partition is held; until then another epoch may have to be claimed.

use std::sync::Arc;

use futures_util::future::join_all;

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
use crate::runtime::retry::{Epoch, Mark, REDRIVE_ID, TaskOf};
use crate::runtime::stage::{EffectStage, TaskSpec, Tasks};

/// Appends after which no more redriven records are opened together.
const APPENDS: usize = 1_024;

/// What a redriven record came to.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Its tasks are parked.
    Parked,
    /// It had nothing for the stage.
    Skipped(SkipReason),
    /// It is dead again.
    Dead(ErrorClass),
}

/// Redriven records that were opened, the first of those that waited.
#[derive(Debug)]
pub(super) struct Unfolded {
    ends: Vec<End>,
    /// Some of their tasks may be there twice, because the producer sent them again.
    resent: bool,
    /// Where the last of their tasks lies.
    last: Option<i64>,
    /// Whether all that they came to was appended.
    result: Result<(), ProduceError>,
}

impl<S: EffectStage> Engine<S> {
    /// Takes care of a redriven record that is not simply a parked task. Answers true when nothing is left to be done.
    ///
    /// Rule 8: an identity that is still open, and isn't held, is a duplicate: it runs anyway, and once. One that is about to be
    /// a dead letter runs again when it is.
    pub(super) fn is_redrive_settled(&mut self, partition: i32, record: &Record) -> bool {
        let Ok(mark) = Mark::read(&record.headers) else { return false };
        if !redrive::is_fresh(record, &mark) || mark.source.partition != partition {
            return false;
        }
        let Some(of) = &mark.task else {
            if let Some(owned) = self.partitions.get_mut(&partition) {
                owned.unfolding.push(record.offset, mark.source.offset);
            }
            self.unfold(partition);
            return true;
        };
        let open = self.lanes.open_of(identity(&mark, of));
        if let (Some(no), Some(owned)) = (open, self.partitions.get_mut(&partition))
            && !owned.dying.put_back(no, record.offset)
        {
            tracing::info!(stage = %self.name, partition, offset = record.offset,
                "a redriven task is still open; its copy is refused");
            owned.place_complete(Some(&of.target), record.offset);
        }
        open.is_some()
    }

    /// Notes which tasks lie behind a redriven record that is to be opened, also complete ones. Answers true when `record` is
    /// another copy of one that we appended and that is over: then nothing is left to be done.
    pub(super) fn is_unfolded_twice(&mut self, partition: i32, record: &Record) -> bool {
        let Some(owned) = self.partitions.get_mut(&partition) else { return false };
        let Ok(mark) = Mark::read(&record.headers) else { return false };
        let Some(of) = &mark.task else { return false };
        if mark.source.partition != partition || !owned.unfolding.is_of(mark.source.offset) {
            return false;
        }
        let epoch = mark.epoch.parse::<Epoch>().ok();
        let is_valid =
            epoch.map_or_else(|| redrive::is_fresh(record, &mark), |epoch| !owned.tenure.is_void(epoch));
        let again = is_valid && owned.unfolding.note(mark.source.offset, of);
        // What is carried forward keeps its headers; its task is open until then.
        let is_ours = epoch == Some(owned.tenure.own()) && record.headers.last(REDRIVE_ID).is_some();
        let is_over = again && is_ours && !self.lanes.is_open(identity(&mark, of));
        if is_over {
            owned.place_complete(Some(&of.target), record.offset);
        }
        is_over
    }

    /// Opens the next redriven records as some of the source are opened, in order, and parks their tasks behind them under
    /// their source offsets; those that are there already are left out.
    pub(super) fn unfold(&mut self, partition: i32) {
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        if owned.closed || !owned.tenure.is_held() {
            return;
        }
        let next = owned.unfolding.begin(owned.retry.delivered());
        if next.is_empty() {
            return;
        }
        let (epoch, name) = (owned.tenure.own().to_string(), Arc::clone(&self.name));
        let (hands, producer) = (Arc::clone(&self.hands), self.env.producer.clone());
        let (retry_topic, dead_letters) = (Arc::clone(&self.retry_topic), Arc::clone(&self.dead_letters));
        self.spawn(partition, async move {
            let (mut ends, mut out) = (Vec::new(), Vec::new());
            for (place, there) in next {
                let mut backoff = Backoff::default();
                let opened = loop {
                    let mut tasks = Tasks::default();
                    if let Ok(record) = hands.readback.fetch(partition, place).await
                        && let Ok(mark) = Mark::read(&record.headers)
                    {
                        let original = mark.original(&record);
                        if let Ok(what) =
                            intake::open(&*hands.stage, &hands.clock, &original, &mut tasks).await
                        {
                            break Some((original, what, tasks));
                        }
                    }
                    // What was opened before it doesn't wait for it.
                    if !ends.is_empty() {
                        break None;
                    }
                    hands.clock.sleep(backoff.next_pause()).await;
                };
                let Some((original, what, tasks)) = opened else { break };
                // They keep the id of the redrive, and have our epoch.
                let mark = Mark::of(&original, &name, &epoch);
                ends.push(match what {
                    intake::What::Tasks(_, opened, _seen) => {
                        for TaskSpec { lane, target, priority } in opened.filter_map(|at| tasks.get(at)) {
                            let task = TaskOf { lane: lane.into(), target: Arc::clone(target), priority };
                            if !there.contains(&(Arc::clone(&task.lane), Arc::clone(&task.target))) {
                                let mark = Mark { task: Some(task), ..mark.clone() };
                                out.push(put_aside::marked(&original, &mark, &retry_topic));
                            }
                        }
                        End::Parked
                    }
                    intake::What::Skipped(reason) => End::Skipped(reason),
                    intake::What::Known(_) => End::Skipped(SkipReason::Duplicate),
                    intake::What::Dead(why) => {
                        let mark = Mark { error: Some(why.clone()), ..mark };
                        out.push(put_aside::marked(&original, &mark, &dead_letters));
                        End::Dead(why.class)
                    }
                });
                if out.len() >= APPENDS {
                    break;
                }
            }
            let sends = out.into_iter().map(|record| {
                let is_parked = record.topic == retry_topic;
                let (producer, clock) = (&producer, &hands.clock);
                async move { put_aside::send(producer, clock, record).await.map(|sent| (is_parked, sent)) }
            });
            let sent: Result<Vec<_>, _> = join_all(sends).await.into_iter().collect();
            let resent = sent.iter().flatten().any(|(is_parked, sent)| *is_parked && sent.resent);
            let parked = sent.iter().flatten().filter(|(is_parked, _)| *is_parked);
            let last = parked.map(|(_, sent)| sent.offset).max();
            What::Unfolded(Box::new(Unfolded { ends, resent, last, result: sent.map(|_| ()) }))
        });
    }

    pub(super) fn on_unfolded(&mut self, partition: i32, unfolded: Unfolded) {
        if let Err(error) = unfolded.result {
            let first = self.partitions.get_mut(&partition).and_then(|owned| owned.unfolding.opened());
            let (topic, offset, why) = (self.retry_topic.to_string(), first.unwrap_or(-1), error.to_string());
            self.stop(partition, PartitionFault::CannotPutAside { topic, partition, offset, why });
            return;
        }
        if unfolded.resent {
            self.void_copies(partition);
        }
        for end in unfolded.ends {
            let Some(owned) = self.partitions.get_mut(&partition) else { return };
            if let Some(place) = owned.unfolding.opened() {
                owned.retry.complete(place);
            }
            match end {
                End::Parked => continue,
                End::Skipped(reason) => {
                    self.balance.skipped += 1;
                    self.tally.skipped(reason);
                    self.count("skipped", 1);
                }
                End::Dead(class) => {
                    self.balance.dead += 1;
                    self.dead_lettered(class.as_str());
                    self.count("dead", 1);
                }
            }
            self.balance.opened += 1;
            self.count("opened", 1);
        }
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.unfolding.end(unfolded.last);
        }
        self.unfold(partition);
    }
}

/// The task that a mark names.
fn identity<'m>(mark: &'m Mark, of: &'m TaskOf) -> Identity<'m> {
    Identity {
        partition: mark.source.partition,
        lane: &of.lane,
        target: (&of.target).into(),
        offset: mark.source.offset,
        priority: of.priority,
    }
}
