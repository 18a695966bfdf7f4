//! Starts stages as tasks, with a handle to watch them by.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::effect::run_effect_stage;
use super::error::{Ended, RunError};
use super::options::{KafkaOptions, StageSpec};
use super::producer::Producer;
use super::progress::{Progress, StageHandle};
use super::stage::{EffectStage, StoreStage};
use super::store::run_store_stage;
use crate::clock::Clock;
use crate::task::{self, ThreadFault};
use crate::telemetry::Metrics;

/// A member on its way; how it ended, once it has.
type Running = JoinHandle<Result<Ended, RunError>>;

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

/// Starts a store stage; it ends after `stop`, or early with an error. It is a task among others, or, in the background, on
/// a thread of its own: then it takes no worker from them.
pub fn start_store_stage<S: StoreStage>(
    spec: StageSpec,
    stage: Arc<S>,
    env: Environment,
    stop: CancellationToken,
) -> StageHandle {
    env.producer.tell(&env.metrics);
    let (stage_name, background) = (spec.stage.clone(), spec.options.background);
    started(stage_name.clone(), |progress| match background {
        false => task::spawn("store stage", run_store_stage(spec, stage, env, stop, progress)),
        true => alone(stage_name, move || run_store_stage(spec, stage, env, stop, progress)),
    })
}

/// Starts an effect stage on a thread of its own, on which its handlers run as well; it ends after `stop`, or early with an error.
pub fn start_effect_stage<S: EffectStage>(
    spec: StageSpec,
    stage: Arc<S>,
    env: Environment,
    stop: CancellationToken,
) -> StageHandle {
    env.producer.tell(&env.metrics);
    let name = spec.stage.clone();
    started(name.clone(), |progress| alone(name, move || run_effect_stage(spec, stage, env, stop, progress)))
}

/// What is known of a member that `start` starts.
fn started(stage: String, start: impl FnOnce(watch::Sender<Progress>) -> Running) -> StageHandle {
    let (sender, progress) = watch::channel(Progress::default());
    StageHandle { stage, join: start(sender), progress }
}

/// Runs a member on a thread of its own.
fn alone<F>(stage: String, run: impl FnOnce() -> F + Send + 'static) -> Running
where
    F: Future<Output = Result<Ended, RunError>>,
{
    task::spawn("stage", async move {
        let own = task::on_own_thread(format!("engine-{stage}"), run);
        own.await.unwrap_or_else(|fault| match fault {
            ThreadFault::Refused(error) => Err(RunError::Thread(error)),
            ThreadFault::Ended => {
                Err(RunError::Internal { stage, what: "the engine's thread panicked".to_owned() })
            }
        })
    })
}
