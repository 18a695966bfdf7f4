//! One attempt at a task: load what is missing, run the stage, never take anybody down.

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::readback::Readback;
use super::report::{Attempted, Owing, Recorded, What};
use crate::clock::Clock;
use crate::runtime::outcome::{ErrorClass, Failure, Intake, Outcome};
use crate::runtime::record::Record;
use crate::runtime::retry::Mark;
use crate::runtime::shared::Shared;
use crate::runtime::stage::{Answered, EffectStage, Task};

/// Tries of what [`Intake::Retry`] asks for, all counted.
const INTAKE_TRIES: u32 = 4;
/// Pause between them.
const INTAKE_PAUSE: Duration = Duration::from_millis(250);
/// Attempts that may panic before the task is dead.
const PANICS: u32 = 3;
/// Pause after a panic.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// What is in memory of a task that waits.
#[derive(Debug)]
pub(super) enum Payload<I> {
    /// All of it, as its record opened it: it was never attempted, and is taken out when it is.
    Fresh(Box<Task<I>>),
    /// As much as there is.
    Parts(Parts<I>),
}

/// What several may hold of a task that waits.
#[derive(Debug)]
pub(super) struct Parts<I> {
    pub(super) record: Option<Arc<Record>>,
    pub(super) input: Option<Arc<I>>,
    /// The name of its lane, where the lanes don't keep it: of one that is parked.
    pub(super) lane: Option<Arc<str>>,
}

impl<I> Payload<I> {
    /// The record.
    pub(super) fn record(&self) -> Option<&Record> {
        match self {
            Self::Fresh(task) => Some(&task.record),
            Self::Parts(parts) => parts.record.as_deref(),
        }
    }

    /// Its parts, to be held by others as well.
    pub(super) fn parts(&mut self) -> Parts<I> {
        let parts = match std::mem::replace(self, Self::Parts(Parts::default())) {
            Self::Fresh(task) => {
                let Task { record, input, .. } = *task;
                Parts { record: Some(record.into_arc()), input: Some(input.into_arc()), lane: None }
            }
            Self::Parts(parts) => parts,
        };
        *self = Self::Parts(parts.clone());
        parts
    }
}

impl<I> Default for Parts<I> {
    fn default() -> Self {
        Self { record: None, input: None, lane: None }
    }
}

impl<I> Clone for Parts<I> {
    fn clone(&self) -> Self {
        Self { record: self.record.clone(), input: self.input.clone(), lane: self.lane.clone() }
    }
}

/// What is in memory of a task that is attempted.
#[derive(Debug)]
pub(super) struct Loaded<I> {
    pub(super) record: Option<Shared<Record>>,
    pub(super) input: Option<Shared<I>>,
    /// The name of its lane, when it was read with the record.
    pub(super) lane: Option<Arc<str>>,
}

impl<I> From<Parts<I>> for Loaded<I> {
    fn from(Parts { record, input, lane }: Parts<I>) -> Self {
        Self { record: record.map(Shared::from), input: input.map(Shared::from), lane }
    }
}

impl<I> From<Loaded<I>> for Parts<I> {
    fn from(Loaded { record, input, lane }: Loaded<I>) -> Self {
        Self { record: record.map(Shared::into_arc), input: input.map(Shared::into_arc), lane }
    }
}

/// What every attempt works with.
pub(super) struct Hands<S> {
    pub(super) stage: Arc<S>,
    pub(super) readback: Readback,
    pub(super) clock: Clock,
    /// How long an attempt may take.
    pub(super) timeout: Option<Duration>,
}

/// [`Hands`] for work that stays on the engine's thread: counted without atomics, as there is an attempt for every record.
pub(super) struct OnThread<S>(Rc<SharedHands<S>>);

struct SharedHands<S>(Arc<Hands<S>>);

impl<S> OnThread<S> {
    pub(super) fn new(hands: Arc<Hands<S>>) -> Self {
        Self(Rc::new(SharedHands(hands)))
    }
}

impl<S> Clone for OnThread<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S> Deref for OnThread<S> {
    type Target = Hands<S>;

    fn deref(&self) -> &Hands<S> {
        &self.0.0
    }
}

/// Everything that an attempt needs.
pub(super) struct Job<I> {
    pub(super) loaded: Loaded<I>,
    pub(super) target: Arc<str>,
    pub(super) attempt: u32,
    pub(super) first_failed_at_ms: Option<i64>,
    /// Where to read the record when it isn't in memory.
    pub(super) parked_at: Option<(i32, i64)>,
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The stage said so (or panicked).
    Ran(Outcome),
    /// Something that is needed first is away; doesn't count as an attempt.
    NeverBegan(Failure),
}

/// Runs an attempt whose record is in memory.
pub(super) async fn attempt<S: EffectStage, H: Deref<Target = Hands<S>>>(
    hands: H,
    task: Box<Task<S::Input>>,
) -> What<S::Input> {
    let answered = AssertUnwindSafe(run(&hands.stage, &task)).catch_unwind().await;
    let answered = answered.unwrap_or_else(|_| panicked(task.attempt).into());
    ended(&*hands.stage, task, answered)
}

/// The same, for a stage whose attempts may take so long and no longer.
pub(super) async fn attempt_within<S: EffectStage, H: Deref<Target = Hands<S>>>(
    hands: H,
    task: Box<Task<S::Input>>,
    limit: Duration,
) -> What<S::Input> {
    let run = AssertUnwindSafe(run(&hands.stage, &task)).catch_unwind();
    let answered = match tokio::time::timeout(limit, run).await {
        Ok(answered) => answered.unwrap_or_else(|_| panicked(task.attempt).into()),
        Err(_elapsed) => {
            let why = format!("the handler took longer than {limit:?} and was cut off");
            let cut_off = || hands.stage.cut_off(&task, Failure::new(ErrorClass::Timeout, why));
            catch_unwind(AssertUnwindSafe(cut_off)).unwrap_or_else(|_| panicked(task.attempt)).into()
        }
    };
    ended(&*hands.stage, task, answered)
}

async fn run<S: EffectStage>(stage: &Arc<S>, task: &Task<S::Input>) -> Answered {
    stage.before(task);
    stage.answer(task).await
}

fn ended<S: EffectStage>(stage: &S, task: Box<Task<S::Input>>, answered: Answered) -> What<S::Input> {
    let Answered { outcome, owed } = answered;
    if catch_unwind(AssertUnwindSafe(|| stage.after(&task, &outcome))).is_err() {
        tracing::error!(stage = stage.name(), "the hook after an attempt panicked; its outcome stands");
    }
    if let Some(owed) = owed {
        return What::Answered(Box::new(Owing { attempt: Recorded { task, lane: None, outcome }, owed }));
    }
    if matches!(outcome, Outcome::Done) {
        let (kind, written_ms) = (stage.kind(&task.input), task.record.timestamp_ms);
        return What::Done { kind, written_ms, spent: task };
    }
    let Task { record, input, .. } = *task;
    attempted(Some(record), Some(input), Ending::Ran(outcome))
}

fn attempted<I>(record: Option<Shared<Record>>, input: Option<Shared<I>>, ending: Ending) -> What<I> {
    What::Attempted(Box::new(Attempted { loaded: Loaded { record, input, lane: None }, ending }))
}

/// Loads what is missing, and runs an attempt. Gives back what was loaded.
pub(super) async fn load_and_attempt<S: EffectStage>(
    hands: Arc<Hands<S>>,
    job: Job<S::Input>,
) -> What<S::Input> {
    let mut read = None;
    let mut what = load_and_run(hands, job, &mut read).await;
    match &mut what {
        What::Attempted(attempted) => attempted.loaded.lane = read,
        What::Answered(owing) => owing.attempt.lane = read,
        What::Done { .. }
        | What::Recorded(_)
        | What::Opened(_)
        | What::Cursors(_)
        | What::Reread(_)
        | What::PutAside { .. }
        | What::NotGivenUp { .. }
        | What::Unfolded { .. } => {}
    }
    what
}

/// Notes in `lane` the name of the lane, when the record had to be read.
async fn load_and_run<S: EffectStage>(
    hands: Arc<Hands<S>>,
    job: Job<S::Input>,
    lane: &mut Option<Arc<str>>,
) -> What<S::Input> {
    let Job { loaded, target, attempt: number, first_failed_at_ms, parked_at } = job;
    let Loaded { record, input, .. } = loaded;
    let record = match record {
        Some(record) => record,
        None => match load(&hands.readback, parked_at).await {
            Ok((record, read)) => {
                *lane = read;
                record
            }
            Err(why) => return attempted(None, input, Ending::NeverBegan(why)),
        },
    };
    let input = match input {
        Some(input) => input,
        None => match settle(&hands.clock, || hands.stage.decode(&record)).await {
            Intake::Ready(input) => input.into(),
            Intake::Skipped(reason) => {
                return attempted(Some(record), None, Ending::Ran(Outcome::Skipped(reason)));
            }
            Intake::Dead(why) | Intake::Retry(why) => {
                return attempted(Some(record), None, Ending::Ran(Outcome::Dead(why)));
            }
            Intake::Unavailable(why) => return attempted(Some(record), None, Ending::NeverBegan(why)),
        },
    };
    let (limit, task) =
        (hands.timeout, Box::new(Task { record, input, target, attempt: number, first_failed_at_ms }));
    match limit {
        None => attempt(hands, task).await,
        Some(limit) => attempt_within(hands, task, limit).await,
    }
}

/// A parked record, and the name of its lane.
async fn load(
    readback: &Readback,
    parked_at: Option<(i32, i64)>,
) -> Result<(Shared<Record>, Option<Arc<str>>), Failure> {
    let Some((partition, offset)) = parked_at else {
        return Err(Failure::new(ErrorClass::Internal, "a task is neither in memory nor parked"));
    };
    let marked = readback.fetch(partition, offset).await?;
    let mark =
        Mark::read(&marked.headers).map_err(|error| Failure::new(ErrorClass::Internal, error.to_string()))?;
    Ok((mark.original(&marked).into(), mark.task.map(|of| of.lane)))
}

/// Asks until the answer is not `Retry`, a few times; the last `Retry` stands. A panic is a dead record.
async fn settle<T, F>(clock: &Clock, mut ask: impl FnMut() -> F) -> Intake<T>
where
    F: Future<Output = Intake<T>>,
{
    let mut tries = Tries::default();
    loop {
        let answer = AssertUnwindSafe(ask()).catch_unwind().await;
        if let Some(settled) = tries.settled(clock, answer).await {
            return settled;
        }
    }
}

/// How often something was asked that may answer `Retry`.
#[derive(Debug, Default)]
pub(super) struct Tries(u32);

impl Tries {
    /// The answer, if it is settled; else waits until it is time to ask again.
    pub(super) async fn settled<T>(
        &mut self,
        clock: &Clock,
        answer: std::thread::Result<Intake<T>>,
    ) -> Option<Intake<T>> {
        self.0 += 1;
        match answer.unwrap_or_else(|_| Intake::Dead(panic_failure())) {
            Intake::Retry(_) if self.0 < INTAKE_TRIES => {
                clock.sleep(INTAKE_PAUSE).await;
                None
            }
            settled @ (Intake::Ready(_)
            | Intake::Skipped(_)
            | Intake::Dead(_)
            | Intake::Retry(_)
            | Intake::Unavailable(_)) => Some(settled),
        }
    }
}

fn panicked(attempt: u32) -> Outcome {
    if attempt < PANICS {
        Outcome::Retry { after: AFTER_PANIC, why: panic_failure() }
    } else {
        Outcome::Dead(panic_failure())
    }
}

pub(super) fn panic_failure() -> Failure {
    Failure::new(ErrorClass::Internal, "the handler panicked")
}
