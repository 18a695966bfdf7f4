//! Runs an effect stage: records open tasks, tasks run in their lanes, what fails is retried in order.
//!
//! ```text
//! poll thread ─► queue per partition ─► intake (decode, open) ─► lanes ─► attempt ─► settle ─► offsets ─► commit
//!                                                                  ▲                   │
//!                                                                  └── retry topic ◄───┴─► dead-letter topic
//! ```
//!
//! One task owns all state and polls all work itself, on a thread of its own: an attempt that ends at once costs no
//! task, no channel and no wake-up. What waits is polled when it is woken. A handler that needs other threads spawns.

mod admit;
mod apart;
mod appends;
mod at_once;
mod attempt;
mod backfill;
mod backlog;
mod carry_forward;
mod catch_up;
mod cursors;
mod dying;
mod engine;
mod guard;
mod heed;
mod intake;
mod load;
mod log_reader;
mod lone;
mod look_after;
#[cfg(test)]
mod model;
mod own_cursors;
mod ownership;
mod parked;
mod partition;
mod partitions;
mod past;
mod places;
mod prune;
mod publish;
mod put_aside;
mod readback;
mod record;
mod redriven;
mod report;
mod running;
mod settle;
mod sparing;
mod survey;
mod tally;
mod unfolding;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::appends::Appends;
use self::attempt::{Hands, OnThread};
use self::engine::{Engine, Stretch};
use self::guard::Guard;
use self::parked::Parked;
use self::partitions::Partitions;
use self::places::{Places, Typed};
use self::prune::Pruner;
use self::publish::Counted;
use self::readback::Readback;
use self::running::Running;
use self::sparing::Sparing;
use self::tally::Tally;
use super::Environment;
use super::consumer::{self, Event};
use super::control::Supervision;
use super::error::{Ended, RunError};
use super::lanes::Lanes;
use super::leave::{leave, orphaned};
use super::options::StageSpec;
use super::progress::{Balance, Progress};
use super::series;
use super::stage::{EffectStage, Tasks};

/// How often positions are handed to the poll thread and progress is published.
const TICK: Duration = Duration::from_millis(200);
/// Events taken before anything else is looked at.
const AT_ONCE: usize = 16;

/// Runs `stage` as a member of its group until `stop`, then drains, commits and leaves.
///
/// # Errors
/// When the stage can't start (see [`RunError`]), or the engine breaks.
pub async fn run_effect_stage<S: EffectStage>(
    spec: StageSpec,
    stage: Arc<S>,
    env: Environment,
    stop: CancellationToken,
    progress: watch::Sender<Progress>,
) -> Result<Ended, RunError> {
    let Some(retry) = spec.retry.clone() else {
        let what = "an effect stage needs a retry topic".to_owned();
        return Err(RunError::Spec { stage: spec.stage, what });
    };
    series::initialise(&env.metrics, &spec);
    let joined = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(Ended { drained: true }),
        joined = consumer::join(&spec, &env.kafka, &env.metrics, &env.clock) => joined?,
    };
    run_member(spec, retry.into(), stage, env, stop, progress, joined).await
}

/// The same once the member has joined.
async fn run_member<S: EffectStage>(
    spec: StageSpec,
    retry_topic: Arc<str>,
    stage: Arc<S>,
    env: Environment,
    stop: CancellationToken,
    progress: watch::Sender<Progress>,
    joined: consumer::Member,
) -> Result<Ended, RunError> {
    let consumer::Member { mut events, desk, cluster_id, mut left } = joined;
    let hands = Arc::new(Hands {
        stage,
        readback: Readback::new(&env.kafka, Arc::clone(&retry_topic)),
        clock: env.clock.clone(),
        timeout: spec.options.timeout,
    });
    let here = OnThread::new(Arc::clone(&hands));
    let attempts: Box<dyn Places<_, _>> = match hands.timeout {
        None => Box::new(Typed::new(move |task| attempt::attempt(here.clone(), task))),
        Some(limit) => Box::new(Typed::new(move |task| attempt::attempt_within(here.clone(), task, limit))),
    };
    let guard = Guard::new(&spec.options);
    let mut engine = Engine {
        tally: Tally::new(Arc::clone(&env.metrics), spec.stage.as_str().into()),
        name: spec.stage.as_str().into(),
        dead_letters: spec.dead_letters.as_str().into(),
        incarnation: env.clock.now_ms().unsigned_abs(),
        hands,
        pruner: Pruner::new(&env.kafka, Arc::clone(&retry_topic)),
        retry_topic,
        cluster_id,
        supervision: Supervision::new(&spec.stage, spec.control.clone(), spec.options.breaker),
        spec,
        env,
        desk: Arc::clone(&desk),
        running: Running::new(attempts),
        done: Vec::new(),
        stretch: Stretch::new(),
        seen: (Instant::now(), 0),
        waits: 0,
        opening: Tasks::default(),
        spares: Vec::new(),
        lanes: Lanes::default(),
        payloads: HashMap::new(),
        appends: Arc::new(Appends::default()),
        guard,
        probing: HashSet::new(),
        looking: Sparing::new(catch_up::LOOKING_SHARE, catch_up::LOOKED_WITHIN),
        tending: Sparing::new(catch_up::LOOKING_SHARE, catch_up::LOOKED_WITHIN),
        parked: Parked::default(),
        partitions: Partitions::default(),
        faulted: BTreeMap::new(),
        draining: Vec::new(),
        balance: Balance::default(),
        buried: 0,
        counted: Counted::default(),
        progress,
    };
    let mut tick = tokio::time::interval(TICK);
    let mut stopping = std::pin::pin!(stop.cancelled());
    let mut more = false;
    loop {
        let claims = engine.claims();
        let due = engine.next_due().unwrap_or(TICK).min(TICK);
        tokio::select! {
            biased;
            () = &mut stopping => break,
            ended = &mut left => return Err(orphaned(&engine.spec.stage, ended)),
            _ = tick.tick() => {
                engine.heed();
                engine.tend_cursors();
                engine.watch();
                engine.commit();
                engine.publish(true);
            }
            () = engine.running.woken() => {}
            () = desk.next_commit(), if claims => engine.mark_claimed(),
            Some(event) = events.recv() => engine.on_event(event),
            () = std::future::ready(()), if more => {}
            () = tokio::time::sleep(due) => {}
        }
        // Whatever it was that was ready: a drain's time runs from when it was asked for.
        for event in std::iter::from_fn(|| events.try_recv().ok()).take(AT_ONCE) {
            engine.on_event(event);
        }
        more = false;
        while engine.turn() && !more {
            more = engine.pump();
        }
        more |= engine.pump();
        engine.finish_drains();
        // Timers and sockets of this thread are looked at only when nothing here is ready.
        tokio::task::yield_now().await;
    }
    let deadline = tokio::time::Instant::now() + engine.spec.options.shutdown_drain;
    engine.close_all();
    while engine.is_busy() {
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => break,
            Some(event) = events.recv() => match event {
                Event::Revoked { .. } => engine.on_event(event),
                // Nothing new is taken up.
                Event::Assigned(_) | Event::Records { .. } | Event::Faulted { .. } => {}
            },
            () = engine.running.woken() => {}
            () = tokio::time::sleep(TICK) => {}
        }
        while engine.turn() {}
        engine.finish_drains();
        tokio::task::yield_now().await;
    }
    let drained = !engine.is_busy();
    engine.commit();
    let numbers: Vec<i32> = engine.partitions.keys().copied().collect();
    numbers.into_iter().for_each(|number| engine.let_go(number));
    engine.publish(false);
    let committed = leave(&desk, events, left).await;
    Ok(Ended { drained: drained && committed })
}

#[cfg(test)]
mod tests;
