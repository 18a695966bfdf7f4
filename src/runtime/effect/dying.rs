//! Tasks on their way to the dead-letter topic, or from there to hold their lane, and where an operator put them back
//! meanwhile. Pure.
//!
//! A dead letter can be read, and redriven, before we hear that it is there, or that its lane is held. What is redriven then is no
//! copy of an open task (rule 8): the task ends with the acknowledgement, and nothing else would bring it again.

use hashbrown::HashMap;

use crate::runtime::lanes::TaskNo;

/// See the module. Bounded by the number of tasks that may run at once.
#[derive(Debug, Default)]
pub(super) struct Dying(HashMap<TaskNo, Option<i64>>);

impl Dying {
    /// A task is given up: its letter is written from now on.
    pub(super) fn begin(&mut self, no: TaskNo) {
        self.0.insert(no, None);
    }

    /// A redrive put a task that is still open back at `place`. Answers false when that is a copy, of which nothing is to
    /// be done: the task isn't given up, or was put back before.
    pub(super) fn put_back(&mut self, no: TaskNo, place: i64) -> bool {
        let Some(back) = self.0.get_mut(&no).filter(|back| back.is_none()) else { return false };
        *back = Some(place);
        true
    }

    /// True when a task was put back.
    pub(super) fn is_back(&self, no: TaskNo) -> bool {
        self.0.get(&no).is_some_and(Option::is_some)
    }

    /// A task's letter is there, and what holds its lane. Gives where it was put back.
    pub(super) fn end(&mut self, no: TaskNo) -> Option<i64> {
        self.0.remove(&no).flatten()
    }
}
