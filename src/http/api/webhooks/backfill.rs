//! Backfills of an endpoint: asked for, looked at, cancelled.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::owner;
use crate::admin::webhooks::{BackfillShown, BackfillWanted, Point};
use crate::event::epoch_ms;
use crate::http::extract::NoParameters;
use crate::http::{Body, Caller, FieldError, Parts, PathParams, Problem, Query};

/// What is to be delivered again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::http) struct BackfillRequest {
    /// A time (RFC 3339), or an object of partition and offset for partitions of `orders.events`.
    from: Value,
    /// Where it ends, in the same form; left out, where the endpoint is.
    until: Option<Value>,
    /// Events per second, at most; left out, as fast as the endpoint takes them.
    rate: Option<f64>,
    /// Only the newest event of every order in the stretch.
    #[serde(default)]
    coalesce: bool,
}

impl BackfillRequest {
    fn wanted(self) -> Result<BackfillWanted, Problem> {
        let until = self.until.as_ref().map(|until| point("until", until)).transpose()?;
        let (rate, coalesce) = (self.rate, self.coalesce);
        Ok(BackfillWanted { from: point("from", &self.from)?, until, rate, coalesce })
    }
}

/// Delivers a stretch of the past to an endpoint again, per order in order; its live events wait behind. One backfill of
/// an endpoint runs at a time.
#[utoipa::path(
    post, path = "/api/webhooks/{id}/backfill", tag = "webhooks", operation_id = "backfill",
    params(("id" = String, Path, description = "The registration's id")),
    request_body = BackfillRequest, responses((status = 202, body = BackfillShown))
)]
pub(in crate::http) async fn begin(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams(id): PathParams<String>,
    _: Query<NoParameters>,
    Body(request): Body<BackfillRequest>,
) -> Result<(StatusCode, Json<BackfillShown>), Problem> {
    let whose = (caller.tenant.as_str(), owner(&caller));
    let shown = parts.webhooks.backfill(whose, &id, &request.wanted()?, &caller.subject).await?;
    Ok((StatusCode::ACCEPTED, Json(shown)))
}

/// How far a backfill is.
#[utoipa::path(
    get, path = "/api/webhooks/{id}/backfill/{b}", tag = "webhooks", operation_id = "backfillProgress",
    params(("id" = String, Path, description = "The registration's id"), ("b" = String, Path, description = "The backfill's id")),
    responses((status = 200, body = BackfillShown))
)]
pub(in crate::http) async fn progress(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams((id, backfill)): PathParams<(String, String)>,
    _: Query<NoParameters>,
) -> Result<Json<BackfillShown>, Problem> {
    Ok(Json(parts.webhooks.backfill_shown((&caller.tenant, owner(&caller)), &id, &backfill).await?))
}

/// Cancels a backfill: what waits of it is void, and the endpoint goes on from where it was.
#[utoipa::path(
    delete, path = "/api/webhooks/{id}/backfill/{b}", tag = "webhooks", operation_id = "cancelBackfill",
    params(("id" = String, Path, description = "The registration's id"), ("b" = String, Path, description = "The backfill's id")),
    responses((status = 200, body = BackfillShown))
)]
pub(in crate::http) async fn cancel(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams((id, backfill)): PathParams<(String, String)>,
    _: Query<NoParameters>,
) -> Result<Json<BackfillShown>, Problem> {
    Ok(Json(parts.webhooks.cancel_backfill((&caller.tenant, owner(&caller)), &id, &backfill).await?))
}

fn point(field: &str, given: &Value) -> Result<Point, Problem> {
    match given {
        Value::String(text) => epoch_ms(text).map(Point::Time),
        Value::Object(offsets) => {
            let mut read = BTreeMap::new();
            let mut errors = Vec::new();
            for (partition, offset) in offsets {
                match (partition.parse::<i32>(), offset.as_i64()) {
                    (Ok(partition), Some(offset)) => drop(read.insert(partition, offset)),
                    _ => errors.push(FieldError {
                        field: format!("{field}.{partition}"),
                        message: "must be the number of a partition and an offset".to_owned(),
                    }),
                }
            }
            if !errors.is_empty() {
                return Err(Problem::fields(errors));
            }
            Some(Point::Offsets(read))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
    .ok_or_else(|| {
        let message = "must be a time such as 2026-01-31T12:00:00Z, or an object of partitions and offsets";
        Problem::field(field, message)
    })
}
