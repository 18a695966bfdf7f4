//! Two processes that share a consumer group: each handles half of the partitions, at the same time.
//!
//! Both wait until the group has given each its half before they begin, so that the clock shows them side by side.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::engine::{Repetition, child, environment, forget, spec};
use super::measure::{Measured, Meter};
use super::rebuild::until;
use super::stage::BenchStage;
use super::topic;
use crate::cli::exit::Fault;
use crate::config::Config;
use crate::runtime::{PartitionState, Progress, start_effect_stage};

/// Runs two members at once, each in a process of its own.
pub(super) async fn measure(config: &Config, asked: &Repetition) -> Result<Measured, Fault> {
    topic::prepare(&config.kafka, &asked.group).await?;
    let (one, other) = tokio::try_join!(child(asked), child(asked))?;
    let [retry, dead_letters] = topic::own(&asked.group);
    forget(&config.kafka, &asked.group).await?;
    topic::remove(&config.kafka, &[&retry, &dead_letters]).await?;
    Ok(one.beside(&other))
}

/// One of the two members: handles all that lies in its half.
pub(super) async fn repeat(config: &Config, asked: &Repetition) -> Result<Measured, Fault> {
    let meter = Arc::new(Meter::new(u64::MAX));
    let (open, gate) = watch::channel(false);
    let mut stage = BenchStage::new(asked.case.wait, Arc::clone(&meter));
    stage.gate = Some(gate);
    let stop = CancellationToken::new();
    let stage = Arc::new(stage);
    let mut handle = start_effect_stage(spec(asked), stage, environment(config)?, stop.clone());
    until(&mut handle, has_half).await?;
    let ends: i64 = handle.progress.borrow().partitions.values().map(|partition| partition.end).sum();
    meter.expect(ends.unsigned_abs());
    open.send_replace(true);
    tokio::select! {
        () = meter.finished() => {}
        ended = &mut handle.join => return Err(Fault::failures(format!("the stage ended early: {ended:?}"))),
    }
    stop.cancel();
    let ended = handle.join.await.map_err(|error| Fault::internal(error.to_string()))?;
    ended.map_err(|error| Fault::failures(error.to_string()))?;
    let balance = handle.progress.borrow().balance;
    if !balance.holds() || balance.dead + balance.parked > 0 {
        return Err(Fault::failures(format!("the engine's books are wrong: {balance:?}")));
    }
    meter.measured().ok_or_else(|| Fault::internal("nothing was measured"))
}

/// True when half of the partitions is here, and flows: the other half is the other's.
fn has_half(progress: &Progress) -> bool {
    let flows = progress.partitions.values().filter(|partition| partition.state == PartitionState::Flowing);
    let owned = progress.partitions.len();
    i32::try_from(owned) == Ok(topic::PARTITIONS / 2) && flows.count() == owned
}
