//! The case `rebuild`: how fast a member reads its parked work back, and in how much memory.
//!
//! The product's own engine fills a retry topic, by a handler that puts everything off for a day. Then librdkafka
//! reads that topic bare, and a member takes its partitions over: the clock runs from the moment at which the group
//! gives it the partitions to that at which the last of them flows.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::cases::System;
use super::engine::{Args, Repetition, child, environment, forget, spec};
use super::measure::{Measured, Meter};
use super::report::Figure;
use super::stage::BenchStage;
use super::topic;
use crate::cli::exit::Fault;
use crate::config::Config;
use crate::runtime::{PartitionState, Progress, StageHandle, start_effect_stage};

/// How long everything is put off.
const PUT_OFF: Duration = Duration::from_secs(86_400);

/// Parks the records of `asked.topic`, then lets the systems take turns at the retry topic.
pub(super) async fn measure(config: &Config, args: &Args, asked: &Repetition) -> Result<Vec<Figure>, Fault> {
    let [retry, dead_letters] = topic::own(&asked.group);
    topic::prepare(&config.kafka, &asked.group).await?;
    child(&Repetition { proof: true, ..asked.clone() }).await?;
    let mut figures = Vec::new();
    for &system in &asked.case.systems {
        let read = if system == System::Orderflow { &asked.topic } else { &retry };
        let asked = Repetition { system, topic: read.clone(), ..asked.clone() };
        let mut runs = Vec::new();
        for _ in 0..args.repetitions.max(1) {
            runs.push(child(&asked).await?);
        }
        figures.push(Figure::records(system.as_str(), &asked.case.name, &runs));
    }
    forget(&config.kafka, &asked.group).await?;
    topic::remove(&config.kafka, &[&retry, &dead_letters]).await?;
    Ok(figures)
}

/// One repetition of the engine: parks everything when it is the proof, else reads it back.
pub(super) async fn repeat(config: &Config, asked: &Repetition) -> Result<Measured, Fault> {
    let meter = Arc::new(Meter::new(asked.case.records));
    let mut stage = BenchStage::new(Duration::ZERO, Arc::clone(&meter));
    stage.put_off = Some(PUT_OFF);
    let stop = CancellationToken::new();
    let stage = Arc::new(stage);
    let mut handle = start_effect_stage(spec(asked), stage, environment(config)?, stop.clone());
    let records = asked.case.records;
    if asked.proof {
        until(&mut handle, |progress| progress.balance.parked == records && progress.lag() == 0).await?;
    } else {
        until(&mut handle, |progress| !progress.partitions.is_empty()).await?;
        meter.begin();
        let flowing = |progress: &Progress| {
            let partitions = progress.partitions.values();
            let flows = partitions.filter(|partition| partition.state == PartitionState::Flowing);
            i32::try_from(flows.count()) == Ok(topic::PARTITIONS)
        };
        until(&mut handle, flowing).await?;
        meter.end();
    }
    let found = handle.progress.borrow().balance;
    if found.parked != records || meter.seen() > 0 && !asked.proof {
        return Err(Fault::failures(format!("{records} records were parked, but {found:?}")));
    }
    stop.cancel();
    let ended = handle.join.await.map_err(|error| Fault::internal(error.to_string()))?;
    ended.map_err(|error| Fault::failures(error.to_string()))?;
    if asked.proof {
        meter.end();
    }
    meter.measured().ok_or_else(|| Fault::internal("nothing was measured"))
}

/// Waits until the stage's progress is as wanted.
pub(super) async fn until(handle: &mut StageHandle, wanted: impl Fn(&Progress) -> bool) -> Result<(), Fault> {
    tokio::select! {
        seen = handle.progress.wait_for(|progress| wanted(progress)) => {
            seen.map(drop).map_err(|_| Fault::failures("the stage ended early"))
        }
        ended = &mut handle.join => Err(Fault::failures(format!("the stage ended early: {ended:?}"))),
    }
}
