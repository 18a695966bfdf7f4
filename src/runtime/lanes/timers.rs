//! Which task is to be looked at next: a binary heap of slots, by the time that each task says. Pure.
//!
//! Each task knows its place in the heap, so that it can be taken out, and the heap holds four bytes of it. A task's time
//! must not change while it is in here.

use super::TaskNo;
use super::slab::Slab;
use super::task::Task;

/// A task's place when it is in no heap.
pub(super) const NOWHERE: u32 = u32::MAX;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: Vec<u32>,
}

type Tasks = Slab<TaskNo, Task>;

impl Timers {
    /// The time of the first, and its slot.
    pub(super) fn first(&self, tasks: &Tasks) -> Option<(i64, u32)> {
        let slot = *self.heap.first()?;
        Some((due(tasks, slot), slot))
    }

    /// Takes in the task in `slot`, which isn't in the heap, by its time.
    pub(super) fn insert(&mut self, tasks: &mut Tasks, slot: u32) {
        self.heap.push(slot);
        self.rise(tasks, self.heap.len() - 1);
    }

    /// Takes the task in `slot` out, if it is in the heap.
    pub(super) fn remove(&mut self, tasks: &mut Tasks, slot: u32) {
        let Some(task) = tasks.at_mut(slot).filter(|task| task.timer != NOWHERE) else { return };
        let at = task.timer as usize;
        task.timer = NOWHERE;
        let Some(last) = self.heap.pop() else { return };
        if at < self.heap.len() {
            self.heap[at] = last;
            self.sink(tasks, at);
            self.rise(tasks, at);
        }
    }

    /// Takes out all tasks but those for which `keep` answers true: in one go, as there may be a million of them.
    pub(super) fn retain(&mut self, tasks: &mut Tasks, keep: impl Fn(&Task) -> bool) {
        self.heap.retain(|&slot| {
            let Some(task) = tasks.at_mut(slot) else { return false };
            let stays = keep(task);
            if !stays {
                task.timer = NOWHERE;
            }
            stays
        });
        // The later half first, which has nothing below it.
        for at in (0..self.heap.len()).rev() {
            self.sink(tasks, at);
        }
    }

    fn put(&mut self, tasks: &mut Tasks, at: usize, slot: u32) {
        self.heap[at] = slot;
        if let Some(task) = tasks.at_mut(slot) {
            task.timer = u32::try_from(at).unwrap_or(NOWHERE);
        }
    }

    /// Moves what is at `at` towards the top.
    fn rise(&mut self, tasks: &mut Tasks, mut at: usize) {
        let slot = self.heap[at];
        let time = due(tasks, slot);
        while at > 0 {
            let parent = (at - 1) / 2;
            let above = self.heap[parent];
            if due(tasks, above) <= time {
                break;
            }
            self.put(tasks, at, above);
            at = parent;
        }
        self.put(tasks, at, slot);
    }

    /// Moves what is at `at` away from the top.
    fn sink(&mut self, tasks: &mut Tasks, mut at: usize) {
        let slot = self.heap[at];
        let time = due(tasks, slot);
        loop {
            let left = 2 * at + 1;
            let children = self.heap.iter().enumerate().skip(left).take(2);
            let earliest = children.map(|(child, &slot)| (due(tasks, slot), child, slot)).min();
            let Some((_, child, below)) = earliest.filter(|(earlier, ..)| *earlier < time) else { break };
            self.put(tasks, at, below);
            at = child;
        }
        self.put(tasks, at, slot);
    }
}

fn due(tasks: &Tasks, slot: u32) -> i64 {
    tasks.at(slot).map_or(i64::MAX, Task::due_ms)
}

#[cfg(test)]
impl Timers {
    /// Bytes of all that was allocated.
    pub(super) fn capacity_bytes(&self) -> usize {
        self.heap.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::task::Phase;
    use super::*;

    proptest! {
        /// Against a sorted set: whatever is put in and taken out, the first is the earliest.
        #[test]
        fn the_first_is_always_the_earliest(steps in prop::collection::vec((0_i64..20, any::<prop::sample::Index>()), 1..200)) {
            let (mut timers, mut tasks) = (Timers::default(), Tasks::default());
            let mut known = BTreeSet::new();
            for (due_ms, which) in steps {
                if due_ms < 12 || known.is_empty() {
                    let mut task = Task::new(0, 0, 0, 100, Phase::Waiting);
                    task.set_due(due_ms);
                    let slot = tasks.insert(task).slot();
                    timers.insert(&mut tasks, slot);
                    known.insert((due_ms, slot));
                } else {
                    let &(due_ms, slot) = known.iter().nth(which.index(known.len())).expect("in range");
                    timers.remove(&mut tasks, slot);
                    timers.remove(&mut tasks, slot);
                    known.remove(&(due_ms, slot));
                    tasks.remove(tasks.key_at(slot).expect("kept"));
                }
                let first = timers.first(&tasks);
                prop_assert_eq!(first.map(|(due_ms, _)| due_ms), known.first().map(|(due_ms, _)| *due_ms));
                prop_assert_eq!(timers.heap.len(), known.len());
            }
        }
    }
}
