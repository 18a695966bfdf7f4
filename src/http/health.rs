//! Is it alive, is it ready, do events flow; and the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, http::HeaderValue};
use futures_util::future::join_all;
use serde::Serialize;
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use super::auth::{TokenFault, bearer};
use super::extract::NoParameters;
use super::{Check, Parts, Problem, Query};
use crate::crypto::Secret;
use crate::telemetry::Metrics;

/// A probe that doesn't answer within this counts as failed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// What readiness and metrics are told from.
#[derive(Debug, Clone)]
pub struct Signs {
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What must answer.
    pub readiness: Arc<[Check]>,
    /// When set, metrics ask for it as a bearer token.
    pub metrics_token: Option<Secret<String>>,
}

impl FromRef<Parts> for Signs {
    fn from_ref(parts: &Parts) -> Self {
        Self {
            metrics: Arc::clone(&parts.metrics),
            readiness: Arc::clone(&parts.readiness),
            metrics_token: parts.options.metrics_token.clone(),
        }
    }
}

/// `ok`, or what is wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Live {
    /// Always `ok`: whoever is dead doesn't answer.
    status: &'static str,
}

/// The process answers.
#[utoipa::path(get, path = "/health/live", tag = "health", responses((status = 200, body = Live)))]
pub(super) async fn live(_: Query<NoParameters>) -> Json<Live> {
    Json(Live { status: "ok" })
}

/// What the program needs, and whether it answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    /// `ready` or `unavailable`.
    status: &'static str,
    /// `ok`, or what is wrong, by the name of what is needed.
    checks: BTreeMap<&'static str, String>,
}

/// Everything that the program needs answers.
#[utoipa::path(
    get, path = "/health/ready", tag = "health",
    responses((status = 200, body = Ready), (status = 503, body = Ready, description = "What is wrong, by name"))
)]
pub(super) async fn ready(State(signs): State<Signs>, _: Query<NoParameters>) -> Response {
    let asked = signs.readiness.iter().map(|check| async {
        let answer = tokio::time::timeout(PROBE_TIMEOUT, check.probe.ask()).await;
        (check.name, answer.unwrap_or_else(|_| Err("does not answer in time".to_owned())))
    });
    let answers = join_all(asked).await;
    let all_well = answers.iter().all(|(_, answer)| answer.is_ok());
    let checks = answers
        .into_iter()
        .map(|(name, answer)| (name, answer.err().unwrap_or_else(|| "ok".to_owned())))
        .collect();
    let (status, word) =
        if all_well { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    (status, Json(Ready { status: word, checks })).into_response()
}

/// How events flow.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Events {
    /// `ok`, `degraded` (some webhook endpoints aren't delivered to, a stage is paused or in trouble) or `unavailable`.
    status: &'static str,
    event_bus: EventBus,
    webhooks: Webhooks,
    /// What is wrong with the stages that run in the process that was asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    troubles: Vec<String>,
    /// What is wrong, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventBus {
    /// Kafka takes and gives events.
    active: bool,
    /// Stages that read them.
    subscribers: u64,
    /// Stages that are paused, by an operator or by themselves.
    paused: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Webhooks {
    /// Endpoints there are.
    registered: u64,
    /// Those that are delivered to.
    healthy: u64,
}

/// Events flow, and to how many.
#[utoipa::path(
    get, path = "/health/events", tag = "health",
    responses((status = 200, body = Events), (status = 503, body = Events, description = "What is wrong"))
)]
pub(super) async fn events(State(parts): State<Parts>, _: Query<NoParameters>) -> Response {
    let answer = tokio::time::timeout(PROBE_TIMEOUT, parts.events_health.ask()).await;
    let (health, reason) = match answer.unwrap_or_else(|_| Err("does not answer in time".to_owned())) {
        Ok(health) if health.active => (health, None),
        Ok(health) => (health, Some("Kafka does not answer".to_owned())),
        Err(reason) => (super::EventsHealth::default(), Some(reason)),
    };
    let (status, word) = match &reason {
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        None if health.webhooks_healthy < health.webhooks_registered
            || health.paused > 0
            || !health.troubles.is_empty() =>
        {
            (StatusCode::OK, "degraded")
        }
        None => (StatusCode::OK, "ok"),
    };
    let body = Events {
        status: word,
        event_bus: EventBus {
            active: health.active && reason.is_none(),
            subscribers: health.subscribers,
            paused: health.paused,
        },
        webhooks: Webhooks { registered: health.webhooks_registered, healthy: health.webhooks_healthy },
        troubles: health.troubles,
        reason,
    };
    (status, Json(body)).into_response()
}

/// All series in Prometheus' text format. When `http.metrics_token` is set, it must be sent as a bearer token.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, body = String, content_type = "text/plain", description = "Prometheus text format 0.0.4"))
)]
pub(super) async fn metrics(
    State(signs): State<Signs>,
    headers: HeaderMap,
    _: Query<NoParameters>,
) -> Result<Response, Problem> {
    if let Some(wanted) = &signs.metrics_token {
        let given = bearer(&headers).ok_or_else(|| TokenFault::Missing.into_problem())?;
        if !bool::from(given.as_bytes().ct_eq(wanted.expose().as_bytes())) {
            return Err(TokenFault::Invalid("it is not http.metrics_token".to_owned()).into_problem());
        }
    }
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, text)], signs.metrics.text()).into_response())
}
