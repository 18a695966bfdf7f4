//! Targets: their names, which of them are held back on a partition, and what is open of one. Pure.
//!
//! A gate is an offset: tasks of its target at or above it don't start. It stands where the reader of a cursor got
//! to, so that a later task never starts before an earlier one is in its lane (invariant 2, order).

use std::collections::BTreeSet;
use std::hash::BuildHasher as _;
use std::ops::Deref;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::found::Hints;
use super::task::{LaneNo, Phase, Task};
use super::{Lanes, Place, TaskNo};

/// Where a target is held back, and the lanes that wait there, by the offset of their first task.
#[derive(Debug, Default)]
struct Gate {
    at: i64,
    waiting: BTreeSet<(i64, LaneNo)>,
}

/// Gates by partition and target.
#[derive(Debug, Default)]
pub(super) struct Gates(HashMap<(i32, Arc<str>), Gate>);

impl Gates {
    /// True when a task may not start for now; its lane is remembered.
    pub(super) fn holds(&mut self, partition: i32, target: &Arc<str>, offset: i64, lane: LaneNo) -> bool {
        if self.0.is_empty() {
            return false;
        }
        match self.0.get_mut(&(partition, Arc::clone(target))) {
            Some(gate) if offset >= gate.at => {
                gate.waiting.insert((offset, lane));
                true
            }
            Some(_) | None => false,
        }
    }

    /// True when a task may not start for now.
    pub(super) fn is_shut(&self, partition: i32, target: &Arc<str>, offset: i64) -> bool {
        let gate = || self.0.get(&(partition, Arc::clone(target)));
        !self.0.is_empty() && gate().is_some_and(|gate| offset >= gate.at)
    }

    /// True when tasks of `target` are held back from some offset on.
    pub(super) fn has(&self, partition: i32, target: &str) -> bool {
        !self.0.is_empty() && self.0.contains_key(&(partition, target.into()))
    }

    pub(super) fn remove(&mut self, partition: i32) {
        self.0.retain(|(number, _), _| *number != partition);
    }
}

/// The name of a target, as it is handed in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TargetName<'n> {
    /// By a stage: the same copy again and again, which is known by where it lies.
    Copy(&'n Arc<str>),
    /// As a record has it.
    Read(&'n str),
}

impl TargetName<'_> {
    fn to_arc(self) -> Arc<str> {
        match self {
            Self::Copy(name) => Arc::clone(name),
            Self::Read(name) => name.into(),
        }
    }
}

impl Deref for TargetName<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Copy(name) => name,
            Self::Read(name) => name,
        }
    }
}

impl PartialEq for TargetName<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for TargetName<'_> {}

impl<'n> From<&'n Arc<str>> for TargetName<'n> {
    fn from(name: &'n Arc<str>) -> Self {
        Self::Copy(name)
    }
}

impl<'n> From<&'n str> for TargetName<'n> {
    fn from(name: &'n str) -> Self {
        Self::Read(name)
    }
}

/// Names without tasks that are kept for the next ones, at most.
const SPARE_NAMES: usize = 1_024;

/// A target on a partition.
#[derive(Debug)]
struct Named {
    partition: i32,
    name: Arc<str>,
    /// Open tasks.
    tasks: usize,
}

/// Stands for the partition of a number that is free.
const NOWHERE: i32 = i32::MIN;

/// Targets on partitions by number, as tasks say them.
#[derive(Debug, Default)]
pub(super) struct Targets {
    list: Vec<Named>,
    numbers: HashTable<u32>,
    hints: Hints,
    free: Vec<u32>,
    /// Those that have a name and no task.
    spare: usize,
    hasher: DefaultHashBuilder,
}

impl Targets {
    fn find(&self, partition: i32, name: &str) -> Option<u32> {
        let hint = self.hints.get(name, partition);
        match self.list.get(hint) {
            // The list keeps a name alive, so that no other one lies there.
            Some(known) if known.partition == partition && std::ptr::eq(&*known.name, name) => {
                u32::try_from(hint).ok()
            }
            Some(_) | None => self.find_by_name(partition, name),
        }
    }

    fn find_by_name(&self, partition: i32, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one((partition, name));
        let is_it = |number: &u32| {
            let known = &self.list[*number as usize];
            known.partition == partition && *known.name == *name
        };
        self.numbers.find(hash, is_it).copied()
    }

    /// The number of a target, for one more task.
    pub(super) fn take(&mut self, partition: i32, name: TargetName<'_>) -> u32 {
        if let Some(number) = self.find(partition, &name) {
            let known = &mut self.list[number as usize];
            known.tasks += 1;
            self.spare -= usize::from(known.tasks == 1);
            if let TargetName::Copy(copy) = name
                && (!Arc::ptr_eq(copy, &known.name) || self.hints.get(copy, partition) != number as usize)
            {
                known.name.clone_from(copy);
                self.hints.set(copy, partition, number);
            }
            return number;
        }
        let named = Named { partition, name: name.to_arc(), tasks: 1 };
        let number = match self.free.pop() {
            Some(number) => {
                self.list[number as usize] = named;
                number
            }
            None => {
                self.list.push(named);
                u32::try_from(self.list.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let (list, hasher) = (&self.list, &self.hasher);
        let hash_of = |number: &u32| {
            let known = &list[*number as usize];
            hasher.hash_one((known.partition, &*known.name))
        };
        self.numbers.insert_unique(hash_of(&number), number, hash_of);
        number
    }

    /// A task of a target ended.
    pub(super) fn give_back(&mut self, number: u32) {
        let Some(known) = self.list.get_mut(number as usize) else { return };
        known.tasks -= 1;
        if known.tasks > 0 {
            return;
        }
        if self.spare < SPARE_NAMES {
            self.spare += 1;
            return;
        }
        let hash = self.hasher.hash_one((known.partition, &*known.name));
        if let Ok(entry) = self.numbers.find_entry(hash, |other| *other == number) {
            entry.remove();
        }
        self.list[number as usize].partition = NOWHERE;
        self.free.push(number);
    }

    /// The partition and name of a target.
    pub(super) fn get(&self, number: u32) -> Option<(i32, &Arc<str>)> {
        self.list.get(number as usize).map(|known| (known.partition, &known.name))
    }

    pub(super) fn name_of(&self, number: u32) -> Option<&Arc<str>> {
        self.list.get(number as usize).map(|known| &known.name)
    }

    pub(super) fn name(&self, number: u32) -> Option<&str> {
        self.list.get(number as usize).map(|known| &*known.name)
    }

    /// How many tasks of a target are open.
    fn tasks_of(&self, number: u32) -> usize {
        self.list.get(number as usize).map_or(0, |known| known.tasks)
    }

    pub(super) fn is_on(&self, number: u32, partition: i32) -> bool {
        self.list.get(number as usize).is_some_and(|known| known.partition == partition)
    }
}

#[cfg(test)]
impl Targets {
    /// True when no target has a task.
    pub(super) fn is_idle(&self) -> bool {
        self.list.iter().all(|known| known.tasks == 0)
    }
}

/// An open task of a target.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfTarget {
    pub(crate) no: TaskNo,
    pub(crate) offset: i64,
    pub(crate) place: Option<Place>,
    /// It neither runs nor is it on its way to another topic.
    pub(crate) idle: bool,
    pub(crate) attempt: u32,
    /// An operator put it back.
    pub(crate) is_put_back: bool,
}

impl OfTarget {
    fn new(no: TaskNo, task: &Task) -> Self {
        Self {
            no,
            offset: task.offset,
            place: task.parked_at(),
            idle: matches!({ task.phase }, Phase::Waiting | Phase::Resting),
            attempt: task.attempt,
            is_put_back: task.is_put_back(),
        }
    }
}

impl Lanes {
    /// Lets tasks of `target` start on `partition` only below `gate`; `None` lets all of them.
    pub(crate) fn set_gate(&mut self, partition: i32, target: &Arc<str>, gate: Option<i64>, now_ms: i64) {
        let key = (partition, Arc::clone(target));
        let open = match gate {
            None => self.gates.0.remove(&key).unwrap_or_default().waiting,
            Some(at) => {
                let known = self.gates.0.entry(key).or_default();
                known.at = at;
                let shut = known.waiting.split_off(&(at, LaneNo::FIRST));
                std::mem::replace(&mut known.waiting, shut)
            }
        };
        for (_, lane) in open {
            self.consider(lane, now_ms);
        }
    }

    /// The open tasks of a partition.
    pub(crate) fn tasks_of(&self, partition: i32) -> Vec<TaskNo> {
        let of = self.tasks.iter().filter(|(_, task)| self.targets.is_on(task.target, partition));
        of.map(|(no, _)| no).collect()
    }

    /// The open tasks of `target` on `partition`. Looks at all tasks, if it has any.
    pub(crate) fn of_target(&self, partition: i32, target: &Arc<str>) -> Vec<OfTarget> {
        self.of_targets(partition, std::slice::from_ref(target)).pop().unwrap_or_default()
    }

    /// The open tasks of each of `targets` on `partition`, found together.
    pub(crate) fn of_targets(&self, partition: i32, targets: &[Arc<str>]) -> Vec<Vec<OfTarget>> {
        let mut found: Vec<Vec<OfTarget>> = targets.iter().map(|_| Vec::new()).collect();
        let known = targets.iter().enumerate();
        let known = known.filter_map(|(at, target)| Some((self.targets.find(partition, target)?, at)));
        let asked: HashMap<u32, usize> = known.collect();
        let mut missing: usize = asked.keys().map(|number| self.targets.tasks_of(*number)).sum();
        if missing == 0 {
            return found;
        }
        for (no, task) in self.tasks.iter() {
            if let Some(of) = asked.get(&{ task.target }).and_then(|at| found.get_mut(*at)) {
                of.push(OfTarget::new(no, task));
                missing -= 1;
                if missing == 0 {
                    break;
                }
            }
        }
        found
    }

    /// An open task.
    pub(crate) fn open_task(&self, no: TaskNo) -> Option<OfTarget> {
        self.tasks.get(no).map(|task| OfTarget::new(no, task))
    }

    /// Whether a task of `target` is open on `partition`.
    pub(crate) fn has_open(&self, partition: i32, target: &str) -> bool {
        self.targets.find(partition, target).is_some_and(|number| self.targets.tasks_of(number) > 0)
    }

    /// Tasks of `target` on `partition` that wait for it in memory.
    pub(crate) fn waiting(&self, partition: i32, target: &str) -> usize {
        self.ready.waiting(partition, target)
    }

    /// Lets targets that rest start again of which `may` says so, before their time.
    pub(crate) fn wake_early(&mut self, may: &dyn Fn(&str) -> bool) {
        self.ready.wake_early(may);
    }

    /// Calls those that wait longest for one of the slots that they share (`Room::OneOfFew`), of which so many are free.
    pub(crate) fn call(&mut self, free: usize) {
        self.ready.call(free);
    }

    /// True when somebody waits for a slot that is shared.
    pub(crate) fn has_line(&self) -> bool {
        self.ready.has_line()
    }

    /// The targets that may start nothing for a while.
    pub(crate) fn resting(&self) -> impl Iterator<Item = &Arc<str>> {
        self.ready.resting()
    }

    /// The targets for which tasks of `partition` wait in memory, and how many: those with the most first.
    pub(crate) fn busiest(&self, partition: i32) -> Vec<(usize, &Arc<str>)> {
        self.ready.busiest(partition)
    }
}
