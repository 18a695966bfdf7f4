//! The protocol of cursors under arbitrary interleavings of crash, zombie and rebalance, against a log, a store
//! and an outside that outlive every member.
//!
//! Checked: every task of every target takes effect; within a lane in order; what was durably finished when an
//! owner took over isn't repeated by it; nothing is left behind in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::{CursorRow, CursorWrite, Cursors, Detached, Live};

const TARGETS: [&str; 2] = ["a", "b"];
/// Live tasks of a target behind which the reader counts as close.
const NEAR: i64 = 3;

/// A record: its lane, and which targets it concerns.
#[derive(Debug, Clone, Copy)]
struct Record {
    lane: u8,
    targets: [bool; 2],
}

#[derive(Debug, Clone)]
enum Step {
    Admit(u8),
    Start(u16),
    End(u16),
    Detach(bool, bool),
    Resume(bool),
    Read(u8),
    Attach,
    /// The member decides what to write; it reaches the store; the member hears of it.
    Send,
    Arrive,
    Commit,
    Crash,
    /// Another takes over while this one goes on believing that it is the owner.
    Zombie,
    ZombieSends,
    ZombieArrives,
    Backfill(bool, u16),
    CancelBackfill(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u8..5).prop_map(Step::Admit),
        8 => any::<u16>().prop_map(Step::Start),
        8 => any::<u16>().prop_map(Step::End),
        3 => (any::<bool>(), any::<bool>()).prop_map(|(target, hold)| Step::Detach(target, hold)),
        2 => any::<bool>().prop_map(Step::Resume),
        6 => (1u8..6).prop_map(Step::Read),
        3 => Just(Step::Attach),
        6 => Just(Step::Send),
        6 => Just(Step::Arrive),
        3 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => Just(Step::Zombie),
        1 => Just(Step::ZombieSends),
        1 => Just(Step::ZombieArrives),
    ]
}

fn step_with_backfill() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => step(),
        1 => (any::<bool>(), any::<u16>()).prop_map(|(target, from)| Step::Backfill(target, from)),
        1 => any::<bool>().prop_map(Step::CancelBackfill),
    ]
}

/// What outlives members.
#[derive(Debug, Default)]
struct World {
    log: Vec<Record>,
    epoch: i64,
    rows: BTreeMap<Arc<str>, CursorRow>,
    /// Source offsets that are committed as complete.
    committed: BTreeSet<i64>,
    /// (target, offset) that took effect.
    effects: BTreeSet<(usize, i64)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Task {
    runs: bool,
    /// Owed to the target's cursor, not to the source record.
    of_cursor: bool,
}

/// One engine's view.
#[derive(Debug)]
struct Member {
    epoch: i64,
    cursors: Cursors,
    admitted: i64,
    /// (target, offset) of tasks in the lanes.
    tasks: BTreeMap<(usize, i64), Task>,
    /// Source records and how many of their tasks are not complete.
    open: BTreeMap<i64, usize>,
    complete: BTreeSet<i64>,
    /// Complete once their cursor is stored.
    covered: Vec<(usize, i64)>,
    sent: Option<CursorWrite>,
    /// What an owner that starts now may never run again.
    finished_before: BTreeSet<(usize, i64)>,
    ran: BTreeSet<(usize, i64)>,
}

impl World {
    fn watermark(&self) -> i64 {
        (0..).find(|offset| !self.committed.contains(offset)).expect("finite")
    }

    fn takes(&self, target: usize, offset: i64) -> bool {
        usize::try_from(offset).ok().and_then(|at| self.log.get(at)).is_some_and(|r| r.targets[target])
    }

    fn lane(&self, offset: i64) -> u8 {
        self.log[usize::try_from(offset).expect("in the log")].lane
    }

    fn take_over(&mut self) -> Member {
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

    fn arrive(&mut self, member: &mut Member) {
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
        member.cursors.stored(write);
        member.settle_covered();
    }

    fn commit(&mut self, member: &Member) {
        if member.epoch == self.epoch {
            self.committed = member.complete.clone();
        }
    }
}

impl Member {
    fn admit(&mut self, world: &World) {
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

    fn start(&mut self, world: &World, pick: u16) {
        let startable = self.startable(world);
        if !startable.is_empty() {
            let task = startable[usize::from(pick) % startable.len()];
            self.tasks.entry(task).or_default().runs = true;
        }
    }

    fn end(&mut self, world: &mut World, pick: u16, strict: bool) -> Result<(), TestCaseError> {
        let running: Vec<_> =
            self.tasks.iter().filter(|(_, task)| task.runs).map(|(task, _)| *task).collect();
        if running.is_empty() {
            return Ok(());
        }
        let (target, offset) = running[usize::from(pick) % running.len()];
        for earlier in (0..offset).filter(|&o| world.takes(target, o) && world.lane(o) == world.lane(offset))
        {
            prop_assert!(world.effects.contains(&(target, earlier)), "{target}: {offset} before {earlier}");
        }
        if strict {
            prop_assert!(
                !self.finished_before.contains(&(target, offset)),
                "{target}: {offset} was finished"
            );
            prop_assert!(self.ran.insert((target, offset)), "{target}: {offset} twice by one member");
        }
        world.effects.insert((target, offset));
        let task = self.tasks.remove(&(target, offset)).unwrap_or_default();
        if task.of_cursor {
            self.cursors.finish(TARGETS[target], offset);
        } else {
            self.source_task_complete(offset);
        }
        Ok(())
    }

    fn detach(&mut self, target: usize, held: bool) {
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

    fn read(&mut self, world: &World, records: u8) {
        let Some(from) = self.cursors.read_from(self.admitted, &|_| true) else { return };
        let end = self.cursors.read_to(from, self.admitted);
        let to = (from + i64::from(records)).min(end).min(world.log.len() as i64);
        for offset in from..to {
            for (target, name) in TARGETS.iter().enumerate() {
                if world.takes(target, offset)
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

    fn cancel_backfill(&mut self, target: usize) {
        if let Some(below) = self.cursors.cancel_backfill(TARGETS[target]) {
            self.tasks.retain(|(of, offset), task| {
                *of != target || task.runs || !task.of_cursor || *offset >= below
            });
        }
    }
}

fn act(
    world: &mut World,
    owner: &mut Member,
    zombie: &mut Option<Member>,
    step: &Step,
    strict: bool,
) -> Result<(), TestCaseError> {
    match step {
        Step::Admit(records) => (0..*records).for_each(|_| owner.admit(world)),
        Step::Start(pick) => owner.start(world, *pick),
        Step::End(pick) => owner.end(world, *pick, strict)?,
        Step::Detach(target, held) => owner.detach(usize::from(*target), *held),
        Step::Resume(target) => owner.cursors.resume(TARGETS[usize::from(*target)]),
        Step::Read(records) => owner.read(world, *records),
        Step::Attach => drop(owner.cursors.attach(owner.admitted, NEAR, &|_| true)),
        Step::Send => {
            if owner.sent.is_none() {
                owner.sent = Some(owner.cursors.send());
            }
        }
        Step::Arrive => world.arrive(owner),
        Step::Commit => {
            world.commit(owner);
            owner.cursors.sweep(world.watermark());
        }
        Step::Crash => *owner = world.take_over(),
        Step::Zombie => *zombie = Some(std::mem::replace(owner, world.take_over())),
        Step::ZombieSends => {
            if let Some(zombie) = zombie.as_mut().filter(|zombie| zombie.sent.is_none()) {
                zombie.sent = Some(zombie.cursors.send());
            }
        }
        Step::ZombieArrives => {
            if let Some(zombie) = zombie {
                world.arrive(zombie);
                world.commit(zombie);
            }
        }
        Step::Backfill(target, from) => {
            let target = usize::from(*target);
            if !owner.cursors.is_detached(TARGETS[target]) {
                owner.detach(target, false);
            }
            let from = i64::from(*from) % (owner.admitted + 1);
            owner.cursors.backfill(TARGETS[target], from);
        }
        Step::CancelBackfill(target) => owner.cancel_backfill(usize::from(*target)),
    }
    Ok(())
}

/// Lets the owner come to the end: everything is admitted, read, run, stored, committed.
fn finish(world: &mut World, owner: &mut Member, strict: bool) -> Result<(), TestCaseError> {
    let first = 0;
    for _ in 0..1_000 {
        TARGETS.iter().for_each(|target| owner.cursors.resume(target));
        (0..4).for_each(|_| owner.admit(world));
        (0..4).for_each(|_| owner.read(world, 4));
        for _ in 0..8 {
            owner.start(world, first);
            owner.end(world, first, strict)?;
        }
        owner.cursors.attach(owner.admitted, NEAR, &|_| true);
        owner.sent = owner.sent.take().or_else(|| Some(owner.cursors.send()));
        world.arrive(owner);
        world.commit(owner);
        owner.cursors.sweep(world.watermark());
        if world.rows.is_empty() && world.committed.len() == world.log.len() && owner.cursors.is_empty() {
            return Ok(());
        }
    }
    Err(TestCaseError::fail(format!("it never ends: {world:?} {owner:?}")))
}

fn check(records: Vec<(u8, [bool; 2])>, steps: &[Step], strict: bool) -> Result<(), TestCaseError> {
    let log = records.into_iter().map(|(lane, targets)| Record { lane, targets }).collect();
    let mut world = World { log, ..World::default() };
    let mut owner = world.take_over();
    let mut zombie = None;
    for step in steps {
        act(&mut world, &mut owner, &mut zombie, step, strict)?;
    }
    finish(&mut world, &mut owner, strict)?;
    for offset in 0..world.log.len() as i64 {
        for target in (0..TARGETS.len()).filter(|target| world.takes(*target, offset)) {
            prop_assert!(world.effects.contains(&(target, offset)), "{target}: {offset} is lost");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Invariants 1 (completion) and 2 (order).
    #[test]
    fn every_task_takes_effect_in_order_and_nothing_finished_is_repeated(
        records in prop::collection::vec((0u8..3, any::<[bool; 2]>()), 1..40),
        steps in prop::collection::vec(step(), 0..150),
    ) {
        check(records, &steps, true)?;
    }

    /// A backfill repeats on purpose; it must lose nothing and overtake nothing.
    #[test]
    fn a_backfill_and_its_cancel_lose_nothing(
        records in prop::collection::vec((0u8..3, any::<[bool; 2]>()), 1..40),
        steps in prop::collection::vec(step_with_backfill(), 0..150),
    ) {
        check(records, &steps, false)?;
    }
}

#[test]
fn a_row_on_its_way_covers_only_what_the_one_before_it_covers_too() {
    let steps = [Step::Detach(false, false), Step::Send, Step::Arrive, Step::Attach, Step::Send]
        .into_iter()
        .chain([Step::Detach(false, false), Step::Admit(2), Step::Arrive, Step::Commit, Step::Crash]);
    let steps: Vec<Step> = steps.collect();
    check(vec![(0, [false, false]), (0, [true, false])], &steps, true).expect("nothing is lost");
}
