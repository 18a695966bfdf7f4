//! What a process that serves no API tells of itself: is it alive, is it ready, and its metrics.
//!
//! Members of stages count what they do in their own process, so each has to be asked. What must not live here:
//! anything that needs to know who asks.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::accept::accept;
use super::health::{self, Signs};
use super::{Code, HttpOptions, Problem, ServeError};
use crate::clock::Clock;

/// Listens at `http.observe_bind`, but doesn't answer yet.
#[derive(Debug)]
pub struct Observed {
    listener: TcpListener,
    signs: Signs,
    options: HttpOptions,
    clock: Clock,
}

impl Observed {
    /// Takes `address`.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn new(
        address: SocketAddr,
        signs: Signs,
        options: HttpOptions,
        clock: Clock,
    ) -> Result<Self, ServeError> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|reason| ServeError::ObserveBind { address, reason })?;
        Ok(Self { listener, signs, options, clock })
    }

    /// Answers until `shutdown`; open requests may end within `http.drain`.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let Self { listener, signs, options, clock } = self;
        tracing::info!(address = ?listener.local_addr().ok(), "metrics and health are told");
        let deadline = async {
            shutdown.cancelled().await;
            clock.sleep(options.drain).await;
        };
        tokio::select! {
            () = accept(listener, router(signs), &options, &clock, &shutdown) => {}
            () = deadline => tracing::warn!("open requests for metrics did not end within http.drain and were cut"),
        }
        Ok(())
    }
}

/// The few paths there are, the same as in the API.
fn router(signs: Signs) -> Router {
    Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(elsewhere)
        .with_state(signs)
}

async fn elsewhere() -> Problem {
    let detail =
        "this process tells /metrics, /health/live and /health/ready; the API is served by `orderflow serve`";
    Problem::new(Code::RouteNotFound, detail)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;
    use crate::crypto::Secret;
    use crate::http::{Check, Probe};
    use crate::telemetry::Metrics;

    async fn ask(signs: &Signs, path: &str, token: Option<&str>) -> (u16, String) {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = router(signs.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_member_tells_its_metrics_and_whether_it_is_ready_and_nothing_else() {
        let metrics = Metrics::new();
        metrics.records_in.with_label_values(&["history"]).inc();
        let broken = Probe::new(async || Err("connection refused".to_owned()));
        let mut signs = Signs {
            metrics,
            readiness: Arc::new([Check { name: "kafka", probe: broken }]),
            metrics_token: None,
        };
        assert_eq!(ask(&signs, "/health/live", None).await.0, 200);
        let (status, text) = ask(&signs, "/health/ready", None).await;
        assert!(status == 503 && text.contains("connection refused"), "{status} {text}");
        let (status, text) = ask(&signs, "/metrics", None).await;
        assert!(status == 200 && text.contains("orderflow_records_in_total{stage=\"history\"} 1"), "{text}");
        let (status, text) = ask(&signs, "/api/webhooks", None).await;
        assert!(status == 404 && text.contains("orderflow serve"), "{status} {text}");

        signs.metrics_token = Some(Secret::new("scraper".to_owned()));
        assert_eq!(ask(&signs, "/metrics", None).await.0, 401);
        assert_eq!(ask(&signs, "/metrics", Some("guess")).await.0, 401);
        assert_eq!(ask(&signs, "/metrics", Some("scraper")).await.0, 200);
    }
}
