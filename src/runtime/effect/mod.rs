//! Runs an effect stage: records open tasks, tasks run in their lanes, what fails is retried in order.
//!
//! ```text
//! poll thread ─► queue per partition ─► intake (decode, open) ─► lanes ─► attempt ─► settle ─► offsets ─► commit
//!                                                                  ▲                   │
//!                                                                  └── retry topic ◄───┴─► dead-letter topic
//! ```
//!
//! One task owns all state and never waits for work; jobs report back to it through a bounded channel.

mod attempt;
mod carry_forward;
mod engine;
mod heed;
mod intake;
mod ownership;
mod parked;
mod partition;
mod prune;
mod publish;
mod put_aside;
mod readback;
mod redriven;
mod report;
mod settle;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::engine::Engine;
use self::prune::Pruner;
use self::readback::Readback;
use super::Environment;
use super::consumer::{self, Event};
use super::control::Supervision;
use super::error::{Ended, RunError};
use super::lanes::Lanes;
use super::leave::{leave, orphaned};
use super::options::StageSpec;
use super::progress::{Balance, Progress};
use super::series;
use super::stage::EffectStage;

/// How often positions are handed to the poll thread and progress is published.
const TICK: Duration = Duration::from_millis(200);
/// Reports that may wait for the engine.
const REPORTS: usize = 1_024;
/// Reports taken before anything else is looked at.
const AT_ONCE: usize = 256;

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
    let consumer::Member { mut events, desk, cluster_id: _, mut left } = joined;
    let (reports_in, mut reports) = mpsc::channel(REPORTS);
    let retry_topic: Arc<str> = retry.into();
    let mut engine = Engine {
        name: spec.stage.as_str().into(),
        dead_letters: spec.dead_letters.as_str().into(),
        incarnation: env.clock.now_ms().unsigned_abs(),
        pruner: Pruner::new(&env.kafka, Arc::clone(&retry_topic)),
        readback: Arc::new(Readback::new(&env.kafka, Arc::clone(&retry_topic))),
        retry_topic,
        supervision: Supervision::new(&spec.stage, spec.control.clone(), spec.options.breaker),
        spec,
        stage,
        env,
        desk: Arc::clone(&desk),
        reports: reports_in,
        lanes: Lanes::default(),
        payloads: HashMap::new(),
        parked_bytes: 0,
        partitions: BTreeMap::new(),
        faulted: BTreeMap::new(),
        draining: Vec::new(),
        balance: Balance::default(),
        jobs: 0,
        progress,
    };
    let mut tick = tokio::time::interval(TICK);
    loop {
        let due = engine.next_due().unwrap_or(TICK).min(TICK);
        tokio::select! {
            () = stop.cancelled() => break,
            ended = &mut left => return Err(orphaned(&engine.spec.stage, ended)),
            Some(event) = events.recv() => engine.on_event(event),
            Some(report) = reports.recv() => {
                engine.on_report(report);
                for report in std::iter::from_fn(|| reports.try_recv().ok()).take(AT_ONCE) {
                    engine.on_report(report);
                }
            }
            () = tokio::time::sleep(due) => {}
            _ = tick.tick() => {
                engine.heed();
                engine.commit();
                engine.publish(true);
            }
        }
        engine.pump();
        engine.finish_drains();
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
            Some(report) = reports.recv() => engine.on_report(report),
            () = tokio::time::sleep(TICK) => {}
        }
        engine.finish_drains();
    }
    let drained = !engine.is_busy();
    engine.commit();
    let numbers: Vec<i32> = engine.partitions.keys().copied().collect();
    numbers.into_iter().for_each(|number| engine.let_go(number));
    engine.publish(false);
    let committed = leave(&desk, events, left).await;
    Ok(Ended { drained: drained && committed })
}
