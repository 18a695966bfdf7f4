//! What the owner of the partition may do next, one step at a time.

use std::sync::Arc;

use super::owner::{Append, Aside, Unfolded, target_of, task_of};
use super::world::{Kept, Letter, Out, Parked, World};
use super::{Away, Ending, LANES, TARGETS};
use crate::runtime::effect::apart::Apart;
use crate::runtime::effect::load::{Limits, Load};
use crate::runtime::effect::partition::Partition;
use crate::runtime::effect::settle::HELD_MS;
use crate::runtime::lanes::{Place, Room};
use crate::runtime::retry::Marked;

/// Tasks that run at once.
const CONCURRENCY: usize = 3;
/// What cursors may bring.
const UNLIMITED: Limits = Limits { room: 1_000, most: Load { tasks: 1_000, bytes: 1_000 } };
/// Live tasks of a target behind which the reader counts as close.
const NEAR: i64 = 3;

impl World {
    pub(super) fn land(&mut self) {
        let Some(Append { out, aside }) = self.owner.sent.pop_front() else { return };
        self.owner.landed.push_back((aside, self.retry.len() as i64));
        self.put(out);
    }

    pub(super) fn acknowledge(&mut self) {
        let Some((aside, offset)) = self.owner.landed.pop_front() else { return };
        let owner = &mut self.owner;
        match aside {
            Aside::Marker => {}
            Aside::Parked { task, due_ms } => {
                if let back @ Some(_) = owner.partition.dying.end(task) {
                    let target = target_of(owner.of(task).0);
                    owner.partition.place_complete(Some(&target), offset);
                    return owner.bury(task, back);
                }
                let known = owner.lanes.known(task).expect("still open");
                let (target, source) = (Arc::clone(known.target), known.offset);
                let vacated = owner.lanes.parked(task, Place { offset, due_ms }, 0);
                owner.partition.vacate((task, Some(&target), source), vacated, false);
            }
            Aside::Unfolded => {
                if let Some(unfolded) = &mut owner.unfolding {
                    (unfolded.left, unfolded.last) = (unfolded.left - 1, Some(offset));
                }
                self.on_unfolded();
            }
            Aside::DeadTask(task) => {
                if self.settings.holds && !owner.partition.dying.is_back(task) {
                    let behind = owner.lanes.park(task, 0);
                    owner.put_parked(task, HELD_MS);
                    behind.into_iter().for_each(|task| owner.put_parked(task, 0));
                } else {
                    let back = owner.partition.dying.end(task);
                    owner.bury(task, back);
                }
            }
            Aside::DeadRecord(offset) => owner.partition.record_complete(offset, 0),
        }
    }

    pub(super) fn read_source(&mut self) {
        let owner = &mut self.owner;
        if !owner.partition.tenure.is_held() {
            return;
        }
        let offset = owner.partition.source.delivered();
        let Some(&event) = self.source.get(offset as usize) else { return };
        if owner.partition.source.deliver(offset) {
            owner.partition.gauge.take(1, 0);
            if event.is_dead {
                let out = Out::Dead(Letter { lane: None, offset });
                owner.sent.push_back(Append { out, aside: Aside::DeadRecord(offset) });
            } else {
                owner.admit(event, offset);
            }
        }
        owner.partition.admit(offset);
        let admitted = owner.partition.admitted();
        owner.lanes.admitted(0, admitted, 0);
    }

    pub(super) fn read_retry(&mut self) {
        let owner = &mut self.owner;
        let at = owner.partition.retry.delivered();
        let Some(&kept) = self.retry.get(at as usize) else { return };
        let is_open = owner.partition.retry.deliver(at);
        match kept {
            Kept::Marker(epoch) => {
                owner.partition.retry.complete(at);
                match owner.partition.tenure.on_marker(at, epoch) {
                    Marked::Passed => {}
                    Marked::Ours => self.open(),
                    Marked::Again => self.claim(),
                    Marked::Superseded => panic!("the true owner is never superseded"),
                }
            }
            Kept::Record(_) if !is_open => {}
            Kept::Record(offset) => {
                // Of two that wait at once, one is enough.
                if !owner.partition.unfolding.is_of(offset) {
                    for of in self.still_to_be_made(at as usize).collect::<Vec<_>>() {
                        self.owner.may_run(of, 1);
                    }
                }
                self.owner.partition.unfolding.push(at, offset);
                self.unfold();
            }
            Kept::Task(parked) => owner.index(at, parked, is_open),
        }
        self.unfold();
    }

    /// The retry partition was read back.
    fn open(&mut self) {
        let owner = &mut self.owner;
        if let Some(own) = owner.partition.cursors.as_deref_mut() {
            own.is_open = true;
            own.table.note_read_back(owner.partition.retry.version());
        }
        let admitted = owner.partition.admitted();
        owner.lanes.open(0, admitted, 0);
        self.unfold();
    }

    /// Opens the next redriven records.
    fn unfold(&mut self) {
        let owner = &mut self.owner;
        if !owner.partition.tenure.is_held() {
            return;
        }
        let next = owner.partition.unfolding.begin(owner.partition.retry.delivered());
        if next.is_empty() {
            return;
        }
        let (records, mut tasks) = (next.len(), 0);
        for (place, there) in next {
            let Kept::Record(offset) = self.retry[place as usize] else { panic!("a record lies there") };
            for lane in self.source[offset as usize].lanes() {
                let of = task_of(lane);
                if !there.contains(&(of.lane, of.target)) {
                    let epoch = Some(owner.partition.tenure.own());
                    let out = Out::Retry(Kept::Task(Parked::put_back((lane, offset), epoch)));
                    owner.sent.push_back(Append { out, aside: Aside::Unfolded });
                    tasks += 1;
                }
            }
        }
        owner.unfolding = Some(Unfolded { records, left: tasks, last: None });
        self.on_unfolded();
    }

    fn on_unfolded(&mut self) {
        if self.owner.on_unfolded() {
            self.unfold();
        }
    }

    pub(super) fn start(&mut self) {
        let owner = &mut self.owner;
        let Some(task) = owner.lanes.next(CONCURRENCY, &|_| Room::AtOnce(CONCURRENCY), 0) else { return };
        if let Some(Place { offset, .. }) = owner.lanes.place(task) {
            // Its record is read, and tells the name of the lane.
            let Kept::Task(parked) = self.retry[offset as usize] else { panic!("a task lies there") };
            assert!(owner.lanes.learn(task, LANES[parked.of.0].0));
        }
        owner.running.push_back(task);
    }

    /// The task that runs longest ends.
    pub(super) fn end(&mut self, ending: Ending) {
        let Some(task) = self.owner.running.pop_front() else { return };
        let of = self.owner.of(task);
        let owner = &mut self.owner;
        match ending {
            Ending::Effect => {
                self.take_effect(of);
                self.owner.finish(task, true);
            }
            Ending::Fails if owner.is_held_back(task) => {}
            Ending::Fails => {
                let behind = owner.lanes.park(task, 0);
                std::iter::once(task).chain(behind).for_each(|task| owner.put_parked(task, 0));
            }
            Ending::Dies => {
                owner.lanes.bury(task);
                owner.partition.dying.begin(task);
                let out = Out::Dead(Letter { lane: Some(of.0), offset: of.1 });
                owner.sent.push_back(Append { out, aside: Aside::DeadTask(task) });
            }
        }
    }

    /// Rule 6: the lowest waiting record is copied to the end.
    pub(super) fn carry_forward(&mut self) {
        let owner = &mut self.owner;
        if !owner.partition.tenure.is_held() {
            return;
        }
        let Some((place, task)) = owner.lanes.lowest_places(0, 1).pop() else { return };
        let Some(Place { due_ms, .. }) = owner.lanes.carry(task) else { return };
        let Kept::Task(parked) = self.retry[place as usize] else { panic!("a task lies there") };
        let copy = Parked { epoch: Some(owner.partition.tenure.own()), ..parked };
        let out = Out::Retry(Kept::Task(copy));
        owner.sent.push_back(Append { out, aside: Aside::Parked { task, due_ms } });
    }

    pub(super) fn detach(&mut self, target: usize, away: Away) {
        let owner = &mut self.owner;
        let target: Arc<str> = TARGETS[target].into();
        if owner.open_cursors().is_none() {
            return;
        }
        owner.lanes.set_gate(0, &target, Some(i64::MIN), 0);
        let tasks = owner.lanes.of_target(0, &target);
        let admitted = owner.partition.next_admitted();
        let held = matches!(away, Away::Held).then(|| "paused".into());
        let Partition { source, cursors: Some(own), .. } = &mut owner.partition else { return };
        let how = (away.gives_back(), held);
        let Apart { leaving, .. } = own.take_apart(&target, tasks, how, (source, admitted), |_| 0);
        leaving.into_iter().for_each(|task| owner.give_back(task.no));
        owner.update_gate(&target);
    }

    pub(super) fn resume(&mut self, target: usize) {
        let target: Arc<str> = TARGETS[target].into();
        if let Some(own) = self.owner.partition.cursors.as_deref_mut() {
            own.table.resume(&target);
        }
        self.owner.update_gate(&target);
    }

    /// The reader brings the next records.
    pub(super) fn read_again(&mut self, records: u8) {
        let owner = &mut self.owner;
        let admitted = owner.partition.next_admitted();
        let Some(own) = owner.open_cursors() else { return };
        let readable = own.to_be_read(admitted, &UNLIMITED, 0, |_| true);
        let Some(from) = own.table.read_from(&readable) else { return };
        let end = own.table.read_to(from, admitted).min(self.source.len() as i64);
        let to = end.min(from + i64::from(records));
        let readers = own.table.readers(from, to, admitted);
        for offset in from..to {
            let event = self.source[offset as usize];
            for target in readers.iter().filter(|_| !event.is_dead) {
                let lanes: Vec<usize> =
                    event.lanes().filter(|lane| TARGETS[LANES[*lane].1] == &**target).collect();
                let Some(own) = owner.partition.cursors.as_deref_mut() else { return };
                let wanted = !lanes.is_empty() && own.table.wants(target, from, offset, admitted);
                if wanted && own.table.dispatch(target, offset) {
                    owner.bring(target, offset, &lanes);
                }
            }
        }
        for target in readers {
            if let Some(own) = owner.partition.cursors.as_deref_mut() {
                own.table.reach(&target, from, to, admitted);
            }
            owner.update_gate(&target);
        }
    }

    pub(super) fn attach(&mut self) {
        let owner = &mut self.owner;
        let admitted = owner.partition.next_admitted();
        let Some(own) = owner.open_cursors() else { return };
        let ready = own.table.attachable(admitted, NEAR).cloned().collect();
        for target in own.table.attach(admitted, NEAR, &ready) {
            owner.update_gate(&target);
        }
    }

    pub(super) fn send_rows(&mut self) {
        if self.owner.writing.is_none() && self.owner.open_cursors().is_some() {
            let (write, _handed) = self.owner.partition.send_rows();
            self.owner.writing = Some(write).filter(|write| !write.is_empty());
        }
    }
}
