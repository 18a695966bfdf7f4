//! Kept connections: a few per endpoint, for a while, and no more than a bound over all.
//!
//! Whoever holds a [`Connection`] has it alone; dropping it closes it. How many an endpoint has in use is bounded
//! by how many of its tasks run at once, which is the engine's business.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::stages::webhook::target::Address;
use crate::task;

/// How many connections are kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub(in crate::stages::webhook) struct PoolLimits {
    /// Per endpoint.
    pub(in crate::stages::webhook) per_endpoint: usize,
    /// Over all endpoints.
    pub(in crate::stages::webhook) total: usize,
    /// An unused connection is closed after so long.
    pub(in crate::stages::webhook) idle: Duration,
}

/// A connection and the task that drives it; dropping it closes both.
#[derive(Debug)]
pub(super) struct Connection {
    /// Sends a request and receives its answer, one at a time.
    pub(super) sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Starts driving `connection`.
    pub(super) fn new<S>(
        sender: SendRequest<Full<Bytes>>,
        connection: http1::Connection<hyper_util::rt::TokioIo<S>, Full<Bytes>>,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let driver = task::spawn("webhook connection", async move {
            if let Err(error) = connection.await {
                // Whoever waits for an answer on it is told the same.
                tracing::debug!(%error, "a webhook connection ended");
            }
        });
        Self { sender, driver }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connections that wait for their next request.
#[derive(Debug)]
pub(super) struct Pool {
    limits: PoolLimits,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    by_endpoint: HashMap<String, Vec<Idle>>,
    total: usize,
    swept: Instant,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    origin: String,
    since: Instant,
}

impl Pool {
    /// An empty pool.
    pub(super) fn new(limits: PoolLimits) -> Self {
        let kept = Kept { by_endpoint: HashMap::new(), total: 0, swept: Instant::now() };
        Self { limits, kept: Mutex::new(kept) }
    }

    /// The connection of endpoint `key` that was used last, if one is kept that still leads to `address`.
    pub(super) fn take(&self, key: &str, address: &Address) -> Option<Connection> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        let mut dropped = 0;
        if let Some(idle) = kept.by_endpoint.get_mut(key) {
            while let Some(candidate) = idle.pop() {
                dropped += 1;
                let fresh = candidate.since.elapsed() < self.limits.idle;
                if fresh && candidate.origin == address.origin && candidate.connection.sender.is_ready() {
                    found = Some(candidate.connection);
                    break;
                }
            }
        }
        kept.total -= dropped;
        found
    }

    /// Keeps `connection` for the next request of endpoint `key`, if there is room and it is still open.
    pub(super) fn keep(&self, key: &str, address: &Address, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.swept.elapsed() >= Duration::from_secs(1) {
            kept.sweep(self.limits.idle);
        }
        if kept.total >= self.limits.total {
            return;
        }
        let idle = kept.by_endpoint.entry(key.to_owned()).or_default();
        if idle.len() >= self.limits.per_endpoint {
            return;
        }
        idle.push(Idle { connection, origin: address.origin.clone(), since: Instant::now() });
        kept.total += 1;
    }
}

impl Kept {
    /// Closes what was unused for longer than `idle`.
    fn sweep(&mut self, idle: Duration) {
        self.by_endpoint.retain(|_, kept| {
            kept.retain(|one| one.since.elapsed() < idle && !one.connection.sender.is_closed());
            !kept.is_empty()
        });
        self.total = self.by_endpoint.values().map(Vec::len).sum();
        self.swept = Instant::now();
    }
}
