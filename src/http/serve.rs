//! Listens, answers, and ends in good order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::accept::accept;
use super::{AuthSetupError, Parts, router};
use crate::store::idempotency;
use crate::task;

/// How often answers kept for idempotency keys that have expired are deleted.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Why the API doesn't serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("http.bind {address}: {reason}")]
    Bind {
        /// What was to be listened on.
        address: SocketAddr,
        /// What the operating system says.
        reason: std::io::Error,
    },
    /// The address for metrics and health is taken or not ours.
    #[error("http.observe_bind {address}: {reason}")]
    ObserveBind {
        /// What was to be listened on.
        address: SocketAddr,
        /// What the operating system says.
        reason: std::io::Error,
    },
    /// A setting can't be used.
    #[error(transparent)]
    Setup(#[from] AuthSetupError),
}

/// An API that listens but doesn't answer yet, so that its address is known before it starts.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    router: axum::Router,
    parts: Parts,
    address: SocketAddr,
}

impl Bound {
    /// Takes `http.bind`; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address is taken, or a setting can't be used.
    pub async fn new(parts: Parts) -> Result<Self, ServeError> {
        let router = router(parts.clone())?;
        let wanted = parts.options.bind;
        let refused = |reason| ServeError::Bind { address: wanted, reason };
        let listener = TcpListener::bind(wanted).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, router, parts, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`, then takes nothing new and lets open requests end within `http.drain`.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let Self { listener, router, parts, address } = self;
        tracing::info!(%address, "the HTTP API listens");
        let upkeep = task::spawn("http upkeep", upkeep(parts.clone(), shutdown.clone()));
        let deadline = async {
            shutdown.cancelled().await;
            parts.hub.close();
            parts.clock.sleep(parts.options.drain).await;
        };
        tokio::select! {
            () = accept(listener, router, &parts.options, &parts.clock, &shutdown) => parts.hub.close(),
            () = deadline => {
                tracing::warn!("open HTTP requests did not end within http.drain and were cut");
            }
        }
        upkeep.abort();
        Ok(())
    }
}

/// Keeps the token keys fresh and forgets answers that nobody will ask for again.
async fn upkeep(parts: Parts, shutdown: CancellationToken) {
    let auth = Arc::clone(&parts.auth);
    let sweep = async {
        loop {
            parts.clock.sleep(SWEEP_EVERY).await;
            if let Err(error) = idempotency::sweep(&parts.db, parts.clock.now_ms()).await {
                tracing::warn!(%error, "expired idempotency keys could not be deleted; tried again later");
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = auth.keep_keys_fresh() => {}
        () = sweep => {}
    }
}
