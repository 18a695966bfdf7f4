//! What a stage has to offer to the engine: two ports, one for effects outside, one for rows in our store.
//!
//! The engine calls them; it knows nothing of what they do. Both are contracts: read the duties below.

use std::fmt::{self, Write as _};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::outcome::{ErrorClass, Failure, Intake, Outcome, SkipReason};
use super::record::{Record, SourcePartition};
use super::retry::Schedule;
use super::shared::Shared;

/// A stage whose effect is outside: one record opens tasks, each task belongs to a lane.
///
/// Duties: `decode` and `open` are pure in the record's bytes but for what they look up; within a lane `run`
/// is called one task at a time in source order, and may be called again for the same task after a crash, so
/// its effect must carry a name that doesn't depend on time or attempt. A future may be dropped at any await.
pub trait EffectStage: Send + Sync + 'static {
    /// The decoded record, shared by its tasks.
    type Input: Send + Sync + 'static;

    /// The stage's name, as in topic and metric names.
    fn name(&self) -> &str;

    /// Reads the record. Called again for a parked record, with its original key, payload and headers.
    fn decode(&self, record: &Record) -> impl Future<Output = Intake<Self::Input>> + Send;

    /// Pushes the tasks that the record opens; none means that it is skipped as filtered. A pair of lane and target
    /// may occur only once. Not asked again for a parked task.
    fn open(
        &self,
        record: &Record,
        input: &Self::Input,
        tasks: &mut Tasks,
    ) -> impl Future<Output = Intake<()>> + Send;

    /// Does the effect once. The stage computes the delay of a retry itself and answers `Dead` after its last
    /// attempt. Polled on the engine's own thread: a handler that computes for long hands that to other threads.
    fn run(&self, task: &Task<Self::Input>) -> impl Future<Output = Outcome> + Send;

    /// What the engine calls: [`EffectStage::run`], and what of the attempt has to be acknowledged elsewhere before
    /// anything follows from its outcome. Until then the task keeps its lane and its offset stays open, but its slot and
    /// its target's room are free for others; the stage's time-out doesn't count. By default nothing is owed.
    fn answer(&self, task: &Task<Self::Input>) -> impl Future<Output = Answered> + Send {
        async { self.run(task).await.into() }
    }

    /// Hook: an attempt begins. For counting and logging: nothing waits for it, and a crash may cut off what follows.
    fn before(&self, _task: &Task<Self::Input>) {}

    /// Hook: an attempt ended so, or was cut off. Not called when a crash or a revoked partition ends it.
    fn after(&self, _task: &Task<Self::Input>, _outcome: &Outcome) {}

    /// Hook: the task is given up for good, whoever decided that; ends before its dead letter is written. May be called
    /// again after a crash, like [`EffectStage::run`]. Not called for records that can't be read.
    ///
    /// # Errors
    /// When going on would do harm: the partition stops by name.
    fn given_up(
        &self,
        _task: &Task<Self::Input>,
        _why: &Failure,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(Ok(()))
    }

    /// What becomes of an attempt that took longer than the stage's time-out (`options.timeout`) and was cut off;
    /// `why` says so. Unless a stage knows better it is retried three times, a second apart.
    fn cut_off(&self, task: &Task<Self::Input>, why: Failure) -> Outcome {
        Schedule::default().outcome(task.attempt, task.record.offset.unsigned_abs(), why)
    }

    /// How to tell the event of an input from others, tenant included, for stages that skip what a producer wrote twice:
    /// the engine remembers the last events of every partition (`runtime.duplicates_window`).
    fn identity(&self) -> Option<fn(&Self::Input) -> u128> {
        None
    }

    /// What kind of thing the input is, as a metric label: few values, no ids.
    fn kind(&self, _input: &Self::Input) -> &'static str {
        "other"
    }

    /// True when `open` gives tasks different priorities: then as many records are opened ahead as memory allows, so
    /// that an urgent one is found among them. Otherwise they are opened when there is a slot for them.
    fn has_priorities(&self) -> bool {
        false
    }

    /// How many tasks of one target this member runs at once, at least 1: a target that hangs can't take more.
    fn target_concurrency(&self, target: &str) -> usize;

    /// When the next task of a target may start, in epoch milliseconds, where that is yet to come: its rate is used up, or
    /// it isn't to be reached. Asked before every start, and perhaps again at the same time; answers from memory.
    fn not_before(&self, _target: &str, _now_ms: i64) -> Option<i64> {
        None
    }

    /// Hook: an attempt at a task of `target` starts now, which [`EffectStage::not_before`] allowed.
    fn starting(&self, _target: &str, _now_ms: i64) {}

    /// Told how many of the source's partitions this member works on, whenever that changes.
    fn owns(&self, _partitions: usize) {}

    /// Called about once a second: brings up to date what [`EffectStage::target_state`] answers from.
    fn refresh(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Whether a target is to be served now. Asked often; answers from memory.
    fn target_state(&self, _target: &str) -> TargetState {
        TargetState::Flowing
    }

    /// Told a few times a second how many source offsets lie between this member's detached targets and the live
    /// stream, over all of them.
    fn cursors_lag(&self, _offsets: u64) {}
}

/// What an attempt has to wait for before anything follows from its outcome. An error stops the partition by name. Polled
/// on the engine's own thread, and dropped with the partition.
pub type Owed = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// How an attempt ended.
pub struct Answered {
    /// The outcome.
    pub outcome: Outcome,
    /// What it waits for, if anything.
    pub owed: Option<Owed>,
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

impl From<Outcome> for Answered {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, owed: None }
    }
}

impl Answered {
    /// The outcome once nothing is owed any more.
    pub async fn settled(self) -> Outcome {
        match self.owed {
            Some(owed) => owed.await.map_or_else(Outcome::Fatal, |()| self.outcome),
            None => self.outcome,
        }
    }
}

/// Whether a target is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetState {
    /// It is.
    Flowing,
    /// Not for now, in these words: what concerns it is kept for it by a cursor.
    Held(Arc<str>),
    /// It can't be reached, in these words, and is tried now and then: what failed already keeps its attempts and its
    /// place in its schedule, one event more is kept ready for the next try, the rest is kept for it by a cursor.
    Away(Arc<str>),
    /// It was deleted: nothing is kept for it.
    Gone,
    /// Nobody knows at present: what is held stays held, and what flows flows.
    Unknown,
}

/// Tasks that records open, one record after the other. The names of their lanes lie in one buffer, so that opening
/// a task allocates nothing.
#[derive(Debug, Default)]
pub struct Tasks {
    lanes: String,
    opened: Vec<Opened>,
    /// Targets of tasks, those of earlier records too: most records concern the same few.
    targets: Vec<Arc<str>>,
}

/// What a lane may be called: text, parts of text, or `format_args!`.
pub trait LaneName {
    /// Writes the name behind what is there.
    fn write_to(&self, names: &mut String);
}

impl LaneName for &str {
    fn write_to(&self, names: &mut String) {
        names.push_str(self);
    }
}

impl LaneName for &String {
    fn write_to(&self, names: &mut String) {
        names.push_str(self);
    }
}

impl LaneName for String {
    fn write_to(&self, names: &mut String) {
        names.push_str(self);
    }
}

impl<const N: usize> LaneName for [&str; N] {
    fn write_to(&self, names: &mut String) {
        self.iter().for_each(|part| names.push_str(part));
    }
}

impl LaneName for fmt::Arguments<'_> {
    fn write_to(&self, names: &mut String) {
        // Writing to a string doesn't fail.
        let _ = names.write_fmt(*self);
    }
}

/// Targets that are kept after the records that opened tasks for them, at most.
const TARGETS: usize = 32;

#[derive(Debug)]
struct Opened {
    /// Where its lane's name ends; it begins where the one before it ends.
    lane_end: usize,
    /// Where its target is among them.
    target: usize,
    priority: u16,
}

/// A task that a record opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskSpec<'t> {
    /// The lane, which always contains the tenant. Tasks of a lane run one at a time, in source order.
    pub(crate) lane: &'t str,
    /// Where the effect goes: the unit of bulkheads.
    pub(crate) target: &'t Arc<str>,
    /// Lower runs first; 100 is ordinary.
    pub(crate) priority: u16,
}

impl Tasks {
    /// Opens a task: its lane's name, which always contains the tenant (tasks of a lane run one at a time, in source
    /// order); its target, where the effect goes and which is the unit of bulkheads; and its priority, of which the
    /// lower runs first and 100 is ordinary.
    pub fn push(&mut self, lane: impl LaneName, target: &Arc<str>, priority: u16) {
        lane.write_to(&mut self.lanes);
        let known = self.targets.iter().take(TARGETS).position(|known| Arc::ptr_eq(known, target));
        let target = known.unwrap_or_else(|| {
            self.targets.push(Arc::clone(target));
            self.targets.len() - 1
        });
        self.opened.push(Opened { lane_end: self.lanes.len(), target, priority });
    }

    /// How many tasks were opened so far.
    pub(crate) fn len(&self) -> usize {
        self.opened.len()
    }

    /// Forgets all but the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.opened.truncate(len);
        self.lanes.truncate(self.opened.last().map_or(0, |last| last.lane_end));
        if len == 0 && self.targets.len() > TARGETS {
            self.targets.clear();
        }
    }

    /// The task that was opened as the `at`-th.
    pub(crate) fn get(&self, at: usize) -> Option<TaskSpec<'_>> {
        let Opened { lane_end, target, priority } = self.opened.get(at)?;
        let start = at.checked_sub(1).and_then(|before| self.opened.get(before)).map_or(0, |b| b.lane_end);
        let target = self.targets.get(*target)?;
        Some(TaskSpec { lane: &self.lanes[start..*lane_end], target, priority: *priority })
    }
}

/// One attempt at a task.
#[derive(Debug)]
pub struct Task<I> {
    /// The source record: for a parked task rebuilt with its original coordinates, key, payload and headers.
    pub record: Shared<Record>,
    /// What `decode` made of it.
    pub input: Shared<I>,
    /// The task's target.
    pub target: Arc<str>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When the first attempt failed, in epoch milliseconds.
    pub first_failed_at_ms: Option<i64>,
}

/// A stage whose effect is rows in our store, committed together with the partition's position.
///
/// Duties: `store` commits the batch's effects, its outgoing messages, its dead letters and the position
/// `next_offset` in one transaction, by compare-and-set on `expected`; a fault of one record is cut out and
/// dead-lettered in that transaction, anything else means "store away".
pub trait StoreStage: Send + Sync + 'static {
    /// The stage's name, as in topic and metric names.
    fn name(&self) -> &str;

    /// The stored position (the next offset to handle), or `None` when this partition was never handled.
    fn position(&self, at: &SourcePartition) -> impl Future<Output = Result<Option<i64>, Failure>> + Send;

    /// Stores one batch of a partition, all or nothing.
    fn store(
        &self,
        at: &SourcePartition,
        batch: StoreBatch,
    ) -> impl Future<Output = Result<Stored, StoreFault>> + Send;
}

/// Records of one partition in offset order, to be stored together.
#[derive(Debug, Clone)]
pub struct StoreBatch {
    /// The records, none of them below the stored position.
    pub records: Vec<Record>,
    /// The stored position that was seen, to be compared with.
    pub expected: Option<i64>,
    /// The position after this batch.
    pub next_offset: i64,
}

/// What became of a stored batch's records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Records with effects.
    pub done: u64,
    /// Records without, by reason.
    pub skipped: Vec<(SkipReason, u64)>,
    /// Dead letters written in the same transaction, by class.
    pub dead: Vec<(ErrorClass, u64)>,
}

/// Why a batch wasn't stored. In every case nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreFault {
    /// Somebody else moved the position: it is read again, and what lies below it is dropped.
    PositionMoved,
    /// The store (or what the batch needs) is away: the partition waits with backoff.
    Unavailable(Failure),
    /// Worth a try at once: a serialization conflict or deadlock.
    Retry(Failure),
    /// Going on would do harm: the partition stops by name.
    Fatal(Failure),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_keep_their_names_apart_and_forget_from_the_end() {
        let (mut tasks, target) = (Tasks::default(), Arc::from("t"));
        for lane in ["shop|1", "", "shop|2"] {
            tasks.push(lane, &target, 100);
        }
        let names = |tasks: &Tasks| -> Vec<String> {
            (0..tasks.len()).filter_map(|at| Some(tasks.get(at)?.lane.to_owned())).collect()
        };
        assert_eq!(names(&tasks), ["shop|1", "", "shop|2"]);
        tasks.truncate(2);
        tasks.push(format_args!("shop|{}", 3), &target, 100);
        assert_eq!(names(&tasks), ["shop|1", "", "shop|3"]);
        tasks.truncate(0);
        assert_eq!(tasks.get(0), None);
        for number in 0..TARGETS * 2 {
            let target = Arc::from(number.to_string());
            tasks.push("lane", &target, 100);
            assert_eq!(tasks.get(number).map(|task| task.target), Some(&target));
        }
        tasks.truncate(0);
        assert_eq!(tasks.targets.len(), 0, "bounded");
    }
}
