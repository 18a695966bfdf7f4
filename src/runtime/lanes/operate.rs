//! What operators, redrives and metrics ask of lanes.

use std::sync::Arc;

use super::{Count, Identity, Lanes};

impl Lanes {
    /// How many lanes there are, in how many the first task is parked, and when the oldest of these failed first.
    pub(crate) fn count(&self) -> Count {
        let mut count = Count { lanes: self.lanes.len(), ..Count::default() };
        let firsts = self.lanes.values().filter_map(|lane| self.tasks.get(lane.tasks.front()?));
        for task in firsts.filter(|task| task.place.is_some()) {
            count.parked += 1;
            let failed = task.history.first_failed_at_ms;
            count.oldest_failed_ms = count.oldest_failed_ms.into_iter().chain(failed).min();
        }
        count
    }

    /// True when a task is known that has not ended, and is not held until somebody decides.
    pub(crate) fn is_open(&self, identity: &Identity) -> bool {
        let lane = self.names.get(&(identity.partition, Arc::clone(&identity.lane)));
        let found = lane.and_then(|lane| self.find(*lane, identity).ok());
        let Some(task) = found.and_then(|no| self.tasks.get(&no)) else { return false };
        task.place.is_none_or(|place| place.due_ms < i64::MAX)
    }
}
