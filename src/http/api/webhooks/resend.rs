//! Sends deliveries of an endpoint again.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::owner;
use crate::admin::webhooks::{ResendWanted, Resent};
use crate::event::epoch_ms;
use crate::http::extract::NoParameters;
use crate::http::{Body, Caller, Parts, PathParams, Problem, Query};

/// Which deliveries: those whose newest attempt was in this time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct ResendRequest {
    /// From then on (RFC 3339).
    from: String,
    /// Before then (RFC 3339).
    to: String,
    /// Only those whose newest attempt ended so: `delivered`, `failed`, `refused` or `gone`.
    outcome: Option<String>,
    /// Only of this order.
    order_id: Option<String>,
    /// How many at most; 500 when left out, and no more.
    limit: Option<u32>,
}

/// Sends a delivery again: now, with the same id and bytes, and the header `X-Webhook-Resend`; exempt from order.
#[utoipa::path(
    post, path = "/api/webhooks/{id}/deliveries/{d}/resend", tag = "webhooks", operation_id = "resendDelivery",
    params(("id" = String, Path, description = "The registration's id"), ("d" = String, Path, description = "The delivery's id")),
    responses((status = 202, body = Resent))
)]
pub(in crate::http) async fn one(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams((id, delivery)): PathParams<(String, String)>,
    _: Query<NoParameters>,
) -> Result<(StatusCode, Json<Resent>), Problem> {
    let whose = (caller.tenant.as_str(), owner(&caller));
    let resent = parts.webhooks.resend(whose, &id, &ResendWanted::One(delivery)).await?;
    Ok((StatusCode::ACCEPTED, Json(resent)))
}

/// Sends the deliveries of a range again, each as one that is resent alone.
#[utoipa::path(
    post, path = "/api/webhooks/{id}/resend", tag = "webhooks", operation_id = "resendRange",
    params(("id" = String, Path, description = "The registration's id")),
    request_body = ResendRequest, responses((status = 202, body = Resent))
)]
pub(in crate::http) async fn range(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams(id): PathParams<String>,
    _: Query<NoParameters>,
    Body(request): Body<ResendRequest>,
) -> Result<(StatusCode, Json<Resent>), Problem> {
    let ResendRequest { from, to, outcome, order_id, limit } = request;
    let wanted = ResendWanted::Range {
        from_ms: time("from", &from)?,
        to_ms: time("to", &to)?,
        outcome,
        order_id,
        limit,
    };
    let resent = parts.webhooks.resend((&caller.tenant, owner(&caller)), &id, &wanted).await?;
    Ok((StatusCode::ACCEPTED, Json(resent)))
}

fn time(field: &str, text: &str) -> Result<i64, Problem> {
    epoch_ms(text).ok_or_else(|| Problem::field(field, "must be a time such as 2026-01-31T12:00:00Z"))
}
