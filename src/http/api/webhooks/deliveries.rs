//! What was tried for endpoints: lists, one delivery, and how it all does.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{find, owner};
use crate::admin::webhooks::{AttemptShown, DeliveryShown, Stats};
use crate::event::{EventType, epoch_ms};
use crate::http::extract::NoParameters;
use crate::http::page::{self, Page};
use crate::http::{Caller, Code, Parts, PathParams, Problem, Query};
use crate::store::attempts::{self, Before, Wanted};

/// The list's name in its cursors.
const DELIVERIES: &str = "webhookDeliveries";

/// How an attempt may end.
const OUTCOMES: [&str; 4] = ["delivered", "failed", "refused", "gone"];

/// Which attempts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct DeliveriesQuery {
    /// Only of this order.
    order_id: Option<String>,
    /// Only those that ended so: `delivered`, `failed`, `refused` or `gone`.
    outcome: Option<String>,
    /// Only those that were answered with this HTTP status.
    status: Option<i64>,
    /// Only of events of this type, in any spelling.
    event: Option<String>,
    /// Only those that began then (RFC 3339) or later.
    from: Option<String>,
    /// Only those that began before then.
    to: Option<String>,
    /// Rows of a page, 1 to 200; 50 when left out.
    limit: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// Every attempt to deliver to an endpoint, newest first.
#[utoipa::path(
    get, path = "/api/webhooks/{id}/deliveries", tag = "webhooks", operation_id = "deliveries",
    params(("id" = String, Path, description = "The registration's id"), DeliveriesQuery),
    responses((status = 200, body = Page<AttemptShown>))
)]
pub(in crate::http) async fn list(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams(id): PathParams<String>,
    Query(query): Query<DeliveriesQuery>,
) -> Result<Json<Page<AttemptShown>>, Problem> {
    let limit = page::limit(query.limit)?;
    let before: Option<(i64, String)> = page::place(DELIVERIES, query.cursor.as_deref())?;
    let before = before.map(|(attempted_at, attempt_id)| Before { attempted_at, attempt_id });
    if query.outcome.as_deref().is_some_and(|outcome| !OUTCOMES.contains(&outcome)) {
        return Err(Problem::field("outcome", format!("must be one of {}", OUTCOMES.join(", "))));
    }
    let event_type = query.event.as_deref().map(str::parse::<EventType>).transpose();
    let event_type =
        event_type.map_err(|unknown| Problem::new(Code::UnknownEventType, unknown.to_string()))?;
    let endpoint = find(&parts, &caller, &id).await?;
    let wanted = Wanted {
        order_id: query.order_id.as_deref(),
        outcome: query.outcome.as_deref(),
        status: query.status,
        event_type: event_type.map(EventType::as_str),
        from: time("from", query.from.as_deref())?,
        to: time("to", query.to.as_deref())?,
        before: before.as_ref(),
        limit: i64::from(limit) + 1,
    };
    let rows = attempts::of_endpoint(&parts.db, &caller.tenant, &endpoint.id, &wanted).await?;
    let Page { data, next_cursor } =
        Page::from_rows(DELIVERIES, rows, limit, |row| (row.attempted_at, row.attempt_id.clone()));
    let shown = data.into_iter().map(|attempt| parts.webhooks.show_attempt(attempt));
    let data = shown.collect::<Result<_, _>>().map_err(Problem::internal)?;
    Ok(Json(Page { data, next_cursor }))
}

/// One delivery with all its attempts, oldest first.
#[utoipa::path(
    get, path = "/api/webhooks/{id}/deliveries/{delivery}", tag = "webhooks", operation_id = "delivery",
    params(
        ("id" = String, Path, description = "The registration's id"),
        ("delivery" = String, Path, description = "The delivery's id"),
    ),
    responses((status = 200, body = DeliveryShown))
)]
pub(in crate::http) async fn one(
    State(parts): State<Parts>,
    caller: Caller,
    PathParams((id, delivery)): PathParams<(String, String)>,
    _: Query<NoParameters>,
) -> Result<Json<DeliveryShown>, Problem> {
    Ok(Json(parts.webhooks.delivery(&caller.tenant, owner(&caller), &id, &delivery).await?))
}

/// How webhooks do: endpoints there are, and deliveries of the last 24 hours.
#[utoipa::path(
    get, path = "/api/webhooks/stats", tag = "webhooks", operation_id = "webhookStats",
    responses((status = 200, body = Stats))
)]
pub(in crate::http) async fn stats(
    State(parts): State<Parts>,
    caller: Caller,
    _: Query<NoParameters>,
) -> Result<Json<Stats>, Problem> {
    Ok(Json(parts.webhooks.stats(&caller.tenant, owner(&caller)).await?))
}

fn time(field: &str, text: Option<&str>) -> Result<Option<i64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let at = epoch_ms(text).map(Some);
    at.ok_or_else(|| Problem::field(field, "must be a time of RFC 3339, as 2026-01-31T12:00:00Z"))
}
