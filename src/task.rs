//! The one place that starts concurrent work: every task has a name, and its end is somebody's business.
//!
//! `tokio::spawn` elsewhere is refused by `clippy.toml`: an anonymous task that dies in silence is how work
//! gets lost. A [`Group`] owns the tasks of one process: when one that should run for ever ends early, the
//! group asks for shutdown and remembers why.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
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

/// Why work on a thread of its own has no result.
#[derive(Debug, thiserror::Error)]
pub enum ThreadFault {
    /// The operating system refused a thread, or what a runtime on it needs.
    #[error("no thread to run on: {0}")]
    Refused(#[source] std::io::Error),
    /// It panicked.
    #[error("the thread ended without a result")]
    Ended,
}

/// Runs the future that `make` makes on an operating-system thread called `name`, with timers and sockets of its own:
/// for a loop that polls its work itself, in which nothing of others may come. What it spawns runs on that thread too
/// and ends with it. Dropping the answer cuts it off at its next wait.
///
/// # Errors
/// When there is no thread to be had, or it panicked.
pub async fn on_own_thread<F, T>(
    name: String,
    make: impl FnOnce() -> F + Send + 'static,
) -> Result<T, ThreadFault>
where
    F: Future<Output = T>,
    T: Send + 'static,
{
    let cut = CancellationToken::new();
    let _dropped = cut.clone().drop_guard();
    let (send, receive) = tokio::sync::oneshot::channel();
    let span = tracing::debug_span!("task", name);
    spawn_thread(&name, move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = send.send(Err(ThreadFault::Refused(error)));
                return;
            }
        };
        // Work that is polled by one loop isn't to share one task's budget.
        let work = tokio::task::unconstrained(cut.run_until_cancelled(make().instrument(span)));
        if let Some(done) = runtime.block_on(work) {
            let _ = send.send(Ok(done));
        }
        // Blocking calls that are still waiting for a service must not hold the end up.
        runtime.shutdown_background();
    })
    .map_err(ThreadFault::Refused)?;
    receive.await.unwrap_or(Err(ThreadFault::Ended))
}

/// The runtime of whoever made something that many use. Sockets that are opened for all of them belong there: those of a
/// caller's own thread ([`on_own_thread`]) end with it.
#[derive(Debug, Clone)]
pub struct Home(Option<Handle>);

impl Home {
    /// The caller's runtime.
    pub fn here() -> Self {
        Self(Handle::try_current().ok())
    }

    /// Runs `future` at home, wherever it is asked for. `None` when home has ended.
    pub async fn run<F>(&self, name: &'static str, future: F) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let here = Handle::try_current().ok().map(|here| here.id());
        match &self.0 {
            Some(home) if here != Some(home.id()) => {
                home.spawn(future.instrument(tracing::debug_span!("task", name))).await.ok()
            }
            Some(_) | None => Some(future.await),
        }
    }
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
    async fn work_on_a_thread_of_its_own_has_timers_and_is_cut_off_when_nobody_waits_for_it() {
        let slept = on_own_thread("sleeper".to_owned(), || async {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            std::thread::current().name().map(str::to_owned)
        });
        assert_eq!(slept.await.expect("it ends"), Some("sleeper".to_owned()));
        let (send, receive) = tokio::sync::oneshot::channel::<()>();
        let endless = spawn(
            "waits",
            on_own_thread("endless".to_owned(), || async move {
                let _held = send;
                std::future::pending::<()>().await;
            }),
        );
        endless.abort();
        assert!(receive.await.is_err(), "it was dropped");
        assert!(on_own_thread("panics".to_owned(), || async { panic!("on purpose") as () }).await.is_err());
    }

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
