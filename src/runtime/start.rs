//! Starts stages as tasks, with a handle to watch them by.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::effect::run_effect_stage;
use super::error::RunError;
use super::options::{KafkaOptions, StageSpec};
use super::producer::Producer;
use super::progress::{Progress, StageHandle};
use super::stage::{EffectStage, StoreStage};
use super::store::run_store_stage;
use crate::clock::Clock;
use crate::task::{self, ThreadFault};
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
    env.producer.tell(&env.metrics);
    let (sender, progress) = watch::channel(Progress::default());
    let name = spec.stage.clone();
    let join = task::spawn("store stage", run_store_stage(spec, stage, env, stop, sender));
    StageHandle { stage: name, join, progress }
}

/// Starts an effect stage on a thread of its own, on which its handlers run as well; it ends after `stop`, or early with an error.
pub fn start_effect_stage<S: EffectStage>(
    spec: StageSpec,
    stage: Arc<S>,
    env: Environment,
    stop: CancellationToken,
) -> StageHandle {
    env.producer.tell(&env.metrics);
    let (sender, progress) = watch::channel(Progress::default());
    let name = spec.stage.clone();
    let own = task::on_own_thread(format!("engine-{name}"), move || {
        run_effect_stage(spec, stage, env, stop, sender)
    });
    let named = name.clone();
    let join = task::spawn("effect stage", async move {
        own.await.unwrap_or_else(|fault| match fault {
            ThreadFault::Refused(error) => Err(RunError::Thread(error)),
            ThreadFault::Ended => {
                Err(RunError::Internal { stage: named, what: "the engine's thread panicked".to_owned() })
            }
        })
    });
    StageHandle { stage: name, join, progress }
}
