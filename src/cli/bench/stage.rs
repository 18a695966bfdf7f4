//! The stage that is measured: does nothing, sleeps or decodes; and, in the first repetition, the proof that the
//! engine does what it promises: each record once, in order per key, nothing committed that wasn't handled.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::measure::Meter;
use crate::event::Codec;
use crate::runtime::{EffectStage, ErrorClass, Failure, Intake, Outcome, Record, SkipReason, Task, Tasks};

/// Targets of the lanes. One may take half of the slots at most, so that there must be several.
const TARGETS: usize = 16;

/// See the module.
pub(super) struct BenchStage {
    pub(super) wait: Duration,
    pub(super) meter: Arc<Meter>,
    pub(super) codec: Option<Codec>,
    pub(super) proof: Option<Arc<Proof>>,
    /// Everything is put off so long.
    pub(super) put_off: Option<Duration>,
    /// Nothing is begun before it opens.
    pub(super) gate: Option<watch::Receiver<bool>>,
    targets: Vec<Arc<str>>,
}

impl BenchStage {
    pub(super) fn new(wait: Duration, meter: Arc<Meter>) -> Self {
        let targets = (0..TARGETS).map(|number| format!("target-{number}").into()).collect();
        Self { wait, meter, codec: None, proof: None, put_off: None, gate: None, targets }
    }

    async fn handle(&self, task: &Task<()>) {
        if !self.wait.is_zero() {
            tokio::time::sleep(self.wait).await;
        }
        if let Some(proof) = &self.proof {
            proof.ended(&task.record);
        }
        self.meter.hit();
    }
}

impl EffectStage for BenchStage {
    type Input = ();

    fn name(&self) -> &str {
        "bench"
    }

    async fn decode(&self, record: &Record) -> Intake<()> {
        let Some(payload) = &record.payload else { return Intake::Skipped(SkipReason::Tombstone) };
        if let Some(gate) = self.gate.as_ref().filter(|gate| !*gate.borrow()) {
            // The other end outlives the stage.
            let _ = gate.clone().wait_for(|open| *open).await;
        }
        let Some(codec) = &self.codec else { return Intake::Ready(()) };
        match codec.decode(payload).await {
            Ok(event) => {
                std::hint::black_box(event);
                Intake::Ready(())
            }
            Err(error) => Intake::Dead(Failure::new(ErrorClass::Decode, error.to_string())),
        }
    }

    async fn open(&self, record: &Record, _input: &(), tasks: &mut Tasks) -> Intake<()> {
        let Some(key) = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()) else {
            return Intake::Dead(Failure::new(ErrorClass::Key, "no key"));
        };
        let last = usize::from(key.as_bytes().last().copied().unwrap_or(0));
        tasks.push(key, &self.targets[last % TARGETS], 100);
        Intake::Ready(())
    }

    async fn run(&self, task: &Task<()>) -> Outcome {
        if let Some(proof) = &self.proof {
            proof.began(&task.record);
        }
        self.handle(task).await;
        match self.put_off {
            None => Outcome::Done,
            Some(after) => Outcome::Retry { after, why: Failure::new(ErrorClass::Unavailable, "put off") },
        }
    }

    fn target_concurrency(&self, _target: &str) -> usize {
        usize::MAX
    }
}

/// What was handled, in which order.
#[derive(Debug, Default)]
pub(super) struct Proof {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    running: HashSet<Vec<u8>>,
    last: HashMap<Vec<u8>, i64>,
    handled: BTreeMap<i32, HashSet<i64>>,
    faults: Vec<String>,
}

impl Proof {
    fn began(&self, record: &Record) {
        let key = record.key.as_deref().unwrap_or_default().to_vec();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.last.get(&key).is_some_and(|last| *last >= record.offset) {
            seen.faults.push(format!("{record:?} came after a later one of its key"));
        }
        if !seen.running.insert(key) {
            seen.faults.push(format!("{record:?} ran beside another one of its key"));
        }
    }

    fn ended(&self, record: &Record) {
        let key = record.key.as_deref().unwrap_or_default().to_vec();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.running.remove(&key);
        seen.last.insert(key, record.offset);
        if !seen.handled.entry(record.partition).or_default().insert(record.offset) {
            seen.faults.push(format!("{record:?} was handled twice"));
        }
    }

    /// What is wrong, given the committed positions of the partitions, which began at offset 0.
    pub(super) fn faults(&self, committed: &BTreeMap<i32, i64>) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut faults = seen.faults.clone();
        for (partition, position) in committed {
            let handled = seen.handled.get(partition);
            let lost = (0..*position).filter(|at| handled.is_none_or(|handled| !handled.contains(at)));
            let lost = lost.count();
            if lost > 0 {
                faults
                    .push(format!("partition {partition}: {lost} records below {position} were not handled"));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Headers;

    fn record(key: &'static str, offset: i64) -> Record {
        Record {
            topic: "t".into(),
            partition: 0,
            offset,
            timestamp_ms: None,
            key: Some(key.as_bytes().into()),
            payload: None,
            headers: Headers::default(),
        }
    }

    #[test]
    fn what_overtakes_is_doubled_or_lost_is_named() {
        let proof = Proof::default();
        for offset in [0, 2] {
            proof.began(&record("a", offset));
            proof.ended(&record("a", offset));
        }
        assert_eq!(proof.faults(&[(0, 1)].into()), Vec::<String>::new());
        assert_eq!(proof.faults(&[(0, 3)].into()).len(), 1, "offset 1 is lost");
        proof.began(&record("a", 1));
        assert_eq!(proof.faults(&[(0, 1)].into()).len(), 1, "overtaken");
        proof.began(&record("a", 3));
        assert_eq!(proof.faults(&[(0, 1)].into()).len(), 2, "two at once");
        proof.ended(&record("b", 2));
        assert_eq!(proof.faults(&[(0, 1)].into()).len(), 3, "twice");
    }
}
