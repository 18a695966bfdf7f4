//! Starts stages as tasks, with a handle to watch them by.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::effect::run_effect_stage;
use super::options::{KafkaOptions, StageSpec};
use super::producer::Producer;
use super::progress::{Progress, StageHandle};
use super::stage::{EffectStage, StoreStage};
use super::store::run_store_stage;
use crate::clock::Clock;
use crate::task;
use crate::telemetry::Metrics;

/// What every stage of a process shares. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Environment {
    /// How to reach Kafka.
    pub kafka: KafkaOptions,
    /// The process's producer.
    pub producer: Producer,
    /// The process's metrics.
    pub metrics: Arc<Metrics>,
    /// The process's clock.
    pub clock: Clock,
}

/// Starts a store stage as a task of its own; it ends after `stop`, or early with an error.
pub fn start_store_stage<S: StoreStage>(
    spec: StageSpec,
    stage: Arc<S>,
    env: Environment,
    stop: CancellationToken,
) -> StageHandle {
    let (sender, progress) = watch::channel(Progress::default());
    let name = spec.stage.clone();
    let join = task::spawn("store stage", run_store_stage(spec, stage, env, stop, sender));
    StageHandle { stage: name, join, progress }
}

/// Starts an effect stage as a task of its own; it ends after `stop`, or early with an error.
pub fn start_effect_stage<S: EffectStage>(
    spec: StageSpec,
    stage: Arc<S>,
    env: Environment,
    stop: CancellationToken,
) -> StageHandle {
    let (sender, progress) = watch::channel(Progress::default());
    let name = spec.stage.clone();
    let join = task::spawn("effect stage", run_effect_stage(spec, stage, env, stop, sender));
    StageHandle { stage: name, join, progress }
}
