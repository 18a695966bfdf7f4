//! What operators, redrives and metrics ask of lanes.

use std::sync::Arc;

use super::task::Phase;
use super::{Census, Count, Identity, Lanes, Place, TaskNo};

impl Lanes {
    /// How many tasks of a partition are where.
    pub(crate) fn census(&self, partition: i32) -> Census {
        self.census.get(&partition).copied().unwrap_or_default()
    }

    /// How many lanes there are, in how many the first task is parked, and when the oldest of these failed first.
    pub(crate) fn count(&self) -> Count {
        let mut count = Count { lanes: self.lanes.len(), ..Count::default() };
        let firsts = self.lanes.iter().filter_map(|(_, lane)| self.tasks.get(lane.tasks.front()?));
        for task in firsts.filter(|task| task.place.is_some()) {
            count.parked += 1;
            count.held += usize::from(task.place.is_some_and(|place| place.due_ms == i64::MAX));
            let failed = task.history.first_failed_at_ms;
            count.oldest_failed_ms = count.oldest_failed_ms.into_iter().chain(failed).min();
        }
        count
    }

    /// The first task of a lane when it waits in the retry topic, and whether it is held until somebody decides.
    ///
    /// # Errors
    /// In words, when there is no such lane or it isn't waiting.
    pub(crate) fn waiting_first(&self, partition: i32, lane: &Arc<str>) -> Result<(TaskNo, bool), String> {
        let known = self.lanes.find(partition, lane).and_then(|no| self.lanes.get(no));
        let first = known.and_then(|lane| lane.tasks.front());
        let found = first.and_then(|no| Some((*no, self.tasks.get(no)?)));
        let (no, task) = found.ok_or("no such lane waits; see `orderflow lane list`")?;
        match task.place {
            Some(place) if task.phase == Phase::Waiting => Ok((no, place.due_ms == i64::MAX)),
            Some(_) | None => {
                Err("its first task runs, or is about to; ask again if it waits later".to_owned())
            }
        }
    }

    /// True when a task of the source record at `offset` waits in memory for its turn: for a slot, for the lane's task
    /// before it, at its target's gate, or for a time that is still to come. Looks at all tasks.
    pub(crate) fn waits_its_turn(&self, partition: i32, offset: i64, now_ms: i64) -> bool {
        let mut of_record = self.tasks.iter().filter(|(_, task)| {
            (task.identity.partition, task.identity.offset) == (partition, offset) && task.is_fresh()
        });
        of_record.any(|(_, task)| {
            let lane = self.lanes.get(task.lane);
            lane.is_some_and(|lane| lane.queued || lane.active.is_some())
                || self.gates.is_shut(&task.identity)
                || task.timer.is_some_and(|due_ms| due_ms > now_ms)
        })
    }

    /// Makes a parked task due.
    pub(crate) fn hurry(&mut self, no: TaskNo, now_ms: i64) {
        self.clear_timer(no);
        self.change(no, |task| {
            if let Some(place) = &mut task.place {
                place.due_ms = place.due_ms.min(now_ms);
            }
        });
        if let Some(lane) = self.tasks.get(no).map(|task| task.lane) {
            self.consider(lane, now_ms);
        }
    }

    /// A parked task that waits is copied to the end of the retry topic: gives where it lies. When the copy is there,
    /// say [`Lanes::parked`].
    pub(crate) fn carry(&mut self, no: TaskNo) -> Option<Place> {
        let task = self.tasks.get(no).filter(|task| task.phase == Phase::Waiting)?;
        let place = task.place?;
        self.change(no, |task| task.phase = Phase::Moving);
        Some(place)
    }

    /// True when a task is known that has not ended, and is not held until somebody decides.
    pub(crate) fn is_open(&self, identity: &Identity) -> bool {
        let lane = self.lanes.find(identity.partition, &identity.lane);
        let found = lane.and_then(|lane| self.find(lane, identity).ok());
        let Some(task) = found.and_then(|no| self.tasks.get(no)) else { return false };
        task.place.is_none_or(|place| place.due_ms < i64::MAX)
    }
}
