//! Looks after targets: who is slow, held, away or gone by the word of the stage is taken from the live stream or given
//! back to it, and what waits of it goes with it.
//!
//! Thousands may change at once, when a network goes or comes back: their tasks are found together in one pass, and
//! looking at all targets takes a bounded part of the engine's time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::apart::{Apart, GiveBack};
use super::engine::Engine;
use super::load::Load;
use super::settle;
use crate::runtime::consumer::Side;
use crate::runtime::lanes::OfTarget;
use crate::runtime::stage::{EffectStage, TargetState};

/// Why a target is detached that could be served.
pub(super) const SHARE_USED_UP: &str = "its share of waiting work is used up";

/// What is to become of a target.
#[derive(Debug)]
pub(super) enum Course {
    /// A reader serves it from now on.
    CatchUp(&'static str),
    /// The same, one event after the other, until it is reached again.
    GoAway(Arc<str>),
    /// Nobody serves it, until it is to be served again.
    Hold(Arc<str>),
    /// It can be served, or reached, again.
    Resume,
    /// It was deleted.
    Drop,
}

impl<S: EffectStage> Engine<S> {
    /// Once per tick: cursors with nothing left to say go, targets whose state changed are heeded.
    pub(super) fn tend_cursors(&mut self) {
        let is_due = self.due(self.env.clock.now_ms());
        self.lanes.wake_early(&is_due);
        if self.tending.wait().is_some() {
            return;
        }
        let began = Instant::now();
        let numbers: Vec<i32> = self.partitions.keys().copied().collect();
        self.judge_lone(&numbers);
        for partition in numbers {
            self.tend(partition);
        }
        self.tending.done(began);
    }

    /// Sees whether targets that have partitions to themselves are fast: together they have to get a share of all that may
    /// wait done in a second.
    fn judge_lone(&mut self, partitions: &[i32]) {
        let (share, now_ms) = (self.share(), self.env.clock.now_ms());
        let mut watched = Vec::new();
        for &partition in partitions {
            let Some(own) =
                self.partitions.get_mut(&partition).and_then(|owned| owned.cursors.as_deref_mut())
            else {
                continue;
            };
            let target = own.lone.look(|target| self.lanes.waiting(partition, target), share, now_ms);
            watched.extend(target.map(|target| (partition, target)));
        }
        for (partition, target) in watched {
            let all = partitions.iter().filter_map(|&other| self.own_cursors(other));
            let rate = all.map(|own| own.lone.rate_of(&target)).sum();
            let enough = share * partitions.len();
            if let Some(own) = self.cursors_of(partition) {
                own.lone.judge(rate, enough);
            }
        }
    }

    fn tend(&mut self, partition: i32) {
        let committed = self.desk.committed(Side::Source, partition);
        let (share, now_ms) = (self.share(), self.env.clock.now_ms());
        let Some(owned) = self.partitions.get_mut(&partition).filter(|owned| !owned.closed) else { return };
        // Until the retry partition was read back, not all of its tasks are known, nor would be stored what became of them.
        let Some(own) = owned.cursors.as_deref_mut().filter(|own| own.is_open) else { return };
        if let Some(committed) = committed {
            own.table.sweep(committed);
        }
        own.paces.keep(|target| own.table.backfilling(target).is_some());
        own.tidy_away();
        let put_off = std::mem::take(&mut own.to_look_after);
        let alone = own.lone.target(share, now_ms);
        // What rests may be away for long: then a cursor has what waits for it.
        let waiting = self.lanes.resting().filter(|target| self.lanes.waiting(partition, target) > 0);
        let targets: BTreeSet<Arc<str>> =
            own.table.targets().chain(waiting).chain(&put_off).chain(alone).cloned().collect();
        let courses = targets.into_iter().filter_map(|target| {
            let course = self.course(partition, &target)?;
            Some((target, course))
        });
        let courses = courses.collect();
        self.take_courses(partition, courses);
        self.shed_probes(partition);
    }

    /// Invariant 3 (isolation): when targets that have less than their share each fill a partition together, those go that
    /// aren't served, or else those with the most.
    pub(super) fn make_way(&mut self, partition: i32) {
        let bound = self.bound() as u64;
        let Some(over) = self.lanes.census(partition).in_memory.checked_sub(bound) else { return };
        let Some(own) = self.own_cursors(partition) else { return };
        let waiting = self.lanes.busiest(partition);
        let not_served = waiting.iter().filter_map(|(_, target)| match self.course(partition, target)? {
            course @ (Course::GoAway(_) | Course::Hold(_)) => Some((Arc::clone(target), course)),
            Course::CatchUp(_) | Course::Resume | Course::Drop => None,
        });
        let mut courses: Vec<(Arc<str>, Course)> = not_served.collect();
        if courses.is_empty() {
            let mut excess = usize::try_from(over).unwrap_or(usize::MAX).saturating_add(1);
            let others = waiting.into_iter().filter(|(_, target)| !own.table.is_detached(target));
            let most = others.take_while(|(count, _)| {
                let goes = excess > 0;
                excess = excess.saturating_sub(*count);
                goes
            });
            courses.extend(most.map(|(_, target)| (Arc::clone(target), Course::CatchUp(SHARE_USED_UP))));
        }
        self.take_courses(partition, courses);
    }

    /// Looks after the target of a live task. That it went away is heeded in the next tick, with others, if their tasks have
    /// to be found.
    pub(super) fn look_after_live(&mut self, partition: i32, target: &Arc<str>) {
        match self.course(partition, target) {
            Some(Course::GoAway(_)) if self.lanes.has_open(partition, target) => {
                if let Some(own) = self.cursors_of(partition) {
                    own.to_look_after.insert(Arc::clone(target));
                }
            }
            Some(course) => self.take_courses(partition, vec![(Arc::clone(target), course)]),
            None => {}
        }
    }

    /// Looks after one target.
    pub(super) fn look_after(&mut self, partition: i32, target: &Arc<str>) {
        if let Some(course) = self.course(partition, target) {
            self.take_courses(partition, vec![(Arc::clone(target), course)]);
        }
    }

    /// Takes a target from the live stream: a reader serves it from now on. What failed keeps its place in its schedule.
    pub(super) fn detach(&mut self, partition: i32, target: &Arc<str>, why: &'static str) {
        self.take_courses(partition, vec![(Arc::clone(target), Course::CatchUp(why))]);
    }

    /// Invariant 3 (isolation): a target that isn't served is detached, and one that has its share waiting, unless it has the
    /// stream to itself.
    fn course(&self, partition: i32, target: &Arc<str>) -> Option<Course> {
        let own = self.own_cursors(partition)?;
        let (is_held, is_away) = (own.table.held(target).is_some(), own.loads.is_away(target));
        match self.hands.stage.target_state(target) {
            TargetState::Held(why) => (!is_held).then_some(Course::Hold(why)),
            // Nothing of that is stored: whoever takes the partition over finds out by itself.
            TargetState::Away(why) => (!is_away).then_some(Course::GoAway(why)),
            TargetState::Flowing if is_away || is_held => Some(Course::Resume),
            TargetState::Flowing => {
                let share = self.share();
                let is_slow = || {
                    self.lanes.waiting(partition, target) >= share
                        && own.lone.target(share, self.seen.1) != Some(target)
                };
                (!own.table.is_detached(target) && is_slow()).then_some(Course::CatchUp(SHARE_USED_UP))
            }
            TargetState::Gone => Some(Course::Drop),
            TargetState::Unknown => None,
        }
    }

    fn take_courses(&mut self, partition: i32, courses: Vec<(Arc<str>, Course)>) {
        let apart = courses.iter().filter(|(_, course)| match course {
            Course::CatchUp(_) | Course::GoAway(_) | Course::Hold(_) => true,
            Course::Resume | Course::Drop => false,
        });
        let apart: Vec<Arc<str>> = apart.map(|(target, _)| Arc::clone(target)).collect();
        let mut tasks = self.lanes.of_targets(partition, &apart).into_iter();
        for (target, course) in courses {
            if let Some(own) = self.cursors_of(partition) {
                own.note_away(&target, matches!(course, Course::GoAway(_)));
            }
            match course {
                Course::CatchUp(why) => {
                    let tasks = tasks.next().unwrap_or_default();
                    self.take_apart(partition, &target, tasks, (GiveBack::Untried, None, why));
                }
                Course::GoAway(why) => {
                    let tasks = tasks.next().unwrap_or_default();
                    let which = self.of_one_that_went_away(partition, &tasks);
                    self.take_apart(partition, &target, tasks, (which, None, &why));
                }
                // As nothing is tried for who knows how long, what failed begins anew with its attempts.
                Course::Hold(why) => {
                    let tasks = tasks.next().unwrap_or_default();
                    let held = Some(Arc::clone(&why));
                    self.take_apart(partition, &target, tasks, (GiveBack::All, held, &why));
                }
                Course::Resume => self.resume(partition, &target),
                Course::Drop => self.drop_cursor(partition, &target),
            }
        }
    }

    /// Invariant 6 (bounds): what failed of a target that can't be reached stays in memory with its attempts while there is
    /// room for it; otherwise it is given back as well, and begins anew.
    fn of_one_that_went_away(&self, partition: i32, tasks: &[OfTarget]) -> GiveBack {
        let Some(own) = self.own_cursors(partition) else { return GiveBack::Untried };
        let failed =
            tasks.iter().filter(|task| task.place.is_none() && task.attempt > 0 && !own.has(task.no));
        let load = failed.fold(own.loads.of_away(), |load, task| {
            load.plus(Load { tasks: 1, bytes: self.bytes_of(task.no) })
        });
        if load.is_within(self.kept()) { GiveBack::Untried } else { GiveBack::InMemory }
    }

    fn take_apart(
        &mut self,
        partition: i32,
        target: &Arc<str>,
        tasks: Vec<OfTarget>,
        (which, held, why): (GiveBack, Option<Arc<str>>, &str),
    ) {
        let now = self.env.clock.now_ms();
        // Nothing starts while it is taken apart.
        self.lanes.set_gate(partition, target, Some(i64::MIN), now);
        let payloads = &self.payloads;
        let bytes_of = |no| settle::bytes_of(payloads, no);
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        let admitted = owned.next_admitted();
        let Some(own) = owned.cursors.as_deref_mut() else { return };
        let Apart { adopted, leaving } =
            own.take_apart(target, tasks, (which, held), (&owned.source, admitted), bytes_of);
        self.balance.opened += adopted;
        self.count("opened", adopted);
        tracing::info!(stage = %self.name, partition, %target, given_back = leaving.len(),
            why, "a target was detached: a cursor serves it from now on");
        for task in leaving {
            self.give_back(partition, task.no);
        }
        self.update_gate(partition, target);
    }

    fn resume(&mut self, partition: i32, target: &Arc<str>) {
        tracing::info!(stage = %self.name, partition, %target, "a target is caught up from now on");
        if let Some(own) = self.cursors_of(partition) {
            own.table.resume(target);
        }
        self.update_gate(partition, target);
    }

    /// The target was deleted: what is open of it runs, and ends as skipped.
    fn drop_cursor(&mut self, partition: i32, target: &Arc<str>) {
        if let Some(own) = self.cursors_of(partition) {
            own.table.remove(target);
        }
        self.update_gate(partition, target);
    }
}
