//! Connections: taken up to a bound, and only kept while their requests arrive in time.
//!
//! ```text
//! listener ──► a place is free ──► HTTP/1.1: header within http.header_timeout ──► router ──► (upgrade: live socket)
//! ```
//!
//! Who opens connections and says nothing, or drips a header byte by byte, is cut; who opens more than there
//! are places waits in the operating system's queue. An upgraded connection gives its place back: the live
//! socket has its own bound (`live.max_clients`).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::HttpOptions;
use crate::clock::Clock;
use crate::task;

/// How long to wait when the operating system gives no connection (no file handles left, mostly).
const AFTER_REFUSAL: Duration = Duration::from_millis(500);

/// Takes connections until `shutdown`, then lets open requests end. Dropping it cuts them.
pub(super) async fn accept(
    listener: TcpListener,
    router: Router,
    options: &HttpOptions,
    clock: &Clock,
    shutdown: &CancellationToken,
) {
    let most = options.max_connections.max(1);
    let places = Arc::new(Semaphore::new(most as usize));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(options.header_timeout);
    let cut = CancellationToken::new();
    let _cut_when_dropped = cut.clone().drop_guard();
    loop {
        let next = async {
            // Never closed, so there is always a place in the end.
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let (taken, place) = tokio::select! {
            () = shutdown.cancelled() => break,
            next = next => match next {
                Some(next) => next,
                None => break,
            },
        };
        match taken {
            Ok((stream, _)) => {
                let talk = talk(http.clone(), stream, router.clone(), shutdown.clone());
                let cut = cut.clone();
                // Whoever ends it is here: the place comes back when it has ended.
                drop(task::spawn("http connection", async move {
                    let _place = place;
                    tokio::select! {
                        () = talk => {}
                        () = cut.cancelled() => {}
                    }
                }));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken; trying again");
                clock.sleep(AFTER_REFUSAL).await;
            }
        }
    }
    drop(listener);
    // All places are free when every connection has ended; the semaphore is never closed.
    let _ = places.acquire_many(most).await;
}

/// One connection, to its end; after `shutdown` it ends with the request that is running.
async fn talk(http: http1::Builder, stream: TcpStream, router: Router, shutdown: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| router.clone().call(request));
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
