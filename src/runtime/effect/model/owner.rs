//! One owner of the partition: its view, and what the engine does with it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::world::{Event, Kept, Out, Parked};
use super::{LANES, Of, TARGETS};
use crate::runtime::consumer::{Assigned, Gauge, Span};
use crate::runtime::cursor::{CursorRow, CursorWrite, Cursors, Live};
use crate::runtime::effect::own_cursors::OwnCursors;
use crate::runtime::effect::partition::{OpenRecord, Partition, Standing};
use crate::runtime::effect::settle::HELD_MS;
use crate::runtime::effect::waiting::Duty;
use crate::runtime::lanes::{Admitted, History, Identity, Indexed, Lanes, Place, TaskNo};
use crate::runtime::offsets::CompletedRuns;
use crate::runtime::record::SourcePartition;
use crate::runtime::retry::TaskOf;

/// What of a target may wait beside others' where there are no cursors.
const SHARE: usize = 3;

/// What the owner hears of when an append was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) enum Aside {
    Marker,
    Parked {
        task: TaskNo,
        due_ms: i64,
    },
    /// A task of a redriven record.
    Unfolded,
    DeadTask(TaskNo),
    DeadRecord(i64),
}

/// An append that was sent: it lands later, perhaps when its sender is long superseded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Append {
    pub(super) out: Out,
    pub(super) aside: Aside,
}

/// Redriven records that are being opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unfolded {
    pub(super) records: usize,
    /// Of their tasks, those that are not acknowledged.
    pub(super) left: usize,
    /// Where the last of their tasks lies.
    pub(super) last: Option<i64>,
}

#[derive(Debug)]
pub(super) struct Owner {
    pub(super) partition: Partition,
    pub(super) lanes: Lanes,
    pub(super) running: VecDeque<TaskNo>,
    pub(super) sent: VecDeque<Append>,
    pub(super) landed: VecDeque<(Aside, i64)>,
    /// Redriven records that are being opened.
    pub(super) unfolding: Option<Unfolded>,
    /// Rows on their way to the store.
    pub(super) writing: Option<CursorWrite>,
    /// How often tasks may still take effect, unless it is once.
    pub(super) may: BTreeMap<Of, u32>,
}

impl Owner {
    pub(super) fn new(number: u64, committed: [&CompletedRuns; 2], ends: (i64, i64)) -> Self {
        let span =
            |runs: &CompletedRuns, high| Span { position: runs.base, low: 0, high, map: Some(runs.clone()) };
        let [source, retry] = committed;
        let assigned = Assigned {
            partition: 0,
            generation: number,
            source: span(source, ends.0),
            retry: Some(span(retry, ends.1)),
            gauge: Arc::new(Gauge::default()),
        };
        Self {
            partition: Partition::new(&assigned, number, true, 0),
            lanes: Lanes::default(),
            running: VecDeque::new(),
            sent: VecDeque::new(),
            landed: VecDeque::new(),
            unfolding: None,
            writing: None,
            may: BTreeMap::new(),
        }
    }

    pub(super) fn claim_cursors(&mut self, epoch: i64, rows: &[CursorRow]) {
        let source = &self.partition.source;
        let complete_to = source.runs().next_back().map_or(source.committable(), |(_, end)| end);
        let table = Cursors::restore(rows, complete_to);
        for target in table.targets() {
            self.lanes.set_gate(0, target, table.gate(target), 0);
        }
        let (cluster_id, topic, topic_id) = ("c".into(), "t".into(), "t".into());
        let at = SourcePartition { cluster_id, topic, topic_id, partition: 0 };
        self.partition.claimed_cursors(OwnCursors::new(at, epoch, table, 0));
    }

    pub(super) fn put_marker(&mut self) {
        let out = Out::Retry(Kept::Marker(self.partition.tenure.own()));
        self.sent.push_back(Append { out, aside: Aside::Marker });
    }

    pub(super) fn has_no_cursors(&self) -> bool {
        self.partition.cursors.as_deref().is_none_or(|own| own.table.targets().next().is_none())
    }

    /// An operator took a task back: it may take effect so many times more.
    pub(super) fn may_run(&mut self, of: Of, more: u32) {
        *self.may.entry(of).or_insert(1) += more;
    }

    /// An operator has the first tasks of held lanes tried again.
    pub(super) fn hurry_held(&mut self) {
        for (lane, _) in LANES {
            if let Ok((task, true)) = self.lanes.waiting_first(0, lane) {
                self.lanes.hurry(task, 0);
            }
        }
    }

    pub(super) fn open_cursors(&mut self) -> Option<&mut OwnCursors> {
        self.partition.cursors.as_deref_mut().filter(|own| own.is_open)
    }

    pub(super) fn of(&self, task: TaskNo) -> Of {
        let known = self.lanes.known(task).expect("still open");
        let lane = known.lane.map(|name| LANES.iter().position(|(other, _)| *other == name));
        (lane.flatten().expect("its name is known while it is in memory"), known.offset)
    }

    pub(super) fn admit(&mut self, event: Event, offset: i64) {
        let mut open = 0;
        for lane in event.lanes() {
            if let Some(own) = self.partition.cursors.as_deref_mut() {
                let target: Arc<str> = TARGETS[LANES[lane].1].into();
                match own.table.live(&target, offset) {
                    Live::Own => {}
                    Live::Finished | Live::Handed => continue,
                    Live::Covered => {
                        own.cover(&target, offset, Duty::Source(offset), true);
                        open += 1;
                        continue;
                    }
                }
            }
            let share = if self.partition.cursors.is_some() { usize::MAX } else { SHARE };
            match self.lanes.fresh(identity((lane, offset)), share, 0) {
                Admitted::AlreadyParked => continue,
                Admitted::Queued(_) => {}
                Admitted::Park(task) => self.put_parked(task, 0),
            }
            open += 1;
        }
        if open == 0 {
            self.partition.record_complete(offset, 0);
        } else {
            self.partition.open.insert(offset, OpenRecord { tasks: open, bytes: 0 });
        }
    }

    pub(super) fn index(&mut self, at: i64, parked: Parked, is_open: bool) {
        let Parked { of: (lane, offset), epoch, is_redriven, .. } = parked;
        let of = task_of(lane);
        // What lies behind a redriven record that is to be opened.
        if self.partition.unfolding.is_of(offset) {
            let is_valid = epoch.is_none_or(|epoch| !self.partition.tenure.is_void(epoch));
            let again = is_valid && self.partition.unfolding.note(offset, &of);
            let is_ours = epoch == Some(self.partition.tenure.own()) && is_redriven;
            if again && is_ours && !self.lanes.is_open(identity((lane, offset))) {
                self.partition.place_complete(Some(&of.target), at);
                return;
            }
        }
        if !is_open {
            return;
        }
        // Rule 8.
        if epoch.is_none()
            && let Some(task) = self.lanes.open_of(identity((lane, offset)))
        {
            if !self.partition.dying.put_back(task, at) {
                self.partition.place_complete(Some(&of.target), at);
            }
            return;
        }
        match self.partition.standing(epoch, parked.is_put_back, &of.target, (offset, at)) {
            Standing::Valid => {}
            Standing::Void => return self.partition.retry.complete(at),
            Standing::Over => return self.partition.place_was_complete(&of.target, at),
        }
        self.partition.note_parked(offset);
        self.index_told(at, parked);
    }

    pub(super) fn index_told(&mut self, at: i64, parked: Parked) {
        let Parked { of: (lane, offset), attempt, epoch, is_put_back, is_held, .. } = parked;
        let history = History { attempt, is_put_back, ..History::default() };
        let place = Place { offset: at, due_ms: if is_held { HELD_MS } else { 0 } };
        match self.lanes.index(identity((lane, offset)), place, history, 0) {
            Indexed::New(_) if epoch.is_none() => {
                self.may.insert((lane, offset), 1);
            }
            Indexed::New(_) | Indexed::Known => {}
            Indexed::Replaced { older, .. } => self.partition.place_complete(Some(&target_of(lane)), older),
            Indexed::Older => self.partition.place_complete(Some(&target_of(lane)), at),
        }
    }

    pub(super) fn put_parked(&mut self, task: TaskNo, due_ms: i64) {
        let History { attempt, is_put_back, .. } = self.lanes.history(task).unwrap_or_default();
        let (of, epoch) = (self.of(task), Some(self.partition.tenure.own()));
        let parked =
            Parked { of, attempt, epoch, is_redriven: false, is_put_back, is_held: due_ms == HELD_MS };
        let out = Out::Retry(Kept::Task(parked));
        self.sent.push_back(Append { out, aside: Aside::Parked { task, due_ms } });
    }

    /// What was opened of redriven records lies behind them, if it does. Answers whether they are complete now.
    pub(super) fn on_unfolded(&mut self) -> bool {
        let Some(Unfolded { records, last, .. }) = self.unfolding.take_if(|of| of.left == 0) else {
            return false;
        };
        for _ in 0..records {
            let place = self.partition.unfolding.opened().expect("it waits");
            self.partition.retry.complete(place);
        }
        self.partition.unfolding.end(last);
        true
    }

    pub(super) fn finish(&mut self, task: TaskNo, took_effect: bool) {
        let (lane, offset) = self.of(task);
        let vacated = self.lanes.complete(task, 0);
        self.partition.vacate((task, Some(&target_of(lane)), offset), vacated, took_effect);
    }

    /// A task lies in the dead-letter topic, and begins anew where it was taken back from there already.
    pub(super) fn bury(&mut self, task: TaskNo, back: Option<i64>) {
        let of = self.of(task);
        self.finish(task, false);
        if let Some(place) = back {
            self.index_told(place, Parked::put_back(of, None));
        }
    }

    pub(super) fn bring(&mut self, target: &Arc<str>, offset: i64, lanes: &[usize]) {
        let mut to_park = Vec::new();
        for &lane in lanes {
            let task = match self.lanes.fresh(identity((lane, offset)), usize::MAX, 0) {
                Admitted::AlreadyParked => continue,
                Admitted::Queued(task) => task,
                Admitted::Park(task) => {
                    to_park.push(task);
                    task
                }
            };
            if let Some(own) = self.partition.cursors.as_deref_mut() {
                own.adopt(task, target, offset, 0);
            }
        }
        if let Some(own) = self.partition.cursors.as_deref_mut() {
            own.was_read(target, offset);
        }
        to_park.into_iter().for_each(|task| self.put_parked(task, 0));
    }

    pub(super) fn give_back(&mut self, task: TaskNo) {
        let Some(known) = self.lanes.known(task) else { return };
        let (target, offset) = (Arc::clone(known.target), known.offset);
        let vacated = self.lanes.complete(task, 0);
        let Some(own) = self.partition.cursors.as_deref_mut() else { return };
        if own.give_back(task) {
            return;
        }
        own.expect(&target, offset);
        let places = vacated.places.into_iter().map(Duty::Place);
        for duty in places.chain(vacated.source.then_some(Duty::Source(offset))) {
            own.cover(&target, offset, duty, true);
        }
    }

    /// A cursor's task that is to be tried later is given back while its target is held.
    pub(super) fn is_held_back(&mut self, task: TaskNo) -> bool {
        let Some(known) = self.lanes.known(task) else { return false };
        let (target, offset) = (Arc::clone(known.target), known.offset);
        let Some(own) = self.partition.cursors.as_deref_mut() else { return false };
        if !own.has(task) || own.table.held(&target).is_none() {
            return false;
        }
        own.table.take_back(&target, offset);
        self.give_back(task);
        true
    }

    pub(super) fn update_gate(&mut self, target: &Arc<str>) {
        if let Some(own) = self.partition.cursors.as_deref() {
            self.lanes.set_gate(0, target, own.table.gate(target), 0);
        }
    }

    /// The store holds what was written.
    pub(super) fn on_stored(&mut self) {
        let Some(write) = self.writing.take() else { return };
        let targets: Vec<Arc<str>> = write.rows.iter().map(|row| Arc::clone(&row.target)).collect();
        self.partition.stored(write);
        targets.iter().for_each(|target| self.update_gate(target));
    }

    /// Nobody knows whether it does.
    pub(super) fn on_not_stored(&mut self) {
        self.writing = None;
        self.partition.store_is_away();
    }
}

pub(super) fn task_of(lane: usize) -> TaskOf {
    let (name, target) = LANES[lane];
    TaskOf { lane: name.into(), target: TARGETS[target].into(), priority: 100 }
}

pub(super) fn target_of(lane: usize) -> Arc<str> {
    TARGETS[LANES[lane].1].into()
}

fn identity((lane, offset): Of) -> Identity<'static> {
    let (name, target) = LANES[lane];
    Identity { partition: 0, lane: name, target: TARGETS[target].into(), offset, priority: 100 }
}
