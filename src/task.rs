//! The one place that starts concurrent work: every task has a name, and its end is somebody's business.
//!
//! `tokio::spawn` elsewhere is refused by `clippy.toml`: an anonymous task that dies in silence is how work
//! gets lost. A [`Group`] owns the tasks of one process: when one that should run for ever ends early, the
//! group asks for shutdown and remembers why.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Starts `future` as a task called `name`. The caller keeps the handle and looks at how it ended.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    tokio::spawn(future.instrument(tracing::debug_span!("task", name)))
}

/// Runs `work` that blocks (file, DNS, librdkafka's synchronous calls) off the async threads.
pub fn spawn_blocking<F, T>(work: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    tokio::task::spawn_blocking(work)
}

/// Starts an operating-system thread called `name`, for loops that must not share an async thread.
///
/// # Errors
/// When the operating system refuses another thread.
pub fn spawn_thread<F, T>(name: &str, work: F) -> std::io::Result<std::thread::JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// The long-running tasks of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Group {
    tracker: TaskTracker,
    stop: CancellationToken,
    failures: Arc<Mutex<Vec<String>>>,
}

impl Group {
    /// A group whose members end when `stop` is cancelled, and that cancels it when one of them fails.
    pub fn new(stop: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), stop, failures: Arc::default() }
    }

    /// Starts a task that should run until shutdown. Ending with an error stops the whole group.
    pub fn spawn<F, E>(&self, name: &'static str, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let group = self.clone();
        let task = spawn(name, self.tracker.track_future(future));
        let watch = async move {
            let failure = match task.await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("{name}: {error}"),
                Err(ended) if ended.is_cancelled() => return,
                Err(panicked) => format!("{name}: {panicked}"),
            };
            tracing::error!(task = name, failure, "a long-running task ended early; shutting down");
            group.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
            group.stop.cancel();
        };
        spawn(name, self.tracker.track_future(watch));
    }

    /// Waits until every task has ended, and gives what failed (nothing, in a clean shutdown).
    pub async fn join(self) -> Vec<String> {
        self.tracker.close();
        self.tracker.wait().await;
        std::mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_fails_stops_its_group_and_is_named() {
        let stop = CancellationToken::new();
        let group = Group::new(stop.clone());
        let waits = stop.clone();
        group.spawn("patient", async move {
            waits.cancelled().await;
            Ok::<_, String>(())
        });
        group.spawn("hasty", async { Err::<(), _>("ran out of luck".to_owned()) });
        stop.cancelled().await;
        assert_eq!(group.join().await, vec!["hasty: ran out of luck".to_owned()]);
    }
}
