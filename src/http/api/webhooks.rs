//! Webhook endpoints: registering, seeing and deleting them, and what was tried. A partner sees its own alone.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::webhooks::{FieldFault, RegisterError, Registration};
use crate::clock::rfc3339;
use crate::crypto::{Secret, Subject};
use crate::http::extract::NoParameters;
use crate::http::page::{self, Page};
use crate::http::{Body, Caller, Code, FieldError, IdempotencyKey, Parts, PathParams, Problem, Query, Role};
use crate::store::attempts::{self, Attempt, Before};
use crate::store::webhooks::{self, Endpoint, EndpointState, Subscription};

/// The lists' names in their cursors.
const LIST: &str = "webhooks";
const DELIVERIES: &str = "webhookDeliveries";

/// An endpoint to be registered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct RegisterRequest {
    /// Where requests go: https, unless plain http is allowed.
    url: String,
    /// A secret of your own: `whsec_` and base64, or 8 to 256 printable characters. Left out, one is made.
    #[schema(value_type = Option<String>)]
    secret: Option<Secret<String>>,
    /// Event types in any spelling; none, or `*`, is all.
    #[serde(default)]
    events: Vec<String>,
    /// How many attempts there are, the first included: 1 to 20.
    retry_attempts: Option<i64>,
    /// Milliseconds before the second attempt; doubled from there, at most 12 hours.
    retry_delay: Option<i64>,
    /// Milliseconds that one whole attempt may take: 100 to 60000.
    timeout: Option<i64>,
}

/// A registered endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct Webhook {
    id: String,
    url: String,
    /// Dotted types; `*` is all.
    events: Vec<&'static str>,
    /// `enabled` or `disabled`.
    state: &'static str,
    /// Why it is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<String>,
    /// Milliseconds that one whole attempt may take.
    timeout: i64,
    /// All attempts, and the milliseconds between them.
    schedule: ScheduleShown,
    /// The partner that registered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    created_at: String,
    /// Signs every request. Told once, in the answer to the registration.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// When failed deliveries are tried again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct ScheduleShown {
    /// All attempts counted.
    attempts: u32,
    /// Milliseconds after the first, second, … failed attempt, each varied by up to `jitterPercent`.
    delays: Vec<u64>,
    jitter_percent: u32,
}

/// One attempt to deliver an event.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct AttemptShown {
    id: String,
    /// The same for all attempts to deliver this event here.
    delivery_id: String,
    /// The header `webhook-id`.
    webhook_id: String,
    event_id: String,
    event: String,
    order_id: String,
    attempt: i64,
    /// `delivered`, `failed` (tried again), `refused` (your answer was 3xx or 4xx) or `gone` (410).
    outcome: String,
    status: Option<i64>,
    latency_ms: i64,
    error: Option<String>,
    /// The beginning of the answer.
    response: Option<String>,
    attempted_at: String,
    next_attempt_at: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct PageQuery {
    /// Rows of a page, 1 to 200; 50 when left out.
    limit: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Registers an endpoint. Events published after the answer reach it.
#[utoipa::path(
    post, path = "/api/webhooks", tag = "webhooks",
    request_body = RegisterRequest,
    responses((status = 201, body = Webhook, description = "With the secret, which is not told again"))
)]
pub(in crate::http) async fn create(
    parts: State<Parts>,
    caller: Caller,
    key: Option<Extension<IdempotencyKey>>,
    none: Query<NoParameters>,
    request: Body<RegisterRequest>,
) -> Result<(StatusCode, Json<Webhook>), Problem> {
    register(parts, caller, key, none, request).await
}

/// Registers an endpoint: the same as `POST /api/webhooks`.
#[utoipa::path(
    post, path = "/api/webhooks/register", tag = "webhooks",
    request_body = RegisterRequest,
    responses((status = 201, body = Webhook, description = "With the secret, which is not told again"))
)]
pub(in crate::http) async fn register(
    State(parts): State<Parts>,
    caller: Caller,
    key: Option<Extension<IdempotencyKey>>,
    _: Query<NoParameters>,
    Body(request): Body<RegisterRequest>,
) -> Result<(StatusCode, Json<Webhook>), Problem> {
    let registration = Registration {
        url: request.url,
        secret: request.secret,
        events: request.events,
        retry_attempts: request.retry_attempts,
        retry_delay: request.retry_delay,
        timeout: request.timeout,
        request: key.map(|Extension(key)| key.id()),
    };
    let registered =
        parts.webhooks.register(&caller.tenant, owner(&caller), &registration).await.map_err(refused)?;
    let secret = registered.secret.expose().clone();
    let webhook = Webhook { secret: Some(secret), ..shown(&parts, registered.endpoint) };
    Ok((StatusCode::CREATED, Json(webhook)))
}

/// Lists the endpoints.
#[utoipa::path(
    get, path = "/api/webhooks", tag = "webhooks",
    params(PageQuery), responses((status = 200, body = Page<Webhook>))
)]
pub(in crate::http) async fn list(
    State(parts): State<Parts>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<Webhook>>, Problem> {
    let limit = page::limit(query.limit)?;
    let after: Option<String> = page::place(LIST, query.cursor.as_deref())?;
    let rows =
        webhooks::list(&parts.db, &caller.tenant, owner(&caller), after.as_deref(), i64::from(limit) + 1)
            .await?;
    let Page { data, next_cursor } = Page::from_rows(LIST, rows, limit, |row| row.id.clone());
    let data = data.into_iter().map(|endpoint| shown(&parts, endpoint)).collect();
    Ok(Json(Page { data, next_cursor }))
}

/// One endpoint.
#[utoipa::path(
    get, path = "/api/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The registration's id")),
    responses((status = 200, body = Webhook))
)]
pub(in crate::http) async fn one(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams(id): PathParams<String>,
    _: Query<NoParameters>,
) -> Result<Json<Webhook>, Problem> {
    let endpoint = find(&parts, &caller, &id).await?;
    Ok(Json(shown(&parts, endpoint)))
}

/// Deletes an endpoint. What is still to be delivered to it is skipped.
#[utoipa::path(
    delete, path = "/api/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The registration's id")),
    responses((status = 204, description = "It is gone"))
)]
pub(in crate::http) async fn delete(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams(id): PathParams<String>,
    _: Query<NoParameters>,
) -> Result<StatusCode, Problem> {
    match parts.webhooks.remove(&caller.tenant, owner(&caller), &id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(unknown(&id)),
    }
}

/// What was tried for an endpoint, newest first.
#[utoipa::path(
    get, path = "/api/webhooks/{id}/deliveries", tag = "webhooks",
    params(("id" = String, Path, description = "The registration's id"), PageQuery),
    responses((status = 200, body = Page<AttemptShown>))
)]
pub(in crate::http) async fn deliveries(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams(id): PathParams<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<AttemptShown>>, Problem> {
    let limit = page::limit(query.limit)?;
    let before: Option<(i64, String)> = page::place(DELIVERIES, query.cursor.as_deref())?;
    let before = before.map(|(attempted_at, attempt_id)| Before { attempted_at, attempt_id });
    let endpoint = find(&parts, &caller, &id).await?;
    let rows =
        attempts::of_endpoint(&parts.db, &caller.tenant, &endpoint.id, before.as_ref(), i64::from(limit) + 1)
            .await?;
    let Page { data, next_cursor } =
        Page::from_rows(DELIVERIES, rows, limit, |row| (row.attempted_at, row.attempt_id.clone()));
    let data = data.into_iter().map(|attempt| attempt_shown(&parts, attempt)).collect::<Result<_, _>>()?;
    Ok(Json(Page { data, next_cursor }))
}

/// Whom the caller's view is narrowed to: partners see their own endpoints, services all of their tenant.
fn owner(caller: &Caller) -> Option<&str> {
    if caller.is(Role::Service) { None } else { Some(&caller.subject) }
}

async fn find(parts: &Parts, caller: &Caller, id: &str) -> Result<Endpoint, Problem> {
    let found = webhooks::find(&parts.db, &caller.tenant, id, owner(caller)).await?;
    found.ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Problem {
    Problem::new(Code::WebhookNotFound, format!("webhook {id} is not known"))
}

fn refused(error: RegisterError) -> Problem {
    match error {
        RegisterError::Fields(faults) => {
            let only_types = faults.iter().all(|fault| fault.unknown_event);
            let detail = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let errors = faults
                .into_iter()
                .map(|FieldFault { field, message, .. }| FieldError { field, message })
                .collect();
            if only_types {
                Problem::new(Code::UnknownEventType, detail).with_errors(errors)
            } else {
                Problem::fields(errors)
            }
        }
        error @ RegisterError::TooMany(_) => Problem::new(Code::Conflict, error.to_string()),
        RegisterError::Store(error) => error.into(),
        error @ (RegisterError::Crypto(_) | RegisterError::Random(_)) => Problem::internal(error),
    }
}

fn shown(parts: &Parts, endpoint: Endpoint) -> Webhook {
    let schedule = parts.webhooks.schedule(&endpoint);
    let millis = |delay: &std::time::Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    let retries = schedule.attempts.saturating_sub(1) as usize;
    // A schedule's last delay repeats; shown is one for each retry.
    let last = schedule.delays.last();
    let delays = schedule.delays.iter().chain(std::iter::repeat_n(last, retries).flatten()).take(retries);
    Webhook {
        schedule: ScheduleShown {
            attempts: schedule.attempts,
            delays: delays.map(millis).collect(),
            jitter_percent: schedule.jitter_percent,
        },
        events: match &endpoint.events {
            Subscription::All => vec!["*"],
            Subscription::Only(types) => types.iter().map(|event_type| event_type.as_str()).collect(),
        },
        state: endpoint.state.as_str(),
        disabled_reason: match endpoint.state {
            EndpointState::Enabled => None,
            EndpointState::Disabled(reason) => Some(reason),
        },
        id: endpoint.id,
        url: endpoint.url,
        timeout: endpoint.timeout_ms,
        owner: endpoint.owner,
        created_at: rfc3339(endpoint.created_at),
        secret: None,
    }
}

fn attempt_shown(parts: &Parts, attempt: Attempt) -> Result<AttemptShown, Problem> {
    let tenant = Subject::Tenant { tenant: &attempt.tenant };
    let response = attempt.response.as_ref().map(|sealed| parts.vault.open_text(tenant, sealed));
    Ok(AttemptShown {
        response: response.transpose().map_err(Problem::internal)?,
        id: attempt.attempt_id,
        delivery_id: attempt.delivery_id,
        webhook_id: attempt.webhook_id,
        event_id: attempt.event_id,
        event: attempt.event_type,
        order_id: attempt.order_id,
        attempt: attempt.attempt,
        outcome: attempt.outcome,
        status: attempt.status,
        latency_ms: attempt.latency_ms,
        error: attempt.error,
        attempted_at: rfc3339(attempt.attempted_at),
        next_attempt_at: attempt.next_attempt_at.map(rfc3339),
    })
}
