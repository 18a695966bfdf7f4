//! Webhook endpoints: registering, seeing, changing, pausing and deleting them, their secrets, and what was tried. A
//! partner sees its own alone. What is allowed is `admin::webhooks`' business; `forms` is what is sent here.

mod backfill;
mod deliveries;
mod forms;
mod resend;
mod secrets;
mod trial;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;

pub(in crate::http) use self::backfill::{
    __path_begin as __path_backfill, __path_cancel as __path_cancel_backfill,
    __path_progress as __path_backfill_progress, begin as backfill, cancel as cancel_backfill,
    progress as backfill_progress,
};
pub(in crate::http) use self::deliveries::{
    __path_list as __path_deliveries, __path_one as __path_delivery, __path_stats, list as deliveries,
    one as delivery, stats,
};
use self::forms::{ChangeRequest, RegisterRequest};
pub(in crate::http) use self::resend::{
    __path_one as __path_resend, __path_range as __path_resend_range, one as resend, range as resend_range,
};
pub(in crate::http) use self::secrets::{__path_rotate, rotate};
pub(in crate::http) use self::trial::{__path_send as __path_test, send as test};
use crate::admin::webhooks::{FieldFault, Webhook, WebhookError};
use crate::http::extract::NoParameters;
use crate::http::page::{self, Page};
use crate::http::{Body, Caller, Code, FieldError, IdempotencyKey, Parts, PathParams, Problem, Query, Role};
use crate::store::webhooks::{self, Endpoint, EndpointState, Wanted};

/// The list's name in its cursors.
const LIST: &str = "webhooks";

/// Which endpoints.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ListQuery {
    /// Only those that are `enabled`, `paused` or `disabled`.
    state: Option<String>,
    /// Only those that this partner registered.
    owner: Option<String>,
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
    let registration = request.registration(key.map(|Extension(key)| key.id()))?;
    let registered = parts.webhooks.register(&caller.tenant, owner(&caller), &registration).await?;
    Ok((StatusCode::CREATED, Json(parts.webhooks.show_once(&registered)?)))
}

/// Lists the endpoints.
#[utoipa::path(
    get, path = "/api/webhooks", tag = "webhooks",
    params(ListQuery), responses((status = 200, body = Page<Webhook>))
)]
pub(in crate::http) async fn list(
    State(parts): State<Parts>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Webhook>>, Problem> {
    let limit = page::limit(query.limit)?;
    let after: Option<String> = page::place(LIST, query.cursor.as_deref())?;
    if query.state.as_deref().is_some_and(|state| !EndpointState::NAMES.contains(&state)) {
        return Err(Problem::field("state", format!("must be one of {}", EndpointState::NAMES.join(", "))));
    }
    // A partner that asks for another's gets nothing, as there is nothing to see.
    if let (Some(own), Some(asked)) = (owner(&caller), query.owner.as_deref())
        && own != asked
    {
        return Ok(Json(Page { data: Vec::new(), next_cursor: None }));
    }
    let wanted = Wanted {
        owner: owner(&caller).or(query.owner.as_deref()),
        state: query.state.as_deref(),
        after: after.as_deref(),
        limit: i64::from(limit) + 1,
    };
    let rows = webhooks::list(&parts.db, &caller.tenant, &wanted).await?;
    let Page { data, next_cursor } = Page::from_rows(LIST, rows, limit, |row| row.id.clone());
    let data = data.iter().map(|endpoint| parts.webhooks.show(endpoint)).collect::<Result<_, _>>()?;
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
    Ok(Json(parts.webhooks.show(&endpoint)?))
}

/// Changes an endpoint: fields that are left out stay, null takes a value away. URL, headers, time-out, attempts and
/// delays hold at once, events and filter for events from now on.
#[utoipa::path(
    patch, path = "/api/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "The registration's id")),
    request_body = ChangeRequest, responses((status = 200, body = Webhook))
)]
pub(in crate::http) async fn change(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams(id): PathParams<String>,
    _: Query<NoParameters>,
    Body(request): Body<ChangeRequest>,
) -> Result<Json<Webhook>, Problem> {
    let changed = parts.webhooks.change(&caller.tenant, owner(&caller), &id, &request.change()).await?;
    Ok(Json(parts.webhooks.show(&changed)?))
}

/// Pauses an endpoint: requests end within about a second, and what concerns it is kept for it. One that is disabled
/// stays so.
#[utoipa::path(
    post, path = "/api/webhooks/{id}/pause", tag = "webhooks",
    params(("id" = String, Path, description = "The registration's id")),
    responses((status = 200, body = Webhook))
)]
pub(in crate::http) async fn pause(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams(id): PathParams<String>,
    _: Query<NoParameters>,
) -> Result<Json<Webhook>, Problem> {
    let paused = parts.webhooks.pause(&caller.tenant, owner(&caller), &id).await?;
    Ok(Json(parts.webhooks.show(&paused)?))
}

/// Delivers to a paused or disabled endpoint again: first what was kept for it, per order in order.
#[utoipa::path(
    post, path = "/api/webhooks/{id}/resume", tag = "webhooks",
    params(("id" = String, Path, description = "The registration's id")),
    responses((status = 200, body = Webhook))
)]
pub(in crate::http) async fn resume(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams(id): PathParams<String>,
    _: Query<NoParameters>,
) -> Result<Json<Webhook>, Problem> {
    let resumed = parts.webhooks.resume(&caller.tenant, owner(&caller), &id).await?;
    Ok(Json(parts.webhooks.show(&resumed)?))
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
        false => Err(WebhookError::NotFound(id).into()),
    }
}

/// Whom the caller's view is narrowed to: partners see their own endpoints, services all of their tenant.
pub(super) fn owner(caller: &Caller) -> Option<&str> {
    if caller.is(Role::Service) { None } else { Some(&caller.subject) }
}

/// The endpoint called `id`, if the caller may see it.
pub(super) async fn find(parts: &Parts, caller: &Caller, id: &str) -> Result<Endpoint, Problem> {
    let found = webhooks::find(&parts.db, &caller.tenant, id, owner(caller)).await?;
    found.ok_or_else(|| WebhookError::NotFound(id.to_owned()).into())
}

impl From<WebhookError> for Problem {
    fn from(error: WebhookError) -> Self {
        let words = error.to_string();
        match error {
            WebhookError::Fields(faults) => {
                let only_types = faults.iter().all(|fault| fault.unknown_event);
                let errors = faults
                    .into_iter()
                    .map(|FieldFault { field, message, .. }| FieldError { field, message })
                    .collect();
                match only_types {
                    true => Self::new(Code::UnknownEventType, words).with_errors(errors),
                    false => Self::fields(errors),
                }
            }
            WebhookError::NotFound(_) => Self::new(Code::WebhookNotFound, words),
            WebhookError::NoDelivery(_) => Self::new(Code::DeliveryNotFound, words),
            WebhookError::NoBackfill(_) => Self::new(Code::BackfillNotFound, words),
            WebhookError::TooMany(_)
            | WebhookError::TooManySecrets(_)
            | WebhookError::Backfilling(_)
            | WebhookError::NotServed { .. }
            | WebhookError::EventGone(_) => Self::new(Code::Conflict, words),
            WebhookError::Stages(error) => (*error).into(),
            WebhookError::Kafka(_) | WebhookError::Produce(_) | WebhookError::OutOfReach => {
                Self::new(Code::KafkaUnavailable, words)
            }
            WebhookError::Registry(_) => Self::new(Code::RegistryUnavailable, words),
            WebhookError::Store(error) => error.into(),
            WebhookError::Crypto(_) | WebhookError::SigningKey(_) | WebhookError::Random(_) => {
                Self::internal(words)
            }
        }
    }
}
