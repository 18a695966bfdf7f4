//! The world of the property tests: a log, a store and an outside that outlive every member, and one member's view.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::{NEAR, Record, TARGETS};
use crate::runtime::cursor::{Backfill, BackfillProgress, CursorRow, CursorWrite, Cursors, Detached, Live};

/// What outlives members.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) log: Vec<Record>,
    epoch: i64,
    pub(super) rows: BTreeMap<Arc<str>, CursorRow>,
    /// Source offsets that are committed as complete.
    pub(super) committed: BTreeSet<i64>,
    /// How often (target, offset) took effect.
    pub(super) effects: BTreeMap<(usize, i64), u32>,
    /// Backfills that were asked for, by id, and whom for: with how often everything had taken effect then.
    pub(super) asked: BTreeMap<Arc<str>, (usize, BTreeMap<i64, u32>)>,
    /// How far the store says that they are.
    pub(super) told: BTreeMap<Arc<str>, BackfillProgress>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Task {
    runs: bool,
    /// Owed to the target's cursor, not to the source record.
    of_cursor: bool,
}

/// One engine's view.
#[derive(Debug)]
pub(super) struct Member {
    epoch: i64,
    pub(super) cursors: Cursors,
    pub(super) admitted: i64,
    /// (target, offset) of tasks in the lanes.
    tasks: BTreeMap<(usize, i64), Task>,
    /// Source records and how many of their tasks are not complete.
    open: BTreeMap<i64, usize>,
    complete: BTreeSet<i64>,
    /// Complete once their cursor is stored.
    covered: Vec<(usize, i64)>,
    pub(super) sent: Option<CursorWrite>,
    /// What an owner that starts now may never run again.
    finished_before: BTreeSet<(usize, i64)>,
    ran: BTreeSet<(usize, i64)>,
}

impl World {
    pub(super) fn of(log: Vec<Record>) -> Self {
        Self { log, ..Self::default() }
    }

    pub(super) fn watermark(&self) -> i64 {
        (0..).find(|offset| !self.committed.contains(offset)).expect("finite")
    }

    pub(super) fn takes(&self, target: usize, offset: i64) -> bool {
        usize::try_from(offset).ok().and_then(|at| self.log.get(at)).is_some_and(|r| r.targets[target])
    }

    /// How often the event at `offset` took effect at `target`.
    pub(super) fn times(&self, target: usize, offset: i64) -> u32 {
        self.effects.get(&(target, offset)).copied().unwrap_or(0)
    }

    pub(super) fn lane(&self, offset: i64) -> u8 {
        self.log[usize::try_from(offset).expect("in the log")].lane
    }

    pub(super) fn take_over(&mut self) -> Member {
        self.epoch += 1;
        let rows: Vec<CursorRow> = self.rows.values().cloned().collect();
        let complete_to = self.committed.last().map_or(0, |last| last + 1);
        let cursors = Cursors::restore(&rows, complete_to);
        let mut finished_before = BTreeSet::new();
        for (target, name) in TARGETS.iter().enumerate() {
            for offset in 0..self.log.len() as i64 {
                let by_cursor = cursors.live(name, offset) == Live::Finished;
                if by_cursor || !cursors.owes(name, offset) && self.committed.contains(&offset) {
                    finished_before.insert((target, offset));
                }
            }
        }
        Member {
            epoch: self.epoch,
            cursors,
            admitted: self.watermark(),
            tasks: BTreeMap::new(),
            open: BTreeMap::new(),
            complete: self.committed.clone(),
            covered: Vec::new(),
            sent: None,
            finished_before,
            ran: BTreeSet::new(),
        }
    }

    pub(super) fn arrive(&mut self, member: &mut Member) {
        let Some(write) = member.sent.take() else { return };
        if member.epoch != self.epoch {
            return;
        }
        for target in &write.gone {
            self.rows.remove(target);
        }
        for row in &write.rows {
            self.rows.insert(Arc::clone(&row.target), row.clone());
        }
        for progress in &write.backfills {
            self.told.insert(Arc::clone(&progress.id), progress.clone());
        }
        member.cursors.stored(write);
        member.settle_covered();
    }

    pub(super) fn commit(&mut self, member: &Member) {
        if member.epoch == self.epoch {
            self.committed = member.complete.clone();
        }
    }
}

impl Member {
    pub(super) fn admit(&mut self, world: &World) {
        let offset = self.admitted;
        if offset >= world.log.len() as i64 {
            return;
        }
        self.admitted += 1;
        if self.complete.contains(&offset) {
            return;
        }
        let mut open = 0;
        for (target, name) in TARGETS.iter().enumerate().filter(|(target, _)| world.takes(*target, offset)) {
            match self.cursors.live(name, offset) {
                Live::Own => {
                    self.tasks.insert((target, offset), Task::default());
                    open += 1;
                }
                Live::Covered => {
                    self.covered.push((target, offset));
                    open += 1;
                }
                Live::Finished | Live::Handed => {}
            }
        }
        if open == 0 {
            self.complete.insert(offset);
        } else {
            self.open.insert(offset, open);
        }
    }

    fn source_task_complete(&mut self, offset: i64) {
        let open = self.open.get_mut(&offset).expect("it was opened");
        *open -= 1;
        if *open == 0 {
            self.open.remove(&offset);
            self.complete.insert(offset);
        }
    }

    /// Tasks that may start: the first of their lane, below their target's gate.
    fn startable(&self, world: &World) -> Vec<(usize, i64)> {
        let first = |&(target, offset): &(usize, i64)| {
            let lane = world.lane(offset);
            !self.tasks.keys().any(|&(t, o)| t == target && o < offset && world.lane(o) == lane)
        };
        let may = self.tasks.iter().filter(|(_, task)| !task.runs).map(|(task, _)| *task);
        may.filter(first)
            .filter(|&(target, offset)| self.cursors.gate(TARGETS[target]).is_none_or(|gate| offset < gate))
            .collect()
    }

    pub(super) fn start(&mut self, world: &World, pick: u16) {
        let startable = self.startable(world);
        if !startable.is_empty() {
            let task = startable[usize::from(pick) % startable.len()];
            self.tasks.entry(task).or_default().runs = true;
        }
    }

    pub(super) fn end(&mut self, world: &mut World, pick: u16, strict: bool) -> Result<(), TestCaseError> {
        let running: Vec<_> =
            self.tasks.iter().filter(|(_, task)| task.runs).map(|(task, _)| *task).collect();
        if running.is_empty() {
            return Ok(());
        }
        let (target, offset) = running[usize::from(pick) % running.len()];
        for earlier in (0..offset).filter(|&o| world.takes(target, o) && world.lane(o) == world.lane(offset))
        {
            prop_assert!(
                world.effects.contains_key(&(target, earlier)),
                "{target}: {offset} before {earlier}"
            );
        }
        if strict {
            prop_assert!(
                !self.finished_before.contains(&(target, offset)),
                "{target}: {offset} was finished"
            );
            prop_assert!(self.ran.insert((target, offset)), "{target}: {offset} twice by one member");
        }
        *world.effects.entry((target, offset)).or_default() += 1;
        let task = self.tasks.remove(&(target, offset)).unwrap_or_default();
        if task.of_cursor {
            self.cursors.note_ended(TARGETS[target], offset, true);
            self.cursors.finish(TARGETS[target], offset);
        } else {
            self.source_task_complete(offset);
        }
        Ok(())
    }

    pub(super) fn detach(&mut self, target: usize, held: bool) {
        let name: Arc<str> = TARGETS[target].into();
        let why = held.then(|| Arc::from("paused"));
        let of_target = self.tasks.iter().filter(|((of, _), _)| *of == target);
        let of_target: Vec<(i64, Task)> = of_target.map(|(&(_, offset), &task)| (offset, task)).collect();
        let offsets = |keep: fn(&Task) -> bool| -> BTreeSet<i64> {
            of_target.iter().filter(|(_, task)| keep(task)).map(|(offset, _)| *offset).collect()
        };
        let (open, waiting) = (offsets(|_| true), offsets(|task| !task.runs));
        self.covered.extend(offsets(|task| !task.of_cursor).into_iter().map(|offset| (target, offset)));
        let complete: Vec<(i64, i64)> = self.complete.iter().map(|&offset| (offset, offset + 1)).collect();
        let from = Detached { admitted: self.admitted, open, waiting: waiting.clone(), complete };
        self.cursors.detach(&name, &from, why);
        self.tasks.retain(|(of, _), task| *of != target || task.runs);
        for task in self.tasks.iter_mut().filter(|((of, _), _)| *of == target) {
            task.1.of_cursor = true;
        }
    }

    fn settle_covered(&mut self) {
        let waiting = std::mem::take(&mut self.covered);
        for (target, offset) in waiting {
            if self.cursors.is_stored_over(TARGETS[target], offset) {
                self.source_task_complete(offset);
            } else {
                self.covered.push((target, offset));
            }
        }
    }

    pub(super) fn attach(&mut self) {
        let ready = self.cursors.attachable(self.admitted, NEAR).cloned().collect();
        self.cursors.attach(self.admitted, NEAR, &ready);
    }

    pub(super) fn read(&mut self, world: &World, records: u8) {
        let behind = self.cursors.behind(self.admitted);
        let targets = behind.map(|(target, _)| Arc::clone(target)).collect();
        let Some(from) = self.cursors.read_from(&targets) else { return };
        let end = self.cursors.read_to(from, self.admitted);
        let to = (from + i64::from(records)).min(end).min(world.log.len() as i64);
        for offset in from..to {
            for (target, name) in TARGETS.iter().enumerate() {
                if world.takes(target, offset)
                    && self.is_wanted(world, target, offset)
                    && self.cursors.wants(name, from, offset, self.admitted)
                    && self.cursors.dispatch(name, offset)
                {
                    self.tasks.entry((target, offset)).or_insert(Task { runs: false, of_cursor: true });
                }
            }
        }
        for target in self.cursors.readers(from, to, self.admitted) {
            self.cursors.reach(&target, from, to, self.admitted);
        }
    }

    /// As a survey would say: of a lane only the newest event of a stretch is brought that is to bring no others.
    fn is_wanted(&self, world: &World, target: usize, offset: i64) -> bool {
        let running = self.cursors.backfilling(TARGETS[target]);
        let Some(running) = running.filter(|running| running.newest_only && running.covers(offset)) else {
            return true;
        };
        let newer = offset + 1..running.to;
        !newer.into_iter().any(|o| world.takes(target, o) && world.lane(o) == world.lane(offset))
    }

    pub(super) fn backfill(&mut self, world: &mut World, target: usize, asked: &Backfill) {
        if !self.cursors.is_detached(TARGETS[target]) {
            self.detach(target, false);
        }
        let effects = (0..world.log.len() as i64).map(|o| (o, world.times(target, o))).collect();
        world.asked.insert(Arc::clone(&asked.id), (target, effects));
        self.cancel_backfill(target);
        self.cursors.backfill(TARGETS[target], asked);
    }

    pub(super) fn cancel_backfill(&mut self, target: usize) {
        let running = self.cursors.backfilling(TARGETS[target]).map(|running| Arc::clone(&running.id));
        if let Some(below) = running.and_then(|id| self.cursors.cancel_backfill(TARGETS[target], &id)) {
            self.tasks.retain(|(of, offset), task| {
                *of != target || task.runs || !task.of_cursor || *offset >= below
            });
        }
    }
}
