//! Reads records of one partition in source order and asks which tasks they open, a few at a time.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;

use super::attempt::{Tries, settle};
use crate::clock::Clock;
use crate::runtime::outcome::{Failure, Intake, SkipReason};
use crate::runtime::record::Record;
use crate::runtime::redrive;
use crate::runtime::stage::{EffectStage, Tasks};

/// Records per round.
pub(super) const ROUND: usize = 64;

/// What a record came to.
#[derive(Debug)]
pub(super) struct Opened<I> {
    pub(super) record: Arc<Record>,
    pub(super) what: What<I>,
}

/// See [`Opened`].
#[derive(Debug)]
pub(super) enum What<I> {
    /// Its tasks are those of the round in this range.
    Tasks(Arc<I>, Range<usize>),
    Skipped(SkipReason),
    Dead(Failure),
}

/// What a round gave: the records opened, in order; those not reached because something is away.
#[derive(Debug)]
pub(super) struct Round<I> {
    pub(super) opened: Vec<Opened<I>>,
    /// The tasks that they opened.
    pub(super) tasks: Tasks,
    pub(super) rest: Vec<Record>,
    pub(super) away: Option<Failure>,
}

/// Opens `records` in order until something that they need is away.
pub(super) async fn open_round<S: EffectStage>(
    stage: &S,
    clock: &Clock,
    records: Vec<Record>,
) -> Round<S::Input> {
    let mut opened = Vec::with_capacity(records.len());
    let mut tasks = Tasks::default();
    let mut records = records.into_iter();
    while let Some(record) = records.next() {
        match open(stage, clock, &record, &mut tasks).await {
            Ok(what) => opened.push(Opened { record: Arc::new(record), what }),
            Err(why) => {
                let rest = std::iter::once(record).chain(records).collect();
                return Round { opened, tasks, rest, away: Some(why) };
            }
        }
    }
    Round { opened, tasks, rest: Vec::new(), away: None }
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
    let input = match settle(clock, || stage.decode(record)).await {
        Intake::Ready(input) => input,
        Intake::Skipped(reason) => return Ok(What::Skipped(reason)),
        Intake::Dead(why) | Intake::Retry(why) => return Ok(What::Dead(why)),
        Intake::Unavailable(why) => return Err(why),
    };
    let (before, mut tries) = (tasks.len(), Tries::default());
    let settled = loop {
        tasks.truncate(before);
        let answer = AssertUnwindSafe(stage.open(record, &input, tasks)).catch_unwind().await;
        if let Some(settled) = tries.settled(clock, answer).await {
            break settled;
        }
    };
    match settled {
        Intake::Ready(()) if tasks.len() == before => Ok(What::Skipped(SkipReason::Filtered)),
        Intake::Ready(()) => return Ok(What::Tasks(Arc::new(input), before..tasks.len())),
        Intake::Skipped(reason) => Ok(What::Skipped(reason)),
        Intake::Dead(why) | Intake::Retry(why) => Ok(What::Dead(why)),
        Intake::Unavailable(why) => Err(why),
    }
    // Whatever it pushed before it thought better of it.
    .inspect(|_| tasks.truncate(before))
}
