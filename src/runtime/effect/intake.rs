//! Reads records of one partition in source order and asks which tasks they open, a few at a time.

use std::ops::Range;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::attempt::Tries;
use super::backlog::Chunk;
use crate::clock::Clock;
use crate::runtime::duplicates::Seen;
use crate::runtime::outcome::{Failure, Intake, SkipReason};
use crate::runtime::record::Record;
use crate::runtime::redrive;
use crate::runtime::retry::REDRIVE_ID;
use crate::runtime::stage::{EffectStage, Tasks};

/// Records per round.
pub(super) const ROUND: usize = 256;

/// What a record came to.
#[derive(Debug)]
pub(super) struct Opened<I> {
    pub(super) record: Record,
    pub(super) what: What<I>,
}

/// See [`Opened`].
#[derive(Debug)]
pub(super) enum What<I> {
    /// Its tasks are those of the round in this range; its event, where the stage can tell.
    Tasks(I, Range<usize>, Option<Seen>),
    /// It is complete and was read for its event alone.
    Known(Option<Seen>),
    Skipped(SkipReason),
    Dead(Failure),
}

/// What a round gave: the records opened, in order; those not reached because something is away.
#[derive(Debug)]
pub(super) struct Round<I> {
    pub(super) opened: Vec<Opened<I>>,
    /// The tasks that they opened.
    pub(super) tasks: Tasks,
    pub(super) rest: Chunk,
    pub(super) away: Option<Failure>,
}

/// Opens the first `most` of `records` in order, until something that they need is away. Those at the offsets `known`
/// (ascending) are complete and only recognised.
pub(super) async fn open_round<S: EffectStage>(
    stage: &S,
    clock: &Clock,
    (mut records, most): (Chunk, usize),
    known: Vec<i64>,
) -> Round<S::Input> {
    let mut opened = Vec::with_capacity(most);
    let mut tasks = Tasks::default();
    let mut away = None;
    while opened.len() < most
        && let Some(record) = records.next()
    {
        let what = if known.binary_search(&record.offset).is_ok() {
            recognise(stage, clock, &record, &mut tasks).await
        } else {
            open(stage, clock, &record, &mut tasks).await
        };
        match what {
            Ok(what) => opened.push(Opened { record, what }),
            Err(why) => {
                records.put_back(record);
                away = Some(why);
                break;
            }
        }
    }
    Round { opened, tasks, rest: records, away }
}

/// What a record comes to, if that can be told without waiting and without doubt: `None` asks for [`open`]. What was
/// begun is dropped then, as a stage allows at any await.
pub(super) fn open_now<S: EffectStage>(
    stage: &S,
    record: &Record,
    tasks: &mut Tasks,
) -> Option<What<S::Input>> {
    if redrive::is_for_another(record, stage.name()) {
        return Some(What::Skipped(SkipReason::Filtered));
    }
    let before = tasks.len();
    let told = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let input = match stage.decode(record).now_or_never()? {
            Intake::Ready(input) => input,
            Intake::Skipped(reason) => return Some(What::Skipped(reason)),
            Intake::Dead(_) | Intake::Retry(_) | Intake::Unavailable(_) => return None,
        };
        match stage.open(record, &input, tasks).now_or_never()? {
            Intake::Ready(()) if tasks.len() > before => {
                let seen = seen(stage, record, &input);
                Some(What::Tasks(input, before..tasks.len(), seen))
            }
            Intake::Ready(()) => Some(What::Skipped(SkipReason::Filtered)),
            Intake::Skipped(reason) => Some(What::Skipped(reason)),
            Intake::Dead(_) | Intake::Retry(_) | Intake::Unavailable(_) => None,
        }
    }));
    let told = told.ok().flatten();
    if !matches!(told, Some(What::Tasks(..))) {
        tasks.truncate(before);
    }
    told
}

/// The event of a record, where the stage can tell; what an operator put back may repeat one.
fn seen<S: EffectStage>(stage: &S, record: &Record, input: &S::Input) -> Option<Seen> {
    let identity = stage.identity().filter(|_| record.headers.last(REDRIVE_ID).is_none())?;
    let id = identity(input);
    Some(Seen::new(id, record.payload.as_deref().unwrap_or_default()))
}

/// The event of a complete record, if there are tasks of it: only such events are remembered, and a second copy of one that
/// concerned nobody may concern somebody.
async fn recognise<S: EffectStage>(
    stage: &S,
    clock: &Clock,
    record: &Record,
    tasks: &mut Tasks,
) -> Result<What<S::Input>, Failure> {
    let seen = match open(stage, clock, record, tasks).await? {
        What::Tasks(_, opened, seen) => {
            tasks.truncate(opened.start);
            seen
        }
        What::Known(_) | What::Skipped(_) | What::Dead(_) => None,
    };
    Ok(What::Known(seen))
}

/// What one record comes to, or what it needs that is away.
pub(super) async fn open<S: EffectStage>(
    stage: &S,
    clock: &Clock,
    record: &Record,
    tasks: &mut Tasks,
) -> Result<What<S::Input>, Failure> {
    if redrive::is_for_another(record, stage.name()) {
        return Ok(What::Skipped(SkipReason::Filtered));
    }
    let mut tries = Tries::default();
    let settled = loop {
        match AssertUnwindSafe(stage.decode(record)).catch_unwind().await {
            Ok(Intake::Ready(input)) => break Intake::Ready(input),
            answer => {
                if let Some(settled) = tries.settled(clock, answer).await {
                    break settled;
                }
            }
        }
    };
    let input = match settled {
        Intake::Ready(input) => input,
        Intake::Skipped(reason) => return Ok(What::Skipped(reason)),
        Intake::Dead(why) | Intake::Retry(why) => return Ok(What::Dead(why)),
        Intake::Unavailable(why) => return Err(why),
    };
    let (before, mut tries) = (tasks.len(), Tries::default());
    let settled = loop {
        tasks.truncate(before);
        match AssertUnwindSafe(stage.open(record, &input, tasks)).catch_unwind().await {
            Ok(Intake::Ready(())) if tasks.len() > before => {
                let seen = seen(stage, record, &input);
                return Ok(What::Tasks(input, before..tasks.len(), seen));
            }
            answer => {
                if let Some(settled) = tries.settled(clock, answer).await {
                    break settled;
                }
            }
        }
    };
    // Whatever it pushed before it thought better of it.
    tasks.truncate(before);
    match settled {
        Intake::Ready(()) => Ok(What::Skipped(SkipReason::Filtered)),
        Intake::Skipped(reason) => Ok(What::Skipped(reason)),
        Intake::Dead(why) | Intake::Retry(why) => Ok(What::Dead(why)),
        Intake::Unavailable(why) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::outcome::Outcome;
    use crate::runtime::stage::Task;

    /// Somebody is concerned by the record at offset 2 and later.
    struct Late;

    impl EffectStage for Late {
        type Input = ();

        fn name(&self) -> &str {
            "late"
        }

        async fn decode(&self, _record: &Record) -> Intake<()> {
            Intake::Ready(())
        }

        async fn open(&self, record: &Record, _input: &(), tasks: &mut Tasks) -> Intake<()> {
            if record.offset >= 2 {
                tasks.push("lane", &"all".into(), 100);
            }
            Intake::Ready(())
        }

        async fn run(&self, _task: &Task<()>) -> Outcome {
            Outcome::Done
        }

        fn identity(&self) -> Option<fn(&()) -> u128> {
            Some(|()| 7)
        }

        fn target_concurrency(&self, _target: &str) -> usize {
            1
        }
    }

    #[tokio::test]
    async fn of_what_is_complete_only_events_that_concern_somebody_are_recognised() {
        let mut tasks = Tasks::default();
        for (offset, is_known) in [(1, false), (2, true)] {
            let record = Record { offset, ..Record::blank() };
            let what = recognise(&Late, &Clock::system(), &record, &mut tasks).await;
            let Ok(What::Known(seen)) = what else { panic!("{what:?}") };
            assert_eq!((seen.is_some(), tasks.len()), (is_known, 0), "at {offset}");
        }
    }
}
