//! How much of what cursors serve may be in memory on a partition. Pure.
//!
//! Targets that are caught up and targets that are away have a part each, so that neither takes the other's, and both
//! together leave the live stream at least half of what may wait, however many targets there are.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Tasks in memory, and the bytes of their records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) tasks: usize,
    pub(super) bytes: usize,
}

impl Load {
    /// Whether one more may be added.
    pub(super) fn is_below(self, most: Self) -> bool {
        self.tasks < most.tasks && self.bytes < most.bytes
    }

    /// Whether it is no more than that.
    pub(super) fn is_within(self, most: Self) -> bool {
        self.tasks <= most.tasks && self.bytes <= most.bytes
    }

    /// Half of it, but one task at least.
    pub(super) fn half(self) -> Self {
        Self { tasks: (self.tasks / 2).max(1), bytes: self.bytes / 2 }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { tasks: self.tasks + other.tasks, bytes: self.bytes + other.bytes }
    }

    fn minus(self, other: Self) -> Self {
        Self { tasks: self.tasks - other.tasks, bytes: self.bytes - other.bytes }
    }
}

/// What cursors may bring into memory on one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Tasks of one target that is caught up.
    pub(super) room: usize,
    /// What all targets that are caught up take together; and again, all that are away.
    pub(super) most: Load,
}

/// The targets that are away, and what of both kinds of targets is in memory.
#[derive(Debug, Default)]
pub(super) struct Loads {
    caught_up: Load,
    away: Load,
    /// Targets that can't be reached, and whether one gave back what it is probed with: then it is read only when the next
    /// probe is due.
    targets_away: BTreeMap<Arc<str>, bool>,
}

impl Loads {
    /// Adds to what is in memory of `target`.
    pub(super) fn add(&mut self, target: &str, load: Load) {
        let of = self.of(target);
        *of = of.plus(load);
    }

    /// Takes from what is in memory of `target`.
    pub(super) fn take(&mut self, target: &str, load: Load) {
        let of = self.of(target);
        *of = of.minus(load);
    }

    fn of(&mut self, target: &str) -> &mut Load {
        if self.is_away(target) { &mut self.away } else { &mut self.caught_up }
    }

    /// Notes whether `target` can be reached, of which `load` is in memory.
    pub(super) fn note_away(&mut self, target: &Arc<str>, is_away: bool, load: Load) {
        if is_away == self.is_away(target) {
            return;
        }
        self.take(target, load);
        if is_away {
            self.targets_away.insert(Arc::clone(target), false);
        } else {
            self.targets_away.remove(target);
        }
        self.add(target, load);
    }

    /// Whether `target` can't be reached.
    pub(super) fn is_away(&self, target: &str) -> bool {
        self.targets_away.contains_key(target)
    }

    /// The targets that can't be reached.
    pub(super) fn all_away(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.targets_away.keys()
    }

    /// What is in memory of all targets that can't be reached.
    pub(super) fn of_away(&self) -> Load {
        self.away
    }

    /// Tasks in memory of all targets.
    pub(super) fn tasks(&self) -> usize {
        self.caught_up.plus(self.away).tasks
    }

    /// What `target`, which can't be reached, is probed with was given back.
    pub(super) fn note_given_back(&mut self, target: &str) {
        if let Some(gave_back) = self.targets_away.get_mut(target) {
            *gave_back = true;
        }
    }

    /// Whether the memory allows one more task of `target`. What is away has half of its part for what is kept, and the
    /// other half for probes that `is_due` says are to be made now.
    pub(super) fn allow(&self, target: &str, limits: &Limits, is_due: impl Fn(&str) -> bool) -> bool {
        match self.targets_away.get(target) {
            None => self.caught_up.is_below(limits.most),
            Some(gave_back) => {
                let is_kept = !gave_back && self.away.is_below(limits.most.half());
                self.away.is_below(limits.most) && (is_kept || is_due(target))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { room: 4, most: Load { tasks: 8, bytes: 800 } };

    fn tasks(tasks: usize) -> Load {
        Load { tasks, bytes: 10 * tasks }
    }

    #[test]
    fn half_of_the_memory_for_what_is_away_is_left_to_probes_that_are_due() {
        let (away, there) = (Arc::from("away"), Arc::from("there"));
        let mut loads = Loads::default();
        loads.note_away(&away, true, Load::default());
        let allowed = |loads: &Loads, due: bool| loads.allow(&away, &LIMITS, |_| due);
        loads.add(&away, tasks(3));
        assert!(allowed(&loads, false));
        loads.add(&away, tasks(1));
        assert_eq!((allowed(&loads, false), allowed(&loads, true)), (false, true));
        loads.add(&away, tasks(4));
        assert!(!allowed(&loads, true));
        assert!(loads.allow(&there, &LIMITS, |_| false), "it has a part of its own");
        loads.take(&away, tasks(8));
        loads.add(&away, Load { tasks: 1, bytes: 400 });
        assert_eq!((allowed(&loads, false), allowed(&loads, true)), (false, true), "bytes count as well");
    }

    #[test]
    fn what_gave_its_probe_back_is_not_read_before_the_next_one() {
        let target = Arc::from("away");
        let mut loads = Loads::default();
        loads.note_away(&target, true, Load::default());
        assert!(loads.allow(&target, &LIMITS, |_| false));
        loads.note_given_back(&target);
        assert!(!loads.allow(&target, &LIMITS, |_| false));
        assert!(loads.allow(&target, &LIMITS, |_| true));
    }

    #[test]
    fn what_is_in_memory_counts_as_what_its_target_is() {
        let target = Arc::from("a");
        let mut loads = Loads::default();
        loads.add(&target, tasks(5));
        loads.note_away(&target, true, tasks(5));
        loads.note_away(&target, true, tasks(5));
        assert_eq!((loads.caught_up, loads.away), (tasks(0), tasks(5)));
        loads.take(&target, tasks(2));
        loads.note_away(&target, false, tasks(3));
        assert_eq!((loads.caught_up, loads.away), (tasks(3), tasks(0)));
    }
}
