//! Attempts that ended and wait to be on record: what follows from an outcome follows once its record is acknowledged.
//!
//! Until then a task keeps its lane and its place in the offsets, so that nothing of them depends on the record's
//! way; its slot and its target's room went with the answer. How many wait so is bounded by the lanes, like what runs.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::attempt::{Ending, Loaded, panic_failure};
use super::engine::Engine;
use super::report::{Attempted, Kind, Owing, Recorded, What};
use super::running::Label;
use crate::runtime::lanes::TaskNo;
use crate::runtime::outcome::Outcome;
use crate::runtime::stage::{EffectStage, Task};

impl<S: EffectStage> Engine<S> {
    /// Frees the slot of an attempt, and waits for its record.
    pub(super) fn await_record(&mut self, partition: i32, no: TaskNo, owing: Owing<S::Input>) {
        self.lanes.answered(no);
        self.occupy(partition);
        let Some(generation) = self.partitions.get(&partition).map(|owned| owned.generation) else { return };
        let label = Label { partition, generation, kind: Kind::Record(no) };
        self.running.keep(label, recorded(owing));
    }

    pub(super) fn on_recorded(&mut self, partition: i32, no: TaskNo, recorded: Recorded<S::Input>) {
        let Recorded { task, lane, outcome } = recorded;
        if matches!(outcome, Outcome::Done) {
            let written_ms = task.record.timestamp_ms;
            self.spare(task);
            self.balance.done += 1;
            return self.end(partition, no, "done", written_ms);
        }
        let Task { record, input, .. } = *task;
        let kind = self.hands.stage.kind(&input);
        let loaded = Loaded { record: Some(record), input: Some(input), lane };
        self.on_attempted(partition, no, Attempted { loaded, ending: Ending::Ran(outcome) }, kind);
    }
}

/// What can't be on record ends fatally: going on would leave it out.
async fn recorded<I>(Owing { mut attempt, owed }: Owing<I>) -> What<I> {
    let ended = AssertUnwindSafe(owed).catch_unwind().await;
    if let Err(why) = ended.unwrap_or_else(|_| Err(panic_failure())) {
        attempt.outcome = Outcome::Fatal(why);
    }
    What::Recorded(Box::new(attempt))
}
