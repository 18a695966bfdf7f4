//! What the scenarios stand on: real services named by `ORDERFLOW_TEST_*`, and waiting for conditions.

pub(crate) mod broker;
pub(crate) mod cli;
pub(crate) mod courier;
pub(crate) mod database;
pub(crate) mod group;
pub(crate) mod hostile;
pub(crate) mod kafka;
pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod receiver;
pub(crate) mod schema;

use std::future::Future;
use std::time::Duration;

/// The value of a variable that names a real service. Missing is a failure, never a skip.
pub(crate) fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: bring the services up with `ops/dev/services up` and source what it prints")
    })
}

/// Waits until `condition` holds; fails with `what` after `within`.
pub(crate) async fn eventually<F>(what: &str, within: Duration, mut condition: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let deadline = tokio::time::Instant::now() + within;
    loop {
        let asked = tokio::time::Instant::now();
        if condition().await {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "not within {within:?}: {what}");
        // A question that is costly is asked less often: it must not slow down what it waits for.
        tokio::time::sleep((asked.elapsed() * 9).max(Duration::from_millis(20))).await;
    }
}
