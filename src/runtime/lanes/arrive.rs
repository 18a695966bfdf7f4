//! Tasks arrive: fresh ones from the source, parked ones read back from the retry partition.

use super::task::{LaneNo, Phase, Task};
use super::{Admitted, History, Identity, Indexed, Lanes, Place, TaskNo};

impl Lanes {
    /// Takes in a task that a source record opened. `share` bounds the fresh tasks of one target that wait on
    /// one partition; beyond it they are parked, so that a target that hangs never fills the intake.
    pub(crate) fn fresh(&mut self, identity: Identity<'_>, share: usize, now_ms: i64) -> Admitted {
        let Identity { partition, lane, target, offset, .. } = identity;
        let lane_no = self.lanes.find_or_make(partition, lane);
        let at = match self.find(lane_no, offset, &target) {
            Ok(_open) => return Admitted::AlreadyParked,
            Err(at) => at,
        };
        let behind = self.lanes.get(lane_no).is_some_and(|lane| {
            let below = (0..at).rev().filter_map(|at| self.lanes.task_at(lane, at));
            below.filter_map(|slot| self.tasks.at(slot)).any(Task::is_set_aside)
        });
        let park = behind || self.ready.waiting(partition, &target) >= share;
        let phase = if park { Phase::Moving } else { Phase::Waiting };
        let task = self.task_for(lane_no, identity, phase);
        let no = self.insert(lane_no, at, identity, task);
        if park {
            return Admitted::Park(no);
        }
        self.consider(lane_no, now_ms);
        Admitted::Queued(no)
    }

    pub(super) fn task_for(&mut self, lane: LaneNo, identity: Identity<'_>, phase: Phase) -> Task {
        let Identity { partition, target, offset, priority, .. } = identity;
        let target = self.targets.take(partition, target);
        Task::new(lane.slot(), target, offset, priority, phase)
    }

    /// Takes in a record of the retry partition. Of several copies the latest counts.
    pub(crate) fn index(
        &mut self,
        identity: Identity<'_>,
        place: Place,
        history: History,
        now_ms: i64,
    ) -> Indexed {
        let lane_no = self.lanes.find_or_make(identity.partition, identity.lane);
        match self.find(lane_no, identity.offset, &identity.target) {
            Ok(no) => {
                let indexed = self.index_again(no, place, history);
                // It may be due earlier now: a held one was redriven.
                self.consider(lane_no, now_ms);
                indexed
            }
            Err(at) => {
                let mut task = self.task_for(lane_no, identity, Phase::Waiting);
                task.put_at(place.offset);
                task.set_due(place.due_ms);
                task.set_history(history);
                let no = self.insert(lane_no, at, identity, task);
                self.consider(lane_no, now_ms);
                Indexed::New(no)
            }
        }
    }

    fn index_again(&mut self, no: TaskNo, place: Place, history: History) -> Indexed {
        let Some(task) = self.tasks.get(no) else { return Indexed::Known };
        let (phase, known) = (task.phase, task.place());
        match known {
            // Perhaps the append under way, read back before its acknowledgement: that will tell. Or fresh here and parked
            // there: a former owner parked it after our position was committed.
            _ if phase == Phase::Moving || known.is_none() => {
                self.read_back.entry(no).or_default().push((place, history));
                Indexed::Known
            }
            Some(known) if known == place.offset => Indexed::Known,
            Some(known) if known > place.offset => Indexed::Older,
            None => Indexed::Known,
            Some(older) => {
                if phase == Phase::Waiting {
                    self.clear_timer(no);
                }
                if let Some(task) = self.tasks.get_mut(no) {
                    task.put_at(place.offset);
                    // While it rests, its time is that of its next attempt.
                    if phase == Phase::Waiting {
                        task.set_due(place.due_ms);
                    }
                    task.set_history(history);
                }
                Indexed::Replaced { task: no, older }
            }
        }
    }
}
