//! One attempt at a task, as a job of its own: load what is missing, run the stage, never take anybody down.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::readback::Readback;
use crate::clock::Clock;
use crate::runtime::outcome::{ErrorClass, Failure, Intake, Outcome};
use crate::runtime::record::Record;
use crate::runtime::retry::Mark;
use crate::runtime::stage::{EffectStage, Task};

/// Tries of what [`Intake::Retry`] asks for, all counted.
const INTAKE_TRIES: u32 = 4;
/// Pause between them.
const INTAKE_PAUSE: Duration = Duration::from_millis(250);
/// Attempts that may panic before the task is dead.
const PANICS: u32 = 3;
/// Pause after a panic.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// What is in memory of a task.
#[derive(Debug)]
pub(super) struct Payload<I> {
    pub(super) record: Option<Arc<Record>>,
    pub(super) input: Option<Arc<I>>,
}

impl<I> Clone for Payload<I> {
    fn clone(&self) -> Self {
        Self { record: self.record.clone(), input: self.input.clone() }
    }
}

/// Everything an attempt needs.
pub(super) struct Job<I> {
    pub(super) payload: Payload<I>,
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

/// Runs one attempt; gives back what was loaded for it.
pub(super) async fn attempt<S: EffectStage>(
    stage: &S,
    readback: &Readback,
    clock: &Clock,
    job: Job<S::Input>,
) -> (Payload<S::Input>, Ending) {
    let Job { mut payload, target, attempt, first_failed_at_ms, parked_at } = job;
    let record = match load(&payload, readback, parked_at).await {
        Ok(record) => record,
        Err(why) => return (payload, Ending::NeverBegan(why)),
    };
    payload.record = Some(Arc::clone(&record));
    let input = match payload.input.clone() {
        Some(input) => input,
        None => match settle(clock, || stage.decode(&record)).await {
            Intake::Ready(input) => Arc::new(input),
            Intake::Skipped(reason) => return (payload, Ending::Ran(Outcome::Skipped(reason))),
            Intake::Dead(why) | Intake::Retry(why) => return (payload, Ending::Ran(Outcome::Dead(why))),
            Intake::Unavailable(why) => return (payload, Ending::NeverBegan(why)),
        },
    };
    payload.input = Some(Arc::clone(&input));
    let task = Task { record: record.into(), input: input.into(), target, attempt, first_failed_at_ms };
    let outcome = AssertUnwindSafe(stage.run(&task)).catch_unwind().await;
    (payload, Ending::Ran(outcome.unwrap_or_else(|_| panicked(attempt))))
}

async fn load<I>(
    payload: &Payload<I>,
    readback: &Readback,
    parked_at: Option<(i32, i64)>,
) -> Result<Arc<Record>, Failure> {
    if let Some(record) = &payload.record {
        return Ok(Arc::clone(record));
    }
    let Some((partition, offset)) = parked_at else {
        return Err(Failure::new(ErrorClass::Internal, "a task is neither in memory nor parked"));
    };
    let marked = readback.fetch(partition, offset).await?;
    let mark =
        Mark::read(&marked.headers).map_err(|error| Failure::new(ErrorClass::Internal, error.to_string()))?;
    Ok(Arc::new(mark.original(&marked)))
}

/// Asks until the answer is not `Retry`, a few times; the last `Retry` stands. A panic is a dead record.
pub(super) async fn settle<T, F>(clock: &Clock, mut ask: impl FnMut() -> F) -> Intake<T>
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

fn panic_failure() -> Failure {
    Failure::new(ErrorClass::Internal, "the handler panicked")
}
