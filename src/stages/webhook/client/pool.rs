//! Kept connections: some per origin (scheme, host and port), for a while, and no more than a bound over all.
//!
//! Endpoints of one origin share them: ten thousand at one host need no more connections than have requests under way.
//! What may be connected to is the same for all endpoints of a process, and was checked when the connection was made.
//! Whoever holds a [`Connection`] has it alone; dropping it closes it. How many an endpoint has in use is bounded
//! by how many of its tasks run at once, which is the engine's business.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::flushing::Flushing;
use crate::stages::webhook::target::Address;
use crate::task;

/// How many connections are kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub(in crate::stages::webhook) struct PoolLimits {
    /// Per origin.
    pub(in crate::stages::webhook) per_origin: usize,
    /// Over all origins.
    pub(in crate::stages::webhook) total: usize,
    /// An unused connection is closed after so long.
    pub(in crate::stages::webhook) idle: Duration,
    /// How long a kept connection is waited for that has not quite ended its last exchange: an answer may be there before all
    /// of the request is written.
    pub(in crate::stages::webhook) settle: Duration,
}

impl PoolLimits {
    /// Shorter than what a new connection costs, with TLS.
    pub(in crate::stages::webhook) const SETTLE: Duration = Duration::from_millis(10);
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
        connection: http1::Connection<TokioIo<Flushing<S>>, Full<Bytes>>,
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

    /// True once it takes a request, which is waited for no longer than `settle`.
    pub(super) async fn is_settled(&mut self, settle: Duration) -> bool {
        self.sender.is_ready() || matches!(timeout(settle, self.sender.ready()).await, Ok(Ok(())))
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
    by_origin: HashMap<Arc<str>, Vec<Idle>>,
    total: usize,
    swept: Instant,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Idle {
    /// True while it may be used again.
    fn is_of_use(&self, idle: Duration) -> bool {
        self.since.elapsed() < idle && !self.connection.sender.is_closed()
    }

    /// True when it may be used again at once.
    fn takes_requests(&self, idle: Duration) -> bool {
        self.since.elapsed() < idle && self.connection.sender.is_ready()
    }
}

impl Pool {
    /// How long a kept connection is waited for.
    pub(super) fn settle(&self) -> Duration {
        self.limits.settle
    }

    /// An empty pool.
    pub(super) fn new(limits: PoolLimits) -> Self {
        let kept = Kept { by_origin: HashMap::new(), total: 0, swept: Instant::now() };
        Self { limits, kept: Mutex::new(kept) }
    }

    /// The connection to the origin of `address` that was used last, if one is kept: of those that take a request now, or else
    /// of those that have not ended their last exchange. Whoever takes one of these either waits for it or closes it: were it
    /// left here, an endpoint had more connections than requests.
    pub(super) fn take(&self, address: &Address) -> Option<Connection> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let all = kept.by_origin.get_mut(&address.origin)?;
        let before = all.len();
        if !all.last()?.takes_requests(self.limits.idle) {
            all.retain(|one| one.is_of_use(self.limits.idle));
        }
        let ready = all.iter().rposition(|one| one.connection.sender.is_ready());
        let found = ready.or(all.len().checked_sub(1)).map(|at| all.remove(at).connection);
        let gone = before - all.len();
        kept.total -= gone;
        found
    }

    /// Keeps `connection` for the next request to the origin of `address`, if there is room and it is still open.
    pub(super) fn keep(&self, address: &Address, connection: Connection) {
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
        let idle = Idle { connection, since: Instant::now() };
        match kept.by_origin.get_mut(&address.origin) {
            Some(others) if others.len() >= self.limits.per_origin => return,
            Some(others) => others.push(idle),
            None => {
                kept.by_origin.insert(Arc::clone(&address.origin), vec![idle]);
            }
        }
        kept.total += 1;
    }
}

impl Kept {
    /// Closes what was unused for longer than `idle`.
    fn sweep(&mut self, idle: Duration) {
        self.by_origin.retain(|_, kept| {
            kept.retain(|one| one.is_of_use(idle));
            !kept.is_empty()
        });
        self.total = self.by_origin.values().map(Vec::len).sum();
        self.swept = Instant::now();
    }
}
